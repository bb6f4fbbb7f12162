/* How a tokenizer of pieces writes spaces, as GGUF files say it. */
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/export_priv.h"

static bool is_replacing(const ag_normal_step_t *step, bool literal, const char *pattern,
                         const char *content)
{
    return step->kind == AG_NORMAL_REPLACE && step->literal == literal &&
           strcmp(step->pattern, pattern) == 0 && step->n_content == strlen(content) &&
           memcmp(step->content, content, step->n_content) == 0;
}

static bool is_map(const ag_normal_step_t *step)
{
    return step->kind == AG_NORMAL_CHARSMAP || step->kind == AG_NORMAL_CHARSMAP_BY_CHAR;
}

/* Steps that are looked at one after the other. */
typedef struct looking {
    const ag_normal_step_t *at, *end;
} looking_t;

static bool pass(looking_t *looking, bool literal, const char *pattern, const char *content)
{
    bool is = looking->at < looking->end && is_replacing(looking->at, literal, pattern, content);

    looking->at += is;
    return is;
}

/*
 * The normalizer: a map; extra white space goes, as we write it or as T5 has it; a metaspace in
 * front; metaspaces for spaces. @return false: it is none of these.
 */
static bool look_at_steps(const ag_tokenizer_t *tokenizer, ag_spacing_t *spacing, bool *spaced_p,
                          bool *nearly_p)
{
    size_t n;
    const ag_normal_step_t *steps = ag_normalizer_steps(tokenizer->normalizer, &n);
    looking_t looking = {.at = steps, .end = steps + n};
    bool t5 = false;

    if (n > 0 && is_map(looking.at)) {
        spacing->map = looking.at++;
    }
    if (looking.at < looking.end && looking.at->kind == AG_NORMAL_STRIP && looking.at->right) {
        looking.at++;
        t5 = true;
    }
    spacing->removes_extra = pass(&looking, false, "\\A +", "");
    if (pass(&looking, false, " {2,}", t5 ? AG_METASPACE : " ") != (spacing->removes_extra || t5)) {
        return false;
    }
    spacing->removes_extra = spacing->removes_extra || t5;
    if (looking.at < looking.end && looking.at->kind == AG_NORMAL_PREPEND &&
        looking.at->n_content == strlen(AG_METASPACE) &&
        memcmp(looking.at->content, AG_METASPACE, looking.at->n_content) == 0) {
        spacing->adds_space = true;
        looking.at++;
    }
    *spaced_p = pass(&looking, true, " ", AG_METASPACE);
    if (spacing->removes_extra && !t5 &&
        !pass(&looking, false, "(?<!" AG_METASPACE ")(?:" AG_METASPACE ")+\\z", "")) {
        return false;
    }
    *nearly_p = t5;
    return looking.at == looking.end && (*spaced_p || !spacing->adds_space);
}

/* Is a word made across a space? */
static bool crosses(const ag_tokenizer_t *tokenizer)
{
    size_t n = strlen(AG_METASPACE);

    for (uint32_t id = 0; id < tokenizer->pieces.n_items; id++) {
        const ag_piece_t *piece = ag_piece_at(tokenizer, id);
        const char *key = ag_piece_key(tokenizer, piece);

        for (uint32_t at = 1; at + n <= piece->n_key; at++) {
            if (memcmp(key + at, AG_METASPACE, n) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* The rules: none, one that finds nothing, or a Metaspace where the normalizer leaves spaces. */
static bool look_at_rules(const ag_tokenizer_t *tokenizer, bool spaced, ag_spacing_t *spacing,
                          bool *nearly_p)
{
    size_t n;
    const ag_split_rule_t *rule = ag_splitter_rules(tokenizer->splitter, &n);

    if (spaced) {
        return n == 0 || (n == 1 && rule->kind == AG_RULE_CUT && rule->literal &&
                          strcmp(rule->pattern, " ") == 0);
    }
    if (n != 1 || rule->kind != AG_RULE_METASPACE || strcmp(rule->pattern, AG_METASPACE) != 0 ||
        (!rule->whole && crosses(tokenizer))) {
        return false;
    }
    spacing->adds_space = rule->prepend != AG_PREPEND_NEVER;
    *nearly_p = *nearly_p || spacing->adds_space;
    return true;
}

ag_status_t ag_spacing_of(const ag_tokenizer_t *tokenizer, const char *path, ag_spacing_t *spacing)
{
    bool spaced, nearly = false;

    *spacing = (ag_spacing_t){0};
    if (!look_at_steps(tokenizer, spacing, &spaced, &nearly) ||
        !look_at_rules(tokenizer, spaced, spacing, &nearly) ||
        (tokenizer->model == AG_MODEL_MERGES && (spacing->map != NULL || spacing->removes_extra))) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s/tokenizer.json: GGUF files have no name for such a normalizer and "
                       "pre-tokenizer",
                       path);
    }
    if (nearly) {
        ag_log(AG_LOG_WARNING,
               "GGUF files put a space before every text and behind each special token, and take "
               "away spaces alone: where texts begin or end with white space, or hold special "
               "tokens, ids may differ from this tokenizer's");
    }
    return AG_OK;
}
