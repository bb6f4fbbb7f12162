#include "runtime/text/unicode_priv.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MOST_DECOMPOSED = 32 }; /* of one character: U+FDFA is 18 */

/* Code points of a text on its way to a form. */
typedef struct forming {
    utf8proc_option_t options;
    ag_array_t *codes; /* utf8proc_int32_t */
    size_t starter;    /* from here on what came last are marks, but for the first */
} forming_t;

typedef struct mark {
    utf8proc_int32_t code;
    int class;
    size_t at;
} mark_t;

bool ag_unicode_is_formed(ag_unicode_form_t form, const char *text, size_t n_bytes)
{
    /* nothing below U+0300 is composed, nothing of ASCII is decomposed */
    unsigned char least = form == AG_UNICODE_NFC ? 0xcc : 0x80;

    for (size_t i = 0; i < n_bytes; i++) {
        if ((unsigned char)text[i] >= least) {
            return false;
        }
    }
    return true;
}

static int compare_marks(const void *a, const void *b)
{
    const mark_t *x = a, *y = b;

    return x->class != y->class ? x->class - y->class : (x->at > y->at) - (x->at < y->at);
}

/* Marks behind a starter are put in order of their classes, those of one class as they came. */
static ag_status_t order_marks(forming_t *forming)
{
    utf8proc_int32_t *codes = AG_ITEMS(forming->codes, utf8proc_int32_t) + forming->starter;
    size_t n = forming->codes->n_items - forming->starter;
    bool ordered = true;
    mark_t few[32], *marks = n <= 32 ? few : malloc(n * sizeof(*marks));

    if (marks == NULL) {
        return ag_fail_nomem("normalizing a text", n * sizeof(*marks));
    }
    for (size_t i = 0; i < n; i++) {
        marks[i] = (mark_t){codes[i], utf8proc_get_property(codes[i])->combining_class, i};
        ordered = ordered && (i == 0 || marks[i - 1].class <= marks[i].class);
    }
    if (!ordered) {
        qsort(marks, n, sizeof(*marks), compare_marks);
        for (size_t i = 0; i < n; i++) {
            codes[i] = marks[i].code;
        }
    }
    if (marks != few) {
        free(marks);
    }
    return AG_OK;
}

static ag_status_t add_code(forming_t *forming, utf8proc_int32_t code)
{
    utf8proc_int32_t codes[MOST_DECOMPOSED];
    utf8proc_ssize_t n =
        utf8proc_decompose_char(code, codes, MOST_DECOMPOSED, forming->options, NULL);
    ag_status_t status = AG_OK;

    if (n < 0 || n > MOST_DECOMPOSED) { /* none there is: it stays as it is */
        codes[0] = code;
        n = 1;
    }
    for (utf8proc_ssize_t i = 0; i < n && status == AG_OK; i++) {
        if (utf8proc_get_property(codes[i])->combining_class == 0) {
            if (forming->codes->n_items - forming->starter > 1) {
                status = order_marks(forming);
            }
            forming->starter = forming->codes->n_items;
        }
        if (status == AG_OK) {
            status = ag_array_append(forming->codes, &codes[i], 1);
        }
    }
    return status;
}

static utf8proc_ssize_t next_code(const char *text, size_t n_bytes, utf8proc_int32_t *code_p)
{
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text,
                                          (utf8proc_ssize_t)(n_bytes < 4 ? n_bytes : 4), code_p);

    return n > 0 ? n : 1; /* valid UTF-8 always gives one */
}

static ag_status_t append_code(ag_array_t *text, utf8proc_int32_t code)
{
    utf8proc_uint8_t bytes[4];

    return ag_array_append(text, bytes, (size_t)utf8proc_encode_char(code, bytes));
}

ag_status_t ag_unicode_form(ag_unicode_form_t form, const char *text, size_t n_bytes,
                            ag_array_t *codes, ag_array_t *formed)
{
    static const int options[] = {[AG_UNICODE_NFC] = UTF8PROC_DECOMPOSE,
                                  [AG_UNICODE_NFD] = UTF8PROC_DECOMPOSE,
                                  [AG_UNICODE_NFKC] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
                                  [AG_UNICODE_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    bool composes = form == AG_UNICODE_NFC || form == AG_UNICODE_NFKC;
    forming_t forming = {.options = (utf8proc_option_t)(options[form] | UTF8PROC_STABLE),
                         .codes = codes};
    ag_status_t status = AG_OK;
    utf8proc_int32_t code;
    size_t n;

    codes->n_items = 0;
    for (size_t at = 0; at < n_bytes && status == AG_OK;) {
        at += (size_t)next_code(text + at, n_bytes - at, &code);
        status = add_code(&forming, code);
    }
    if (status == AG_OK && codes->n_items - forming.starter > 1) {
        status = order_marks(&forming);
    }
    n = codes->n_items;
    if (status == AG_OK && composes && n > 0) {
        n = (size_t)utf8proc_normalize_utf32(
            codes->items, (utf8proc_ssize_t)n,
            (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    }
    for (size_t i = 0; i < n && status == AG_OK; i++) {
        status = append_code(formed, AG_ITEMS(codes, utf8proc_int32_t)[i]);
    }
    return status;
}

ag_status_t ag_unicode_lower(const char *text, size_t n_bytes, ag_array_t *lower)
{
    enum { CAPITAL_I_WITH_DOT = 0x130 };
    ag_status_t status = AG_OK;
    utf8proc_int32_t code;

    for (size_t at = 0; at < n_bytes && status == AG_OK;) {
        at += (size_t)next_code(text + at, n_bytes - at, &code);
        if (code == CAPITAL_I_WITH_DOT) { /* the one that becomes two */
            status = ag_array_append(lower, "i\xcc\x87", 3);
        } else {
            status = append_code(lower, utf8proc_tolower(code));
        }
    }
    return status;
}

size_t ag_unicode_space_at(const char *text, size_t n_bytes)
{
    /* beside ASCII's: U+0085 U+00A0 U+1680 U+2000..200A U+2028 U+2029 U+202F U+205F U+3000 */
    static const char *const others[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80",
                                         "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
                                         "\xE2\x81\x9F", "\xE3\x80\x80"};
    const unsigned char *b = (const unsigned char *)text;

    if (n_bytes > 0 && (b[0] == ' ' || (b[0] >= '\t' && b[0] <= '\r'))) {
        return 1;
    }
    if (n_bytes >= 3 && b[0] == 0xE2 && b[1] == 0x80 && b[2] >= 0x80 && b[2] <= 0x8A) {
        return 3;
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        size_t n = strlen(others[i]);

        if (n <= n_bytes && memcmp(text, others[i], n) == 0) {
            return n;
        }
    }
    return 0;
}

size_t ag_unicode_space_before(const char *text, size_t begin, size_t end)
{
    for (size_t n = 1; n <= 3 && n <= end - begin; n++) {
        if (ag_unicode_space_at(text + end - n, n) == n) {
            return n;
        }
    }
    return 0;
}

/* Alphabetic, marks, decimal numbers, connectors and joiners (UTS 18, annex C). */
static bool is_word(utf8proc_int32_t code)
{
    /* letters by their property alone: circled and squared ones */
    bool circled = (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
                   (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
    bool joins = code == 0x200c || code == 0x200d;

    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return circled || joins;
    }
}

bool ag_unicode_begins_with_word(const char *text, size_t n_bytes)
{
    utf8proc_int32_t code = 0;

    if (n_bytes == 0) {
        return false;
    }
    next_code(text, n_bytes, &code);
    return is_word(code);
}

bool ag_unicode_ends_with_word(const char *text, size_t n_bytes)
{
    size_t n = 1;

    while (n < n_bytes && ((unsigned char)text[n_bytes - n] & 0xc0) == 0x80) {
        n++;
    }
    return n_bytes > 0 && ag_unicode_begins_with_word(text + n_bytes - n, n);
}
