#define _GNU_SOURCE /* memmem */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/text/regex_priv.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/array.h"
#include "runtime/base/quote.h"

struct ag_regex {
    pcre2_code *code; /* NULL: the text itself is looked for */
    char *text;
    size_t n_text;
};

struct ag_regex_search {
    pcre2_match_data *match;
};

static ag_status_t compile(const char *pattern, pcre2_code **code_p)
{
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    ag_array_t translated = AG_ARRAY(char);
    ag_status_t status = ag_pattern_translate(pattern, &translated);
    PCRE2_UCHAR text[256];
    PCRE2_SIZE offset;
    int error;

    if (status != AG_OK) {
        ag_array_fini(&translated);
        return status;
    }
    *code_p = pcre2_compile((PCRE2_SPTR)translated.items, PCRE2_ZERO_TERMINATED, options, &error,
                            &offset, NULL);
    ag_array_fini(&translated);
    if (*code_p == NULL) {
        pcre2_get_error_message(error, text, sizeof(text));
        return ag_fail(AG_ERR_UNSUPPORTED, "the expression \"%s\" is not understood: %s",
                       ag_quote(pattern, strlen(pattern)).text, (const char *)text);
    }
    pcre2_jit_compile(*code_p, PCRE2_JIT_COMPLETE); /* where it cannot, matching is slower */
    return AG_OK;
}

ag_status_t ag_regex_create(const char *pattern, bool literal, ag_regex_t **regex_p)
{
    ag_regex_t *regex = calloc(1, sizeof(*regex));
    ag_status_t status = AG_OK;

    if (regex == NULL) {
        return ag_fail_nomem("reading an expression", sizeof(*regex));
    }
    if (literal) {
        regex->n_text = strlen(pattern);
        regex->text = strdup(pattern);
        status = regex->text != NULL ? AG_OK : ag_fail_nomem("reading a text", regex->n_text);
    } else {
        status = compile(pattern, &regex->code);
    }
    if (status != AG_OK) {
        free(regex);
        return status;
    }
    *regex_p = regex;
    return AG_OK;
}

void ag_regex_destroy(ag_regex_t *regex)
{
    if (regex != NULL) {
        pcre2_code_free(regex->code);
        free(regex->text);
        free(regex);
    }
}

size_t ag_regex_bytes(const ag_regex_t *regex)
{
    size_t code_bytes = 0, jit_bytes = 0;

    if (regex->code != NULL) {
        pcre2_pattern_info(regex->code, PCRE2_INFO_SIZE, &code_bytes);
        pcre2_pattern_info(regex->code, PCRE2_INFO_JITSIZE, &jit_bytes);
    }
    return sizeof(*regex) + regex->n_text + code_bytes + jit_bytes;
}

bool ag_regex_may_be_empty(const ag_regex_t *regex)
{
    uint32_t may = regex->code == NULL && regex->n_text == 0;

    if (regex->code != NULL) {
        pcre2_pattern_info(regex->code, PCRE2_INFO_MATCHEMPTY, &may);
    }
    return may != 0;
}

ag_status_t ag_regex_search_create(ag_regex_search_t **search_p)
{
    ag_regex_search_t *search = calloc(1, sizeof(*search));

    if (search != NULL) {
        search->match = pcre2_match_data_create(8, NULL);
    }
    if (search == NULL || search->match == NULL) {
        free(search);
        return ag_fail_nomem("searching a text", 64);
    }
    *search_p = search;
    return AG_OK;
}

void ag_regex_search_destroy(ag_regex_search_t *search)
{
    if (search != NULL) {
        pcre2_match_data_free(search->match);
        free(search);
    }
}

ag_status_t ag_regex_next(const ag_regex_t *regex, ag_regex_search_t *search, const char *text,
                          size_t n_bytes, size_t at, size_t found[2], bool *more_p)
{
    const PCRE2_SIZE *range;
    int n;

    if (regex->code == NULL) {
        const char *there = memmem(text + at, n_bytes - at, regex->text, regex->n_text);

        *more_p = there != NULL;
        found[0] = there != NULL ? (size_t)(there - text) : n_bytes;
        found[1] = found[0] + regex->n_text;
        return AG_OK;
    }
    n = pcre2_match(regex->code, (PCRE2_SPTR)text, n_bytes, at, PCRE2_NO_UTF_CHECK, search->match,
                    NULL);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter takes what it needs from the heap */
        n = pcre2_match(regex->code, (PCRE2_SPTR)text, n_bytes, at,
                        PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, search->match, NULL);
    }
    *more_p = n >= 0;
    if (n == PCRE2_ERROR_NOMATCH) {
        return AG_OK;
    }
    range = pcre2_get_ovector_pointer(search->match);
    if (n >= 0 && range[0] >= at && range[0] <= range[1]) {
        found[0] = range[0];
        found[1] = range[1];
        return AG_OK;
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "the tokenizer's expression fails on a text of %zu bytes (PCRE2 error %d)",
                   n_bytes, n);
}

size_t ag_regex_behind(const char *text, size_t n_bytes, const size_t found[2])
{
    size_t at = found[1];

    if (found[0] == found[1]) {
        do {
            at++;
        } while (at < n_bytes && ((unsigned char)text[at] & 0xc0) == 0x80);
    }
    return at;
}
