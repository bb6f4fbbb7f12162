/* Buffers that ranks share out: their text, and what the checker asks of sums and gathers of them.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check_priv.h"
#include "support.h"

static const char *const three =
    "argosy_program 1: 3 ranks, at most 8 tokens, 1 outputs, 1 sequences\n"
    "group {0..2} channel 1\n"
    "\n"
    "rank 0: 32 bytes\n"
    "buffer g         32 x one         32 bytes at 0\n"
    "output g\n"
    "#    stream   op                             extent           after             uses\n"
    "0    compute  SEGMENT add mb0                -                -                 w+:g\n"
    "1    tensor   REDUCE_SCATTER {0..2} shares 3,0,5 mb0 32 x one         compute.0         "
    "rw/:g\n"
    "2    compute  SEGMENT add mb0                -                tensor.1          r/:g\n"
    "3    compute  SEGMENT add mb0                -                -                 rw/:g\n"
    "4    tensor   ALL_GATHER {0..2} shares 3,0,5 mb0 32 x one         compute.3         rw:g\n"
    "\n"
    "rank 1: 0 bytes\n"
    "#    stream   op                             extent           after             uses\n"
    "\n"
    "rank 2: 0 bytes\n"
    "#    stream   op                             extent           after             uses\n";

Test(shares, are_printed_and_read_back)
{
    ag_program_t *program = NULL;
    const ag_program_shares_t *shares;
    const ag_op_t *ops;
    char *again;

    cr_assert_eq(program_from_text(three, &program), AG_OK, "%s", ag_error());
    again = program_text(program);
    cr_expect_str_eq(again, three);
    free(again);
    ops = ag_rank_ops(&program->ranks[0]);
    shares = ag_op_shares(program, &ops[1]);
    cr_assert_not_null(shares);
    cr_expect(shares->n_ranks == 3 && shares->floats[0] == 3 && shares->floats[1] == 0 &&
              shares->floats[2] == 5);
    cr_expect_eq(ops[4].shares, ops[1].shares, "alike ones are one");
    cr_expect_null(ag_op_shares(program, &ops[2]));
    cr_expect_eq(program->shares.n_items, 1);
    ag_program_destroy(program);
}

/* What rank 0 does to its buffer of 8 floats, line by line; the group's other two ranks do the same
 * to the letter, but for lines of rank 2 that are others. */
static ag_program_t *three_alike(const char *const lines[], const char *other)
{
    ag_program_t *program = NULL;
    char text[4096];

    snprintf(text, sizeof(text),
             "argosy_program 1: 3 ranks, at most 8 tokens, 1 outputs, 1 sequences\n"
             "group {0..2} channel 1\n");
    for (int r = 0; r < 3; r++) {
        size_t n = strlen(text);

        snprintf(text + n, sizeof(text) - n, "rank %d:\nbuffer g 32 x one\nbuffer t 32 x tokens\n",
                 r);
        for (int i = 0; lines[i] != NULL; i++) {
            n = strlen(text);
            snprintf(text + n, sizeof(text) - n, "%d %s\n", i,
                     r == 2 && i == 1 && other != NULL ? other : lines[i]);
        }
    }
    cr_assert_eq(program_from_text(text, &program), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_program_link(program), AG_OK, "%s", ag_error());
    return program;
}

/* @param word  of the error; NULL: it is all right. */
static void expect(const char *const lines[], const char *other, const char *word)
{
    ag_program_t *program = three_alike(lines, other);
    ag_status_t status = AG_OK;

    for (uint32_t r = 0; r < 3 && status == AG_OK; r++) {
        status = ag_check_form(program, r);
        if (status == AG_OK) {
            status = ag_check_contents(program, r, AG_CHECK_LINKED);
        }
    }
    if (status == AG_OK) {
        status = ag_check_rendezvous(program);
    }
    cr_expect_eq(status, word == NULL ? AG_OK : AG_ERR_INVALID, "%s", ag_error());
    cr_expect(word == NULL || error_has(word));
    ag_program_destroy(program);
}

#define PART "compute SEGMENT add mb0 - - w+:g"
#define WHOLE "compute SEGMENT add mb0 - - w:g"
#define REDUCE "tensor REDUCE_SCATTER {0..2} shares 3,0,5 mb0 32 x one - rw/:g"
#define LOOK "compute SEGMENT add mb0 - - r/:g"
#define CHANGE "compute SEGMENT add mb0 - - rw/:g"
#define GATHER "tensor ALL_GATHER {0..2} shares 3,0,5 mb0 32 x one - rw:g"
#define READ "compute SEGMENT add mb0 - - r:g"

Test(shares, are_summed_changed_and_gathered)
{
    expect((const char *const[]){PART, REDUCE, LOOK, CHANGE, GATHER, READ, NULL}, NULL, NULL);
}

Test(shares, are_read_by_their_ranks_alone_until_they_are_gathered)
{
    expect((const char *const[]){PART, REDUCE, READ, GATHER, NULL}, NULL,
           "reads shares of several ranks that were not gathered");
    expect((const char *const[]){PART, LOOK, REDUCE, GATHER, NULL}, NULL,
           "reads a share of what is not shared out");
    expect((const char *const[]){PART, REDUCE, GATHER, LOOK, NULL}, NULL,
           "reads a share of what is not shared out");
    expect((const char *const[]){WHOLE, GATHER, READ, NULL}, NULL,
           "gathers what are no shares of several ranks");
    expect((const char *const[]){WHOLE, REDUCE, GATHER, NULL}, NULL, "sums what is no partial sum");
    expect((const char *const[]){PART, REDUCE, REDUCE, GATHER, NULL}, NULL,
           "sums what is no partial sum");
    expect((const char *const[]){PART, REDUCE, LOOK, NULL}, NULL, "nothing writes the output");
}

/* Of one size, of one group: only their names tell which is which. */
Test(shares, of_two_buffers_are_not_mistaken_for_each_other)
{
    static const char alike[] =
        "argosy_program 1: 2 ranks, at most 8 tokens, 1 outputs, 1 sequences\n"
        "group {0,1} channel 1\n"
        "rank 0:\n"
        "buffer g.0 32 x one\nbuffer g.1 32 x one\n"
        "0 tensor ALL_GATHER {0,1} shares 3,5 mb0 32 x one - rw:g.0\n"
        "1 tensor ALL_GATHER {0,1} shares 3,5 mb0 32 x one - rw:g.1\n"
        "rank 1:\n"
        "buffer g.0 32 x one\nbuffer g.1 32 x one\n"
        "0 tensor ALL_GATHER {0,1} shares 3,5 mb0 32 x one - rw:g.%d\n"
        "1 tensor ALL_GATHER {0,1} shares 3,5 mb0 32 x one - rw:g.%d\n";

    for (int swapped = 0; swapped < 2; swapped++) {
        ag_program_t *program = NULL;
        char text[2048];

        snprintf(text, sizeof(text), alike, swapped, 1 - swapped);
        cr_assert_eq(program_from_text(text, &program), AG_OK, "%s", ag_error());
        cr_assert_eq(ag_program_link(program), AG_OK);
        cr_expect_eq(ag_check_rendezvous(program), swapped ? AG_ERR_INVALID : AG_OK);
        cr_expect(!swapped || error_has("disagree on what they exchange"));
        ag_program_destroy(program);
    }
}

/* Of rows a rank works on its own, of what all have or of what was summed in shares. */
Test(shares, of_rows_are_read_of_what_is_whole_or_was_summed_so)
{
#define SUM_ROWS "compute SEGMENT add mb0 - - w+:t w:g"
#define SCATTER "tensor REDUCE_SCATTER {0..2} mb0 32 x tokens - rw/:t"
#define ON_ROWS "compute SEGMENT add mb0.s - - rw/:t"
#define ALL_ROWS "tensor ALL_GATHER {0..2} mb0 32 x tokens - rw:t"
#define READ_ROWS "compute SEGMENT add mb0 - - r:t"
    expect((const char *const[]){SUM_ROWS, SCATTER, ON_ROWS, ALL_ROWS, READ_ROWS, NULL}, NULL,
           NULL);
    expect((const char *const[]){"compute SEGMENT add mb0 - - w:t w:g", ON_ROWS, ALL_ROWS,
                                 READ_ROWS, NULL},
           NULL, NULL);
    expect((const char *const[]){SUM_ROWS, ON_ROWS, NULL}, NULL,
           "reads a share of what is not shared out");
    expect((const char *const[]){SUM_ROWS, SCATTER, READ_ROWS, NULL}, NULL,
           "reads shares of several ranks that were not gathered");
    expect((const char *const[]){SUM_ROWS, SCATTER, "compute SEGMENT add mb0.s - - rw:t", NULL},
           NULL, "half of what has no rows");
}

Test(shares, make_up_their_buffer_and_are_the_same_on_all_ranks)
{
    static const char *const not_added_up[] = {
        PART, "tensor REDUCE_SCATTER {0..2} shares 3,1,5 mb0 32 x one - rw/:g", GATHER, NULL};
    static const char *const missing[] = {PART, "tensor REDUCE_SCATTER {0..2} mb0 32 x one - rw/:g",
                                          GATHER, NULL};
    static const char *const of_rows[] = {
        "compute SEGMENT add mb0 - - w/:t w:g",
        "tensor ALL_GATHER {0..2} shares 3,0,5 mb0 32 x tokens - rw:t", NULL};
    static const char *const of_a_sum[] = {
        PART, "tensor ALL_REDUCE {0..2} shares 3,0,5 mb0 32 x one - rw:g", NULL};

    expect(not_added_up, NULL, "shares do not make up what it moves");
    expect(missing, NULL, "shares do not make up what it moves");
    expect(of_rows, NULL, "shares do not make up what it moves");
    expect(of_a_sum, NULL, "shares do not make up what it moves");
    expect((const char *const[]){PART, REDUCE, GATHER, NULL},
           "tensor REDUCE_SCATTER {0..2} shares 0,3,5 mb0 32 x one - rw/:g", "disagree");
}

Test(shares, that_are_no_numbers_of_the_groups_ranks_cannot_be_read)
{
    static const char *const bad[] = {"shares 3,5 mb0", "shares mb0", "shares 1,2,3,2 mb0",
                                      "shares 3,0,-5 mb0"};
    ag_program_t *program = NULL;
    char text[512];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text),
                 "argosy_program 1: 3 ranks, at most 8 tokens, 1 outputs, 1 sequences\n"
                 "group {0..2} channel 1\nrank 0:\nbuffer g 32 x one\n"
                 "0 tensor ALL_GATHER {0..2} %s 32 x one - rw:g\nrank 1:\nrank 2:\n",
                 bad[i]);
        cr_expect_eq(program_from_text(text, &program), AG_ERR_INVALID, "%s", bad[i]);
        cr_expect_null(strchr(ag_error(), '\n'), "%s", ag_error());
    }
}
