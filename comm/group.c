/* One runner for every transfer list: post a phase's messages, then do its local work in list
 * order. */
#include "comm/group.h"

#include <stdlib.h>
#include <string.h>

/* Local work is cut so that one test() does not keep its caller for more than some 100 us. */
enum { BYTES_PER_TEST = 1 << 20 };

struct ag_collective_request {
    ag_group_t *group;
    unsigned char *areas[AG_N_AREAS];
    size_t element_bytes;
    size_t phase_end;  /* transfers up to here are of the phase under way, or before */
    size_t n_pending;  /* of its messages */
    size_t at;         /* the local work to be done next */
    size_t done_bytes; /* of that */
};

/* A message under way. */
typedef struct flight {
    ag_net_request_t request;
    ag_net_t *net; /* NULL: it has arrived */
} flight_t;

/* A rank of the group. */
typedef struct member {
    int rank;
    ag_net_t *net; /* that reaches it */
} member_t;

struct ag_group {
    uint32_t n_ranks, index, channel;
    member_t *members;    /* (n_ranks) */
    uint32_t *hosts;      /* (n_ranks) NULL: all on one */
    ag_array_t transfers; /* ag_transfer_t of the collective under way */
    ag_array_t flights;   /* flight_t: room for any phase's; they do not move while under way */
    ag_collective_request_t request;
};

static ag_status_t fill(ag_group_t *group, const ag_group_opts_t *opts)
{
    uint32_t n = opts->n_ranks;

    group->members = calloc((size_t)n + 1, sizeof(*group->members));
    group->hosts = opts->hosts != NULL ? calloc((size_t)n + 1, sizeof(*group->hosts)) : NULL;
    if (group->members == NULL || (opts->hosts != NULL && group->hosts == NULL)) {
        return ag_fail_nomem("making a group", n * sizeof(*group->members));
    }
    for (uint32_t i = 0; i < n; i++) {
        group->members[i] = (member_t){.rank = (int)opts->ranks[i], .net = opts->net};
        group->index = group->members[i].rank == opts->net->rank ? i : group->index;
    }
    if (group->index == n) {
        return ag_fail(AG_ERR_INVALID, "rank %d is not in the group", opts->net->rank);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (group->hosts != NULL) {
            group->hosts[i] = opts->hosts[i];
        }
        if (opts->near != NULL &&
            (opts->hosts == NULL || opts->hosts[i] == opts->hosts[group->index])) {
            group->members[i].net = opts->near;
        }
    }
    return AG_OK;
}

ag_status_t ag_group_create(const ag_group_opts_t *opts, ag_group_t **group_p)
{
    ag_group_t *group = calloc(1, sizeof(*group));
    ag_status_t status;

    if (group == NULL) {
        return ag_fail_nomem("making a group", sizeof(*group));
    }
    *group = (ag_group_t){.n_ranks = opts->n_ranks,
                          .index = opts->n_ranks,
                          .channel = opts->channel,
                          .transfers = AG_ARRAY(ag_transfer_t),
                          .flights = AG_ARRAY(flight_t)};
    status = fill(group, opts);
    if (status != AG_OK) {
        ag_group_destroy(group);
        return status;
    }
    *group_p = group;
    return AG_OK;
}

void ag_group_destroy(ag_group_t *group)
{
    if (group != NULL) {
        ag_array_fini(&group->transfers);
        ag_array_fini(&group->flights);
        free(group->members);
        free(group->hosts);
        free(group);
    }
}

ag_transfer_shape_t ag_group_shape(const ag_group_t *group)
{
    return (ag_transfer_shape_t){.n_ranks = group->n_ranks, .hosts = group->hosts};
}

static const ag_transfer_t *transfer_at(const ag_group_t *group, size_t i)
{
    return &AG_ITEMS(&group->transfers, ag_transfer_t)[i];
}

static flight_t *flight_at(const ag_group_t *group, size_t i)
{
    return &AG_ITEMS(&group->flights, flight_t)[i];
}

static bool is_message(const ag_transfer_t *transfer)
{
    return transfer->kind == AG_TRANSFER_SEND || transfer->kind == AG_TRANSFER_RECV;
}

/* The transfer after the last of the phase that begins at one. */
static size_t find_phase_end(const ag_group_t *group, size_t begin)
{
    size_t end = begin;

    while (end < group->transfers.n_items &&
           transfer_at(group, end)->phase == transfer_at(group, begin)->phase) {
        end++;
    }
    return end;
}

/* Room for the messages of the phase that has most. */
static ag_status_t make_room(ag_group_t *group)
{
    size_t most = 0;

    for (size_t i = 0, end; i < group->transfers.n_items; i = end) {
        size_t n = 0;

        end = find_phase_end(group, i);
        for (size_t t = i; t < end; t++) {
            n += is_message(transfer_at(group, t));
        }
        most = n > most ? n : most;
    }
    return most > group->flights.n_items
               ? ag_array_append(&group->flights, NULL, most - group->flights.n_items)
               : AG_OK;
}

static ag_status_t post_message(ag_collective_request_t *request, const ag_transfer_t *transfer)
{
    const ag_group_t *group = request->group;
    const member_t *peer = &group->members[transfer->peer];
    flight_t *flight = flight_at(group, request->n_pending);
    size_t bytes = transfer->n * request->element_bytes;
    ag_status_t status;

    if (transfer->kind == AG_TRANSFER_SEND) {
        status = ag_net_post_send(peer->net, peer->rank, group->channel,
                                  request->areas[transfer->from_area] +
                                      transfer->from * request->element_bytes,
                                  bytes, &flight->request);
    } else {
        status = ag_net_post_recv(peer->net, peer->rank, group->channel,
                                  request->areas[transfer->to_area] +
                                      transfer->to * request->element_bytes,
                                  bytes, &flight->request);
    }
    flight->net = peer->net;
    request->n_pending += status == AG_OK;
    return status;
}

static ag_status_t begin_phase(ag_collective_request_t *request)
{
    const ag_group_t *group = request->group;
    ag_status_t status = AG_OK;

    request->at = request->phase_end;
    request->phase_end = find_phase_end(group, request->at);
    request->done_bytes = 0;
    for (size_t i = request->at; i < request->phase_end && status == AG_OK; i++) {
        if (is_message(transfer_at(group, i))) {
            status = post_message(request, transfer_at(group, i));
        }
    }
    return status;
}

/* Is any message of the phase still under way? A request must not move, so slots are only marked.
 */
static ag_status_t test_messages(ag_collective_request_t *request)
{
    bool pending = false;

    for (size_t i = 0; i < request->n_pending; i++) {
        flight_t *flight = flight_at(request->group, i);
        ag_status_t status;

        if (flight->net == NULL) {
            continue;
        }
        status = ag_net_test(flight->net, &flight->request);
        if (status == AG_PENDING) {
            pending = true;
        } else if (status != AG_OK) {
            return status;
        } else {
            flight->net = NULL;
        }
    }
    return pending ? AG_PENDING : AG_OK;
}

/* Bytes [begin, begin + n) of a transfer, whole floats where they are added. */
static void work_on(const ag_collective_request_t *request, const ag_transfer_t *transfer,
                    size_t begin, size_t n)
{
    unsigned char *to =
        request->areas[transfer->to_area] + transfer->to * request->element_bytes + begin;
    const unsigned char *from =
        request->areas[transfer->from_area] + transfer->from * request->element_bytes + begin;

    if (transfer->kind == AG_TRANSFER_REDUCE) {
        float *sums = (float *)(void *)to;
        const float *terms = (const float *)(const void *)from;

        for (size_t i = 0; i < n / sizeof(float); i++) {
            sums[i] += terms[i];
        }
    } else {
        memcpy(to, from, n);
    }
}

/* Some of the phase's local work; true when all of it is done. */
static bool do_local(ag_collective_request_t *request)
{
    size_t left = BYTES_PER_TEST;

    for (; request->at < request->phase_end; request->at++, request->done_bytes = 0) {
        const ag_transfer_t *transfer = transfer_at(request->group, request->at);
        size_t n = transfer->n * request->element_bytes - request->done_bytes;

        if (is_message(transfer)) {
            continue;
        }
        if (n > left) {
            work_on(request, transfer, request->done_bytes, left);
            request->done_bytes += left;
            return false;
        }
        work_on(request, transfer, request->done_bytes, n);
        left -= n;
    }
    return true;
}

ag_status_t ag_group_post(ag_group_t *group, const ag_transfer_shape_t *shape,
                          const ag_collective_memory_t *memory, ag_collective_request_t **request_p)
{
    ag_status_t status;

    group->transfers.n_items = 0;
    status = ag_transfer_list(shape, group->index, &group->transfers);
    if (status == AG_OK) {
        status = make_room(group);
    }
    if (status != AG_OK) {
        return status;
    }
    group->request = (ag_collective_request_t){
        .group = group,
        .areas = {[AG_AREA_BUFFER] = memory->buffer,
                  [AG_AREA_INPUT] = (unsigned char *)memory->input, /* is only read */
                  [AG_AREA_STAGING] = memory->staging},
        .element_bytes = shape->element_bytes};
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
