#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_plans.h"

/* A stage's ranks count up from `first`; its shares are these. */
static void expect_stage(const ag_plan_t *plan, uint32_t stage, uint32_t layer_begin,
                         uint32_t layer_end, uint32_t first, uint32_t n_ranks,
                         const uint32_t *shares)
{
    const ag_stage_t *s = &plan->stages[stage];

    cr_assert_lt(stage, plan->n_stages);
    cr_expect_eq(s->layer_begin, layer_begin, "stage %u begins at %u", stage, s->layer_begin);
    cr_expect_eq(s->layer_end, layer_end, "stage %u ends at %u", stage, s->layer_end);
    cr_assert_eq(s->n_replicas, 1);
    cr_expect_eq(s->replicas[0].micro_batches, 1);
    cr_assert_eq(s->replicas[0].n_ranks, n_ranks, "stage %u has %u ranks", stage,
                 s->replicas[0].n_ranks);
    for (uint32_t i = 0; i < n_ranks; i++) {
        cr_expect_eq(s->replicas[0].ranks[i], first + i);
        cr_expect_eq(s->replicas[0].shares[i], shares[i], "share %u of stage %u is %u", i, stage,
                     s->replicas[0].shares[i]);
    }
}

#define EXPECT_STAGE(plan, stage, begin, end, first, n_ranks, ...)                                 \
    expect_stage(plan, stage, begin, end, first, n_ranks, (const uint32_t[]){__VA_ARGS__})

Test(plan_opts, no_options_are_one_rank_with_all_layers)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){0});

    cr_expect_eq(plan->n_stages, 1);
    EXPECT_STAGE(plan, 0, 0, 30, 0, 1, 1);
    cr_expect_eq(ag_plan_ranks(plan), 1);
    cr_expect_eq(plan->compute, AG_COMPUTE_AUTO);
    cr_expect_eq(plan->kv_type, AG_F16);
    cr_expect_eq(plan->context_tokens, 8192);
    cr_expect_eq(plan->batch_tokens, 512);
    cr_expect_eq(plan->n_sequences, 1);
    cr_expect_eq(plan->n_budgets, 0);
    cr_expect_str_eq(plan->spec_hash, "00112233aabbccdd");
    cr_expect_str_eq(plan->family, "llama");
    ag_plan_destroy(plan);
}

Test(plan_opts, exact_computing_keeps_an_f32_cache)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.compute = AG_COMPUTE_F32});

    cr_expect_eq(plan->compute, AG_COMPUTE_F32);
    cr_expect_eq(plan->kv_type, AG_F32);
    ag_plan_destroy(plan);
}

Test(plan_opts, one_degree_is_for_every_stage)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "2", .pp = 4});

    cr_expect_eq(plan->n_stages, 4);
    EXPECT_STAGE(plan, 0, 0, 8, 0, 2, 1, 1); /* the first stages take the remainder */
    EXPECT_STAGE(plan, 1, 8, 16, 2, 2, 1, 1);
    EXPECT_STAGE(plan, 2, 16, 23, 4, 2, 1, 1);
    EXPECT_STAGE(plan, 3, 23, 30, 6, 2, 1, 1);
    ag_plan_destroy(plan);
}

Test(plan_opts, a_degree_per_stage_says_how_many_stages)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "2,1"});
    ag_plan_t *agreed = make_plan(&(ag_plan_opts_t){.tp = "2,1", .pp = 2});
    char *text = plan_text(plan), *agreed_text = plan_text(agreed);

    EXPECT_STAGE(plan, 0, 0, 15, 0, 2, 1, 1);
    EXPECT_STAGE(plan, 1, 15, 30, 2, 1, 1);
    cr_expect_str_eq(text, agreed_text);
    free(text);
    free(agreed_text);
    ag_plan_destroy(plan);
    ag_plan_destroy(agreed);
}

Test(plan_opts, a_tensor_split_alone_says_the_degree)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tensor_split = "5,4", .pp = 2});

    cr_expect_eq(plan->n_stages, 2);
    EXPECT_STAGE(plan, 0, 0, 15, 0, 2, 5, 4);
    EXPECT_STAGE(plan, 1, 15, 30, 2, 2, 5, 4);
    ag_plan_destroy(plan);
    plan = make_plan(&(ag_plan_opts_t){.tensor_split = "5,4;1"});
    cr_expect_eq(plan->n_stages, 2);
    EXPECT_STAGE(plan, 0, 0, 15, 0, 2, 5, 4);
    EXPECT_STAGE(plan, 1, 15, 30, 2, 1, 1);
    ag_plan_destroy(plan);
}

Test(plan_opts, one_tensor_split_is_for_the_stages_of_its_length)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "3,1,3", .tensor_split = "7,1,1"});

    EXPECT_STAGE(plan, 0, 0, 10, 0, 3, 7, 1, 1);
    EXPECT_STAGE(plan, 1, 10, 20, 3, 1, 1);
    EXPECT_STAGE(plan, 2, 20, 30, 4, 3, 7, 1, 1);
    ag_plan_destroy(plan);
}

Test(plan_opts, a_rank_may_have_a_share_of_zero)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "3", .tensor_split = "2,0,1"});

    EXPECT_STAGE(plan, 0, 0, 30, 0, 3, 2, 0, 1);
    ag_plan_destroy(plan);
}

Test(plan_opts, a_pipeline_split_counts_layers_and_says_how_many_stages)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "2,1", .pipeline_split = "20,10"});

    EXPECT_STAGE(plan, 0, 0, 20, 0, 2, 1, 1);
    EXPECT_STAGE(plan, 1, 20, 30, 2, 1, 1);
    ag_plan_destroy(plan);
    plan = make_plan(&(ag_plan_opts_t){.pipeline_split = "1,28,1"});
    EXPECT_STAGE(plan, 1, 1, 29, 1, 1, 1);
    ag_plan_destroy(plan);
    plan = make_plan(&(ag_plan_opts_t){.pipeline_split = "30"});
    cr_expect_eq(plan->n_stages, 1);
    ag_plan_destroy(plan);
}

Test(plan_opts, as_many_stages_as_layers_are_the_most)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.pp = 30});

    EXPECT_STAGE(plan, 29, 29, 30, 29, 1, 1);
    ag_plan_destroy(plan);
    cr_expect(refused_saying(&(ag_plan_opts_t){.pp = 31}, "--pp asks for 31", "30 layers",
                             "give at most --pp 30", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.pp = UINT32_MAX}, "--pp", "4294967295", NULL));
}

Test(plan_opts, options_that_speak_of_different_stages_are_refused)
{
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2,1", .pp = 3}, "--pp is for 3", "--tp for 2",
                             NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.pp = 3, .pipeline_split = "20,10"}, "--pp is for 3",
                             "--pipeline-split for 2", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.pp = 2, .pipeline_split = "30"}, "--pp is for 2",
                             "--pipeline-split for 1", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "1,1,1", .pipeline_split = "20,10"},
                             "--pipeline-split is for 2", "--tp for 3", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2,2", .tensor_split = "5,4;1,1;1,1"},
                             "--tp is for 2", "--tensor-split for 3", NULL));
}

Test(plan_opts, shares_that_do_not_fit_the_degree_are_refused)
{
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2", .tensor_split = "5,4,3"},
                             "--tensor-split 5,4,3 has 3 shares", "--tp 2", "one share per rank",
                             NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "3,1", .tensor_split = "5,4"},
                             "--tensor-split 5,4 has 2 shares", "--tp 3,1", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2,1", .tensor_split = "5,4;1,1"},
                             "--tensor-split 5,4;1,1 has 2 shares for stage 1", "1 rank:", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tensor_split = "1,1;0,0"}, "--tensor-split 1,1;0,0",
                             "stage 1", "above 0", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tensor_split = "0"}, "--tensor-split", NULL));
}

Test(plan_opts, layers_must_add_up_and_leave_no_stage_empty)
{
    cr_expect(refused_saying(&(ag_plan_opts_t){.pipeline_split = "20,9"},
                             "--pipeline-split 20,9 gives 29 layers, the model has 30", NULL));
    cr_expect(
        refused_saying(&(ag_plan_opts_t){.pipeline_split = "20,11"}, "gives 31 layers", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.pipeline_split = "30,0"}, "--pipeline-split 30,0",
                             "stage 1 without a layer", NULL));
}

Test(plan_opts, more_stages_than_a_plan_can_have_are_refused_though_the_model_has_the_layers)
{
    ag_plan_model_t model = smol_model();
    ag_plan_t *plan = NULL;

    model.n_layers = 5000;
    cr_expect_eq(ag_plan_make(&model, &(ag_plan_opts_t){.pp = 4097}, &plan), AG_ERR_INVALID);
    cr_expect(error_says("--pp asks for 4097", "at most --pp 4096", NULL));
    cr_assert_eq(ag_plan_make(&model, &(ag_plan_opts_t){.pp = 4096}, &plan), AG_OK);
    cr_expect_eq(plan->stages[4095].layer_end, 5000);
    ag_plan_destroy(plan);
}

Test(plan_opts, what_is_not_a_list_of_numbers_is_refused)
{
    static const char *const nonsense[] = {"",
                                           "two",
                                           "2,",
                                           ",2",
                                           "2,,1",
                                           "-1",
                                           "+2",
                                           " 2",
                                           "2 ",
                                           "2.5",
                                           "0x2",
                                           "1000001",
                                           "2;",
                                           "2:1",
                                           "2\n",
                                           "1e3",
                                           "２",
                                           "2,x",
                                           "999999999999999999999"};

    for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++) {
        cr_expect(refused_saying(&(ag_plan_opts_t){.tp = nonsense[i]}, "--tp", NULL), "--tp %s",
                  nonsense[i]);
        cr_expect(
            refused_saying(&(ag_plan_opts_t){.tensor_split = nonsense[i]}, "--tensor-split", NULL),
            "--tensor-split %s", nonsense[i]);
        cr_expect(refused_saying(&(ag_plan_opts_t){.pipeline_split = nonsense[i]},
                                 "--pipeline-split", NULL),
                  "--pipeline-split %s", nonsense[i]);
    }
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2;1"}, "--tp", "separate by ','", NULL));
}

Test(plan_opts, degrees_and_ranks_stay_within_bounds)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "254"});

    cr_expect_eq(ag_plan_ranks(plan), 254);
    ag_plan_destroy(plan);
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "0"}, "--tp", "1 to 254", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2,0"}, "--tp", "stage 1", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "255"}, "--tp", "1 to 254", NULL));
}

static uint64_t budget_of(const char *text)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.max_memory = text});
    uint64_t bytes = plan->budget_bytes[0];

    ag_plan_destroy(plan);
    return bytes;
}

Test(plan_opts, budgets_are_understood_with_the_usual_suffixes)
{
    cr_expect_eq(budget_of("1500000000"), 1500000000);
    cr_expect_eq(budget_of("512B"), 512);
    cr_expect_eq(budget_of("1K"), 1024);
    cr_expect_eq(budget_of("1k"), 1024);
    cr_expect_eq(budget_of("1KB"), 1024);
    cr_expect_eq(budget_of("1KiB"), 1024);
    cr_expect_eq(budget_of("3M"), 3u << 20);
    cr_expect_eq(budget_of("1.5G"), 3u << 29);
    cr_expect_eq(budget_of("0.5GiB"), 1u << 29);
    cr_expect_eq(budget_of("2T"), 2ull << 40);
}

Test(plan_opts, one_budget_is_for_all_ranks_and_several_are_for_each)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.tp = "3", .max_memory = "2G"});

    cr_assert_eq(plan->n_budgets, 3);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(plan->budget_bytes[i], 2ull << 30);
    }
    ag_plan_destroy(plan);
    plan = make_plan(&(ag_plan_opts_t){.tp = "3", .max_memory = "2G,1G,512M"});
    cr_expect_eq(plan->budget_bytes[0], 2ull << 30);
    cr_expect_eq(plan->budget_bytes[1], 1ull << 30);
    cr_expect_eq(plan->budget_bytes[2], 512ull << 20);
    ag_plan_destroy(plan);
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "3", .max_memory = "2G,1G"},
                             "--max-memory 2G,1G has 2 budgets for 3 ranks", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.max_memory = "2G,1G"}, "2 budgets", NULL));
}

Test(plan_opts, what_is_no_number_of_bytes_is_refused)
{
    static const char *const nonsense[] = {"",       "much",
                                           "-1G",    "0",
                                           "0.1",    "1e9",
                                           "0x10",   "nan",
                                           "inf",    "1X",
                                           "1GG",    "1Gi",
                                           "1iB",    "G",
                                           "1 G",    "1G,",
                                           ",1G",    "1..5",
                                           "1.5.2G", "1.",
                                           ".5G",    "1G;1",
                                           "9999P",  "1G ",
                                           "1KBB",   "9999999999999999T"};

    for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense); i++) {
        cr_expect(
            refused_saying(&(ag_plan_opts_t){.max_memory = nonsense[i]}, "--max-memory", NULL),
            "--max-memory %s", nonsense[i]);
    }
    cr_expect(refused_saying(&(ag_plan_opts_t){.max_memory = "1G\nx"}, "--max-memory",
                             "control character", NULL));
}

Test(plan_opts, a_context_is_at_most_the_models_and_a_batch_at_most_the_context)
{
    ag_plan_t *plan = make_plan(&(ag_plan_opts_t){.context_tokens = 100, .n_sequences = 4});

    cr_expect_eq(plan->context_tokens, 100);
    cr_expect_eq(plan->batch_tokens, 100);
    cr_expect_eq(plan->n_sequences, 4);
    ag_plan_destroy(plan);
    plan = make_plan(&(ag_plan_opts_t){.context_tokens = 8192, .batch_tokens = 64});
    cr_expect_eq(plan->batch_tokens, 64);
    ag_plan_destroy(plan);
    cr_expect(
        refused_saying(&(ag_plan_opts_t){.context_tokens = 8193}, "--context 8193", "8192", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.n_sequences = 65537}, "65537 sequences", NULL));
}

Test(plan_opts, steps_of_128_rows_and_more_overlap_where_a_stage_has_several_ranks)
{
    static const struct {
        ag_plan_opts_t opts;
        uint32_t overlap_tokens;
    } cases[] = {{{0}, 0},
                 {{.pp = 2}, 0},
                 {{.tp = "2"}, 128},
                 {{.tp = "1,3"}, 128},
                 {{.tp = "2", .overlap_tokens = "1"}, 1},
                 {{.tp = "2", .overlap_tokens = "0"}, 0},
                 {{.overlap_tokens = "0"}, 0}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        ag_plan_t *plan = make_plan(&cases[i].opts), *back = NULL;
        ag_json_t *json = ag_plan_to_json(plan);

        cr_expect_eq(plan->overlap_tokens, cases[i].overlap_tokens, "case %zu", i);
        cr_assert_eq(ag_plan_from_json(json, "it", &back), AG_OK, "%s", ag_error());
        cr_expect_eq(back->overlap_tokens, cases[i].overlap_tokens, "case %zu", i);
        ag_json_destroy(json);
        ag_plan_destroy(back);
        ag_plan_destroy(plan);
    }
}

Test(plan_opts, what_cannot_overlap_is_refused)
{
    cr_expect(refused_saying(&(ag_plan_opts_t){.overlap_tokens = "64"}, "--overlap-tokens 64",
                             "--tp", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2", .overlap_tokens = "6,4"},
                             "--overlap-tokens", "one whole number", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2", .overlap_tokens = "x"},
                             "--overlap-tokens", "whole number", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.tp = "2", .overlap_tokens = ""}, "--overlap-tokens",
                             "whole number", NULL));
}
