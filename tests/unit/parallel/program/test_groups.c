/* Three ranks whose groups overlap: in which orders their collectives come together. */
#include <criterion/criterion.h>
#include <string.h>

#include "parallel/program/check_priv.h"
#include "support.h"

/* One collective of each rank after another, on one stream; each rank's in the order given. */
static ag_status_t check_orders(const char *groups, const char *const orders[3][3])
{
    ag_program_t *program = NULL;
    char text[4096];
    ag_status_t status;

    snprintf(text, sizeof(text),
             "argosy_program 1: 3 ranks, at most 8 tokens, 1 outputs, 1 sequences\n%s", groups);
    for (int r = 0; r < 3; r++) {
        size_t n = strlen(text);

        snprintf(text + n, sizeof(text) - n,
                 "rank %d:\nbuffer x 16 x tokens\n0 compute SEGMENT add mb0 - - w+:x\n", r);
        for (int i = 0; i < 3 && orders[r][i] != NULL; i++) {
            n = strlen(text);
            snprintf(text + n, sizeof(text) - n, "%d tensor ALL_REDUCE %s mb0 16 x tokens - rw:x\n",
                     i + 1, orders[r][i]);
        }
    }
    cr_assert_eq(program_from_text(text, &program), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_program_link(program), AG_OK, "%s", ag_error());
    status = ag_check_rendezvous(program);
    ag_program_destroy(program);
    return status;
}

/* The error is a heading and just these lines, each once. */
static void expect_circle(const char *const lines[], uint32_t n)
{
    char heading[64];
    uint32_t n_lines = 0;

    snprintf(heading, sizeof(heading), "deadlock: each of %u lines waits for the next", n);
    cr_expect(error_has(heading));
    for (const char *at = ag_error(); *at != '\0'; at++) {
        n_lines += *at == '\n';
    }
    cr_expect_eq(n_lines, n, "%s", ag_error());
    for (uint32_t i = 0; i < n; i++) {
        cr_expect(error_has(lines[i]));
    }
}

#define ALL_THEN_TWO "group {0..2} channel 1\ngroup {1,2} channel 2\n"

Test(groups, in_another_order_on_one_rank_are_a_circle_of_four_lines)
{
    static const char *const one_turned[3][3] = {
        {"{0..2}"}, {"{0..2}", "{1,2}"}, {"{1,2}", "{0..2}"}};
    static const char *const other_turned[3][3] = {
        {"{0..2}"}, {"{1,2}", "{0..2}"}, {"{0..2}", "{1,2}"}};
    static const char *const one_circle[] = {
        "rank 1: 1    tensor   ALL_REDUCE {0..2}", "rank 2: 2    tensor   ALL_REDUCE {0..2}",
        "rank 2: 1    tensor   ALL_REDUCE {1,2}", "rank 1: 2    tensor   ALL_REDUCE {1,2}"};
    static const char *const other_circle[] = {
        "rank 1: 2    tensor   ALL_REDUCE {0..2}", "rank 2: 1    tensor   ALL_REDUCE {0..2}",
        "rank 2: 2    tensor   ALL_REDUCE {1,2}", "rank 1: 1    tensor   ALL_REDUCE {1,2}"};

    cr_expect_eq(check_orders(ALL_THEN_TWO, one_turned), AG_ERR_INVALID);
    expect_circle(one_circle, 4);
    cr_expect_eq(check_orders(ALL_THEN_TWO, other_turned), AG_ERR_INVALID);
    expect_circle(other_circle, 4);
}

Test(groups, in_one_order_on_all_ranks_run_to_their_end)
{
    static const char *const all_first[3][3] = {
        {"{0..2}"}, {"{0..2}", "{1,2}"}, {"{0..2}", "{1,2}"}};
    static const char *const two_first[3][3] = {
        {"{0..2}"}, {"{1,2}", "{0..2}"}, {"{1,2}", "{0..2}"}};

    cr_expect_eq(check_orders(ALL_THEN_TWO, all_first), AG_OK, "%s", ag_error());
    cr_expect_eq(check_orders(ALL_THEN_TWO, two_first), AG_OK, "%s", ag_error());
}

Test(groups, that_share_a_single_rank_may_come_in_any_order_there)
{
    static const char *const one[3][3] = {{"{0,1}"}, {"{0,1}", "{1,2}"}, {"{1,2}"}};
    static const char *const other[3][3] = {{"{0,1}"}, {"{1,2}", "{0,1}"}, {"{1,2}"}};
    const char *groups = "group {0,1} channel 1\ngroup {1,2} channel 2\n";

    cr_expect_eq(check_orders(groups, one), AG_OK, "%s", ag_error());
    cr_expect_eq(check_orders(groups, other), AG_OK, "%s", ag_error());
}

Test(groups, of_two_each_that_all_begin_with_the_next_are_a_circle_of_six_lines)
{
    static const char *const orders[3][3] = {
        {"{0,1}", "{2,0}"}, {"{1,2}", "{0,1}"}, {"{2,0}", "{1,2}"}};
    static const char *const circle[] = {
        "rank 0: 1    tensor   ALL_REDUCE {0,1}", "rank 1: 2    tensor   ALL_REDUCE {0,1}",
        "rank 1: 1    tensor   ALL_REDUCE {1,2}", "rank 2: 2    tensor   ALL_REDUCE {1,2}",
        "rank 2: 1    tensor   ALL_REDUCE {2,0}", "rank 0: 2    tensor   ALL_REDUCE {2,0}"};

    cr_expect_eq(
        check_orders("group {0,1} channel 1\ngroup {1,2} channel 2\ngroup {2,0} channel 3\n",
                     orders),
        AG_ERR_INVALID);
    expect_circle(circle, 6);
}
