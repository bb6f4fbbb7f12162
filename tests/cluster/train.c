/*
 * Random steps of training on a simulated cluster: a model, a plan and a batch, all drawn from a
 * number, on the plan's ranks and on one. The loss, each weight after the step, and each first
 * moment, which is the gradient, clipped, are to be one rank's: README.md.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "asan.h"
#include "train_case.h"

#ifdef HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

enum { FAILURES_SHOWN = 5 };

/* In parts of the whole tensor's length: sums in fp32, in another order. It holds for models whose
 * gradients do not make much more of a rounding than that: model_write() says which those are. */
static const double bound = 1e-5;

/* Rows whose experts were chosen by less than this may go either way. */
static const float router_gap = 1e-5f;

/* What is known of a tensor: all of it, from one rank or from several. */
typedef struct tensor {
    char name[128];
    uint64_t n;
    float *weights, *moments; /* (n) NaN where nobody has told */
} tensor_t;

typedef struct outcome {
    const train_case_t *c;
    bool all;                      /* else one rank */
    ag_array_t tensors;            /* tensor_t */
    double losses[MOST_STEPS + 1]; /* of the steps, and of the last one's rows behind it */
    float gap;
    double worst;     /* difference between ranks that hold the same */
    bool refused;     /* the plan leaves a rank nothing, or asks for what is not there */
    char why[256];    /* .. as a rank says */
    bool shares_rows; /* ranks of a layer share its norms' rows out */
    bool has_empty;   /* replicas that exchange rows go through unlike numbers of batches */
} outcome_t;

/* What cases have met. */
typedef struct tally_row {
    const char *name;
    uint64_t n;
} tally_row_t;

enum { MOST_ROWS = 40 };

typedef struct tally {
    tally_row_t rows[MOST_ROWS];
    uint32_t n_rows;
} train_tally_t;

static void count(train_tally_t *tally, const char *name, bool met)
{
    uint32_t i = 0;

    while (i < tally->n_rows && strcmp(tally->rows[i].name, name) != 0) {
        i++;
    }
    if (i == tally->n_rows) {
        tally->rows[tally->n_rows++] = (tally_row_t){name, 0};
    }
    tally->rows[i].n += met;
}

static tensor_t *find_tensor(outcome_t *outcome, const ag_model_tensor_t *of)
{
    tensor_t *tensors = AG_ITEMS(&outcome->tensors, tensor_t), added = {.n = 1};

    for (size_t i = 0; i < outcome->tensors.n_items; i++) {
        if (strcmp(tensors[i].name, of->name) == 0) {
            return &tensors[i];
        }
    }
    snprintf(added.name, sizeof(added.name), "%s", of->name);
    for (uint32_t i = 0; i < of->n_dims; i++) {
        added.n *= of->dims[i];
    }
    added.weights = malloc(added.n * sizeof(float));
    added.moments = malloc(added.n * sizeof(float));
    for (uint64_t i = 0; i < added.n; i++) {
        added.weights[i] = added.moments[i] = NAN;
    }
    if (ag_array_append(&outcome->tensors, &added, 1) != AG_OK) {
        abort();
    }
    return &AG_ITEMS(&outcome->tensors, tensor_t)[outcome->tensors.n_items - 1];
}

/* What is told of an element that was told of before must be alike, to the bit. */
static void tell(outcome_t *outcome, float *known, float value)
{
    if (!isnan(*known) && *known != value) {
        outcome->worst = fmax(outcome->worst, fabs((double)*known - (double)value));
    }
    *known = value;
}

/* A rank's slices of weights, and of the moments that it keeps. */
static void tell_rank(outcome_t *outcome, const ag_params_t *params)
{
    for (size_t p = 0; p < params->items.n_items; p++) {
        const ag_param_t *param = &AG_ITEMS(&params->items, ag_param_t)[p];
        const ag_graph_param_t *held = &ag_params_held(params)[p];
        tensor_t *tensor = find_tensor(outcome, param->tensor);
        uint64_t cols = param->is_column ? 1 : held->cols;

        for (uint64_t i = 0; i < held->rows * held->cols; i++) {
            uint64_t row = param->row_begin + i / cols, col = param->col_begin + i % cols;
            uint64_t width = param->turned_rows > 0 ? held->cols : param->row_elements;
            uint64_t at = param->transform == AG_TRANSFORM_TRANSPOSE
                              ? col * param->row_elements + row
                              : row * width + col;

            tell(outcome, &tensor->weights[at], held->trained[i]);
            if (i >= held->own_begin && i < held->own_end) {
                tell(outcome, &tensor->moments[at], held->moments[0][i - held->own_begin]);
            }
        }
    }
}

/* The micro-batches of a step, and where their arrays lie. */
typedef struct batch {
    ag_step_t steps[MOST_BATCHES];
    ag_update_t update;
    int32_t *ints;
} batch_t;

static void fill_batch(const train_case_t *c, uint32_t step, batch_t *batch)
{
    uint32_t n = c->n_tokens, n_targets = 0;

    batch->update = c->update;
    batch->update.number = step + 1;
    batch->ints = calloc(3ull * c->n_batches * n, sizeof(int32_t));
    for (uint32_t b = 0; b < c->n_batches; b++) {
        size_t from = (size_t)step * c->n_batches + b;
        int32_t *positions = batch->ints + 3ull * b * n, *outputs = positions + n;
        int32_t *targets = outputs + n;
        const int32_t *begins = c->row_begin + from * (n + 1);
        uint32_t n_outputs = 0, sequence = 0;

        for (uint32_t i = 0; i < n; i++) {
            sequence += sequence + 1 < c->n_sequences[from] && begins[sequence + 1] <= (int32_t)i;
            positions[i] = (int32_t)i - begins[sequence];
            if (c->targets[from * n + i] >= 0) {
                outputs[n_outputs] = (int32_t)i;
                targets[n_outputs++] = c->targets[from * n + i];
            }
        }
        n_targets += n_outputs;
        batch->steps[b] = (ag_step_t){.counts = {[AG_COUNT_ONE] = 1,
                                                 [AG_COUNT_TOKENS] = n,
                                                 [AG_COUNT_OUTPUTS] = n_outputs,
                                                 [AG_COUNT_SEQUENCES] = c->n_sequences[from]},
                                      .tokens = c->tokens + from * n,
                                      .positions = positions,
                                      .outputs = outputs,
                                      .targets = targets,
                                      .row_begin = begins,
                                      .update = &batch->update};
    }
    batch->update.loss_scale = n_targets > 0 ? 1.0f / (float)n_targets : 0;
}

static ag_status_t drive(outcome_t *outcome, ag_job_t *job)
{
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < outcome->c->n_steps && status == AG_OK; i++) {
        float totals[AG_N_TOTALS];
        batch_t batch;

        fill_batch(outcome->c, i, &batch);
        status = ag_job_train(job, batch.steps, totals);
        outcome->losses[i] = (double)totals[AG_TOTAL_LOSS];
        if (status == AG_OK && i + 1 == outcome->c->n_steps) {
            batch.update.is_frozen = batch.update.evaluates = true;
            status = ag_job_train(job, batch.steps, totals);
            outcome->losses[i + 1] = (double)totals[AG_TOTAL_LOSS];
        }
        free(batch.ints);
    }
    return status == AG_OK ? ag_job_stop(job) : status;
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    outcome_t *outcome = turn->arg;
    const train_case_t *c = outcome->c;
    ag_rank_t rank = {0};
    ag_status_t status = ag_rank_open(
        turn, &(ag_rank_opts_t){.model = c->path, .plan = outcome->all ? &c->opts : &c->one},
        &rank);

    outcome->refused |= status == AG_ERR_INVALID || status == AG_ERR_UNSUPPORTED;
    if (status == AG_OK) {
        for (uint32_t s = 0; s < rank.plan->n_stages; s++) {
            outcome->shares_rows |=
                ag_plan_shares_rows(rank.plan, &rank.plan->stages[s].replicas[0]);
        }
        outcome->has_empty = ag_plan_steps(rank.plan) > ag_plan_micro_batches(rank.plan);
        status = turn->net->rank == 0 ? drive(outcome, rank.job) : ag_job_follow(rank.job);
    }
    if (status == AG_OK) {
        tell_rank(outcome, &rank.build->ranks[turn->net->rank].params);
        outcome->gap = fminf(outcome->gap, ag_job_router_gap(rank.job));
    }
    ag_rank_close(&rank);
    return status;
}

static void free_outcome(outcome_t *outcome)
{
    for (size_t i = 0; i < outcome->tensors.n_items; i++) {
        free(AG_ITEMS(&outcome->tensors, tensor_t)[i].weights);
        free(AG_ITEMS(&outcome->tensors, tensor_t)[i].moments);
    }
    ag_array_fini(&outcome->tensors);
}

/* @return false: it ended badly, and says so. */
static bool play(const train_case_t *c, bool all, outcome_t *outcome)
{
    ag_turns_end_t ends[MOST_RANKS * 2];
    uint32_t n_ranks = all ? c->n_ranks : 1;

    *outcome = (outcome_t){.c = c, .all = all, .tensors = AG_ARRAY(tensor_t), .gap = INFINITY};
    ag_turns_play(&(ag_turns_opts_t){.n_ranks = n_ranks, .seed = c->number}, run_rank, outcome,
                  ends);
    for (uint32_t r = 0; r < n_ranks; r++) {
        /* a program that the checker objects to is no refusal of a plan */
        bool is_refusal = outcome->refused && strstr(ends[r].error, "the program after") == NULL;

        if (is_refusal) {
            snprintf(outcome->why, sizeof(outcome->why), "%s", ends[r].error);
        } else if (ends[r].status != AG_OK) {
            printf("case %llu: rank %u: %s\n", (unsigned long long)c->number, r, ends[r].error);
            return false;
        }
    }
    return true;
}

/* The length of a difference, in parts of the whole's, or of `least`. */
static double distance(const float *one, const float *all, uint64_t n, double least)
{
    double difference = 0, length = 0;

    for (uint64_t i = 0; i < n; i++) {
        double d = (double)all[i] - (double)one[i];

        if (isnan(one[i]) && isnan(all[i])) { /* no rank has it: an expert's other half, say */
            continue;
        }
        difference += d * d;
        length += (double)one[i] * (double)one[i];
    }
    return isnan(difference) ? INFINITY : sqrt(difference) / fmax(sqrt(length), least);
}

static double length_of_moments(const outcome_t *outcome)
{
    double length = 0;

    for (size_t i = 0; i < outcome->tensors.n_items; i++) {
        const tensor_t *tensor = &AG_ITEMS(&outcome->tensors, tensor_t)[i];

        for (uint64_t j = 0; j < tensor->n; j++) {
            length += isnan(tensor->moments[j]) ? 0 : pow((double)tensor->moments[j], 2);
        }
    }
    return sqrt(length);
}

/* A gradient that is nothing but rounding, of queries of documents of one token for instance, is
 * held to a part of all gradients' length. */
static bool compare(const train_case_t *c, outcome_t *one, outcome_t *all)
{
    double least = fmax(1e-3 * length_of_moments(one), 1e-30);

    for (uint32_t i = 0; i <= c->n_steps; i++) {
        double d = fabs(one->losses[i] - all->losses[i]);

        if (!(d <= bound * fmax(one->losses[i], 1e-3))) {
            printf("case %llu: step %u: the loss is %.9g, one rank's %.9g\n",
                   (unsigned long long)c->number, i, all->losses[i], one->losses[i]);
            return false;
        }
    }
    for (size_t i = 0; i < one->tensors.n_items; i++) {
        const tensor_t *known = &AG_ITEMS(&one->tensors, tensor_t)[i];
        const ag_model_tensor_t name = {.name = known->name, .n_dims = 1, .dims = {known->n}};
        const tensor_t *other = find_tensor(all, &name);
        double weights = distance(known->weights, other->weights, known->n, 1e-30);
        double moments = distance(known->moments, other->moments, known->n, least);

        if (!(weights <= bound && moments <= bound)) {
            printf("case %llu: %s: weights differ by %.3g, gradients by %.3g\n",
                   (unsigned long long)c->number, known->name, weights, moments);
            return false;
        }
    }
    if (all->worst > 0) {
        printf("case %llu: ranks that hold the same differ by %.3g\n",
               (unsigned long long)c->number, all->worst);
        return false;
    }
    return true;
}

static void tally_case(const train_case_t *c, const outcome_t *all, train_tally_t *tally)
{
    bool uneven = false, first = c->micro_batches[0] != '\0';

    for (const char *at = c->micro_batches; *at != '\0'; at++) {
        uneven |= first && *at != ',' && *at != c->micro_batches[0];
    }
    count(tally, "gpipe", strcmp(c->opts.schedule, "gpipe") == 0);
    count(tally, "1f1b", strcmp(c->opts.schedule, "1f1b") == 0);
    count(tally, "interleaved", strcmp(c->opts.schedule, "interleaved") == 0);
    count(tally, "several stages", strchr(c->tp, ',') != NULL);
    count(tally, "ranks of a layer", strpbrk(c->tp, "23") != NULL);
    count(tally, "norms of shares of the rows", all->shares_rows);
    count(tally, "norms of all rows on ranks of a layer",
          strpbrk(c->tp, "23") != NULL && !all->shares_rows);
    count(tally, "replicas", c->opts.dp > 1);
    count(tally, "replicas of uneven micro-batches", uneven);
    count(tally, "ZeRO 1", c->opts.zero_stage == 1 && c->opts.dp > 1);
    count(tally, "gradients of weights behind those of inputs", c->opts.split_backward);
    count(tally, "recomputation", c->opts.recompute);
    count(tally, "several steps", c->n_steps > 1);
    count(tally, "clipping", c->update.clip_norm > 0);
    count(tally, "a tied table on two stages", c->model.is_tied && strchr(c->tp, ',') != NULL);
    count(tally, "experts", c->model.n_experts > 0);
    count(tally, "experts that ranks share out", strpbrk(c->ep, "23456789") != NULL);
    count(tally, "experts over replicas of uneven micro-batches", all->has_empty);
    count(tally, "losses of routers", c->update.balance > 0);
    count(tally, "biases", c->model.qkv_bias || c->model.ffn_bias);
    count(tally, "window", c->model.window > 0);
    count(tally, "layers with a window and without",
          c->model.period > 1 && c->model.n_layers >= c->model.period);
    count(tally, "capped scores", c->model.score_cap > 0);
    count(tally, "sinks", c->model.family->has_sinks);
    count(tally, "one rank alone", c->n_ranks == 1);
}

typedef struct figures {
    uint64_t n_cases, n_failed, n_refused, n_excused;
} figures_t;

static void run_case(uint64_t number, const char *folder, bool verbose, train_tally_t *tally,
                     figures_t *figures)
{
    outcome_t one, all;
    train_case_t c;
    bool fine;

    train_case_draw(number, folder, &c);
    if (verbose) {
        train_case_print(&c);
    }
    figures->n_cases++;
    fine = play(&c, false, &one) && play(&c, true, &all);
    if (fine && (one.refused || all.refused)) {
        figures->n_refused++;
        if (verbose) {
            printf("refused: %s\n", all.refused ? all.why : one.why);
        }
    } else if (fine && one.gap < router_gap) {
        figures->n_excused++;
    } else if (!fine || !compare(&c, &one, &all)) {
        figures->n_failed++;
        printf("replay: cluster_train --case %llu\n", (unsigned long long)number);
    } else {
        tally_case(&c, &all, tally);
    }
    free_outcome(&one);
    free_outcome(&all);
    train_case_free(&c);
}

static bool is_short(const train_tally_t *tally, const figures_t *figures, uint64_t least)
{
    bool is =
        figures->n_refused * 4 > figures->n_cases || figures->n_excused * 50 > figures->n_cases;

    for (uint32_t i = 0; i < tally->n_rows; i++) {
        printf("%6llu  %s%s\n", (unsigned long long)tally->rows[i].n, tally->rows[i].name,
               tally->rows[i].n < least ? ": too few" : "");
        is |= tally->rows[i].n < least;
    }
    printf("%llu cases: %llu failed, %llu plans that leave a rank nothing or are not there yet, "
           "%llu excused for a router's tie\n",
           (unsigned long long)figures->n_cases, (unsigned long long)figures->n_failed,
           (unsigned long long)figures->n_refused, (unsigned long long)figures->n_excused);
    return is;
}

static void remove_folder(const char *folder)
{
    static const char *const files[] = {"model.gguf", "model.safetensors", "config.json"};
    char path[300];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        remove(path);
    }
    remove(folder);
}

int main(int argc, char **argv)
{
    bool one = argc == 3 && strcmp(argv[1], "--case") == 0;
    bool many = (argc == 4 || argc == 5) && strcmp(argv[1], "--cases") == 0;
    uint64_t first = one || many ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t n = many ? strtoull(argv[3], NULL, 10) : 1;
    char folder[] = P_tmpdir "/argosy-train-XXXXXX";
    train_tally_t tally = {0};
    figures_t figures = {0};
    bool failed;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if ((!one && !many) || mkdtemp(folder) == NULL) {
        fprintf(stderr, "usage: cluster_train --cases FIRST COUNT [LEAST] | --case NUMBER\n");
        return 2;
    }
    for (uint64_t i = 0; i < n && figures.n_failed < FAILURES_SHOWN; i++) {
        run_case(first + i, folder, one, &tally, &figures);
    }
    failed = figures.n_failed > 0;
    if (!one) {
        failed |= is_short(&tally, &figures, argc == 5 ? strtoull(argv[4], NULL, 10) : 0);
    }
    remove_folder(folder);
#ifdef HAS_ASAN
    failed |= __lsan_do_recoverable_leak_check() != 0;
#endif
    return failed;
}
