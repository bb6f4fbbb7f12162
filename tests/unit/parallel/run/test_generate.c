/* Many prompts at once, over any split: each gets the tokens that it gets alone. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/driver.h"
#include "runtime/base/philox.h"
#include "support.h"

enum { N_PROMPTS = 7, MOST_PROMPT = 40, MOST_TOKENS = 12, NO_END = -1 };

/* Prompts, how they are answered, and what came of it on rank 0. */
typedef struct together {
    work_t work;
    int32_t prompts[N_PROMPTS][MOST_PROMPT];
    size_t n_prompt[N_PROMPTS];
    ag_sampling_t sampling;
    int32_t end;         /* an end token, or none */
    uint32_t stop_after; /* tokens; then the run is interrupted. 0: never */
    int32_t answers[N_PROMPTS][MOST_TOKENS];
    size_t n_answer[N_PROMPTS];
    ag_stop_t stops[N_PROMPTS];
    uint32_t n_tokens, n_done;
    uint64_t n_steps;
} together_t;

static bool is_end(void *arg, int32_t id)
{
    return id == ((together_t *)arg)->end;
}

static bool on_token(void *arg, ag_answer_t *answer, int32_t id, ag_status_t *status)
{
    (void)answer;
    (void)id;
    (void)status;
    ((together_t *)arg)->n_tokens++;
    return false;
}

static ag_status_t on_answer(void *arg, ag_answer_t *answer)
{
    together_t *together = arg;

    together->stops[answer->stream] = answer->stop;
    together->n_done++;
    return AG_OK;
}

static bool is_asked(void *arg)
{
    const together_t *together = arg;

    return together->stop_after > 0 && together->n_tokens >= together->stop_after;
}

static ag_status_t answer_all(together_t *together, ag_job_t *job)
{
    ag_answer_t answers[N_PROMPTS];
    ag_run_figures_t figures = {0};
    ag_generate_opts_t opts = {
        .sampling = &together->sampling,
        .max_tokens = MOST_TOKENS,
        .calls = {.on_token = on_token, .is_end = is_end, .on_answer = on_answer, .arg = together}};
    ag_status_t status;

    for (size_t i = 0; i < N_PROMPTS; i++) {
        answers[i] = (ag_answer_t){.prompt = together->prompts[i],
                                   .n_prompt = together->n_prompt[i],
                                   .stream = i,
                                   .tokens = AG_ARRAY(int32_t)};
    }
    status = ag_generate(job, answers, N_PROMPTS, &opts, &figures);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        together->n_answer[i] = answers[i].tokens.n_items;
        together->stops[i] = answers[i].stop;
        if (together->n_answer[i] > 0) {
            memcpy(together->answers[i], answers[i].tokens.items,
                   together->n_answer[i] * sizeof(int32_t));
        }
        ag_array_fini(&answers[i].tokens);
    }
    together->n_steps = figures.prefill.steps + figures.decode.steps;
    return status;
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    together_t *together = turn->arg;
    ag_rank_t rank = {0};
    ag_turn_t inner = *turn;
    ag_status_t status;

    inner.arg = &together->work;
    status = open_rank(&inner, &rank);
    if (status == AG_OK && turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else if (status == AG_OK) {
        ag_status_t stopped;

        status = answer_all(together, rank.job);
        stopped = ag_job_stop(rank.job);
        status = status == AG_OK ? stopped : status;
    }
    close_rank(&rank);
    return status;
}

/* @return false where the shares leave a rank nothing: all ranks refuse them alike. */
static bool run_together(together_t *together, uint32_t n_ranks, uint64_t seed, const char *what)
{
    ag_status_t statuses[16];
    uint32_t n_refused = 0;

    together->n_tokens = together->n_done = 0;
    ag_turns_run(n_ranks, seed, run_rank, together, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        n_refused += statuses[r] == AG_ERR_INVALID;
    }
    if (n_refused == n_ranks) {
        return false;
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "%s, rank %u: %s", what, r, ag_status_name(statuses[r]));
    }
    return true;
}

static void draw_prompts(uint64_t seed, together_t *together)
{
    uint64_t at = 0;

    *together = (together_t){.end = NO_END};
    for (int i = 0; i < N_PROMPTS; i++) {
        together->n_prompt[i] = 1 + (size_t)(ag_philox_uniform(seed, 9, at++) * MOST_PROMPT);
        for (size_t j = 0; j < together->n_prompt[i]; j++) {
            together->prompts[i][j] = (int32_t)(ag_philox_uniform(seed, 9, at++) * VOCAB);
        }
    }
}

static void expect_same(const together_t *alone, const together_t *together, const char *what)
{
    for (int i = 0; i < N_PROMPTS; i++) {
        cr_expect_eq(together->stops[i], alone->stops[i], "%s, prompt %d", what, i);
        cr_expect(together->n_answer[i] == alone->n_answer[i] &&
                      memcmp(together->answers[i], alone->answers[i],
                             alone->n_answer[i] * sizeof(int32_t)) == 0,
                  "%s: prompt %d has another answer of %zu tokens, not %zu", what, i,
                  together->n_answer[i], alone->n_answer[i]);
    }
}

/* Alone on one rank, then at once over a split. */
static bool try_together(uint64_t seed, ag_compute_t compute, const ag_sampling_t *sampling)
{
    static together_t alone, together;
    char what[320];
    draw_t draw;

    draw_options(seed, &draw);
    draw_prompts(seed, &alone);
    draw_prompts(seed, &together);
    alone.work.opts = (ag_plan_opts_t){.compute = compute, .batch_tokens = draw.opts.batch_tokens};
    together.work.opts = draw.opts;
    together.work.opts.compute = compute;
    together.work.opts.n_sequences = 1 + (uint32_t)(ag_philox_uniform(seed, 10, 0) * 8);
    alone.sampling = together.sampling = *sampling;
    run_together(&alone, 1, 0, "alone");
    alone.end = together.end = alone.answers[seed % N_PROMPTS][seed % MOST_TOKENS];
    run_together(&alone, 1, 0, "alone, up to an end");
    snprintf(what, sizeof(what),
             "seed %lu: --tp %s --tensor-split %s --pipeline-split %s --batch %u",
             (unsigned long)seed, draw.tp, draw.tensor_split, draw.pipeline_split,
             together.work.opts.n_sequences);
    if (!run_together(&together, draw.n_ranks, seed, what)) {
        return false;
    }
    cr_expect_eq(together.n_done, N_PROMPTS, "%s", what);
    expect_same(&alone, &together, what);
    return true;
}

Test(generate, each_prompt_gets_the_tokens_that_it_gets_alone, .timeout = 300)
{
    uint32_t n_tried = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        n_tried += try_together(seed, AG_COMPUTE_F32, &(ag_sampling_t){0});
    }
    cr_expect_gt(n_tried, 20);
}

Test(generate, and_so_by_the_fast_kernels_and_where_tokens_are_drawn, .timeout = 300)
{
    uint32_t n_tried = 0;

    for (uint64_t seed = 100; seed < 120; seed++) {
        n_tried +=
            try_together(seed, AG_COMPUTE_AUTO, &(ag_sampling_t){.temperature = 1, .seed = seed});
    }
    cr_expect_gt(n_tried, 10);
}

/* Each prompt's answer is penalized for its own tokens, and draws from its own stream. */
Test(generate, and_so_where_tokens_that_were_seen_are_penalized, .timeout = 300)
{
    static const double penalties[] = {1.3, 0.7, 3};
    uint32_t n_tried = 0;

    for (uint64_t seed = 200; seed < 218; seed++) {
        n_tried += try_together(seed, AG_COMPUTE_F32,
                                &(ag_sampling_t){.temperature = seed % 2 == 0 ? 1 : 0,
                                                 .repeat_penalty = penalties[seed % 3],
                                                 .seed = seed});
    }
    cr_expect_gt(n_tried, 8);
}

/* As many rows as the plan has sequences decode in a step, over one stage. */
Test(generate, sequences_share_steps)
{
    static together_t alone, together;

    draw_prompts(3, &alone);
    draw_prompts(3, &together);
    alone.work.opts = together.work.opts = (ag_plan_opts_t){.compute = AG_COMPUTE_F32};
    together.work.opts.n_sequences = N_PROMPTS;
    run_together(&alone, 1, 0, "alone");
    run_together(&together, 1, 0, "together");
    cr_expect_eq(alone.n_steps, N_PROMPTS * MOST_TOKENS);
    cr_expect_leq(together.n_steps, 2 * MOST_TOKENS, "%lu", (unsigned long)together.n_steps);
    expect_same(&alone, &together, "together");
}

Test(generate, an_interrupted_run_ends_on_all_ranks_with_what_it_has)
{
    for (uint32_t n = 1; n < 30; n += 7) {
        static together_t together;

        draw_prompts(n, &together);
        together.work.opts = (ag_plan_opts_t){.compute = AG_COMPUTE_F32, .pp = 2, .n_sequences = 3};
        together.stop_after = n;
        together.work.cancel = (ag_cancel_t){.is_asked = is_asked, .arg = &together};
        run_together(&together, 2, n, "interrupted");
        cr_expect_geq(together.n_tokens, n);
        cr_expect_leq(together.n_tokens, n + 3, "what was in flight has landed");
        cr_expect_eq(together.stops[N_PROMPTS - 1], AG_STOP_INTERRUPTED);
    }
}
