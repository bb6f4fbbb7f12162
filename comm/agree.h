/* Start-up agreement on the control channel. Blocking: for the time before and after the steps. */
#pragma once

#include "comm/net.h"

/* How a blocking call waits: called again and again while nothing is there yet. */
typedef struct ag_idle {
    void (*fn)(void *arg); /* NULL: spin, then yield the core, then sleep a little */
    void *arg;
} ag_idle_t;

/**
 * All ranks bring a status; all leave with the same one: AG_OK, or the lowest failing rank's, whose
 * record every rank then has (prefixed "rank R: " where only some ranks failed and it does not
 * begin with a rank already).
 * @param failed_rank_p  out: the rank whose error it is, -1 for none; may be NULL.
 */
ag_status_t ag_agree(ag_net_t *net, const ag_idle_t *idle, ag_status_t status, int *failed_rank_p);

/** One rank's bytes to all. The size must be known to all. */
ag_status_t ag_agree_broadcast(ag_net_t *net, const ag_idle_t *idle, int root, void *data,
                               size_t bytes);

/** Every rank's item to all, in rank order: items (n_ranks, item_bytes); own one filled in. */
ag_status_t ag_agree_gather(ag_net_t *net, const ag_idle_t *idle, void *items, size_t item_bytes);

/** Wait for one request. */
ag_status_t ag_net_wait(ag_net_t *net, const ag_idle_t *idle, ag_net_request_t *request);

/** Send to a rank, or receive from one, on the control channel, and wait for it. */
ag_status_t ag_net_send(ag_net_t *net, const ag_idle_t *idle, int peer, const void *data,
                        size_t bytes);
ag_status_t ag_net_recv(ag_net_t *net, const ag_idle_t *idle, int peer, void *data, size_t bytes);
