#include "parallel/run/train_batch.h"

#include <stdlib.h>
#include <string.h>

static uint64_t rows_of(const ag_plan_t *plan)
{
    return (uint64_t)ag_plan_micro_batches(plan) * plan->train.micro_batch_size;
}

/* Ints of all arrays of places; of rows and micro-batches a few more. */
enum { N_PLACE_ARRAYS = 8 };

uint64_t ag_train_batch_bytes(const ag_plan_t *plan)
{
    uint64_t n_rows = rows_of(plan), n = ag_plan_micro_batches(plan);

    return (N_PLACE_ARRAYS * n_rows * plan->train.sequence_tokens + 2 * n_rows + n) *
               sizeof(int32_t) +
           n * sizeof(ag_step_t);
}

ag_status_t ag_train_batch_init(const ag_plan_t *plan, const ag_spec_t *spec,
                                ag_train_batch_t *batch_p)
{
    uint64_t n_rows = rows_of(plan), n = ag_plan_micro_batches(plan);
    uint64_t n_places = n_rows * plan->train.sequence_tokens;
    ag_train_batch_t batch = {.spec = spec,
                              .seq_length = plan->train.sequence_tokens,
                              .rows_each = plan->train.micro_batch_size,
                              .n_micro_batches = n};
    int32_t **places[] = {&batch.rows.tokens, &batch.rows.targets, &batch.rows.positions,
                          &batch.tokens,      &batch.positions,    &batch.targets,
                          &batch.outputs};
    bool there = true;

    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        *places[i] = calloc(n_places, sizeof(int32_t));
        there &= *places[i] != NULL;
    }
    batch.row_begin = calloc(n_places + n, sizeof(int32_t));
    batch.rows.n_tokens = calloc(n_rows, sizeof(uint32_t));
    batch.rows.n_targets = calloc(n_rows, sizeof(uint32_t));
    batch.steps = calloc(n, sizeof(*batch.steps));
    if (!there || batch.row_begin == NULL || batch.rows.n_tokens == NULL ||
        batch.rows.n_targets == NULL || batch.steps == NULL) {
        ag_train_batch_fini(&batch);
        return ag_fail_nomem("making room for the rows of a step", ag_train_batch_bytes(plan));
    }
    *batch_p = batch;
    return AG_OK;
}

void ag_train_batch_fini(ag_train_batch_t *batch)
{
    free(batch->rows.tokens);
    free(batch->rows.targets);
    free(batch->rows.positions);
    free(batch->rows.n_tokens);
    free(batch->rows.n_targets);
    free(batch->tokens);
    free(batch->positions);
    free(batch->targets);
    free(batch->outputs);
    free(batch->row_begin);
    free(batch->steps);
    *batch = (ag_train_batch_t){0};
}

/* A micro-batch's places, in the arrays of all. */
typedef struct places {
    int32_t *tokens, *positions, *targets, *outputs, *row_begin;
    uint64_t n_tokens, n_outputs;
} places_t;

static void add_row(const ag_train_batch_t *batch, uint64_t row, places_t *places)
{
    const ag_data_rows_t *rows = &batch->rows;
    uint64_t first = row * batch->seq_length;

    for (uint64_t i = first; i < first + rows->n_tokens[row]; i++) {
        if (rows->targets[i] >= 0) {
            places->targets[places->n_outputs] = rows->targets[i];
            places->outputs[places->n_outputs++] = (int32_t)places->n_tokens;
        }
        places->tokens[places->n_tokens] = rows->tokens[i];
        places->positions[places->n_tokens++] = rows->positions[i];
    }
}

/* Documents are sequences. */
static ag_step_t step_of(ag_train_batch_t *batch, const places_t *places)
{
    uint64_t n_sequences =
        ag_data_documents(places->positions, places->n_tokens, places->row_begin);

    for (uint64_t s = 0; s < n_sequences; s++) {
        uint64_t n = (uint64_t)(places->row_begin[s + 1] - places->row_begin[s]);

        ag_spec_attend(batch->spec, 0, n, &batch->attended);
    }
    batch->n_tokens += places->n_tokens;
    batch->n_targets += places->n_outputs;
    return (ag_step_t){.counts = {[AG_COUNT_ONE] = 1,
                                  [AG_COUNT_TOKENS] = places->n_tokens,
                                  [AG_COUNT_OUTPUTS] = places->n_outputs,
                                  [AG_COUNT_SEQUENCES] = n_sequences},
                       .tokens = places->tokens,
                       .positions = places->positions,
                       .targets = places->targets,
                       .outputs = places->outputs,
                       .row_begin = places->row_begin,
                       .update = &batch->update};
}

static void make_steps(ag_train_batch_t *batch, uint64_t n_rows)
{
    uint64_t places_each = batch->rows_each * batch->seq_length;

    batch->n_tokens = batch->n_targets = 0;
    batch->attended = (ag_attended_t){0};
    for (uint64_t m = 0; m < batch->n_micro_batches; m++) {
        uint64_t first = m * batch->rows_each, at = m * places_each;
        places_t places = {.tokens = batch->tokens + at,
                           .positions = batch->positions + at,
                           .targets = batch->targets + at,
                           .outputs = batch->outputs + at,
                           .row_begin = batch->row_begin + at + m};

        for (uint64_t r = first; r < first + batch->rows_each && r < n_rows; r++) {
            add_row(batch, r, &places);
        }
        if (places.n_tokens == 0) {
            places.tokens[places.n_tokens] = places.positions[places.n_tokens] = 0;
            places.n_tokens++;
        }
        batch->steps[m] = step_of(batch, &places);
    }
}

ag_status_t ag_train_batch_read(ag_train_batch_t *batch, const ag_dataset_t *data,
                                ag_data_position_t position, uint64_t n_rows)
{
    ag_status_t status = ag_dataset_read(data, position, n_rows, &batch->rows);

    if (status == AG_OK) {
        make_steps(batch, n_rows);
    }
    return status;
}
