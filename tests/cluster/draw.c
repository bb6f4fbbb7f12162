/* From a number to a case. */
#include <stdlib.h>
#include <string.h>

#include "case.h"

/* Options of a plan, as texts. */
typedef struct options {
    char tp[64], tensor_split[128], pipeline_split[64];
    ag_plan_opts_t opts;
} options_t;

static void add_number(char *text, const char *separator, uint32_t number)
{
    sprintf(text + strlen(text), "%s%u", text[0] == '\0' ? "" : separator, number);
}

/* Stages of any layers, ranks of any shares. */
static void draw_options(dice_t *dice, const model_t *model, options_t *options)
{
    uint32_t most_stages = model->n_layers < 3 ? model->n_layers : 3;
    uint32_t n_stages = dice_between(dice, 1, most_stages), layers_left = model->n_layers;

    memset(options, 0, sizeof(*options));
    for (uint32_t s = 0; s < n_stages; s++) {
        bool sums_much = s == 0 && model->is_wide && !dice_one_in(dice, 4);
        uint32_t degree = dice_between(dice, sums_much ? 3 : 1, s == 0 ? 5 : 3);
        uint32_t layers = s + 1 == n_stages
                              ? layers_left
                              : dice_between(dice, 1, layers_left - (n_stages - s - 1));

        layers_left -= layers;
        add_number(options->tp, ",", degree);
        add_number(options->pipeline_split, ",", layers);
        for (uint32_t i = 0; i < degree; i++) {
            add_number(options->tensor_split, i == 0 ? ";" : ",",
                       dice_one_in(dice, 4) ? 12 : dice_between(dice, 1, 4));
        }
    }
    options->opts = (ag_plan_opts_t){.tp = options->tp,
                                     .tensor_split = options->tensor_split,
                                     .pipeline_split = options->pipeline_split};
}

/* Ranks stand anywhere: a file may say so. Experts are given out after this. */
static void shuffle_ranks(dice_t *dice, ag_plan_t *plan)
{
    uint32_t n_ranks = ag_plan_ranks(plan), places[MOST_CASE_RANKS], at = 0;

    for (uint32_t r = 0; r < n_ranks; r++) {
        uint32_t other = dice_below(dice, r + 1);

        places[r] = places[other];
        places[other] = r;
    }
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t i = 0; i < plan->stages[s].replicas[0].n_ranks; i++) {
            plan->stages[s].replicas[0].ranks[i] = places[at++];
        }
    }
}

/* Each expert is some rank's, now and then several ranks'. */
static void draw_holders(dice_t *dice, const ag_replica_t *replica, ag_holders_t *holders)
{
    uint32_t n = replica->n_ranks, at = 0;

    free(holders->ranks);
    holders->ranks = calloc((size_t)n * holders->n_experts, sizeof(*holders->ranks));
    if (holders->ranks == NULL) {
        abort();
    }
    for (uint32_t e = 0; e < holders->n_experts; e++) {
        uint32_t first = dice_below(dice, n), n_holders = 1;

        while (n_holders < n && dice_one_in(dice, 5)) {
            n_holders++;
        }
        for (uint32_t i = 0; i < n_holders; i++) {
            holders->ranks[at++] = replica->ranks[(first + i) % n];
        }
        holders->begin[e + 1] = at;
    }
}

/* Who holds which expert, and whether attention is shared out beside them. */
static void draw_experts(dice_t *dice, ag_plan_t *plan)
{
    for (uint32_t s = 0; s < plan->n_stages && plan->stages[s].experts.n_experts > 0; s++) {
        ag_replica_t *replica = &plan->stages[s].replicas[0];

        replica->tensor_ranks = dice_one_in(dice, 2) ? 1 : replica->n_ranks;
        draw_holders(dice, replica, &plan->stages[s].experts);
    }
}

static ag_status_t print_plan(const ag_plan_t *plan, char **text_p)
{
    ag_json_t *json = ag_plan_to_json(plan);
    ag_status_t status = ag_json_text(json, AG_JSON_LINE, text_p);

    ag_json_destroy(json);
    return status;
}

/* A plan by options, its ranks and experts anywhere, if it leaves no rank without anything. */
static ag_status_t try_plan(dice_t *dice, const ag_model_t *model, const ag_plan_opts_t *opts,
                            cluster_case_t *c)
{
    ag_plan_model_t facts = ag_build_plan_model(model);
    ag_build_t *build = NULL;
    ag_plan_t *plan = NULL;
    ag_status_t status = ag_plan_make(&facts, opts, &plan);

    if (status == AG_OK) {
        if (dice_one_in(dice, 3)) {
            shuffle_ranks(dice, plan);
        }
        draw_experts(dice, plan);
        plan->overlap_tokens = dice_one_in(dice, 2) ? dice_between(dice, 1, 12) : 0;
    }
    if (status == AG_OK) {
        status = ag_build_create(plan, model, &build);
    }
    if (status == AG_OK) {
        c->n_ranks = ag_plan_ranks(plan);
        status = print_plan(plan, &c->plan_json);
    }
    ag_build_destroy(build);
    ag_plan_destroy(plan);
    return status;
}

static ag_status_t draw_plans(dice_t *dice, cluster_case_t *c)
{
    ag_model_t *model = NULL;
    ag_status_t status = ag_model_open(c->path, &model);

    c->one = (ag_plan_opts_t){.compute = c->compute,
                              .batch_tokens =
                                  c->model.is_wide ? c->model.context : dice_between(dice, 1, 24),
                              .n_sequences = c->work.n_sequences};
    while (status == AG_OK && c->plan_json == NULL) {
        options_t options;

        draw_options(dice, &c->model, &options);
        options.opts.compute = c->one.compute;
        options.opts.batch_tokens = c->one.batch_tokens;
        options.opts.n_sequences = c->one.n_sequences;
        status = try_plan(dice, model, &options.opts, c);
        if (status == AG_ERR_INVALID && strstr(ag_error(), "nothing to hold") != NULL) {
            c->n_refused++;
            status = AG_OK;
        } else if (status == AG_ERR_UNSUPPORTED) {
            c->n_unsupported++;
            status = AG_OK;
        }
    }
    ag_model_close(model);
    return status;
}

/* Rows of a sequence in a step: some of the prompt, or the token that was made. */
static uint32_t draw_rows(dice_t *dice, const work_t *work, uint32_t s, uint32_t done,
                          uint32_t room)
{
    uint32_t left = done < work->n_prompt[s] ? work->n_prompt[s] - done : done < work->n_tokens[s];

    left = left < room ? left : room;
    return left == 0 || dice_one_in(dice, 6) ? 0
           : dice_one_in(dice, 2)            ? left
                                             : dice_between(dice, 1, left);
}

/* Of the last rows: those that a token is made of must be among them. */
static uint32_t draw_outputs(dice_t *dice, const work_t *work, uint32_t s, uint32_t done,
                             uint32_t n_rows, bool last_only)
{
    bool needs = n_rows > 0 && done + n_rows >= work->n_prompt[s];

    if (last_only) {
        return needs ? 1 : 0;
    }
    return n_rows == 0 ? 0 : dice_between(dice, needs ? 1 : 0, n_rows);
}

static void draw_work(dice_t *dice, const model_t *model, uint32_t batch_tokens, bool last_only,
                      work_t *work)
{
    uint32_t done[MOST_SEQUENCES] = {0}, n_left = 0;
    uint32_t blocks = (model->context + AG_KV_BLOCK_TOKENS - 1) / AG_KV_BLOCK_TOKENS;

    for (uint32_t s = 0; s < work->n_sequences; s++) {
        /* now and then over several blocks of the cache */
        uint32_t most = model->is_wide || dice_one_in(dice, 4) ? model->context : 16;

        work->n_prompt[s] = dice_between(dice, model->is_wide ? most / 2 : 1, most);
        work->n_tokens[s] = work->n_prompt[s] + dice_between(dice, 0, 6);
        work->n_tokens[s] = work->n_tokens[s] < model->context ? work->n_tokens[s] : model->context;
        n_left += work->n_tokens[s];
        for (uint32_t i = 0; i < work->n_prompt[s]; i++) {
            work->tokens[s][i] = (int32_t)dice_below(dice, model->vocab);
        }
        work->first_block[s] = (work->n_sequences - 1 - s) * blocks;
    }
    while (n_left > 0 && work->n_steps < MOST_STEPS) { /* a long prompt may be left unfinished */
        work_step_t *step = &work->steps[work->n_steps++];
        uint32_t room = batch_tokens;

        for (uint32_t s = 0; s < work->n_sequences; s++) {
            step->position[s] = done[s];
            step->n_rows[s] = draw_rows(dice, work, s, done[s], room);
            step->n_outputs[s] = draw_outputs(dice, work, s, done[s], step->n_rows[s], last_only);
            step->first_output[s] = work->n_outputs;
            work->n_outputs += step->n_outputs[s];
            done[s] += step->n_rows[s];
            room -= step->n_rows[s];
            n_left -= step->n_rows[s];
        }
        work->n_steps -= room == batch_tokens; /* it has no rows */
    }
}

/* Ranks anywhere on up to three hosts. */
static void draw_hosts(dice_t *dice, cluster_case_t *c)
{
    uint32_t most = dice_between(dice, c->model.is_wide ? 2 : 1, c->n_ranks < 3 ? c->n_ranks : 3);
    bool is_met[3] = {false};

    for (uint32_t r = 0; r < c->n_ranks; r++) {
        uint32_t host = dice_below(dice, most);

        c->n_hosts += !is_met[host];
        is_met[host] = true;
        c->hosts[r] = 100 - 7 * host;
    }
}

ag_status_t case_make(uint64_t number, const char *folder, cluster_case_t *c)
{
    dice_t dice = {.seed = number}, prompts = {.seed = number + 55555555};
    ag_status_t status;

    memset(c, 0, sizeof(*c));
    c->number = number;
    c->order = number * 3;
    c->model = model_draw(&dice, number);
    c->compute = dice_one_in(&dice, 2) ? AG_COMPUTE_F32 : AG_COMPUTE_AUTO;
    c->work.n_sequences = dice_between(&dice, 1, 3);
    c->last_outputs_only = dice_one_in(&dice, 2);
    c->has_budget = dice_one_in(&dice, 2);
    c->is_repeated = dice_one_in(&dice, 4);
    c->has_death = dice_one_in(&dice, 4);
    c->has_prompts = dice_one_in(&prompts, 4);
    status = model_write(&c->model, folder, c->path);
    if (status == AG_OK) {
        status = draw_plans(&dice, c);
    }
    if (status == AG_OK) {
        draw_work(&dice, &c->model, c->one.batch_tokens, c->last_outputs_only, &c->work);
        draw_hosts(&dice, c);
    }
    c->is_lazy = dice_one_in(&dice, 3);
    return status;
}

void case_fini(cluster_case_t *c)
{
    free(c->plan_json);
}

void case_print(const cluster_case_t *c, FILE *file)
{
    const work_t *work = &c->work;

    fprintf(file, "case %llu\n", (unsigned long long)c->number);
    model_print(&c->model, file);
    fprintf(file, "plan: %s\n", c->plan_json != NULL ? c->plan_json : "none");
    fprintf(file, "order: %llu%s%s%s%s%s%s\n", (unsigned long long)c->order,
            c->is_lazy ? ", lazy devices" : "", c->is_repeated ? ", and another" : "",
            c->has_death ? ", then a death" : "", c->has_prompts ? ", then prompts" : "",
            c->last_outputs_only ? ", last outputs only" : "",
            c->has_budget ? ", on the foretold budget" : "");
    fprintf(file, "hosts:");
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        fprintf(file, " %u", c->hosts[r]);
    }
    fputc('\n', file);
    for (uint32_t s = 0; s < work->n_sequences; s++) {
        fprintf(file, "sequence %u: %u tokens, prompt", s, work->n_tokens[s]);
        for (uint32_t i = 0; i < work->n_prompt[s]; i++) {
            fprintf(file, " %d", work->tokens[s][i]);
        }
        fputc('\n', file);
    }
    for (uint32_t i = 0; i < work->n_steps; i++) {
        fprintf(file, "step %u: rows", i);
        for (uint32_t s = 0; s < work->n_sequences; s++) {
            fprintf(file, " %u", work->steps[i].n_rows[s]);
        }
        fprintf(file, ", outputs");
        for (uint32_t s = 0; s < work->n_sequences; s++) {
            fprintf(file, " %u", work->steps[i].n_outputs[s]);
        }
        fputc('\n', file);
    }
}
