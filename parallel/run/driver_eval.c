#include <math.h>

#include "parallel/run/sequence_priv.h"

typedef struct evaluation {
    ag_job_t *job;
    ag_kv_pool_t pool;
    ag_sequence_t sequence;
    ag_rows_t rows;
    ag_meter_t meter;
    const ag_eval_opts_t *opts;
    ag_eval_result_t *result;
    ag_run_figures_t *figures;
} evaluation_t;

/* -log softmax(logits)[target] */
static double negative_log_likelihood(const float *logits, uint32_t vocab, int32_t target)
{
    float largest = logits[0];
    double sum = 0;

    for (uint32_t i = 1; i < vocab; i++) {
        largest = logits[i] > largest ? logits[i] : largest;
    }
    for (uint32_t i = 0; i < vocab; i++) {
        sum += exp((double)logits[i] - largest);
    }
    return log(sum) + largest - logits[target];
}

/* Run rows of a window; next is the token after each row, n_next of them have one. */
static ag_status_t run_chunk(evaluation_t *e, const int32_t *tokens, uint32_t n,
                             const int32_t *next, uint32_t n_next)
{
    uint32_t vocab = ag_job_model(e->job)->spec->vocab;
    const float *logits;
    ag_status_t status;

    ag_rows_begin(&e->rows);
    ag_rows_add(&e->rows, &e->sequence, tokens, n, AG_OUTPUT_ALL, &e->figures->prefill);
    e->figures->prefill.steps++;
    status = ag_job_step(e->job, &e->rows.step, &logits);
    if (status != AG_OK) {
        return status;
    }
    for (uint32_t i = 0; i < n_next; i++) {
        double nll = negative_log_likelihood(logits + (size_t)i * vocab, vocab, next[i]);

        if (!isfinite(nll)) {
            return ag_fail_logits(e->job);
        }
        e->result->nll_sum += nll;
    }
    e->result->n_predicted += n_next;
    return e->opts->on_logits != NULL ? e->opts->on_logits(e->opts->arg, logits, n) : AG_OK;
}

static ag_status_t run_window(evaluation_t *e, const int32_t *tokens, uint32_t n_tokens)
{
    uint32_t batch = ag_job_plan(e->job)->batch_tokens;
    ag_status_t status = AG_OK;

    e->sequence.position = 0;
    if (e->opts->bos >= 0) {
        status = run_chunk(e, &e->opts->bos, 1, tokens, 1);
    }
    for (uint32_t done = 0; done < n_tokens && status == AG_OK;) {
        uint32_t n = n_tokens - done < batch ? n_tokens - done : batch;
        uint32_t n_next = done + n < n_tokens ? n : n - 1;
        bool cancelled;

        status = ag_job_is_cancelled(e->job, &cancelled);
        if (status == AG_OK) {
            status = cancelled ? ag_fail(AG_ERR_INTERRUPTED, "interrupted")
                               : run_chunk(e, tokens + done, n, tokens + done + 1, n_next);
        }
        done += n;
    }
    return status;
}

static ag_status_t open_evaluation(evaluation_t *e)
{
    const ag_plan_t *plan = ag_job_plan(e->job);
    ag_status_t status = ag_kv_pool_init(ag_job_kv_blocks(plan), &e->pool);

    if (status == AG_OK) {
        status = ag_sequence_init(plan, &e->pool, &e->sequence);
    }
    return status == AG_OK ? ag_rows_init(plan, ag_job_model(e->job)->spec, &e->rows) : status;
}

static void close_evaluation(evaluation_t *e)
{
    ag_rows_fini(&e->rows);
    ag_sequence_fini(&e->sequence);
    ag_kv_pool_fini(&e->pool);
}

ag_status_t ag_eval(ag_job_t *job, const int32_t *tokens, size_t n_tokens,
                    const ag_eval_opts_t *opts, ag_eval_result_t *result, ag_run_figures_t *figures)
{
    evaluation_t e = {.job = job, .opts = opts, .result = result, .figures = figures};
    uint32_t context = ag_job_plan(job)->context_tokens;
    uint64_t needed = opts->window_tokens + (opts->bos >= 0 ? 1u : 0u);
    ag_status_t status = ag_check_ids(ag_job_model(job), "the text", tokens, n_tokens);

    if (status != AG_OK) {
        return status;
    }
    if (n_tokens == 0 || opts->window_tokens == 0 || needed > context) {
        return ag_fail(AG_ERR_INVALID,
                       "%zu tokens in windows of %u do not fit a context of %u: give a window of "
                       "1 to %u",
                       n_tokens, opts->window_tokens, context,
                       context - (opts->bos >= 0 ? 1u : 0u));
    }
    status = open_evaluation(&e);
    e.meter = ag_meter_begin(job);
    for (size_t done = 0; done < n_tokens && status == AG_OK;) {
        size_t rest = n_tokens - done;
        uint32_t n = rest < opts->window_tokens ? (uint32_t)rest : opts->window_tokens;

        status = run_window(&e, tokens + done, n);
        done += n;
    }
    ag_meter_lap(&e.meter, &figures->prefill);
    close_evaluation(&e);
    return status;
}
