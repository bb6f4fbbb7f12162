/* Groups and agreement over net_loop, ranks taking turns. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/group.h"
#include "runtime/base/philox.h"
#include "turns.h"

enum { MAX_RANKS = 9, MAX_ELEMENTS = 60000 };

typedef struct sums {
    uint64_t n;
    float *results; /* (ranks, n) */
} sums_t;

static ag_status_t wait_for(ag_turn_t *turn, ag_collective_request_t *request)
{
    ag_status_t status;

    while ((status = ag_group_test(request)) == AG_PENDING) {
        turn->idle.fn(turn->idle.arg);
    }
    return status;
}

static ag_status_t sum_over_ranks(ag_turn_t *turn)
{
    sums_t *sums = turn->arg;
    uint32_t ranks[MAX_RANKS], p = (uint32_t)turn->net->n_ranks;
    ag_transfer_shape_t shape = {
        .collective = ag_all_reduce_choose(sums->n, p), .n_ranks = p, .n = sums->n};
    float *mine = sums->results + (uint64_t)turn->net->rank * sums->n;
    float *staging = calloc(ag_transfer_stage_elements(&shape) + 1, sizeof(float));
    ag_collective_request_t *request;
    ag_group_t *group;
    ag_status_t status;

    for (uint32_t r = 0; r < p; r++) {
        ranks[r] = r;
    }
    for (uint64_t i = 0; i < sums->n; i++) {
        mine[i] = (float)ag_philox_uniform(1, (uint64_t)turn->net->rank, i) - 0.5f;
    }
    status = ag_group_create(turn->net, ranks, p, AG_CHANNEL_FIRST, &group);
    for (int twice = 0; twice < 2 && status == AG_OK; twice++) { /* the second sums the sums */
        status = ag_group_post(group, &shape, mine, staging, &request);
        status = status == AG_OK ? wait_for(turn, request) : status;
    }
    ag_group_destroy(group);
    free(staging);
    return status;
}

Test(group, all_reduce_gives_the_same_bits_on_all_ranks_and_the_sum)
{
    static const uint64_t sizes[] = {1, 7, 1000, MAX_ELEMENTS};

    for (uint32_t p = 1; p <= MAX_RANKS; p += 2) {
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            uint64_t n = sizes[s];
            sums_t sums = {.n = n, .results = calloc(p * n, sizeof(float))};
            ag_status_t statuses[MAX_RANKS];

            ag_turns_run(p, s, sum_over_ranks, &sums, statuses);
            for (uint32_t r = 0; r < p; r++) {
                cr_assert_eq(statuses[r], AG_OK, "rank %u of %u", r, p);
                cr_assert_eq(memcmp(sums.results, sums.results + r * n, n * sizeof(float)), 0,
                             "rank %u of %u has other bits", r, p);
            }
            for (uint64_t i = 0; i < n; i += 97) {
                double sum = 0;

                for (uint32_t r = 0; r < p; r++) {
                    sum += ag_philox_uniform(1, r, i) - 0.5;
                }
                cr_assert_float_eq(sums.results[i], sum * p, 1e-5 * p * p);
            }
            free(sums.results);
        }
    }
}

static ag_status_t agree_with_failures(ag_turn_t *turn)
{
    int rank = turn->net->rank, failed;
    ag_status_t mine = AG_OK, status;

    if (rank == 2 || rank == 4) {
        mine = ag_fail(AG_ERR_FORMAT, "the file of rank %d is odd", rank);
    }
    status = ag_agree(turn->net, &turn->idle, mine, &failed);
    cr_expect_eq(failed, 2);
    cr_expect_str_eq(ag_error(), "rank 2: the file of rank 2 is odd");
    return status;
}

static ag_status_t agree_alike(ag_turn_t *turn)
{
    ag_status_t status = ag_agree(turn->net, &turn->idle, ag_fail(AG_ERR_IO, "no such file"), NULL);

    cr_expect_str_eq(ag_error(), "no such file", "all failed alike: no rank is named");
    cr_expect_eq(ag_agree(turn->net, &turn->idle, AG_OK, NULL), AG_OK);
    return status;
}

Test(agree, the_lowest_failing_ranks_error_becomes_everybodys)
{
    ag_status_t statuses[5];

    ag_turns_run(5, 3, agree_with_failures, NULL, statuses);
    for (int r = 0; r < 5; r++) {
        cr_expect_eq(statuses[r], AG_ERR_FORMAT);
    }
    ag_turns_run(5, 4, agree_alike, NULL, statuses);
    for (int r = 0; r < 5; r++) {
        cr_expect_eq(statuses[r], AG_ERR_IO);
    }
}

static ag_status_t gather_squares(ag_turn_t *turn)
{
    int64_t items[4] = {0};
    ag_status_t status;

    items[turn->net->rank] = turn->net->rank * turn->net->rank;
    status = ag_agree_gather(turn->net, &turn->idle, items, sizeof(items[0]));
    for (int r = 0; r < 4; r++) {
        cr_expect_eq(items[r], r * r);
    }
    return status;
}

static ag_status_t mismatch(ag_turn_t *turn)
{
    char data[16] = {0};
    ag_net_request_t request;
    ag_status_t status = turn->net->rank == 0
                             ? ag_net_post_send(turn->net, 1, 3, data, 16, &request)
                             : ag_net_post_recv(turn->net, 0, 3, data, 12, &request);

    return status == AG_OK ? ag_net_wait(turn->net, &turn->idle, &request) : status;
}

static ag_status_t wait_for_a_leaver(ag_turn_t *turn)
{
    char data[16];
    ag_net_request_t request;

    if (turn->net->rank == 0) {
        return AG_OK;
    }
    return ag_net_post_recv(turn->net, 0, 3, data, 16, &request) == AG_OK
               ? ag_net_wait(turn->net, &turn->idle, &request)
               : AG_ERR_INVALID;
}

Test(net_loop, gathers_and_tells_of_sizes_that_disagree_and_peers_that_left)
{
    ag_status_t statuses[4];

    ag_turns_run(4, 5, gather_squares, NULL, statuses);
    cr_expect_eq(statuses[3], AG_OK);
    ag_turns_run(2, 6, mismatch, NULL, statuses);
    cr_expect_eq(statuses[0], AG_ERR_PEER);
    cr_expect_eq(statuses[1], AG_ERR_PEER);
    ag_turns_run(2, 7, wait_for_a_leaver, NULL, statuses);
    cr_expect_eq(statuses[1], AG_ERR_PEER);
}
