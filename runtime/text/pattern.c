/*
 * Expressions of Oniguruma (Ruby's syntax, its doc/RE) in PCRE2's syntax. The two agree on nearly
 * all that pre-tokenizers use; where they do not, it is translated, or refused: never guessed.
 */
#include <string.h>

#include "runtime/base/array.h"
#include "runtime/base/quote.h"
#include "runtime/text/regex_priv.h"

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
/* outside of brackets Oniguruma counts the numbers of Latin-1, too */
#define WORDS_ALONE WORDS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

static const shorthand_t shorthands[] = {
    {'s', SPACES, "[" SPACES "]"}, /* PCRE2 counts U+180E too */
    {'S', OTHERS, "[^" SPACES "]"},
    {'w', WORDS, "[" WORDS_ALONE "]"}, /* PCRE2 leaves out marks and connectors */
    {'W', NULL, "[^" WORDS_ALONE "]"},
    {'h', "0-9A-Fa-f", "[0-9A-Fa-f]"}, /* horizontal space to PCRE2 */
    {'H', NULL, "[^0-9A-Fa-f]"},
    {'v', "\\x{b}", "\\x{b}"}, /* any vertical space to PCRE2 */
    {'b', "\\b", NULL},        /* a backspace; a boundary of words that PCRE2 sees otherwise */
};

/* The same to both. */
static const char same_letters[] = "dDntrfaeAzZRXN";

/* [:name:], which Oniguruma takes from Unicode's properties and PCRE2 from general categories. */
typedef struct posix_class {
    const char *name, *members;
} posix_class_t;

static const posix_class_t posix_classes[] = {
    {"[:alpha:]", "\\p{Alphabetic}"},
    {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
    {"[:upper:]", "\\p{Uppercase}"},
    {"[:lower:]", "\\p{Lowercase}"},
    {"[:digit:]", "\\p{Nd}"},
    {"[:xdigit:]", "0-9A-Fa-f"},
    {"[:punct:]", "\\p{P}\\p{S}"},
    {"[:cntrl:]", "\\p{Cc}"},
    {"[:space:]", SPACES},
    {"[:blank:]", "\\t\\p{Zs}"},
    {"[:word:]", WORDS},
    {"[:ascii:]", "\\x{0}-\\x{7f}"},
};

static ag_status_t refuse(const translation_t *t, const char *what)
{
    return ag_fail(AG_ERR_UNSUPPORTED, "the expression \"%s\" holds %s, which is not known here",
                   ag_quote_string(t->pattern).text, what);
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

/* Digits after \x and \u. @return false: a byte of a longer character, or none that is known. */
static bool is_code(const char *at)
{
    size_t n = strspn(at + 2, "0123456789abcdefABCDEF");

    return at[1] == 'u' ? n >= 4 : n == 1 || (n >= 2 && at[2] <= '7');
}

static ag_status_t translate_code(translation_t *t)
{
    const char *digits = t->at + 2;
    size_t n_bytes = strcspn(t->at, "}");
    ag_status_t status;

    if (t->at[1] == 'x' && *digits == '{') {
        return t->at[n_bytes] == '}' ? copy(t, n_bytes + 1) : refuse(t, "an unclosed brace");
    }
    if (!is_code(t->at)) {
        return refuse(t, "a number that is no code point");
    }
    if (t->at[1] == 'x') {
        return copy(t, 2); /* and its digits, as they come */
    }
    t->at += 6;
    status = emit(t, "\\x{");
    if (status == AG_OK) {
        status = ag_array_append(t->out, digits, 4);
    }
    return status == AG_OK ? emit(t, "}") : status;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static ag_status_t translate_escape(translation_t *t)
{
    char letter = t->at[1], name[] = {'\\', letter, '\0'};

    if (letter == '\0') {
        return refuse(t, "a backslash at its end");
    }
    for (size_t i = 0; i < sizeof(shorthands) / sizeof(shorthands[0]); i++) {
        const char *meaning = t->in_class ? shorthands[i].members : shorthands[i].outside;

        if (shorthands[i].letter == letter) {
            t->at += 2;
            return meaning != NULL ? emit(t, meaning) : refuse(t, name);
        }
    }
    if ((letter == 'p' || letter == 'P') && t->at[2] == '{') {
        return translate_property(t);
    }
    if (letter == 'x' || letter == 'u') {
        return translate_code(t);
    }
    return !is_alphanumeric(letter) || strchr(same_letters, letter) != NULL ? copy(t, 2)
                                                                            : refuse(t, name);
}

static ag_status_t translate_in_class(translation_t *t)
{
    for (size_t i = 0; i < sizeof(posix_classes) / sizeof(posix_classes[0]); i++) {
        size_t n = strlen(posix_classes[i].name);

        if (strncmp(t->at, posix_classes[i].name, n) == 0) {
            t->at += n;
            return emit(t, posix_classes[i].members);
        }
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

/*
 * What begins with (?. An option that stands alone reaches over alternatives in Oniguruma only:
 * a(?i)b|c is a(?i:b|c) there; at the very beginning both mean the same.
 */
static ag_status_t translate_group(translation_t *t)
{
    const char *kind = t->at + 2;
    bool is_option = strncmp(kind, "i:", 2) == 0 || strncmp(kind, "-i:", 3) == 0;

    if (is_option || (strncmp(kind, "i)", 2) == 0 && t->at == t->pattern)) {
        return copy(t, strcspn(t->at, ":)") + 1);
    }
    return *kind != '\0' && strchr(":=!><", *kind) != NULL ? copy(t, 3)
                                                           : refuse(t, "a group of another kind");
}

static ag_status_t translate_outside(translation_t *t)
{
    if (t->at[0] == '[') {
        size_t n = t->at[1] == '^' ? 2 : 1;

        t->in_class = true;
        return t->at[n] != ']' ? copy(t, n) : refuse(t, "a bracket that closes at once");
    }
    if (t->at[0] == '{') {
        return translate_interval(t);
    }
    if (t->at[0] == '(' && t->at[1] == '*') {
        return refuse(t, "a verb");
    }
    return t->at[0] == '(' && t->at[1] == '?' ? translate_group(t) : copy(t, 1);
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
