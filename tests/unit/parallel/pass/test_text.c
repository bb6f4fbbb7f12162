/* Programs of random plans as text and back: nothing that a program is gets lost. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check.h"
#include "program_text.h"
#include "support.h"

static void expect_same_parts(const ag_rank_program_t *a, uint32_t a_segment,
                              const ag_rank_program_t *b, uint32_t b_segment)
{
    const ag_array_t *x = &AG_ITEMS(&a->segments, ag_segment_t)[a_segment].parts;
    const ag_array_t *y = &AG_ITEMS(&b->segments, ag_segment_t)[b_segment].parts;

    cr_assert_eq(x->n_items, y->n_items);
    cr_expect_arr_eq(x->items, y->items, x->n_items * sizeof(ag_part_t));
}

static void expect_same_op(const ag_rank_program_t *a, const ag_rank_program_t *b, uint32_t op)
{
    const ag_op_t *x = &ag_rank_ops(a)[op], *y = &ag_rank_ops(b)[op];

    cr_expect(x->kind == y->kind && x->stream == y->stream && x->counter == y->counter &&
              x->chunk == y->chunk && x->micro_batch == y->micro_batch &&
              x->unit_bytes == y->unit_bytes && x->peer == y->peer && x->channel == y->channel);
    cr_assert(x->n_uses == y->n_uses && x->n_deps == y->n_deps);
    cr_expect(x->n_uses == 0 ||
              memcmp(ag_op_uses(a, x), ag_op_uses(b, y), x->n_uses * sizeof(ag_use_t)) == 0);
    cr_expect(x->n_deps == 0 || memcmp(AG_ITEMS(&a->deps, uint32_t) + x->first_dep,
                                       AG_ITEMS(&b->deps, uint32_t) + y->first_dep,
                                       x->n_deps * sizeof(uint32_t)) == 0);
    if (x->kind == AG_OP_SEGMENT) {
        expect_same_parts(a, x->subject, b, y->subject);
    } else {
        cr_expect_eq(x->subject, y->subject);
    }
}

static void expect_same_rank(const ag_rank_program_t *a, const ag_rank_program_t *b)
{
    cr_expect_eq(a->memory_bytes, b->memory_bytes);
    cr_assert_eq(a->buffers.n_items, b->buffers.n_items);
    for (size_t i = 0; i < a->buffers.n_items; i++) {
        const ag_buffer_t *x = &AG_ITEMS(&a->buffers, ag_buffer_t)[i];
        const ag_buffer_t *y = &AG_ITEMS(&b->buffers, ag_buffer_t)[i];

        cr_expect(strcmp(x->name, y->name) == 0 && x->counter == y->counter &&
                  x->unit_bytes == y->unit_bytes && x->bytes == y->bytes &&
                  x->offset_bytes == y->offset_bytes);
    }
    cr_assert_eq(a->ops.n_items, b->ops.n_items);
    for (uint32_t i = 0; i < a->ops.n_items; i++) {
        expect_same_op(a, b, i);
    }
}

static void expect_same(const ag_program_t *a, const ag_program_t *b)
{
    cr_expect_arr_eq(a->bounds, b->bounds, sizeof(a->bounds));
    cr_expect_eq(a->output_buffer, b->output_buffer);
    cr_assert_eq(a->n_ranks, b->n_ranks);
    cr_assert_eq(a->groups.n_items, b->groups.n_items);
    for (size_t i = 0; i < a->groups.n_items; i++) {
        const ag_program_group_t *x = &AG_ITEMS(&a->groups, ag_program_group_t)[i];
        const ag_program_group_t *y = &AG_ITEMS(&b->groups, ag_program_group_t)[i];

        cr_assert_eq(x->n_ranks, y->n_ranks);
        cr_expect_arr_eq(x->ranks, y->ranks, x->n_ranks * sizeof(uint32_t));
        cr_expect_eq(x->channel, y->channel);
    }
    for (uint32_t r = 0; r < a->n_ranks; r++) {
        expect_same_rank(&a->ranks[r], &b->ranks[r]);
    }
}

Test(text, of_random_plans_reads_back_as_the_same_program, .timeout = 120)
{
    enum { N_SEEDS = 200 };
    uint32_t n_tried = 0;

    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        ag_program_t *back = NULL;
        setup_t setup;
        ag_status_t status = open_random(seed, &setup);
        char *text, *again;

        if (status == AG_OK) {
            text = program_text(setup.program);
            cr_assert_eq(program_from_text(text, &back), AG_OK, "%s", ag_error());
            expect_same(setup.program, back);
            again = program_text(back);
            cr_expect_str_eq(again, text);
            cr_expect_eq(ag_program_check(back, setup.plan, AG_CHECK_PLACED, "reading"), AG_OK,
                         "%s", ag_error());
            ag_program_destroy(back);
            free(text);
            free(again);
            n_tried++;
        } else {
            cr_expect(strstr(ag_error(), "nothing to hold") != NULL, "%s", ag_error());
        }
        close_setup(&setup);
    }
    cr_expect_gt(n_tried, N_SEEDS / 2);
}

/* As argosy show --rank prints it. */
Test(text, of_training_reads_back_as_the_same_program)
{
    static const ag_plan_opts_t opts[] = {
        {.dp = 2, .zero_stage = 1, .pp = 2},
        {.tp = "2", .ep = "2", .recompute = true},
    };

    for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
        ag_plan_opts_t plan = opts[i];
        ag_program_t *again = NULL;
        setup_t setup;
        char *text;

        plan.sequence_tokens = 16;
        plan.global_batch_size = 4;
        plan.micro_batch_size = 1;
        cr_assert_eq(open_model(i == 0 ? "/tiny/llama" : "/tiny/mixtral", &plan,
                                (uint64_t[AG_N_SIZE_COUNTERS]){1, 16, 16, 16}, &setup),
                     AG_OK, "%s", ag_error());
        text = program_text(setup.program);
        cr_assert_eq(program_from_text(text, &again), AG_OK, "%s", ag_error());
        expect_same(setup.program, again);
        ag_program_destroy(again);
        free(text);
        close_setup(&setup);
    }
}

Test(text, of_one_rank_reads_back_with_the_others_empty)
{
    setup_t setup;

    cr_assert_eq(open_setup("2", 2, NULL, &setup), AG_OK, "%s", ag_error());
    for (uint32_t shown = 0; shown < setup.program->n_ranks; shown++) {
        ag_program_t *back = NULL;
        char *text = NULL;
        size_t n_bytes;
        FILE *file = open_memstream(&text, &n_bytes);

        cr_assert_not_null(file);
        ag_program_print_heading(setup.program, file);
        for (uint32_t r = 0; r < setup.program->n_ranks; r++) {
            if (r == shown) {
                ag_program_print_rank(setup.program, r, file);
            } else {
                ag_program_print_no_rank(r, file);
            }
        }
        fclose(file);
        cr_assert_eq(program_from_text(text, &back), AG_OK, "%s", ag_error());
        for (uint32_t r = 0; r < setup.program->n_ranks; r++) {
            if (r == shown) {
                expect_same_rank(&setup.program->ranks[r], &back->ranks[r]);
            } else {
                cr_expect_eq(back->ranks[r].ops.n_items, 0);
            }
        }
        ag_program_destroy(back);
        free(text);
    }
    close_setup(&setup);
}
