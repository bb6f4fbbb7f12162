/*
 * Collectives over MPI. Each is done twice: by the ranks of the job, and by as many ranks in this
 * process over net_loop, taking turns. Both must give the same bits.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group.h"
#include "ranks.h"
#include "runtime/base/philox.h"
#include "turns.h"

enum { MAX_RANKS = 8 };

/* What a rank does, whatever the net. */
typedef struct collective {
    ag_transfer_shape_t shape; /* n_ranks is the group's */
    uint32_t ranks[MAX_RANKS]; /* of the group, in its order */
    uint64_t n;                /* elements of the buffer */
    uint64_t seed;
    float *results[MAX_RANKS]; /* (n) of each rank of the loop */
} collective_t;

/* Numbers of very different sizes, so that a sum in another order has other bits. */
static float element(uint64_t seed, int rank, uint64_t i)
{
    static const float scales[] = {1e-4f, 1, 3e3f, 1e7f};

    return ((float)ag_philox_uniform(seed, (uint64_t)rank, i) - 0.5f) *
           scales[(i + (uint64_t)rank) % 4];
}

static bool is_mine(const collective_t *c, int rank, uint64_t i)
{
    uint64_t begin = 0;

    for (uint32_t r = 0; c->shape.counts != NULL && r < c->shape.n_ranks; r++) {
        if ((int)c->ranks[r] == rank) {
            return i >= begin && i < begin + c->shape.counts[r];
        }
        begin += c->shape.counts[r];
    }
    return true;
}

static ag_status_t run(ag_net_t *net, const ag_idle_t *idle, const collective_t *c, float *buffer)
{
    float *staging = malloc((ag_transfer_stage_elements(&c->shape) + 1) * sizeof(*staging));
    ag_collective_request_t *request;
    ag_group_t *group = NULL;
    ag_status_t status;

    if (staging == NULL) {
        return ag_fail_nomem("staging", c->n);
    }
    for (uint64_t i = 0; i < c->n; i++) {
        buffer[i] = is_mine(c, net->rank, i) ? element(c->seed, net->rank, i) : -77.0f;
    }
    status = ag_group_create(net, c->ranks, c->shape.n_ranks, AG_CHANNEL_FIRST + 9, &group);
    for (int twice = 0; twice < 2 && status == AG_OK; twice++) { /* a group can do another one */
        status = ag_group_post(group, &c->shape, buffer, staging, &request);
        while (status == AG_OK && (status = ag_group_test(request)) == AG_PENDING) {
            status = AG_OK;
            if (idle != NULL) {
                idle->fn(idle->arg);
            } else {
                sched_yield();
            }
        }
    }
    ag_group_destroy(group);
    free(staging);
    return status;
}

static bool takes_part(const collective_t *c, int rank)
{
    for (uint32_t r = 0; r < c->shape.n_ranks; r++) {
        if ((int)c->ranks[r] == rank) {
            return true;
        }
    }
    return false;
}

static ag_status_t run_turn(ag_turn_t *turn)
{
    const collective_t *c = turn->arg;

    return takes_part(c, turn->net->rank)
               ? run(turn->net, &turn->idle, c, c->results[turn->net->rank])
               : AG_OK;
}

static float *take(ag_net_t *net, uint64_t n)
{
    float *elements = malloc((n + 1) * sizeof(*elements));

    AG_CHECK(net, elements != NULL, "no memory for %llu elements", (unsigned long long)n);
    return elements;
}

/* An all-gather must bring each rank's own elements; an all-reduce, done twice, p times the sum. */
static void check_values(ag_net_t *net, const collective_t *c, const float *buffer)
{
    for (uint64_t i = 0; i < c->n; i++) {
        double wanted = 0, size = 0;

        for (uint32_t r = 0; r < c->shape.n_ranks; r++) {
            if (is_mine(c, (int)c->ranks[r], i)) {
                double x = (double)element(c->seed, (int)c->ranks[r], i);

                wanted += x;
                size += x < 0 ? -x : x;
            }
        }
        if (c->shape.counts == NULL) {
            wanted *= c->shape.n_ranks;
            size *= c->shape.n_ranks;
        }
        AG_CHECK(net,
                 wanted - 1e-6 * size <= (double)buffer[i] &&
                     (double)buffer[i] <= wanted + 1e-6 * size,
                 "element %llu of %llu is %g instead of %g", (unsigned long long)i,
                 (unsigned long long)c->n, (double)buffer[i], wanted);
    }
}

static void compare_with_loop(ag_net_t *net, collective_t *c)
{
    float *buffer = take(net, c->n);
    ag_status_t statuses[MAX_RANKS];

    if (takes_part(c, net->rank)) {
        AG_CHECK(net, run(net, NULL, c, buffer) == AG_OK, "over MPI");
        check_values(net, c, buffer);
    }
    for (int r = 0; r < net->n_ranks; r++) {
        c->results[r] = take(net, c->n);
    }
    ag_turns_run((uint32_t)net->n_ranks, c->seed + 1, run_turn, c, statuses);
    for (int r = 0; r < net->n_ranks; r++) {
        AG_CHECK(net, statuses[r] == AG_OK, "over net_loop, rank %d", r);
    }
    AG_CHECK(net,
             !takes_part(c, net->rank) ||
                 memcmp(buffer, c->results[net->rank], c->n * sizeof(*buffer)) == 0,
             "%llu elements have other bits than over net_loop", (unsigned long long)c->n);
    for (int r = 0; r < net->n_ranks; r++) {
        free(c->results[r]);
    }
    free(buffer);
}

static collective_t of_all_ranks(ag_net_t *net, uint64_t seed)
{
    collective_t c = {.seed = seed, .shape = {.n_ranks = (uint32_t)net->n_ranks}};

    AG_CHECK(net, net->n_ranks <= MAX_RANKS, "at most %d ranks", MAX_RANKS);
    for (uint32_t r = 0; r < c.shape.n_ranks; r++) {
        c.ranks[r] = r;
    }
    return c;
}

/* Both algorithms at every size, whichever would be chosen: fewer elements than ranks among them.
 */
static void all_reduce_has_the_bits_of_net_loop(ag_net_t *net)
{
    static const uint64_t sizes[] = {0, 1, 2, 3, 576, 16383, 100003, 700001};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int kind = AG_ALL_REDUCE_DIRECT; kind <= AG_ALL_REDUCE_RING; kind++) {
            collective_t c = of_all_ranks(net, 10 * i + (uint64_t)kind);

            c.shape.collective = (ag_collective_t)kind;
            c.shape.n = c.n = sizes[i];
            compare_with_loop(net, &c);
        }
    }
}

/* Parts of every kind: none, one element, more than a message's eager limit; nobody's at all. */
static void all_gather_of_uneven_and_empty_parts(ag_net_t *net)
{
    static const uint64_t parts[] = {0, 300001, 1, 0, 17, 4096, 0};

    for (uint32_t first = 0; first < 7; first++) {
        collective_t c = of_all_ranks(net, 100 + first);
        uint64_t counts[MAX_RANKS];

        for (uint32_t r = 0; r < c.shape.n_ranks; r++) {
            counts[r] = first == 6 ? 0 : parts[(first + r) % 7];
            c.n += counts[r];
        }
        c.shape.collective = AG_ALL_GATHER_RING;
        c.shape.counts = counts;
        compare_with_loop(net, &c);
    }
}

/* The order of the group, not that of the ranks, is the order of the sum; the others stay out. */
static void a_group_of_some_ranks_in_another_order(ag_net_t *net)
{
    static const uint64_t sizes[] = {5, 50000};
    uint32_t last = (uint32_t)net->n_ranks - 1;

    for (size_t i = 0; i < 2; i++) {
        collective_t c = {.seed = 200 + i,
                          .n = sizes[i],
                          .ranks = {last, 0, last - 1},
                          .shape = {.n_ranks = 3, .n = sizes[i]}};

        c.shape.collective = ag_all_reduce_choose(c.n, c.shape.n_ranks);
        compare_with_loop(net, &c);
    }
}

static const ag_rank_case_t cases[] = {
    {"all_reduce_has_the_bits_of_net_loop", all_reduce_has_the_bits_of_net_loop},
    {"all_gather_of_uneven_and_empty_parts", all_gather_of_uneven_and_empty_parts},
    {"a_group_of_some_ranks_in_another_order", a_group_of_some_ranks_in_another_order},
};

int main(int argc, char **argv)
{
    return ag_ranks_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
