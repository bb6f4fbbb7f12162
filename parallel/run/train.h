/*
 * The loop of training: rows of a dataset become the micro-batches of steps, by their position
 * alone. Rank 0 runs it, the others follow; between steps all ranks write checkpoints together.
 */
#pragma once

#include "parallel/run/checkpoint.h"
#include "parallel/run/job.h"
#include "runtime/data/dataset.h"

/* How the learning rate goes over the steps, behind a warm-up along a straight line. */
typedef enum ag_lr_schedule {
    AG_LR_CONSTANT,
    AG_LR_LINEAR, /* down to 0 */
    AG_LR_COSINE, /* half a period, down to 0 */
    AG_LR_WSD,    /* constant, then over the last fifth down by 1 - sqrt (Hägele et al. 2024) */
    AG_N_LR_SCHEDULES,
} ag_lr_schedule_t;

extern const char *const ag_lr_schedule_names[AG_N_LR_SCHEDULES];

typedef struct ag_lr {
    ag_lr_schedule_t schedule;
    double most; /* behind the warm-up */
    uint64_t warmup_steps, n_steps;
} ag_lr_t;

/** @param step  from 1 to n_steps; the last one's is above 0. */
double ag_lr_at(const ag_lr_t *lr, uint64_t step);

/* What a step did. */
typedef struct ag_train_step {
    uint64_t step;
    double loss;      /* the mean over its targets, before the update */
    double grad_norm; /* before clipping */
    double lr;
    uint64_t n_targets, n_tokens;
    ag_attended_t attended;
    uint64_t ns, data_ns;    /* all of it; what reading its rows took of that */
    uint64_t peak_bytes;     /* the largest rank's, so far; 0: nobody says */
    ag_data_position_t next; /* behind its rows */
} ag_train_step_t;

typedef struct ag_train_opts {
    uint64_t done_steps; /* that the weights have had */
    uint64_t n_steps;    /* in all */
    uint64_t save_steps; /* a checkpoint behind every so many; 0: none */
    ag_saver_t *saver;   /* NULL: none */
    /** The most memory that this rank's process has had; NULL: not known. */
    uint64_t (*peak_bytes)(void);
    /** All ranks, behind the first step, its gradients are still there; may be NULL. */
    ag_status_t (*after_first)(void *arg);
    void *arg;
    /* Rank 0's alone: */
    const ag_dataset_t *data;
    ag_data_position_t position;   /* of the next row */
    const ag_dataset_t *eval_data; /* in order; NULL: none */
    uint64_t eval_steps;           /* behind every so many; 0: behind the last */
    ag_lr_t lr;
    ag_update_t update; /* its betas, eps, weight_decay, clip_norm; balance and z of a global batch,
                           as means over its micro-batches */
    ag_status_t (*on_step)(void *arg, const ag_train_step_t *step);
    ag_status_t (*on_eval)(void *arg, uint64_t step, double loss, uint64_t n_targets);
} ag_train_opts_t;

/* How it ended; the same on all ranks but for position. */
typedef struct ag_train_end {
    uint64_t done_steps;
    bool is_interrupted;
    ag_data_position_t position; /* rank 0's */
} ag_train_end_t;

/**
 * All ranks: train until the last step is done or a rank was asked to stop, which ends an
 * evaluation between two steps of it; then the job is stopped.
 * @return AG_OK, also where it was interrupted; AG_ERR_FORMAT: a loss or a gradient is no number
 *         (step, and what to try); a call's failure, or a step's. Other ranks: AG_OK where rank 0
 *         stopped for whatever reason.
 */
ag_status_t ag_train(ag_job_t *job, const ag_train_opts_t *opts, ag_train_end_t *end_p);

/** Steps of rows_each rows from a position on to the end of so many epochs; the last may go on into
 * the next one. */
uint64_t ag_train_steps_left(const ag_dataset_t *data, ag_data_position_t position, uint64_t epochs,
                             uint64_t rows_each);

/** What a checkpoint says besides its tensors. */
ag_json_t *ag_train_state(uint64_t step, ag_data_position_t position);

/** @return AG_OK, AG_ERR_FORMAT. */
ag_status_t ag_train_read_state(const ag_json_t *state, ag_data_position_t *position_p);

/**
 * All ranks: a checkpoint of what is there now, complete on return.
 * @param position  rank 0's.
 * @return the same on all ranks, as ag_saver_wait().
 */
ag_status_t ag_train_save(ag_job_t *job, ag_saver_t *saver, uint64_t step,
                          ag_data_position_t position);

/** Memory that rank 0 takes for the rows of a step. */
uint64_t ag_train_bytes(const ag_plan_t *plan);
