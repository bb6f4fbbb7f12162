#include "parallel/run/sequence_priv.h"

#include <assert.h>
#include <stdlib.h>

#include "parallel/run/job_priv.h"

static_assert((int)AG_N_OP_KINDS <= (int)AG_MAX_TASK_KINDS, "a task's kind is its operation's");

/* Begin to add up what is waited in, or end it. */
static void count_waits(const ag_job_t *job, ag_phase_t *phase, bool ends)
{
    const uint64_t *waits_ns = ag_execution_waits_ns(job->execution);

    for (int kind = 0; kind < AG_N_OP_KINDS; kind++) {
        phase->waits_ns[kind] += ends ? waits_ns[kind] : -waits_ns[kind];
    }
}

ag_status_t ag_sequence_init(ag_job_t *job, ag_sequence_t *sequence_p)
{
    const ag_plan_t *plan = ag_job_plan(job);
    ag_sequence_t sequence = {.job = job, .n_blocks = ag_kv_blocks(plan->context_tokens)};
    ag_kv_pool_t pool = {0};
    ag_status_t status = ag_kv_pool_init(ag_job_kv_blocks(plan), &pool);

    sequence.blocks = calloc((size_t)sequence.n_blocks + 1, sizeof(int32_t));
    sequence.positions = calloc((size_t)plan->batch_tokens + 1, sizeof(int32_t));
    sequence.outputs = calloc((size_t)plan->batch_tokens + 1, sizeof(int32_t));
    if (status == AG_OK &&
        (sequence.blocks == NULL || sequence.positions == NULL || sequence.outputs == NULL)) {
        status = ag_fail_nomem("making a sequence", plan->batch_tokens * sizeof(int32_t));
    }
    if (status == AG_OK) {
        status = ag_kv_pool_take(&pool, sequence.n_blocks, sequence.blocks);
    }
    ag_kv_pool_fini(&pool);
    sequence.lap_ns = ag_clock_now_ns(ag_job_clock(job));
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
    free(sequence->positions);
    free(sequence->outputs);
    *sequence = (ag_sequence_t){0};
}

void ag_sequence_lap(ag_sequence_t *sequence, ag_phase_t *phase)
{
    uint64_t now_ns = ag_clock_now_ns(ag_job_clock(sequence->job));

    if (phase != NULL) {
        phase->ns += now_ns - sequence->lap_ns;
    }
    sequence->lap_ns = now_ns;
}

void ag_sequence_begin(ag_sequence_t *sequence)
{
    sequence->position = 0;
}

ag_status_t ag_sequence_step(ag_sequence_t *sequence, const int32_t *tokens, uint32_t n,
                             ag_sequence_outputs_t outputs, const float **logits_p,
                             ag_phase_t *phase)
{
    const ag_clock_t *clock = ag_job_clock(sequence->job);
    uint64_t begin_ns = ag_clock_now_ns(clock);
    uint64_t begin_compute_ns = ag_job_compute_ns(sequence->job);
    uint32_t n_outputs = outputs == AG_OUTPUT_ALL ? n : outputs == AG_OUTPUT_LAST ? 1 : 0;
    ag_step_t step = {
        .counts = {[AG_COUNT_ONE] = 1,
                   [AG_COUNT_TOKENS] = n,
                   [AG_COUNT_OUTPUTS] = n_outputs,
                   [AG_COUNT_SEQUENCES] = 1},
        .tokens = tokens,
        .positions = sequence->positions,
        .row_begin = sequence->row_begin,
        .outputs = sequence->outputs,
        .block_tables = sequence->blocks,
        .table_stride = sequence->n_blocks,
    };
    ag_status_t status;

    for (uint32_t i = 0; i < n; i++) {
        sequence->positions[i] = (int32_t)(sequence->position + i);
        phase->attended += sequence->position + i + 1;
    }
    for (uint32_t i = 0; i < n_outputs; i++) {
        sequence->outputs[i] = (int32_t)(n - n_outputs + i);
    }
    sequence->row_begin[0] = 0;
    sequence->row_begin[1] = (int32_t)n;
    count_waits(sequence->job, phase, false);
    status = ag_job_step(sequence->job, &step, logits_p);
    count_waits(sequence->job, phase, true);
    sequence->position += n;
    phase->steps++;
    phase->tokens += n;
    phase->outputs += n_outputs;
    phase->step_ns += ag_clock_now_ns(clock) - begin_ns;
    phase->compute_ns += ag_job_compute_ns(sequence->job) - begin_compute_ns;
    ag_job_take_profile(sequence->job, &phase->profile);
    return status;
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

ag_status_t ag_sequence_fail_logits(const ag_sequence_t *sequence)
{
    return ag_fail(AG_ERR_FORMAT,
                   "%s: its logits are not finite numbers: its weights may be damaged (get them "
                   "again)%s",
                   ag_model_files_path(ag_job_model(sequence->job)->files),
                   ag_job_plan(sequence->job)->compute == AG_COMPUTE_AUTO
                       ? ", or --compute f32 may help"
                       : "");
}
