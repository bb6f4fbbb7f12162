/* What expressions of Oniguruma mean here. */
#include <criterion/criterion.h>
#include <string.h>

#include "make_text.h"

typedef struct meaning {
    const char *pattern, *text, *words;
} meaning_t;

/* What PyPI's tokenizers 0.23.3 makes of Split(Regex(pattern), "isolated"), words joined by |. */
static const meaning_t meanings[] = {
    {"\\s",
     "a\xe1\xa0\x8e"
     "b\xe2\x80\x83"
     "c\xc2\x85"
     "d",
     "a\xe1\xa0\x8e"
     "b|\xe2\x80\x83|c|\xc2\x85|d"},
    {"\\S", "a \xe1\xa0\x8e\xe3\x80\x80", "a| |\xe1\xa0\x8e|\xe3\x80\x80"},
    {"[^\\S\\n]",
     "a \xc2\xa0\x0a"
     "b",
     "a| |\xc2\xa0|\x0a"
     "b"},
    {"\\w+",
     "\xc3\xa9\xcc\x81_\xe2\x80\xbf"
     "9\xc2\xb2-\xc2\xbd",
     "\xc3\xa9\xcc\x81_\xe2\x80\xbf"
     "9\xc2\xb2|-|\xc2\xbd"},
    {"\\W", "a\xcc\x81-b", "a\xcc\x81|-|b"},
    {"[\\w']+", "don't-a", "don't|-|a"},
    {"\\h+", "xfAcegh 09", "x|fAce|gh |09"},
    {"\\H", "fxG", "f|x|G"},
    {"[\\hx]+", "fxGa", "fx|G|a"},
    {"\\v",
     "a\x0b"
     "b\x0a"
     "c",
     "a|\x0b|b\x0a"
     "c"},
    {"\\d+", "1\xd9\xa3\xc2\xb2\xc2\xbd", "1\xd9\xa3|\xc2\xb2\xc2\xbd"},
    {"\\p{N}",
     "1\xc2\xb2\xe2\x85\xa7"
     "a",
     "1|\xc2\xb2|\xe2\x85\xa7|a"},
    {"\\P{L}", "a1b", "a|1|b"},
    {"\\p{^L}", "a1b", "a|1|b"},
    {"\\p{Han}+",
     "a\xe4\xb8\xad\xe6\x96\x87\xe3\x80\x81"
     "b",
     "a|\xe4\xb8\xad\xe6\x96\x87|\xe3\x80\x81"
     "b"},
    {"[[:alpha:]]+",
     "\xc3\xa9\xcd\x85\xe2\x85\xa7"
     "1a",
     "\xc3\xa9\xcd\x85\xe2\x85\xa7|1|a"},
    {"[[:punct:]]", "a$b.c+", "a|$|b|.|c|+"},
    {"[[:space:]x]",
     "a\xe1\xa0\x8e"
     "bx c\xe2\x80\x83",
     "a\xe1\xa0\x8e"
     "b|x| |c|\xe2\x80\x83"},
    {"[[:upper:]]",
     "a\xe2\x85\xa7"
     "A\xc3\xa9",
     "a|\xe2\x85\xa7|A|\xc3\xa9"},
    {"[[:lower:]]",
     "A\xc2\xaa"
     "b\xe2\x85\xb7",
     "A|\xc2\xaa|b|\xe2\x85\xb7"},
    {"[[:alnum:]]+", "a\xc2\xb2\xe0\xa5\xa7-", "a|\xc2\xb2|\xe0\xa5\xa7|-"},
    {"[[:blank:]]", "a\x09\x0a\xe3\x80\x80", "a|\x09|\x0a|\xe3\x80\x80"},
    {"a{1,2}+", "aaaaab", "aaaaa|b"},
    {"a{2,3}?", "aaaaa", "aa|aa|a"},
    {"{a}", "{a}b", "{a}|b"},
    {"(?i:'s|'ll)", "'S'\xc5\xbf'lL'x", "'S|'\xc5\xbf|'lL|'x"},
    {"(?i)a|b", "ABc", "A|B|c"},
    {"(?-i:a)", "aA", "a|A"},
    {"\\u0061", "bab", "b|a|b"},
    {"\\x41", "BAB", "B|A|B"},
    {"\\x{4e2d}", "\xe4\xb8\xad\xe6\x96\x87", "\xe4\xb8\xad|\xe6\x96\x87"},
    {"a(?=b)", "abac", "a|bac"},
    {"(?<!a)b", "abb", "ab|b"},
    {"(?>a+)b", "aab", "aab"},
    {"a++b", "aab", "aab"},
    {"^b",
     "b\x0a"
     "b",
     "b|\x0a|b"},
    {"a$",
     "a\x0a"
     "a",
     "a|\x0a|a"},
    {".", "a\x0a", "a|\x0a"},
    {"\\r?\\n",
     "a\x0d\x0a"
     "b",
     "a|\x0d\x0a|b"},
    {"\\R",
     "a\x0d\x0a"
     "b\xe2\x80\xa8",
     "a|\x0d\x0a|b|\xe2\x80\xa8"},
    {"[a\\]]", "a]b", "a|]|b"},
    {"[\\-a]", "-b", "-|b"},
    {"\\.", "a.b", "a|.|b"},
    {"\\A.", "aa", "a|a"},
    {".\\z", "aa", "a|a"},
    {"\\\\", "a\\b", "a|\\|b"},
    {"(a|b)+", "abc", "ab|c"},
};

/* The words of a text, joined by |; "" where the pattern is refused. */
static void split_by(const ag_split_rule_t *rule, const char *text, ag_array_t *joined)
{
    ag_splitter_t *splitter;

    joined->n_items = 0;
    if (ag_splitter_create(rule, 1, &splitter) == AG_OK) {
        cr_assert_eq(ag_splitter_split(splitter, text, strlen(text), 0, join_word, joined), AG_OK);
        ag_splitter_destroy(splitter);
    }
    cr_assert_eq(ag_array_append(joined, "", 1), AG_OK);
}

Test(pattern, means_what_it_means_to_oniguruma)
{
    ag_array_t joined = AG_ARRAY(char);

    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        split_by(&(ag_split_rule_t){.pattern = meanings[i].pattern}, meanings[i].text, &joined);
        cr_expect_str_eq(joined.items, meanings[i].words, "%s on %s gives %s, not %s",
                         meanings[i].pattern, meanings[i].text, AG_ITEMS(&joined, char),
                         meanings[i].words);
    }
    ag_array_fini(&joined);
}

Test(pattern, what_the_two_libraries_read_differently_is_refused)
{
    static const char *const patterns[] = {
        "a\\",        "\\bx",     "\\Bx",         "\\Gx",        "\\Kx",     "\\Qx\\E", "\\C",
        "\\cA",       "\\101",    "(a)\\1",       "\\o{101}",    "\\pL",     "\\xc3",   "\\xg",
        "\\u12",      "\\x{41",   "\\p{L",        "[\\W]",       "[\\H]",    "[a[b]]",  "[a&&b]",
        "[]a]",       "[^]a]",    "[[:^alpha:]]", "[[:graph:]]", "(*SKIP)a", "(?x)a b", "(?m:.)",
        "(?s:.)",     "(?#[)a",   "a(?i)b|c",     "(?R)",        "(?C)a",    "(?~a)",   "a{,2}",
        "a{2}+",      "a{2,3}+",  "a{2}?",        "\\p{Nope}",   "(a",       "a)",      "[a",
        "\\p{Emoji}", "(?<=a+)b", "(?",
    };
    ag_splitter_t *splitter;

    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        cr_expect_eq(ag_splitter_create(&(ag_split_rule_t){.pattern = patterns[i]}, 1, &splitter),
                     AG_ERR_UNSUPPORTED, "%s is taken", patterns[i]);
        cr_expect_not_null(strstr(ag_error(), patterns[i]), "\"%s\" does not name %s", ag_error(),
                           patterns[i]);
    }
}

Test(pattern, what_is_quoted_in_an_error_stays_on_one_line)
{
    ag_splitter_t *splitter;

    cr_assert_eq(
        ag_splitter_create(&(ag_split_rule_t){.pattern = "\n\xc3\xa9\xff\x7f("}, 1, &splitter),
        AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "\"?\xc3\xa9?\?(\""), "%s", ag_error());
}

Test(pattern, a_literal_is_no_expression)
{
    ag_array_t joined = AG_ARRAY(char);

    split_by(&(ag_split_rule_t){.pattern = ".*[", .literal = true}, "a.*[b", &joined);
    cr_expect_str_eq(joined.items, "a|.*[|b");
    ag_array_fini(&joined);
}
