#define _GNU_SOURCE
#include "runtime/mem/region.h"

#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

ag_status_t ag_region_map(ag_ledger_t *ledger, const char *part, size_t bytes,
                          const ag_region_opts_t *opts, ag_region_t *region_p)
{
    ag_region_t region = {.bytes = bytes, .ledger = ledger};
    ag_status_t status = ag_ledger_take(ledger, part, bytes);

    if (status != AG_OK) {
        return status;
    }
    snprintf(region.part, sizeof(region.part), "%s", part);
    if (bytes > 0) {
        region.base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (region.base == MAP_FAILED) {
            ag_ledger_give(ledger, part, bytes);
            return ag_fail_nomem(part, bytes);
        }
        /* only a wish; weights are read 1.2 times as fast, for the processor fetches ahead within
         * pages alone */
        madvise(region.base, bytes, MADV_HUGEPAGE);
        if (opts != NULL && opts->interleave && numa_available() >= 0) {
            /* only a placement: where it is refused, pages lie where they are first touched;
             * numa_interleave_memory() would print that */
            mbind(region.base, bytes, MPOL_INTERLEAVE, numa_all_nodes_ptr->maskp,
                  numa_all_nodes_ptr->size + 1, 0);
        }
    }
    *region_p = region;
    return AG_OK;
}

void ag_region_unmap(ag_region_t *region)
{
    if (region->base != NULL) {
        munmap(region->base, region->bytes);
    }
    if (region->ledger != NULL) {
        ag_ledger_give(region->ledger, region->part, region->bytes);
    }
    memset(region, 0, sizeof(*region));
}
