/* Ranks that do collectives together, in one fixed order, over one net or two. */
#pragma once

#include "comm/net.h"
#include "comm/transfer.h"

typedef struct ag_group ag_group_t;
typedef struct ag_collective_request ag_collective_request_t;

typedef struct ag_group_opts {
    ag_net_t *net;         /* borrowed */
    ag_net_t *near;        /* to ranks of one's own host; borrowed; NULL: net */
    const uint32_t *ranks; /* (n_ranks) on either net, in the order of the group; copied */
    const uint32_t *hosts; /* (n_ranks) the host of each, from 0 without gaps; NULL: one; copied */
    uint32_t n_ranks;
    uint32_t channel; /* the group's own on both nets, the same on all its ranks */
} ag_group_opts_t;

/** @return AG_OK, AG_ERR_NOMEM; AG_ERR_INVALID: the net's rank is not in the group. */
ag_status_t ag_group_create(const ag_group_opts_t *opts, ag_group_t **group_p);
void ag_group_destroy(ag_group_t *group); /* NULL is allowed */

/** A shape of this group's ranks and hosts (borrowed); all else is to be filled in. */
ag_transfer_shape_t ag_group_shape(const ag_group_t *group);

/* Where a collective works; stays until the end. */
typedef struct ag_collective_memory {
    void *buffer;      /* shape.n elements, or for an ALL_TO_ALL the sum of recv_counts */
    const void *input; /* ALL_TO_ALL: the sum of send_counts; else NULL */
    void *staging;     /* ag_transfer_stage_elements() elements */
} ag_collective_memory_t;

/**
 * Start a collective. Every rank posts the group's operations in the same order, one at a time per
 * group. Memory is taken only while lists grow to the longest yet.
 * @param shape  from ag_group_shape(); its counts are not used after this call.
 * @param request_p  out: belongs to the group; valid until it ended.
 * @return AG_OK, AG_ERR_NOMEM, and what ag_transfer_list() and the nets return.
 */
ag_status_t ag_group_post(ag_group_t *group, const ag_transfer_shape_t *shape,
                          const ag_collective_memory_t *memory,
                          ag_collective_request_t **request_p);

/** Make progress. @return AG_OK when complete, AG_PENDING, AG_ERR_PEER (names the peer's world
 * rank). */
ag_status_t ag_group_test(ag_collective_request_t *request);
