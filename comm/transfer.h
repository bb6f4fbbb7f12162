/*
 * Collectives as transfer lists: a pure function (counts per rank, my rank) -> sends, receives and
 * receive-and-reduces on element ranges. One runner executes any of them over any net (group.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/array.h"

typedef enum ag_transfer_kind {
    AG_TRANSFER_SEND,        /* [begin, end) of the buffer to peer */
    AG_TRANSFER_RECV,        /* from peer over [begin, end) of the buffer */
    AG_TRANSFER_RECV_STAGED, /* from peer to the staging area at stage_begin */
    AG_TRANSFER_REDUCE, /* buffer[begin, end) += staging[stage_begin …); local, `peer` is the origin
                         */
    AG_TRANSFER_STAGE, /* staging[stage_begin …) = buffer[begin, end); local */
    AG_TRANSFER_CLEAR, /* buffer[begin, end) = 0; local */
} ag_transfer_kind_t;

typedef struct ag_transfer {
    uint8_t kind;
    int32_t peer;   /* index in the group */
    uint32_t phase; /* all messages of a phase are posted together, then its local work is done in
                       list order; the next phase starts when all of it is complete */
    uint64_t begin, end;  /* elements of the buffer */
    uint64_t stage_begin; /* element of the staging area */
} ag_transfer_t;

typedef enum ag_collective {
    AG_ALL_REDUCE_DIRECT, /* everybody sends all to all, sums in rank order: latency */
    AG_ALL_REDUCE_RING,   /* ring reduce-scatter, ring all-gather: bandwidth */
    AG_ALL_GATHER_RING,   /* counts[r] elements of rank r, at the sum of counts before r */
    AG_N_COLLECTIVES,
} ag_collective_t;

typedef struct ag_transfer_shape {
    ag_collective_t collective;
    uint32_t n_ranks;
    const uint64_t *counts; /* (n_ranks) ALL_GATHER: elements per rank, zero allowed; else NULL */
    uint64_t n;             /* ALL_REDUCE: elements; else 0 */
} ag_transfer_shape_t;

/** Append rank my_index's list. @param transfers  ag_transfer_t items. */
ag_status_t ag_transfer_list(const ag_transfer_shape_t *shape, uint32_t my_index,
                             ag_array_t *transfers);

/** Elements of staging that any rank of the group needs. */
uint64_t ag_transfer_stage_elements(const ag_transfer_shape_t *shape);

/** Elements of staging that all-reduces of up to n elements need, whichever is chosen for each
 * size. */
uint64_t ag_all_reduce_stage_elements(uint64_t n, uint32_t n_ranks);

/** The all-reduce for n elements over n_ranks: by size alone, the same on all ranks. */
ag_collective_t ag_all_reduce_choose(uint64_t n, uint32_t n_ranks);
