/* Programs of the tiny Mixtral: who holds which expert, and what travels. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check.h"
#include "program_text.h"
#include "support.h"

enum { LAYERS = 2, EXPERTS = 5, USED = 2, HEADS = 6, HIDDEN = 48, TOKENS = 16 };

static const uint64_t bounds[AG_N_SIZE_COUNTERS] = {1, TOKENS, 4, 1};

static const ag_plan_opts_t plans[] = {
    {0},
    {.ep = "2"},
    {.ep = "3"},
    {.ep = "5"},
    {.ep = "7"},
    {.expert_split = "0,5"},
    {.expert_split = "2,0,3"},
    {.tp = "2"},
    {.tp = "2", .ep = "2", .tensor_split = "2,1"},
    {.tp = "3", .expert_split = "1,0,4"},
    {.pp = 2},
    {.pp = 2, .ep = "2"},
    {.pp = 2, .tp = "2", .ep = "2"},
    {.tp = "1,2", .ep = "3,2", .expert_split = "1,1,3;5,0"},
};

enum { N_PLANS = sizeof(plans) / sizeof(plans[0]) };

static void open(const ag_plan_opts_t *opts, setup_t *setup)
{
    cr_assert_eq(open_model("/tiny/mixtral", opts, bounds, setup), AG_OK, "%s", ag_error());
}

Test(experts, every_plan_gives_a_program_that_is_accepted_and_reads_back_from_its_text)
{
    for (int i = 0; i < N_PLANS; i++) {
        ag_program_t *back = NULL;
        setup_t setup;
        char *text, *again;

        open(&plans[i], &setup);
        text = program_text(setup.program);
        cr_assert_eq(program_from_text(text, &back), AG_OK, "plan %d: %s", i, ag_error());
        again = program_text(back);
        cr_expect_str_eq(again, text);
        cr_expect_eq(ag_program_check(back, setup.plan, AG_CHECK_PLACED, "reading"), AG_OK, "%s",
                     ag_error());
        free(text);
        free(again);
        ag_program_destroy(back);
        close_setup(&setup);
    }
}

Test(experts, on_one_rank_a_model_is_one_operation)
{
    setup_t setup;

    open(&plans[0], &setup);
    cr_expect_eq(setup.program->ranks[0].ops.n_items, 1);
    cr_expect_eq(setup.program->bounds[AG_SIZE_SENT], TOKENS * USED);
    cr_expect_eq(setup.program->bounds[AG_SIZE_RECEIVED], 0);
    close_setup(&setup);
}

/* Numbers, rows and results a layer, its sums to all; and x once, attention where it is shared. */
Test(experts, of_a_layer_three_exchanges_and_a_gathering_are_made)
{
    for (uint32_t tensor = 0; tensor < 2; tensor++) {
        setup_t setup;

        open(&(ag_plan_opts_t){.ep = "2", .tp = tensor ? "2" : "1"}, &setup);
        for (uint32_t r = 0; r < 2; r++) {
            cr_expect_eq(count_ops(setup.program, r, AG_OP_ALL_TO_ALL), 3 * LAYERS);
            cr_expect_eq(count_ops(setup.program, r, AG_OP_ALL_GATHER), LAYERS);
            cr_expect_eq(count_ops(setup.program, r, AG_OP_ALL_REDUCE), 1u + tensor * LAYERS);
        }
        close_setup(&setup);
    }
}

Test(experts, bounds_follow_the_rows_of_a_rank_and_the_experts_it_holds)
{
    setup_t setup;

    open(&(ag_plan_opts_t){.ep = "3"}, &setup);
    cr_expect_eq(setup.program->bounds[AG_SIZE_SENT], 6 * USED, "a third of 16 rows");
    cr_expect_eq(setup.program->bounds[AG_SIZE_RECEIVED], TOKENS * USED);
    close_setup(&setup);
    open(&(ag_plan_opts_t){.ep = "5"}, &setup);
    cr_expect_eq(setup.program->bounds[AG_SIZE_RECEIVED], TOKENS, "a row uses an expert once");
    close_setup(&setup);
}

Test(experts, each_is_held_as_the_plan_says_and_each_row_finds_a_place)
{
    for (int i = 0; i < N_PLANS; i++) {
        setup_t setup;

        open(&plans[i], &setup);
        for (uint32_t r = 0; r < setup.build->n_ranks; r++) {
            const ag_shard_t *shard = &setup.build->ranks[r].shard;
            const ag_expert_shard_t *experts = &shard->experts;
            uint32_t n_places = 0,
                     n_heads = shard->layers[0].head_end - shard->layers[0].head_begin;

            for (uint32_t j = 0; j < shard->n_stage_ranks; j++) {
                n_places += experts->n_held_of[j];
            }
            cr_expect_eq(n_places, EXPERTS, "plan %d", i);
            cr_expect_eq(experts->n_places, EXPERTS);
            cr_expect_eq(experts->n_held, experts->n_held_of[shard->stage_index]);
            cr_expect(shard->n_ranks > 1 || n_heads == HEADS, "plan %d: attention is whole", i);
            for (uint32_t e = 0; e < EXPERTS; e++) { /* one holder each: all places follow */
                cr_expect_eq(experts->place_begin[e + 1], e + 1);
                cr_expect_eq(experts->places[e], e, "plan %d", i);
            }
        }
        close_setup(&setup);
    }
}

/* A rank of a stage's own expert is where its rows go; of others' any holder. */
Test(experts, of_several_holders_a_rank_takes_itself)
{
    static const uint32_t ranks[] = {0, 2, 1, 0, 1, 2, 2, 1}, begin[] = {0, 2, 3, 6, 7, 8};
    setup_t setup;
    ag_build_t *build = NULL;
    ag_holders_t *holders;

    open(&(ag_plan_opts_t){.ep = "3"}, &setup);
    holders = &setup.plan->stages[0].experts;
    free(holders->ranks);
    holders->ranks = malloc(sizeof(ranks));
    memcpy(holders->ranks, ranks, sizeof(ranks));
    memcpy(holders->begin, begin, sizeof(begin));
    cr_assert_eq(ag_build_create(setup.plan, setup.model, &build), AG_OK, "%s", ag_error());
    /* places: rank 0 holds 0 2, rank 1 holds 1 2 4, rank 2 holds 0 2 3 */
    cr_expect_arr_eq(build->ranks[0].shard.experts.n_held_of, ((uint32_t[]){2, 3, 3}),
                     3 * sizeof(uint32_t));
    cr_expect_arr_eq(build->ranks[0].shard.experts.places, ((uint32_t[]){0, 2, 1, 7, 4}),
                     5 * sizeof(uint32_t));
    cr_expect_arr_eq(build->ranks[1].shard.experts.place_begin, ((uint32_t[]){0, 2, 3, 4, 5, 6}),
                     6 * sizeof(uint32_t));
    cr_expect_arr_eq(build->ranks[1].shard.experts.places, ((uint32_t[]){0, 5, 2, 3, 7, 4}),
                     6 * sizeof(uint32_t));
    cr_expect_arr_eq(build->ranks[2].shard.experts.held, ((uint32_t[]){0, 2, 3}),
                     3 * sizeof(uint32_t));
    ag_build_destroy(build);
    close_setup(&setup);
}

/* What holds experts that is foretold: three weights each, and only its own. */
Test(experts, weights_are_those_of_the_experts_held)
{
    setup_t one, split;
    uint64_t expert_bytes = 3 * ((53 * HIDDEN * sizeof(float) + 63) / 64 * 64), bytes[2];

    open(&(ag_plan_opts_t){.compute = AG_COMPUTE_F32, .expert_split = "4,1"}, &split);
    open(&(ag_plan_opts_t){.compute = AG_COMPUTE_F32}, &one);
    bytes[0] = split.build->ranks[0].params.bytes;
    bytes[1] = split.build->ranks[1].params.bytes;
    cr_expect_lt(bytes[0], one.build->ranks[0].params.bytes - LAYERS * expert_bytes);
    cr_expect_gt(bytes[0] - bytes[1], (uint64_t)LAYERS * 3 * expert_bytes);
    close_setup(&one);
    close_setup(&split);
}
