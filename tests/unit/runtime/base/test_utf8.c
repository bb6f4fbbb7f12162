#include "runtime/base/utf8.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define R "\xEF\xBF\xBD" /* U+FFFD */

static void expect_repair(const char *bytes, size_t n_bytes, const char *expected,
                          size_t n_replaced)
{
    char *exact = malloc(n_bytes > 0 ? n_bytes : 1); /* the sanitizer sees a read too far */
    char *text = NULL;
    size_t n_text, n_found;

    memcpy(exact, bytes, n_bytes);
    cr_assert_eq(ag_utf8_repair(exact, n_bytes, &text, &n_text, &n_found), AG_OK);
    cr_expect_eq(n_text, strlen(expected));
    cr_expect_str_eq(text, expected);
    cr_expect_eq(n_found, n_replaced, "%s: %zu", expected, n_found);
    cr_expect_eq(ag_utf8_valid(exact, n_bytes), n_replaced == 0);
    cr_expect(ag_utf8_valid(text, n_text));
    free(text);
    free(exact);
}

#define EXPECT_REPAIR(bytes, expected, n) expect_repair(bytes, sizeof(bytes) - 1, expected, n)

Test(utf8, well_formed_text_stays)
{
    EXPECT_REPAIR("", "", 0);
    EXPECT_REPAIR("plain", "plain", 0);
    EXPECT_REPAIR("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\u00e9\u20ac\U0001F600", 0);
    EXPECT_REPAIR("\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF",
                  "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF", 0);
    EXPECT_REPAIR("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 0);
}

/* The examples of the Unicode Standard, section 3.9, tables 3-8 to 3-11. */
Test(utf8, each_maximal_subpart_becomes_one_replacement)
{
    EXPECT_REPAIR("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A", 8);
    EXPECT_REPAIR("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A", 8);
    EXPECT_REPAIR("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B", 7);
    EXPECT_REPAIR("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A", 4);
}

Test(utf8, what_the_end_cuts_off_becomes_one_replacement)
{
    EXPECT_REPAIR("a\xC3", "a" R, 1);
    EXPECT_REPAIR("a\xE2\x82", "a" R, 1);
    EXPECT_REPAIR("a\xF0\x9F\x98", "a" R, 1);
    EXPECT_REPAIR("\x80", R, 1);
    EXPECT_REPAIR("\xF5\x80", R R, 2);
}

Test(utf8, nul_is_a_character)
{
    char *text = NULL;
    size_t n_text;

    cr_assert_eq(ag_utf8_repair("a\0\xFF", 3, &text, &n_text, NULL), AG_OK);
    cr_expect_eq(n_text, 5);
    cr_expect_arr_eq(text, "a\0" R, 6);
    free(text);
}

static void expect_sequence(const char *bytes, size_t n_bytes, size_t length, size_t bad_bytes,
                            bool is_short)
{
    size_t bad = 99;
    bool found_short = !is_short;

    cr_expect_eq(ag_utf8_sequence(bytes, n_bytes, &bad, &found_short), length);
    if (length == 0) {
        cr_expect_eq(bad, bad_bytes);
        cr_expect_eq(found_short, is_short);
    }
}

Test(utf8, a_sequence_tells_damage_from_a_beginning)
{
    expect_sequence("\xE2\x82\xAC", 3, 3, 0, false);
    expect_sequence("\xE2\x82\xAC", 2, 0, 2, true);
    expect_sequence("\xE2\x82\xAC", 1, 0, 1, true);
    expect_sequence("\xE2\x82x", 3, 0, 2, false);
    expect_sequence("\xE0\x80", 2, 0, 1, false); /* overlong: no byte can mend it */
    expect_sequence("\xED\xA0", 2, 0, 1, false); /* a surrogate */
    expect_sequence("\xF4\x90", 2, 0, 1, false); /* beyond U+10FFFF */
    expect_sequence("\xC1", 1, 0, 1, false);
    expect_sequence("\xBF", 1, 0, 1, false);
}

/* One code point as UTF-8, by the definition of the encoding form; surrogates too. */
static size_t encode(uint32_t point, char *bytes)
{
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const uint32_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};

    for (size_t i = length - 1; i > 0; i--, point >>= 6) {
        bytes[i] = (char)(0x80 | (point & 63));
    }
    bytes[0] = (char)(leads[length] | point);
    return length;
}

Test(utf8, every_code_point_but_surrogates_is_one_sequence)
{
    for (uint32_t point = 0; point < 0x110000 + 4096; point++) {
        bool exists = point < 0x110000 && (point < 0xD800 || point > 0xDFFF), is_short;
        char bytes[4];
        size_t length = encode(point, bytes), bad_bytes;

        cr_assert_eq(ag_utf8_sequence(bytes, length, &bad_bytes, &is_short), exists ? length : 0,
                     "U+%04X", point);
    }
}
