#include "measure.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/base/clock.h"

static const uint64_t budget_ns = 60000000;

void *take(size_t n_bytes)
{
    const size_t page = 2 << 20;
    void *bytes = aligned_alloc(page, (n_bytes / page + 1) * page);

    if (bytes == NULL) {
        fprintf(stderr, "no memory for %zu bytes\n", n_bytes);
        exit(1);
    }
    madvise(bytes, n_bytes, MADV_HUGEPAGE);
    return bytes;
}

void check(ag_status_t status)
{
    if (status != AG_OK) {
        fprintf(stderr, "%s\n", ag_error());
        exit(1);
    }
}

double best_of(ag_team_t *team, ag_region_fn_t region, void *arg, void (*before)(void *arg))
{
    ag_clock_t clock = ag_clock_monotonic();
    uint64_t begin, best = UINT64_MAX, now;

    ag_team_run(team, region, arg);
    now = begin = ag_clock_now_ns(&clock);
    for (int i = 0; i < 2 || now - begin < budget_ns; i++) {
        uint64_t start = ag_clock_now_ns(&clock);

        if (before != NULL) {
            before(arg);
        }
        ag_team_run(team, region, arg);
        now = ag_clock_now_ns(&clock);
        best = now - start < best ? now - start : best;
    }
    return (double)best;
}
