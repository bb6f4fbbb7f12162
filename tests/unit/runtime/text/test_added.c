/* Added tokens: where they are found, and what they take with them. */
#include <criterion/criterion.h>
#include <string.h>

#include "make_text.h"

/* Letters and a space; the added tokens follow from 10 on. */
#define JSON(added)                                                                                \
    "{'model':{'vocab':{'a':0,'b':1,'c':2,'<':3,'>':4,'Ġ':5,'ab':6},'merges':['a b']},"           \
    "'added_tokens':[" added "]," PRE_BYTES "}"

static void expect_cut(const char *json, const char *text, unsigned flags, const char *ids)
{
    made_t made;

    made_open(&made, json);
    expect_ids(made.tokenizer, text, flags, ids);
    made_close(&made);
}

Test(added, the_longest_that_begins_at_a_place_is_taken)
{
    static const char json[] = JSON("{'id':10,'content':'<a'},{'id':11,'content':'<a>'},"
                                    "{'id':12,'content':'a>'}");

    expect_cut(json, "<a>", 0, "11");
    expect_cut(json, "<ab", 0, "10 1");
    expect_cut(json, "<<a>", 0, "3 11");
    expect_cut(json, "ba>", 0, "1 12");
}

Test(added, words_are_not_merged_across_one)
{
    expect_cut(JSON("{'id':10,'content':'<>'}"), "a<>b", 0, "0 10 1");
    expect_cut(JSON("{'id':10,'content':'<>'}"), "ab<>ab<>", 0, "6 10 6 10");
}

Test(added, a_special_one_is_recognised_only_when_asked_for)
{
    static const char json[] = JSON("{'id':10,'content':'<>','special':true}");

    expect_cut(json, "a<>", AG_TOKEN_SPECIAL, "0 10");
    expect_cut(json, "a<>", 0, "0 3 4");
}

Test(added, a_special_one_that_is_text_hides_what_it_holds)
{
    /* as tokenizers 0.23.3 with encode_special_tokens */
    expect_cut(JSON("{'id':10,'content':'<a>','special':true},{'id':11,'content':'a'}"), "<a>a", 0,
               "3 0 4 11");
}

Test(added, a_late_one_is_found_in_what_the_others_leave)
{
    static const char json[] =
        JSON("{'id':10,'content':'ab<','normalized':true},{'id':11,'content':'<>'}");

    expect_cut(json, "ab<>", 0, "6 11");
    expect_cut(json, "ab<", 0, "10");
    expect_cut(json, "<>ab<c", 0, "11 10 2");
}

Test(added, white_space_beside_it_is_swallowed_where_it_says_so)
{
    static const char left[] = JSON("{'id':10,'content':'<>','lstrip':true}");
    static const char right[] = JSON("{'id':10,'content':'<>','rstrip':true}");

    expect_cut(left, "a \t\xe3\x80\x80<> b", 0, "0 10 5 1");
    expect_cut(right, "a <>\xc2\xa0\xe2\x80\x83\n b", 0, "0 5 10 1");
    expect_cut(left, "  <>", 0, "10");
    expect_cut(right, "<>  ", 0, "10");
    expect_cut(left, "<> <>", 0, "10 10");
}

Test(added, white_space_that_was_swallowed_is_found_again_unless_it_would_strip)
{
    static const char plain[] =
        JSON("{'id':10,'content':'<>','rstrip':true},{'id':11,'content':' '}");
    static const char strips[] =
        JSON("{'id':10,'content':'<>','rstrip':true},{'id':11,'content':' ','lstrip':true}");

    expect_cut(plain, "a<> b", 0, "0 10 11 1"); /* as tokenizers 0.23.3 */
    expect_cut(strips, "a<> b", 0, "0 10 1");
}

Test(added, one_that_is_empty_or_not_utf_8_is_never_found)
{
    static const char *const tokens[] = {"a", "b", "\xc3", "\xa9", ""};
    static const int32_t types[] = {1, 1, 4, 4, 4};
    gguf_text_t gguf = {0};
    made_t made;

    gguf_string(&gguf, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", tokens, 5);
    gguf_integers(&gguf, "tokenizer.ggml.token_type", types, 5);
    gguf_strings(&gguf, "tokenizer.ggml.merges", NULL, 0);
    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    expect_ids(made.tokenizer,
               "a\xc3\xa9"
               "b",
               0, "0 1");
    expect_cut(JSON("{'id':10,'content':''}"), "ab", 0, "6");
    made_close(&made);
}

Test(added, one_that_is_a_byte_of_the_vocabulary_is_both)
{
    /* U+00B2 is the byte B2 in the alphabet, and so it is decoded; as tokenizers 0.23.3 */
    static const char json[] =
        "{'model':{'vocab':{'\xc3\x82':0,'\xc2\xb2':1,'a':2},'merges':[]},"
        "'added_tokens':[{'id':1,'content':'\xc2\xb2','special':true}]," PRE_BYTES "}";
    size_t n_bytes;
    made_t made;

    made_open(&made, json);
    expect_ids(made.tokenizer, "a\xc2\xb2", AG_TOKEN_SPECIAL, "2 1");
    expect_ids(made.tokenizer, "a\xc2\xb2", 0, "2 0 1");
    cr_expect_eq(*ag_tokenizer_piece(made.tokenizer, 1, AG_TOKEN_SPECIAL, &n_bytes), '\xb2');
    cr_expect_eq(n_bytes, 1);
    made_close(&made);
}

Test(added, decoding_shows_special_ones_only_when_asked_for)
{
    static const int32_t ids[] = {0, 10, 5, 11, 1, 99, -1};
    ag_array_t bytes = AG_ARRAY(char);
    made_t made;

    made_open(&made, JSON("{'id':10,'content':'<>','special':true},{'id':11,'content':'Ġ'}"));
    cr_assert_eq(ag_tokenizer_decode(made.tokenizer, ids, 7, 0, &bytes), AG_OK);
    cr_assert_eq(ag_array_append(&bytes, "|", 1), AG_OK);
    cr_assert_eq(ag_tokenizer_decode(made.tokenizer, ids, 7, AG_TOKEN_SPECIAL, &bytes), AG_OK);
    cr_assert_eq(ag_array_append(&bytes, "", 1), AG_OK);
    cr_expect_str_eq(bytes.items, "a  b|a<>  b"); /* as tokenizers 0.23.3: the alphabet's space */
    ag_array_fini(&bytes);
    made_close(&made);
}

Test(added, one_that_must_be_a_word_has_no_letter_beside_it)
{
    static const char json[] = JSON("{'id':10,'content':'<a>','single_word':true}");

    expect_cut(json, "<a>", 0, "10");
    expect_cut(json, "b <a> b", 0, "1 5 10 5 1");
    expect_cut(json, "b<a>", 0, "1 3 0 4");
    expect_cut(json, "<a>\xd0\xb6", 0, "3 0 4");
    expect_cut(json, "<a>_", 0, "3 0 4");
    expect_cut(json, "<a>\xe2\x80\x8d", 0, "3 0 4"); /* a joiner */
    expect_cut(json, "<a>-<a>", 0, "10 10");
}

Test(added, a_late_one_is_looked_for_as_it_is_when_normalized)
{
    /* as tokenizers 0.23.3: normalized, and decoded so */
    static const char json[] =
        "{'normalizer':{'type':'Lowercase'},'model':{'vocab':{'a':0,'b':1},'merges':[]},"
        "'added_tokens':[{'id':2,'content':'AB','normalized':true},{'id':3,'content':'BA'}]}";
    ag_array_t bytes = AG_ARRAY(char);
    made_t made;

    made_open(&made, json);
    expect_ids(made.tokenizer, "abA", 0, "2 0");
    expect_ids(made.tokenizer, "BAbAB", 0, "3 1 2");
    cr_assert_eq(ag_tokenizer_decode(made.tokenizer, (int32_t[]){3, 2}, 2, 0, &bytes), AG_OK);
    cr_expect(bytes.n_items == 4 && memcmp(bytes.items, "BAab", 4) == 0);
    ag_array_fini(&bytes);
    made_close(&made);
}
