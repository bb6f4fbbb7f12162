/*
 * Sums in parts, as replicas of a model use them: a range of floats is summed so that each rank has
 * its part of the sum, it changes that, and all get all parts. Parts are of any sizes.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collectives.h"
#include "runtime/base/philox.h"
#include "turns.h"

enum { MOST_RANKS = 9, SEEDS = 24, GUARDS = 5, MET = 20 };

static const float guard = 12345.0f;

typedef struct trial {
    uint64_t seed;
    uint32_t n_ranks;
    bool has_hosts;
    uint32_t hosts[MOST_RANKS];
    uint64_t n, counts[MOST_RANKS];
    bool reduces_all; /* in place of both: for the bits of their sums */
    float *ranges[MOST_RANKS];
    ag_algorithm_t algorithms[AG_N_COLLECTIVES]; /* that were chosen */
} trial_t;

static uint64_t draw(uint64_t seed, uint64_t i, uint64_t n)
{
    return (uint64_t)(ag_philox_uniform(seed, 30, i) * (double)n);
}

static trial_t draw_trial(uint64_t seed, uint32_t n_ranks)
{
    static const uint64_t most[] = {3, 60, 20000};
    uint32_t n_hosts = 1 + (uint32_t)draw(seed, 0, n_ranks);
    trial_t trial = {.seed = seed, .n_ranks = n_ranks, .has_hosts = draw(seed, 1, 3) > 0};

    for (uint32_t r = 0; r < n_ranks; r++) {
        bool is_empty = draw(seed, 10 + r, 3) == 0;

        trial.hosts[r] = r < n_hosts ? r : (uint32_t)draw(seed, 20 + r, n_hosts);
        trial.counts[r] = is_empty ? 0 : draw(seed, 40 + r, most[seed % 3] + 1);
        trial.n += trial.counts[r];
    }
    return trial;
}

static float number(const trial_t *trial, uint32_t rank, uint64_t i)
{
    return (float)(ag_philox_uniform(trial->seed, 100 + rank, i) - 0.5) * (i % 2 == 0 ? 1 : 1000);
}

/* By the algorithm that is chosen, or another one. */
static ag_status_t run(trial_t *trial, ag_group_t *group, const ag_idle_t *idle, uint32_t rank,
                       ag_collective_t collective, const ag_algorithm_t *algorithm, float *range)
{
    ag_transfer_shape_t shape = ag_group_shape(group);
    ag_collective_request_t *request;
    ag_status_t status;
    float *staging;

    shape.collective = collective;
    shape.element_bytes = sizeof(float);
    shape.n = trial->n;
    shape.counts = trial->counts;
    shape.algorithm = algorithm != NULL ? *algorithm : ag_transfer_choose(&shape);
    trial->algorithms[collective] = shape.algorithm;
    staging = malloc(ag_transfer_stage_elements(&shape, rank) * sizeof(*staging));
    status = ag_group_post(
        group, &shape, &(ag_collective_memory_t){.buffer = range, .staging = staging}, &request);
    while (status == AG_OK && (status = ag_group_test(request)) == AG_PENDING) {
        idle->fn(idle->arg);
        status = AG_OK;
    }
    free(staging);
    return status;
}

static ag_status_t sum_change_and_gather(trial_t *trial, ag_group_t *group, const ag_idle_t *idle,
                                         uint32_t rank, float *range)
{
    ag_status_t status = run(trial, group, idle, rank, AG_REDUCE_SCATTER, NULL, range);
    uint64_t begin = 0;

    for (uint32_t r = 0; r < rank; r++) {
        begin += trial->counts[r];
    }
    for (uint64_t i = 0; i < trial->n; i++) { /* the others' parts are nobody's business here */
        bool is_mine = i >= begin && i < begin + trial->counts[rank];

        range[i] = is_mine ? range[i] * 0.5f : NAN;
    }
    return status == AG_OK ? run(trial, group, idle, rank, AG_ALL_GATHER, NULL, range) : status;
}

static ag_status_t sum_all(trial_t *trial, ag_group_t *group, const ag_idle_t *idle, uint32_t rank,
                           float *range)
{
    ag_status_t status =
        run(trial, group, idle, rank, AG_ALL_REDUCE, &trial->algorithms[AG_REDUCE_SCATTER], range);

    for (uint64_t i = 0; i < trial->n; i++) {
        range[i] *= 0.5f;
    }
    return status;
}

static ag_status_t do_trial(ag_turn_t *turn)
{
    static const uint32_t ranks[MOST_RANKS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    trial_t *trial = turn->arg;
    uint32_t me = (uint32_t)turn->net->rank;
    float *range = malloc((trial->n + 2 * GUARDS) * sizeof(*range));
    ag_group_t *group = NULL;
    ag_status_t status =
        ag_group_create(&(ag_group_opts_t){.net = turn->net,
                                           .ranks = ranks,
                                           .hosts = trial->has_hosts ? trial->hosts : NULL,
                                           .n_ranks = trial->n_ranks,
                                           .channel = AG_CHANNEL_FIRST},
                        &group);

    for (uint64_t i = 0; i < trial->n + 2 * GUARDS; i++) {
        bool is_in = i >= GUARDS && i < trial->n + GUARDS;

        range[i] = is_in ? number(trial, me, i - GUARDS) : guard;
    }
    if (status == AG_OK) {
        status = (trial->reduces_all ? sum_all : sum_change_and_gather)(trial, group, &turn->idle,
                                                                        me, range + GUARDS);
    }
    for (uint64_t i = 0; i < GUARDS; i++) {
        cr_assert(range[i] == guard && range[trial->n + GUARDS + i] == guard);
    }
    ag_group_destroy(group);
    memmove(range, range + GUARDS, trial->n * sizeof(*range));
    trial->ranges[me] = range;
    return status;
}

static void play(trial_t *trial, uint64_t order)
{
    ag_status_t statuses[MOST_RANKS];

    ag_turns_run(trial->n_ranks, order, do_trial, trial, statuses);
    for (uint32_t r = 0; r < trial->n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "seed %u, rank %u of %u: %s", (unsigned)trial->seed, r,
                     trial->n_ranks, ag_error());
        cr_assert_eq(memcmp(trial->ranges[r], trial->ranges[0], trial->n * sizeof(float)), 0,
                     "seed %u: rank %u of %u has other bits", (unsigned)trial->seed, r,
                     trial->n_ranks);
    }
}

static void free_ranges(trial_t *trial)
{
    for (uint32_t r = 0; r < trial->n_ranks; r++) {
        free(trial->ranges[r]);
    }
}

static void check_sums(const trial_t *trial)
{
    for (uint64_t i = 0; i < trial->n; i++) {
        double sum = 0, size = 0;

        for (uint32_t r = 0; r < trial->n_ranks; r++) {
            sum += (double)number(trial, r, i) / 2;
            size += fabs((double)number(trial, r, i));
        }
        cr_assert_float_eq((double)trial->ranges[0][i], sum, 1e-6 * size);
    }
}

/* What the trials were. */
typedef struct met {
    unsigned by[AG_N_ALGORITHMS], with_empty, with_nothing;
} met_t;

static void try_parts(uint64_t seed, uint32_t n_ranks, met_t *met)
{
    trial_t trial = draw_trial(seed, n_ranks), other, whole;
    uint32_t n_empty = 0;

    other = whole = trial;
    play(&trial, seed);
    play(&other, seed + 1);
    whole.reduces_all = true;
    memcpy(whole.algorithms, trial.algorithms, sizeof(whole.algorithms));
    play(&whole, seed + 2);
    check_sums(&trial);
    cr_assert_eq(memcmp(trial.ranges[0], other.ranges[0], trial.n * sizeof(float)), 0,
                 "seed %u: another order of turns gives other bits", (unsigned)seed);
    cr_assert_eq(memcmp(trial.ranges[0], whole.ranges[0], trial.n * sizeof(float)), 0,
                 "seed %u: the sum as a whole has other bits", (unsigned)seed);
    for (uint32_t r = 0; r < n_ranks; r++) {
        n_empty += trial.counts[r] == 0;
    }
    met->by[trial.algorithms[AG_REDUCE_SCATTER]]++;
    met->with_empty += n_empty > 0 && n_empty < n_ranks;
    met->with_nothing += n_empty == n_ranks;
    free_ranges(&trial);
    free_ranges(&other);
    free_ranges(&whole);
}

Test(parts, of_any_sizes_are_summed_changed_by_their_ranks_and_gathered)
{
    met_t met = {0};

    for (uint32_t n_ranks = 1; n_ranks <= MOST_RANKS; n_ranks++) {
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            try_parts(1000 * n_ranks + seed, n_ranks, &met);
        }
    }
    cr_expect_geq(met.by[AG_DIRECT], MET);
    cr_expect_geq(met.by[AG_RING], MET);
    cr_expect_geq(met.by[AG_BY_HOST], MET);
    cr_expect_geq(met.with_empty, MET);
    cr_expect_geq(met.with_nothing, 5);
}
