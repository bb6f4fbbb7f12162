#include <math.h>

#include "parallel/run/sequence_priv.h"

typedef struct evaluation {
    ag_sequence_t sequence;
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
    uint32_t vocab = ag_job_model(e->sequence.job)->spec->vocab;
    const float *logits;
    ag_status_t status =
        ag_sequence_step(&e->sequence, tokens, n, AG_OUTPUT_ALL, &logits, &e->figures->prefill);

    if (status != AG_OK) {
        return status;
    }
    for (uint32_t i = 0; i < n_next; i++) {
        double nll = negative_log_likelihood(logits + (size_t)i * vocab, vocab, next[i]);

        if (!isfinite(nll)) {
            return ag_sequence_fail_logits(&e->sequence);
        }
        e->result->nll_sum += nll;
    }
    e->result->n_predicted += n_next;
    return e->opts->on_logits != NULL ? e->opts->on_logits(e->opts->arg, logits, n) : AG_OK;
}

static ag_status_t run_window(evaluation_t *e, const int32_t *tokens, uint32_t n_tokens)
{
    uint32_t batch = ag_job_plan(e->sequence.job)->batch_tokens;
    ag_status_t status = AG_OK;

    ag_sequence_begin(&e->sequence);
    if (e->opts->bos >= 0) {
        status = run_chunk(e, &e->opts->bos, 1, tokens, 1);
    }
    for (uint32_t done = 0; done < n_tokens && status == AG_OK;) {
        uint32_t n = n_tokens - done < batch ? n_tokens - done : batch;
        uint32_t n_next = done + n < n_tokens ? n : n - 1;
        bool cancelled;

        status = ag_job_is_cancelled(e->sequence.job, &cancelled);
        if (status == AG_OK) {
            status = cancelled ? ag_fail(AG_ERR_INTERRUPTED, "interrupted")
                               : run_chunk(e, tokens + done, n, tokens + done + 1, n_next);
        }
        done += n;
    }
    return status;
}

ag_status_t ag_eval(ag_job_t *job, const int32_t *tokens, size_t n_tokens,
                    const ag_eval_opts_t *opts, ag_eval_result_t *result, ag_run_figures_t *figures)
{
    evaluation_t e = {.opts = opts, .result = result, .figures = figures};
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
    status = ag_sequence_init(job, &e.sequence);
    if (status != AG_OK) {
        return status;
    }
    for (size_t done = 0; done < n_tokens && status == AG_OK;) {
        size_t rest = n_tokens - done;
        uint32_t n = rest < opts->window_tokens ? (uint32_t)rest : opts->window_tokens;

        status = run_window(&e, tokens + done, n);
        done += n;
    }
    ag_sequence_lap(&e.sequence, &figures->prefill);
    ag_sequence_fini(&e.sequence);
    return status;
}
