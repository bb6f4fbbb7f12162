/* Pre-tokenizers: rules that cut a text into words, each of which the next cuts further. */
#include "runtime/text/split_priv.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/text/regex_priv.h"

typedef struct step {
    ag_split_rule_t rule; /* its pattern is its own */
    ag_regex_t *regex;    /* what cuts; NULL: nothing does */
    bool invert;
    ag_cut_t cut;
} step_t;

struct ag_splitter {
    uint64_t fingerprint;
    size_t n_steps;
    step_t steps[AG_MOST_SPLIT_RULES];
    ag_split_rule_t rules[AG_MOST_SPLIT_RULES]; /* the same, for others to look at */
};

/* One text on its way through the rules. */
typedef struct cutting {
    const ag_splitter_t *splitter;
    ag_regex_search_t *search;
    unsigned flags;
    ag_array_t rooms[AG_MOST_SPLIT_RULES]; /* char: what a rule made of the word it cuts */
    ag_word_fn_t fn;
    void *arg;
} cutting_t;

/* What one rule makes of a text: neighbours that may still become one word. */
typedef struct pending {
    cutting_t *cutting;
    size_t rule;
    const char *text;  /* the whole that the rule sees */
    size_t begin, end; /* of the word so far, in it */
    bool is_first;     /* the text is the beginning of the whole */
    bool is_match;     /* its last part is a match */
    bool is_open;      /* there is a word so far */
} pending_t;

static const char *const cut_names[] = {
    [AG_CUT_ISOLATED] = "Isolated",        [AG_CUT_REMOVED] = "Removed",
    [AG_CUT_CONTIGUOUS] = "Contiguous",    [AG_CUT_WITH_PREVIOUS] = "MergedWithPrevious",
    [AG_CUT_WITH_NEXT] = "MergedWithNext",
};

static const char *const prepend_names[] = {
    [AG_PREPEND_ALWAYS] = "always", [AG_PREPEND_FIRST] = "first", [AG_PREPEND_NEVER] = "never"};

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

const char *ag_prepend_name(ag_prepend_t prepend)
{
    return prepend_names[prepend];
}

bool ag_prepend_of(const char *name, ag_prepend_t *prepend_p)
{
    for (size_t i = 0; i < sizeof(prepend_names) / sizeof(prepend_names[0]); i++) {
        if (strcmp(prepend_names[i], name) == 0) {
            *prepend_p = (ag_prepend_t)i;
            return true;
        }
    }
    return false;
}

static uint64_t hash_rule(uint64_t hash, const ag_split_rule_t *rule)
{
    const unsigned char how[] = {(unsigned char)rule->kind,
                                 rule->literal,
                                 rule->invert,
                                 rule->whole,
                                 (unsigned char)rule->cut,
                                 (unsigned char)rule->prepend};

    hash = ag_hash_bytes(hash, rule->pattern, strlen(rule->pattern) + 1);
    return ag_hash_bytes(hash, how, sizeof(how));
}

static ag_status_t make_step(const ag_split_rule_t *rule, step_t *step)
{
    bool is_cut = rule->kind == AG_RULE_CUT;
    char *pattern = strdup(rule->pattern);

    if (pattern == NULL) {
        return ag_fail_nomem("making a pre-tokenizer", strlen(rule->pattern));
    }
    step->rule = *rule;
    step->rule.pattern = pattern;
    step->invert = is_cut && rule->invert;
    step->cut = is_cut ? rule->cut : AG_CUT_WITH_NEXT;
    return is_cut || (rule->kind == AG_RULE_METASPACE && !rule->whole)
               ? ag_regex_create(pattern, !is_cut || rule->literal, &step->regex)
               : AG_OK;
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
    if (n_rules > AG_MOST_SPLIT_RULES) {
        free(splitter);
        return ag_fail(AG_ERR_UNSUPPORTED, "a pre-tokenizer of %zu expressions (at most %d)",
                       n_rules, AG_MOST_SPLIT_RULES);
    }
    for (; splitter->n_steps < n_rules && status == AG_OK; splitter->n_steps++) {
        step_t *step = &splitter->steps[splitter->n_steps];

        splitter->fingerprint = hash_rule(splitter->fingerprint, &rules[splitter->n_steps]);
        status = make_step(&rules[splitter->n_steps], step);
        splitter->rules[splitter->n_steps] = step->rule;
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
            ag_regex_destroy(splitter->steps[i].regex);
            free((char *)splitter->steps[i].rule.pattern);
        }
        free(splitter);
    }
}

size_t ag_splitter_bytes(const ag_splitter_t *splitter)
{
    size_t n_bytes = sizeof(*splitter);

    for (size_t i = 0; i < splitter->n_steps; i++) {
        const ag_regex_t *regex = splitter->steps[i].regex;

        n_bytes +=
            strlen(splitter->steps[i].rule.pattern) + (regex != NULL ? ag_regex_bytes(regex) : 0);
    }
    return n_bytes;
}

uint64_t ag_splitter_room_bytes(const ag_splitter_t *splitter, size_t n_bytes)
{
    uint64_t most = 0, now = n_bytes;

    for (size_t i = 0; i < splitter->n_steps; i++) {
        size_t n = strlen(splitter->rules[i].pattern);

        if (splitter->rules[i].kind != AG_RULE_CUT) { /* the whole may be one word, or one space */
            now = splitter->rules[i].kind == AG_RULE_METASPACE ? now * n + n : now + n;
            most += 2 * now; /* arrays double */
        }
    }
    return most;
}

const ag_split_rule_t *ag_splitter_rules(const ag_splitter_t *splitter, size_t *n_p)
{
    *n_p = splitter->n_steps;
    return splitter->rules;
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

static ag_status_t split_from(cutting_t *cutting, size_t rule, const char *text, size_t n_bytes,
                              bool is_first);

/* The word so far is complete: the rules that follow cut it further. */
static ag_status_t close_word(pending_t *pending)
{
    ag_cut_t cut = pending->cutting->splitter->steps[pending->rule].cut;
    bool is_word = pending->is_open && pending->begin < pending->end &&
                   !(cut == AG_CUT_REMOVED && pending->is_match);

    pending->is_open = false;
    return is_word
               ? split_from(pending->cutting, pending->rule + 1, pending->text + pending->begin,
                            pending->end - pending->begin, pending->is_first && pending->begin == 0)
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
static ag_status_t split_by(cutting_t *cutting, size_t rule, const char *text, size_t n_bytes,
                            bool is_first)
{
    const step_t *step = &cutting->splitter->steps[rule];
    pending_t pending = {.cutting = cutting, .rule = rule, .text = text, .is_first = is_first};
    size_t done = 0, at = 0, found[2];
    bool more = true, is_begin = true;
    ag_status_t status = AG_OK;

    while (at <= n_bytes && status == AG_OK) {
        status = ag_regex_next(step->regex, cutting->search, text, n_bytes, at, found, &more);
        if (status != AG_OK || !more) {
            break;
        }
        if (found[0] > done) {
            status = add_range(&pending, done, found[0], step->invert);
        }
        /* an empty match cuts, but not where a match has just ended */
        if (status == AG_OK && (found[1] > found[0] || found[0] != done || is_begin)) {
            status = add_range(&pending, found[0], found[1], !step->invert);
        }
        is_begin = false;
        done = found[1];
        at = ag_regex_behind(text, n_bytes, found);
    }
    if (status == AG_OK && done < n_bytes) {
        status = add_range(&pending, done, n_bytes, step->invert);
    }
    return status == AG_OK ? close_word(&pending) : status;
}

/* A prefix, or a metaspace, where the word does not begin with one. */
static ag_status_t add_prefix(const cutting_t *cutting, const ag_split_rule_t *rule,
                              const char *text, size_t n_bytes, bool is_first, ag_array_t *room)
{
    size_t n = strlen(rule->pattern);
    bool spaced = rule->kind == AG_RULE_METASPACE && text[0] == ' ';
    bool has_one = spaced || (n_bytes >= n && memcmp(text, rule->pattern, n) == 0);
    bool wanted =
        rule->prepend == AG_PREPEND_ALWAYS || (rule->prepend == AG_PREPEND_FIRST && is_first);
    bool continues = is_first && (cutting->flags & AG_SPLIT_CONTINUES);

    return wanted && !has_one && !continues ? ag_array_append(room, rule->pattern, n) : AG_OK;
}

/* What a rule makes of a word before it cuts it. */
static ag_status_t rewrite(cutting_t *cutting, size_t number, const char *text, size_t n_bytes,
                           bool is_first)
{
    const ag_split_rule_t *rule = &cutting->splitter->steps[number].rule;
    ag_array_t *room = &cutting->rooms[number];
    size_t n = strlen(rule->pattern), done = 0;
    ag_status_t status;

    room->n_items = 0;
    status = add_prefix(cutting, rule, text, n_bytes, is_first, room);
    while (status == AG_OK && done < n_bytes && rule->kind == AG_RULE_METASPACE) {
        const char *space = memchr(text + done, ' ', n_bytes - done);
        size_t end = space != NULL ? (size_t)(space - text) : n_bytes;

        status = ag_array_append(room, text + done, end - done);
        if (status == AG_OK && space != NULL) {
            status = ag_array_append(room, rule->pattern, n);
        }
        done = space != NULL ? end + 1 : n_bytes;
    }
    return status == AG_OK ? ag_array_append(room, text + done, n_bytes - done) : status;
}

/* As deep as there are rules. */
static ag_status_t split_from(cutting_t *cutting, size_t rule, const char *text, size_t n_bytes,
                              bool is_first)
{
    const step_t *step = &cutting->splitter->steps[rule];
    ag_status_t status;

    if (rule == cutting->splitter->n_steps) {
        return cutting->fn(cutting->arg, text, n_bytes);
    }
    if (step->rule.kind != AG_RULE_CUT) {
        status = rewrite(cutting, rule, text, n_bytes, is_first);
        if (status != AG_OK) {
            return status;
        }
        text = cutting->rooms[rule].items;
        n_bytes = cutting->rooms[rule].n_items;
    }
    return step->regex != NULL ? split_by(cutting, rule, text, n_bytes, is_first)
                               : split_from(cutting, rule + 1, text, n_bytes, is_first);
}

ag_status_t ag_splitter_split(const ag_splitter_t *splitter, const char *text, size_t n_bytes,
                              unsigned flags, ag_word_fn_t fn, void *arg)
{
    cutting_t cutting = {.splitter = splitter, .flags = flags, .fn = fn, .arg = arg};
    ag_status_t status;

    if (n_bytes == 0) {
        return AG_OK;
    }
    status = ag_regex_search_create(&cutting.search);
    if (status != AG_OK) {
        return status;
    }
    for (size_t i = 0; i < splitter->n_steps; i++) {
        cutting.rooms[i] = AG_ARRAY(char);
    }
    status = split_from(&cutting, 0, text, n_bytes, flags & AG_SPLIT_FIRST);
    for (size_t i = 0; i < splitter->n_steps; i++) {
        ag_array_fini(&cutting.rooms[i]);
    }
    ag_regex_search_destroy(cutting.search);
    return status;
}
