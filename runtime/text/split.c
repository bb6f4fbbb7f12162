/* Pre-tokenizers: regular expressions of PCRE2 that cut a text into words. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

const char ag_pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char ag_pattern_digits[] = "\\p{N}";
static const char pattern_llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static const char *const gpt2_patterns[] = {ag_pattern_gpt2};
static const char *const llama3_patterns[] = {pattern_llama3};
static const char *const smollm_patterns[] = {ag_pattern_digits, ag_pattern_gpt2};

static const struct {
    const char *name;
    const char *const *patterns;
    size_t n_patterns;
    bool ignore_merges;
} known[] = {
    {"gpt-2", gpt2_patterns, 1, false},    {"llama-bpe", llama3_patterns, 1, true},
    {"llama3", llama3_patterns, 1, true},  {"llama-v3", llama3_patterns, 1, true},
    {"smollm", smollm_patterns, 2, false},
};

struct ag_splitter {
    size_t n_codes;
    pcre2_code *codes[8];
};

const char *const *ag_splitter_known(const char *name, size_t *n_patterns_p, bool *ignore_merges_p)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, name) == 0) {
            *n_patterns_p = known[i].n_patterns;
            *ignore_merges_p = known[i].ignore_merges;
            return known[i].patterns;
        }
    }
    return NULL;
}

const char *ag_splitter_names(void)
{
    return "gpt-2, llama-bpe, llama3, llama-v3, smollm";
}

/* White space as Unicode has it: PCRE2's own \s also counts U+180E. */
static const char space_class[] = "\\t-\\r\\x{85}\\p{Z}";

/* Replace \s and \S, inside and outside of brackets. */
static ag_status_t translate(const char *pattern, ag_array_t *translated)
{
    bool in_class = false;
    ag_status_t status = AG_OK;

    for (const char *at = pattern; *at != '\0' && status == AG_OK; at++) {
        bool space = at[0] == '\\' && at[1] == 's', other = at[0] == '\\' && at[1] == 'S';

        if (space || (other && !in_class)) {
            const char *open = in_class ? "" : other ? "[^" : "[";

            status = ag_array_append(translated, open, strlen(open));
            if (status == AG_OK) {
                status = ag_array_append(translated, space_class, strlen(space_class));
            }
            if (status == AG_OK && !in_class) {
                status = ag_array_append(translated, "]", 1);
            }
            at++;
            continue;
        }
        if (at[0] == '\\' && at[1] != '\0') {
            status = ag_array_append(translated, at, 2);
            at++;
            continue;
        }
        in_class = in_class ? *at != ']' : *at == '[';
        status = ag_array_append(translated, at, 1);
    }
    return status == AG_OK ? ag_array_append(translated, "", 1) : status;
}

static ag_status_t compile(const char *pattern, pcre2_code **code_p)
{
    ag_array_t translated = AG_ARRAY(char);
    ag_status_t status = translate(pattern, &translated);
    PCRE2_UCHAR text[256];
    PCRE2_SIZE offset;
    int error;

    if (status != AG_OK) {
        ag_array_fini(&translated);
        return status;
    }
    *code_p = pcre2_compile((PCRE2_SPTR)translated.items, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &offset, NULL);
    ag_array_fini(&translated);
    if (*code_p == NULL) {
        pcre2_get_error_message(error, text, sizeof(text));
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the pre-tokenizer's expression \"%s\" is not understood: "
                       "%s",
                       pattern, (const char *)text);
    }
    pcre2_jit_compile(*code_p, PCRE2_JIT_COMPLETE); /* where it cannot, matching is slower */
    return AG_OK;
}

ag_status_t ag_splitter_create(const char *const *patterns, size_t n_patterns,
                               ag_splitter_t **splitter_p)
{
    ag_splitter_t *splitter = calloc(1, sizeof(*splitter));
    ag_status_t status = AG_OK;

    if (splitter == NULL) {
        return ag_fail_nomem("making a pre-tokenizer", sizeof(*splitter));
    }
    if (n_patterns > sizeof(splitter->codes) / sizeof(splitter->codes[0])) {
        free(splitter);
        return ag_fail(AG_ERR_UNSUPPORTED, "a pre-tokenizer of %zu expressions", n_patterns);
    }
    for (; splitter->n_codes < n_patterns && status == AG_OK; splitter->n_codes++) {
        status = compile(patterns[splitter->n_codes], &splitter->codes[splitter->n_codes]);
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
        for (size_t i = 0; i < splitter->n_codes; i++) {
            pcre2_code_free(splitter->codes[i]);
        }
        free(splitter);
    }
}

static ag_status_t add_word(ag_array_t *words, size_t begin, size_t end)
{
    return begin < end ? ag_array_append(words, &(ag_word_t){begin, end}, 1) : AG_OK;
}

/* Matches are words, and so is what lies between them. */
static ag_status_t split_word(const pcre2_code *code, pcre2_match_data *match, const char *text,
                              const ag_word_t *word, ag_array_t *words)
{
    size_t n_bytes = word->end - word->begin, done = 0, at = 0;
    ag_status_t status = AG_OK;

    while (at < n_bytes && status == AG_OK) {
        int n = pcre2_match(code, (PCRE2_SPTR)(text + word->begin), n_bytes, at, PCRE2_NO_UTF_CHECK,
                            match, NULL);
        const PCRE2_SIZE *found = pcre2_get_ovector_pointer(match);

        if (n == PCRE2_ERROR_NOMATCH) {
            break;
        }
        if (n < 0) {
            return ag_fail(AG_ERR_UNSUPPORTED,
                           "the pre-tokenizer's expression fails on a text of "
                           "%zu bytes (PCRE2 error %d)",
                           n_bytes, n);
        }
        if (found[1] == found[0]) { /* an empty match cuts nothing */
            at = found[1] + 1;
            while (at < n_bytes && ((unsigned char)text[word->begin + at] & 0xc0) == 0x80) {
                at++;
            }
            continue;
        }
        status = add_word(words, word->begin + done, word->begin + found[0]);
        if (status == AG_OK) {
            status = add_word(words, word->begin + found[0], word->begin + found[1]);
        }
        done = at = found[1];
    }
    return status == AG_OK ? add_word(words, word->begin + done, word->end) : status;
}

ag_status_t ag_splitter_split(const ag_splitter_t *splitter, const char *text, size_t n_bytes,
                              ag_array_t *words)
{
    ag_array_t before = AG_ARRAY(ag_word_t);
    pcre2_match_data *match = pcre2_match_data_create(8, NULL);
    ag_status_t status =
        match == NULL ? ag_fail_nomem("splitting a text", 64) : add_word(words, 0, n_bytes);

    for (size_t i = 0; i < splitter->n_codes && status == AG_OK; i++) {
        ag_array_t swap = before;

        before = *words;
        *words = swap;
        words->n_items = 0;
        for (size_t j = 0; j < before.n_items && status == AG_OK; j++) {
            status = split_word(splitter->codes[i], match, text, &AG_ITEMS(&before, ag_word_t)[j],
                                words);
        }
    }
    pcre2_match_data_free(match);
    ag_array_fini(&before);
    return status;
}
