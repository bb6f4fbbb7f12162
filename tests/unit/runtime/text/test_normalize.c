/* Normalizers, step by step; what they give is what PyPI's tokenizers 0.23.3 gives. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "make_text.h"

static void expect_normal(const ag_normal_step_t *steps, size_t n, bool continues, const char *text,
                          const char *expected)
{
    ag_normalized_t normalized = AG_NORMALIZED;
    ag_normalizer_t *normalizer;

    cr_assert_eq(ag_normalizer_create(steps, n, &normalizer), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_normalize(normalizer, text, strlen(text), continues, &normalized), AG_OK);
    cr_expect(normalized.n_bytes == strlen(expected) &&
                  memcmp(normalized.text, expected, normalized.n_bytes) == 0,
              "\"%s\" becomes \"%.*s\", not \"%s\"", text, (int)normalized.n_bytes, normalized.text,
              expected);
    ag_normalized_fini(&normalized);
    ag_normalizer_destroy(normalizer);
}

static void expect_one(ag_normal_kind_t kind, const char *text, const char *expected)
{
    expect_normal(&(ag_normal_step_t){.kind = kind, .left = true, .right = true}, 1, false, text,
                  expected);
}

Test(normalize, the_forms_of_unicode)
{
    expect_one(AG_NORMAL_NFC, "e\u0301\u00e9", "\u00e9\u00e9");
    expect_one(AG_NORMAL_NFC, "\u212b\u1100\u1161\u11a8", "\u00c5\uac01");
    expect_one(AG_NORMAL_NFC, "\ufb01\uff21", "\ufb01\uff21");
    expect_one(AG_NORMAL_NFD, "\u1ead\uac01", "a\u0323\u0302\u1100\u1161\u11a8");
    expect_one(AG_NORMAL_NFD, "a\u0301\u0323\u0327", "a\u0327\u0323\u0301");
    expect_one(AG_NORMAL_NFKC, "\ufb01\uff21\u00bd", "fiA1\u20442");
    expect_one(AG_NORMAL_NFKD, "\uac01\u2460", "\u1100\u1161\u11a81");
}

/* Any number of marks: their order is not found by moving each past the others. */
Test(normalize, a_hundred_thousand_marks_are_put_in_order)
{
    enum { N = 100000 };
    char *text = malloc(2 * N);
    ag_normalized_t normalized = AG_NORMALIZED;
    ag_normalizer_t *normalizer;

    cr_assert_not_null(text);
    for (size_t i = 0; i < N; i++) {
        memcpy(text + 2 * i, i % 2 == 0 ? "\u0301" : "\u0323", 2);
    }
    cr_assert_eq(ag_normalizer_create(&(ag_normal_step_t){.kind = AG_NORMAL_NFC}, 1, &normalizer),
                 AG_OK);
    cr_assert_eq(ag_normalize(normalizer, text, 2 * N, false, &normalized), AG_OK);
    cr_assert_eq(normalized.n_bytes, 2 * N);
    for (size_t i = 0; i < N; i++) {
        cr_assert_eq(memcmp(normalized.text + 2 * i, i < N / 2 ? "\u0323" : "\u0301", 2), 0);
    }
    ag_normalized_fini(&normalized);
    ag_normalizer_destroy(normalizer);
    free(text);
}

Test(normalize, small_letters_and_white_space_at_the_ends)
{
    expect_one(AG_NORMAL_LOWERCASE, "A\u00c9\u03a3\u0130!", "a\u00e9\u03c3i\u0307!");
    expect_one(AG_NORMAL_STRIP, " \t\u3000a b\u00a0\n", "a b");
    expect_one(AG_NORMAL_STRIP, " \n ", "");
    expect_normal(&(ag_normal_step_t){.kind = AG_NORMAL_STRIP, .left = true}, 1, false, " a ",
                  "a ");
    expect_normal(&(ag_normal_step_t){.kind = AG_NORMAL_STRIP, .right = true}, 1, false, " a ",
                  " a");
}

static ag_normal_step_t replacing(const char *pattern, bool literal, const char *content)
{
    return (ag_normal_step_t){.kind = AG_NORMAL_REPLACE,
                              .pattern = pattern,
                              .literal = literal,
                              .content = content,
                              .n_content = strlen(content)};
}

Test(normalize, matches_are_replaced)
{
    ag_normal_step_t literal = replacing(".", true, "--"), runs = replacing(" {2,}", false, "_"),
                     nothing = replacing("x*", false, "-");

    expect_normal(&literal, 1, false, "a.b..", "a--b----");
    expect_normal(&runs, 1, false, "a  b c   ", "a_b c_");
    expect_normal(&nothing, 1, false, "axxb", "-a-b-");
    expect_normal(&literal, 1, false, "ab", "ab");
}

Test(normalize, steps_come_one_after_the_other)
{
    const ag_normal_step_t steps[] = {
        {.kind = AG_NORMAL_STRIP, .left = true, .right = true},
        {.kind = AG_NORMAL_PREPEND, .content = "\u2581", .n_content = 3},
        replacing(" ", true, "\u2581")};

    expect_normal(steps, 3, false, " a b ", "\u2581a\u2581b");
    expect_normal(steps, 3, true, " a b ", "a\u2581b");
    expect_normal(steps, 3, false, "  ", "");
}

/* A map of one node: "a" becomes "xy". Units are darts-clone's. */
static void make_map(uint32_t words[260], const char *text, size_t n_text)
{
    memset(words, 0, 260 * sizeof(*words));
    words[0] = 256 * 4;                        /* bytes of units */
    words[1] = 0;                              /* the root: children from 0 on */
    words[1 + 'a'] = 'a' | 1u << 8 | 1u << 10; /* a leaf, its value at 'a' ^ 1 */
    words[1 + ('a' ^ 1)] = 0x80000000u;        /* the text at 0 */
    memcpy(&words[257], text, n_text);
}

Test(normalize, a_precompiled_map_replaces_what_it_has)
{
    uint32_t words[260];
    ag_normal_step_t step = {.content = (const char *)words, .n_content = 4 + 256 * 4 + 3};

    make_map(words, "xy", 3);
    step.kind = AG_NORMAL_CHARSMAP;
    expect_normal(&step, 1, false, "abba", "xybbxy");
    step.kind = AG_NORMAL_CHARSMAP_BY_CHAR;
    expect_normal(&step, 1, false, "ab\u00e9a", "xyb\u00e9xy");
    expect_normal(&step, 1, false, "a\u0301b", "xyb"); /* a grapheme by its beginning, as there */
}

Test(normalize, a_damaged_map_is_refused_or_has_nothing)
{
    uint32_t words[260];
    ag_normal_step_t step = {.kind = AG_NORMAL_CHARSMAP, .content = (const char *)words};
    ag_normalizer_t *normalizer;

    make_map(words, "xy", 3);
    for (size_t n = 0; n < 4 + 256 * 4 + 3; n += 5) {
        step.n_content = n;
        cr_expect_eq(ag_normalizer_create(&step, 1, &normalizer), AG_ERR_FORMAT, "%zu bytes", n);
    }
    step.n_content = 4 + 256 * 4 + 3;
    words[1 + ('a' ^ 1)] = 0x7fffffffu; /* a text that is none */
    expect_normal(&step, 1, false, "ab", "ab");
    words[1 + 'a'] = 'a' | 0xffffff00u; /* children beyond the end */
    expect_normal(&step, 1, false, "ab", "ab");
    words[0] = 0xfffffffcu;
    cr_expect_eq(ag_normalizer_create(&step, 1, &normalizer), AG_ERR_FORMAT);
}
