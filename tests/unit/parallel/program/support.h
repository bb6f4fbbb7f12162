/* Programs of two ranks, as text. */
#pragma once

#include "program_text.h"

/** At most 8 tokens; the lines are those of the ranks. Fails the test where they are none. */
ag_program_t *two_ranks(const char *lines);

/** The same, linked: the lines need not say what waits for what. */
ag_program_t *two_ranks_linked(const char *lines);

/** Has the record this word? Logs it where not. */
bool error_has(const char *word);
