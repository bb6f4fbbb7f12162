/* Merging, on tokenizers of a few tokens. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_text.h"

#define VOCABULARY "'vocab':{'a':0,'b':1,'c':2,'ab':3,'bc':4,'abc':5,'aa':6,'aaaa':7,'Ġ':8}"

static void expect_merged(const char *merges, const char *more, const char *text, const char *ids)
{
    char json[1024];
    made_t made;

    snprintf(json, sizeof(json), "{'model':{" VOCABULARY ",'merges':[%s]%s}," PRE_BYTES "}", merges,
             more);
    made_open(&made, json);
    expect_ids(made.tokenizer, text, 0, ids);
    made_close(&made);
}

Test(bpe, the_least_rank_is_merged_first)
{
    expect_merged("'b c','a b'", "", "abc", "0 4");
    expect_merged("'a b','b c'", "", "abc", "3 2");
}

Test(bpe, the_leftmost_of_equals_is_merged_first)
{
    expect_merged("'a a'", "", "aaa", "6 0");
    expect_merged("'a a'", "", "aaaaa", "6 6 0");
    expect_merged("'a a','aa aa'", "", "aaaaaa", "7 6");
}

Test(bpe, what_was_merged_is_merged_on)
{
    expect_merged("'a b','ab c'", "", "abcab", "5 3");
    expect_merged("['a','b'],['ab','c']", "", "cabc", "2 5");
}

Test(bpe, a_pair_that_is_listed_twice_has_the_rank_of_the_last_in_a_folder)
{
    expect_merged("'a b','b c','a b'", "", "abc", "0 4"); /* as tokenizers 0.23.3 */
}

Test(bpe, a_byte_without_a_token_is_dropped_and_its_neighbours_meet)
{
    expect_merged("'a b'", "", "axb", "3");
    expect_merged("'a b'", "", "xyz", "");
    expect_merged("'a b'", "",
                  "a\xff"
                  "b",
                  "3");
}

Test(bpe, a_byte_without_a_token_is_the_unknown_token_where_there_is_one)
{
    expect_merged("'a b'", ",'unk_token':'c'", "axb", "0 2 1");
    expect_merged("'a b'", ",'unk_token':'c'", "axxb", "0 2 2 1");
    expect_merged("'a b'", ",'unk_token':'c','fuse_unk':true", "xaxxbx", "2 0 2 1 2");
}

/* Characters: é is c3 a9, U+20AC is e2 82 ac; two of the euro's bytes have no token. */
#define CHARACTERS                                                                                 \
    "{'model':{'vocab':{'<u>':0,'<0xC3>':1,'<0xA9>':2,'a':3,'b':4,'ab':5,'\u00e9':6,'<0xE2>':7,"   \
    "'\u2581':8,'\u2581a':9,'b\u2581':10},'merges':[%s]%s}}"

static void expect_characters(const char *merges, const char *more, const char *text,
                              const char *ids)
{
    char json[1024];
    made_t made;

    snprintf(json, sizeof(json), CHARACTERS, merges, more);
    made_open(&made, json);
    expect_ids(made.tokenizer, text, 0, ids);
    made_close(&made);
}

Test(bpe, characters_are_merged_where_no_step_maps_to_bytes)
{
    expect_characters("'a b'", "",
                      "ab\xc3\xa9"
                      "a",
                      "5 6 3");
    expect_characters("'a b'", "",
                      "a\xe2\x82\xac"
                      "b",
                      "5"); /* what has no token is dropped, and its neighbours meet */
}

Test(bpe, a_character_falls_back_to_its_bytes_where_all_have_tokens)
{
    static const char all[] = ",'unk_token':'<u>','byte_fallback':true";
    static const char fused[] = ",'unk_token':'<u>','byte_fallback':true,'fuse_unk':true";

    expect_characters("'a b'", all, "\xc3\xa9", "6");
    expect_characters("'a b'", all, "\xc3\xa3", "0");
    expect_characters("'a b'", all, "a\xe2\x82\xac\xe2\x82\xac", "3 0 0");
    expect_characters("'a b'", fused, "a\xe2\x82\xac\xe2\x82\xac", "3 0");
    expect_characters("'a b'", ",'byte_fallback':true", "\xc2\xa9", "");
}

/* Words are merged one by one where no token can be made across a space. */
Test(bpe, merges_across_a_space_are_made_where_a_token_says_so)
{
    expect_characters("'a b','\u2581 a'", "",
                      "a\xe2\x96\x81"
                      "ab",
                      "3 8 5");
    expect_characters("'\u2581 a','a b'", "",
                      "b\xe2\x96\x81"
                      "ab",
                      "4 9 4");
    expect_characters("'b \u2581','a b'", "",
                      "ab\xe2\x96\x81"
                      "a",
                      "3 10 3");
}

Test(bpe, ignoring_merges_takes_a_word_that_is_a_token)
{
    expect_merged("'b c'", "", "abc", "0 4");
    expect_merged("'b c'", ",'ignore_merges':true", "abc", "5");
    expect_merged("'b c'", ",'ignore_merges':true", "abcc", "0 4 2");
}

Test(bpe, the_version_line_of_merges_txt_is_no_merge)
{
    expect_merged("'#version: 0.2','a b'", "", "ab", "3");
}

Test(bpe, a_space_is_put_before_a_text_that_has_none)
{
    made_t made;

    made_open(&made, "{'model':{" VOCABULARY ",'merges':[]},"
                     "'pre_tokenizer':{'type':'ByteLevel','use_regex':false}}");
    expect_ids(made.tokenizer, "a", 0, "8 0");
    expect_ids(made.tokenizer, " a", 0, "8 0");
    expect_ids(made.tokenizer, "", 0, "");
    made_close(&made);
}

Test(bpe, a_word_of_a_million_bytes_is_merged_whole)
{
    enum { N = 1 << 20 };
    uint64_t most_bytes = 0;
    char *text = malloc(N);
    ag_array_t ids = AG_ARRAY(int32_t);
    made_t made;

    cr_assert_not_null(text);
    memset(text, 'a', N);
    made_open(&made, "{'model':{" VOCABULARY ",'merges':['a a','aa aa']}," PRE_BYTES "}");
    cr_assert_eq(ag_tokenizer_encode(made.tokenizer, text, N, 0, &ids, &most_bytes), AG_OK);
    cr_expect_geq(most_bytes, N * 19, "a long word takes %llu bytes",
                  (unsigned long long)most_bytes);
    cr_assert_eq(ids.n_items, N / 4);
    for (size_t i = 0; i < ids.n_items; i++) {
        cr_assert_eq(AG_ITEMS(&ids, int32_t)[i], 7);
    }
    ag_array_fini(&ids);
    free(text);
    made_close(&made);
}

Test(bpe, short_words_take_the_room_of_one)
{
    enum { N = 1 << 20 };
    uint64_t most_bytes = 0;
    char *text = malloc(N);
    ag_array_t ids = AG_ARRAY(int32_t);
    made_t made;

    cr_assert_not_null(text);
    for (size_t i = 0; i < N; i++) {
        text[i] = i % 8 < 7 ? 'a' : ' ';
    }
    made_open(&made, "{'model':{" VOCABULARY ",'merges':['a a','aa aa']},'pre_tokenizer':{'type':"
                     "'ByteLevel','add_prefix_space':false}}");
    cr_assert_eq(ag_tokenizer_encode(made.tokenizer, text, N, 0, &ids, &most_bytes), AG_OK);
    cr_expect_gt(ids.n_items, 0);
    cr_expect_lt(most_bytes, 1024, "%llu bytes", (unsigned long long)most_bytes);
    ag_array_fini(&ids);
    free(text);
    made_close(&made);
}

Test(bpe, every_byte_comes_back)
{
    static const char *const files[] = {"gpt2", "llama3", "smollm"};
    char path[512], text[512];
    made_t made;

    for (int i = 0; i < 256; i++) { /* bytes as code points, so that it is UTF-8 */
        text[2 * i] = (char)(i < 128 ? i : 0xc2 + (i >= 192));
        text[2 * i + 1] = (char)(i < 128 ? ' ' : 0x80 + i % 64);
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        ag_array_t ids = AG_ARRAY(int32_t), bytes = AG_ARRAY(char);

        snprintf(path, sizeof(path), "%s/tokenizer/%s/tokenizer.json", AG_TEST_DATA, files[i]);
        folder_begin(&made);
        folder_copy(&made, "tokenizer.json", path);
        cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
        cr_assert_eq(ag_tokenizer_encode(made.tokenizer, text, sizeof(text), 0, &ids, NULL), AG_OK);
        cr_assert_eq(ag_tokenizer_decode(made.tokenizer, ids.items, ids.n_items, 0, &bytes), AG_OK);
        cr_expect_arr_eq(bytes.items, text, sizeof(text));
        cr_expect_eq(bytes.n_items, sizeof(text));
        ag_array_fini(&ids);
        ag_array_fini(&bytes);
        made_close(&made);
    }
}
