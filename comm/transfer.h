/*
 * Collectives as transfer lists: a pure function (who has how much, my rank) -> sends, receives,
 * copies and sums of element ranges. One runner executes any of them over any net (group.h).
 *
 * A phase's messages are posted together, then its local work is done in list order; the next phase
 * starts when all of it is complete. A message has the same phase on both its ends, so those of the
 * lowest unfinished phase can always complete, sends that wait for their receives included; and
 * messages of a pair are listed in one order on both ends.
 *
 * Sums have an order that depends on the shape alone. After every ALL_REDUCE all ranks hold the
 * same bits (payloads of NaNs aside): DIRECT adds in the order of the ranks, DOUBLING in a balanced
 * tree (a + b has the bits of b + a), RING each part along the ring and ends at the part's rank,
 * BY_HOST along the ring inside each host, then along that of the hosts. A REDUCE_SCATTER gives
 * part r the bits that the ALL_REDUCE of the same algorithm and parts gives it. All else moves
 * bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/array.h"

typedef enum ag_transfer_kind {
    AG_TRANSFER_SEND,   /* [from, from + n) of an area to the peer */
    AG_TRANSFER_RECV,   /* from the peer over [to, to + n) of an area */
    AG_TRANSFER_COPY,   /* local: to = from */
    AG_TRANSFER_REDUCE, /* local: to += from, float32 */
} ag_transfer_kind_t;

typedef enum ag_transfer_area {
    AG_AREA_BUFFER,  /* result, and input where nothing else is said */
    AG_AREA_INPUT,   /* ALL_TO_ALL: what is sent */
    AG_AREA_STAGING, /* room for what is received and then added */
    AG_N_AREAS,
} ag_transfer_area_t;

typedef struct ag_transfer {
    uint8_t kind;
    uint8_t from_area, to_area;
    uint32_t peer; /* messages: index in the group */
    uint32_t phase;
    uint64_t from, to, n; /* elements */
} ag_transfer_t;

/* Part r is rank r's: shape->counts[r] elements after those of the ranks before it. */
typedef enum ag_collective {
    AG_ALL_REDUCE,     /* the sum of all ranks' buffers, on every rank */
    AG_REDUCE_SCATTER, /* part r of that sum on rank r; its other parts hold leftovers */
    AG_ALL_GATHER,     /* part r of rank r on every rank */
    AG_ALL_TO_ALL,     /* from every rank what it has for each */
    AG_BROADCAST,      /* the root's buffer on every rank */
    AG_N_COLLECTIVES,
} ag_collective_t;

typedef enum ag_algorithm {
    AG_DIRECT,   /* each rank with each, at once: latency */
    AG_DOUBLING, /* whole buffers with ever farther ranks, in log p steps: latency on many ranks */
    AG_TREE,     /* binomial */
    AG_BY_HOST,  /* the ranks of a host among themselves, and one rank of each host with its like */
    AG_RING,     /* part by part along a ring: bandwidth */
    AG_PAIRWISE, /* each rank with each, some at a time */
    AG_N_ALGORITHMS,
} ag_algorithm_t;

typedef struct ag_transfer_shape {
    ag_collective_t collective;
    ag_algorithm_t algorithm;
    uint32_t n_ranks;
    uint32_t root;          /* BROADCAST */
    uint32_t element_bytes; /* where sums are taken, of one float32 or of several */
    const uint32_t *hosts;  /* (n_ranks) the host of each, from 0 without gaps; NULL: one host */
    uint64_t n;             /* elements of the buffer; ALL_TO_ALL: 0 */
    const uint64_t *counts; /* (n_ranks) of the parts, zero allowed; NULL: as even as n goes */
    const uint64_t *send_counts, *recv_counts; /* ALL_TO_ALL: (n_ranks) for and of each rank; only
                                                  this rank's; packed in the order of the ranks */
    const uint64_t *all_counts; /* ALL_TO_ALL: (n_ranks, n_ranks) from each for each, on all ranks
                                   the same; NULL: they do not know, and it does not go by host */
} ag_transfer_shape_t;

/**
 * Append rank my_index's list. Nothing to do is an empty list.
 * @param shape  the same on all ranks but for the counts of an ALL_TO_ALL.
 * @param transfers  ag_transfer_t items.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_INVALID: the shape contradicts itself; AG_ERR_UNSUPPORTED:
 * the collective does not go by that algorithm.
 */
ag_status_t ag_transfer_list(const ag_transfer_shape_t *shape, uint32_t my_index,
                             ag_array_t *transfers);

/** Does the collective go by that algorithm? */
bool ag_transfer_is_offered(ag_collective_t collective, ag_algorithm_t algorithm);

/** The algorithm for a shape: by its bytes, number of ranks and hosts alone, so the same on all
 * ranks. The bytes of an ALL_TO_ALL are what a rank sends in the mean; where not all counts are
 * known, they are taken as many. */
ag_algorithm_t ag_transfer_choose(const ag_transfer_shape_t *shape);

/** Elements of staging that rank my_index's list touches, each of them. */
uint64_t ag_transfer_stage_elements(const ag_transfer_shape_t *shape, uint32_t my_index);

/** Elements of staging that are enough for any even shape of up to shape->n elements by the
 * algorithm chosen for it; for any ALL_TO_ALL in which a rank sends so many in the mean, at most,
 * and all counts are known. */
uint64_t ag_transfer_most_stage_elements(const ag_transfer_shape_t *shape, uint32_t my_index);
