#include "prompts.h"

#include <string.h>

static void draw_prompt(dice_t *dice, const model_t *model, uint32_t i, prompts_t *prompts)
{
    uint32_t most = dice_one_in(dice, 4) ? model->context : 12;

    prompts->n_tokens[i] = dice_between(dice, 1, most < model->context ? most : model->context);
    for (uint32_t t = 0; t < prompts->n_tokens[i]; t++) {
        prompts->tokens[i][t] = (int32_t)dice_below(dice, model->vocab);
    }
}

void prompts_draw(const cluster_case_t *c, prompts_t *prompts)
{
    dice_t dice = {.seed = c->number + 33333333};

    memset(prompts, 0, sizeof(*prompts));
    prompts->n = dice_between(&dice, 2, 2 * c->work.n_sequences);
    for (uint32_t i = 0; i < prompts->n; i++) {
        draw_prompt(&dice, &c->model, i, prompts);
    }
    prompts->sampling.seed = c->number;
    prompts->sampling.temperature = dice_one_in(&dice, 2) ? 1 : 0;
    prompts->sampling.top_k = dice_one_in(&dice, 3) ? 5 : 0;
    prompts->sampling.repeat_penalty = dice_one_in(&dice, 3) ? 1.5 : 0;
    prompts->end_every = dice_one_in(&dice, 2) ? dice_between(&dice, 2, 8) : 0;
}

static bool is_end(void *arg, int32_t id)
{
    const prompts_t *prompts = arg;

    return prompts->end_every > 0 && (uint32_t)id % prompts->end_every == 0;
}

/* Answer prompts [first, first + n) at once. */
static ag_status_t answer(ag_job_t *job, prompts_t *prompts, uint32_t first, uint32_t n,
                          answer_t *answers, ag_run_figures_t *figures)
{
    ag_answer_t all[MOST_PROMPTS];
    ag_generate_opts_t opts = {.sampling = &prompts->sampling,
                               .max_tokens = MOST_MADE,
                               .calls = {.is_end = is_end, .arg = prompts}};
    ag_status_t status;

    for (uint32_t i = 0; i < n; i++) {
        all[i] = (ag_answer_t){.prompt = prompts->tokens[first + i],
                               .n_prompt = prompts->n_tokens[first + i],
                               .stream = first + i,
                               .tokens = AG_ARRAY(int32_t)};
    }
    status = ag_generate(job, all, n, &opts, figures);
    for (uint32_t i = 0; i < n; i++) {
        answer_t *kept = &answers[first + i];

        kept->stop = all[i].stop;
        kept->n_tokens = (uint32_t)all[i].tokens.n_items;
        if (kept->n_tokens > 0) {
            memcpy(kept->tokens, all[i].tokens.items, kept->n_tokens * sizeof(int32_t));
        }
        ag_array_fini(&all[i].tokens);
    }
    return status;
}

ag_status_t prompts_answer(ag_job_t *job, prompts_t *prompts)
{
    ag_run_figures_t figures = {0};
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < prompts->n && status == AG_OK; i++) {
        ag_run_figures_t alone = {0};

        status = answer(job, prompts, i, 1, prompts->alone, &alone);
    }
    if (status == AG_OK) {
        status = answer(job, prompts, 0, prompts->n, prompts->together, &figures);
    }
    prompts->n_steps = figures.decode.steps;
    prompts->n_rows = figures.decode.tokens;
    return status;
}

int prompts_compare(const prompts_t *prompts)
{
    for (uint32_t i = 0; i < prompts->n; i++) {
        const answer_t *alone = &prompts->alone[i], *together = &prompts->together[i];

        if (alone->stop != together->stop || alone->n_tokens != together->n_tokens ||
            memcmp(alone->tokens, together->tokens, alone->n_tokens * sizeof(int32_t)) != 0) {
            return (int)i;
        }
    }
    return -1;
}
