/*
 * The order of work of a pipeline: which chunk of the model meets which micro-batch when, forward
 * or backward, on each stage. A generator is a pure function of the pipeline's shape; it knows
 * nothing of ranks, threads or devices.
 */
#pragma once

#include <stdint.h>

#include "runtime/base/array.h"

typedef enum ag_work {
    AG_WORK_FORWARD,
    AG_WORK_BACKWARD, /* gradients of the input and of the weights */
    AG_WORK_WEIGHT,   /* of the weights, where they are split: then BACKWARD has the input's */
    AG_N_WORKS,
} ag_work_t;

typedef struct ag_schedule_item {
    uint16_t chunk; /* part of the model, in model order: chunk c is stage (c mod stages)'s */
    uint16_t micro_batch;
    uint16_t work; /* ag_work_t */
} ag_schedule_item_t;

typedef struct ag_pipeline_shape {
    uint32_t stages;
    uint32_t micro_batches;
    uint32_t virtual_stages; /* chunks of a stage; 0 = 1 */
} ag_pipeline_shape_t;

typedef struct ag_schedule {
    uint32_t n_stages;
    ag_array_t *stages; /* (n_stages) of ag_schedule_item_t, in order */
} ag_schedule_t;

void ag_schedule_destroy(ag_schedule_t *schedule); /* NULL is allowed */

/**
 * Split each backward work in two: gradients of the input, for which the stage before waits, and
 * right behind them those of the weights (Qi et al. 2023, "Zero Bubble Pipeline Parallelism").
 * @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_schedule_split_backward(ag_schedule_t *schedule);

typedef ag_status_t (*ag_generate_fn_t)(const ag_pipeline_shape_t *shape,
                                        ag_schedule_t **schedule_p);

/* One line per order that trains: its name is what --schedule takes. */
typedef struct ag_schedule_info {
    const char *name;
    ag_generate_fn_t generate;
} ag_schedule_info_t;

extern const ag_schedule_info_t ag_schedule_infos[];
extern const uint32_t ag_n_schedule_infos;

/** @return AG_OK; AG_ERR_INVALID: names those there are. */
ag_status_t ag_schedule_find(const char *name, const ag_schedule_info_t **info_p);

/**
 * Inference: each micro-batch goes once through all stages, and what comes out returns to rank 0,
 * which makes the next step of it: a ring.
 */
ag_status_t ag_generate_ring(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p);

/**
 * All forward, then all backward (Huang et al. 2019). Of a time t of a micro-batch's forward and
 * backward on a stage, p - 1 are idle; a stage keeps the activations of all micro-batches.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_INVALID: several chunks of a stage.
 */
ag_status_t ag_generate_gpipe(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p);

/**
 * One forward, one backward, with a flush (Narayanan et al. 2021, "PipeDream-2BW", their 1F1B): the
 * same idle time, but stage s keeps the activations of p - s micro-batches at most.
 * @return as ag_generate_gpipe().
 */
ag_status_t ag_generate_1f1b(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p);

/**
 * The same over v chunks of each stage (Narayanan et al. 2021, "Efficient Large-Scale Language
 * Model Training on GPU Clusters Using Megatron-LM"): (p - 1) / v are idle. Stage s keeps 2 (p - s
 * - 1) + (v - 1) p + 1 chunks' activations at most.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_INVALID: fewer than two chunks of a stage, or two stages, or
 *         micro-batches that are no multiple of the stages.
 */
ag_status_t ag_generate_interleaved(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p);
