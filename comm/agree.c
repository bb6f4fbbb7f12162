#define _GNU_SOURCE
#include "comm/agree.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT_BYTES = 2048, SPINS = 2000, YIELDS = 2000, SLEEP_NS = 100000 };

/* What a rank brings to an agreement, and what all leave with. */
typedef struct verdict {
    int32_t status;
    int32_t rank;      /* whose failure it is */
    int32_t everybody; /* all ranks failed in the same words */
    char text[TEXT_BYTES];
} verdict_t;

/* Spin a little, then let others have the core, then sleep: ranks may outnumber cores. */
static void rest(const ag_idle_t *idle, unsigned n_tries)
{
    if (idle != NULL && idle->fn != NULL) {
        idle->fn(idle->arg);
    } else if (n_tries > SPINS + YIELDS) {
        nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    } else if (n_tries > SPINS) {
        sched_yield();
    }
}

ag_status_t ag_net_wait(ag_net_t *net, const ag_idle_t *idle, ag_net_request_t *request)
{
    ag_status_t status;

    for (unsigned n_tries = 0; (status = ag_net_test(net, request)) == AG_PENDING; n_tries++) {
        rest(idle, n_tries);
    }
    return status;
}

ag_status_t ag_net_send(ag_net_t *net, const ag_idle_t *idle, int peer, const void *data,
                        size_t bytes)
{
    ag_net_request_t request;
    ag_status_t status = ag_net_post_send(net, peer, AG_CHANNEL_CONTROL, data, bytes, &request);

    return status == AG_OK ? ag_net_wait(net, idle, &request) : status;
}

ag_status_t ag_net_recv(ag_net_t *net, const ag_idle_t *idle, int peer, void *data, size_t bytes)
{
    ag_net_request_t request;
    ag_status_t status = ag_net_post_recv(net, peer, AG_CHANNEL_CONTROL, data, bytes, &request);

    return status == AG_OK ? ag_net_wait(net, idle, &request) : status;
}

ag_status_t ag_agree_broadcast(ag_net_t *net, const ag_idle_t *idle, int root, void *data,
                               size_t bytes)
{
    ag_status_t status = AG_OK;

    if (net->rank != root) {
        return ag_net_recv(net, idle, root, data, bytes);
    }
    for (int peer = 0; peer < net->n_ranks && status == AG_OK; peer++) {
        if (peer != root) {
            status = ag_net_send(net, idle, peer, data, bytes);
        }
    }
    return status;
}

ag_status_t ag_agree_gather(ag_net_t *net, const ag_idle_t *idle, void *items, size_t item_bytes)
{
    unsigned char *item = items;
    ag_status_t status = AG_OK;

    if (net->rank != 0) {
        status = ag_net_send(net, idle, 0, item + (size_t)net->rank * item_bytes, item_bytes);
    }
    for (int peer = 1; net->rank == 0 && peer < net->n_ranks && status == AG_OK; peer++) {
        status = ag_net_recv(net, idle, peer, item + (size_t)peer * item_bytes, item_bytes);
    }
    return status == AG_OK
               ? ag_agree_broadcast(net, idle, 0, items, (size_t)net->n_ranks * item_bytes)
               : status;
}

static void judge(const verdict_t *theirs, int n_ranks, verdict_t *verdict)
{
    *verdict = (verdict_t){.status = AG_OK, .rank = -1, .everybody = 1};
    for (int r = 0; r < n_ranks; r++) {
        if (theirs[r].status != AG_OK && verdict->rank < 0) {
            *verdict = theirs[r];
            verdict->rank = r;
            verdict->everybody = r == 0;
        } else if (verdict->rank >= 0 && (theirs[r].status != verdict->status ||
                                          strcmp(theirs[r].text, verdict->text) != 0)) {
            verdict->everybody = 0;
        }
    }
}

ag_status_t ag_agree(ag_net_t *net, const ag_idle_t *idle, ag_status_t status, int *failed_rank_p)
{
    verdict_t *verdicts = calloc((size_t)net->n_ranks, sizeof(*verdicts)), verdict;
    ag_status_t net_status;

    if (verdicts == NULL) {
        return ag_fail_nomem("agreeing", (size_t)net->n_ranks * sizeof(*verdicts));
    }
    verdicts[net->rank].status = status;
    if (status != AG_OK) {
        snprintf(verdicts[net->rank].text, TEXT_BYTES, "%s", ag_error());
    }
    net_status = ag_agree_gather(net, idle, verdicts, sizeof(*verdicts));
    judge(verdicts, net->n_ranks, &verdict);
    free(verdicts);
    if (net_status != AG_OK) {
        return net_status;
    }
    if (failed_rank_p != NULL) {
        *failed_rank_p = verdict.rank;
    }
    if (verdict.status == AG_OK) {
        return AG_OK;
    }
    /* a text may name the rank by itself */
    return verdict.everybody || strncmp(verdict.text, "rank ", 5) == 0
               ? ag_fail((ag_status_t)verdict.status, "%s", verdict.text)
               : ag_fail((ag_status_t)verdict.status, "rank %d: %s", verdict.rank, verdict.text);
}
