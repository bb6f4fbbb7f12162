/*
 * A job on one rank: its programs bound to its memory, weights, groups and net. Rank 0 drives: it
 * makes steps and gets logits; the others follow until told to stop.
 */
#pragma once

#include "comm/agree.h"
#include "comm/group.h"
#include "parallel/pass/build.h"
#include "runtime/device/device.h"
#include "runtime/model/kv_cache.h"
#include "runtime/task/executor.h"

typedef struct ag_job ag_job_t;

enum { AG_MAX_CLASSES = 3 };

/* The programs of a job, one per class, smallest first; of training the one that trains first. The
 * same on all ranks. */
typedef struct ag_programs {
    uint32_t n;
    ag_program_t *programs[AG_MAX_CLASSES];
    uint32_t **hosts; /* (groups) (ranks of the group) the host of each, from 0 without gaps; NULL,
                         of a group or all: one host */
} ag_programs_t;

typedef struct ag_job_opts {
    ag_build_t *build; /* borrowed, as all here; its plan and model are the job's */
    const ag_programs_t *programs;
    ag_net_t *net;
    ag_team_t *team;
    ag_device_t *device; /* its ledger has the budget */
    ag_clock_t clock;
    ag_wait_t wait;
    ag_idle_t idle;      /* how blocking calls on the control channel wait */
    const ag_isa_t *isa; /* NULL: the best that this machine has */
    ag_trace_t *trace;   /* NULL: none */
    ag_cancel_t cancel;  /* has this rank been asked to stop? */
} ag_job_opts_t;

/* A part of a rank's memory, foretold. */
typedef struct ag_memory_part {
    const char *name;
    uint64_t bytes;
    bool is_region; /* the device takes it, and enters it in the ledger */
} ag_memory_part_t;

enum { AG_MAX_MEMORY_PARTS = 16 };

typedef struct ag_memory {
    uint32_t n_parts;
    ag_memory_part_t parts[AG_MAX_MEMORY_PARTS];
} ag_memory_t;

/**
 * Build and check the programs of a plan: nothing is taken but memory for their description.
 * @param evaluates  every row of a step may be asked for; of training: there is a program, too,
 * that goes forward alone.
 * @param check        check them after each pass too.
 */
ag_status_t ag_programs_create(ag_build_t *build, bool evaluates, bool check,
                               ag_programs_t *programs_p);
void ag_programs_destroy(ag_programs_t *programs);

/**
 * Say where the ranks stand: groups over several hosts deal by host then. Once, alike on all ranks,
 * before memory is foretold or taken.
 * @param hosts  (n) the host of each rank, by any number; ranks from n on stand where the last of
 *               these does.
 * @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_programs_set_hosts(ag_programs_t *programs, const uint32_t *hosts, uint32_t n);

/** What one rank takes for weights, caches, activations, kernels and messages.
 * @param staged  its device's memory is no host's (ag_device_is_host()). */
ag_memory_t ag_memory_foretell(const ag_build_t *build, const ag_programs_t *programs,
                               uint32_t rank, uint32_t n_threads, bool staged);

/**
 * Hold what a rank takes by ag_memory_foretell() against the plan's budget for it, if it has any.
 * @return AG_OK; AG_ERR_BUDGET: names the rank, all that it takes, and the budget.
 */
ag_status_t ag_memory_check(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank,
                            uint32_t n_threads, bool staged);

/** Enter this rank's memory in the ledger, take it, read its weights, bind; nothing of it where the
 * plan's budget is exceeded. @return as the parts do. */
ag_status_t ag_job_create(const ag_job_opts_t *opts, ag_job_t **job_p);
void ag_job_destroy(ag_job_t *job); /* NULL is allowed */

/** Steps that may be in flight at once: one for each stage. */
uint32_t ag_job_slots(const ag_job_t *job);

/**
 * Rank 0: begin a step on all ranks, behind those in flight. Its sequences' rows that are in flight
 * come before those of this one.
 * @param step  copied.
 * @return AG_OK; AG_ERR_INVALID: the step is larger than every class, or ends behind its block
 *         tables, or as many are in flight as there are slots, and nothing was done; else the job
 *         is broken.
 */
ag_status_t ag_job_post(ag_job_t *job, const ag_step_t *step);

/**
 * Rank 0: wait for the oldest step in flight.
 * @param logits_p  out: (outputs, vocabulary); valid until the next step is posted or waited for.
 * @return AG_OK; else the job is broken.
 */
ag_status_t ag_job_wait(ag_job_t *job, const float **logits_p);

/** Rank 0, while nothing is in flight: ag_job_post(), ag_job_wait(). */
ag_status_t ag_job_step(ag_job_t *job, const ag_step_t *step, const float **logits_p);

/**
 * Rank 0 of a job that trains, while nothing is in flight: forward and backward through the model,
 * and the optimizer.
 * @param steps   (micro-batches of the plan) with targets and one update; copied.
 * @param totals  out: of all ranks. The weights stay what they are where one is no number.
 * @return AG_OK; else the job is broken.
 */
ag_status_t ag_job_train(ag_job_t *job, const ag_step_t *steps, float totals[AG_N_TOTALS]);

/**
 * Other ranks of a job that trains: run the next step that rank 0 makes.
 * @param update_p   out: what it has for all its micro-batches.
 * @param is_over_p  out: there is none any more, rank 0 has stopped.
 */
ag_status_t ag_job_follow_train(ag_job_t *job, ag_update_t *update_p, bool *is_over_p);

/* Where in a step numbers stop being numbers. */
typedef struct ag_bad_number {
    uint32_t is_there, is_backward;
    uint32_t order; /* of the place, forward */
    char where[52];
} ag_bad_number_t;

/** What this rank has met first in steps that look for it. */
const ag_bad_number_t *ag_job_bad_number(const ag_job_t *job);

/** Is a met before b? */
bool ag_bad_number_is_before(const ag_bad_number_t *a, const ag_bad_number_t *b);

/** In each step that trains, have what is about to change of this rank's weights and moments told,
 * by any of the team's threads; no step runs now. */
void ag_job_on_update(ag_job_t *job, ag_before_write_t before_write);

/**
 * Where gradients lie between two steps the next one's may lie, too, but where replicas share the
 * update out they make room for weights: keep a copy of each step's, which takes
 * ag_job_gradients_bytes() beyond what is foretold of a job.
 * @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_job_keep_gradients(ag_job_t *job);
uint64_t ag_job_gradients_bytes(const ag_build_t *build, uint32_t rank);

/** The gradient of one of this rank's parameters in the last step, before clipping: of the elements
 * that its optimizer changes (own_begin to own_end), once gradients are kept. */
const float *ag_job_gradient(const ag_job_t *job, uint32_t param);

/** Rank 0: has any rank been asked to stop? A failure leaves the job broken. */
ag_status_t ag_job_is_cancelled(ag_job_t *job, bool *cancelled_p);

/** Rank 0: end what is in flight, and let the others leave ag_job_follow(); nothing where the job
 * is broken. */
ag_status_t ag_job_stop(ag_job_t *job);

/** Did a step fail on this rank, or the net? Then other ranks may wait for it: nothing but the end
 * of the whole job helps. */
bool ag_job_is_broken(const ag_job_t *job);

/**
 * Rank 0, stopped: how evenly the ranks' time in segments was spread.
 * @param rank_p  out: who took longest.
 * @return the mean over the longest; 1 where nothing was computed, or before ag_job_stop().
 */
double ag_job_balance(const ag_job_t *job, uint32_t *rank_p);

/** Other ranks: run the steps that rank 0 makes until it stops. */
ag_status_t ag_job_follow(ag_job_t *job);

const ag_plan_t *ag_job_plan(const ag_job_t *job);
const ag_model_t *ag_job_model(const ag_job_t *job);
const ag_clock_t *ag_job_clock(const ag_job_t *job);

/** Time that this rank has spent computing. */
uint64_t ag_job_compute_ns(const ag_job_t *job);

/** This rank's weights, as they lie in memory; NULL where only the device may read them.
 * @param n_bytes_p  out. */
const void *ag_job_weights(const ag_job_t *job, size_t *n_bytes_p);

/** Add where this rank's time in segments went since the last call. */
void ag_job_take_profile(ag_job_t *job, ag_profile_t *profile);

/** Of all rows that this rank has routed so far the least gap between the last expert used and the
 * next one's score: what is nearer may go either way by rounding. INFINITY: it has routed none. */
float ag_job_router_gap(const ag_job_t *job);

/** Blocks of the KV cache that a plan has for which there are programs. */
uint32_t ag_job_kv_blocks(const ag_plan_t *plan);
