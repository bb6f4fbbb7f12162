/* Ranks that do collectives together, in one fixed order. */
#pragma once

#include "comm/net.h"
#include "comm/transfer.h"

typedef struct ag_group ag_group_t;
typedef struct ag_collective_request ag_collective_request_t;

/**
 * @param ranks  (n_ranks) world ranks in the order sums are taken; must hold net->rank; copied.
 * @param channel  the group's own; the same on all its ranks and used by no other traffic.
 * @param net  borrowed.
 */
ag_status_t ag_group_create(ag_net_t *net, const uint32_t *ranks, uint32_t n_ranks,
                            uint32_t channel, ag_group_t **group_p);
void ag_group_destroy(ag_group_t *group);

uint32_t ag_group_size(const ag_group_t *group);

/**
 * Start a collective on float32 elements, in place. Every rank posts the group's operations in the
 * same order, one at a time per group. Memory is taken only while lists grow to the longest yet.
 * @param buffer   all-reduce: (n) input and result; all-gather: (sum of counts), own part filled
 * in.
 * @param staging  ag_transfer_stage_elements() floats; must stay until the end.
 * @param request_p  out: belongs to the group; valid until it ended.
 */
ag_status_t ag_group_post(ag_group_t *group, const ag_transfer_shape_t *shape, float *buffer,
                          float *staging, ag_collective_request_t **request_p);

/** Make progress. @return AG_OK when complete, AG_PENDING, AG_ERR_PEER (names the peer's world
 * rank). */
ag_status_t ag_group_test(ag_collective_request_t *request);
