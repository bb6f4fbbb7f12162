#pragma once

#include "parallel/run/job.h"
#include "parallel/run/staging_priv.h"
#include "parallel/run/wire_priv.h"

/* The device's stream of the job itself; the others are its programs'. */
enum { AG_STREAM_JOB = AG_N_STREAMS };

/* What the host has of bytes that travel; all but the first three where it may not touch the
 * device's memory. */
typedef struct ag_staging {
    ag_region_t messages; /* begins with what collectives stage, then those of gradients */
    void *of_gradients;
    uint64_t *all_counts; /* (ranks, ranks) of the experts' group, where rows may go by host */
    uint32_t *numbers;    /* (n_slots, ranks, places) of rows, there */
    ag_region_t steps;
    unsigned char *places[AG_N_STREAMS]; /* for the buffers of each stream's operations */
    float *results;
    uint64_t slot_ints;   /* of steps: a step's, and begins of its halves' sequences */
    uint64_t begins_ints; /* of a half */
    ag_mark_t *posted;    /* (slots of the wire) the step there is at the device */
} ag_staging_t;

/* A program made executable on this rank, in one slot. */
typedef struct ag_bound {
    const ag_program_t *program;
    ag_dag_t dag;
    ag_task_t *tasks;  /* (operations) */
    void **args;       /* (operations) of the tasks; each freed */
    uint64_t *offsets; /* (buffers) */
} ag_bound_t;

/* On its way from a rank to rank 0, or there. */
typedef struct ag_stop_word {
    ag_net_request_t request;
    bool pending;
    struct {
        uint64_t asked;
        uint64_t compute_ns; /* until then */
    } said;
} ag_stop_word_t;

struct ag_job {
    ag_job_opts_t opts;
    uint32_t rank;
    ag_bound_t *bound[AG_MAX_CLASSES]; /* (n_slots) of each class */
    uint32_t n_slots;
    uint64_t slot_bytes; /* of the activations */
    ag_region_t weights, moments, kv_memory, activations, thread_scratch;
    ag_step_t *micro_batches;       /* training: of the step that runs */
    ag_before_write_t before_write; /* of weights and moments */
    ag_bad_number_t bad;
    float *gradients; /* this rank's own of the last step, parameter by parameter; NULL: not kept */
    ag_staging_t staging;
    uint64_t thread_scratch_stride;
    ag_kv_t *kv; /* (layers of the stage) */
    struct ag_gemm_cache *gemm;
    ag_execution_t *execution;
    ag_yield_t yield;
    ag_group_t **groups; /* (n_groups) NULL where this rank is not in it */
    uint32_t n_groups;
    ag_profile_t profile;
    float router_gap; /* the least yet */
    ag_wire_t wire;
    const ag_bound_t **flying; /* (n_slots) what runs there */
    uint64_t n_taken;          /* rank 0: steps whose logits were handed out */
    ag_stop_word_t *stops;     /* (ranks) on rank 0 by rank; on another its own is [0] */
    int n_listening;           /* rank 0: from ranks 1 to this they are being received, or were */
    bool stopped;              /* rank 0: all have said their last */
    bool broken;               /* a step failed, or the net between steps */
};

/** What an operation works on: its micro-batch of the run's steps. */
static inline const ag_step_t *ag_run_step(const ag_run_t *run, const ag_op_t *op)
{
    return (const ag_step_t *)run->step + op->micro_batch;
}

/** Memory that the collectives of a stream stage in. */
void *ag_job_staging(const ag_job_t *job, uint32_t stream);

/** May the next step be written over what the wire has in its slot? @param arg  the job. */
ag_status_t ag_job_slot_is_free(void *arg);

/** Attach a task to each operation, for runs in one slot. One function per kind, each in a file of
 * its own. */
ag_status_t ag_bind_program(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound_p);
void ag_bound_fini(ag_bound_t *bound);

ag_status_t ag_bind_segment(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                            uint32_t op);
ag_status_t ag_bind_message(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                            uint32_t op);
ag_status_t ag_bind_all_reduce(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op);
ag_status_t ag_bind_shared_rows(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                                uint32_t op);
ag_status_t ag_bind_shares(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                           uint32_t op);
ag_status_t ag_bind_all_to_all(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op);

/** The hosts of a group's ranks; NULL: one. */
const uint32_t *ag_programs_hosts(const ag_programs_t *programs, uint32_t group);

/** Has any of a group's hosts several of its ranks, and there are several hosts? */
bool ag_programs_may_go_by_host(const ag_programs_t *programs, uint32_t group);

/** Training: each weight's place, and that of its moments. */
void ag_job_bind_moments(ag_job_t *job);

/** Training: has the wire all micro-batches of a step? Then run them. */
bool ag_job_has_step(const ag_job_t *job);
ag_status_t ag_job_post_train(ag_job_t *job);

/** Look at what an operation wrote. */
void ag_job_look_for_bad(ag_job_t *job, const ag_bound_t *bound, const ag_op_t *op,
                         const ag_step_t *step);

/** Gradients are complete: keep a copy where that is wanted, weights come to their place. */
void ag_job_copy_gradients(ag_job_t *job);

/** Other ranks: take what rank 0 sends next, and run it where it is a whole step. */
ag_status_t ag_job_follow_next(ag_job_t *job, bool *is_over_p);

/** Other ranks, told that it is over: end what is in flight, say the last word. */
ag_status_t ag_job_follow_end(ag_job_t *job);

/** @return AG_OK; AG_ERR_INVALID: a step is larger than a class. */
ag_status_t ag_job_fits(const ag_job_t *job, const ag_step_t *step, uint32_t class);

/** Where a slot's activations begin. */
unsigned char *ag_job_slot(const ag_job_t *job, uint32_t slot);

ag_status_t ag_stop_init(ag_job_t *job);

/** Rank 0, after the stop is sent: receive the last word of each rank. */
ag_status_t ag_stop_hear_all(ag_job_t *job);

/** Other ranks, between steps: tell rank 0 if asked to stop. @param is_over  the last word. */
ag_status_t ag_stop_say(ag_job_t *job, bool is_over);

/**
 * The class that a step runs with: of one row per sequence, or of several.
 * @return AG_OK; AG_ERR_INVALID: none holds it, or the cache ends before its positions do.
 */
ag_status_t ag_job_choose(const ag_job_t *job, const ag_step_t *step, uint32_t *class_p);
