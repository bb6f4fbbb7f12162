#include "comm/net_first.h"

#include <stdlib.h>

typedef struct first_net {
    ag_net_t base;
    ag_net_t *net;
} first_net_t;

static ag_net_t *whole(ag_net_t *view)
{
    return ((first_net_t *)view)->net;
}

static ag_status_t first_post_send(ag_net_t *view, int peer, uint32_t channel, const void *data,
                                   size_t bytes, ag_net_request_t *request)
{
    return ag_net_post_send(whole(view), peer, channel, data, bytes, request);
}

static ag_status_t first_post_recv(ag_net_t *view, int peer, uint32_t channel, void *data,
                                   size_t bytes, ag_net_request_t *request)
{
    return ag_net_post_recv(whole(view), peer, channel, data, bytes, request);
}

static ag_status_t first_test(ag_net_t *view, ag_net_request_t *request)
{
    return ag_net_test(whole(view), request);
}

static void first_close(ag_net_t *view)
{
    free(view);
}

/* To end the job is for who has the whole net. */
static const ag_net_ops_t first_ops = {
    .name = "first",
    .close = first_close,
    .post_send = first_post_send,
    .post_recv = first_post_recv,
    .test = first_test,
};

ag_status_t ag_net_first_create(ag_net_t *net, uint32_t n_ranks, ag_net_t **view_p)
{
    first_net_t *view;

    if (n_ranks > (uint32_t)net->n_ranks || (uint32_t)net->rank >= n_ranks) {
        return ag_fail(AG_ERR_INVALID, "rank %d of %d has no place among the first %u", net->rank,
                       net->n_ranks, n_ranks);
    }
    view = calloc(1, sizeof(*view));
    if (view == NULL) {
        return ag_fail_nomem("making a view of a net", sizeof(*view));
    }
    *view = (first_net_t){.base = {.ops = &first_ops, .rank = net->rank, .n_ranks = (int)n_ranks},
                          .net = net};
    *view_p = &view->base;
    return AG_OK;
}
