#pragma once

#include "parallel/schedule/schedule.h"

/** Stages without work; of numbers that 16 bits hold. @return AG_OK, AG_ERR_INVALID, AG_ERR_NOMEM.
 */
ag_status_t ag_schedule_create(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p);

/** Append to a stage's list. */
ag_status_t ag_schedule_add(ag_schedule_t *schedule, uint32_t stage, ag_schedule_item_t item);

/** Refuse several chunks of a stage. @param name  of the order. */
ag_status_t ag_schedule_need_one_chunk(const ag_pipeline_shape_t *shape, const char *name);

/* An order in which every stage goes some way ahead forward, and then has a backward behind each
 * forward. */
typedef struct ag_alternating {
    uint32_t (*n_works)(const ag_pipeline_shape_t *shape); /* of a stage, of each kind */
    uint32_t (*ahead)(const ag_pipeline_shape_t *shape, uint32_t stage);
    /** What a stage's i-th work of a kind is. */
    ag_schedule_item_t (*item)(const ag_pipeline_shape_t *shape, uint32_t stage, ag_work_t work,
                               uint32_t i);
} ag_alternating_t;

ag_status_t ag_schedule_alternate(const ag_pipeline_shape_t *shape, const ag_alternating_t *order,
                                  ag_schedule_t **schedule_p);

/* Where a stage is one chunk of the model: n_works and item. */
uint32_t ag_schedule_micro_batches(const ag_pipeline_shape_t *shape);
ag_schedule_item_t ag_schedule_whole_stage(const ag_pipeline_shape_t *shape, uint32_t stage,
                                           ag_work_t work, uint32_t i);
