/* Who holds what of one logical tensor, and the copies that lead from one holding to another. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/array.h"

typedef struct ag_range {
    uint64_t begin, end; /* half-open; empty where begin == end */
} ag_range_t;

/*
 * A tensor is cut along one axis of `extent` items. Each rank holds one range of it, possibly
 * empty; ranges of different ranks may overlap (replicas) and together cover the axis.
 */
typedef struct ag_layout {
    uint64_t extent;
    uint32_t n_ranks;
    const uint32_t *ranks;    /* (n_ranks) world ranks */
    const ag_range_t *ranges; /* (n_ranks) */
} ag_layout_t;

typedef struct ag_reshard_copy {
    uint32_t from_rank, to_rank; /* world ranks; equal for a local copy */
    ag_range_t range;
} ag_reshard_copy_t;

/**
 * The copies that give every rank of `to` its range out of what the ranks of `from` hold. A rank
 * that already holds a part copies locally; else the holder that has sent least gives it (ties: the
 * first). Deterministic; ordered as in `to`, then by range.
 * @param copies  ag_reshard_copy_t items, appended; as before on failure.
 * @return AG_OK; AG_ERR_INVALID: extents differ, or nobody holds a part that is asked for.
 */
ag_status_t ag_reshard_plan(const ag_layout_t *from, const ag_layout_t *to, ag_array_t *copies);

/**
 * Give `total` items out in whole units (the last may be ragged) in proportion to shares, by
 * largest remainder (ties: lower index first). Ranges are consecutive in index order and cover [0,
 * total).
 * @param ranges  out: (n) one per share; empty for a share that gets nothing.
 * @return AG_OK, AG_ERR_INVALID (no share above zero, unit 0).
 */
ag_status_t ag_shares_split(uint64_t total, uint64_t unit, const uint32_t *shares, uint32_t n,
                            ag_range_t *ranges);
