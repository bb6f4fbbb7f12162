/* What the checker asks of exchanges between the ranks that hold experts. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check_priv.h"
#include "support.h"

/* Rank 0 holds two experts, rank 1 one. */
static const char good[] =
    "argosy_program 1: 2 ranks, at most 8 tokens, 1 outputs, 1 sequences, 8 sent, 16 received\n"
    "group {0,1} channel 1\n"
    "rank 0:\n"
    "buffer x 16 x tokens\nbuffer to 12 x one\nbuffer of 16 x one\n"
    "buffer s 16 x sent\nbuffer r 16 x received\n"
    "0 compute SEGMENT route L0 mb0 - - w:x w:s w:to\n"
    "1 tensor ALL_TO_ALL {0,1} mb0 12 x one - r:to w:of\n"
    "2 tensor ALL_TO_ALL {0,1} mb0 16 x sent - r:s w:r r:to r:of\n"
    "3 compute SEGMENT experts L0 mb0 - - r:of rw:r\n"
    "4 tensor ALL_TO_ALL {0,1} mb0 16 x received - r:r w:s r:of r:to\n"
    "5 compute SEGMENT combine L0 mb0 - - r:s w/:x\n"
    "6 tensor ALL_GATHER {0,1} mb0 16 x tokens - rw:x\n"
    "rank 1:\n"
    "buffer x 16 x tokens\nbuffer to 12 x one\nbuffer from 8 x one\n"
    "buffer s 16 x sent\nbuffer r 16 x received\n"
    "0 compute SEGMENT route L0 mb0 - - w:x w:s w:to\n"
    "1 tensor ALL_TO_ALL {0,1} mb0 12 x one - r:to w:from\n"
    "2 tensor ALL_TO_ALL {0,1} mb0 16 x sent - r:s w:r r:to r:from\n"
    "3 compute SEGMENT experts L0 mb0 - - r:from rw:r\n"
    "4 tensor ALL_TO_ALL {0,1} mb0 16 x received - r:r w:s r:from r:to\n"
    "5 compute SEGMENT combine L0 mb0 - - r:s w/:x\n"
    "6 tensor ALL_GATHER {0,1} mb0 16 x tokens - rw:x\n";

/* The good program with one piece of it replaced; its form and its meetings. */
static ag_status_t check_with(const char *piece, const char *other)
{
    const char *at = strstr(good, piece);
    char *text = malloc(sizeof(good) + strlen(other));
    ag_program_t *program = NULL;
    ag_status_t status = AG_OK;

    cr_assert_not_null(at, "%s", piece);
    sprintf(text, "%.*s%s%s", (int)(at - good), good, other, at + strlen(piece));
    cr_assert_eq(program_from_text(text, &program), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_program_link(program), AG_OK);
    for (uint32_t r = 0; r < 2 && status == AG_OK; r++) {
        status = ag_check_form(program, r);
    }
    if (status == AG_OK) {
        status = ag_check_rendezvous(program);
    }
    ag_program_destroy(program);
    free(text);
    return status;
}

Test(exchange, of_numbers_rows_and_results_runs_to_its_end)
{
    cr_expect_eq(check_with("", ""), AG_OK, "%s", ag_error());
}

Test(exchange, text_has_the_bounds_of_rows_that_travel)
{
    ag_program_t *program = NULL;
    char *text;

    cr_assert_eq(program_from_text(good, &program), AG_OK, "%s", ag_error());
    cr_expect_eq(program->bounds[AG_SIZE_SENT], 8);
    cr_expect_eq(program->bounds[AG_SIZE_RECEIVED], 16);
    text = program_text(program);
    cr_expect_not_null(strstr(text, "1 sequences, 8 sent, 16 received\n"), "%s", text);
    cr_expect_not_null(strstr(text, " w/:x\n"), "%s", text);
    free(text);
    ag_program_destroy(program);
}

Test(exchange, that_does_not_fit_its_buffers_is_refused_with_its_line)
{
    static const char *const cases[][3] = {
        {"r:s w:r r:to r:of", "r:s w:r r:to", "does not fit its buffer"},
        {"r:s w:r r:to r:of", "r:s w:r r:s r:of", "does not fit its buffer"},
        {"r:s w:r r:to r:of", "r:s w:s r:to r:of", "does not fit its buffer"},
        {"r:s w:r r:to r:of", "w:s r:r r:to r:of", "does not fit its buffer"},
        {"r:s w:r r:to r:of", "r:s w:r", "does not fit its buffer"},
        {"r:to w:of", "r:to w:r", "does not fit its buffer"},
        {"buffer r 16 x received\n0", "buffer r 12 x received\n0", "does not fit its buffer"},
        {"ALL_GATHER {0,1} mb0 16 x tokens - rw:x", "ALL_GATHER {0,1} mb0 16 x tokens - r:x",
         "does not fit its buffer"},
        {"buffer of 16", "buffer of 12", "differ in size"},
        {"buffer from 8", "buffer from 16", "differ in size"},
        {"4 tensor ALL_TO_ALL {0,1} mb0 16 x received - r:r w:s r:of r:to",
         "4 tensor ALL_TO_ALL {0,1} mb0 16 x sent - r:s w:r r:to r:of", "disagree"},
        {"6 tensor ALL_GATHER", "6 out ALL_GATHER", "meets what another stream meets"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(check_with(cases[i][0], cases[i][1]), AG_ERR_INVALID, "%s", cases[i][1]);
        cr_expect(error_has(cases[i][2]), "%s", cases[i][1]);
    }
}
