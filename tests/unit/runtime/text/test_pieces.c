/* SentencePiece's models in GGUF metadata: llama and t5. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "make_text.h"
#include "runtime/text/stream.h"

static const char *const tokens[] = {"<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>",  "a",
                                     "b",     "ab",  "bb",   "\u2581", "\u2581a", "the\u2581end",
                                     "UUU",   "abb"};
static const int32_t types[] = {2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 4, 5, 1};
static const float scores[] = {0, 0, 0, 0, 0, -9, -9, -2, -1, -9, -3, 0, 0, -2};

enum { N_TOKENS = sizeof(tokens) / sizeof(tokens[0]) };

/* All that a tokenizer needs; entries may follow. */
static gguf_text_t plain(const char *model)
{
    gguf_text_t gguf = {0};

    gguf_string(&gguf, "tokenizer.ggml.model", model, strlen(model));
    gguf_strings(&gguf, "tokenizer.ggml.tokens", tokens, N_TOKENS);
    gguf_integers(&gguf, "tokenizer.ggml.token_type", types, N_TOKENS);
    gguf_floats(&gguf, "tokenizer.ggml.scores", scores, N_TOKENS);
    gguf_integer(&gguf, "tokenizer.ggml.unknown_token_id", AG_GGUF_U32, 0);
    gguf_integer(&gguf, "tokenizer.ggml.bos_token_id", AG_GGUF_U32, 1);
    gguf_integer(&gguf, "tokenizer.ggml.eos_token_id", AG_GGUF_U32, 2);
    return gguf;
}

static void open_pieces(made_t *made, const char *model, bool space)
{
    gguf_text_t gguf = plain(model);

    gguf_integer(&gguf, "tokenizer.ggml.add_space_prefix", AG_GGUF_BOOL, space);
    cr_assert_eq(gguf_open(made, &gguf), AG_OK, "%s", ag_error());
}

static void expect_text(const ag_tokenizer_t *tokenizer, const int32_t *ids, size_t n,
                        unsigned flags, const char *text)
{
    ag_array_t bytes = AG_ARRAY(char);

    cr_assert_eq(ag_tokenizer_decode(tokenizer, ids, n, flags, &bytes), AG_OK);
    cr_assert_eq(ag_array_append(&bytes, "", 1), AG_OK);
    cr_expect_str_eq(bytes.items, text);
    ag_array_fini(&bytes);
}

Test(pieces, the_best_score_is_merged_first)
{
    made_t made;

    open_pieces(&made, "llama", false);
    expect_ids(made.tokenizer, "ab", 0, "7");
    expect_ids(made.tokenizer, "abb", 0, "13");     /* bb first, then a with it */
    expect_ids(made.tokenizer, "b ab", 0, "6 9 7"); /* ab before the space and a */
    expect_ids(made.tokenizer, "", 0, "");
    made_close(&made);
}

Test(pieces, a_space_comes_before_each_text_between_tokens_where_the_file_says_so)
{
    made_t made;

    open_pieces(&made, "llama", true);
    expect_ids(made.tokenizer, "a", 0, "10");
    expect_ids(made.tokenizer, " a", 0, "9 10");
    expect_ids(made.tokenizer, "a<s>a", AG_TOKEN_SPECIAL, "10 1 10");
    expect_ids(made.tokenizer, "a", AG_TOKEN_CONTINUES, "5");
    expect_text(made.tokenizer, (int32_t[]){10, 10}, 2, 0, "a a");
    expect_text(made.tokenizer, (int32_t[]){10, 10}, 2, AG_TOKEN_CONTINUES, " a a");
    expect_text(made.tokenizer, (int32_t[]){1, 10}, 2, 0, "a");
    cr_expect_eq(ag_tokenizer_bos(made.tokenizer), 1); /* llama's default */
    cr_expect_eq(ag_tokenizer_after(made.tokenizer), -1);
    made_close(&made);
}

Test(pieces, what_is_no_piece_is_its_bytes_or_unknown)
{
    made_t made;

    open_pieces(&made, "llama", false);
    expect_ids(made.tokenizer,
               "a\u00e9"
               "b",
               0, "5 3 4 6");
    expect_ids(made.tokenizer, "xyb", 0, "0 6"); /* neighbours are one */
    expect_ids(made.tokenizer, "<0xC3>", 0, "0");
    expect_ids(made.tokenizer, "UUU", 0, "0");
    expect_text(made.tokenizer, (int32_t[]){5, 3, 4}, 3, 0, "a\u00e9");
    made_close(&made);
}

Test(pieces, control_tokens_are_cut_off_and_what_a_user_defined_is_kept_whole)
{
    made_t made;

    open_pieces(&made, "llama", false);
    expect_ids(made.tokenizer, "a</s>b", AG_TOKEN_SPECIAL, "5 2 6");
    expect_ids(made.tokenizer, "the enda", 0, "11 5");
    expect_ids(made.tokenizer,
               "the\u2581"
               "enda",
               0, "11 5");
    expect_text(made.tokenizer, (int32_t[]){11, 2, 5}, 3, 0, "the enda");
    made_close(&made);
}

/* As llama.cpp: a space comes behind it as before it, and no word is made across its edge. */
Test(pieces, a_user_defined_piece_of_unigram_is_cut_out)
{
    static const char *const words[] = {"<unk>", "<s>",     "</s>", "\u2581",    "a",      "b",
                                        "ab",    "foo bar", "barz", "\u2581foo", "b\u2581"};
    static const int32_t kinds[] = {2, 3, 3, 1, 1, 1, 1, 4, 1, 1, 1};
    static const float weights[] = {0, 0, 0, -9, -9, -9, -1, 0, -1, -1, -1};
    gguf_text_t gguf = {0};
    made_t made;

    gguf_string(&gguf, "tokenizer.ggml.model", "t5", 2);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", words, 11);
    gguf_integers(&gguf, "tokenizer.ggml.token_type", kinds, 11);
    gguf_floats(&gguf, "tokenizer.ggml.scores", weights, 11);
    gguf_integer(&gguf, "tokenizer.ggml.unknown_token_id", AG_GGUF_U32, 0);
    gguf_integer(&gguf, "tokenizer.ggml.add_space_prefix", AG_GGUF_BOOL, 1);
    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    expect_ids(made.tokenizer, "foo barz", 0, "7 3 0");
    expect_ids(made.tokenizer, "afoo barb", 0, "3 4 7 3 5");
    expect_ids(made.tokenizer, "foo  bar", 0, "9 3 3 5 4 0");
    made_close(&made);
}

Test(pieces, a_user_defined_piece_of_unigram_is_weighed_in_what_is_normalized)
{
    made_t made;

    open_pieces(&made, "t5", true);
    expect_ids(made.tokenizer, "the end", 0, "9 11");
    expect_ids(made.tokenizer, "abb", 0, "10 8");
    expect_ids(made.tokenizer, "xyb", 0, "9 0 6");
    cr_expect_eq(ag_tokenizer_bos(made.tokenizer), -1);
    cr_expect_eq(ag_tokenizer_after(made.tokenizer), 2); /* t5's default */
    made_close(&made);
}

Test(pieces, extra_white_space_goes_where_the_file_says_so)
{
    gguf_text_t gguf = plain("t5");
    made_t made;

    gguf_integer(&gguf, "tokenizer.ggml.add_space_prefix", AG_GGUF_BOOL, 1);
    gguf_integer(&gguf, "tokenizer.ggml.remove_extra_whitespaces", AG_GGUF_BOOL, 1);
    gguf_integer(&gguf, "tokenizer.ggml.add_eos_token", AG_GGUF_BOOL, 0);
    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    expect_ids(made.tokenizer, "  a   a  ", 0, "10 10");
    expect_ids(made.tokenizer, "   ", 0, "");
    cr_expect_eq(ag_tokenizer_after(made.tokenizer), -1);
    made_close(&made);
}

Test(pieces, what_a_file_does_not_say_is_as_llama_cpp_has_it)
{
    static const char *const few[] = {"<0x62>", "a", "\u2581", "<0xE2>"};
    static const float even[] = {0, 0, 0, 0};

    for (int t5 = 0; t5 < 2; t5++) {
        gguf_text_t gguf = {0};
        made_t made;

        gguf_string(&gguf, "tokenizer.ggml.model", t5 ? "t5" : "llama", t5 ? 2 : 5);
        gguf_strings(&gguf, "tokenizer.ggml.tokens", few, 4);
        gguf_floats(&gguf, "tokenizer.ggml.scores", even, 4);
        cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
        expect_ids(made.tokenizer, "a b", 0, t5 ? "1 2 0" : "2 1 2 0");
        made_close(&made);
    }
}

/* A byte at a time: a character is given out when its last has come. */
Test(pieces, bytes_of_a_character_meet_in_the_stream)
{
    static const char *const few[] = {"<0xE2>", "<0x82>", "<0xAC>", "a"};
    static const int32_t kinds[] = {6, 6, 6, 1}, ids[] = {3, 0, 1, 2, 0, 1, 3};
    static const float even[] = {0, 0, 0, 0};
    static const char *const shown[] = {
        "a", "a", "a", "a\u20ac", "a\u20ac", "a\u20ac", "a\u20ac\ufffda"};
    ag_array_t text = AG_ARRAY(char);
    ag_text_stream_t stream;
    gguf_text_t gguf = {0};
    made_t made;

    gguf_string(&gguf, "tokenizer.ggml.model", "llama", 5);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", few, 4);
    gguf_integers(&gguf, "tokenizer.ggml.token_type", kinds, 4);
    gguf_floats(&gguf, "tokenizer.ggml.scores", even, 4);
    cr_assert_eq(gguf_open(&made, &gguf), AG_OK, "%s", ag_error());
    ag_text_stream_init(&stream, NULL, 0);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        size_t n;
        const char *piece = ag_tokenizer_piece(made.tokenizer, ids[i], 0, &n);

        cr_assert_eq(ag_text_stream_push(&stream, piece, n, &text), AG_OK);
        cr_expect(text.n_items == strlen(shown[i]) &&
                      memcmp(text.items, shown[i], text.n_items) == 0,
                  "after token %zu: \"%.*s\"", i, (int)text.n_items, AG_ITEMS(&text, char));
    }
    ag_text_stream_fini(&stream);
    ag_array_fini(&text);
    made_close(&made);
}

static void expect_pieces_refused(gguf_text_t gguf, const char *words)
{
    made_t made;

    cr_expect_eq(gguf_open(&made, &gguf), AG_ERR_FORMAT, "not refused for %s", words);
    cr_expect_not_null(strstr(ag_error(), words), "\"%s\" does not say \"%s\"", ag_error(), words);
    made_close(&made);
}

Test(pieces, scores_that_are_none_are_refused)
{
    static const float odd[] = {0, NAN};
    gguf_text_t none = {0}, few = {0}, nan = {0}, map = plain("t5");

    gguf_string(&none, "tokenizer.ggml.model", "llama", 5);
    gguf_strings(&none, "tokenizer.ggml.tokens", tokens, 2);
    expect_pieces_refused(none, "tokenizer.ggml.scores is missing");
    gguf_string(&few, "tokenizer.ggml.model", "llama", 5);
    gguf_strings(&few, "tokenizer.ggml.tokens", tokens, 3);
    gguf_floats(&few, "tokenizer.ggml.scores", scores, 2);
    expect_pieces_refused(few, "no list of 3 numbers");
    gguf_string(&nan, "tokenizer.ggml.model", "llama", 5);
    gguf_strings(&nan, "tokenizer.ggml.tokens", tokens, 2);
    gguf_floats(&nan, "tokenizer.ggml.scores", odd, 2);
    expect_pieces_refused(nan, "entry 1 of tokenizer.ggml.scores");
    gguf_string(&map, "tokenizer.ggml.precompiled_charsmap", "x", 1);
    expect_pieces_refused(map, "precompiled_charsmap");
}

/* Long texts of one letter, of what begins tokens, and of what is unknown. */
Test(pieces, long_texts_take_no_longer_than_short_ones)
{
    static const char *const letters[] = {"a", "b", " ", "\u2581", "<", "x", "\u00e9", "the "};
    enum { N = 200000 };
    char *text = malloc(N + 8);

    cr_assert_not_null(text);
    for (int model = 0; model < 2; model++) {
        made_t made;

        open_pieces(&made, model == 0 ? "llama" : "t5", true);
        for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
            ag_array_t ids = AG_ARRAY(int32_t);
            size_t n = 0, n_letter = strlen(letters[i]);

            for (; n < N; n += n_letter) {
                memcpy(text + n, letters[i], n_letter);
            }
            cr_assert_eq(ag_tokenizer_encode(made.tokenizer, text, n, 0, &ids, NULL), AG_OK);
            cr_expect_gt(ids.n_items, 0);
            ag_array_fini(&ids);
        }
        made_close(&made);
    }
    free(text);
}
