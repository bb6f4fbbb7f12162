/*
 * The order of work of a pipeline: which chunk of the model meets which micro-batch when, on each
 * stage. A generator is a pure function of the pipeline's shape; it knows nothing of ranks, threads
 * or devices.
 */
#pragma once

#include <stdint.h>

#include "runtime/base/array.h"

typedef struct ag_schedule_item {
    uint16_t chunk; /* part of the model */
    uint16_t micro_batch;
} ag_schedule_item_t; /* a forward pass */

typedef struct ag_pipeline_shape {
    uint32_t stages;
    uint32_t micro_batches;
} ag_pipeline_shape_t;

typedef struct ag_schedule {
    uint32_t n_stages;
    ag_array_t *stages; /* (n_stages) of ag_schedule_item_t, in order */
} ag_schedule_t;

void ag_schedule_destroy(ag_schedule_t *schedule); /* NULL is allowed */

/**
 * Inference: each micro-batch goes once through all stages, and what comes out returns to rank 0,
 * which makes the next step of it: a ring.
 */
ag_status_t ag_generate_ring(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p);
