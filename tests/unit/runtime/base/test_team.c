#define _GNU_SOURCE
#include "runtime/base/team.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* more threads than the machine has cores among them, and a spin that is too short to find anyone
 */
static const ag_team_opts_t kinds[] = {{0},
                                       {.n_threads = 2},
                                       {.n_threads = 3, .spin_us = 1},
                                       {.n_threads = 8},
                                       {.n_threads = 8, .spin_us = 1}};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]), MAX_THREADS = 8 };

static ag_team_t *create(size_t kind)
{
    ag_team_t *team = NULL;

    cr_assert_eq(ag_team_create(&kinds[kind], &team), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_team_size(team), kinds[kind].n_threads > 0 ? kinds[kind].n_threads : 1);
    return team;
}

typedef struct counts {
    uint64_t of_thread[MAX_THREADS];
    pthread_t caller;
    atomic_uint n_wrong; /* a thread that is not the test's may not assert */
} counts_t;

static void count(void *arg, const ag_worker_t *worker)
{
    counts_t *counts = arg;

    counts->n_wrong += worker->n_threads != ag_team_size(worker->team);
    counts->n_wrong +=
        (worker->thread == 0) != (pthread_equal(counts->caller, pthread_self()) != 0);
    counts->of_thread[worker->thread]++;
}

Test(team, every_thread_runs_every_region_once_and_the_caller_is_thread_0)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        ag_team_t *team = create(kind);
        counts_t counts = {.caller = pthread_self()};

        for (uint64_t i = 1; i <= 1000; i++) {
            ag_team_run(team, count, &counts);
            for (unsigned thread = 0; thread < ag_team_size(team); thread++) {
                cr_assert_eq(counts.of_thread[thread], i, "kind %zu, thread %u", kind, thread);
            }
        }
        cr_expect_eq(counts.n_wrong, 0);
        ag_team_destroy(team);
    }
}

typedef struct sums {
    const uint32_t *values;
    uint64_t n;
    uint64_t of_thread[MAX_THREADS];
} sums_t;

static void sum(void *arg, const ag_worker_t *worker)
{
    sums_t *sums = arg;
    uint64_t begin, end, total = 0;

    ag_worker_share(worker, sums->n, 16, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        total += sums->values[i];
    }
    sums->of_thread[worker->thread] = total;
}

Test(team, a_sum_over_shares_is_the_sum)
{
    enum { N = 100003 };
    uint32_t *values = malloc(N * sizeof(*values));

    cr_assert_not_null(values);
    for (uint32_t i = 0; i < N; i++) {
        values[i] = i;
    }
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        ag_team_t *team = create(kind);
        sums_t sums = {.values = values, .n = N};
        uint64_t total = 0;

        ag_team_run(team, sum, &sums);
        for (unsigned thread = 0; thread < ag_team_size(team); thread++) {
            total += sums.of_thread[thread];
        }
        cr_expect_eq(total, (uint64_t)N * (N - 1) / 2);
        ag_team_destroy(team);
    }
    free(values);
}

enum { N_ROUNDS = 200 };

typedef struct rounds {
    uint32_t of_thread[MAX_THREADS]; /* plain: the barrier alone orders them */
    atomic_uint n_wrong;
} rounds_t;

static void step_together(void *arg, const ag_worker_t *worker)
{
    rounds_t *rounds = arg;

    for (uint32_t round = 1; round <= N_ROUNDS; round++) {
        rounds->of_thread[worker->thread] = round;
        ag_team_barrier(worker);
        for (unsigned i = 0; i < worker->n_threads; i++) {
            rounds->n_wrong += rounds->of_thread[i] != round;
        }
        ag_team_barrier(worker);
    }
}

Test(team, after_a_barrier_all_see_what_all_wrote_before_it)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        ag_team_t *team = create(kind);

        for (int i = 0; i < 5; i++) {
            rounds_t rounds = {0};

            ag_team_run(team, step_together, &rounds);
            cr_expect_eq(rounds.n_wrong, 0, "kind %zu", kind);
        }
        ag_team_destroy(team);
    }
}

Test(team, a_team_that_ran_nothing_can_be_destroyed)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        ag_team_destroy(create(kind));
    }
    ag_team_destroy(NULL);
}

typedef struct call {
    ag_team_t *team;
    counts_t counts;
} call_t;

static void *run_count(void *arg)
{
    call_t *call = arg;

    call->counts.caller = pthread_self();
    ag_team_run(call->team, count, &call->counts);
    return NULL;
}

Test(team, another_thread_may_call_after_the_first)
{
    call_t call = {.team = create(1)};

    for (int i = 0; i < 10; i++) {
        pthread_t caller;

        cr_assert_eq(pthread_create(&caller, NULL, run_count, &call), 0);
        pthread_join(caller, NULL);
        run_count(&call);
    }
    cr_expect_eq(call.counts.of_thread[0], 20);
    cr_expect_eq(call.counts.of_thread[1], 20);
    cr_expect_eq(call.counts.n_wrong, 0);
    ag_team_destroy(call.team);
}

typedef struct pins {
    int cores[3];
    atomic_uint n_wrong;
} pins_t;

static void look_at_pins(void *arg, const ag_worker_t *worker)
{
    pins_t *pins = arg;
    cpu_set_t set;

    pins->n_wrong += sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) != 1 ||
                     !CPU_ISSET((size_t)pins->cores[worker->thread], &set);
}

Test(team, threads_stand_on_the_cores_given_and_the_caller_gets_its_own_back)
{
    cpu_set_t before, after;
    pins_t pins = {0};
    ag_team_t *team;
    int n = 0;

    cr_assert_eq(sched_getaffinity(0, sizeof(before), &before), 0);
    for (int core = 0; core < CPU_SETSIZE && n < 3;
         core++) { /* the last three, where so many are */
        if (CPU_ISSET((size_t)(CPU_SETSIZE - 1 - core), &before)) {
            pins.cores[n++] = CPU_SETSIZE - 1 - core;
        }
    }
    for (; n < 3; n++) {
        pins.cores[n] = pins.cores[0];
    }
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = 3, .cores = pins.cores}, &team),
                     AG_OK);
        ag_team_run(team, look_at_pins, &pins);
        cr_expect_eq(pins.n_wrong, 0);
        ag_team_destroy(team);
        cr_assert_eq(sched_getaffinity(0, sizeof(after), &after), 0);
        cr_expect(CPU_EQUAL(&before, &after));
    }
}

Test(share, a_lone_item_is_the_first_threads)
{
    static const uint32_t speeds[MAX_THREADS] = {300, 1000, 1, 1000, 40, 1000, 999, 7};

    for (unsigned n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
        ag_team_opts_t opts = {.n_threads = n_threads, .speeds = speeds};
        ag_worker_t alike = {.n_threads = n_threads}, uneven = alike;
        uint64_t begin, end;

        cr_assert_eq(ag_team_create(&opts, &uneven.team), AG_OK);
        ag_worker_share(&alike, 1, 1, &begin, &end);
        cr_expect(begin == 0 && end == 1, "%u threads alike", n_threads);
        ag_worker_share(&uneven, 5, 16, &begin, &end);
        cr_expect(begin == 0 && end == 5, "%u uneven threads", n_threads);
        ag_team_destroy(uneven.team);
    }
}

Test(share, every_item_belongs_to_one_thread_and_cuts_are_at_the_grain)
{
    static const uint64_t numbers[] = {0, 1, 2, 7, 8, 63, 64, 65, 1000, 1536, 49152};
    static const uint64_t grains[] = {1, 2, 8, 64, 100, 5000};

    for (unsigned n_threads = 1; n_threads <= 9; n_threads++) {
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            for (size_t j = 0; j < sizeof(grains) / sizeof(grains[0]); j++) {
                uint64_t n = numbers[i], grain = grains[j], next = 0;
                uint64_t most = ((n + grain - 1) / grain + n_threads - 1) / n_threads * grain;

                for (unsigned thread = 0; thread < n_threads; thread++) {
                    ag_worker_t worker = {.thread = thread, .n_threads = n_threads};
                    uint64_t begin, end;

                    ag_worker_share(&worker, n, grain, &begin, &end);
                    cr_assert_eq(begin, next);
                    cr_assert(begin <= end && end - begin <= most);
                    cr_assert(begin % grain == 0 || begin == n);
                    next = end;
                }
                cr_assert_eq(next, n, "%u threads, %zu items by %zu", n_threads, (size_t)n,
                             (size_t)grain);
            }
        }
    }
}

Test(team, work_is_shared_out_in_proportion_to_speeds)
{
    static const uint32_t speeds[] = {1000, 500, 250, 0};
    ag_team_t *team;

    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = 4, .speeds = speeds}, &team), AG_OK);
    for (uint64_t n = 0; n < 200; n++) {
        for (uint64_t grain = 1; grain < 20; grain += 6) {
            uint64_t at = 0, begin, end, n_grains = (n + grain - 1) / grain;

            for (unsigned t = 0; t < 4; t++) {
                ag_worker_t worker = {.team = team, .thread = t, .n_threads = 4};
                double exact = (double)n_grains * speeds[t] / 1750, got;

                ag_worker_share(&worker, n, grain, &begin, &end);
                cr_assert_eq(begin, at, "shares follow each other");
                cr_assert(end == n || end % grain == 0);
                got = (double)((end + grain - 1) / grain) - (double)((begin + grain - 1) / grain);
                cr_assert(got > exact - 1 && got < exact + 1, "thread %u has %g of %g", t, got,
                          exact);
                at = end;
            }
            cr_assert_eq(at, n);
        }
    }
    ag_team_destroy(team);
}

Test(team, measured_speeds_are_parts_of_the_fastest)
{
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        ag_team_t *team = create(kind);
        uint32_t speeds[MAX_THREADS] = {0}, fastest = 0;

        ag_team_measure(team, speeds);
        for (unsigned t = 0; t < ag_team_size(team); t++) {
            cr_expect(speeds[t] >= 1 && speeds[t] <= 1000);
            fastest = speeds[t] > fastest ? speeds[t] : fastest;
        }
        cr_expect_eq(fastest, 1000);
        ag_team_destroy(team);
    }
}
