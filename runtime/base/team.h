/*
 * A team of threads that runs regions: the caller is thread 0 and works too. One region per
 * segment; barriers inside where a kernel reads what another thread wrote. Who waits spins, then
 * sleeps on a futex; where the thread that is waited for stands on the same core it sleeps at once.
 */
#pragma once

#include <stdint.h>

#include "runtime/base/status.h"

typedef struct ag_team ag_team_t;

/** What a thread of a region is handed. */
typedef struct ag_worker {
    ag_team_t *team;
    unsigned thread; /* 0 .. n_threads - 1 */
    unsigned n_threads;
} ag_worker_t;

typedef void (*ag_region_fn_t)(void *arg, const ag_worker_t *worker);

typedef struct ag_team_opts {
    unsigned n_threads; /* 0 = 1 */
    uint32_t spin_us;   /* how long an idle worker spins before it sleeps; 0 = 100 */
    const int *cores;   /* (n_threads) where threads are pinned, the caller for as long as there is
                           the team; NULL = not */
    const uint32_t *speeds; /* (n_threads) work is shared out in proportion to; NULL = alike */
} ag_team_opts_t;

/**
 * Start n_threads - 1 threads. With cores the caller is pinned too: threads that it starts inherit
 * its one core until ag_team_destroy(), for which the same thread has to call.
 * @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_team_create(const ag_team_opts_t *opts, ag_team_t **team_p);

/** Stop and join the threads, and give the caller back the cores that it had; NULL is allowed. No
 * region may be running. */
void ag_team_destroy(ag_team_t *team);

unsigned ag_team_size(const ag_team_t *team);

/**
 * How fast the threads are beside each other: all do the same arithmetic at once, some times for
 * 0.2 ms, and the shortest time counts.
 * @param speeds  out: (n_threads), the fastest 1000. Threads within a tenth of it count as fast.
 */
void ag_team_measure(ag_team_t *team, uint32_t *speeds);

/** Run fn on every thread of the team and return when all have finished. Only one caller at a time.
 */
void ag_team_run(ag_team_t *team, ag_region_fn_t fn, void *arg);

/** Inside a region: wait for all threads of it. */
void ag_team_barrier(const ag_worker_t *worker);

/**
 * The half-open share [*begin_p, *end_p) of n items for this worker, in whole multiples of grain
 * and in proportion to its thread's speed; what is left over goes to the first threads, a lone item
 * to thread 0. A worker without a team is one of threads alike.
 */
void ag_worker_share(const ag_worker_t *worker, uint64_t n, uint64_t grain, uint64_t *begin_p,
                     uint64_t *end_p);
