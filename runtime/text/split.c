/* Pre-tokenizers: regular expressions of PCRE2 that cut a text into words. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
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
    uint64_t fingerprint;
    size_t n_steps;
    step_t steps[MOST_RULES];
};

/* One text on its way through the rules. */
typedef struct cutting {
    const ag_splitter_t *splitter;
    pcre2_match_data *match;
    ag_word_fn_t fn;
    void *arg;
} cutting_t;

/* What one rule makes of a text: neighbours that may still become one word. */
typedef struct pending {
    const cutting_t *cutting;
    size_t rule;
    const char *text;  /* the whole that the rule sees */
    size_t begin, end; /* of the word so far, in it */
    bool is_match;     /* its last part is a match */
    bool is_open;      /* there is a word so far */
} pending_t;

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

const ag_pre_tokenizer_t *ag_pre_tokenizer_of(const ag_split_rule_t *rules, size_t n_rules,
                                              bool ignore_merges)
{
    for (size_t i = 0; i < N_KNOWN; i++) {
        bool same = known[i].n_rules == n_rules && known[i].ignore_merges == ignore_merges;

        for (size_t r = 0; r < n_rules && same; r++) {
            const ag_split_rule_t *a = &known[i].rules[r], *b = &rules[r];

            same = strcmp(a->pattern, b->pattern) == 0 && a->literal == b->literal &&
                   a->invert == b->invert && a->cut == b->cut;
        }
        if (same) {
            return &known[i];
        }
    }
    return NULL;
}

static const char *const cut_names[] = {
    [AG_CUT_ISOLATED] = "Isolated",        [AG_CUT_REMOVED] = "Removed",
    [AG_CUT_CONTIGUOUS] = "Contiguous",    [AG_CUT_WITH_PREVIOUS] = "MergedWithPrevious",
    [AG_CUT_WITH_NEXT] = "MergedWithNext",
};

const char *ag_cut_name(ag_cut_t cut)
{
    return cut_names[cut];
}

bool ag_cut_of(const char *name, ag_cut_t *cut_p)
{
    for (size_t i = 0; i < sizeof(cut_names) / sizeof(cut_names[0]); i++) {
        if (strcmp(cut_names[i], name) == 0) {
            *cut_p = (ag_cut_t)i;
            return true;
        }
    }
    return false;
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

static uint64_t hash_rule(uint64_t hash, const ag_split_rule_t *rule)
{
    const unsigned char how[] = {rule->literal, rule->invert, (unsigned char)rule->cut};

    hash = ag_hash_bytes(hash, rule->pattern, strlen(rule->pattern) + 1);
    return ag_hash_bytes(hash, how, sizeof(how));
}

ag_status_t ag_splitter_create(const ag_split_rule_t *rules, size_t n_rules,
                               ag_splitter_t **splitter_p)
{
    ag_splitter_t *splitter = calloc(1, sizeof(*splitter));
    ag_status_t status = AG_OK;

    if (splitter == NULL) {
        return ag_fail_nomem("making a pre-tokenizer", sizeof(*splitter));
    }
    splitter->fingerprint = AG_HASH_SEED;
    if (n_rules > MOST_RULES) {
        free(splitter);
        return ag_fail(AG_ERR_UNSUPPORTED, "a pre-tokenizer of %zu expressions (at most %d)",
                       n_rules, MOST_RULES);
    }
    for (; splitter->n_steps < n_rules && status == AG_OK; splitter->n_steps++) {
        const ag_split_rule_t *rule = &rules[splitter->n_steps];
        step_t *step = &splitter->steps[splitter->n_steps];

        splitter->fingerprint = hash_rule(splitter->fingerprint, rule);
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

uint64_t ag_splitter_fingerprint(const ag_splitter_t *splitter)
{
    return splitter->fingerprint;
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

static ag_status_t split_from(const cutting_t *cutting, size_t rule, const char *text,
                              size_t n_bytes);

/* The word so far is complete: the rules that follow cut it further. */
static ag_status_t close_word(pending_t *pending)
{
    ag_cut_t cut = pending->cutting->splitter->steps[pending->rule].cut;
    bool is_word = pending->is_open && pending->begin < pending->end &&
                   !(cut == AG_CUT_REMOVED && pending->is_match);

    pending->is_open = false;
    return is_word ? split_from(pending->cutting, pending->rule + 1, pending->text + pending->begin,
                                pending->end - pending->begin)
                   : AG_OK;
}

/* A match, or what lies between two. */
static ag_status_t add_range(pending_t *pending, size_t begin, size_t end, bool is_match)
{
    ag_cut_t cut = pending->cutting->splitter->steps[pending->rule].cut;
    ag_status_t status = AG_OK;

    if (pending->is_open && joins(cut, pending->is_match, is_match)) {
        pending->end = end;
        pending->is_match = is_match;
        return AG_OK;
    }
    status = close_word(pending);
    pending->begin = begin;
    pending->end = end;
    pending->is_match = is_match;
    pending->is_open = true;
    return status;
}

/* Cut a text by one rule: matches and what lies between them, in order. */
static ag_status_t split_by(const cutting_t *cutting, size_t rule, const char *text, size_t n_bytes)
{
    const step_t *step = &cutting->splitter->steps[rule];
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(cutting->match);
    pending_t pending = {.cutting = cutting, .rule = rule, .text = text};
    size_t done = 0, at = 0;
    bool more = true, is_first = true;
    ag_status_t status = AG_OK;

    while (at <= n_bytes && more && status == AG_OK) {
        size_t begin, end;

        status = find_next(step->code, cutting->match, text, n_bytes, at, &more);
        if (status != AG_OK || !more) {
            break;
        }
        begin = found[0]; /* the rules that follow search with the same match data */
        end = found[1];
        if (begin > done) {
            status = add_range(&pending, done, begin, step->invert);
        }
        /* an empty match cuts, but not where a match has just ended */
        if (status == AG_OK && (end > begin || begin != done || is_first)) {
            status = add_range(&pending, begin, end, !step->invert);
        }
        is_first = false;
        done = at = end;
        if (end == begin) {
            do {
                at++;
            } while (at < n_bytes && ((unsigned char)text[at] & 0xc0) == 0x80);
        }
    }
    if (status == AG_OK && done < n_bytes) {
        status = add_range(&pending, done, n_bytes, step->invert);
    }
    return status == AG_OK ? close_word(&pending) : status;
}

/* As deep as there are rules. */
static ag_status_t split_from(const cutting_t *cutting, size_t rule, const char *text,
                              size_t n_bytes)
{
    return rule == cutting->splitter->n_steps ? cutting->fn(cutting->arg, text, n_bytes)
                                              : split_by(cutting, rule, text, n_bytes);
}

ag_status_t ag_splitter_split(const ag_splitter_t *splitter, const char *text, size_t n_bytes,
                              ag_word_fn_t fn, void *arg)
{
    cutting_t cutting = {.splitter = splitter, .fn = fn, .arg = arg};
    ag_status_t status = AG_OK;

    if (n_bytes == 0) {
        return AG_OK;
    }
    cutting.match = pcre2_match_data_create(8, NULL);
    if (cutting.match == NULL) {
        return ag_fail_nomem("splitting a text", 64);
    }
    status = split_from(&cutting, 0, text, n_bytes);
    pcre2_match_data_free(cutting.match);
    return status;
}
