#include "job.h"

#include <string.h>

int32_t likeliest(const float *logits, uint32_t vocab, float *margin_p)
{
    uint32_t best = 0;
    float next = -1e30f;

    for (uint32_t i = 1; i < vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    for (uint32_t i = 0; i < vocab; i++) {
        next = i != best && logits[i] > next ? logits[i] : next;
    }
    if (margin_p != NULL) {
        *margin_p = logits[best] - next;
    }
    return (int32_t)best;
}

/* A step of the work for some of its sequences, as arrays. */
typedef struct arrays {
    int32_t tokens[MOST_SEQUENCES * MOST_POSITIONS], positions[MOST_SEQUENCES * MOST_POSITIONS];
    int32_t outputs[MOST_SEQUENCES * MOST_POSITIONS], row_begin[MOST_SEQUENCES + 1];
    int32_t tables[MOST_SEQUENCES][MOST_POSITIONS / AG_KV_BLOCK_TOKENS];
    ag_step_t step;
} arrays_t;

/* Sequences [begin, end) of a step. */
static void fill_arrays(const work_t *work, const work_step_t *from, uint32_t begin, uint32_t end,
                        arrays_t *arrays)
{
    int32_t n = 0, n_outputs = 0;

    for (uint32_t s = begin; s < end; s++) {
        arrays->row_begin[s - begin] = n;
        for (uint32_t i = 0; i < from->n_rows[s]; i++, n++) {
            arrays->tokens[n] = work->tokens[s][from->position[s] + i];
            arrays->positions[n] = (int32_t)(from->position[s] + i);
            if (i + from->n_outputs[s] >= from->n_rows[s]) {
                arrays->outputs[n_outputs++] = n;
            }
        }
        for (uint32_t i = 0; i < MOST_POSITIONS / AG_KV_BLOCK_TOKENS; i++) {
            arrays->tables[s - begin][i] = (int32_t)(work->first_block[s] + i);
        }
    }
    arrays->row_begin[end - begin] = n;
    arrays->step = (ag_step_t){.counts = {[AG_COUNT_ONE] = 1,
                                          [AG_COUNT_TOKENS] = (uint64_t)n,
                                          [AG_COUNT_OUTPUTS] = (uint64_t)n_outputs,
                                          [AG_COUNT_SEQUENCES] = end - begin},
                               .tokens = arrays->tokens,
                               .positions = arrays->positions,
                               .row_begin = arrays->row_begin,
                               .outputs = arrays->outputs,
                               .block_tables = arrays->tables[0],
                               .table_stride = MOST_POSITIONS / AG_KV_BLOCK_TOKENS};
}

/* Keep a step's logits, and what follows from them. */
static void take_logits(run_t *run, const work_step_t *step, uint32_t begin, uint32_t end,
                        const float *logits)
{
    uint32_t vocab = run->c->model.vocab;

    for (uint32_t s = begin; s < end; s++) {
        uint32_t n = step->n_outputs[s], next = step->position[s] + step->n_rows[s];

        if (n == 0) {
            continue;
        }
        memcpy(run->logits + (size_t)step->first_output[s] * vocab, logits,
               (size_t)n * vocab * sizeof(float));
        logits += (size_t)n * vocab;
        if (run->chooses && next >= run->work->n_prompt[s] && next < run->work->n_tokens[s]) {
            run->work->tokens[s][next] = likeliest(logits - vocab, vocab, NULL);
        }
    }
}

static ag_status_t drive(ag_job_t *job, run_t *run)
{
    work_t *work = run->work;
    ag_status_t status = AG_OK;
    bool is_cancelled;
    arrays_t arrays;

    for (uint32_t i = 0; i < work->n_steps && status == AG_OK; i++) {
        const float *logits = NULL;

        status = ag_job_is_cancelled(job, &is_cancelled);
        if (status == AG_OK) {
            fill_arrays(work, &work->steps[i], 0, work->n_sequences, &arrays);
            status = ag_job_step(job, &arrays.step, &logits);
        }
        if (status == AG_OK) {
            take_logits(run, &work->steps[i], 0, work->n_sequences, logits);
        }
    }
    return status == AG_OK ? ag_job_stop(job) : status;
}

ag_status_t run_rank(ag_turn_t *turn)
{
    run_t *run = turn->arg;
    ag_rank_opts_t opts = {.model = run->c->path,
                           .plan_json = run->plan_json,
                           .last_outputs_only = run->c->last_outputs_only,
                           .has_budget = run->c->has_budget};
    ag_rank_t rank = {0};
    ag_status_t status = ag_rank_open(turn, &opts, &rank);

    status = ag_agree(turn->net, &turn->idle, status, NULL);
    if (status == AG_OK) {
        status = turn->net->rank == 0 ? drive(rank.job, run) : ag_job_follow(rank.job);
    }
    run->left_bytes += ag_rank_close(&rank);
    return status;
}
