/* Who holds which expert: from options, and in a plan's JSON. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_plans.h"

enum { EXPERTS = 5 };

static ag_plan_model_t mixed_model(void)
{
    ag_plan_model_t model = smol_model();

    model.n_experts = EXPERTS;
    return model;
}

static ag_plan_t *make(const ag_plan_opts_t *opts)
{
    ag_plan_model_t model = mixed_model();

    return make_plan_for(&model, opts);
}

/* The holders of a stage's experts, one each. */
static void expect_holders(const ag_plan_t *plan, uint32_t stage, const uint32_t ranks[EXPERTS])
{
    const ag_holders_t *experts = &plan->stages[stage].experts;

    cr_assert_eq(experts->n_experts, EXPERTS);
    cr_assert_eq(experts->begin[EXPERTS], EXPERTS);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        cr_expect_eq(experts->begin[e], e);
        cr_expect_eq(experts->ranks[e], ranks[e], "expert %u is with rank %u", e,
                     experts->ranks[e]);
    }
}

#define EXPECT_HOLDERS(plan, stage, ...)                                                           \
    expect_holders(plan, stage, (const uint32_t[EXPERTS]){__VA_ARGS__})

static void expect_replica(const ag_plan_t *plan, uint32_t stage, uint32_t n_ranks,
                           uint32_t tensor_ranks)
{
    cr_expect_eq(plan->stages[stage].replicas[0].n_ranks, n_ranks);
    cr_expect_eq(plan->stages[stage].replicas[0].tensor_ranks, tensor_ranks);
}

Test(plan_experts, without_ep_the_ranks_of_a_stage_share_them_out)
{
    ag_plan_t *plan = make(&(ag_plan_opts_t){.tp = "2,1"});

    expect_replica(plan, 0, 2, 2);
    expect_replica(plan, 1, 1, 1);
    EXPECT_HOLDERS(plan, 0, 0, 0, 0, 1, 1);
    EXPECT_HOLDERS(plan, 1, 2, 2, 2, 2, 2);
    ag_plan_destroy(plan);
}

Test(plan_experts, a_stage_has_as_many_ranks_as_the_larger_of_tp_and_ep)
{
    static const struct {
        const char *tp, *ep;
        uint32_t pp, n_ranks, tensor_ranks;
    } cases[] = {{NULL, "5", 0, 5, 1},
                 {"1", "3", 0, 3, 1},
                 {"2", "2", 0, 2, 2},
                 {"2", "2", 2, 4, 2},
                 {NULL, "2", 2, 4, 1}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_plan_t *plan =
            make(&(ag_plan_opts_t){.tp = cases[i].tp, .ep = cases[i].ep, .pp = cases[i].pp});

        cr_expect_eq(ag_plan_ranks(plan), cases[i].n_ranks);
        cr_expect_eq(plan->stages[0].replicas[0].tensor_ranks, cases[i].tensor_ranks);
        ag_plan_destroy(plan);
    }
}

Test(plan_experts, a_split_gives_each_rank_its_number)
{
    ag_plan_t *plan = make(&(ag_plan_opts_t){.expert_split = "3,0,2;5"});

    cr_expect_eq(plan->n_stages, 2);
    expect_replica(plan, 0, 3, 1);
    EXPECT_HOLDERS(plan, 0, 0, 0, 0, 2, 2);
    EXPECT_HOLDERS(plan, 1, 3, 3, 3, 3, 3);
    ag_plan_destroy(plan);
    plan = make(&(ag_plan_opts_t){.ep = "7"});
    EXPECT_HOLDERS(plan, 0, 0, 1, 2, 3, 4);
    expect_replica(plan, 0, 7, 1);
    ag_plan_destroy(plan);
}

Test(plan_experts, in_training_some_of_all_ranks_hold_a_copy)
{
    static const struct {
        ag_plan_opts_t opts;
        const char *holders;
        uint32_t n_replicas, end; /* of the first run of replicas that exchange rows */
    } cases[] = {
        {{.sequence_tokens = 8}, "[[0], [0], [0], [0], [0]]", 1, 1},
        {{.sequence_tokens = 8, .ep = "2"}, "[[0], [0], [0], [1], [1]]", 2, 2},
        {{.sequence_tokens = 8, .expert_split = "1,4"}, "[[0], [1], [1], [1], [1]]", 2, 2},
        {{.sequence_tokens = 8, .dp = 2}, "[[0, 1], [0, 1], [0, 1], [0, 1], [0, 1]]", 2, 1},
        {{.sequence_tokens = 8, .tp = "2"}, "[[0], [0], [0], [1], [1]]", 1, 1},
        {{.sequence_tokens = 8, .tp = "2", .dp = 2},
         "[[0, 2], [0, 2], [0, 2], [1, 3], [1, 3]]",
         2,
         1},
        {{.sequence_tokens = 8, .tp = "2", .dp = 2, .ep = "1"},
         "[[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]",
         2,
         1},
        {{.sequence_tokens = 8, .tp = "2", .dp = 3, .ep = "3"},
         "[[0, 3], [0, 3], [1, 4], [1, 4], [2, 5]]",
         3,
         3},
        {{.sequence_tokens = 8, .dp = 5, .ep = "5", .global_batch_size = 5},
         "[[0], [1], [2], [3], [4]]",
         5,
         5},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_plan_t *plan = make(&cases[i].opts);
        char expected[160], *text = plan_text(plan);

        snprintf(expected, sizeof(expected), "\"experts\": [{\"holders\": %s}]", cases[i].holders);
        cr_expect_not_null(strstr(text, expected), "case %zu: %s", i, text);
        free(text);
        cr_expect_eq(plan->stages[0].n_replicas, cases[i].n_replicas, "case %zu", i);
        cr_expect_eq(ag_stage_experts_end(&plan->stages[0], 0), cases[i].end, "case %zu", i);
        ag_plan_destroy(plan);
    }
}

/* Of which some are empty: those of replicas that exchange rows with one that has more. */
Test(plan_experts, replicas_that_share_experts_out_have_equally_many_turns)
{
    static const struct {
        ag_plan_opts_t opts;
        uint32_t n_replicas, turns[4];
        const char *empty; /* one letter a turn */
    } cases[] = {
        {{.dp = 2, .micro_batches = "5,3"}, 2, {5, 3}, "--------"},
        {{.dp = 2, .ep = "2", .micro_batches = "5,3"}, 2, {5, 5}, "--------ee"},
        {{.dp = 4, .ep = "2", .micro_batches = "1,2,3,1"}, 4, {2, 2, 3, 3}, "-e------ee"},
        {{.dp = 4, .pp = 2, .ep = "1,2", .micro_batches = "1,2,1,1"}, 4, {2, 2, 1, 1}, "-e----"},
        /* stage 1 links what stage 0 does not */
        {{.dp = 4, .pp = 2, .ep = "2,4", .micro_batches = "1,1,1,2"}, 4, {2, 2, 2, 2}, "-e-e-e--"},
        {{.tp = "2", .dp = 2, .ep = "2", .micro_batches = "2,1"}, 2, {2, 1}, "---"},
        {{.tp = "2", .dp = 2, .ep = "4", .micro_batches = "2,1"}, 2, {2, 2}, "---e"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_plan_model_t model = mixed_model();
        ag_plan_opts_t opts = cases[i].opts;
        ag_plan_t *plan = NULL;
        uint32_t first = 0;

        opts.sequence_tokens = 8;
        cr_assert_eq(ag_plan_make(&model, &opts, &plan), AG_OK, "case %zu: %s", i, ag_error());
        for (uint32_t r = 0; r < cases[i].n_replicas; r++) {
            cr_expect_eq(plan->stages[0].replicas[r].turns, cases[i].turns[r], "case %zu", i);
            cr_expect_eq(ag_plan_first_turn(plan, r), first, "case %zu", i);
            first += cases[i].turns[r];
        }
        cr_expect_eq(ag_plan_steps(plan), strlen(cases[i].empty), "case %zu", i);
        for (uint32_t t = 0; cases[i].empty[t] != '\0'; t++) {
            cr_expect_eq(ag_plan_turn_is_empty(plan, t), cases[i].empty[t] == 'e',
                         "case %zu, turn %u", i, t);
        }
        ag_plan_destroy(plan);
    }
}

Test(plan_experts, what_does_not_add_up_is_one_line)
{
    static const struct {
        ag_plan_opts_t opts;
        const char *first, *second;
    } cases[] = {
        {{.expert_split = "3,1"}, "--expert-split 3,1", "4 experts"},
        {{.expert_split = "1000000,1000000"}, "2000000 experts", "has 5"},
        {{.ep = "3", .expert_split = "3,2"}, "2 counts", "3 ranks"},
        {{.tp = "2", .ep = "3"}, "3 ranks", "over 2"},
        {{.tp = "2", .ep = "1"}, "1 rank,", "over 2"},
        {{.sequence_tokens = 8, .tp = "2", .dp = 2, .ep = "3"}, "over 3 ranks", "divide the 4"},
        {{.sequence_tokens = 8, .ep = "2", .micro_batches = "1,2049"}, "4098", "at most 4096"},
        {{.ep = "0"}, "--ep", "0 ranks"},
        {{.ep = "255"}, "--ep", "255 ranks"},
        {{.ep = "x"}, "--ep", "whole number"},
        {{.ep = "2,2", .pp = 3}, "--ep", "--pp"},
        {{.expert_split = "5;5", .ep = "1,1,1"}, "--ep", "--expert-split"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_plan_model_t model = mixed_model();
        ag_plan_t *plan = NULL;

        cr_expect_eq(ag_plan_make(&model, &cases[i].opts, &plan), AG_ERR_INVALID, "case %zu", i);
        cr_expect(error_says(cases[i].first, cases[i].second, NULL), "case %zu", i);
        ag_plan_destroy(plan);
    }
    cr_expect(refused_saying(&(ag_plan_opts_t){.ep = "2"}, "--ep", "no experts", NULL));
    cr_expect(refused_saying(&(ag_plan_opts_t){.expert_split = "1"}, "--expert-split", NULL));
}

#define HOLDERS "{\"holders\": [[0], [0], [0], [1], [1]]}"

Test(plan_experts, json_reads_as_it_was_written_and_is_hashed)
{
    ag_plan_t *plan = make(&(ag_plan_opts_t){.ep = "2"}), *back = NULL;
    char *text = plan_text(plan), *again, *changed, hash[17], other[17];

    cr_expect_not_null(strstr(text, "\"experts\": [" HOLDERS "]"), "%s", text);
    cr_expect_not_null(strstr(text, "\"tensor_ranks\": 1"), "%s", text);
    cr_assert_eq(read_plan(text, &back), AG_OK, "%s", ag_error());
    again = plan_text(back);
    cr_expect_str_eq(again, text);
    ag_plan_destroy(back);
    changed = text_with(text, HOLDERS, "{\"holders\": [[0], [0], [1, 0], [1], [1]]}");
    cr_assert_eq(read_plan(changed, &back), AG_OK, "%s", ag_error());
    cr_expect_eq(back->stages[0].experts.begin[EXPERTS], EXPERTS + 1);
    cr_assert_eq(ag_plan_hash(plan, hash), AG_OK);
    cr_assert_eq(ag_plan_hash(back, other), AG_OK);
    cr_expect_str_neq(hash, other);
    ag_plan_destroy(back);
    ag_plan_destroy(plan);
    free(text);
    free(again);
    free(changed);
}

Test(plan_experts, a_bad_member_is_named)
{
    static const char *const cases[][2] = {
        {"{\"holders\": [[0], [0], [0], [1], []]}", "experts[0].holders[4]"},
        {"{\"holders\": [[0], [0], [0], [1], 1]}", "nobody holds expert 4"},
        {"{\"holders\": [[0], [2]]}", "no rank of its stage"},
        {"{\"holders\": [[0], [1, 0, 1]]}", "holders[1][2] is 1, which stands twice"},
        {"{\"holders\": [[0], [-1]]}", "holders[1][0] must be a whole number"},
        {"{\"holders\": []}", "a list of 1 to 4096"},
        {"{}", "experts[0].holders"},
        {"5", "experts[0].holders"},
        {HOLDERS ", " HOLDERS, "one for each of 1 stage"},
        {"{\"holders\": [[0], [1]], \"more\": 1}", "more"},
    };
    ag_plan_t *plan = make(&(ag_plan_opts_t){.ep = "2"});
    char *text = plan_text(plan);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *changed = text_with(text, HOLDERS, cases[i][0]);
        ag_plan_t *back = NULL;

        cr_expect_eq(read_plan(changed, &back), AG_ERR_INVALID, "%s", cases[i][0]);
        cr_expect(error_says("p.json", cases[i][1], NULL));
        ag_plan_destroy(back);
        free(changed);
    }
    free(text);
    ag_plan_destroy(plan);
}

Test(plan_experts, attention_that_each_has_whole_needs_experts_to_share_out)
{
    ag_plan_t *plan = make(&(ag_plan_opts_t){.ep = "3"}), *back = NULL;
    char *text = plan_text(plan), *without, *two;

    without = text_with(text, "{\"holders\": [[0], [0], [1], [1], [2]]}", "");
    cr_expect_eq(read_plan(without, &back), AG_ERR_INVALID);
    cr_expect(error_says("tensor_ranks", "no experts", NULL));
    two = text_with(text, "\"tensor_ranks\": 1", "\"tensor_ranks\": 2");
    cr_expect_eq(read_plan(two, &back), AG_ERR_INVALID);
    cr_expect(error_says("tensor_ranks", "1 or the number of ranks, 3", NULL));
    free(without);
    free(two);
    free(text);
    ag_plan_destroy(plan);
}

Test(plan_experts, stages_and_the_model_have_the_same_number)
{
    ag_plan_t *plan = make(&(ag_plan_opts_t){.pp = 2}), *back = NULL;
    ag_plan_model_t model = mixed_model();
    char *text = plan_text(plan), *other;

    other = text_with(text, "[1], [1]]", "[1]]");
    cr_expect_eq(read_plan(other, &back), AG_ERR_INVALID);
    cr_expect(error_says("experts[1].holders has 4 experts", NULL));
    cr_expect_eq(ag_plan_check_model(plan, &model), AG_OK);
    model.n_experts = 0;
    cr_expect_eq(ag_plan_check_model(plan, &model), AG_ERR_INVALID);
    cr_expect(error_says("5 experts", "has 0", NULL));
    free(other);
    free(text);
    ag_plan_destroy(plan);
}

Test(plan_experts, the_same_job_on_one_rank_holds_all)
{
    ag_plan_t *plan = make(&(ag_plan_opts_t){.pp = 2, .ep = "2", .context_tokens = 77}), *one;

    cr_assert_eq(ag_plan_on_one(plan, &one), AG_OK);
    cr_expect_eq(ag_plan_ranks(one), 1);
    cr_expect_eq(one->stages[0].layer_end, 30);
    cr_expect_eq(one->context_tokens, 77);
    EXPECT_HOLDERS(one, 0, 0, 0, 0, 0, 0);
    ag_plan_destroy(one);
    ag_plan_destroy(plan);
}

static bool always(void *arg, const ag_plan_opts_t *opts)
{
    ag_plan_model_t model = *(const ag_plan_model_t *)arg;
    ag_plan_t *plan = NULL;
    bool made = ag_plan_make(&model, opts, &plan) == AG_OK;

    ag_plan_destroy(plan);
    return made;
}

Test(plan_experts, another_number_of_ranks_may_share_them_out)
{
    ag_plan_model_t model = mixed_model();
    ag_plan_opts_t opts = {.ep = "2", .expert_split = "3,2"};
    ag_plan_t *plan = make(&opts);

    cr_expect_eq(ag_plan_check_ranks(plan, &opts, 3, &(ag_plan_trial_t){always, &model}),
                 AG_ERR_INVALID);
    cr_expect(error_says("--ep 2 --expert-split 3,2", "or --ep 3", "mpirun -n 2", NULL));
    model.n_experts = 0;
    cr_expect_eq(ag_plan_check_ranks(plan, &opts, 3, &(ag_plan_trial_t){always, &model}),
                 AG_ERR_INVALID);
    cr_expect(error_says("--tp 3", NULL) && strstr(ag_error(), "--ep 3") == NULL);
    ag_plan_destroy(plan);
}
