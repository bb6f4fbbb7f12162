/*
 * Reading program text word by word; blanks between words say nothing. After the first failure
 * every line and the text have ended, nothing is found, numbers are 0 and names empty: only who
 * repeats or stores looks at the status.
 */
#pragma once

#include "parallel/program/text.h"

typedef struct ag_words {
    ag_program_text_t *text;
    ag_status_t status; /* AG_OK, or the first failure's */
} ag_words_t;

/** Go on to the next line that says something. @return false: there is none. */
bool ag_words_next_line(ag_words_t *words);

/** Does the line go on with this? Where it ends with a letter, no letter may follow. */
bool ag_words_look(ag_words_t *words, const char *word);

/** The same, and step over it. */
bool ag_words_take(ag_words_t *words, const char *word);

bool ag_words_line_ends(ag_words_t *words);

/** Step over this, which must stand here. */
void ag_words_expect(ag_words_t *words, const char *word);
void ag_words_expect_line_end(ag_words_t *words);

/** A whole number from least to most. @param what  is counted or numbered: "a rank". */
uint64_t ag_words_number(ag_words_t *words, const char *what, uint64_t least, uint64_t most);

/** Letters, digits, _ and ., fewer than n_bytes. */
void ag_words_name(ag_words_t *words, const char *what, size_t n_bytes, char *name);

/** One of n names, each letters and _. @param nth  the i-th of them. @return which. */
uint32_t ag_words_choose(ag_words_t *words, const char *what, uint32_t n,
                         const char *(*nth)(uint32_t i));

/** Fail here, unless it has failed already: "name, line 3: a rank is expected, but "foo" stands
 * there". */
void ag_words_fail(ag_words_t *words, const char *expected);
