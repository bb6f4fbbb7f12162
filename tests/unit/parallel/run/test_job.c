/* Whole jobs in one process: many random splits of the tiny llama against one rank. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/net_loop.h"
#include "parallel/run/driver.h"
#include "runtime/file/npy.h"
#include "support.h"

/* @param draw_fn  draws splits of the model. */
static void check_splits(const char *model, uint64_t n_seeds,
                         void (*draw_fn)(uint64_t seed, draw_t *draw))
{
    static work_t one, split;
    uint32_t n_split = 0;
    int32_t *ids;
    size_t n_ids;

    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/tiny/seq33.npy", &ids, &n_ids), AG_OK);
    cr_assert_eq(n_ids, MOST_IDS);
    one = (work_t){
        .model = model, .opts = {.compute = AG_COMPUTE_F32}, .ids = ids, .n_ids = MOST_IDS};
    cr_assert(run_work(&one, 1, 0, "one rank"));
    for (uint64_t seed = 0; seed < n_seeds; seed++) {
        double worst = 0;
        char what[384];
        draw_t draw;

        draw_fn(seed, &draw);
        snprintf(
            what, sizeof(what),
            "seed %lu: --tp %s --tensor-split %s --pipeline-split %s --ep %s --expert-split %s",
            (unsigned long)seed, draw.tp, draw.tensor_split, draw.pipeline_split, draw.ep,
            draw.expert_split);
        split = (work_t){.model = model, .opts = draw.opts, .ids = ids, .n_ids = MOST_IDS};
        if (!run_work(&split, draw.n_ranks, seed, what)) {
            continue;
        }
        for (size_t i = 0; i < MOST_IDS * VOCAB; i++) {
            worst = fmax(worst, fabs((double)split.logits[i] - (double)one.logits[i]));
        }
        cr_expect_leq(worst, 2e-5, "%s: logits differ by %g", what, worst);
        n_split += draw.n_ranks > 1;
    }
    cr_expect_gt(n_split, n_seeds / 2);
    free(ids);
}

Test(job, any_split_gives_one_ranks_logits, .timeout = 300)
{
    check_splits(NULL, 60, draw_options);
}

Test(job, any_split_of_experts_gives_one_ranks_logits, .timeout = 300)
{
    check_splits("/tiny/mixtral", 60, draw_experts);
}

/* The least of the 66 gaps that transformers' router logits have for seq33, in golden data. */
/* Small sums are added in the order of the ranks either way. */
Test(job, sums_in_uneven_shares_that_are_gathered_are_the_same_sums)
{
    static const char *const degrees[] = {"2", "3,2", "4"};
    static const uint32_t n_ranks[] = {2, 5, 4};
    static work_t whole, shared;
    int32_t *ids;
    size_t n_ids;

    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/tiny/seq33.npy", &ids, &n_ids), AG_OK);
    for (size_t i = 0; i < sizeof(degrees) / sizeof(degrees[0]); i++) {
        unsigned n_met = 0;

        whole = (work_t){.opts = {.tp = degrees[i],
                                  .pp = i == 1 ? 2 : 1,
                                  .batch_tokens = 1,
                                  .compute = AG_COMPUTE_F32},
                         .ids = ids,
                         .n_ids = MOST_IDS};
        shared = whole;
        shared.change = sum_in_shares;
        shared.change_arg = &n_met;
        cr_assert(run_work(&whole, n_ranks[i], 1, "sums"));
        cr_assert(run_work(&shared, n_ranks[i], 2, "sums in shares"));
        cr_expect_gt(n_met, 0);
        cr_expect_eq(memcmp(whole.logits, shared.logits, sizeof(whole.logits)), 0, "tp %s",
                     degrees[i]);
    }
    free(ids);
}

Test(job, the_routers_least_gap_is_the_references)
{
    static work_t work;
    int32_t *ids;
    size_t n_ids;

    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/tiny/seq33.npy", &ids, &n_ids), AG_OK);
    for (uint32_t n_ranks = 1; n_ranks <= 3; n_ranks += 2) {
        work = (work_t){.model = "/tiny/mixtral",
                        .opts = {.ep = n_ranks > 1 ? "3" : "1", .compute = AG_COMPUTE_F32},
                        .ids = ids,
                        .n_ids = MOST_IDS};
        cr_assert(run_work(&work, n_ranks, 1, "gaps"));
        cr_expect_float_eq((double)work.router_gap, 0.005019, 2e-5);
    }
    work = (work_t){.opts = {.compute = AG_COMPUTE_F32}, .ids = ids, .n_ids = MOST_IDS};
    cr_assert(run_work(&work, 1, 0, "no experts"));
    cr_expect(isinf(work.router_gap));
    free(ids);
}

/* A step of one sequence whose outputs are its last rows. */
static ag_status_t run_step(ag_job_t *job, int32_t n, int32_t n_outputs, int32_t position,
                            const float **logits_p)
{
    static const int32_t zeros[1000];
    int32_t positions[1000], outputs[1000], row_begin[2] = {0, n}, blocks[4] = {0, 1, 2, 3};

    for (int32_t i = 0; i < n; i++) {
        positions[i] = position + i;
        outputs[i] = i < n_outputs ? n - n_outputs + i : 0;
    }
    return ag_job_step(job,
                       &(ag_step_t){.counts = {1, (uint64_t)n, (uint64_t)n_outputs, 1},
                                    .tokens = zeros,
                                    .positions = positions,
                                    .row_begin = row_begin,
                                    .outputs = outputs,
                                    .block_tables = blocks,
                                    .table_stride = 4},
                       logits_p);
}

static ag_status_t run_too_large(ag_turn_t *turn)
{
    const float *logits = NULL;
    ag_rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);

    cr_assert_eq(status, AG_OK, "%s", ag_error());
    if (turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else {
        cr_expect_eq(run_step(rank.job, 1000, 1, 0, &logits), AG_ERR_INVALID);
        cr_expect(strstr(ag_error(), "1000 tokens") != NULL, "%s", ag_error());
        cr_expect_eq(run_step(rank.job, 4, 5, 0, &logits), AG_ERR_INVALID);
        cr_expect_eq(run_step(rank.job, 4, 1, 125, &logits), AG_ERR_INVALID);
        cr_expect_null(logits);
        cr_expect_not(ag_job_is_broken(rank.job));
        cr_expect_eq(run_step(rank.job, 4, 1, 0, &logits), AG_OK, "%s", ag_error());
        cr_expect_not_null(logits);
        cr_expect_eq(ag_job_stop(rank.job), AG_OK);
    }
    close_rank(&rank);
    return status;
}

Test(job, a_step_larger_than_every_class_is_refused_and_the_next_one_runs)
{
    for (uint32_t n_ranks = 1; n_ranks <= 2; n_ranks++) {
        work_t work = {
            .opts = {.tp = n_ranks == 1 ? "1" : "2", .compute = AG_COMPUTE_F32, .batch_tokens = 4}};
        ag_status_t statuses[2];

        ag_turns_run(n_ranks, 3, run_too_large, &work, statuses);
        for (uint32_t r = 0; r < n_ranks; r++) {
            cr_expect_eq(statuses[r], AG_OK, "rank %u of %u: %s", r, n_ranks,
                         ag_status_name(statuses[r]));
        }
    }
}

static const ag_net_ops_t *real_ops;

/* Rank 2's last word cannot be received. */
static ag_status_t refuse_stop(ag_net_t *net, int peer, uint32_t channel, void *data, size_t bytes,
                               ag_net_request_t *request)
{
    return channel == AG_CHANNEL_STOP && peer == 2
               ? ag_fail(AG_ERR_PEER, "rank 2 is gone")
               : real_ops->post_recv(net, peer, channel, data, bytes, request);
}

static ag_status_t run_deaf(ag_turn_t *turn)
{
    bool cancelled = false;
    ag_net_ops_t ops = *turn->net->ops;
    ag_rank_t rank = {0};

    cr_assert_eq(open_rank(turn, &rank), AG_OK, "%s", ag_error());
    if (turn->net->rank == 0) {
        real_ops = turn->net->ops;
        ops.post_recv = refuse_stop;
        turn->net->ops = &ops;
        cr_expect_eq(ag_job_is_cancelled(rank.job, &cancelled), AG_ERR_PEER);
        cr_expect_not(cancelled);
        cr_assert(ag_job_is_broken(rank.job));
        cr_expect_eq(ag_job_stop(rank.job), AG_OK, "nobody is waited for");
        turn->net->ops = real_ops;
    }
    close_rank(&rank);
    return AG_OK;
}

Test(job, a_rank_that_cannot_be_listened_to_breaks_the_job)
{
    work_t work = {.opts = {.tp = "3", .compute = AG_COMPUTE_F32}};
    ag_status_t statuses[3];

    ag_turns_run(3, 5, run_deaf, &work, statuses);
}

Test(job, a_cache_of_more_blocks_than_can_be_counted_is_refused)
{
    /* 32 positions a block: 2^31 and, of one sequence less, 2^31 - 2^15 blocks */
    for (uint32_t n_sequences = 65535; n_sequences <= 65536; n_sequences++) {
        ag_plan_opts_t opts = {.compute = AG_COMPUTE_F32, .n_sequences = n_sequences};
        ag_programs_t programs = {0};
        ag_rank_t rank = {0};
        ag_plan_model_t facts;
        ag_status_t status;

        cr_assert_eq(ag_model_open(AG_TEST_DATA "/tiny/llama", &rank.model), AG_OK);
        facts = ag_build_plan_model(rank.model);
        facts.context_tokens = 1 << 20;
        cr_assert_eq(ag_plan_make(&facts, &opts, &rank.plan), AG_OK, "%s", ag_error());
        cr_assert_eq(ag_build_create(rank.plan, rank.model, &rank.build), AG_OK);
        status = ag_programs_create(rank.build, false, false, &programs);
        cr_expect_eq(status, n_sequences == 65536 ? AG_ERR_INVALID : AG_OK, "%s", ag_error());
        if (status == AG_OK) {
            cr_expect_eq(ag_job_kv_blocks(rank.plan), 65535u << 15);
        }
        ag_programs_destroy(&programs);
        close_rank(&rank);
    }
}

static ag_status_t run_poor(ag_turn_t *turn)
{
    ag_rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);

    cr_expect_null(rank.job);
    if (status == AG_ERR_BUDGET) {
        cr_expect_not_null(strstr(ag_error(), "its budget is 4096"), "%s", ag_error());
        cr_expect_eq(ag_ledger_total(rank.ledger), 0, "nothing was taken");
    }
    close_rank(&rank);
    return status;
}

Test(job, a_plan_whose_budget_is_exceeded_is_not_run)
{
    work_t work = {.opts = {.tp = "2", .compute = AG_COMPUTE_F32, .max_memory = "4096"}};
    ag_status_t statuses[2];

    ag_turns_run(2, 5, run_poor, &work, statuses);
    cr_expect_eq(statuses[0], AG_ERR_BUDGET);
    cr_expect_eq(statuses[1], AG_ERR_BUDGET);
}

/* A clock of the test's own: a look at it takes 1 ns, all else what the test says. */
static uint64_t look(void *arg)
{
    return ++*(uint64_t *)arg;
}

static bool take_a_microsecond(void *arg, ag_answer_t *answer, int32_t id, ag_status_t *status)
{
    (void)answer;
    (void)id;
    (void)status;
    *(uint64_t *)arg += 1000;
    return false;
}

static void take_a_second(void *arg)
{
    *(uint64_t *)arg += 1000000000;
}

Test(job, a_tokens_time_is_all_that_it_takes_but_for_the_pauses_between)
{
    enum { N_PROMPT = 5, N_TOKENS = 4 };
    static const int32_t prompt[N_PROMPT] = {1, 2, 3, 4, 5};
    uint64_t now_ns = 0;
    work_t work = {.opts = {.compute = AG_COMPUTE_F32}, .clock = {look, &now_ns}};
    ag_generate_opts_t opts = {
        .sampling = &(ag_sampling_t){.temperature = 1},
        .max_tokens = N_TOKENS,
        .calls = {.on_token = take_a_microsecond, .pause = take_a_second, .arg = &now_ns}};
    ag_answer_t answer = {.prompt = prompt, .n_prompt = N_PROMPT, .tokens = AG_ARRAY(int32_t)};
    ag_run_figures_t figures = {0};
    ag_net_t *net = NULL;
    ag_rank_t rank = {0};

    cr_assert_eq(ag_net_loop_create(1, &net), AG_OK);
    cr_assert_eq(open_rank(&(ag_turn_t){.net = net, .arg = &work}, &rank), AG_OK);
    cr_assert_eq(ag_generate(rank.job, &answer, 1, &opts, &figures), AG_OK);
    cr_expect_eq(answer.tokens.n_items, N_TOKENS);
    cr_expect_eq(figures.decode.steps, N_TOKENS - 1);
    cr_expect_geq(figures.prefill.ns, figures.prefill.compute_ns + 1000, "with the first token");
    cr_expect_geq(figures.decode.ns, figures.decode.compute_ns + 1000 * (N_TOKENS - 1));
    cr_expect_lt(figures.decode.ns, 1000000000, "no pause is in it");
    cr_expect_geq(figures.prefill.sampling_ns, 1);
    cr_expect_geq(figures.decode.sampling_ns, N_TOKENS - 1);
    cr_expect_eq(ag_job_stop(rank.job), AG_OK);
    ag_array_fini(&answer.tokens);
    close_rank(&rank);
    ag_net_close(net);
}
