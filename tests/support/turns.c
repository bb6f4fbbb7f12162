#include "turns.h"

#include <pthread.h>
#include <stdlib.h>

#include "comm/net_loop.h"
#include "runtime/base/philox.h"

typedef struct rank_state {
    ag_turn_t turn;
    ag_rank_fn_t fn;
    ag_status_t *status;
    pthread_t thread;
    pthread_cond_t called;
    bool ended;
} rank_state_t;

struct ag_turns {
    pthread_mutex_t lock;
    uint32_t n_ranks, current;
    uint64_t seed, n_draws;
    rank_state_t *ranks;
};

/* The turn goes to some rank that has not ended; to nobody where all have. Called with the lock
 * held. */
static void pass_turn(ag_turns_t *turns)
{
    uint32_t first =
        (uint32_t)(ag_philox_uniform(turns->seed, 1, turns->n_draws++) * (double)turns->n_ranks);

    for (uint32_t i = 0; i < turns->n_ranks; i++) {
        uint32_t next = (first + i) % turns->n_ranks;

        if (!turns->ranks[next].ended) {
            turns->current = next;
            pthread_cond_signal(&turns->ranks[next].called);
            return;
        }
    }
}

static void await_turn(ag_turns_t *turns, uint32_t rank)
{
    while (turns->current != rank) {
        pthread_cond_wait(&turns->ranks[rank].called, &turns->lock);
    }
}

static void give_way(void *arg)
{
    ag_turn_t *turn = arg;

    pass_turn(turn->turns);
    await_turn(turn->turns, (uint32_t)turn->net->rank);
}

static void give_way_waiting(void *arg, uint64_t waited_ns)
{
    (void)waited_ns;
    give_way(arg);
}

static void *run_rank(void *arg)
{
    rank_state_t *rank = arg;
    ag_turns_t *turns = rank->turn.turns;

    pthread_mutex_lock(&turns->lock);
    await_turn(turns, (uint32_t)rank->turn.net->rank);
    *rank->status = rank->fn(&rank->turn);
    ag_net_close(rank->turn.net);
    rank->ended = true;
    pass_turn(turns);
    pthread_mutex_unlock(&turns->lock);
    return NULL;
}

void ag_turns_run(uint32_t n_ranks, uint64_t seed, ag_rank_fn_t fn, void *arg,
                  ag_status_t *statuses)
{
    ag_turns_t turns = {.n_ranks = n_ranks, .seed = seed, .current = n_ranks};
    ag_net_t **nets = calloc(n_ranks, sizeof(*nets));

    pthread_mutex_init(&turns.lock, NULL);
    turns.ranks = calloc(n_ranks, sizeof(*turns.ranks));
    if (nets == NULL || turns.ranks == NULL || ag_net_loop_create((int)n_ranks, nets) != AG_OK) {
        abort();
    }
    pthread_mutex_lock(&turns.lock);
    for (uint32_t r = 0; r < n_ranks; r++) {
        rank_state_t *rank = &turns.ranks[r];

        *rank = (rank_state_t){.turn = {.turns = &turns, .net = nets[r], .arg = arg},
                               .fn = fn,
                               .status = &statuses[r]};
        rank->turn.idle = (ag_idle_t){.fn = give_way, .arg = &rank->turn};
        rank->turn.wait = (ag_wait_t){.idle = give_way_waiting, .arg = &rank->turn};
        pthread_cond_init(&rank->called, NULL);
        if (pthread_create(&rank->thread, NULL, run_rank, rank) != 0) {
            abort();
        }
    }
    pass_turn(&turns);
    pthread_mutex_unlock(&turns.lock);
    for (uint32_t r = 0; r < n_ranks; r++) {
        pthread_join(turns.ranks[r].thread, NULL);
        pthread_cond_destroy(&turns.ranks[r].called);
    }
    pthread_mutex_destroy(&turns.lock);
    free(turns.ranks);
    free(nets);
}
