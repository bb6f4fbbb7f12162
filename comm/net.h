/*
 * Bytes between two ranks. Messages between a pair on one channel arrive in the order they were
 * posted. A net is used by one thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct ag_net ag_net_t;

/* A message under way, in the caller's storage; must stay put until test() is not AG_PENDING. */
typedef struct ag_net_request {
    uint64_t state[8]; /* the net's own */
} ag_net_request_t;

typedef struct ag_net_ops {
    const char *name;
    void (*close)(ag_net_t *net);
    ag_status_t (*post_send)(ag_net_t *net, int peer, uint32_t channel, const void *data,
                             size_t bytes, ag_net_request_t *request);
    ag_status_t (*post_recv)(ag_net_t *net, int peer, uint32_t channel, void *data, size_t bytes,
                             ag_net_request_t *request);
    /** AG_OK when complete, AG_PENDING, AG_ERR_PEER (also a message of another size). */
    ag_status_t (*test)(ag_net_t *net, ag_net_request_t *request);
    /** End the whole job without waiting for anybody; does not return where it can do so. */
    void (*abort)(ag_net_t *net, int exit_code); /* NULL: the caller exits */
} ag_net_ops_t;

struct ag_net {
    const ag_net_ops_t *ops;
    int rank;
    int n_ranks;
};

/* Channels: one per pair and purpose, so that streams do not wait for each other. */
enum {
    AG_CHANNEL_CONTROL = 0, /* agreement, steps */
    AG_CHANNEL_STOP = 1,    /* a rank was asked to stop */
    AG_CHANNEL_SAVE = 2,    /* checkpoints */
    AG_CHANNEL_FIRST = 3,   /* the program's, links and collectives, from here */
    AG_N_CHANNELS = 4096,
};

static inline ag_status_t ag_net_post_send(ag_net_t *net, int peer, uint32_t channel,
                                           const void *data, size_t bytes,
                                           ag_net_request_t *request)
{
    return net->ops->post_send(net, peer, channel, data, bytes, request);
}

static inline ag_status_t ag_net_post_recv(ag_net_t *net, int peer, uint32_t channel, void *data,
                                           size_t bytes, ag_net_request_t *request)
{
    return net->ops->post_recv(net, peer, channel, data, bytes, request);
}

static inline ag_status_t ag_net_test(ag_net_t *net, ag_net_request_t *request)
{
    return net->ops->test(net, request);
}

void ag_net_close(ag_net_t *net); /* NULL is allowed */
