/* Cutting text into words. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "make_text.h"

static void expect_words(const ag_split_rule_t *rules, size_t n_rules, const char *text,
                         const char *expected)
{
    ag_array_t joined = AG_ARRAY(char);
    ag_splitter_t *splitter;

    cr_assert_eq(ag_splitter_create(rules, n_rules, &splitter), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_splitter_split(splitter, text, strlen(text), 0, join_word, &joined), AG_OK);
    cr_assert_eq(ag_array_append(&joined, "", 1), AG_OK);
    cr_expect_str_eq(joined.items, expected, "\"%s\" is cut to %s, not %s", text,
                     AG_ITEMS(&joined, char), expected);
    ag_splitter_destroy(splitter);
    ag_array_fini(&joined);
}

/* The words that PyPI's tokenizers 0.23.3 gives. */
Test(split, matches_become_words_as_the_behavior_says)
{
    static const struct {
        ag_cut_t cut;
        bool invert;
        const char *words; /* of "--a-b--", cut at - */
    } rows[] = {
        {AG_CUT_ISOLATED, false, "-|-|a|-|b|-|-"},
        {AG_CUT_ISOLATED, true, "-|-|a|-|b|-|-"},
        {AG_CUT_REMOVED, false, "a|b"},
        {AG_CUT_REMOVED, true, "-|-|-|-|-"},
        {AG_CUT_CONTIGUOUS, false, "--|a|-|b|--"},
        {AG_CUT_CONTIGUOUS, true, "--|a|-|b|--"},
        {AG_CUT_WITH_PREVIOUS, false, "-|-|a-|b-|-"},
        {AG_CUT_WITH_PREVIOUS, true, "-|-a|-b|-|-"},
        {AG_CUT_WITH_NEXT, false, "-|-a|-b|-|-"},
        {AG_CUT_WITH_NEXT, true, "-|-|a-|b-|-"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        expect_words(
            &(ag_split_rule_t){.pattern = "-", .cut = rows[i].cut, .invert = rows[i].invert}, 1,
            "--a-b--", rows[i].words);
    }
}

Test(split, a_match_of_nothing_cuts)
{
    expect_words(&(ag_split_rule_t){.pattern = "(?=[A-Z])"}, 1, "HelloWorld", "Hello|World");
    expect_words(&(ag_split_rule_t){.pattern = "x*"}, 1, "axxb", "a|xx|b");
    expect_words(&(ag_split_rule_t){.pattern = "x*"}, 1, "\xe4\xb8\xad\xf0\x9f\x99\x82",
                 "\xe4\xb8\xad|\xf0\x9f\x99\x82");
}

Test(split, a_later_rule_sees_only_the_word_before_it)
{
    const ag_split_rule_t rules[] = {{.pattern = "-", .cut = AG_CUT_REMOVED},
                                     {.pattern = "^a|(?<=-)b"}};

    expect_words(rules, 2, "aa-ab-b", "a|a|a|b|b");
}

Test(split, text_without_rules_is_one_word_and_no_text_none)
{
    expect_words(NULL, 0, "a b", "a b");
    expect_words(NULL, 0, "", "");
    expect_words(&(ag_split_rule_t){.pattern = "x*"}, 1, "", "");
}

/* Words as they come: how many, and how long the last one is. */
typedef struct tally {
    size_t n_words, n_last;
    size_t stop_at; /* fail at this word; 0: never */
} tally_t;

static ag_status_t count_word(void *arg, const char *bytes, size_t n_bytes)
{
    tally_t *tally = arg;

    (void)bytes;
    tally->n_words++;
    tally->n_last = n_bytes;
    return tally->n_words == tally->stop_at ? AG_ERR_NOMEM : AG_OK;
}

Test(split, words_are_handed_on_one_by_one_until_one_fails)
{
    const ag_split_rule_t rules[] = {{.pattern = "-"}, {.pattern = "x"}};
    tally_t tally = {.stop_at = 3};
    ag_splitter_t *splitter;

    cr_assert_eq(ag_splitter_create(rules, 2, &splitter), AG_OK);
    cr_expect_eq(ag_splitter_split(splitter, "a-bxc-d", 7, 0, count_word, &tally), AG_ERR_NOMEM);
    cr_expect_eq(tally.n_words, 3);
    ag_splitter_destroy(splitter);
}

Test(split, a_long_run_of_spaces_is_cut_in_one_pass)
{
    enum { N = 4000000 };
    const ag_pre_tokenizer_t *pre;
    tally_t tally = {0};
    ag_splitter_t *splitter;
    char *text = malloc(N);

    cr_assert_not_null(text);
    memset(text, ' ', N - 1);
    text[N - 1] = 'a';
    cr_assert_eq(ag_pre_tokenizer_find("f", "llama-bpe", 9, &pre), AG_OK);
    cr_assert_eq(ag_splitter_create(pre->rules, pre->n_rules, &splitter), AG_OK);
    cr_assert_eq(ag_splitter_split(splitter, text, N, 0, count_word, &tally), AG_OK, "%s",
                 ag_error());
    cr_assert_eq(tally.n_words, 2);
    cr_expect_eq(tally.n_last, 2);
    ag_splitter_destroy(splitter);
    free(text);
}

Test(split, an_expression_that_never_ends_is_an_error)
{
    tally_t tally = {0};
    ag_splitter_t *splitter;
    char text[64];

    memset(text, 'a', sizeof(text));
    cr_assert_eq(ag_splitter_create(&(ag_split_rule_t){.pattern = "(a|aa)+[bc]"}, 1, &splitter),
                 AG_OK);
    cr_expect_eq(ag_splitter_split(splitter, text, sizeof(text), 0, count_word, &tally),
                 AG_ERR_UNSUPPORTED);
    ag_splitter_destroy(splitter);
}

Test(split, too_many_rules_are_refused)
{
    ag_split_rule_t rules[17];
    ag_splitter_t *splitter;

    for (int i = 0; i < 17; i++) {
        rules[i] = (ag_split_rule_t){.pattern = "a"};
    }
    cr_expect_eq(ag_splitter_create(rules, 17, &splitter), AG_ERR_UNSUPPORTED);
    cr_assert_eq(ag_splitter_create(rules, 16, &splitter), AG_OK);
    ag_splitter_destroy(splitter);
}

Test(split, an_unknown_pre_tokenizer_lists_the_known)
{
    const ag_pre_tokenizer_t *pre;

    cr_expect_eq(ag_pre_tokenizer_find("file.gguf", "gpt-3", 5, &pre), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "file.gguf: pre-tokenizer \"gpt-3\""));
    cr_expect_not_null(strstr(ag_error(), "known: gpt-2, "));
    cr_expect_not_null(strstr(ag_error(), "smollm"));
}

Test(split, every_known_pre_tokenizer_compiles)
{
    static const char *const names[] = {
        "gpt-2",       "phi-2",         "mpt",       "olmo",
        "llama-bpe",   "llama3",        "llama-v3",  "dbrx",
        "smaug-bpe",   "chatglm-bpe",   "glm4",      "smollm",
        "starcoder",   "refact",        "codeshell", "exaone",
        "command-r",   "qwen2",         "stablelm2", "gpt-4o",
        "llama4",      "deepseek-llm",  "tekken",    "deepseek-r1-qwen",
        "deepseek-v3", "deepseek-coder"};
    const ag_pre_tokenizer_t *pre;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cr_assert_eq(ag_pre_tokenizer_find("f", names[i], strlen(names[i]), &pre), AG_OK);
        expect_words(pre->rules, pre->n_rules, "a b", "a| b");
    }
}

static void expect_first(const ag_split_rule_t *rules, size_t n_rules, const char *text,
                         unsigned flags, const char *expected)
{
    ag_array_t joined = AG_ARRAY(char);
    ag_splitter_t *splitter;

    cr_assert_eq(ag_splitter_create(rules, n_rules, &splitter), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_splitter_split(splitter, text, strlen(text), flags, join_word, &joined), AG_OK);
    cr_assert_eq(ag_array_append(&joined, "", 1), AG_OK);
    cr_expect_str_eq(joined.items, expected);
    ag_splitter_destroy(splitter);
    ag_array_fini(&joined);
}

Test(split, a_metaspace_stands_for_spaces_and_begins_words)
{
    static const struct {
        ag_prepend_t prepend;
        bool whole;
        unsigned flags;
        const char *words; /* of "a b  c", written with _ */
    } rows[] = {{AG_PREPEND_ALWAYS, false, 0, "_a|_b|_|_c"},
                {AG_PREPEND_NEVER, false, AG_SPLIT_FIRST, "a|_b|_|_c"},
                {AG_PREPEND_FIRST, false, 0, "a|_b|_|_c"},
                {AG_PREPEND_FIRST, true, AG_SPLIT_FIRST, "_a_b__c"},
                {AG_PREPEND_FIRST, true, AG_SPLIT_FIRST | AG_SPLIT_CONTINUES, "a_b__c"},
                {AG_PREPEND_ALWAYS, true, AG_SPLIT_FIRST | AG_SPLIT_CONTINUES, "a_b__c"}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const ag_split_rule_t rule = {.kind = AG_RULE_METASPACE,
                                      .pattern = "_",
                                      .prepend = rows[i].prepend,
                                      .whole = rows[i].whole};

        expect_first(&rule, 1, "a b  c", rows[i].flags, rows[i].words);
    }
}

Test(split, what_comes_before_a_word_comes_before_each_of_an_earlier_rule)
{
    const ag_split_rule_t rules[] = {{.pattern = "-", .cut = AG_CUT_REMOVED},
                                     {.kind = AG_RULE_PREFIX, .pattern = " "},
                                     {.pattern = "b"}};
    const ag_split_rule_t first[] = {
        {.pattern = "-", .cut = AG_CUT_REMOVED},
        {.kind = AG_RULE_METASPACE, .pattern = "_", .prepend = AG_PREPEND_FIRST}};

    expect_first(rules, 3, "ab- c-d", AG_SPLIT_FIRST, " a|b| c| d");
    expect_first(first, 2, "ab-c", AG_SPLIT_FIRST, "_ab|c");
    expect_first(first, 2, "-c", AG_SPLIT_FIRST, "c");
}
