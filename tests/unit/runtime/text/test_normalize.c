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

    cr_assert_eq(ag_normalizer_create("a file", steps, n, &normalizer), AG_OK, "%s", ag_error());
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
    cr_assert_eq(
        ag_normalizer_create("a file", &(ag_normal_step_t){.kind = AG_NORMAL_NFC}, 1, &normalizer),
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
    ag_normal_step_t literal = replacing(".", true, "--"), runs = replacing(" {2,}", false, "_");

    expect_normal(&literal, 1, false, "a.b..", "a--b----");
    expect_normal(&runs, 1, false, "a  b c   ", "a_b c_");
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

static void expect_refused_step(const ag_normal_step_t *step, const char *words)
{
    ag_normalizer_t *normalizer;

    cr_assert_eq(ag_normalizer_create("a file", step, 1, &normalizer), AG_ERR_UNSUPPORTED, "%s",
                 step->pattern);
    cr_expect_not_null(strstr(ag_error(), "a file: step 1 of the normalizer, "), "%s", ag_error());
    cr_expect_not_null(strstr(ag_error(), words), "%s", ag_error());
}

/* tokenizers 0.23.3 makes "-a-ab" of "aab", puts "-" before each "a", and then makes words of
 * "--a-ab"; behind a Split it fails. */
Test(normalize, what_may_match_where_nothing_is_is_refused)
{
    static const char *const may[] = {"x*", "(?=a)", "^", "$", "a?", "(?<=a)", "b|(?<=b)", "()"};
    static const char *const may_not[] = {"x+", "\\A +", " {2,}", "^a", "(?=b)b", "a(?!b)"};

    for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++) {
        ag_normal_step_t step = replacing(may[i], false, "-");

        expect_refused_step(&step, "may match where there is no text");
    }
    for (size_t i = 0; i < sizeof(may_not) / sizeof(may_not[0]); i++) {
        ag_normal_step_t step = replacing(may_not[i], false, "-");

        expect_normal(&step, 1, false, "ccc", "ccc");
    }
}

static void expect_too_long(const ag_normal_step_t *steps, size_t n, const char *text,
                            size_t n_bytes, const char *words)
{
    ag_normalized_t normalized = AG_NORMALIZED;
    ag_normalizer_t *normalizer;

    cr_assert_eq(ag_normalizer_create("a file", steps, n, &normalizer), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_normalize(normalizer, text, n_bytes, false, &normalized), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), words), "%s", ag_error());
    cr_expect_lt(ag_normalized_bytes(&normalized), 4 * (64 * n_bytes + 4096));
    ag_normalized_fini(&normalized);
    ag_normalizer_destroy(normalizer);
}

Test(normalize, a_text_that_grows_beyond_what_any_normalizer_means_is_refused)
{
    enum { N = 1000 };
    char many[257] = "", text[N + 1], expected[50 * 39 + 1] = "";
    ag_normal_step_t steps[3] = {replacing("a", true, many),
                                 replacing("a", false, many),
                                 {.kind = AG_NORMAL_PREPEND, .content = many, .n_content = 257}};
    ag_normal_step_t widest[2] = {{.kind = AG_NORMAL_NFKD}, replacing(" ", true, "\u2581")};

    memset(many, 'a', sizeof(many));
    memset(text, 'a', sizeof(text));
    many[256] = text[N] = '\0';
    steps[0].n_content = steps[1].n_content = 257;
    expect_refused_step(&steps[0], "Replace: it puts 257 bytes at one place");
    expect_refused_step(&steps[2], "Prepend: it puts 257 bytes at one place");
    steps[0].n_content = 60;
    steps[1].n_content = 256;
    expect_too_long(steps, 2, text, N,
                    "a file: step 2 of the normalizer, Replace, makes of a text of 1000 bytes one "
                    "of more than 64256");
    text[0] = '\0';
    for (int i = 0; i < 50; i++) { /* what a letter is at the most */
        strcat(text, "\ufdfa");
        strcat(expected, "\u0635\u0644\u0649\u2581\u0627\u0644\u0644\u0647\u2581\u0639\u0644"
                         "\u064a\u0647\u2581\u0648\u0633\u0644\u0645");
    }
    expect_normal(widest, 2, false, text, expected);
}

Test(normalize, a_map_of_long_texts_is_no_way_to_all_memory)
{
    enum { N = 1000, N_TEXT = 3000 };
    static uint32_t words[260 + N_TEXT / 4];
    static char text[N], long_text[N_TEXT];
    ag_normal_step_t step = {.content = (const char *)words, .n_content = 4 + 256 * 4 + N_TEXT + 1};

    memset(text, 'a', N);
    make_map(words, "", 1);
    memset(long_text, 'x', N_TEXT);
    memcpy(&words[257], long_text, N_TEXT);
    for (int by_char = 0; by_char < 2; by_char++) {
        step.kind = by_char ? AG_NORMAL_CHARSMAP_BY_CHAR : AG_NORMAL_CHARSMAP;
        expect_too_long(&step, 1, text, N, "step 1 of the normalizer, Precompiled, makes");
    }
}

Test(normalize, a_damaged_map_is_refused_or_has_nothing)
{
    uint32_t words[260];
    ag_normal_step_t step = {.kind = AG_NORMAL_CHARSMAP, .content = (const char *)words};
    ag_normalizer_t *normalizer;

    make_map(words, "xy", 3);
    for (size_t n = 0; n < 4 + 256 * 4 + 3; n += 5) {
        step.n_content = n;
        cr_expect_eq(ag_normalizer_create("a file", &step, 1, &normalizer), AG_ERR_FORMAT,
                     "%zu bytes", n);
    }
    step.n_content = 4 + 256 * 4 + 3;
    words[1 + ('a' ^ 1)] = 0x7fffffffu; /* a text that is none */
    expect_normal(&step, 1, false, "ab", "ab");
    words[1 + 'a'] = 'a' | 0xffffff00u; /* children beyond the end */
    expect_normal(&step, 1, false, "ab", "ab");
    words[0] = 0xfffffffcu;
    cr_expect_eq(ag_normalizer_create("a file", &step, 1, &normalizer), AG_ERR_FORMAT);
}
