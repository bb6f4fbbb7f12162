/*
 * Expressions of Oniguruma (Ruby's syntax, its doc/RE) in PCRE2's syntax. The two agree on nearly
 * all that pre-tokenizers use; where they do not, it is translated, or refused: never guessed.
 */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

typedef struct translation {
    const char *pattern; /* whole, for errors */
    const char *at;
    bool in_class;
    ag_array_t *out; /* char */
} translation_t;

/* What a letter after a backslash means in Oniguruma. */
typedef struct shorthand {
    char letter;
    const char *members; /* of a bracket expression; NULL: cannot be said within one */
    const char *outside; /* the whole, outside of brackets; NULL: refused */
} shorthand_t;

#define SPACES                                                                                     \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define OTHERS                                                                                     \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}!-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"      \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"                 \
    "\\x{3001}-\\x{10ffff}"
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

static const shorthand_t shorthands[] = {
    {'s', SPACES, "[" SPACES "]"}, /* PCRE2 counts U+180E too */
    {'S', OTHERS, "[^" SPACES "]"},
    {'w', WORDS, "[" WORDS "]"}, /* PCRE2 leaves out marks and connectors */
    {'W', NULL, "[^" WORDS "]"},
    {'h', "0-9A-Fa-f", "[0-9A-Fa-f]"}, /* horizontal space to PCRE2 */
    {'H', NULL, "[^0-9A-Fa-f]"},
    {'b', "\\b", NULL}, /* a backspace; a boundary of words that PCRE2 sees otherwise */
    {'B', NULL, NULL},
    {'G', NULL, NULL},
    {'g', NULL, NULL},
    {'C', NULL, NULL},
    {'E', NULL, NULL},
    {'Q', NULL, NULL},
    {'y', NULL, NULL},
    {'Y', NULL, NULL},
    {'O', NULL, NULL},
};

static ag_status_t refuse(const translation_t *t, const char *what)
{
    return ag_fail(AG_ERR_UNSUPPORTED,
                   "the pre-tokenizer's expression \"%.200s\" holds %s, which is not known here",
                   t->pattern, what);
}

static ag_status_t emit(const translation_t *t, const char *text)
{
    return ag_array_append(t->out, text, strlen(text));
}

/* Copy n bytes as they stand. */
static ag_status_t copy(translation_t *t, size_t n)
{
    const char *from = t->at;

    t->at += n;
    return ag_array_append(t->out, from, n);
}

/* A general category is the same to both; any other name is a script's, and not its extensions'. */
static ag_status_t translate_property(translation_t *t)
{
    bool negated = t->at[1] == 'P';
    const char *name = t->at + 3;
    size_t n = strcspn(name, "}");
    ag_status_t status;

    if (name[n] != '}') {
        return refuse(t, "an unclosed brace");
    }
    if (*name == '^') {
        negated = !negated;
        name++;
        n--;
    }
    t->at = name + n + 1;
    status = emit(t, negated ? "\\P{" : "\\p{");
    if (status == AG_OK && n > 2) {
        status = emit(t, "sc:");
    }
    if (status == AG_OK) {
        status = ag_array_append(t->out, name, n);
    }
    return status == AG_OK ? emit(t, "}") : status;
}

static ag_status_t translate_escape(translation_t *t)
{
    char letter = t->at[1];

    if (letter == '\0') {
        return refuse(t, "a backslash at its end");
    }
    for (size_t i = 0; i < sizeof(shorthands) / sizeof(shorthands[0]); i++) {
        const char *meaning = t->in_class ? shorthands[i].members : shorthands[i].outside;

        if (shorthands[i].letter == letter) {
            char name[] = {'\\', letter, '\0'};

            t->at += 2;
            return meaning != NULL ? emit(t, meaning) : refuse(t, name);
        }
    }
    if ((letter == 'p' || letter == 'P') && t->at[2] == '{') {
        return translate_property(t);
    }
    if (letter == 'x' && t->at[2] == '{') {
        const char *end = strchr(t->at, '}');

        return end != NULL ? copy(t, (size_t)(end - t->at) + 1) : refuse(t, "an unclosed brace");
    }
    return copy(t, 2);
}

static ag_status_t translate_in_class(translation_t *t)
{
    if (t->at[0] == '[' && t->at[1] == ':') {
        const char *end = strstr(t->at, ":]");

        return end != NULL ? copy(t, (size_t)(end - t->at) + 2) : refuse(t, "an unclosed [:");
    }
    if (t->at[0] == '[') {
        return refuse(t, "a bracket within brackets");
    }
    if (t->at[0] == '&' && t->at[1] == '&') {
        return refuse(t, "&& within brackets");
    }
    t->in_class = t->at[0] != ']';
    return copy(t, 1);
}

/*
 * A repetition {n,m}. A plus behind it repeats the whole in Oniguruma, and makes it possessive in
 * PCRE2; any number of 1 to m times is once or more.
 */
static ag_status_t translate_interval(translation_t *t)
{
    size_t n_low = strspn(t->at + 1, "0123456789");
    bool has_comma = t->at[1 + n_low] == ',';
    size_t n_high = has_comma ? strspn(t->at + 2 + n_low, "0123456789") : 0;
    size_t n = 2 + n_low + has_comma + n_high;

    if (t->at[n - 1] != '}' || n_low + n_high == 0) {
        return copy(t, 1); /* a brace and nothing more */
    }
    if (n_low == 0) {
        return refuse(t, "a repetition without its least number");
    }
    if (t->at[n] == '+' && n_low == 1 && t->at[1] == '1') {
        t->at += n + 1;
        return emit(t, "+");
    }
    if (t->at[n] == '+' || (t->at[n] == '?' && !has_comma)) {
        return refuse(t, "a repeated repetition");
    }
    return copy(t, n);
}

static ag_status_t translate_outside(translation_t *t)
{
    if (t->at[0] == '[') {
        t->in_class = true;
        return copy(t, t->at[1] == '^' ? 2 : 1);
    }
    if (t->at[0] == '{') {
        return translate_interval(t);
    }
    if (t->at[0] == '(' && t->at[1] == '*') {
        return refuse(t, "a verb");
    }
    if (t->at[0] == '(' && t->at[1] == '?') {
        size_t n_flags = strspn(t->at + 2, "imsxWDSPy-");

        if (n_flags > 0 && strcspn(t->at + 2, "mWDSPy") < n_flags) {
            return refuse(t, "an option other than i and x");
        }
    }
    return copy(t, 1);
}

ag_status_t ag_pattern_translate(const char *pattern, ag_array_t *translated)
{
    translation_t t = {.pattern = pattern, .at = pattern, .out = translated};
    ag_status_t status = AG_OK;

    while (*t.at != '\0' && status == AG_OK) {
        status = *t.at == '\\' ? translate_escape(&t)
                 : t.in_class  ? translate_in_class(&t)
                               : translate_outside(&t);
    }
    return status == AG_OK ? ag_array_append(translated, "", 1) : status;
}
