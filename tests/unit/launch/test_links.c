#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "launch/links.h"
#include "parallel/run/job.h"

static void add_op(ag_program_t *program, uint32_t rank, const ag_op_t *op)
{
    uint32_t buffer;

    cr_assert_eq(ag_program_add_buffer(program, rank, "b", op->unit_bytes,
                                       (ag_size_counter_t)op->counter, &buffer),
                 AG_OK);
    cr_assert_eq(ag_program_add_op(program, rank, op, &(ag_use_t){buffer, AG_USE_READ}, 1), AG_OK);
}

/* Ranks 0 to 2 sum 6 floats in shares of 1, 2 and 3, and gather them, gather 60 bytes a token and
 * sum 100 a token; rank 1 sends rank 3 two messages. */
Test(links, carry_what_messages_and_sums_bring_them)
{
    const uint64_t bounds[AG_N_SIZE_COUNTERS] = {1, 8, 8, 1};
    const double counts[AG_N_COUNTERS] = {1, 4, 2, 1};
    ag_array_t links = AG_ARRAY(ag_link_t);
    ag_program_t *program;
    uint32_t group;
    uint16_t shares;

    cr_assert_eq(ag_program_create(4, bounds, NULL, &program), AG_OK);
    cr_assert_eq(ag_program_group(program, (uint32_t[]){0, 1, 2}, 3, &group), AG_OK);
    cr_assert_eq(ag_program_share_out(program, (uint64_t[]){1, 2, 3}, 3, &shares), AG_OK);
    for (uint32_t r = 0; r < 3; r++) {
        add_op(program, r,
               &(ag_op_t){.kind = AG_OP_ALL_REDUCE,
                          .counter = AG_SIZE_TOKENS,
                          .subject = group,
                          .unit_bytes = 100,
                          .peer = -1});
        add_op(program, r,
               &(ag_op_t){.kind = AG_OP_ALL_GATHER,
                          .counter = AG_SIZE_TOKENS,
                          .subject = group,
                          .unit_bytes = 60,
                          .peer = -1});
        for (int k = 0; k < 2; k++) {
            add_op(program, r,
                   &(ag_op_t){.kind = k == 0 ? AG_OP_REDUCE_SCATTER : AG_OP_ALL_GATHER,
                              .counter = AG_SIZE_ONE,
                              .subject = group,
                              .unit_bytes = 24,
                              .shares = shares,
                              .peer = -1});
        }
    }
    add_op(program, 1,
           &(ag_op_t){.kind = AG_OP_SEND, .counter = AG_SIZE_TOKENS, .unit_bytes = 7, .peer = 3});
    add_op(program, 1,
           &(ag_op_t){.kind = AG_OP_SEND, .counter = AG_SIZE_OUTPUTS, .unit_bytes = 5, .peer = 3});
    cr_assert_eq(ag_links_of(NULL, program, &links), AG_OK);
    cr_assert_eq(links.n_items, 4);
    for (size_t i = 0; i < links.n_items; i++) {
        ag_link_t *link = &AG_ITEMS(&links, ag_link_t)[i];

        link->rates = (ag_link_rates_t){.latency_s = 0.5, .bytes_per_s = 10};
        if (link->to == 3) {
            cr_expect_eq(link->from, 1);
            cr_expect_float_eq(ag_link_seconds(link, counts), 2 * 0.5 + (7 * 4 + 5 * 2) / 10.0,
                               1e-9);
        } else {
            cr_expect_eq(link->to, (link->from + 1) % 3);
            cr_expect_float_eq(
                ag_link_seconds(link, counts),
                4 * 0.5 + (4 * (100 + 60 / 3) + 4 * (1 + link->to + 1 + link->from)) / 10.0, 1e-9);
        }
    }
    ag_array_fini(&links);
    ag_program_destroy(program);
}

/* Experts 0 to 4 of the tiny model: rank 1 has 0 and 1, rank 2 has 1 to 4, rank 0 none. */
static ag_plan_t *plan_experts(const ag_model_t *model)
{
    static const uint32_t ranks[] = {1, 1, 2, 2, 2, 2}, begin[] = {0, 1, 3, 4, 5, 6};
    ag_plan_model_t facts = ag_build_plan_model(model);
    ag_holders_t *holders;
    ag_plan_t *plan;

    cr_assert_eq(ag_plan_make(&facts, &(ag_plan_opts_t){.tp = "1", .ep = "3"}, &plan), AG_OK, "%s",
                 ag_error());
    holders = &plan->stages[0].experts;
    free(holders->ranks);
    holders->ranks = malloc(sizeof(ranks));
    cr_assert_not_null(holders->ranks);
    memcpy(holders->ranks, ranks, sizeof(ranks));
    memcpy(holders->begin, begin, sizeof(begin));
    return plan;
}

/* Each token has two of five experts, each rank a third of the tokens; an expert that a rank has
 * itself stays, and one that two others have goes to each half of the times. Besides, the
 * input is summed, rows are gathered, and rank 0 gets logits. */
Test(links, carry_rows_to_experts_and_back)
{
    enum { LAYERS = 2, ROW_BYTES = 48 * 4 };
    static const double experts[3][3] = {{0, 1.5, 3.5}, {0, 2, 3}, {0, 1, 4}};
    static const double n_held[] = {0, 2, 4};
    ag_programs_t programs;
    ag_array_t links = AG_ARRAY(ag_link_t);
    ag_model_t *model;
    ag_plan_t *plan;
    ag_build_t *build;
    unsigned n_met = 0;

    cr_assert_eq(ag_model_open(AG_TEST_DATA "/tiny/mixtral", &model), AG_OK);
    plan = plan_experts(model);
    cr_assert_eq(ag_build_create(plan, model, &build), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_programs_create(build, false, true, &programs), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_links_of(build, programs.programs[0], &links), AG_OK);
    for (size_t i = 0; i < links.n_items; i++) {
        const ag_link_t *link = &AG_ITEMS(&links, ag_link_t)[i];
        double there = experts[link->from][link->to], back = experts[link->to][link->from];
        bool is_next = link->to == (link->from + 1) % 3; /* sums of the input, gathered rows */
        double copies = (there + back) / 5 * 2 / 3;
        double rows = is_next ? 1 + LAYERS / 3.0 : 0;

        cr_expect(link->of_sums);
        n_met += there + back > 0;
        cr_expect_eq(link->n_messages, LAYERS * (2 * (there > 0) + (back > 0)) +
                                           (1 + LAYERS) * is_next + (link->to == 0));
        cr_expect_float_eq(link->unit_bytes[AG_COUNT_TOKENS], ROW_BYTES * (LAYERS * copies + rows),
                           1e-6);
        cr_expect_float_eq(link->unit_bytes[AG_COUNT_ONE], LAYERS * 4 * n_held[link->to], 1e-6);
    }
    cr_expect_eq(n_met, 6);
    ag_array_fini(&links);
    ag_programs_destroy(&programs);
    ag_build_destroy(build);
    ag_plan_destroy(plan);
    ag_model_close(model);
}
