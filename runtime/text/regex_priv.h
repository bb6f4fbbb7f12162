/* Expressions that find places in text: PCRE2's, or the text that is looked for itself. */
#pragma once

#include "runtime/base/array.h"

typedef struct ag_regex ag_regex_t;
typedef struct ag_regex_search ag_regex_search_t; /* what one thread searches with */

/**
 * @param pattern  Oniguruma's syntax, as Hugging Face's tokenizers have it, or the text itself; not
 *                 empty.
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED (an expression that means nothing here).
 */
ag_status_t ag_regex_create(const char *pattern, bool literal, ag_regex_t **regex_p);
void ag_regex_destroy(ag_regex_t *regex); /* NULL is allowed */
size_t ag_regex_bytes(const ag_regex_t *regex);

/** May it match where there is no text? Where that is hard to say it may. */
bool ag_regex_may_be_empty(const ag_regex_t *regex);

ag_status_t ag_regex_search_create(ag_regex_search_t **search_p);
void ag_regex_search_destroy(ag_regex_search_t *search); /* NULL is allowed */

/**
 * The next match in valid UTF-8 from `at` on.
 * @param found  out: where it begins and ends.
 * @param more_p  out: false where there is none.
 * @return AG_OK, AG_ERR_UNSUPPORTED: the expression gives up on this text.
 */
ag_status_t ag_regex_next(const ag_regex_t *regex, ag_regex_search_t *search, const char *text,
                          size_t n_bytes, size_t at, size_t found[2], bool *more_p);

/** Where to search on behind a match: an empty one is passed by a character. */
size_t ag_regex_behind(const char *text, size_t n_bytes, const size_t found[2]);

/**
 * An expression of Oniguruma's (Ruby's syntax) in PCRE2's syntax, NUL-terminated.
 * @return AG_OK, AG_ERR_NOMEM, AG_ERR_UNSUPPORTED where the two differ in what is not translated.
 */
ag_status_t ag_pattern_translate(const char *pattern, ag_array_t *translated);
