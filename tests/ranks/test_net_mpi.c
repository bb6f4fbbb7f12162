/* Messages over MPI: sizes, channels, order, and what is said where the two sides disagree. */
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/net_mpi.h"
#include "ranks.h"

enum { GUARD_BYTES = 64, GUARD = 0xa5, N_CHANNELS = 40, N_MESSAGES = 50 };

/* Around what transports treat differently: nothing, one byte, the eager limits, several segments.
 */
static const size_t sizes[] = {0, 1, 4095, 65536, 65537, (1 << 20) + 1, 5 * (1 << 20) + 3};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static unsigned char *take(ag_net_t *net, size_t n_bytes)
{
    unsigned char *bytes = malloc(n_bytes + GUARD_BYTES);

    AG_CHECK(net, bytes != NULL, "no memory for %zu bytes", n_bytes);
    memset(bytes, GUARD, n_bytes + GUARD_BYTES);
    return bytes;
}

static void check_bytes(ag_net_t *net, const unsigned char *bytes, size_t n_bytes, int from,
                        uint32_t channel)
{
    unsigned char *wanted = take(net, n_bytes);

    ag_ranks_fill(wanted, n_bytes, from, channel);
    AG_CHECK(net, memcmp(bytes, wanted, n_bytes + GUARD_BYTES) == 0,
             "%zu bytes from rank %d on channel %u are not what was sent", n_bytes, from, channel);
    free(wanted);
}

static void wait_for(ag_net_t *net, ag_net_request_t *request)
{
    AG_CHECK(net, ag_net_wait(net, NULL, request) == AG_OK, "a message did not arrive");
}

/* Every rank sends to the next and receives from the one before it, at once. */
static void every_size_arrives(ag_net_t *net)
{
    int next = (net->rank + 1) % net->n_ranks;
    int before = (net->rank + net->n_ranks - 1) % net->n_ranks;

    for (size_t i = 0; i < N_SIZES; i++) {
        unsigned char *sent = take(net, sizes[i]), *received = take(net, sizes[i]);
        ag_net_request_t send, recv;

        ag_ranks_fill(sent, sizes[i], net->rank, 7);
        AG_CHECK(net, ag_net_post_send(net, next, 7, sent, sizes[i], &send) == AG_OK, "send");
        AG_CHECK(net, ag_net_post_recv(net, before, 7, received, sizes[i], &recv) == AG_OK, "recv");
        wait_for(net, &recv);
        wait_for(net, &send);
        check_bytes(net, received, sizes[i], before, 7);
        free(sent);
        free(received);
    }
}

/* Channels do not wait for each other: what is posted last is waited for first. */
static void channels_are_apart(ag_net_t *net)
{
    int peer = net->n_ranks - 1 - net->rank;
    unsigned char *sent[N_CHANNELS], *received[N_CHANNELS];
    ag_net_request_t sends[N_CHANNELS], recvs[N_CHANNELS];

    for (uint32_t c = 0; c < N_CHANNELS; c++) {
        sent[c] = take(net, sizes[c % N_SIZES]);
        received[c] = take(net, sizes[c % N_SIZES]);
        ag_ranks_fill(sent[c], sizes[c % N_SIZES], net->rank, c);
        AG_CHECK(net,
                 ag_net_post_send(net, peer, c == N_CHANNELS - 1 ? AG_N_CHANNELS - 1 : c, sent[c],
                                  sizes[c % N_SIZES], &sends[c]) == AG_OK,
                 "send %u", c);
    }
    for (uint32_t c = N_CHANNELS; c-- > 0;) {
        AG_CHECK(net,
                 ag_net_post_recv(net, peer, c == N_CHANNELS - 1 ? AG_N_CHANNELS - 1 : c,
                                  received[c], sizes[c % N_SIZES], &recvs[c]) == AG_OK,
                 "receive %u", c);
    }
    for (uint32_t c = 0; c < N_CHANNELS; c++) {
        wait_for(net, &recvs[c]);
        check_bytes(net, received[c], sizes[c % N_SIZES], peer, c);
    }
    for (uint32_t c = 0; c < N_CHANNELS; c++) {
        wait_for(net, &sends[c]);
        free(sent[c]);
        free(received[c]);
    }
}

/* Small ones may not overtake large ones; all ranks send to the last. */
static void a_channel_keeps_its_order(ag_net_t *net)
{
    int last = net->n_ranks - 1;
    ag_net_request_t requests[N_MESSAGES];
    unsigned char *bytes[N_MESSAGES];

    for (int from = 0; from < last; from++) {
        for (uint32_t i = 0; i < N_MESSAGES && (net->rank == from || net->rank == last); i++) {
            size_t n_bytes = sizes[(i * 5 + 3) % N_SIZES];

            bytes[i] = take(net, n_bytes);
            if (net->rank == from) {
                ag_ranks_fill(bytes[i], n_bytes, from, i);
            }
            AG_CHECK(net,
                     (net->rank == from
                          ? ag_net_post_send(net, last, 3, bytes[i], n_bytes, &requests[i])
                          : ag_net_post_recv(net, from, 3, bytes[i], n_bytes, &requests[i])) ==
                         AG_OK,
                     "message %u of rank %d", i, from);
        }
        for (uint32_t i = 0; i < N_MESSAGES && (net->rank == from || net->rank == last); i++) {
            wait_for(net, &requests[i]);
            check_bytes(net, bytes[i], sizes[(i * 5 + 3) % N_SIZES], from, i);
            free(bytes[i]);
        }
    }
}

static ag_status_t exchange(ag_net_t *net, size_t sent_bytes, size_t wanted_bytes)
{
    char data[64] = {0};
    ag_net_request_t request;
    ag_status_t status = net->rank == 0 ? ag_net_post_send(net, 1, 5, data, sent_bytes, &request)
                                        : ag_net_post_recv(net, 0, 5, data, wanted_bytes, &request);

    AG_CHECK(net, status == AG_OK, "posting");
    return ag_net_wait(net, NULL, &request);
}

static void other_sizes_and_ranks_are_errors(ag_net_t *net)
{
    ag_net_request_t request;

    if (net->rank < 2) {
        ag_status_t status = exchange(net, 12, 16);

        AG_CHECK(net, status == (net->rank == 0 ? AG_OK : AG_ERR_PEER), "status %d", status);
        AG_CHECK(net,
                 net->rank == 0 ||
                     strcmp(ag_error(), "rank 1 expects 16 bytes from rank 0, which sent 12") == 0,
                 "too short");
        status = exchange(net, 16, 12);
        AG_CHECK(net, status == (net->rank == 0 ? AG_OK : AG_ERR_PEER), "status %d", status);
        AG_CHECK(net,
                 net->rank == 0 || strstr(ag_error(), "rank 1 receiving from rank 0: ") != NULL,
                 "too long");
    }
    AG_CHECK(net, ag_net_post_send(net, net->n_ranks, 5, "", 0, &request) == AG_ERR_PEER,
             "there is no such rank");
    AG_CHECK(net, ag_net_post_recv(net, -5, 5, NULL, 0, &request) == AG_ERR_PEER,
             "there is no such rank");
}

static const ag_rank_case_t cases[] = {
    {"every_size_arrives", every_size_arrives},
    {"channels_are_apart", channels_are_apart},
    {"a_channel_keeps_its_order", a_channel_keeps_its_order},
    {"other_sizes_and_ranks_are_errors", other_sizes_and_ranks_are_errors},
};

int main(int argc, char **argv)
{
    return ag_ranks_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
