/*
 * Collectives drawn from a seed, what they should give, and one rank's part in a real one. What
 * they should give is said element by element, apart from how any algorithm goes about it.
 */
#pragma once

#include "comm/agree.h"
#include "comm/group.h"

enum { AG_DRAWN_RANKS = 17 };

typedef struct ag_drawn {
    uint64_t seed;
    ag_transfer_shape_t shape; /* all that is the same on all ranks, but for what points */
    bool is_even, has_hosts;
    uint32_t hosts[AG_DRAWN_RANKS];
    uint64_t counts[AG_DRAWN_RANKS];                 /* of the parts */
    uint64_t sends[AG_DRAWN_RANKS * AG_DRAWN_RANKS]; /* (ranks, ranks) from, to; ALL_TO_ALL */
    uint64_t recvs[AG_DRAWN_RANKS * AG_DRAWN_RANKS]; /* (ranks, ranks) to, from */
} ag_drawn_t;

/**
 * Draw counts (zero is often among them, now and then all are), hosts, root and size of an element.
 * @param most  of a count.
 */
ag_drawn_t ag_drawn_make(uint64_t seed, ag_collective_t collective, ag_algorithm_t algorithm,
                         uint32_t n_ranks, uint64_t most);

/** A rank's shape; points into the drawn one. */
ag_transfer_shape_t ag_drawn_shape(const ag_drawn_t *drawn, uint32_t rank);

/** Elements of an area of a rank, but for staging. */
uint64_t ag_drawn_elements(const ag_drawn_t *drawn, uint32_t rank, ag_transfer_area_t area);

/** Does the rank bring element i, in its buffer or for an ALL_TO_ALL in its input? */
bool ag_drawn_brings(const ag_drawn_t *drawn, uint32_t rank, uint64_t i);

/** Is element i of the rank's buffer part of the result? */
bool ag_drawn_is_result(const ag_drawn_t *drawn, uint32_t rank, uint64_t i);

/** Is something of rank `from` in element i of the rank's result? @param index_p  out: which
 * element of those that it brings. */
bool ag_drawn_has(const ag_drawn_t *drawn, uint32_t rank, uint64_t i, uint32_t from,
                  uint64_t *index_p);

/** Do a rank's part over its group. @param result_p  out: the buffer; to be freed. */
ag_status_t ag_drawn_run(const ag_drawn_t *drawn, uint32_t rank, ag_group_t *group,
                         const ag_idle_t *idle, unsigned char **result_p);

/** @return what is wrong with a rank's result; NULL where nothing is. */
const char *ag_drawn_check(const ag_drawn_t *drawn, uint32_t rank, const unsigned char *result);
