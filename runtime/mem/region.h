/* Page-granular memory, placed by NUMA node on first touch, entered in the ledger. */
#pragma once

#include "runtime/mem/ledger.h"

typedef struct ag_region {
    void *base;   /* page-aligned, zeroed */
    size_t bytes; /* as asked */
    ag_ledger_t *ledger;
    char part[48];
} ag_region_t;

typedef struct ag_region_opts {
    bool interleave; /* spread pages over all NUMA nodes; default: the node that touches first */
} ag_region_opts_t;

/**
 * Enter bytes in the ledger, then map them. bytes may be 0 (base is NULL then).
 * @param opts  NULL for defaults.
 * @return AG_OK, AG_ERR_BUDGET, AG_ERR_NOMEM.
 */
ag_status_t ag_region_map(ag_ledger_t *ledger, const char *part, size_t bytes,
                          const ag_region_opts_t *opts, ag_region_t *region_p);

/** Unmap and take out of the ledger; a zeroed region is allowed. */
void ag_region_unmap(ag_region_t *region);
