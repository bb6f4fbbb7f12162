/* Tokenizers in GGUF metadata. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "make_text.h"

static const char *const tokens[] = {"a", "b", "ab", "<e>", "\xc4\xa0", "x"};
static const char *const merges[] = {"a b"};
static const int32_t types[] = {1, 1, 1, 3, 1, 5};

/* All that a tokenizer needs; entries may follow. */
static gguf_text_t plain(void)
{
    gguf_text_t gguf = {0};

    gguf_string(&gguf, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", tokens, 6);
    gguf_integers(&gguf, "tokenizer.ggml.token_type", types, 6);
    gguf_strings(&gguf, "tokenizer.ggml.merges", merges, 1);
    return gguf;
}

static void expect_gguf_refused(gguf_text_t gguf, ag_status_t status, const char *words)
{
    made_t made;

    cr_expect_eq(gguf_open(&made, &gguf), status, "not refused for %s", words);
    cr_expect_null(made.tokenizer);
    cr_expect_not_null(strstr(ag_error(), words), "\"%s\" does not say \"%s\"", ag_error(), words);
    cr_expect_not_null(strstr(ag_error(), "model.gguf"));
    made_close(&made);
}

Test(read_gguf, tokens_and_merges_are_read)
{
    gguf_text_t gguf = plain();
    made_t made;

    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_tokenizer_size(made.tokenizer), 6);
    expect_ids(made.tokenizer, "ab a<e>x", AG_TOKEN_SPECIAL, "2 4 0 3");
    cr_expect_eq(ag_tokenizer_bos(made.tokenizer), -1);
    made_close(&made);
}

/* As is made of a folder without one, and what says nothing. */
Test(read_gguf, a_file_without_a_tokenizer_says_so)
{
    gguf_text_t none = {0}, nothing = {0}, tokens_alone = {0};
    made_t made;

    gguf_string(&none, "tokenizer.ggml.model", "none", 4);
    cr_expect_eq(gguf_open(&made, &none), AG_ERR_IO);
    cr_expect_not_null(strstr(ag_error(), "model.gguf: the file has no tokenizer"));
    cr_expect(ag_tokenizer_is_left_out(made.files));
    made_close(&made);
    gguf_string(&nothing, "general.name", "n", 1);
    cr_expect_eq(gguf_open(&made, &nothing), AG_ERR_IO);
    cr_expect(ag_tokenizer_is_left_out(made.files));
    made_close(&made);
    gguf_strings(&tokens_alone, "tokenizer.ggml.tokens", tokens, 6);
    cr_expect_eq(gguf_open(&made, &tokens_alone), AG_ERR_UNSUPPORTED, "of which kind?");
    cr_expect_not(ag_tokenizer_is_left_out(made.files));
    made_close(&made);
}

Test(read_gguf, of_a_pair_that_is_listed_twice_the_first_rank_counts)
{
    /* as llama.cpp's table of ranks */
    static const char *const words[] = {"a", "b", "c", "ab", "bc"};
    static const char *const twice[] = {"a b", "b c", "a b", "b a", "q a"};
    gguf_text_t gguf = {0};
    made_t made;

    gguf_string(&gguf, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", words, 5);
    gguf_strings(&gguf, "tokenizer.ggml.merges", twice, 5);
    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    expect_ids(made.tokenizer, "abc", 0, "3 2");
    made_close(&made);
}

/* The merge after "a b" makes the word behind "ab", were it not the twin of an earlier one. */
Test(read_gguf, of_words_with_the_same_bytes_the_first_is_made)
{
    static const char *const words[] = {"a", "b", "c", "bc", "ab", "bc"};
    static const char *const made_of[] = {"a b", "b c"};
    gguf_text_t gguf = {0};
    made_t made;

    gguf_string(&gguf, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", words, 6);
    gguf_strings(&gguf, "tokenizer.ggml.merges", made_of, 2);
    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    expect_ids(made.tokenizer, "bca", 0, "3 0");
    made_close(&made);
}

/* Merges are looked up many at a time: each counts as it would alone, whatever stands beside it. */
Test(read_gguf, each_of_many_merges_counts_but_for_those_that_make_no_word)
{
    enum { N = 10 };
    static char letters[N][2], pairs[N * N][3], lines[3 * N * N][8];
    const char *words[N + N * N], *merge_list[3 * N * N];
    gguf_text_t gguf = {0};
    made_t made;

    for (int i = 0; i < N * N; i++) {
        int other = i * 37 % (N * N); /* words and merges are in different orders */

        snprintf(letters[i / N], 2, "%c", 'a' + i / N);
        words[i / N] = letters[i / N];
        snprintf(pairs[i], 3, "%c%c", 'a' + i / N, 'a' + i % N);
        words[N + i] = pairs[i];
        snprintf(lines[3 * i], 8, "%c %c", 'a' + other / N, 'a' + other % N);
        snprintf(lines[3 * i + 1], 8, "%s a", pairs[i]);               /* makes none */
        snprintf(lines[3 * i + 2], 8, "\xe2\x82\xac %c", 'a' + i % N); /* of none */
    }
    for (int i = 0; i < 3 * N * N; i++) {
        merge_list[i] = lines[i];
    }
    gguf_string(&gguf, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", words, N + N * N);
    gguf_strings(&gguf, "tokenizer.ggml.merges", merge_list, 3 * N * N);
    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    for (int i = 0; i < N * N; i++) {
        char wanted[16];

        snprintf(wanted, sizeof(wanted), "%d", N + i);
        expect_ids(made.tokenizer, pairs[i], 0, wanted);
    }
    made_close(&made);
}

Test(read_gguf, another_algorithm_is_refused)
{
    gguf_text_t other = {0}, number = {0};

    gguf_string(&other, "tokenizer.ggml.model", "bert\0x", 6);
    expect_gguf_refused(other, AG_ERR_UNSUPPORTED, "\"bert");
    gguf_integer(&number, "tokenizer.ggml.model", AG_GGUF_U32, 7);
    expect_gguf_refused(number, AG_ERR_UNSUPPORTED, "tokenizer \"\" is not known (known: gpt2");
}

Test(read_gguf, a_missing_or_misshapen_list_is_refused)
{
    gguf_text_t no_tokens = {0}, numbers = {0}, no_merges = {0}, few_types = {0}, real_types = {0};

    gguf_string(&no_tokens, "tokenizer.ggml.model", "gpt2", 4);
    expect_gguf_refused(no_tokens, AG_ERR_FORMAT, "tokenizer.ggml.tokens");
    gguf_string(&numbers, "tokenizer.ggml.model", "gpt2", 4);
    gguf_integers(&numbers, "tokenizer.ggml.tokens", types, 6);
    expect_gguf_refused(numbers, AG_ERR_FORMAT, "tokenizer.ggml.tokens");
    gguf_string(&no_merges, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&no_merges, "tokenizer.ggml.tokens", tokens, 6);
    expect_gguf_refused(no_merges, AG_ERR_FORMAT, "tokenizer.ggml.merges is missing");
    gguf_string(&few_types, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&few_types, "tokenizer.ggml.tokens", tokens, 6);
    gguf_integers(&few_types, "tokenizer.ggml.token_type", types, 5);
    expect_gguf_refused(few_types, AG_ERR_FORMAT, "no list of 6 numbers");
    gguf_string(&real_types, "tokenizer.ggml.model", "gpt2", 4);
    gguf_strings(&real_types, "tokenizer.ggml.tokens", tokens, 6);
    gguf_integer(&real_types, "tokenizer.ggml.token_type", AG_GGUF_F32, 0);
    expect_gguf_refused(real_types, AG_ERR_FORMAT, "no list of 6 numbers");
}

Test(read_gguf, a_merge_that_is_not_two_tokens_is_refused)
{
    static const char *const bad[] = {"ab", "", " ", "a"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        gguf_text_t gguf = {0};

        gguf_string(&gguf, "tokenizer.ggml.model", "gpt2", 4);
        gguf_strings(&gguf, "tokenizer.ggml.tokens", tokens, 6);
        gguf_strings(&gguf, "tokenizer.ggml.merges", &bad[i], 1);
        expect_gguf_refused(gguf, AG_ERR_FORMAT, "merge 0 is not two tokens");
    }
}

Test(read_gguf, an_unknown_pre_tokenizer_is_refused)
{
    gguf_text_t named = plain(), number = plain();

    gguf_string(&named, "tokenizer.ggml.pre", "gpt-9", 5);
    expect_gguf_refused(named, AG_ERR_UNSUPPORTED, "\"gpt-9\" is not known (known: gpt-2");
    gguf_integer(&number, "tokenizer.ggml.pre", AG_GGUF_U32, 1);
    expect_gguf_refused(number, AG_ERR_FORMAT, "tokenizer.ggml.pre is no string");
}

Test(read_gguf, end_tokens_and_the_bos_are_ids_of_the_vocabulary_or_none)
{
    static const struct {
        ag_gguf_kind_t kind;
        uint64_t id;
        int32_t means;
    } rows[] = {{AG_GGUF_U32, 3, 3},           {AG_GGUF_U64, 3, 3},
                {AG_GGUF_U32, 6, -1},          {AG_GGUF_U32, UINT32_MAX, -1},
                {AG_GGUF_I32, UINT32_MAX, -1}, {AG_GGUF_U64, 1ull << 32, -1},
                {AG_GGUF_F32, 0, -1}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        gguf_text_t gguf = plain();
        made_t made;

        gguf_integer(&gguf, "tokenizer.ggml.eos_token_id", rows[i].kind, rows[i].id);
        gguf_integer(&gguf, "tokenizer.ggml.eot_token_id", AG_GGUF_U32, 1);
        gguf_integer(&gguf, "tokenizer.ggml.bos_token_id", rows[i].kind, rows[i].id);
        gguf_integer(&gguf, "tokenizer.ggml.add_bos_token", AG_GGUF_BOOL, 1);
        cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
        cr_expect_eq(ag_tokenizer_bos(made.tokenizer), rows[i].means, "row %zu", i);
        cr_expect_eq(ag_tokenizer_eos(made.tokenizer), rows[i].means, "row %zu", i);
        for (int32_t id = -1; id < 8; id++) {
            cr_expect_eq(ag_tokenizer_is_end(made.tokenizer, id),
                         id == 1 || (id >= 0 && id == rows[i].means), "row %zu, id %d", i, id);
        }
        made_close(&made);
    }
}

Test(read_gguf, a_pre_tokenizer_implies_a_bos_unless_the_file_says)
{
    for (int add = -1; add <= 1; add++) {
        gguf_text_t gguf = plain();
        made_t made;

        gguf_string(&gguf, "tokenizer.ggml.pre", "llama-bpe", 9);
        gguf_integer(&gguf, "tokenizer.ggml.bos_token_id", AG_GGUF_U32, 3);
        if (add >= 0) {
            gguf_integer(&gguf, "tokenizer.ggml.add_bos_token", AG_GGUF_BOOL, (uint64_t)add);
        }
        cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
        cr_expect_eq(ag_tokenizer_bos(made.tokenizer), add == 0 ? -1 : 3);
        made_close(&made);
    }
}
