/* Rows of a dataset as the micro-batches of a step. */
#pragma once

#include "parallel/run/job.h"
#include "runtime/data/dataset.h"

typedef struct ag_train_batch {
    uint64_t seq_length, rows_each, n_micro_batches;
    ag_data_rows_t rows; /* (micro-batches * rows_each, seq_length) as they are read */
    /* What steps point to, (rows, seq_length) each; row_begin has one more a micro-batch. */
    int32_t *tokens, *positions, *targets, *outputs, *row_begin;
    ag_step_t *steps; /* (n_micro_batches) */
    ag_update_t update;
    /* of the rows that it holds: */
    uint64_t n_targets, n_tokens;
    ag_attended_t attended;
    const ag_spec_t *spec;
} ag_train_batch_t;

/** Bytes that ag_train_batch_init() takes. */
uint64_t ag_train_batch_bytes(const ag_plan_t *plan);

/** @param spec  borrowed. */
ag_status_t ag_train_batch_init(const ag_plan_t *plan, const ag_spec_t *spec,
                                ag_train_batch_t *batch_p);
void ag_train_batch_fini(ag_train_batch_t *batch);

/**
 * Read rows and make the steps of them. Padding is left out. Micro-batches that are left without
 * rows have one token and nothing to learn.
 * @param n_rows  at most the batch's.
 */
ag_status_t ag_train_batch_read(ag_train_batch_t *batch, const ag_dataset_t *data,
                                ag_data_position_t position, uint64_t n_rows);
