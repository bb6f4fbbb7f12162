#pragma once

#include "parallel/run/job.h"

/* A program made executable on this rank. */
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
    ag_bound_t bound[2];
    ag_region_t weights, kv_memory, activations, thread_scratch, staging;
    uint64_t thread_scratch_stride;
    ag_kv_t *kv; /* (layers of the stage) */
    struct ag_gemm_cache *gemm;
    ag_execution_t *execution;
    ag_yield_t yield;
    ag_group_t **groups; /* (n_groups) NULL where this rank is not in it */
    uint32_t n_groups;
    ag_profile_t profile;
    int32_t *wire; /* a step on its way to the other ranks */
    size_t wire_ints;
    ag_stop_word_t *stops; /* (ranks) on rank 0 by rank; on another its own is [0] */
    int n_listening;       /* rank 0: from ranks 1 to this they are being received, or were */
    bool stopped;          /* rank 0: all have said their last */
    bool broken;           /* a step failed, or the net between steps */
};

/** Attach a task to each operation. One function per kind, each in a file of its own. */
ag_status_t ag_bind_program(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound_p);
void ag_bound_fini(ag_bound_t *bound);

ag_status_t ag_bind_segment(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                            uint32_t op);
ag_status_t ag_bind_message(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                            uint32_t op);
ag_status_t ag_bind_all_reduce(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                               uint32_t op);

/** Ints that a step of these bounds takes on the wire, at most. */
size_t ag_wire_ints(const ag_plan_t *plan, const uint64_t *bounds);

/** Blocks of the cache that a sequence of the step uses, at most. */
uint32_t ag_wire_blocks(const ag_step_t *step);

/** Rank 0: a step that some class holds to every other rank; NULL says stop. */
ag_status_t ag_wire_send(ag_job_t *job, const ag_step_t *step);

/** Other ranks: the next step, its arrays in job->wire. @param stop_p out: there is none. */
ag_status_t ag_wire_recv(ag_job_t *job, ag_step_t *step, bool *stop_p);

ag_status_t ag_stop_init(ag_job_t *job);

/** Rank 0, after the stop is sent: receive the last word of each rank. */
ag_status_t ag_stop_hear_all(ag_job_t *job);

/** Other ranks, between steps: tell rank 0 if asked to stop. @param is_over  the last word. */
ag_status_t ag_stop_say(ag_job_t *job, bool is_over);

/**
 * The smallest class that holds a step.
 * @return AG_OK; AG_ERR_INVALID: none does, or the cache ends before its positions do.
 */
ag_status_t ag_job_choose(const ag_job_t *job, const ag_step_t *step, const ag_bound_t **bound_p);
