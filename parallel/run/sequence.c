#include "parallel/run/sequence_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/job_priv.h"

static_assert((int)AG_N_OP_KINDS <= (int)AG_MAX_TASK_KINDS, "a task's kind is its operation's");

ag_status_t ag_sequence_init(const ag_plan_t *plan, ag_kv_pool_t *pool, ag_sequence_t *sequence_p)
{
    ag_sequence_t sequence = {.n_blocks = ag_kv_blocks(plan->context_tokens)};
    ag_status_t status;

    sequence.blocks = calloc(sequence.n_blocks, sizeof(int32_t));
    if (sequence.blocks == NULL) {
        return ag_fail_nomem("making a sequence", sequence.n_blocks * sizeof(int32_t));
    }
    status = ag_kv_pool_take(pool, sequence.n_blocks, sequence.blocks);
    if (status != AG_OK) {
        ag_sequence_fini(&sequence);
        return status;
    }
    *sequence_p = sequence;
    return AG_OK;
}

void ag_sequence_fini(ag_sequence_t *sequence)
{
    free(sequence->blocks);
    *sequence = (ag_sequence_t){0};
}

uint64_t ag_sequence_bytes(const ag_plan_t *plan)
{
    return ag_kv_blocks(plan->context_tokens) * sizeof(int32_t);
}

/* Rows that a step has at most. */
static uint64_t rows_of(const ag_plan_t *plan)
{
    uint32_t n_sequences = ag_plan_step_sequences(plan);

    return plan->batch_tokens > n_sequences ? plan->batch_tokens : n_sequences;
}

uint64_t ag_rows_bytes(const ag_plan_t *plan)
{
    uint64_t n_sequences = ag_plan_step_sequences(plan);

    return (3 * rows_of(plan) + n_sequences + 1) * sizeof(int32_t) +
           n_sequences * ag_sequence_bytes(plan);
}

ag_status_t ag_rows_init(const ag_plan_t *plan, const ag_spec_t *spec, ag_rows_t *rows_p)
{
    size_t n_sequences = ag_plan_step_sequences(plan);
    size_t n_blocks = ag_kv_blocks(plan->context_tokens);
    size_t n = rows_of(plan);
    ag_rows_t rows = {.spec = spec,
                      .tokens = calloc(n, sizeof(int32_t)),
                      .positions = calloc(n, sizeof(int32_t)),
                      .outputs = calloc(n, sizeof(int32_t)),
                      .row_begin = calloc(n_sequences + 1, sizeof(int32_t)),
                      .tables = calloc(n_sequences * n_blocks, sizeof(int32_t))};

    if (rows.tokens == NULL || rows.positions == NULL || rows.outputs == NULL ||
        rows.row_begin == NULL || rows.tables == NULL) {
        ag_rows_fini(&rows);
        return ag_fail_nomem("making steps", ag_rows_bytes(plan));
    }
    rows.step = (ag_step_t){.tokens = rows.tokens,
                            .positions = rows.positions,
                            .row_begin = rows.row_begin,
                            .outputs = rows.outputs,
                            .block_tables = rows.tables,
                            .table_stride = (uint32_t)n_blocks};
    ag_rows_begin(&rows);
    *rows_p = rows;
    return AG_OK;
}

void ag_rows_fini(ag_rows_t *rows)
{
    free(rows->tokens);
    free(rows->positions);
    free(rows->outputs);
    free(rows->row_begin);
    free(rows->tables);
    *rows = (ag_rows_t){0};
}

void ag_rows_begin(ag_rows_t *rows)
{
    memset(rows->step.counts, 0, sizeof(rows->step.counts));
    rows->step.counts[AG_COUNT_ONE] = 1;
}

void ag_rows_add(ag_rows_t *rows, ag_sequence_t *sequence, const int32_t *tokens, uint32_t n,
                 ag_sequence_outputs_t outputs, ag_phase_t *phase)
{
    uint64_t *counts = rows->step.counts, row = counts[AG_COUNT_TOKENS];
    uint32_t n_outputs = outputs == AG_OUTPUT_ALL ? n : outputs == AG_OUTPUT_LAST ? 1 : 0;

    for (uint32_t i = 0; i < n; i++) {
        rows->tokens[row + i] = tokens[i];
        rows->positions[row + i] = (int32_t)(sequence->position + i);
    }
    ag_spec_attend(rows->spec, sequence->position, n, &phase->attended);
    for (uint32_t i = n - n_outputs; i < n; i++) {
        rows->outputs[counts[AG_COUNT_OUTPUTS]++] = (int32_t)(row + i);
    }
    memcpy(rows->tables + counts[AG_COUNT_SEQUENCES] * rows->step.table_stride, sequence->blocks,
           sequence->n_blocks * sizeof(int32_t));
    counts[AG_COUNT_TOKENS] += n;
    rows->row_begin[++counts[AG_COUNT_SEQUENCES]] = (int32_t)counts[AG_COUNT_TOKENS];
    sequence->position += n;
    phase->tokens += n;
    phase->outputs += n_outputs;
    phase->sequences++;
}

ag_meter_t ag_meter_begin(ag_job_t *job)
{
    ag_meter_t meter = {.job = job};

    ag_meter_lap(&meter, NULL);
    return meter;
}

void ag_meter_lap(ag_meter_t *meter, ag_phase_t *phase)
{
    const uint64_t *waits_ns = ag_execution_waits_ns(meter->job->execution);
    uint64_t now_ns = ag_clock_now_ns(ag_job_clock(meter->job));
    uint64_t compute_ns = ag_job_compute_ns(meter->job);
    ag_profile_t profile = {0};

    ag_job_take_profile(meter->job, phase != NULL ? &phase->profile : &profile);
    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        if (phase != NULL) {
            phase->waits_ns[kind] += waits_ns[kind] - meter->waits_ns[kind];
        }
        meter->waits_ns[kind] = waits_ns[kind];
    }
    if (phase != NULL) {
        phase->ns += now_ns - meter->lap_ns;
        phase->compute_ns += compute_ns - meter->compute_ns;
    }
    meter->lap_ns = now_ns;
    meter->compute_ns = compute_ns;
}

ag_status_t ag_check_ids(const ag_model_t *model, const char *what, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= model->spec->vocab) {
            return ag_fail(AG_ERR_INVALID, "%s: token %zu is id %d, but %s has the ids 0 to %u",
                           what, i, ids[i], ag_model_files_path(model->files),
                           model->spec->vocab - 1);
        }
    }
    return AG_OK;
}

ag_status_t ag_fail_logits(const ag_job_t *job)
{
    return ag_fail(AG_ERR_FORMAT,
                   "%s: its logits are not finite numbers: its weights may be damaged (get them "
                   "again)%s",
                   ag_model_files_path(ag_job_model(job)->files),
                   ag_job_plan(job)->compute == AG_COMPUTE_AUTO ? ", or --compute f32 may help"
                                                                : "");
}
