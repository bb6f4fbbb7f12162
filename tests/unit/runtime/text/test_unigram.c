/* Unigram: the best way to write a word, on tokenizers of a few tokens. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_text.h"

static void expect_best(const char *vocabulary, const char *more, const char *text, const char *ids)
{
    char json[1024];
    made_t made;

    snprintf(json, sizeof(json), "{'model':{'type':'Unigram','vocab':[%s]%s}}", vocabulary, more);
    made_open(&made, json);
    expect_ids(made.tokenizer, text, 0, ids);
    made_close(&made);
}

Test(unigram, the_greatest_sum_of_scores_is_taken)
{
    static const char words[] = "['<u>',0],['a',-1],['b',-1],['ab',-1.5],['abb',-4],['bb',-1.2]";

    expect_best(words, ",'unk_id':0", "ab", "3");
    expect_best(words, ",'unk_id':0", "abb", "1 5");
    expect_best(words, ",'unk_id':0", "abab", "3 3");
    expect_best(words, ",'unk_id':0", "", "");
}

Test(unigram, among_equals_the_last_token_begins_first)
{
    expect_best("['a',-1],['aa',-2]", "", "aaa", "0 1"); /* as tokenizers 0.23.3 */
}

Test(unigram, neighbours_that_are_unknown_are_one)
{
    static const char words[] = "['<u>',0],['a',-1],['<0xC3>',-1],['<0xA9>',-1],['<0xE2>',-1]";

    expect_best(words, ",'unk_id':0", "axya", "1 0 1");
    expect_best(words, ",'unk_id':0", "\u00e9", "0");
    expect_best(words, ",'unk_id':0,'byte_fallback':true", "a\u00e9\u00e9", "1 2 3 2 3");
    expect_best(words, ",'unk_id':0,'byte_fallback':true", "a\u20aca", "1 0 1");
}

Test(unigram, a_text_that_is_unknown_is_refused_where_no_token_says_so)
{
    ag_array_t ids = AG_ARRAY(int32_t);
    made_t made;

    made_open(&made, "{'model':{'type':'Unigram','vocab':[['a',-1]],'unk_id':null}}");
    cr_expect_eq(ag_tokenizer_encode(made.tokenizer, "ab", 2, 0, &ids, NULL), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "unknown"));
    ag_array_fini(&ids);
    made_close(&made);
}

Test(unigram, a_word_of_a_million_bytes_is_written_whole)
{
    enum { N = 1 << 20 };
    char *text = malloc(N);
    ag_array_t ids = AG_ARRAY(int32_t);
    made_t made;

    cr_assert_not_null(text);
    memset(text, 'a', N);
    made_open(&made, "{'model':{'type':'Unigram','vocab':[['a',-1],['aaaa',-2]]}}");
    cr_assert_eq(ag_tokenizer_encode(made.tokenizer, text, N, 0, &ids, NULL), AG_OK);
    cr_expect_eq(ids.n_items, N / 4);
    ag_array_fini(&ids);
    free(text);
    made_close(&made);
}

Test(unigram, a_list_that_is_none_of_words_and_scores_is_refused)
{
    expect_refused("{'model':{'type':'Unigram'}}", AG_ERR_FORMAT, "not a list");
    expect_refused("{'model':{'type':'Unigram','vocab':[]}}", AG_ERR_FORMAT, "not a list");
    expect_refused("{'model':{'type':'Unigram','vocab':[['a',-1],['b']]}}", AG_ERR_FORMAT,
                   "entry 1 of model.vocab");
    expect_refused("{'model':{'type':'Unigram','vocab':[[1,-1]]}}", AG_ERR_FORMAT,
                   "entry 0 of model.vocab");
}
