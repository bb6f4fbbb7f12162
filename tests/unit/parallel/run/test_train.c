/* Training the tiny models in one process, against PyTorch's losses and norms of gradients. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check.h"
#include "runtime/base/json.h"
#include "runtime/file/npy.h"
#include "runtime/file/safetensors.h"
#include "support.h"

enum { N_STEPS = 20, N_ROWS = 2, ROW_TOKENS = 32, MOST_BATCHES = 4 };

/* What all ranks of a job share; rank 0 leaves its totals here. */
typedef struct train {
    const char *model; /* below AG_TEST_DATA */
    ag_plan_opts_t opts;
    int32_t *stream;
    uint32_t n_steps;
    float balance, z;   /* of the routers' losses */
    bool has_gradients; /* the model's folder has those of the first step: one rank compares */
    bool by_shares;     /* gradients are summed in shares, and these gathered */
    bool evaluates;     /* behind each step */
    bool rounds;        /* products in bfloat16 */
    double losses[N_STEPS], norms[N_STEPS];
} train_t;

/* The micro-batches of a step, and what their arrays lie in. */
typedef struct batch {
    ag_update_t update;
    ag_step_t steps[MOST_BATCHES];
    int32_t tokens[N_ROWS * ROW_TOKENS], positions[N_ROWS * ROW_TOKENS];
    int32_t targets[N_ROWS * ROW_TOKENS], outputs[N_ROWS * ROW_TOKENS];
    int32_t row_begin[N_ROWS][N_ROWS + 1];
} batch_t;

/* A micro-batch beyond the reference's rows: a token of which nothing is asked. */
static ag_step_t one_token(const batch_t *batch)
{
    static const int32_t begins[] = {0, 1};

    return (ag_step_t){
        .counts = {[AG_COUNT_ONE] = 1, [AG_COUNT_TOKENS] = 1, [AG_COUNT_SEQUENCES] = 1},
        .tokens = batch->tokens,
        .positions = batch->positions,
        .targets = batch->targets,
        .outputs = batch->outputs,
        .row_begin = begins,
        .update = &batch->update};
}

static void fill_batch(const train_t *train, uint32_t number, uint32_t rows_each, batch_t *batch)
{
    const int32_t *from = train->stream + (size_t)number * N_ROWS * ROW_TOKENS;
    uint32_t n_each = rows_each * ROW_TOKENS;

    batch->update = (ag_update_t){.number = number + 1,
                                  .loss_scale = 1.0f / (N_ROWS * ROW_TOKENS),
                                  .learning_rate = 1e-3f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.95f,
                                  .eps = 1e-8f,
                                  .weight_decay = 0.1f,
                                  .clip_norm = 1,
                                  .balance = train->balance * (float)rows_each / N_ROWS,
                                  .z = train->z * (float)rows_each / N_ROWS};
    for (uint32_t i = 0; i < N_ROWS * ROW_TOKENS; i++) {
        batch->tokens[i] = from[i];
        batch->targets[i] = from[i + 1];
        batch->positions[i] = (int32_t)(i % ROW_TOKENS);
        batch->outputs[i] = (int32_t)(i % n_each);
    }
    for (uint32_t m = 0; m < N_ROWS / rows_each; m++) {
        for (uint32_t r = 0; r <= rows_each; r++) {
            batch->row_begin[m][r] = (int32_t)(r * ROW_TOKENS);
        }
        batch->steps[m] = (ag_step_t){.counts = {[AG_COUNT_ONE] = 1,
                                                 [AG_COUNT_TOKENS] = n_each,
                                                 [AG_COUNT_OUTPUTS] = n_each,
                                                 [AG_COUNT_SEQUENCES] = rows_each},
                                      .tokens = batch->tokens + (size_t)m * n_each,
                                      .positions = batch->positions + (size_t)m * n_each,
                                      .targets = batch->targets + (size_t)m * n_each,
                                      .outputs = batch->outputs + (size_t)m * n_each,
                                      .row_begin = batch->row_begin[m],
                                      .update = &batch->update};
    }
    for (uint32_t m = N_ROWS / rows_each; m < MOST_BATCHES; m++) {
        batch->steps[m] = one_token(batch);
    }
}

/* The gradient of a tensor, and what it should be. @return the length of their difference, in parts
 * of the reference's. */
static double compare_gradient(const ag_rank_t *rank, const ag_file_tensor_t *tensor, FILE *file)
{
    const ag_params_t *params = &rank->build->ranks[0].params;
    uint64_t n = tensor->bytes / sizeof(float);
    float *expected = malloc(tensor->bytes);
    double difference = 0, length = 0;
    uint32_t param = 0;

    while (param < params->items.n_items &&
           strcmp(AG_ITEMS(&params->items, ag_param_t)[param].tensor->name, tensor->name) != 0) {
        param++;
    }
    cr_assert_lt(param, params->items.n_items, "%s", tensor->name);
    cr_assert_eq(fseek(file, (long)tensor->offset_bytes, SEEK_SET), 0);
    cr_assert_eq(fread(expected, sizeof(float), n, file), n);
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)ag_job_gradient(rank->job, param)[i] - (double)expected[i];

        difference += d * d;
        length += (double)expected[i] * (double)expected[i];
    }
    free(expected);
    return length > 0 ? sqrt(difference / length) : sqrt(difference);
}

static void check_gradients(const train_t *train, const ag_rank_t *rank)
{
    ag_safetensors_t *reference;
    const ag_file_tensor_t *tensors;
    double worst = 0;
    char path[256];
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "%s%s/grads.safetensors", AG_TEST_DATA, train->model);
    cr_assert_eq(ag_safetensors_open(path, true, &reference), AG_OK, "%s", ag_error());
    file = fopen(path, "rb");
    cr_assert_not_null(file);
    tensors = ag_safetensors_tensors(reference, &n);
    for (size_t i = 0; i < n; i++) {
        double one = compare_gradient(rank, &tensors[i], file);

        cr_expect_leq(one, 1e-5, "%s differs by %g", tensors[i].name, one);
        worst = fmax(worst, one);
    }
    cr_expect_geq(n, rank->build->ranks[0].params.items.n_items - 1);
    printf("%s: %zu gradients within %.2g\n", train->model, n, worst);
    fclose(file);
    ag_safetensors_close(reference);
}

/* The loss of a batch, with gradients that change nothing, and without any. */
static ag_status_t evaluate(const ag_rank_t *rank, batch_t *batch)
{
    float whole[AG_N_TOTALS], forward[AG_N_TOTALS];
    ag_profile_t profile = {0}, before = {0};
    ag_status_t status;

    batch->update.is_frozen = true;
    status = ag_job_train(rank->job, batch->steps, whole);
    if (status == AG_OK) {
        ag_job_take_profile(rank->job, &before);
        batch->update.evaluates = true;
        status = ag_job_train(rank->job, batch->steps, forward);
        ag_job_take_profile(rank->job, &profile);
    }
    cr_expect_eq(whole[AG_TOTAL_LOSS], forward[AG_TOTAL_LOSS], "%.9g and %.9g",
                 (double)whole[AG_TOTAL_LOSS], (double)forward[AG_TOTAL_LOSS]);
    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        for (int type = 0; type < AG_N_DTYPES; type++) {
            cr_expect(profile.ns[kind][type] == 0 ||
                          strstr(ag_node_name((ag_node_kind_t)kind), "GRAD") == NULL,
                      "%s runs", ag_node_name((ag_node_kind_t)kind));
        }
    }
    cr_expect_eq(profile.ns[AG_NODE_ADAMW][AG_F32], 0);
    return status;
}

static ag_status_t drive(train_t *train, const ag_rank_t *rank)
{
    ag_status_t status = AG_OK;
    batch_t batch;

    for (uint32_t i = 0; i < train->n_steps && status == AG_OK; i++) {
        float totals[AG_N_TOTALS];

        fill_batch(train, i, rank->plan->train.micro_batch_size, &batch);
        status = ag_job_train(rank->job, batch.steps, totals);
        train->losses[i] = (double)totals[AG_TOTAL_LOSS] / (N_ROWS * ROW_TOKENS);
        train->norms[i] = sqrt((double)totals[AG_TOTAL_SQUARES]);
        if (status == AG_OK && i == 0 && train->has_gradients) {
            check_gradients(train, rank);
        }
        if (status == AG_OK && train->evaluates) {
            status = evaluate(rank, &batch);
        }
    }
    cr_expect_eq(ag_job_stop(rank->job), AG_OK);
    return status;
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    train_t *train = turn->arg;
    ag_rank_t rank = {0};
    char path[256];
    unsigned n_met = 0;
    ag_status_t status;

    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA, train->model);
    status = ag_rank_open(turn,
                          &(ag_rank_opts_t){.model = path,
                                            .plan = &train->opts,
                                            .lazy = devices_of_tests(),
                                            .change = train->by_shares ? sum_in_shares : NULL,
                                            .change_arg = &n_met},
                          &rank);
    if (status == AG_OK && train->by_shares) {
        cr_expect_gt(n_met, 0);
        status = ag_program_check(rank.programs.programs[0], rank.plan, AG_CHECK_PLACED,
                                  "summing in shares");
    }
    if (status == AG_OK) {
        status = turn->net->rank == 0 ? drive(train, &rank) : ag_job_follow(rank.job);
    }
    if (status != AG_OK) {
        fprintf(stderr, "rank %d: %s\n", turn->net->rank, ag_error());
    }
    cr_expect_eq(ag_rank_close(&rank), 0, "memory is given back");
    return status;
}

static void run_all(train_t *train, uint32_t n_ranks, const char *what)
{
    ag_status_t statuses[16];
    size_t n;

    train->opts.sequence_tokens = ROW_TOKENS;
    train->opts.global_batch_size = train->opts.micro_batches == NULL ? N_ROWS : 0;
    train->opts.compute = train->rounds ? AG_COMPUTE_AUTO : AG_COMPUTE_F32;
    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/tiny/train_stream.npy", &train->stream, &n), AG_OK);
    ag_turns_run(n_ranks, 1, run_rank, train, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "%s: rank %u", what, r);
    }
    free(train->stream);
}

/* @param bound  of a loss's and a norm's difference from the reference's, in parts of it. */
static void check_steps(const train_t *train, const ag_json_t *golden, double bound,
                        const char *what)
{
    double worst_loss = 0, worst_norm = 0;

    for (uint32_t i = 0; i < N_STEPS; i++) {
        double loss = ag_json_number(ag_json_at(ag_json_get(golden, "train_losses"), i), NAN);
        double norm =
            ag_json_number(ag_json_at(ag_json_get(golden, "train_grad_norms_preclip"), i), NAN);

        worst_loss = fmax(worst_loss, fabs(train->losses[i] - loss) / loss);
        worst_norm = fmax(worst_norm, fabs(train->norms[i] - norm) / norm);
    }
    printf("%s: losses within %.2g, norms within %.2g\n", what, worst_loss, worst_norm);
    cr_expect_leq(worst_loss, bound, "%s: losses differ by %g", what, worst_loss);
    cr_expect_leq(worst_norm, 10 * bound, "%s: norms differ by %g", what, worst_norm);
}

static void check_curve(const char *model, ag_plan_opts_t opts, uint32_t n_ranks, double bound,
                        const char *what)
{
    train_t train = {.model = model,
                     .opts = opts,
                     .n_steps = N_STEPS,
                     /* where the host may read them */
                     .has_gradients = n_ranks == 1 && strncmp(model, "/tiny/", 6) == 0 &&
                                      devices_of_tests() == NULL};
    ag_json_t *golden;
    char path[256];

    snprintf(path, sizeof(path), "%s%s/golden.json", AG_TEST_DATA, model);
    cr_assert_eq(ag_json_read(path, &golden), AG_OK, "%s", ag_error());
    run_all(&train, n_ranks, what);
    check_steps(&train, golden, bound, what);
    ag_json_destroy(golden);
}

/* With the losses that keep routers usable, of the whole batch as one micro-batch. */
static void check_router_losses(ag_plan_opts_t opts, uint32_t n_ranks, const char *what)
{
    ag_json_t *golden;

    opts.micro_batch_size = N_ROWS;
    cr_assert_eq(ag_json_read(AG_TEST_DATA "/variants/router.json", &golden), AG_OK, "%s",
                 ag_error());
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"balance", "z", "both"};
        const ag_json_t *one = ag_json_get(golden, names[i]);
        train_t train = {.model = "/tiny/mixtral",
                         .opts = opts,
                         .n_steps = N_STEPS,
                         .balance = (float)ag_json_number(ag_json_get(one, "aux"), NAN),
                         .z = (float)ag_json_number(ag_json_get(one, "z"), NAN)};

        run_all(&train, n_ranks, what);
        check_steps(&train, one, 2e-5, what);
    }
    ag_json_destroy(golden);
}

Test(train, one_rank_follows_pytorchs_curve)
{
    check_curve("/tiny/llama", (ag_plan_opts_t){.micro_batch_size = 2}, 1, 2e-5, "a batch");
    check_curve("/tiny/llama", (ag_plan_opts_t){.micro_batch_size = 1}, 1, 2e-5, "micro-batches");
}

Test(train, stages_follow_it_in_any_order_of_their_work)
{
    check_curve("/tiny/llama", (ag_plan_opts_t){.pp = 2, .schedule = "1f1b"}, 2, 2e-5,
                "pp 2, 1f1b");
    check_curve("/tiny/llama", (ag_plan_opts_t){.pp = 2, .schedule = "gpipe"}, 2, 2e-5,
                "pp 2, gpipe");
    check_curve("/tiny/llama", (ag_plan_opts_t){.pp = 3, .micro_batch_size = 2}, 3, 2e-5,
                "pp 3, one micro-batch");
}

Test(train, replicas_follow_it)
{
    check_curve("/tiny/llama", (ag_plan_opts_t){.dp = 2}, 2, 2e-5, "dp 2");
    check_curve("/tiny/llama", (ag_plan_opts_t){.dp = 2, .pp = 2}, 4, 2e-5, "dp 2, pp 2");
}

Test(train, models_with_experts_follow_it)
{
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.micro_batch_size = 2}, 1, 2e-5, "experts");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.micro_batch_size = 1, .recompute = true}, 1,
                2e-5, "experts, recomputed");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.pp = 2}, 2, 2e-5, "experts, pp 2");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.dp = 2}, 2, 2e-5, "experts, dp 2");
}

Test(train, ranks_that_share_experts_out_follow_it)
{
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.tp = "2", .ep = "2"}, 2, 2e-5, "tp 2, ep 2");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.tp = "2", .ep = "1"}, 2, 2e-5, "tp 2, ep 1");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.tp = "2", .recompute = true, .pp = 2}, 4, 2e-5,
                "tp 2, ep 2, pp 2, recomputed");
}

Test(train, replicas_that_share_experts_out_follow_it)
{
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.ep = "2"}, 2, 2e-5, "ep 2");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.ep = "2", .expert_split = "1,4", .pp = 2}, 4,
                2e-5, "ep 1:4, pp 2");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.tp = "2", .dp = 2, .ep = "4"}, 4, 2e-5,
                "tp 2, dp 2, ep 4");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.tp = "2", .dp = 2, .ep = "2"}, 4, 2e-5,
                "tp 2, dp 2, ep 2");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.tp = "3", .dp = 2, .ep = "2"}, 6, 2e-5,
                "tp 3, dp 2, ep 2: replicas hold other copies");
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.ep = "2", .zero_stage = 1, .recompute = true}, 2,
                2e-5, "ep 2, zero 1, recomputed");
}

/* A replica that has fewer micro-batches goes through empty ones. */
Test(train, replicas_of_uneven_micro_batches_that_share_experts_out_follow_it)
{
    check_curve("/tiny/mixtral", (ag_plan_opts_t){.dp = 2, .ep = "2", .micro_batches = "1,3"}, 2,
                2e-5, "ep 2, 1 and 3 micro-batches");
    check_curve("/tiny/mixtral",
                (ag_plan_opts_t){.tp = "2", .dp = 2, .ep = "4", .pp = 2, .micro_batches = "2,1"}, 8,
                2e-5, "tp 2, ep 4, pp 2, 2 and 1 micro-batches");
    check_curve("/tiny/mixtral",
                (ag_plan_opts_t){
                    .dp = 2, .ep = "2", .micro_batches = "3,1", .zero_stage = 1, .recompute = true},
                2, 2e-5, "ep 2, zero 1, recomputed, 3 and 1 micro-batches");
}

Test(train, losses_of_routers_are_transformers_of_each_layer)
{
    check_router_losses((ag_plan_opts_t){.schedule = NULL}, 1, "routers' losses");
    check_router_losses((ag_plan_opts_t){.tp = "2", .pp = 2, .recompute = true}, 4,
                        "routers' losses, tp 2, ep 2, pp 2");
}

Test(train, ranks_of_a_layer_follow_it)
{
    check_curve("/tiny/llama", (ag_plan_opts_t){.tensor_split = "6,3"}, 2, 2e-5, "tp 2, 6:3");
    check_curve("/tiny/llama", (ag_plan_opts_t){.tp = "3", .pp = 2}, 6, 2e-5, "tp 3, pp 2");
}

Test(train, ranks_that_share_a_head_of_keys_follow_it)
{
    check_curve("/tiny/llama", (ag_plan_opts_t){.tensor_split = "5,4"}, 2, 2e-5, "tp 2, 5:4");
    check_curve("/tiny/llama", (ag_plan_opts_t){.tp = "7"}, 7, 2e-5, "tp 7");
    check_curve("/tiny/llama", (ag_plan_opts_t){.tensor_split = "5,4", .dp = 2, .pp = 2}, 8, 2e-5,
                "tp 2, 5:4, dp 2, pp 2");
}

Test(train, layers_that_are_computed_again_follow_it)
{
    check_curve("/tiny/llama", (ag_plan_opts_t){.recompute = true}, 1, 2e-5, "recompute");
    check_curve("/tiny/llama", (ag_plan_opts_t){.recompute = true, .tensor_split = "5,4", .pp = 2},
                4, 2e-5, "recompute, tp 2, pp 2");
}

Test(train, replicas_that_share_the_optimizer_out_follow_it)
{
    check_curve("/tiny/llama", (ag_plan_opts_t){.dp = 2, .zero_stage = 1}, 2, 2e-5, "dp 2, zero 1");
    check_curve("/tiny/llama",
                (ag_plan_opts_t){.dp = 2, .zero_stage = 1, .tensor_split = "5,4", .pp = 2}, 8, 2e-5,
                "dp 2, zero 1, tp 2, pp 2");
}

/* Norms of shared rows read what their ranks keep of these unrounded. */
Test(train, rows_may_be_shared_out_where_products_round)
{
    static const struct {
        const char *model;
        ag_plan_opts_t opts;
        uint32_t n_ranks;
    } cases[] = {{"/tiny/llama", {.tp = "2"}, 2},
                 {"/tiny/llama", {.tensor_split = "5,4", .pp = 2, .split_backward = true}, 4},
                 {"/tiny/llama", {.tp = "3", .recompute = true}, 3},
                 {"/tiny/llama", {.tp = "2", .dp = 2, .zero_stage = 1}, 4},
                 {"/tiny/mixtral", {.tp = "2", .ep = "2"}, 2}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        train_t train = {
            .model = cases[i].model, .opts = cases[i].opts, .n_steps = N_STEPS, .rounds = true};
        ag_json_t *golden;
        char path[256];

        train.opts.sequence_parallel = AG_CHOICE_ON;
        snprintf(path, sizeof(path), "%s%s/golden.json", AG_TEST_DATA, train.model);
        cr_assert_eq(ag_json_read(path, &golden), AG_OK, "%s", ag_error());
        run_all(&train, cases[i].n_ranks, "rounded");
        check_steps(&train, golden, 1e-2, "rounded");
        ag_json_destroy(golden);
    }
}

/* What is added to what, and in which order, is the same. */
Test(train, gradients_of_weights_that_come_later_have_the_same_bits)
{
    static const struct {
        const char *model;
        ag_plan_opts_t opts;
        uint32_t n_ranks;
    } cases[] = {{"/tiny/llama", {.micro_batch_size = 1}, 1},
                 {"/tiny/llama", {.pp = 2, .schedule = "gpipe"}, 2},
                 {"/tiny/llama", {.tensor_split = "5,4", .pp = 2}, 4},
                 {"/tiny/llama", {.tp = "2", .sequence_parallel = AG_CHOICE_OFF}, 2},
                 {"/tiny/mixtral", {.tp = "2", .ep = "1"}, 2},
                 {"/tiny/mixtral", {.dp = 2, .ep = "2", .zero_stage = 1}, 2}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        train_t together = {.model = cases[i].model, .opts = cases[i].opts, .n_steps = 5};
        train_t split = together;

        split.opts.split_backward = true;
        run_all(&together, cases[i].n_ranks, "together");
        run_all(&split, cases[i].n_ranks, "split");
        cr_expect_eq(memcmp(together.losses, split.losses, sizeof(split.losses)), 0, "case %zu", i);
        cr_expect_eq(memcmp(together.norms, split.norms, sizeof(split.norms)), 0, "case %zu", i);
    }
}

/* Of two replicas: a sum of two has one order. */
Test(train, gradients_summed_in_uneven_shares_have_the_same_bits)
{
    static const ag_plan_opts_t opts[] = {{.dp = 2}, {.dp = 2, .pp = 2}, {.dp = 2, .tp = "2"}};
    static const uint32_t n_ranks[] = {2, 4, 4};

    for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
        train_t whole = {.model = "/tiny/llama", .opts = opts[i], .n_steps = 5}, shared = whole;

        shared.by_shares = true;
        run_all(&whole, n_ranks[i], "sums");
        run_all(&shared, n_ranks[i], "sums in shares");
        cr_expect_eq(memcmp(whole.losses, shared.losses, sizeof(whole.losses)), 0, "plan %zu", i);
        cr_expect_eq(memcmp(whole.norms, shared.norms, sizeof(whole.norms)), 0, "plan %zu", i);
    }
}

Test(train, an_evaluation_goes_forward_alone_and_changes_nothing)
{
    static const struct {
        const char *model;
        ag_plan_opts_t opts;
        uint32_t n_ranks;
    } of[] = {
        {"/tiny/llama", {.micro_batch_size = 1}, 1},
        {"/tiny/llama", {.tensor_split = "5,4", .pp = 2}, 4},
        {"/tiny/llama", {.dp = 2, .zero_stage = 1, .recompute = true}, 2},
        {"/tiny/mixtral", {.micro_batch_size = 2}, 1},
        {"/tiny/mixtral", {.tp = "2", .dp = 2, .ep = "4"}, 4},
        {"/variants/llama6", {.pp = 2, .schedule = "interleaved", .virtual_stages = 2}, 2},
    };

    for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
        train_t alone = {.model = of[i].model, .opts = of[i].opts, .n_steps = 3}, beside = alone;

        beside.evaluates = true;
        run_all(&alone, of[i].n_ranks, "without evaluations");
        run_all(&beside, of[i].n_ranks, "with evaluations");
        cr_expect_eq(memcmp(alone.losses, beside.losses, sizeof(alone.losses)), 0, "plan %zu", i);
        cr_expect_eq(memcmp(alone.norms, beside.norms, sizeof(alone.norms)), 0, "plan %zu", i);
    }
}

/* Its table is the head, too, of another stage. */
Test(train, an_interleaved_pipeline_of_six_layers_follows_it)
{
    static const char model[] = "/variants/llama6";

    check_curve(model, (ag_plan_opts_t){.micro_batch_size = 2}, 1, 2e-5, "6 layers");
    check_curve(model, (ag_plan_opts_t){.pp = 3, .tp = "1,2,1"}, 4, 2e-5, "pp 3, tp 1,2,1");
    check_curve(model, (ag_plan_opts_t){.pp = 2, .tensor_split = "2,1;1,2"}, 4, 2e-5,
                "pp 2, tp 2:1 and 1:2");
    check_curve(model, (ag_plan_opts_t){.pp = 2, .schedule = "interleaved", .virtual_stages = 2}, 2,
                2e-5, "interleaved");
    check_curve(model,
                (ag_plan_opts_t){.schedule = "interleaved",
                                 .virtual_stages = 2,
                                 .pipeline_split = "1,3,1,1",
                                 .tp = "2,1",
                                 .recompute = true},
                3, 2e-5, "interleaved, uneven, recompute");
}

/* A llama of 3 layers has a chunk a stage and one more: its shape is every other test's, too. */
Test(train, an_interleaved_pipeline_is_refused_where_layers_do_not_do)
{
    ag_plan_model_t model = {
        .spec_hash = "0123456789abcdef", .family = "llama", .n_layers = 3, .context_tokens = 128};
    ag_plan_opts_t opts = {.sequence_tokens = 32, .pp = 2, .virtual_stages = 2};
    ag_plan_t *plan;

    cr_expect_eq(ag_plan_make(&model, &opts, &plan), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "--virtual-stages 2 needs --schedule interleaved") != NULL, "%s",
              ag_error());
    opts.virtual_stages = 1;
    opts.pipeline_split = "1,2";
    cr_assert_eq(ag_plan_make(&model, &opts, &plan), AG_OK);
    ag_plan_destroy(plan);
}
