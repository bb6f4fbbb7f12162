/* Groups and agreement over net_loop, ranks taking turns. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "collectives.h"
#include "comm/net_loop.h"
#include "turns.h"

enum { SEEDS = 6 };

/* A net that looks whom it is asked to reach, and hands on. */
typedef struct spy {
    ag_net_t base;
    ag_net_t *net;
    const uint32_t *hosts;
    bool is_near;
    unsigned *n_astray;
} spy_t;

static ag_net_t *look(ag_net_t *net, int peer)
{
    spy_t *spy = (spy_t *)net;

    *spy->n_astray += (spy->hosts[net->rank] == spy->hosts[peer]) != spy->is_near;
    return spy->net;
}

static ag_status_t spy_post_send(ag_net_t *net, int peer, uint32_t channel, const void *data,
                                 size_t bytes, ag_net_request_t *request)
{
    return ag_net_post_send(look(net, peer), peer, channel, data, bytes, request);
}

static ag_status_t spy_post_recv(ag_net_t *net, int peer, uint32_t channel, void *data,
                                 size_t bytes, ag_net_request_t *request)
{
    return ag_net_post_recv(look(net, peer), peer, channel, data, bytes, request);
}

static ag_status_t spy_test(ag_net_t *net, ag_net_request_t *request)
{
    return ag_net_test(((spy_t *)net)->net, request);
}

static const ag_net_ops_t spy_ops = {
    .name = "spy", .post_send = spy_post_send, .post_recv = spy_post_recv, .test = spy_test};

static spy_t spy_on(ag_net_t *net, const uint32_t *hosts, bool is_near, unsigned *n_astray)
{
    return (spy_t){
        .base = {.ops = &spy_ops, .rank = net->rank, .n_ranks = net->n_ranks},
        .net = net,
        .hosts = hosts,
        .is_near = is_near,
        .n_astray = n_astray,
    };
}

/* A drawn collective, done by all ranks. */
typedef struct trial {
    const ag_drawn_t *drawn;
    ag_net_t *nears[AG_DRAWN_RANKS];
    unsigned n_astray;
    unsigned char *results[AG_DRAWN_RANKS];
} trial_t;

static ag_status_t do_drawn(ag_turn_t *turn)
{
    trial_t *trial = turn->arg;
    const ag_drawn_t *drawn = trial->drawn;
    uint32_t ranks[AG_DRAWN_RANKS], me = (uint32_t)turn->net->rank;
    spy_t far = spy_on(turn->net, drawn->hosts, false, &trial->n_astray);
    spy_t near = spy_on(trial->nears[me], drawn->hosts, true, &trial->n_astray);
    ag_group_opts_t opts = {.net = drawn->has_hosts ? &far.base : turn->net,
                            .near = drawn->has_hosts ? &near.base : NULL,
                            .ranks = ranks,
                            .hosts = drawn->has_hosts ? drawn->hosts : NULL,
                            .n_ranks = drawn->shape.n_ranks,
                            .channel = AG_CHANNEL_FIRST};
    ag_group_t *group;
    ag_status_t status;

    for (uint32_t r = 0; r < opts.n_ranks; r++) {
        ranks[r] = r;
    }
    status = ag_group_create(&opts, &group);
    for (int twice = 0; twice < 2 && status == AG_OK; twice++) { /* a group can do another one */
        free(trial->results[me]);
        status = ag_drawn_run(drawn, me, group, &turn->idle, &trial->results[me]);
    }
    ag_group_destroy(group);
    ag_net_close(trial->nears[me]);
    return status;
}

/* Every rank has the result, whoever's turn it was. @param trial  out: results to be freed. */
static void try_drawn(const ag_drawn_t *drawn, uint64_t order, trial_t *trial)
{
    uint32_t p = drawn->shape.n_ranks;
    ag_status_t statuses[AG_DRAWN_RANKS];

    *trial = (trial_t){.drawn = drawn};
    cr_assert_eq(ag_net_loop_create((int)p, trial->nears), AG_OK);
    ag_turns_run(p, order, do_drawn, trial, statuses);
    cr_expect_eq(trial->n_astray, 0, "messages went over the wrong net");
    for (uint32_t r = 0; r < p; r++) {
        cr_assert_eq(statuses[r], AG_OK);
        const char *complaint = ag_drawn_check(drawn, r, trial->results[r]);

        cr_assert_null(complaint, "collective %d by %d, seed %u, rank %u of %u: %s",
                       drawn->shape.collective, drawn->shape.algorithm, (unsigned)drawn->seed, r, p,
                       complaint);
    }
}

static void check_bits(const ag_drawn_t *drawn)
{
    trial_t one, other;

    try_drawn(drawn, 2 * drawn->seed, &one);
    try_drawn(drawn, 2 * drawn->seed + 1, &other);
    for (uint32_t r = 0; r < drawn->shape.n_ranks; r++) {
        size_t bytes = ag_drawn_elements(drawn, r, AG_AREA_BUFFER) * drawn->shape.element_bytes;

        cr_assert_eq(memcmp(one.results[r], other.results[r], bytes), 0,
                     "another order of the ranks' turns gives other bits");
        if (drawn->shape.collective == AG_ALL_REDUCE) {
            cr_assert_eq(memcmp(one.results[0], one.results[r], bytes), 0,
                         "rank %u has other bits than rank 0", r);
        }
    }
    for (uint32_t r = 0; r < drawn->shape.n_ranks; r++) {
        free(one.results[r]);
        free(other.results[r]);
    }
}

Test(group, every_collective_by_every_algorithm_gives_its_result_in_any_order_of_turns)
{
    for (int c = 0; c < AG_N_COLLECTIVES; c++) {
        for (int a = 0; a < AG_N_ALGORITHMS; a++) {
            for (uint64_t seed = 0; seed < SEEDS; seed++) {
                uint32_t p = 1 + (uint32_t)(seed * 5 + (uint64_t)a) % AG_DRAWN_RANKS;

                if (ag_transfer_is_offered((ag_collective_t)c, (ag_algorithm_t)a)) {
                    ag_drawn_t drawn =
                        ag_drawn_make(seed + 1000, (ag_collective_t)c, (ag_algorithm_t)a, p, 300);

                    check_bits(&drawn);
                }
            }
        }
    }
}

/* Local work of several calls: more than is done in one. */
Test(group, long_sums_go_on_where_they_were_left)
{
    ag_drawn_t drawn = ag_drawn_make(7, AG_ALL_REDUCE, AG_DOUBLING, 3, 0);

    drawn.is_even = true;
    drawn.shape.n = 700001;
    check_bits(&drawn);
}

static ag_status_t leave_a_group(ag_turn_t *turn)
{
    static const uint32_t ranks[] = {0, 1, 2};
    float numbers[6] = {0}, staging[6];
    ag_collective_request_t *request;
    ag_group_t *group;
    ag_transfer_shape_t shape;
    ag_status_t status = ag_group_create(
        &(ag_group_opts_t){.net = turn->net, .ranks = ranks, .n_ranks = 3, .channel = 5}, &group);

    if (status != AG_OK || turn->net->rank == 1) {
        ag_group_destroy(status == AG_OK ? group : NULL);
        return status;
    }
    shape = ag_group_shape(group);
    shape.collective = AG_ALL_REDUCE;
    shape.algorithm = AG_RING;
    shape.element_bytes = sizeof(float);
    shape.n = 6;
    status = ag_group_post(
        group, &shape, &(ag_collective_memory_t){.buffer = numbers, .staging = staging}, &request);
    while (status == AG_OK && (status = ag_group_test(request)) == AG_PENDING) {
        turn->idle.fn(turn->idle.arg);
        status = AG_OK;
    }
    ag_group_destroy(group);
    return status;
}

Test(group, ranks_of_a_group_are_told_who_left_and_others_are_turned_away)
{
    ag_status_t statuses[4];

    ag_turns_run(3, 8, leave_a_group, NULL, statuses);
    cr_expect_eq(statuses[0], AG_ERR_PEER);
    cr_expect_eq(statuses[1], AG_OK);
    cr_expect_eq(statuses[2], AG_ERR_PEER);
    ag_turns_run(4, 8, leave_a_group, NULL, statuses);
    cr_expect_eq(statuses[3], AG_ERR_INVALID);
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

Test(agree, everybody_has_everybodys_items_and_a_peer_that_left_is_told_of)
{
    ag_status_t statuses[4];

    ag_turns_run(4, 5, gather_squares, NULL, statuses);
    cr_expect_eq(statuses[3], AG_OK);
    ag_turns_run(2, 7, wait_for_a_leaver, NULL, statuses);
    cr_expect_eq(statuses[1], AG_ERR_PEER);
}

Test(net_loop, both_ends_are_told_of_sizes_that_disagree_and_of_a_peer_that_left)
{
    ag_net_request_t requests[2];
    ag_net_t *nets[2];
    char data[16] = {0};

    cr_assert_eq(ag_net_loop_create(2, nets), AG_OK);
    cr_assert_eq(ag_net_post_send(nets[0], 1, 3, data, 16, &requests[0]), AG_OK);
    cr_expect_eq(ag_net_test(nets[0], &requests[0]), AG_PENDING);
    cr_assert_eq(ag_net_post_recv(nets[1], 0, 3, data, 12, &requests[1]), AG_OK);
    cr_expect_eq(ag_net_test(nets[0], &requests[0]), AG_ERR_PEER);
    cr_expect_eq(ag_net_test(nets[1], &requests[1]), AG_ERR_PEER);
    cr_expect(strstr(ag_error(), "12 bytes") != NULL && strstr(ag_error(), "16") != NULL);
    cr_assert_eq(ag_net_post_recv(nets[1], 0, 3, data, 12, &requests[1]), AG_OK);
    ag_net_close(nets[0]);
    cr_expect_eq(ag_net_test(nets[1], &requests[1]), AG_ERR_PEER);
    ag_net_close(nets[1]);
}
