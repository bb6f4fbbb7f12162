/* Two halves of the rows: one's sums run behind the other's arithmetic. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check.h"
#include "parallel/program/order.h"
#include "support.h"

enum { LAYERS = 3 };

static uint32_t draw_prefill(uint64_t seed, setup_t *setup)
{
    return open_random(seed, setup) == AG_OK && setup->program->bounds[AG_SIZE_TOKENS] > 1;
}

/* The next segment of a half behind an operation; n_items: there is none. */
static uint32_t next_segment(const ag_rank_program_t *rank, uint32_t op, uint32_t half)
{
    for (op++; op < rank->ops.n_items; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];

        if (o->kind == AG_OP_SEGMENT && o->half == half) {
            break;
        }
    }
    return op;
}

static bool are_unordered(const ag_order_t *order, uint32_t a, uint32_t b)
{
    return !ag_order_is_before(order, a, b) && !ag_order_is_before(order, b, a);
}

static ag_part_t first_part(const ag_rank_program_t *rank, uint32_t op)
{
    uint32_t segment = ag_rank_ops(rank)[op].subject;

    return AG_ITEMS(&AG_ITEMS(&rank->segments, ag_segment_t)[segment].parts, ag_part_t)[0];
}

/* @param hides  (2, layers) in the model's numbers: sums of half A, of B, that were found to hide.
 */
static void count_hidden(const ag_rank_program_t *rank, uint32_t hides[2][LAYERS])
{
    ag_order_t order;

    cr_assert_eq(ag_order_init(rank, &order), AG_OK);
    for (uint32_t op = 1; op < rank->ops.n_items; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op];
        uint32_t other = o->half == AG_HALF_A ? AG_HALF_B : AG_HALF_A, next, own;

        if (o->kind != AG_OP_ALL_REDUCE) {
            continue;
        }
        cr_assert_neq(o->half, AG_HALF_BOTH);
        next = next_segment(rank, op, other);
        own = next_segment(rank, op, o->half);
        if (next < rank->ops.n_items && are_unordered(&order, op, next)) {
            ag_part_t part = first_part(rank, op - 1); /* whose sum it is */

            hides[o->half - AG_HALF_A][part.layer] += part.kind != AG_PART_EMBED;
        }
        cr_expect(own == rank->ops.n_items || ag_order_is_before(&order, op, own),
                  "what waits for the sum does");
    }
    ag_order_fini(&order);
}

/* Both ways, in every layer: only the stage's very last sum has nothing left to hide behind. */
Test(split, in_every_layer_each_halfs_sum_is_unordered_with_the_others_next_segment, .timeout = 60)
{
    enum { N_SEEDS = 120 };
    uint32_t n_tried = 0;

    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        setup_t setup;
        bool is_prefill = draw_prefill(seed, &setup);

        for (uint32_t s = 0; is_prefill && s < setup.plan->n_stages; s++) {
            const ag_stage_t *stage = &setup.plan->stages[s];
            const ag_replica_t *replica = &stage->replicas[0];

            for (uint32_t i = 0; i < replica->n_ranks && replica->n_ranks > 1; i++) {
                uint32_t hides[2][LAYERS] = {0};

                count_hidden(&setup.program->ranks[replica->ranks[i]], hides);
                for (uint32_t l = stage->layer_begin; l < stage->layer_end; l++) {
                    cr_expect_eq(hides[0][l], 2, "seed %lu, layer %u", (unsigned long)seed, l);
                    cr_expect_eq(hides[1][l], l + 1 < stage->layer_end ? 2 : 1,
                                 "seed %lu, layer %u", (unsigned long)seed, l);
                }
                n_tried++;
            }
        }
        close_setup(&setup);
    }
    cr_expect_gt(n_tried, N_SEEDS / 2);
}

static uint32_t count_halves(const ag_program_t *program)
{
    uint32_t n = 0;

    for (uint32_t r = 0; r < program->n_ranks; r++) {
        for (size_t op = 0; op < program->ranks[r].ops.n_items; op++) {
            n += ag_rank_ops(&program->ranks[r])[op].half != AG_HALF_BOTH;
        }
    }
    return n;
}

Test(split, few_rows_or_one_per_sequence_or_no_sums_go_undivided)
{
    static const struct {
        const char *tp;
        uint64_t bounds[AG_N_SIZE_COUNTERS];
        bool halves;
    } cases[] = {
        {"2", {1, 127, 1, 1}, false},    {"2", {1, 128, 1, 1}, true},
        {"2", {1, 129, 1, 7}, true},     {"2", {1, 128, 128, 128}, false},
        {NULL, {1, 512, 1, 1}, false},   {"1,1", {1, 512, 1, 1}, false},
        {"1,3", {1, 512, 512, 1}, true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        setup_t setup;

        cr_assert_eq(open_class(cases[i].tp, 0, NULL, cases[i].bounds, &setup), AG_OK, "%s",
                     ag_error());
        cr_expect_eq(count_halves(setup.program) > 0, cases[i].halves, "case %zu", i);
        close_setup(&setup);
    }
}

/* Swap half B's attention of a layer with half A's, all else left as it is. */
Test(split, half_b_before_half_a_is_refused_since_it_attends_to_what_a_has_cached)
{
    setup_t setup;
    ag_rank_program_t *rank;
    uint32_t n_swapped = 0;

    cr_assert_eq(open_class("2", 0, NULL, (uint64_t[AG_N_SIZE_COUNTERS]){1, 128, 1, 1}, &setup),
                 AG_OK);
    rank = &setup.program->ranks[1];
    for (uint32_t op = 0; op < rank->ops.n_items; op++) {
        ag_op_t *ops = ag_rank_ops(rank);

        if (ops[op].kind == AG_OP_SEGMENT && first_part(rank, op).kind == AG_PART_ATTN &&
            ops[op].half == AG_HALF_A) {
            uint32_t b = next_segment(rank, op, AG_HALF_B);

            cr_assert_eq(ops[b].subject, ops[op].subject);
            for (int back = 0; back < 2; back++) { /* sums with them: all ranks would agree */
                for (uint32_t i = 0; i < 2; i++) {
                    uint8_t half = ops[op + i].half;

                    ops[op + i].half = ops[b + i].half;
                    ops[b + i].half = half;
                }
                if (back == 0) {
                    cr_expect_eq(
                        ag_program_check(setup.program, setup.plan, AG_CHECK_SUMMED, "swapping"),
                        AG_ERR_INVALID);
                    cr_expect(strstr(ag_error(), "out of its turn") != NULL, "%s", ag_error());
                }
            }
            n_swapped++;
        }
    }
    cr_expect_eq(n_swapped, LAYERS);
    cr_expect_eq(ag_program_check(setup.program, setup.plan, AG_CHECK_PLACED, "all"), AG_OK, "%s",
                 ag_error());
    close_setup(&setup);
}

/* The cache has no buffer: what orders its uses is the compute stream. */
Test(split, a_layer_on_another_stream_is_refused)
{
    setup_t setup;

    cr_assert_eq(open_class("2", 0, NULL, (uint64_t[AG_N_SIZE_COUNTERS]){1, 128, 1, 1}, &setup),
                 AG_OK);
    for (uint32_t op = 0; op < setup.program->ranks[0].ops.n_items; op++) {
        ag_op_t *o = &ag_rank_ops(&setup.program->ranks[0])[op];

        if (o->kind == AG_OP_SEGMENT && o->half == AG_HALF_B) {
            o->stream = AG_STREAM_COLLECT;
        }
    }
    cr_assert_eq(ag_program_link(setup.program), AG_OK);
    cr_expect_eq(ag_program_check(setup.program, setup.plan, AG_CHECK_LINKED, "moving"),
                 AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "out of its turn") != NULL, "%s", ag_error());
    close_setup(&setup);
}

Test(split, half_of_a_message_is_refused)
{
    setup_t setup;

    cr_assert_eq(open_class("2", 0, NULL, (uint64_t[AG_N_SIZE_COUNTERS]){1, 128, 1, 1}, &setup),
                 AG_OK);
    for (uint32_t op = 0; op < setup.program->ranks[1].ops.n_items; op++) {
        ag_op_t *o = &ag_rank_ops(&setup.program->ranks[1])[op];

        if (o->kind == AG_OP_SEND) {
            o->half = AG_HALF_A;
        }
    }
    cr_expect_eq(ag_program_check(setup.program, setup.plan, AG_CHECK_SUMMED, "halving"),
                 AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "half of what has no rows") != NULL, "%s", ag_error());
    close_setup(&setup);
}
