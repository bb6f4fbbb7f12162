#include "parallel/run/sequence_priv.h"

typedef struct generation {
    ag_sequence_t sequence;
    ag_sampler_t *sampler;
    const ag_generate_opts_t *opts;
    ag_run_figures_t *figures;
    ag_array_t *tokens;
    const float *logits;
} generation_t;

static ag_status_t prefill(generation_t *g, const int32_t *prompt, size_t n_prompt,
                           bool *cancelled_p)
{
    const ag_plan_t *plan = ag_job_plan(g->sequence.job);

    for (size_t done = 0; done < n_prompt;) {
        size_t rest = n_prompt - done;
        uint32_t n = rest < plan->batch_tokens ? (uint32_t)rest : plan->batch_tokens;
        ag_status_t status = ag_job_is_cancelled(g->sequence.job, cancelled_p);

        if (status != AG_OK || *cancelled_p) {
            return status;
        }
        status = ag_sequence_step(&g->sequence, prompt + done, n,
                                  n == rest ? AG_OUTPUT_LAST : AG_OUTPUT_NONE, &g->logits,
                                  &g->figures->prefill);
        if (status != AG_OK) {
            return status;
        }
        done += n;
    }
    return AG_OK;
}

static ag_status_t pick(generation_t *g, uint64_t index, int32_t *id_p, ag_phase_t *phase)
{
    const ag_clock_t *clock = ag_job_clock(g->sequence.job);
    uint64_t begin_ns = ag_clock_now_ns(clock);
    ag_status_t status = ag_sampler_pick(g->sampler, g->logits, index, id_p);

    phase->sampling_ns += ag_clock_now_ns(clock) - begin_ns;
    return status;
}

/*
 * Take the token that the logits give: it belongs to the phase that they come from, in its time
 * too.
 * @param stop_p out: whether it was the last.
 */
static ag_status_t take_token(generation_t *g, uint64_t index, int32_t *id_p, bool *ended_p,
                              ag_stop_t *stop_p, ag_phase_t *phase)
{
    const ag_driver_calls_t *calls = &g->opts->calls;
    ag_status_t status = pick(g, index, id_p, phase);

    *ended_p = false;
    if (status != AG_OK) {
        return status == AG_ERR_FORMAT ? ag_sequence_fail_logits(&g->sequence) : status;
    }
    if (!g->opts->ignore_end && calls->is_end != NULL && calls->is_end(calls->arg, *id_p)) {
        *ended_p = true;
        *stop_p = AG_STOP_END;
        return AG_OK;
    }
    ag_sampler_see(g->sampler, *id_p);
    status = ag_array_append(g->tokens, id_p, 1);
    if (status == AG_OK && calls->on_token != NULL && calls->on_token(calls->arg, *id_p, &status)) {
        *ended_p = true;
        *stop_p = AG_STOP_TEXT;
    }
    return status;
}

static ag_status_t decode(generation_t *g, ag_stop_t *stop_p)
{
    const ag_plan_t *plan = ag_job_plan(g->sequence.job);

    for (uint64_t i = 0; i < g->opts->max_tokens; i++) {
        ag_phase_t *phase = i == 0 ? &g->figures->prefill : &g->figures->decode;
        int32_t id;
        bool ended, cancelled;
        ag_status_t status = take_token(g, i, &id, &ended, stop_p, phase);

        ag_sequence_lap(&g->sequence, phase);
        if (g->opts->calls.pause != NULL) {
            g->opts->calls.pause(g->opts->calls.arg);
            ag_sequence_lap(&g->sequence, NULL);
        }
        if (status != AG_OK || ended) {
            return status;
        }
        if (i + 1 == g->opts->max_tokens || g->sequence.position >= plan->context_tokens) {
            break;
        }
        status = ag_job_is_cancelled(g->sequence.job, &cancelled);
        if (status != AG_OK || cancelled) {
            *stop_p = AG_STOP_INTERRUPTED;
            return status;
        }
        status =
            ag_sequence_step(&g->sequence, &id, 1, AG_OUTPUT_LAST, &g->logits, &g->figures->decode);
        if (status != AG_OK) {
            return status;
        }
    }
    *stop_p = AG_STOP_LENGTH;
    return AG_OK;
}

ag_status_t ag_generate(ag_job_t *job, ag_sampler_t *sampler, const int32_t *prompt,
                        size_t n_prompt, const ag_generate_opts_t *opts, ag_array_t *tokens,
                        ag_stop_t *stop_p, ag_run_figures_t *figures)
{
    generation_t g = {.sampler = sampler, .opts = opts, .figures = figures, .tokens = tokens};
    uint32_t context = ag_job_plan(job)->context_tokens;
    bool cancelled = false;
    ag_status_t status = ag_check_ids(ag_job_model(job), "the prompt", prompt, n_prompt);

    if (status != AG_OK) {
        return status;
    }
    if (n_prompt == 0) {
        return ag_fail(AG_ERR_INVALID, "the prompt is empty: give at least one token");
    }
    if (n_prompt > context) {
        return ag_fail(AG_ERR_INVALID,
                       "the prompt has %zu tokens, the context %u: shorten it, or give a larger "
                       "--context",
                       n_prompt, context);
    }
    status = ag_sequence_init(job, &g.sequence);
    if (status != AG_OK) {
        return status;
    }
    ag_sampler_begin(sampler, opts->stream);
    for (size_t i = 0; i < n_prompt; i++) {
        ag_sampler_see(sampler, prompt[i]);
    }
    *stop_p = AG_STOP_INTERRUPTED;
    status = prefill(&g, prompt, n_prompt, &cancelled);
    ag_sequence_lap(&g.sequence, &figures->prefill);
    if (status == AG_OK && !cancelled) {
        status = decode(&g, stop_p);
    }
    ag_sequence_fini(&g.sequence);
    return status;
}
