#define _GNU_SOURCE
#include "launch/cores.h"

#include <sched.h>
#include <string.h>

void ag_cores_pick(const int *own, uint32_t n_own, uint32_t before, uint32_t n, int *cores)
{
    for (uint32_t i = 0; i < n; i++) {
        cores[i] = own[(before + i) % n_own];
    }
}

static bool has_core(const ag_cores_t *cores, uint32_t core)
{
    return (cores->bits[core / 64] >> core % 64 & 1) != 0;
}

void ag_cores_move(const ag_cores_t *cores, ag_cores_t *before_p)
{
    if (sched_getaffinity(0, sizeof(*before_p), (cpu_set_t *)(void *)before_p) != 0 ||
        sched_setaffinity(0, sizeof(*cores), (const cpu_set_t *)(const void *)cores) != 0) {
        *before_p = (ag_cores_t){0};
    }
}

void ag_cores_stand_apart(const ag_host_t *host, ag_cores_t *before_p)
{
    ag_cores_t own = {0}, now = {0};
    uint32_t n_before = 0;

    *before_p = (ag_cores_t){0};
    for (uint32_t core = 0; core < 8 * sizeof(own); core++) {
        if (has_core(&host->cores, core) && n_before++ == host->local_rank) {
            own.bits[core / 64] = 1ull << core % 64;
        }
    }
    if (host->n_local > 1 && host->n_local <= n_before &&
        sched_getaffinity(0, sizeof(now), (cpu_set_t *)(void *)&now) == 0 &&
        memcmp(&now, &host->cores, sizeof(now)) == 0) {
        ag_cores_move(&own, before_p);
    }
}

void ag_cores_go_back(const ag_cores_t *before)
{
    static const ag_cores_t none;

    if (memcmp(before, &none, sizeof(none)) != 0) {
        sched_setaffinity(0, sizeof(*before), (const cpu_set_t *)(const void *)before);
    }
}
