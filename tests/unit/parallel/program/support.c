#include "support.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <string.h>

ag_program_t *two_ranks(const char *lines)
{
    ag_program_t *program = NULL;
    char text[4096];

    snprintf(text, sizeof(text),
             "argosy_program 1: 2 ranks, at most 8 tokens, 1 outputs, 1 sequences\n%s", lines);
    cr_assert_eq(program_from_text(text, &program), AG_OK, "%s", ag_error());
    return program;
}

ag_program_t *two_ranks_linked(const char *lines)
{
    ag_program_t *program = two_ranks(lines);

    cr_assert_eq(ag_program_link(program), AG_OK, "%s", ag_error());
    return program;
}

bool error_has(const char *word)
{
    bool has = strstr(ag_error(), word) != NULL;

    if (!has) {
        cr_log_error("no \"%s\" in: %s", word, ag_error());
    }
    return has;
}
