/*
 * Tokens that are all known beforehand: chunks of a prompt, then a row at a time, as a generation
 * that makes just them. As many steps are in flight as there are slots.
 */
#include "parallel/run/sequence_priv.h"

typedef struct replay {
    ag_job_t *job;
    const ag_replay_opts_t *opts;
    ag_kv_pool_t pool;
    ag_sequence_t sequence;
    ag_rows_t rows;
    uint64_t n_posted, n_taken; /* tokens */
} replay_t;

/* Tokens of the step that begins at one. */
static uint32_t step_at(const replay_t *r, uint64_t token)
{
    uint64_t rest = token < r->opts->n_prefill ? r->opts->n_prefill - token : 1;

    return rest < r->opts->chunk_tokens ? (uint32_t)rest : r->opts->chunk_tokens;
}

static ag_status_t post_step(replay_t *r)
{
    uint32_t n = step_at(r, r->n_posted);
    ag_phase_t phase = {0};

    ag_rows_begin(&r->rows);
    ag_rows_add(&r->rows, &r->sequence, r->opts->tokens + r->n_posted, n, AG_OUTPUT_ALL, &phase);
    r->n_posted += n;
    return ag_job_post(r->job, &r->rows.step);
}

static ag_status_t take_step(replay_t *r)
{
    uint32_t n = step_at(r, r->n_taken);
    const float *logits;
    ag_status_t status = ag_job_wait(r->job, &logits);

    if (status == AG_OK) {
        status = r->opts->on_logits(r->opts->arg, r->n_taken, logits, n);
    }
    r->n_taken += n;
    return status;
}

static ag_status_t run(replay_t *r)
{
    ag_status_t status = AG_OK;
    uint32_t n_flying = 0;
    bool cancelled;

    while (r->n_taken < r->opts->n_tokens && status == AG_OK) {
        if (r->n_posted < r->opts->n_tokens && n_flying < ag_job_slots(r->job)) {
            status = ag_job_is_cancelled(r->job, &cancelled);
            if (status == AG_OK) {
                status = cancelled ? ag_fail(AG_ERR_INTERRUPTED, "interrupted") : post_step(r);
            }
            n_flying++;
        } else {
            status = take_step(r);
            n_flying--;
        }
    }
    return status;
}

static ag_status_t check(const replay_t *r)
{
    const ag_plan_t *plan = ag_job_plan(r->job);
    const ag_replay_opts_t *opts = r->opts;

    if (opts->n_prefill > opts->n_tokens || opts->n_tokens > plan->context_tokens ||
        opts->chunk_tokens == 0 || opts->chunk_tokens > plan->batch_tokens) {
        return ag_fail(AG_ERR_INVALID,
                       "%llu tokens, %llu of them in chunks of %u, do not fit a context of %u in "
                       "chunks of %u",
                       (unsigned long long)opts->n_tokens, (unsigned long long)opts->n_prefill,
                       opts->chunk_tokens, plan->context_tokens, plan->batch_tokens);
    }
    return ag_check_ids(ag_job_model(r->job), "the tokens", opts->tokens, opts->n_tokens);
}

ag_status_t ag_replay(ag_job_t *job, const ag_replay_opts_t *opts)
{
    const ag_plan_t *plan = ag_job_plan(job);
    replay_t r = {.job = job, .opts = opts};
    ag_status_t status = check(&r);

    if (status != AG_OK) {
        return status;
    }
    status = ag_kv_pool_init(ag_job_kv_blocks(plan), &r.pool);
    if (status == AG_OK) {
        status = ag_sequence_init(plan, &r.pool, &r.sequence);
    }
    if (status == AG_OK) {
        status = ag_rows_init(plan, ag_job_model(job)->spec, &r.rows);
    }
    if (status == AG_OK) {
        status = run(&r);
    }
    ag_rows_fini(&r.rows);
    ag_sequence_fini(&r.sequence);
    ag_kv_pool_fini(&r.pool);
    return status;
}
