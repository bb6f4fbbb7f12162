#define _GNU_SOURCE
#include "runtime/base/team.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_SPIN_US = 100, CACHE_LINE = 64, CHECK_EVERY = 32, NOWHERE = -1 };

/* A word that threads wait on: they spin, then sleep; who changes it wakes them. */
typedef struct gate {
    _Alignas(CACHE_LINE) atomic_uint value;
    atomic_uint n_sleeping;
} gate_t;

/* The core that a thread was on when it last went on; on a line of its own. */
typedef struct place {
    _Alignas(CACHE_LINE) atomic_int core;
} place_t;

struct ag_team {
    unsigned n_threads;
    unsigned n_started; /* the caller among them; fewer than n_threads where a start failed */
    uint64_t spin_ns;
    ag_region_fn_t fn;
    void *arg;
    bool stopping;
    bool is_pinned;  /* the caller is, */
    cpu_set_t had;   /* and had these cores before */
    gate_t epoch;    /* one more for each region: workers wait for it */
    gate_t finished; /* workers that ended the region: the caller waits for it */
    gate_t barrier;  /* generation of the barrier */
    _Alignas(CACHE_LINE) atomic_uint n_arrived;
    pthread_t *threads; /* (n_threads - 1) */
    place_t *places;    /* (n_threads) */
    uint64_t *before;   /* (n_threads + 1) the speeds of the threads before each, summed up */
};

typedef struct start_info {
    ag_team_t *team;
    unsigned thread;
} start_info_t;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void futex(atomic_uint *word, int operation, unsigned value)
{
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/*
 * Does another thread of the team stand on this one's core? It cannot get on while this one spins.
 * Sleeping gives it the core; a yield would often give it to a stranger, for a whole time slice.
 */
static bool is_in_the_way(const ag_team_t *team, unsigned thread)
{
    int core = sched_getcpu();

    for (unsigned i = 0; i < team->n_threads; i++) {
        if (i != thread &&
            atomic_load_explicit(&team->places[i].core, memory_order_relaxed) == core) {
            return true;
        }
    }
    return false;
}

/* Spin until the gate's value is no longer `old`; false where it is time to sleep. */
static bool gate_spin(const ag_team_t *team, unsigned thread, gate_t *gate, unsigned old)
{
    uint64_t end_ns = 0;

    for (unsigned i = 1; atomic_load_explicit(&gate->value, memory_order_acquire) == old; i++) {
        relax();
        if (i % CHECK_EVERY == 0) {
            uint64_t at_ns = now_ns();

            end_ns = end_ns == 0 ? at_ns + team->spin_ns : end_ns;
            if (at_ns >= end_ns || is_in_the_way(team, thread)) {
                return false;
            }
        }
    }
    return true;
}

/* Wait until the gate's value is no longer `old`. */
static void gate_wait(const ag_team_t *team, unsigned thread, gate_t *gate, unsigned old)
{
    while (!gate_spin(team, thread, gate, old)) {
        atomic_fetch_add(&gate->n_sleeping, 1);
        if (atomic_load(&gate->value) == old) {
            futex(&gate->value, FUTEX_WAIT, old);
        }
        atomic_fetch_sub(&gate->n_sleeping, 1);
    }
    atomic_store_explicit(&team->places[thread].core, sched_getcpu(), memory_order_relaxed);
}

static void gate_wake(gate_t *gate)
{
    if (atomic_load(&gate->n_sleeping) > 0) {
        futex(&gate->value, FUTEX_WAKE, INT32_MAX);
    }
}

static void *work(void *arg)
{
    start_info_t info = *(start_info_t *)arg;
    ag_team_t *team = info.team;
    ag_worker_t worker = {.team = team, .thread = info.thread, .n_threads = team->n_threads};

    free(arg);
    for (unsigned epoch = 0;; epoch++) {
        gate_wait(team, info.thread, &team->epoch, epoch);
        if (team->stopping) {
            return NULL;
        }
        team->fn(team->arg, &worker);
        atomic_fetch_add(&team->finished.value, 1);
        gate_wake(&team->finished);
    }
}

static bool pin(pthread_t thread, int core)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    return pthread_setaffinity_np(thread, sizeof(set), &set) == 0;
}

static ag_status_t start_thread(ag_team_t *team, unsigned thread, const int *cores)
{
    start_info_t *info = malloc(sizeof(*info));
    int error;

    if (info == NULL) {
        return ag_fail_nomem("starting a thread", sizeof(*info));
    }
    *info = (start_info_t){.team = team, .thread = thread};
    error = pthread_create(&team->threads[thread - 1], NULL, work, info);
    if (error != 0) {
        free(info);
        return ag_fail(AG_ERR_NOMEM, "starting thread %u of %u: %s; ask for fewer threads",
                       thread + 1, team->n_threads, strerror(error));
    }
    if (cores != NULL) {
        pin(team->threads[thread - 1], cores[thread]);
    }
    return AG_OK;
}

ag_status_t ag_team_create(const ag_team_opts_t *opts, ag_team_t **team_p)
{
    ag_team_t *team =
        aligned_alloc(CACHE_LINE, (sizeof(*team) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    unsigned n_threads = opts->n_threads > 0 ? opts->n_threads : 1;
    ag_status_t status;

    if (team == NULL) {
        return ag_fail_nomem("making a team", sizeof(*team));
    }
    memset(team, 0, sizeof(*team));
    team->n_threads = n_threads;
    team->n_started = 1;
    team->spin_ns = (opts->spin_us > 0 ? opts->spin_us : DEFAULT_SPIN_US) * 1000ull;
    team->threads = calloc(n_threads, sizeof(*team->threads));
    team->places = aligned_alloc(CACHE_LINE, n_threads * sizeof(*team->places));
    team->before = calloc((size_t)n_threads + 1, sizeof(*team->before));
    if (team->threads == NULL || team->places == NULL || team->before == NULL) {
        ag_team_destroy(team);
        return ag_fail_nomem("making a team", n_threads * sizeof(*team->places));
    }
    for (unsigned i = 0; i < n_threads; i++) {
        atomic_init(&team->places[i].core, NOWHERE);
        team->before[i + 1] = team->before[i] + (opts->speeds != NULL ? opts->speeds[i] : 1);
    }
    while (team->n_started < n_threads) {
        status = start_thread(team, team->n_started, opts->cores);
        if (status != AG_OK) {
            ag_team_destroy(team);
            return status;
        }
        team->n_started++;
    }
    if (opts->cores != NULL &&
        pthread_getaffinity_np(pthread_self(), sizeof(team->had), &team->had) == 0) {
        team->is_pinned = pin(pthread_self(), opts->cores[0]);
    }
    *team_p = team;
    return AG_OK;
}

void ag_team_destroy(ag_team_t *team)
{
    if (team == NULL) {
        return;
    }
    team->stopping = true;
    atomic_fetch_add(&team->epoch.value, 1);
    gate_wake(&team->epoch);
    for (unsigned i = 1; i < team->n_started; i++) {
        pthread_join(team->threads[i - 1], NULL);
    }
    if (team->is_pinned) {
        pthread_setaffinity_np(pthread_self(), sizeof(team->had), &team->had);
    }
    free(team->threads);
    free(team->places);
    free(team->before);
    free(team);
}

unsigned ag_team_size(const ag_team_t *team)
{
    return team->n_threads;
}

void ag_team_run(ag_team_t *team, ag_region_fn_t fn, void *arg)
{
    ag_worker_t worker = {.team = team, .thread = 0, .n_threads = team->n_threads};
    unsigned n_finished;

    if (team->n_threads == 1) {
        fn(arg, &worker);
        return;
    }
    atomic_store_explicit(&team->places[0].core, sched_getcpu(), memory_order_relaxed);
    team->fn = fn;
    team->arg = arg;
    atomic_store(&team->finished.value, 0);
    atomic_fetch_add(&team->epoch.value, 1);
    gate_wake(&team->epoch);
    fn(arg, &worker);
    while ((n_finished = atomic_load_explicit(&team->finished.value, memory_order_acquire)) <
           team->n_threads - 1) {
        gate_wait(team, 0, &team->finished, n_finished);
    }
}

void ag_team_barrier(const ag_worker_t *worker)
{
    ag_team_t *team = worker->team;
    unsigned generation;

    if (team->n_threads == 1) {
        return;
    }
    generation = atomic_load_explicit(&team->barrier.value, memory_order_acquire);
    if (atomic_fetch_add(&team->n_arrived, 1) + 1 == team->n_threads) {
        atomic_store(&team->n_arrived, 0);
        atomic_fetch_add(&team->barrier.value, 1);
        gate_wake(&team->barrier);
    } else {
        gate_wait(team, worker->thread, &team->barrier, generation);
    }
}

void ag_worker_share(const ag_worker_t *worker, uint64_t n, uint64_t grain, uint64_t *begin_p,
                     uint64_t *end_p)
{
    uint64_t n_grains = (n + grain - 1) / grain, before = worker->thread, all = worker->n_threads;
    uint64_t after = before + 1, begin, end;

    if (worker->team != NULL) {
        before = worker->team->before[worker->thread];
        after = worker->team->before[worker->thread + 1];
        all = worker->team->before[worker->n_threads];
    }
    begin = (n_grains * before + all - 1) / all * grain;
    end = (n_grains * after + all - 1) / all * grain;
    *begin_p = begin < n ? begin : n;
    *end_p = end < n ? end : n;
}

typedef struct race {
    uint64_t *best_ns; /* (n_threads, LINE_WORDS): of each thread, on a line of its own */
} race_t;

enum { LINE_WORDS = CACHE_LINE / sizeof(uint64_t), RACE_STEPS = 100000, N_RACES = 5 };

static void run_race(void *arg, const ag_worker_t *worker)
{
    race_t *race = arg;
    uint64_t *best_ns = &race->best_ns[worker->thread * LINE_WORDS], begin_ns, ns;
    float sums[16] = {0};

    ag_team_barrier(worker);
    begin_ns = now_ns();
    for (int i = 0; i < RACE_STEPS; i++) {
        for (int j = 0; j < 16; j++) {
            sums[j] = sums[j] * 0.999f + (float)i;
        }
    }
    ns = now_ns() - begin_ns;
    *best_ns = ns < *best_ns ? ns : *best_ns;
    memcpy(best_ns + 1, sums, sizeof(*best_ns)); /* so that it is computed */
}

void ag_team_measure(ag_team_t *team, uint32_t *speeds)
{
    race_t race = {.best_ns = calloc(team->n_threads, CACHE_LINE)};
    uint64_t least_ns = UINT64_MAX;

    for (unsigned i = 0; race.best_ns != NULL && i < team->n_threads; i++) {
        race.best_ns[i * LINE_WORDS] = UINT64_MAX;
    }
    for (int i = 0; race.best_ns != NULL && i < N_RACES; i++) {
        ag_team_run(team, run_race, &race);
    }
    for (unsigned i = 0; race.best_ns != NULL && i < team->n_threads; i++) {
        uint64_t ns = race.best_ns[i * LINE_WORDS];

        least_ns = ns < least_ns ? ns : least_ns;
    }
    for (unsigned i = 0; i < team->n_threads; i++) {
        uint64_t ns = race.best_ns != NULL ? race.best_ns[i * LINE_WORDS] : least_ns;

        speeds[i] = ns < least_ns + least_ns / 10 ? 1000 : (uint32_t)(1000 * least_ns / ns);
        speeds[i] = speeds[i] > 0 ? speeds[i] : 1;
    }
    free(race.best_ns);
}
