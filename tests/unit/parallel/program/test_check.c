/* What the checker says of programs built by hand; its errors quote the lines at fault. */
#include <criterion/criterion.h>
#include <string.h>

#include "parallel/program/check_priv.h"
#include "parallel/program/text.h"

static const uint64_t bounds[AG_N_SIZE_COUNTERS] = {1, 8, 1, 1};

/* Two ranks with a buffer of 16 bytes a token each. */
static ag_program_t *two_ranks(void)
{
    ag_program_t *program = NULL;
    uint32_t buffer;

    cr_assert_eq(ag_program_create(2, bounds, NULL, &program), AG_OK);
    for (uint32_t r = 0; r < 2; r++) {
        cr_assert_eq(ag_program_add_buffer(program, r, "x", 16, AG_SIZE_TOKENS, &buffer), AG_OK);
    }
    return program;
}

static void add_segment(ag_program_t *program, uint32_t rank, uint32_t buffer, uint32_t mode)
{
    ag_op_t op = {.kind = AG_OP_SEGMENT, .stream = AG_STREAM_COMPUTE, .peer = -1};

    cr_assert_eq(
        ag_program_add_segment(program, rank, &(ag_part_t){AG_PART_ADD, 0}, NULL, &op.subject),
        AG_OK);
    cr_assert_eq(ag_program_add_op(program, rank, &op, &(ag_use_t){buffer, mode}, 1), AG_OK);
}

static void add_message(ag_program_t *program, uint32_t rank, ag_op_kind_t kind,
                        uint32_t unit_bytes)
{
    ag_op_t op = {.kind = (uint8_t)kind,
                  .stream = AG_STREAM_PIPE,
                  .counter = AG_SIZE_TOKENS,
                  .unit_bytes = unit_bytes,
                  .peer = (int32_t)(1 - rank),
                  .channel = AG_LINK_CHANNEL};

    cr_assert_eq(ag_program_add_op(program, rank, &op,
                                   &(ag_use_t){0, kind == AG_OP_SEND ? AG_USE_READ : AG_USE_WRITE},
                                   1),
                 AG_OK);
}

static void add_sum(ag_program_t *program, uint32_t rank, uint32_t group)
{
    ag_op_t op = {.kind = AG_OP_ALL_REDUCE,
                  .stream = AG_STREAM_TENSOR,
                  .counter = AG_SIZE_TOKENS,
                  .unit_bytes = 16,
                  .subject = group,
                  .peer = -1,
                  .channel = AG_ITEMS(&program->groups, ag_program_group_t)[group].channel};

    cr_assert_eq(
        ag_program_add_op(program, rank, &op, &(ag_use_t){0, AG_USE_READ | AG_USE_WRITE}, 1),
        AG_OK);
}

static bool error_has(const char *text)
{
    return strstr(ag_error(), text) != NULL;
}

Test(link, a_send_waits_for_the_segment_that_writes_its_buffer)
{
    ag_program_t *program = two_ranks();
    const ag_rank_program_t *rank = &program->ranks[0];

    add_segment(program, 0, 0, AG_USE_WRITE);
    add_message(program, 0, AG_OP_SEND, 16);
    add_segment(program, 0, 0, AG_USE_READ);
    add_segment(program, 0, 0, AG_USE_WRITE);
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_expect_eq(ag_rank_ops(rank)[0].n_deps, 0);
    cr_assert_eq(ag_rank_ops(rank)[1].n_deps, 1);
    cr_expect_eq(AG_ITEMS(&rank->deps, uint32_t)[ag_rank_ops(rank)[1].first_dep], 0);
    cr_expect_eq(ag_rank_ops(rank)[2].n_deps, 0, "a stream is ordered by itself");
    cr_assert_eq(ag_rank_ops(rank)[3].n_deps, 1, "what is being sent must not be overwritten");
    cr_expect_eq(AG_ITEMS(&rank->deps, uint32_t)[ag_rank_ops(rank)[3].first_dep], 1);
    ag_program_destroy(program);
}

Test(order, follows_streams_and_dependencies)
{
    ag_program_t *program = two_ranks();
    ag_order_t order;

    add_segment(program, 0, 0, AG_USE_WRITE);
    add_message(program, 0, AG_OP_SEND, 16);
    add_segment(program, 0, 0, AG_USE_READ);
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_assert_eq(ag_order_init(&program->ranks[0], &order), AG_OK);
    cr_expect(ag_order_is_before(&order, 0, 1));
    cr_expect(ag_order_is_before(&order, 0, 2));
    cr_expect_not(ag_order_is_before(&order, 1, 2), "two readers are not ordered");
    cr_expect_not(ag_order_is_before(&order, 2, 0));
    ag_order_fini(&order);
    ag_program_destroy(program);
}

Test(check, two_ranks_that_both_send_first_are_a_deadlock_of_two_lines)
{
    ag_program_t *program = two_ranks();

    for (uint32_t r = 0; r < 2; r++) {
        add_segment(program, r, 0, AG_USE_WRITE);
        add_message(program, r, AG_OP_SEND, 16);
        add_message(program, r, AG_OP_RECV, 16);
    }
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_expect_eq(ag_check_rendezvous(program), AG_ERR_INVALID);
    cr_expect(error_has("deadlock") && error_has("SEND to rank 1") && error_has("SEND to rank 0"),
              "%s", ag_error());
    ag_program_destroy(program);
}

Test(check, an_exchange_in_the_right_order_is_none)
{
    ag_program_t *program = two_ranks();

    add_segment(program, 0, 0, AG_USE_WRITE);
    add_message(program, 0, AG_OP_SEND, 16);
    add_message(program, 0, AG_OP_RECV, 16);
    add_message(program, 1, AG_OP_RECV, 16);
    add_message(program, 1, AG_OP_SEND, 16);
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_expect_eq(ag_check_rendezvous(program), AG_OK, "%s", ag_error());
    ag_program_destroy(program);
}

Test(check, messages_of_different_size_are_quoted_both)
{
    ag_program_t *program = two_ranks();

    add_segment(program, 0, 0, AG_USE_WRITE);
    add_message(program, 0, AG_OP_SEND, 16);
    add_message(program, 1, AG_OP_RECV, 12);
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_expect_eq(ag_check_rendezvous(program), AG_ERR_INVALID);
    cr_expect(error_has("disagree") && error_has("16 x tokens") && error_has("12 x tokens"), "%s",
              ag_error());
    ag_program_destroy(program);
}

Test(check, a_receiver_without_sender_waits_forever)
{
    ag_program_t *program = two_ranks();

    add_message(program, 1, AG_OP_RECV, 16);
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_expect_eq(ag_check_rendezvous(program), AG_ERR_INVALID);
    cr_expect(error_has("RECV from rank 0"), "%s", ag_error());
    ag_program_destroy(program);
}

Test(check, groups_met_in_another_order_are_a_deadlock)
{
    ag_program_t *program = two_ranks();
    uint32_t both[] = {0, 1}, back[] = {1, 0}, first, second;

    cr_assert_eq(ag_program_group(program, both, 2, &first), AG_OK);
    cr_assert_eq(ag_program_group(program, back, 2, &second), AG_OK);
    cr_assert_neq(first, second);
    for (uint32_t r = 0; r < 2; r++) {
        add_segment(program, r, 0, AG_USE_WRITE | AG_USE_PARTIAL);
        add_sum(program, r, r == 0 ? first : second);
        add_sum(program, r, r == 0 ? second : first);
    }
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_expect_eq(ag_check_rendezvous(program), AG_ERR_INVALID);
    cr_expect(error_has("deadlock") && error_has("ALL_REDUCE"), "%s", ag_error());
    ag_program_destroy(program);
}

Test(check, a_write_that_nothing_orders_after_a_send_is_found)
{
    ag_program_t *program = two_ranks();
    ag_op_t *last;

    add_segment(program, 0, 0, AG_USE_WRITE);
    add_message(program, 0, AG_OP_SEND, 16);
    add_segment(program, 0, 0, AG_USE_WRITE);
    cr_assert_eq(ag_program_link(program), AG_OK);
    cr_expect_eq(ag_check_memory(program, 0, false), AG_OK, "%s", ag_error());
    last = &ag_rank_ops(&program->ranks[0])[2];
    last->n_deps = 0;
    cr_expect_eq(ag_check_memory(program, 0, false), AG_ERR_INVALID);
    cr_expect(error_has("SEND to rank 1"), "%s", ag_error());
    ag_program_destroy(program);
}

Test(check, buffers_in_use_together_must_not_share_bytes)
{
    ag_program_t *program = two_ranks();
    ag_buffer_t *buffers;
    uint32_t y;

    cr_assert_eq(ag_program_add_buffer(program, 0, "y", 16, AG_SIZE_TOKENS, &y), AG_OK);
    add_segment(program, 0, 0, AG_USE_WRITE);
    add_message(program, 0, AG_OP_SEND, 16);
    add_segment(program, 0, y, AG_USE_WRITE);
    cr_assert_eq(ag_program_link(program), AG_OK);
    buffers = AG_ITEMS(&program->ranks[0].buffers, ag_buffer_t);
    program->ranks[0].memory_bytes = 2 * buffers[0].bytes;
    buffers[y].offset_bytes = buffers[0].bytes;
    cr_expect_eq(ag_check_memory(program, 0, true), AG_OK, "%s", ag_error());
    buffers[y].offset_bytes = buffers[0].bytes - 4;
    cr_expect_eq(ag_check_memory(program, 0, true), AG_ERR_INVALID);
    cr_expect(error_has("share bytes"), "%s", ag_error());
    ag_program_destroy(program);
}

Test(text, names_the_operation_its_extent_what_it_waits_for_and_what_it_uses)
{
    ag_program_t *program = two_ranks();
    char line[512];

    add_segment(program, 0, 0, AG_USE_WRITE);
    add_message(program, 0, AG_OP_SEND, 16);
    cr_assert_eq(ag_program_link(program), AG_OK);
    ag_op_text(program, 0, 1, line, sizeof(line));
    cr_expect(strstr(line, "pipe") && strstr(line, "SEND to rank 1 x") &&
                  strstr(line, "16 x tokens") && strstr(line, "compute.0") && strstr(line, "r:x"),
              "%s", line);
    ag_program_destroy(program);
}
