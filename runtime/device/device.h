/*
 * A device: memory, and streams of work that run in order. The CPU is the reference. What is
 * launched on it is a region for its team; a device of another kind runs the same list of nodes its
 * own way.
 */
#pragma once

#include "runtime/base/team.h"
#include "runtime/mem/region.h"

typedef struct ag_device ag_device_t;

typedef struct ag_device_ops {
    const char *name;
    void (*close)(ag_device_t *device);
    /**
     * Zeroed memory, in the ledger before it is taken.
     * @param share_bytes  each of the device's threads touches its ag_worker_share() in multiples
     *                     of so many bytes; 0: whoever fills the memory touches it.
     */
    ag_status_t (*alloc)(ag_device_t *device, const char *part, size_t bytes, size_t share_bytes,
                         ag_region_t *region_p);
    void (*free)(ag_device_t *device, ag_region_t *region);
    /** Queue a region on a stream; fn and arg must last until test() says AG_OK. */
    ag_status_t (*launch)(ag_device_t *device, uint32_t stream, ag_region_fn_t fn, void *arg);
    /** AG_OK when all that was queued on the stream is complete, AG_PENDING, or the failure. */
    ag_status_t (*test)(ag_device_t *device, uint32_t stream); /* NULL: launch is synchronous */
} ag_device_ops_t;

struct ag_device {
    const ag_device_ops_t *ops;
    ag_ledger_t *ledger; /* borrowed */
};

/** The CPU, working with a team (borrowed). */
ag_status_t ag_device_cpu_open(ag_team_t *team, ag_ledger_t *ledger, ag_device_t **device_p);

void ag_device_close(ag_device_t *device); /* NULL is allowed */
