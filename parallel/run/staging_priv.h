/*
 * Tasks in stages, so that bytes can travel where the host may not touch the device's memory: out
 * of it, on their way, and in again. Where it may, they travel from where they lie, and the first
 * and the last are nothing.
 */
#pragma once

#include "comm/group.h"
#include "parallel/program/program.h"
#include "runtime/device/device.h"
#include "runtime/kernel/step.h"
#include "runtime/task/executor.h"

struct ag_bound;
struct ag_job;

/* What a task does, and then waits for: this, and what it has queued on the device. */
typedef struct ag_task_stage {
    ag_status_t (*begin)(void *arg, const ag_run_t *run); /* NULL: behind the last stage */
    ag_status_t (*test)(void *arg); /* where begin says AG_PENDING; else NULL */
} ag_task_stage_t;

/* The first field of a task that has stages. */
typedef struct ag_staged {
    struct ag_job *job;
    uint32_t stream;
    const ag_task_stage_t *stages;
    uint32_t at;    /* the stage under way */
    bool is_posted; /* its test is to be asked */
    bool is_queued; /* work of the device, up to: */
    ag_mark_t mark;
    uint64_t n_taken; /* bytes of the stream's place */
} ag_staged_t;

/* A task whose stages post a collective begins with this. */
typedef struct ag_staged_group {
    ag_staged_t staged;
    const ag_op_t *op;
    ag_group_t *group;
    ag_collective_request_t *request;
} ag_staged_group_t;

/**
 * Make a task of an operation; it is the bound program's from here on.
 * @param task  begins with an ag_staged_t.
 * @param op    of the rank's program; number `at`.
 */
void ag_staged_bind(struct ag_bound *bound, uint32_t at, const ag_op_t *op, const char *name,
                    uint32_t detail, void *task);

/** The same of one that posts a collective, whose first fields are filled here. */
void ag_staged_group_bind(struct ag_job *job, const ag_program_t *program, struct ag_bound *bound,
                          uint32_t at, const ag_task_stage_t *stages, const char *name,
                          ag_staged_group_t *task);

/** In a stage: post it; its test is the stage's. @param memory  but for what it stages in. */
ag_status_t ag_staged_group_post(ag_staged_group_t *task, const ag_transfer_shape_t *shape,
                                 ag_collective_memory_t memory);
ag_status_t ag_staged_group_test(void *task);

/** Where the host has what stands, or is to stand, in the device's memory, until the task is
 * complete: there, if it may; else in the stream's place, which holds all buffers that an operation
 * uses. */
unsigned char *ag_staged_place(ag_staged_t *staged, unsigned char *device, uint64_t bytes);

/* In a stage: bring bytes to such a place, or from it. */
ag_status_t ag_staged_out(ag_staged_t *staged, void *host, const void *device, uint64_t bytes);
ag_status_t ag_staged_in(ag_staged_t *staged, void *device, const void *host, uint64_t bytes);

/** In a stage: a region behind what is queued on the stream. */
ag_status_t ag_staged_launch(ag_staged_t *staged, ag_region_fn_t fn, void *arg);

/** Take the memory of messages and, where they are not read in place, of steps and results. */
ag_status_t ag_staging_init(struct ag_job *job);

/** Wait for all that the job has queued, and give the memory back. */
void ag_staging_fini(struct ag_job *job);

/** May the slot of the next step be written to? AG_PENDING: the device still copies from it. */
ag_status_t ag_staging_is_free(struct ag_job *job);

/** Bring the step that the wire had last to the device. */
ag_status_t ag_staging_post_step(struct ag_job *job);

/**
 * A step whose arrays are where the device reads them, for what is queued on the task's stream from
 * now on.
 * @param rows  the operation's step in the run; where it works on half of that, this half, with a
 *              row_begin of its own that stays until the task is complete.
 */
ag_status_t ag_staging_take_step(ag_staged_t *staged, const ag_run_t *run, const ag_op_t *op,
                                 const ag_step_t *rows, ag_step_t *step_p);

/**
 * Rank 0: what a run that is complete has left in the output buffer.
 * @param results_p  out: there, or in memory of the host; until the next run begins or is read.
 */
ag_status_t ag_staging_read_results(struct ag_job *job, uint32_t slot, uint64_t bytes,
                                    const float **results_p);
