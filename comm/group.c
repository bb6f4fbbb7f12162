/* One runner for every transfer list: post a phase's messages, then do its local work in list
 * order. */
#include "comm/group.h"

#include <stdlib.h>
#include <string.h>

/* Local work is cut so that one test() does not keep its caller for more than some 100 us. */
enum { ELEMENTS_PER_TEST = 1 << 18 };

struct ag_collective_request {
    ag_group_t *group;
    float *buffer, *staging;
    size_t phase_begin, phase_end; /* transfers of the phase under way */
    size_t n_pending;              /* of its messages */
    size_t at;                     /* the local work to be done next */
    uint64_t done_elements;        /* of that */
};

/* A message under way. */
typedef struct flight {
    ag_net_request_t request;
    size_t transfer;
} flight_t;

struct ag_group {
    ag_net_t *net;
    uint32_t n_ranks, index, channel;
    uint32_t *ranks;      /* (n_ranks) */
    ag_array_t transfers; /* ag_transfer_t of the collective under way */
    flight_t *flights;    /* (n_flights) at most two per rank are under way at once */
    ag_collective_request_t request;
};

ag_status_t ag_group_create(ag_net_t *net, const uint32_t *ranks, uint32_t n_ranks,
                            uint32_t channel, ag_group_t **group_p)
{
    ag_group_t *group = calloc(1, sizeof(*group));

    if (group == NULL) {
        return ag_fail_nomem("making a group", sizeof(*group));
    }
    *group = (ag_group_t){.net = net,
                          .n_ranks = n_ranks,
                          .index = n_ranks,
                          .channel = channel,
                          .transfers = AG_ARRAY(ag_transfer_t),
                          .ranks = malloc(n_ranks * sizeof(*ranks) + 1),
                          .flights = calloc(2 * (size_t)n_ranks + 1, sizeof(flight_t))};
    if (group->ranks == NULL || group->flights == NULL) {
        ag_group_destroy(group);
        return ag_fail_nomem("making a group", n_ranks * sizeof(flight_t));
    }
    memcpy(group->ranks, ranks, n_ranks * sizeof(*ranks));
    for (uint32_t i = 0; i < n_ranks; i++) {
        group->index = (int)ranks[i] == net->rank ? i : group->index;
    }
    if (group->index == n_ranks) {
        ag_group_destroy(group);
        return ag_fail(AG_ERR_INVALID, "rank %d is not in the group", net->rank);
    }
    *group_p = group;
    return AG_OK;
}

void ag_group_destroy(ag_group_t *group)
{
    if (group != NULL) {
        ag_array_fini(&group->transfers);
        free(group->ranks);
        free(group->flights);
        free(group);
    }
}

uint32_t ag_group_size(const ag_group_t *group)
{
    return group->n_ranks;
}

static const ag_transfer_t *transfer_at(const ag_group_t *group, size_t i)
{
    return &AG_ITEMS(&group->transfers, ag_transfer_t)[i];
}

static ag_status_t post_transfer(ag_collective_request_t *request, size_t i)
{
    ag_group_t *group = request->group;
    const ag_transfer_t *transfer = transfer_at(group, i);
    size_t bytes = (transfer->end - transfer->begin) * sizeof(float);
    float *data = transfer->kind == AG_TRANSFER_RECV_STAGED
                      ? request->staging + transfer->stage_begin
                      : request->buffer + transfer->begin;
    flight_t *flight = &group->flights[request->n_pending];
    int peer = (int)group->ranks[transfer->peer];
    ag_status_t status;

    if (transfer->kind > AG_TRANSFER_RECV_STAGED) {
        return AG_OK;
    }
    status =
        transfer->kind == AG_TRANSFER_SEND
            ? ag_net_post_send(group->net, peer, group->channel, data, bytes, &flight->request)
            : ag_net_post_recv(group->net, peer, group->channel, data, bytes, &flight->request);
    flight->transfer = i;
    request->n_pending += status == AG_OK;
    return status;
}

static ag_status_t begin_phase(ag_collective_request_t *request)
{
    const ag_group_t *group = request->group;
    ag_status_t status = AG_OK;

    request->phase_begin = request->at = request->phase_end;
    request->done_elements = 0;
    for (size_t i = request->phase_begin; i < group->transfers.n_items && status == AG_OK; i++) {
        if (transfer_at(group, i)->phase != transfer_at(group, request->phase_begin)->phase) {
            break;
        }
        status = post_transfer(request, i);
        request->phase_end = i + 1;
    }
    return status;
}

/* Is any message of the phase still under way? A request must not move, so slots are only marked.
 */
static ag_status_t test_messages(ag_collective_request_t *request)
{
    ag_group_t *group = request->group;
    bool pending = false;

    for (size_t i = 0; i < request->n_pending; i++) {
        flight_t *flight = &group->flights[i];
        ag_status_t status;

        if (flight->transfer == SIZE_MAX) {
            continue;
        }
        status = ag_net_test(group->net, &flight->request);
        if (status == AG_PENDING) {
            pending = true;
        } else if (status != AG_OK) {
            return status;
        } else {
            flight->transfer = SIZE_MAX;
        }
    }
    return pending ? AG_PENDING : AG_OK;
}

static void work_on(ag_collective_request_t *request, const ag_transfer_t *transfer, uint64_t begin,
                    uint64_t n)
{
    float *buffer = request->buffer + transfer->begin + begin;
    float *staging = request->staging + transfer->stage_begin + begin;

    switch (transfer->kind) {
    case AG_TRANSFER_REDUCE:
        for (uint64_t i = 0; i < n; i++) {
            buffer[i] += staging[i];
        }
        break;
    case AG_TRANSFER_STAGE:
        memcpy(staging, buffer, n * sizeof(float));
        break;
    case AG_TRANSFER_CLEAR:
        memset(buffer, 0, n * sizeof(float));
        break;
    default:
        break;
    }
}

/* Some of the phase's local work; true when all of it is done. */
static bool do_local(ag_collective_request_t *request)
{
    uint64_t left = ELEMENTS_PER_TEST;

    for (; request->at < request->phase_end; request->at++, request->done_elements = 0) {
        const ag_transfer_t *transfer = transfer_at(request->group, request->at);
        uint64_t n = transfer->end - transfer->begin - request->done_elements;

        if (transfer->kind <= AG_TRANSFER_RECV_STAGED) {
            continue;
        }
        if (n > left) {
            work_on(request, transfer, request->done_elements, left);
            request->done_elements += left;
            return false;
        }
        work_on(request, transfer, request->done_elements, n);
        left -= n;
    }
    return true;
}

ag_status_t ag_group_post(ag_group_t *group, const ag_transfer_shape_t *shape, float *buffer,
                          float *staging, ag_collective_request_t **request_p)
{
    ag_status_t status;

    group->transfers.n_items = 0;
    status = ag_transfer_list(shape, group->index, &group->transfers);
    if (status != AG_OK) {
        return status;
    }
    group->request =
        (ag_collective_request_t){.group = group, .buffer = buffer, .staging = staging};
    status = begin_phase(&group->request);
    if (status == AG_OK) {
        *request_p = &group->request;
    }
    return status;
}

ag_status_t ag_group_test(ag_collective_request_t *request)
{
    for (;;) {
        ag_status_t status = test_messages(request);

        if (status != AG_OK) {
            return status;
        }
        if (!do_local(request)) {
            return AG_PENDING;
        }
        request->n_pending = 0;
        if (request->phase_end == request->group->transfers.n_items) {
            return AG_OK;
        }
        status = begin_phase(request);
        if (status != AG_OK) {
            return status;
        }
    }
}
