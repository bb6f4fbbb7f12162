/*
 * A cluster in one process. Its ranks are coroutines on one thread: one goes on until it would
 * wait, or posts a message, and who is next is drawn from a seed. So are the ways of messages: some
 * leave their sender's memory at once, some when they are received, in pieces that arrive in any
 * order, after a time by the cluster's own clock, which goes on only when nobody else does. Nothing
 * depends on the machine: the same seed gives the same run.
 */
#pragma once

#include "comm/agree.h"
#include "comm/net.h"
#include "runtime/task/executor.h"

/* What a rank's function is handed. */
typedef struct ag_turn {
    ag_net_t *net;    /* the rank's; closed after its function */
    ag_idle_t idle;   /* for blocking calls on the control channel */
    ag_wait_t wait;   /* for the executor */
    ag_idle_t work;   /* to be called when the rank has work, or did some, that is not seen from the
                         cluster: then it is not stuck */
    ag_clock_t clock; /* the cluster's */
    void *arg;
} ag_turn_t;

typedef ag_status_t (*ag_rank_fn_t)(ag_turn_t *turn);

enum { AG_TURNS_TEXT_BYTES = 512 };

/* How a rank ended. */
typedef struct ag_turns_end {
    ag_status_t status;
    char error[AG_TURNS_TEXT_BYTES]; /* its record, where the status is a failure */
    uint64_t n_calls;                /* that it made to its net */
    bool is_told;                    /* a call of it failed because a rank has died */
} ag_turns_end_t;

typedef struct ag_turns_opts {
    uint32_t n_ranks;
    uint64_t seed;
    /*
     * A rank that dies at one of its calls to the net, from 0. The others are told a while after:
     * then all that they have under way fails with AG_ERR_PEER, "rank 3 has died". When they have
     * ended, the dead one's function is let go on, cut off from all, to release what it holds.
     */
    bool has_death;
    uint32_t dead_rank;
    uint64_t death_call;
} ag_turns_opts_t;

/**
 * Run fn on every rank to its end. When nobody can go on and no message is under way, every call
 * that waits fails with AG_ERR_TIMEOUT, and names what each rank waits for.
 * @param ends  out: (n_ranks).
 */
void ag_turns_play(const ag_turns_opts_t *opts, ag_rank_fn_t fn, void *arg, ag_turns_end_t *ends);

/** The same where nobody dies. @param statuses  out: (n_ranks). */
void ag_turns_run(uint32_t n_ranks, uint64_t seed, ag_rank_fn_t fn, void *arg,
                  ag_status_t *statuses);
