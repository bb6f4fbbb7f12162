/* Program text: what is printed is read back, and what cannot be read is told of in one line. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#define HEADING "argosy_program 1: 2 ranks, at most 8 tokens, 2 outputs, 1 sequences\n"

/* All that the form has, as it is printed. */
static const char *const whole = HEADING
    "group {0,1} channel 1\n"
    "group {1,0} channel 3\n"
    "\n"
    "rank 0: 4096 bytes\n"
    "buffer x         16 x tokens      128 bytes at 0\n"
    "buffer y_2       4 x outputs      64 bytes at 128\n"
    "buffer s         100 x one        100 bytes at 192\n"
    "buffer q         3 x sequences    3 bytes at 0\n"
    "output y_2\n"
    "#    stream   op                             extent           after             uses\n"
    "0    compute  SEGMENT embed mb0              -                -                 w+:x\n"
    "1    tensor   ALL_REDUCE {0,1} mb0           16 x tokens      compute.0         rw:x\n"
    "2    compute  SEGMENT attn L0 mb0 c1         -                tensor.1          r:x rw+:s\n"
    "3    compute  SEGMENT ffn L0 attn+ffn L1..4 head mb7 c2 -                -                 -\n"
    "4    out      SEND to rank 1 mb65535         4 x outputs      compute.3,tensor.1 r:y_2\n"
    "5    tensor   ALL_REDUCE {1,0} mb0 channel 9 0 x outputs      out.4             w:y_2\n"
    "6    out      RECV from rank 1 mb0 channel 2 3 x sequences    -                 w:q\n"
    "\n"
    "rank 1: 0 bytes\n"
    "#    stream   op                             extent           after             uses\n"
    "0    compute  SEGMENT ffn+attn L3 attn L2 add collect mb0 -                -             "
    "    -\n";

Test(text, what_is_printed_reads_back_and_prints_the_same)
{
    ag_program_t *program = NULL;
    char *again;

    cr_assert_eq(program_from_text(whole, &program), AG_OK, "%s", ag_error());
    again = program_text(program);
    cr_expect_str_eq(again, whole);
    free(again);
    ag_program_destroy(program);
}

Test(text, says_what_the_program_has)
{
    ag_program_t *program = NULL;
    const ag_rank_program_t *rank;
    const ag_op_t *ops;
    const ag_part_t *parts;

    cr_assert_eq(program_from_text(whole, &program), AG_OK, "%s", ag_error());
    rank = &program->ranks[0];
    ops = ag_rank_ops(rank);
    cr_expect_eq(program->n_ranks, 2);
    cr_expect_eq(program->output_buffer, 1);
    cr_expect_eq(program->bounds[AG_SIZE_OUTPUTS], 2);
    cr_expect_eq(rank->memory_bytes, 4096);
    cr_expect_eq(AG_ITEMS(&rank->buffers, ag_buffer_t)[1].bytes, 64);
    cr_expect_eq(AG_ITEMS(&rank->buffers, ag_buffer_t)[1].unit_bytes, 4);
    cr_expect_eq(AG_ITEMS(&rank->buffers, ag_buffer_t)[1].offset_bytes, 128);
    cr_expect_eq(ops[3].micro_batch, 7);
    cr_expect_eq(ops[3].chunk, 2);
    cr_expect_eq(AG_ITEMS(&rank->segments, ag_segment_t)[ops[3].subject].parts.n_items, 10);
    parts = AG_ITEMS(&AG_ITEMS(&rank->segments, ag_segment_t)[ops[3].subject].parts, ag_part_t);
    cr_expect(parts[8].kind == AG_PART_FFN && parts[8].layer == 4);
    cr_expect(parts[9].kind == AG_PART_HEAD && parts[9].layer == 0);
    cr_expect(ops[4].n_deps == 2 && ops[4].peer == 1 && ops[4].channel == AG_LINK_CHANNEL);
    cr_expect(ops[1].subject == 0 && ops[1].channel == 1 && ops[1].peer == -1);
    cr_expect(ops[5].subject == 1 && ops[5].channel == 9);
    cr_expect_eq(ag_op_uses(rank, &ops[2])[1].mode, AG_USE_READ | AG_USE_WRITE | AG_USE_PARTIAL);
    ag_program_destroy(program);
}

Test(text, may_leave_out_what_follows_from_the_rest)
{
    ag_program_t *program = two_ranks("rank 0:\nbuffer x 16 x tokens\nbuffer y 4 x outputs at 64\n"
                                      "buffer z 4 x one 5 bytes\nrank 1:\n");
    const ag_buffer_t *buffers = AG_ITEMS(&program->ranks[0].buffers, ag_buffer_t);

    cr_expect(buffers[0].bytes == 128 && buffers[0].offset_bytes == 0);
    cr_expect(buffers[1].bytes == 4 && buffers[1].offset_bytes == 64);
    cr_expect(buffers[2].bytes == 5 && buffers[2].offset_bytes == 0);
    cr_expect_eq(program->output_buffer, 0);
    ag_program_destroy(program);
}

Test(text, of_several_programs_is_read_one_by_one)
{
    char text[4096];
    ag_program_text_t reading = {.name = "text", .at = text, .line = 1};
    uint32_t n = 0;

    snprintf(text, sizeof(text), "# two\n%s\n\n%s\n # the end\n", whole, whole);
    reading.end = text + strlen(text);
    for (; reading.at < reading.end; n++) {
        ag_program_t *program = NULL;
        char *again;

        cr_assert_eq(ag_program_parse(&reading, &program), AG_OK, "%s", ag_error());
        again = program_text(program);
        cr_expect_str_eq(again, whole);
        free(again);
        ag_program_destroy(program);
    }
    cr_expect_eq(n, 2);
}

Test(text, ends_anywhere_without_harm)
{
    size_t n_bytes = strlen(whole);

    for (size_t n = 0; n < n_bytes; n++) {
        char *cut = malloc(n + 1); /* its end is the end of what may be read */
        ag_program_text_t reading = {.name = "text", .at = cut, .end = cut + n, .line = 1};
        ag_program_t *program = NULL;

        memcpy(cut, whole, n);
        if (ag_program_parse(&reading, &program) == AG_OK) {
            ag_program_destroy(program);
        } else {
            cr_expect(error_has("text, line ") && strchr(ag_error(), '\n') == NULL);
        }
        free(cut);
    }
}

#define RANKS(lines) HEADING "rank 0:\nbuffer x 1 x tokens\n" lines "\nrank 1:\n"

static const struct {
    const char *text, *line, *expected, *found;
} unreadable[] = {
    {"", "line 1", "argosy_program", "the text ends"},
    {"\n\n{}", "line 3", "argosy_program", "\"{}\""},
    {"argosy_program 2: ", "line 1", "the version from 1 to 1", "\"2:\""},
    {"argosy_program 1: 0 ranks", "line 1", "ranks from 1", "\"0\""},
    {"argosy_program 1: 65536 ranks", "line 1", "ranks from 1 to 12", "\"65536\""},
    {"argosy_program 1: 2 ranks, at most 8 tokens\n", "line 1", "\",\"", "the line ends"},
    {HEADING "rank 1:\n", "line 2", "the next rank from 0 to 0", "\"1:\""},
    {HEADING "rank 0:\n", "line 3", "\"rank\"", "the text ends"},
    {HEADING "rank 0:\nrank 1:\nrank 2:\n", "line 4", "the end of the text", "\"rank\""},
    {HEADING "group {0,2} channel 1\n", "line 2", "a rank from 0 to 1", "\"2}\""},
    {HEADING "group {0..1,1} channel 1\n", "line 2", "each rank once", "\"}\""},
    {HEADING "group {0,1} channel 1\ngroup {0..1} channel 2\n", "line 3",
     "a group that does not stand above", "\"channel\""},
    {RANKS("buffer x 2 x tokens"), "line 4", "a buffer that does not stand above", "\"x\""},
    {RANKS("buffer a_very_long_name 2 x tokens"), "line 4", "1 to 15 letters",
     "\"a_very_long_name\""},
    {RANKS("buffer y 2 x bytes"), "line 4", "one, tokens, outputs, sequences", "\"bytes\""},
    {RANKS("buffer y 99999999999999999999 x one"), "line 4", "bytes of a unit from 0",
     "\"99999999999999999999\""},
    {RANKS("buffer y 1 x one 1 bytes at 0 please"), "line 4", "the end of the line", "\"please\""},
    {HEADING "rank 0:\nrank 1:\nbuffer x 1 x one\noutput x\n", "line 5", "rank 0's lines",
     "the line ends"},
    {RANKS("output z"), "line 4", "a buffer of this rank", "\"z\""},
    {RANKS("1 compute SEGMENT add mb0 - - -"), "line 4", "number from 0 to 0", "\"1\""},
    {RANKS("0 copy SEGMENT add mb0 - - -"), "line 4", "(compute, tensor, out, in, collect, grad)",
     "\"copy\""},
    {RANKS("0 out GATHER add mb0 - - -"), "line 4",
     "(SEGMENT, SEND, RECV, ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, ALL_TO_ALL)", "\"GATHER\""},
    {RANKS("0 compute SEGMENT mb0 - - -"), "line 4", "a part of the model", "\"mb0\""},
    {RANKS("0 compute SEGMENT attn mb0 - - -"), "line 4", "\"L\"", "\"mb0\""},
    {RANKS("0 compute SEGMENT attn+head L1 mb0 - - -"), "line 4", "a part of one layer", "\"L1\""},
    {RANKS("0 compute SEGMENT attn L3..1 mb0 - - -"), "line 4", "a layer from 3", "\"1\""},
    {RANKS("0 compute SEGMENT attn L65536 mb0 - - -"), "line 4", "a layer", "\"65536\""},
    {RANKS("0 compute SEGMENT add mb65536 - - -"), "line 4", "a micro-batch", "\"65536\""},
    {RANKS("0 out SEND from rank 1 mb0 - - -"), "line 4", "\"to\"", "\"from\""},
    {RANKS("0 out SEND to rank 2 mb0 - - -"), "line 4", "a rank", "\"2\""},
    {RANKS("0 tensor ALL_REDUCE {0,1} mb0 - - -"), "line 4", "a group that stands above",
     "\"{0,1}\""},
    {RANKS("0 compute SEGMENT add mb0 - compute.1 -"), "line 4", "an operation on its stream",
     "\"compute.1\""},
    {RANKS("0 compute SEGMENT add mb0 - out.0 -"), "line 4", "an operation on its stream",
     "\"out.0\""},
    {RANKS("0 compute SEGMENT add mb0 - - r:y"), "line 4", "a buffer of this rank", "\"y\""},
    {RANKS("0 compute SEGMENT add mb0 - - r+:x"), "line 4", "\":\"", "\"+:x\""},
    {RANKS("0 compute SEGMENT add mb0 - - wr:x"), "line 4", "(r, w, rw)", "\"wr:x\""},
    {RANKS("0 compute SEGMENT add mb0 - -"), "line 4", "(r, w, rw)", "the line ends"},
    {RANKS("0 compute SEGMENT add mb0 - - \x01\xff"), "line 4", "(r, w, rw)",
     "\"?"
     "?\""},
};

Test(text, that_is_none_is_told_with_its_line_and_what_stands_there)
{
    for (size_t i = 0; i < sizeof(unreadable) / sizeof(unreadable[0]); i++) {
        ag_program_t *program = NULL;

        cr_expect_eq(program_from_text(unreadable[i].text, &program), AG_ERR_INVALID, "%s",
                     unreadable[i].text);
        cr_expect(error_has(unreadable[i].line) && error_has(unreadable[i].expected) &&
                  error_has(unreadable[i].found) && strchr(ag_error(), '\n') == NULL);
    }
}

Test(text, of_more_uses_or_parts_than_can_be_is_refused)
{
    static char text[1 << 17];
    ag_program_t *program = NULL;
    size_t n_chars = (size_t)sprintf(text, HEADING "rank 0:\nbuffer x 1 x one\n"
                                                   "0 compute SEGMENT add mb0 - - ");

    for (int i = 0; i <= AG_MAX_USES; i++) {
        n_chars += (size_t)sprintf(text + n_chars, "r:x ");
    }
    cr_expect_eq(program_from_text(text, &program), AG_ERR_INVALID);
    cr_expect(error_has("line 4") && error_has("the end of the line"));
    n_chars = (size_t)sprintf(text, HEADING "rank 0:\n0 compute SEGMENT");
    for (int i = 0; i < 65; i++) {
        n_chars += (size_t)sprintf(text + n_chars, " attn L0..65535");
    }
    cr_expect_eq(program_from_text(text, &program), AG_ERR_INVALID);
    cr_expect(error_has("line 3") && error_has("fewer parts"));
}

Test(text, a_line_too_long_for_an_error_is_cut)
{
    ag_program_t *program = NULL;
    char line[24];

    cr_assert_eq(program_from_text(whole, &program), AG_OK, "%s", ag_error());
    cr_expect_str_eq(ag_op_text(program, 0, 1, line, sizeof(line)), "1    tensor   ALL_REDU");
    ag_program_destroy(program);
}
