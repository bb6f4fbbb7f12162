#include "comm/net_loop.h"

#include <stdlib.h>
#include <string.h>

typedef enum loop_state { LOOP_POSTED, LOOP_DONE, LOOP_FAILED } loop_state_t;

typedef struct loop_world loop_world_t;

/* A message under way; lives in ag_net_request_t while it is posted, linked to its pair's others.
 */
typedef struct loop_message {
    struct loop_message *next;
    unsigned char *data;
    size_t bytes;
    size_t other_bytes; /* of the partner, where they disagree */
    int32_t peer;
    uint32_t channel;
    loop_state_t state;
} loop_message_t;

_Static_assert(sizeof(loop_message_t) <= sizeof(ag_net_request_t), "a request holds a message");

/* What was posted between one sender and one receiver and has not met its partner. */
typedef struct loop_queue {
    loop_message_t *sends, *recvs;
} loop_queue_t;

struct loop_world {
    int n_ranks, n_open;
    bool *closed;         /* (n_ranks) */
    loop_queue_t *queues; /* (n_ranks, n_ranks) sender, receiver */
};

typedef struct loop_net {
    ag_net_t base;
    loop_world_t *world;
} loop_net_t;

static loop_queue_t *queue_of(loop_world_t *world, int from, int to)
{
    return &world->queues[from * world->n_ranks + to];
}

/* Take the oldest message of a channel out of a list; NULL where there is none. */
static loop_message_t *take(loop_message_t **list, uint32_t channel)
{
    for (loop_message_t **at = list; *at != NULL; at = &(*at)->next) {
        if ((*at)->channel == channel) {
            loop_message_t *message = *at;

            *at = message->next;
            return message;
        }
    }
    return NULL;
}

static void append(loop_message_t **list, loop_message_t *message)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = message;
}

static void meet(loop_message_t *send, loop_message_t *recv)
{
    bool agree = send->bytes == recv->bytes;

    if (agree && send->bytes > 0) {
        memcpy(recv->data, send->data, send->bytes);
    }
    send->other_bytes = recv->bytes;
    recv->other_bytes = send->bytes;
    send->state = recv->state = agree ? LOOP_DONE : LOOP_FAILED;
}

static ag_status_t post(ag_net_t *net, int peer, uint32_t channel, const void *data, size_t bytes,
                        ag_net_request_t *request, bool sends)
{
    loop_world_t *world = ((loop_net_t *)net)->world;
    loop_message_t *message = (loop_message_t *)(void *)request, *partner;
    loop_queue_t *queue;

    if (peer < 0 || peer >= net->n_ranks) {
        return ag_fail(AG_ERR_INVALID, "rank %d: there is no rank %d", net->rank, peer);
    }
    *message = (loop_message_t){.data = (unsigned char *)data,
                                .bytes = bytes,
                                .peer = peer,
                                .channel = channel,
                                .state = LOOP_POSTED};
    queue = sends ? queue_of(world, net->rank, peer) : queue_of(world, peer, net->rank);
    partner = take(sends ? &queue->recvs : &queue->sends, channel);
    if (partner != NULL) {
        meet(sends ? message : partner, sends ? partner : message);
    } else {
        append(sends ? &queue->sends : &queue->recvs, message);
    }
    return AG_OK;
}

static ag_status_t loop_post_send(ag_net_t *net, int peer, uint32_t channel, const void *data,
                                  size_t bytes, ag_net_request_t *request)
{
    return post(net, peer, channel, data, bytes, request, true);
}

static ag_status_t loop_post_recv(ag_net_t *net, int peer, uint32_t channel, void *data,
                                  size_t bytes, ag_net_request_t *request)
{
    return post(net, peer, channel, data, bytes, request, false);
}

static ag_status_t loop_test(ag_net_t *net, ag_net_request_t *request)
{
    const loop_message_t *message = (const loop_message_t *)(const void *)request;

    switch (message->state) {
    case LOOP_DONE:
        return AG_OK;
    case LOOP_FAILED:
        return ag_fail(AG_ERR_PEER,
                       "rank %d expects a message of %zu bytes with rank %d, which has "
                       "%zu",
                       net->rank, message->bytes, message->peer, message->other_bytes);
    case LOOP_POSTED:
        break;
    }
    if (((loop_net_t *)net)->world->closed[message->peer]) {
        return ag_fail(AG_ERR_PEER, "rank %d waits for rank %d, which has left", net->rank,
                       message->peer);
    }
    return AG_PENDING;
}

static void loop_close(ag_net_t *net)
{
    loop_world_t *world = ((loop_net_t *)net)->world;

    world->closed[net->rank] = true;
    for (int peer = 0; peer < world->n_ranks; peer++) { /* its own storage may be gone after this */
        queue_of(world, net->rank, peer)->sends = NULL;
        queue_of(world, peer, net->rank)->recvs = NULL;
    }
    if (--world->n_open == 0) {
        free(world->closed);
        free(world->queues);
        free(world);
    }
    free(net);
}

static const ag_net_ops_t loop_ops = {
    .name = "loop",
    .close = loop_close,
    .post_send = loop_post_send,
    .post_recv = loop_post_recv,
    .test = loop_test,
};

ag_status_t ag_net_loop_create(int n_ranks, ag_net_t **nets_p)
{
    loop_world_t *world = calloc(1, sizeof(*world));
    int n_made = 0;

    if (world == NULL) {
        return ag_fail_nomem("making a net", sizeof(*world));
    }
    world->n_ranks = n_ranks;
    world->closed = calloc((size_t)n_ranks + 1, sizeof(*world->closed));
    world->queues = calloc((size_t)n_ranks * (size_t)n_ranks + 1, sizeof(*world->queues));
    if (world->closed == NULL || world->queues == NULL) {
        goto free_world;
    }
    for (; n_made < n_ranks; n_made++) {
        loop_net_t *net = calloc(1, sizeof(*net));

        if (net == NULL) {
            goto free_nets;
        }
        *net = (loop_net_t){.base = {.ops = &loop_ops, .rank = n_made, .n_ranks = n_ranks},
                            .world = world};
        nets_p[n_made] = &net->base;
    }
    world->n_open = n_ranks;
    return AG_OK;

free_nets:
    while (n_made > 0) {
        free(nets_p[--n_made]);
    }
free_world:
    free(world->closed);
    free(world->queues);
    free(world);
    return ag_fail_nomem("making a net", (size_t)n_ranks * sizeof(loop_net_t));
}
