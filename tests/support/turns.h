/*
 * Ranks in one process, over net_loop: each in a thread of its own, but only one runs at a time. A
 * rank gives its turn away where it would wait; who is next is drawn from a seed.
 */
#pragma once

#include "comm/agree.h"
#include "comm/net.h"
#include "runtime/task/executor.h"

typedef struct ag_turns ag_turns_t;

/* What a rank's function is handed. */
typedef struct ag_turn {
    ag_turns_t *turns;
    ag_net_t *net;  /* the rank's; closed after its function */
    ag_idle_t idle; /* for blocking calls on the control channel */
    ag_wait_t wait; /* for the executor */
    void *arg;
} ag_turn_t;

typedef ag_status_t (*ag_rank_fn_t)(ag_turn_t *turn);

/** Run fn on n_ranks ranks to their ends. @param statuses out: (n_ranks). */
void ag_turns_run(uint32_t n_ranks, uint64_t seed, ag_rank_fn_t fn, void *arg,
                  ag_status_t *statuses);
