/* Pre-tokenizers: regular expressions of PCRE2 that cut a text into words. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

const char ag_pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static const ag_split_rule_t gpt2_rules[] = {{.pattern = ag_pattern_gpt2}};
static const ag_split_rule_t llama3_rules[] = {
    {.pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
                " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}};
static const ag_split_rule_t smollm_rules[] = {{.pattern = "\\p{N}"}, {.pattern = ag_pattern_gpt2}};

static const ag_pre_tokenizer_t known[] = {
    {"gpt-2", gpt2_rules, 1, false, false},    {"llama-bpe", llama3_rules, 1, true, true},
    {"llama3", llama3_rules, 1, true, true},   {"llama-v3", llama3_rules, 1, true, true},
    {"smollm", smollm_rules, 2, false, false},
};

enum { N_KNOWN = sizeof(known) / sizeof(known[0]), MOST_RULES = 16 };

typedef struct step {
    pcre2_code *code;
    bool invert;
    ag_cut_t cut;
} step_t;

struct ag_splitter {
    size_t n_steps;
    step_t steps[MOST_RULES];
};

/* A match, or what lies between two. */
typedef struct range {
    ag_word_t word;
    bool is_match;
} range_t;

ag_status_t ag_pre_tokenizer_find(const char *path, const char *name, size_t n_bytes,
                                  const ag_pre_tokenizer_t **pre_p)
{
    char names[256];
    size_t n = 0;

    for (size_t i = 0; i < N_KNOWN; i++) {
        if (strlen(known[i].name) == n_bytes && memcmp(known[i].name, name, n_bytes) == 0) {
            *pre_p = &known[i];
            return AG_OK;
        }
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i > 0 ? ", " : "",
                              known[i].name);
    }
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: pre-tokenizer \"%s\" is not known (known: %s)", path,
                   ag_quote(name, n_bytes).text, names);
}

static ag_status_t compile(const ag_split_rule_t *rule, pcre2_code **code_p)
{
    uint32_t options = rule->literal
                           ? PCRE2_UTF | PCRE2_LITERAL
                           : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    ag_array_t translated = AG_ARRAY(char);
    ag_status_t status =
        rule->literal ? ag_array_append(&translated, rule->pattern, strlen(rule->pattern) + 1)
                      : ag_pattern_translate(rule->pattern, &translated);
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
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the pre-tokenizer's expression \"%s\" is not understood: %s",
                       ag_quote(rule->pattern, strlen(rule->pattern)).text, (const char *)text);
    }
    pcre2_jit_compile(*code_p, PCRE2_JIT_COMPLETE); /* where it cannot, matching is slower */
    return AG_OK;
}

ag_status_t ag_splitter_create(const ag_split_rule_t *rules, size_t n_rules,
                               ag_splitter_t **splitter_p)
{
    ag_splitter_t *splitter = calloc(1, sizeof(*splitter));
    ag_status_t status = AG_OK;

    if (splitter == NULL) {
        return ag_fail_nomem("making a pre-tokenizer", sizeof(*splitter));
    }
    if (n_rules > MOST_RULES) {
        free(splitter);
        return ag_fail(AG_ERR_UNSUPPORTED, "a pre-tokenizer of %zu expressions (at most %d)",
                       n_rules, MOST_RULES);
    }
    for (; splitter->n_steps < n_rules && status == AG_OK; splitter->n_steps++) {
        const ag_split_rule_t *rule = &rules[splitter->n_steps];
        step_t *step = &splitter->steps[splitter->n_steps];

        step->invert = rule->invert;
        step->cut = rule->cut;
        status = compile(rule, &step->code);
    }
    if (status != AG_OK) {
        ag_splitter_destroy(splitter);
        return status;
    }
    *splitter_p = splitter;
    return AG_OK;
}

void ag_splitter_destroy(ag_splitter_t *splitter)
{
    if (splitter != NULL) {
        for (size_t i = 0; i < splitter->n_steps; i++) {
            pcre2_code_free(splitter->steps[i].code);
        }
        free(splitter);
    }
}

size_t ag_splitter_bytes(const ag_splitter_t *splitter)
{
    size_t n_bytes = sizeof(*splitter);

    for (size_t i = 0; i < splitter->n_steps; i++) {
        size_t code_bytes = 0, jit_bytes = 0;

        pcre2_pattern_info(splitter->steps[i].code, PCRE2_INFO_SIZE, &code_bytes);
        pcre2_pattern_info(splitter->steps[i].code, PCRE2_INFO_JITSIZE, &jit_bytes);
        n_bytes += code_bytes + jit_bytes;
    }
    return n_bytes;
}

/* The next match from `at` on. @return its end in found[1]; false in *more_p where there is none.
 */
static ag_status_t find_next(const pcre2_code *code, pcre2_match_data *match, const char *text,
                             size_t n_bytes, size_t at, bool *more_p)
{
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(match);
    int n = pcre2_match(code, (PCRE2_SPTR)text, n_bytes, at, PCRE2_NO_UTF_CHECK, match, NULL);

    if (n == PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter takes what it needs from the heap */
        n = pcre2_match(code, (PCRE2_SPTR)text, n_bytes, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                        match, NULL);
    }
    *more_p = n >= 0;
    if (n == PCRE2_ERROR_NOMATCH || (n >= 0 && found[0] >= at && found[0] <= found[1])) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "the pre-tokenizer's expression fails on a text of %zu bytes (PCRE2 error %d)",
                   n_bytes, n);
}

static ag_status_t add_range(ag_array_t *ranges, size_t begin, size_t end, bool is_match)
{
    return ag_array_append(ranges, &(range_t){.word = {begin, end}, .is_match = is_match}, 1);
}

/* Matches and what lies between them, as places in the whole text. */
static ag_status_t find_ranges(const step_t *step, pcre2_match_data *match, const char *text,
                               const ag_word_t *word, ag_array_t *ranges)
{
    const char *subject = text + word->begin;
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(match);
    size_t n_bytes = word->end - word->begin, done = 0, at = 0;
    bool more = true, is_first = true;
    ag_status_t status = AG_OK;

    ranges->n_items = 0;
    while (at <= n_bytes && more && status == AG_OK) {
        status = find_next(step->code, match, subject, n_bytes, at, &more);
        if (status != AG_OK || !more) {
            break;
        }
        if (found[0] > done) {
            status = add_range(ranges, word->begin + done, word->begin + found[0], step->invert);
        }
        /* an empty match cuts, but not where a match has just ended */
        if (status == AG_OK && (found[1] > found[0] || found[0] != done || is_first)) {
            status =
                add_range(ranges, word->begin + found[0], word->begin + found[1], !step->invert);
        }
        is_first = false;
        done = at = found[1];
        if (found[1] == found[0]) {
            do {
                at++;
            } while (at < n_bytes && ((unsigned char)subject[at] & 0xc0) == 0x80);
        }
    }
    return status == AG_OK && done < n_bytes
               ? add_range(ranges, word->begin + done, word->end, step->invert)
               : status;
}

/* Do two neighbours become one word? */
static bool joins(ag_cut_t cut, bool left_is_match, bool right_is_match)
{
    switch (cut) {
    case AG_CUT_CONTIGUOUS:
        return left_is_match == right_is_match;
    case AG_CUT_WITH_PREVIOUS:
        return !left_is_match && right_is_match;
    case AG_CUT_WITH_NEXT:
        return left_is_match && !right_is_match;
    case AG_CUT_ISOLATED:
    case AG_CUT_REMOVED:
        break;
    }
    return false;
}

static ag_status_t add_words(ag_cut_t cut, const ag_array_t *ranges, ag_array_t *words)
{
    const range_t *range = AG_ITEMS(ranges, range_t);
    ag_status_t status = AG_OK;

    for (size_t i = 0, next; i < ranges->n_items && status == AG_OK; i = next) {
        ag_word_t word = range[i].word;

        for (next = i + 1;
             next < ranges->n_items && joins(cut, range[next - 1].is_match, range[next].is_match);
             next++) {
            word.end = range[next].word.end;
        }
        if (word.begin < word.end && !(cut == AG_CUT_REMOVED && range[i].is_match)) {
            status = ag_array_append(words, &word, 1);
        }
    }
    return status;
}

ag_status_t ag_splitter_split(const ag_splitter_t *splitter, const char *text, size_t n_bytes,
                              ag_array_t *words)
{
    ag_array_t before = AG_ARRAY(ag_word_t), ranges = AG_ARRAY(range_t);
    pcre2_match_data *match = pcre2_match_data_create(8, NULL);
    ag_status_t status = match == NULL ? ag_fail_nomem("splitting a text", 64)
                         : n_bytes > 0 ? ag_array_append(words, &(ag_word_t){0, n_bytes}, 1)
                                       : AG_OK;

    for (size_t i = 0; i < splitter->n_steps && status == AG_OK; i++) {
        const step_t *step = &splitter->steps[i];
        ag_array_t swap = before;

        before = *words;
        *words = swap;
        words->n_items = 0;
        for (size_t j = 0; j < before.n_items && status == AG_OK; j++) {
            status = find_ranges(step, match, text, &AG_ITEMS(&before, ag_word_t)[j], &ranges);
            if (status == AG_OK) {
                status = add_words(step->cut, &ranges, words);
            }
        }
    }
    pcre2_match_data_free(match);
    ag_array_fini(&before);
    ag_array_fini(&ranges);
    return status;
}
