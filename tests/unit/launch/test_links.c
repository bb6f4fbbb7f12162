#include <criterion/criterion.h>

#include "launch/links.h"

static void add_op(ag_program_t *program, uint32_t rank, const ag_op_t *op)
{
    uint32_t buffer;

    cr_assert_eq(ag_program_add_buffer(program, rank, "b", op->unit_bytes,
                                       (ag_size_counter_t)op->counter, &buffer),
                 AG_OK);
    cr_assert_eq(ag_program_add_op(program, rank, op, &(ag_use_t){buffer, AG_USE_READ}, 1), AG_OK);
}

/* Ranks 0 to 2 sum 100 bytes a token; rank 1 sends rank 3 two messages. */
Test(links, carry_what_messages_and_sums_bring_them)
{
    const uint64_t bounds[AG_N_SIZE_COUNTERS] = {1, 8, 8, 1};
    const double counts[AG_N_COUNTERS] = {1, 4, 2, 1};
    ag_array_t links = AG_ARRAY(ag_link_t);
    ag_program_t *program;
    uint32_t group;

    cr_assert_eq(ag_program_create(4, bounds, NULL, &program), AG_OK);
    cr_assert_eq(ag_program_group(program, (uint32_t[]){0, 1, 2}, 3, &group), AG_OK);
    for (uint32_t r = 0; r < 3; r++) {
        add_op(program, r,
               &(ag_op_t){.kind = AG_OP_ALL_REDUCE,
                          .counter = AG_SIZE_TOKENS,
                          .subject = group,
                          .unit_bytes = 100,
                          .peer = -1});
    }
    add_op(program, 1,
           &(ag_op_t){.kind = AG_OP_SEND, .counter = AG_SIZE_TOKENS, .unit_bytes = 7, .peer = 3});
    add_op(program, 1,
           &(ag_op_t){.kind = AG_OP_SEND, .counter = AG_SIZE_OUTPUTS, .unit_bytes = 5, .peer = 3});
    cr_assert_eq(ag_links_of(program, &links), AG_OK);
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
            cr_expect_float_eq(ag_link_seconds(link, counts), 0.5 + 4 * 100 / 10.0, 1e-9);
        }
    }
    ag_array_fini(&links);
    ag_program_destroy(program);
}
