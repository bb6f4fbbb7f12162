/*
 * Collectives over MPI. Each is done twice: by the ranks of the job, and by as many ranks in this
 * process over net_loop, taking turns. Both must give the same bits.
 */
#include <stdlib.h>
#include <string.h>

#include "collectives.h"
#include "ranks.h"
#include "turns.h"

enum { MAX_RANKS = 8 };

/* What a rank does, whatever the net. */
typedef struct collective {
    ag_drawn_t drawn;
    uint32_t ranks[MAX_RANKS];         /* of the group, in its order */
    unsigned char *results[MAX_RANKS]; /* of each rank of the loop */
} collective_t;

/* The rank's place in the group; n_ranks where it has none. */
static uint32_t index_of(const collective_t *c, int rank)
{
    uint32_t i = 0;

    while (i < c->drawn.shape.n_ranks && (int)c->ranks[i] != rank) {
        i++;
    }
    return i;
}

static ag_status_t run(ag_net_t *net, const ag_idle_t *idle, const collective_t *c,
                       unsigned char **result_p)
{
    ag_group_t *group;
    ag_status_t status =
        ag_group_create(&(ag_group_opts_t){.net = net,
                                           .near = net,
                                           .ranks = c->ranks,
                                           .hosts = c->drawn.has_hosts ? c->drawn.hosts : NULL,
                                           .n_ranks = c->drawn.shape.n_ranks,
                                           .channel = AG_CHANNEL_FIRST + 9},
                        &group);

    for (int twice = 0; twice < 2 && status == AG_OK; twice++) { /* a group can do another one */
        free(*result_p);
        status = ag_drawn_run(&c->drawn, index_of(c, net->rank), group, idle, result_p);
    }
    ag_group_destroy(group);
    return status;
}

static ag_status_t run_turn(ag_turn_t *turn)
{
    collective_t *c = turn->arg;

    return index_of(c, turn->net->rank) < c->drawn.shape.n_ranks
               ? run(turn->net, &turn->idle, c, &c->results[turn->net->rank])
               : AG_OK;
}

static void compare_with_loop(ag_net_t *net, collective_t *c)
{
    const ag_transfer_shape_t *shape = &c->drawn.shape;
    uint32_t me = index_of(c, net->rank);
    ag_status_t statuses[MAX_RANKS];
    unsigned char *result = NULL;

    ag_turns_run((uint32_t)net->n_ranks, c->drawn.seed, run_turn, c, statuses);
    for (int r = 0; r < net->n_ranks; r++) {
        AG_CHECK(net, statuses[r] == AG_OK, "over net_loop, rank %d", r);
    }
    if (me < shape->n_ranks) {
        size_t bytes = ag_drawn_elements(&c->drawn, me, AG_AREA_BUFFER) * shape->element_bytes;
        const char *complaint;

        AG_CHECK(net, run(net, NULL, c, &result) == AG_OK, "over MPI");
        complaint = ag_drawn_check(&c->drawn, me, result);
        AG_CHECK(net, complaint == NULL, "collective %d by %d, seed %u: %s", shape->collective,
                 shape->algorithm, (unsigned)c->drawn.seed, complaint);
        AG_CHECK(net, memcmp(result, c->results[net->rank], bytes) == 0,
                 "collective %d by %d, seed %u: other bits than over net_loop", shape->collective,
                 shape->algorithm, (unsigned)c->drawn.seed);
    }
    for (int r = 0; r < net->n_ranks; r++) {
        free(c->results[r]);
    }
    free(result);
}

/* Every algorithm, whichever would be chosen; counts from none to more than a message's eager
 * limit. */
static void do_by_every_algorithm(ag_net_t *net, ag_collective_t collective)
{
    static const uint64_t most[] = {2, 40, 3000, 20000};

    AG_CHECK(net, net->n_ranks <= MAX_RANKS, "at most %d ranks", MAX_RANKS);
    for (int a = 0; a < AG_N_ALGORITHMS; a++) {
        for (uint64_t i = 0; i < 8 && ag_transfer_is_offered(collective, (ag_algorithm_t)a); i++) {
            collective_t c = {.drawn = ag_drawn_make(i + 1, collective, (ag_algorithm_t)a,
                                                     (uint32_t)net->n_ranks, most[i % 4])};

            for (uint32_t r = 0; r < c.drawn.shape.n_ranks; r++) {
                c.ranks[r] = r;
            }
            compare_with_loop(net, &c);
        }
    }
}

static void all_reduce(ag_net_t *net)
{
    do_by_every_algorithm(net, AG_ALL_REDUCE);
}

static void reduce_scatter(ag_net_t *net)
{
    do_by_every_algorithm(net, AG_REDUCE_SCATTER);
}

static void all_gather(ag_net_t *net)
{
    do_by_every_algorithm(net, AG_ALL_GATHER);
}

static void all_to_all(ag_net_t *net)
{
    do_by_every_algorithm(net, AG_ALL_TO_ALL);
}

static void broadcast(ag_net_t *net)
{
    do_by_every_algorithm(net, AG_BROADCAST);
}

/* The order of the group, not that of the ranks, is the order of the sum; the others stay out. */
static void a_group_of_some_ranks_in_another_order(ag_net_t *net)
{
    uint32_t last = (uint32_t)net->n_ranks - 1;

    for (uint64_t seed = 0; seed < 4; seed++) {
        collective_t c = {.drawn = ag_drawn_make(seed, AG_ALL_REDUCE, AG_RING, 3, 20000),
                          .ranks = {last, 0, last - 1}};

        c.drawn.shape.algorithm = ag_transfer_choose(&c.drawn.shape);
        compare_with_loop(net, &c);
    }
}

static const ag_rank_case_t cases[] = {
    {"all_reduce", all_reduce},
    {"reduce_scatter", reduce_scatter},
    {"all_gather", all_gather},
    {"all_to_all", all_to_all},
    {"broadcast", broadcast},
    {"a_group_of_some_ranks_in_another_order", a_group_of_some_ranks_in_another_order},
};

int main(int argc, char **argv)
{
    return ag_ranks_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
