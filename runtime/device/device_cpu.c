#include "runtime/device/device.h"

#include <stdlib.h>

enum { PAGE_BYTES = 4096 };

typedef struct cpu_device {
    ag_device_t base;
    ag_team_t *team;
} cpu_device_t;

static void cpu_close(ag_device_t *device)
{
    free(device);
}

typedef struct touch {
    unsigned char *base;
    size_t bytes, share_bytes;
} touch_t;

/* A page belongs to the NUMA node of the thread that writes it first; the system has zeroed it. */
static void touch_region(void *arg, const ag_worker_t *worker)
{
    const touch_t *touch = arg;
    uint64_t begin, end;

    ag_worker_share(worker, touch->bytes, touch->share_bytes, &begin, &end);
    for (uint64_t at = begin; at < end; at += PAGE_BYTES) {
        *(volatile unsigned char *)(touch->base + at) = 0;
    }
}

static ag_status_t cpu_alloc(ag_device_t *device, const char *part, size_t bytes,
                             size_t share_bytes, ag_region_t *region_p)
{
    cpu_device_t *cpu = (cpu_device_t *)device;
    ag_status_t status = ag_region_map(device->ledger, part, bytes, NULL, region_p);
    touch_t touch;

    if (status == AG_OK && share_bytes > 0 && bytes > 0) {
        touch = (touch_t){.base = region_p->base, .bytes = bytes, .share_bytes = share_bytes};
        ag_team_run(cpu->team, touch_region, &touch);
    }
    return status;
}

static void cpu_free(ag_device_t *device, ag_region_t *region)
{
    (void)device;
    ag_region_unmap(region);
}

static ag_status_t cpu_launch(ag_device_t *device, uint32_t stream, ag_region_fn_t fn, void *arg)
{
    (void)stream;
    ag_team_run(((cpu_device_t *)device)->team, fn, arg);
    return AG_OK;
}

static const ag_device_ops_t cpu_ops = {
    .name = "cpu",
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .launch = cpu_launch,
};

ag_status_t ag_device_cpu_open(ag_team_t *team, ag_ledger_t *ledger, ag_device_t **device_p)
{
    cpu_device_t *cpu = calloc(1, sizeof(*cpu));

    if (cpu == NULL) {
        return ag_fail_nomem("opening the CPU device", sizeof(*cpu));
    }
    cpu->base = (ag_device_t){.ops = &cpu_ops, .ledger = ledger};
    cpu->team = team;
    *device_p = &cpu->base;
    return AG_OK;
}
