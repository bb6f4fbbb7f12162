/* What the checker says of programs; its errors quote the lines at fault. */
#include <criterion/criterion.h>

#include "parallel/program/check_priv.h"
#include "support.h"

/* Rank 0's operations, linked, with rank 1 idle. */
static ag_program_t *one_rank_linked(const char *lines)
{
    char text[1024];

    snprintf(text, sizeof(text), "rank 0:\nbuffer x 16 x tokens\n%srank 1:\n", lines);
    return two_ranks_linked(text);
}

static void expect_after(const ag_program_t *program, uint32_t op, int64_t dep, const char *why)
{
    const ag_rank_program_t *rank = &program->ranks[0];
    const ag_op_t *o = &ag_rank_ops(rank)[op];

    cr_assert_eq(o->n_deps, dep >= 0, "%u: %s", op, why);
    cr_expect(dep < 0 || AG_ITEMS(&rank->deps, uint32_t)[o->first_dep] == dep, "%u: %s", op, why);
}

Test(link, a_send_waits_for_the_segment_that_writes_its_buffer)
{
    ag_program_t *program = one_rank_linked("0 compute SEGMENT add mb0 - - w:x\n"
                                            "1 out SEND to rank 1 mb0 16 x tokens - r:x\n"
                                            "2 compute SEGMENT add mb0 - - r:x\n"
                                            "3 compute SEGMENT add mb0 - - w:x\n");

    expect_after(program, 0, -1, "nothing is before it");
    expect_after(program, 1, 0, "it sends what the segment wrote");
    expect_after(program, 2, -1, "a stream is ordered by itself");
    expect_after(program, 3, 1, "what is being sent must not be overwritten");
    ag_program_destroy(program);
}

/* Dropping one of an operation's dependencies must not give it to the one before. */
Test(dag, has_each_operations_own_dependencies)
{
    ag_program_t *program = one_rank_linked("0 compute SEGMENT add mb0 - - w:x\n"
                                            "1 out SEND to rank 1 mb0 16 x tokens - r:x\n"
                                            "2 compute SEGMENT add mb0 - - w:x\n");
    ag_op_t *last = &ag_rank_ops(&program->ranks[0])[2];
    ag_dag_t dag;

    last->first_dep++;
    last->n_deps--;
    cr_assert_eq(ag_program_dag(program, 0, &dag), AG_OK, "%s", ag_error());
    cr_expect_eq(dag.dep_begin[2] - dag.dep_begin[1], 1);
    cr_expect_eq(dag.dep_begin[3] - dag.dep_begin[2], 0);
    ag_dag_fini(&dag);
    ag_program_destroy(program);
}

Test(order, follows_streams_and_dependencies)
{
    ag_program_t *program = one_rank_linked("0 compute SEGMENT add mb0 - - w:x\n"
                                            "1 out SEND to rank 1 mb0 16 x tokens - r:x\n"
                                            "2 compute SEGMENT add mb0 - - r:x\n");
    ag_order_t order;

    cr_assert_eq(ag_order_init(&program->ranks[0], &order), AG_OK);
    cr_expect(ag_order_is_before(&order, 0, 1));
    cr_expect(ag_order_is_before(&order, 0, 2));
    cr_expect_not(ag_order_is_before(&order, 1, 2), "two readers are not ordered");
    cr_expect_not(ag_order_is_before(&order, 2, 0));
    ag_order_fini(&order);
    ag_program_destroy(program);
}

Test(order, a_circle_within_a_rank_is_found)
{
    ag_program_t *program = two_ranks("rank 0:\nbuffer x 16 x tokens\n"
                                      "0 compute SEGMENT add mb0 - out.1 w:x\n"
                                      "1 out SEND to rank 1 mb0 16 x tokens compute.0 r:x\n"
                                      "rank 1:\n");

    cr_expect_eq(ag_check_memory(program, 0, false), AG_ERR_INVALID);
    cr_expect(error_has("rank 0") && error_has("circle"));
    ag_program_destroy(program);
}

/* Do the ranks come to an end? */
static void expect_rendezvous_as_is(const char *lines, ag_status_t wanted)
{
    ag_program_t *program = two_ranks(lines);

    cr_expect_eq(ag_check_rendezvous(program), wanted, "%s", ag_error());
    ag_program_destroy(program);
}

static void expect_rendezvous(const char *lines, ag_status_t wanted)
{
    ag_program_t *program = two_ranks_linked(lines);

    cr_expect_eq(ag_check_rendezvous(program), wanted, "%s", ag_error());
    ag_program_destroy(program);
}

static uint32_t count_lines(void)
{
    uint32_t n = 1;

    for (const char *at = ag_error(); *at != '\0'; at++) {
        n += *at == '\n';
    }
    return n;
}

Test(check, two_ranks_that_both_send_first_are_a_circle_of_four_lines)
{
    expect_rendezvous("rank 0:\nbuffer x 16 x tokens\n"
                      "0 compute SEGMENT add mb0 - - w:x\n"
                      "1 out SEND to rank 1 mb0 16 x tokens - r:x\n"
                      "2 out RECV from rank 1 mb0 16 x tokens - w:x\n"
                      "rank 1:\nbuffer x 16 x tokens\n"
                      "0 compute SEGMENT add mb0 - - w:x\n"
                      "1 out SEND to rank 0 mb0 16 x tokens - r:x\n"
                      "2 out RECV from rank 0 mb0 16 x tokens - w:x\n",
                      AG_ERR_INVALID);
    cr_expect_eq(count_lines(), 5, "%s", ag_error());
    cr_expect(error_has("deadlock: each of 4 lines") && error_has("rank 0: 1    out      SEND") &&
              error_has("rank 0: 2    out      RECV") && error_has("rank 1: 1    out      SEND") &&
              error_has("rank 1: 2    out      RECV"));
}

Test(check, an_exchange_in_the_right_order_is_none)
{
    expect_rendezvous("rank 0:\nbuffer x 16 x tokens\n"
                      "0 compute SEGMENT add mb0 - - w:x\n"
                      "1 out SEND to rank 1 mb0 16 x tokens - r:x\n"
                      "2 out RECV from rank 1 mb0 16 x tokens - w:x\n"
                      "rank 1:\nbuffer x 16 x tokens\n"
                      "0 out RECV from rank 0 mb0 16 x tokens - w:x\n"
                      "1 out SEND to rank 0 mb0 16 x tokens - r:x\n",
                      AG_OK);
}

Test(check, messages_of_different_size_are_quoted_both)
{
    expect_rendezvous("rank 0:\nbuffer x 16 x tokens\n"
                      "0 compute SEGMENT add mb0 - - w:x\n"
                      "1 out SEND to rank 1 mb0 16 x tokens - r:x\n"
                      "rank 1:\nbuffer x 12 x tokens\n"
                      "0 out RECV from rank 0 mb0 12 x tokens - w:x\n",
                      AG_ERR_INVALID);
    cr_expect(error_has("disagree") && error_has("16 x tokens") && error_has("12 x tokens"));
}

Test(check, a_receiver_without_sender_waits_forever)
{
    expect_rendezvous("rank 0:\nrank 1:\nbuffer x 16 x tokens\n"
                      "0 out RECV from rank 0 mb0 16 x tokens - w:x\n",
                      AG_ERR_INVALID);
    cr_expect(error_has("nothing of rank 0 ever meets this") && error_has("RECV from rank 0"));
}

Test(check, a_circle_through_dependencies_has_no_other_lines)
{
    expect_rendezvous_as_is("rank 0:\nbuffer x 16 x tokens\n"
                            "0 compute SEGMENT add mb0 - - w:x\n"
                            "1 compute SEGMENT add mb0 - out.3 r:x\n"
                            "2 tensor SEND to rank 1 mb0 16 x tokens compute.1 r:x\n"
                            "3 out SEND to rank 1 mb0 16 x tokens tensor.2 r:x\n"
                            "rank 1:\nbuffer x 16 x tokens\n"
                            "0 out RECV from rank 0 mb0 16 x tokens - w:x\n"
                            "1 out RECV from rank 0 mb0 16 x tokens - w:x\n",
                            AG_ERR_INVALID);
    cr_expect_eq(count_lines(), 4, "%s", ag_error());
    cr_expect(error_has("rank 0: 1 ") && error_has("rank 0: 2 ") && error_has("rank 0: 3 "));
}

Test(check, a_collective_that_a_rank_never_comes_to_is_told_with_the_rank)
{
    expect_rendezvous("group {0,1} channel 1\n"
                      "rank 0:\nbuffer x 16 x tokens\n"
                      "0 tensor ALL_REDUCE {0,1} mb0 16 x tokens - rw:x\n"
                      "rank 1:\n",
                      AG_ERR_INVALID);
    cr_expect(error_has("nothing of rank 1 ever meets this") && error_has("ALL_REDUCE {0,1}"));
}

Test(check, groups_met_in_another_order_are_a_deadlock)
{
    expect_rendezvous("group {0,1} channel 1\ngroup {1,0} channel 2\n"
                      "rank 0:\nbuffer x 16 x tokens\n"
                      "0 compute SEGMENT add mb0 - - w+:x\n"
                      "1 tensor ALL_REDUCE {0,1} mb0 16 x tokens - rw:x\n"
                      "2 tensor ALL_REDUCE {1,0} mb0 16 x tokens - rw:x\n"
                      "rank 1:\nbuffer x 16 x tokens\n"
                      "0 compute SEGMENT add mb0 - - w+:x\n"
                      "1 tensor ALL_REDUCE {1,0} mb0 16 x tokens - rw:x\n"
                      "2 tensor ALL_REDUCE {0,1} mb0 16 x tokens - rw:x\n",
                      AG_ERR_INVALID);
    cr_expect(error_has("deadlock") && error_has("ALL_REDUCE"));
}

/* Rank 0 uses its buffers as these lines say; what nothing orders is told with a word. */
static void expect_memory(const char *lines, const char *word)
{
    char text[1024];
    ag_program_t *program;

    snprintf(text, sizeof(text), "rank 0: 256 bytes\n%srank 1:\n", lines);
    program = two_ranks(text);
    cr_expect_eq(ag_check_memory(program, 0, true), word == NULL ? AG_OK : AG_ERR_INVALID, "%s: %s",
                 lines, ag_error());
    cr_expect(word == NULL || error_has(word));
    ag_program_destroy(program);
}

#define SEND_X "1 out SEND to rank 1 mb0 16 x tokens compute.0 r:x\n"

Test(check, a_write_that_nothing_orders_after_a_send_is_found)
{
    expect_memory("buffer x 16 x tokens\n"
                  "0 compute SEGMENT add mb0 - - w:x\n" SEND_X
                  "2 compute SEGMENT add mb0 - out.1 w:x\n",
                  NULL);
    expect_memory("buffer x 16 x tokens\n"
                  "0 compute SEGMENT add mb0 - - w:x\n" SEND_X
                  "2 compute SEGMENT add mb0 - - w:x\n",
                  "SEND to rank 1");
}

Test(check, buffers_in_use_together_must_not_share_bytes)
{
    static const char *const ops =
        "0 compute SEGMENT add mb0 - - w:x\n" SEND_X "2 compute SEGMENT add mb0 - - w:y\n";
    static const struct {
        const char *place, *word;
    } cases[] = {{"128", NULL},
                 {"64", "share bytes"},
                 {"192", "the slot's memory:\nbuffer y "},
                 {"132", "a cache line:\nbuffer y "}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char lines[512];

        snprintf(lines, sizeof(lines),
                 "buffer x 16 x tokens\nbuffer y 16 x tokens 128 bytes at %s\n%s", cases[i].place,
                 ops);
        expect_memory(lines, cases[i].word);
    }
}

Test(check, bytes_of_the_output_are_not_used_again)
{
    static const char *const lines = "buffer x 16 x tokens\nbuffer y 16 x tokens\n%s"
                                     "0 compute SEGMENT add mb0 - - w:x\n"
                                     "1 compute SEGMENT add mb0 - - w:y\n";
    static const struct {
        const char *output, *word;
    } cases[] = {{"", "buffer y"}, {"output x\n", "in use to the end"}, {"output y\n", NULL}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];

        snprintf(text, sizeof(text), lines, cases[i].output);
        expect_memory(text, cases[i].word);
    }
}

/* Numbers that stand for nothing, or for what may not be. */
Test(check, what_does_not_fit_together_is_refused)
{
    static const struct {
        const char *lines, *word;
    } cases[] = {
        {"buffer x 16 x tokens 127 bytes\n", "may fill it:\nbuffer x "},
        {"buffer x 16 x tokens\n0 out SEND to rank 0 mb0 16 x tokens - r:x\n", "nobody"},
        {"buffer x 16 x tokens\n0 out SEND to rank 1 mb0 12 x tokens - r:x\n", "does not fit"},
        {"buffer x 16 x tokens\n0 out SEND to rank 1 mb0 16 x outputs - r:x\n", "does not fit"},
        {"buffer x 16 x tokens\n0 out SEND to rank 1 mb0 16 x tokens - -\n", "does not fit"},
        {"buffer x 16 x tokens\n0 out SEND to rank 1 mb0 16 x tokens - w:x\n", "does not fit"},
        {"buffer x 16 x tokens\n0 out RECV from rank 1 mb0 16 x tokens - r:x\n", "does not fit"},
        {"buffer x 16 x tokens\n0 tensor ALL_REDUCE {0,1} mb0 channel 7 16 x tokens - rw:x\n",
         "channel"},
        {"buffer x 16 x tokens\n0 tensor ALL_REDUCE {1} mb0 16 x tokens - rw:x\n", "its ranks"},
        {"buffer x 16 x tokens\n0 out SEND to rank 1 mb0 16 x tokens - r:x\n"
         "1 in SEND to rank 1 mb0 16 x tokens out.0 r:x\n",
         "another stream"},
        {"buffer x 16 x tokens\n0 tensor ALL_REDUCE {0,1} mb0 16 x tokens - rw:x\n"
         "1 out ALL_REDUCE {0,1} mb0 16 x tokens tensor.0 rw:x\n",
         "another stream"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[512];
        ag_program_t *program;

        snprintf(text, sizeof(text),
                 "group {0,1} channel 1\ngroup {1} channel 2\nrank 0:\n%srank 1:\n",
                 cases[i].lines);
        program = two_ranks(text);
        cr_expect_eq(ag_check_groups(program), AG_OK, "%s", ag_error());
        cr_expect_eq(ag_check_form(program, 0), AG_ERR_INVALID, "%s", cases[i].lines);
        cr_expect(error_has(cases[i].word));
        ag_program_destroy(program);
    }
}

Test(check, two_buffers_of_one_name_are_refused)
{
    ag_program_t *program = two_ranks("rank 0:\nbuffer x 16 x tokens\nbuffer y 16 x tokens\n"
                                      "rank 1:\n");

    AG_ITEMS(&program->ranks[0].buffers, ag_buffer_t)[1].name[0] = 'x';
    cr_expect_eq(ag_check_form(program, 0), AG_ERR_INVALID);
    cr_expect(error_has("two buffers are named x"));
    ag_program_destroy(program);
}

Test(check, groups_have_channels_and_ranks_of_their_own)
{
    static const struct {
        const char *lines, *word;
    } cases[] = {
        {"group {0,0} channel 1\n", "twice"},
        {"group {0,1} channel 0\n", "messages' channel"},
        {"group {0,1} channel 1\ngroup {1,0} channel 1\n", "share channel 1"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        ag_program_t *program;

        snprintf(text, sizeof(text), "%srank 0:\nrank 1:\n", cases[i].lines);
        program = two_ranks(text);
        cr_expect_eq(ag_check_groups(program), AG_ERR_INVALID, "%s", cases[i].lines);
        cr_expect(error_has(cases[i].word));
        ag_program_destroy(program);
    }
}
