/* Parts of a text have the ids of the whole, whatever the tokenizer. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_data.h"
#include "runtime/data/make_priv.h"

static char text[65536];

static size_t read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t n;

    cr_assert_not_null(file, "%s", path);
    n = fread(text, 1, sizeof(text), file);
    fclose(file);
    return n;
}

/* @return how many parts. */
static unsigned check_parts(const ag_tokenizer_t *tokenizer, const char *what, size_t n,
                            size_t part)
{
    ag_doc_rules_t rules = {.tokenizer = tokenizer, .vocab_size = ag_tokenizer_size(tokenizer)};
    ag_array_t whole = AG_ARRAY(int32_t);
    ag_doc_output_t output;
    unsigned n_parts = 0;

    ag_doc_output_init(&output);
    cr_assert_eq(ag_tokenizer_encode(tokenizer, text, n, AG_TOKEN_SPECIAL, &whole, NULL), AG_OK);
    for (size_t at = 0, cut; at < n; at = cut, n_parts++) {
        cut = at + part < n ? ag_data_find_cut(&rules, text, n, at, at + part) : 0;
        cut = cut > at ? cut : n;
        cr_assert_eq(ag_doc_text(&rules, what, text + at, cut - at, at > 0, &output), AG_OK);
    }
    cr_expect_eq(output.ids.n_items, whole.n_items, "%s in parts of %zu: %zu ids, not %zu", what,
                 part, output.ids.n_items, whole.n_items);
    cr_expect_arr_eq(output.ids.items, whole.items, whole.n_items * sizeof(int32_t),
                     "%s in parts of %zu", what, part);
    ag_doc_output_fini(&output);
    ag_array_fini(&whole);
    return n_parts;
}

static void check_tokenizer(const char *name, size_t n)
{
    char path[512];
    room_t room;

    snprintf(path, sizeof(path), AG_TEST_DATA "/tokenizer/%s/tokenizer.json", name);
    room_open_file(&room, path);
    for (size_t part = 200; part < 700; part += 37) {
        unsigned n_parts = check_parts(room.tokenizer, name, n, part);

        cr_expect_gt(n_parts, n / part, "%s: only %u parts of %zu", name, n_parts, part);
    }
    room_close(&room);
}

static const char *const tokenizers[] = {"gpt2", "llama3", "prefix", "smollm", "removed", "splits"};

Test(cut, a_real_text_in_parts)
{
    size_t n = read_file(AG_TEST_DATA "/real/ppl_text.txt");

    for (size_t i = 0; i < sizeof(tokenizers) / sizeof(*tokenizers); i++) {
        check_tokenizer(tokenizers[i], n);
    }
}

/* Words, runs of white space, line ends, digits, marks, letters of several bytes, special tokens,
 * in any order. */
Test(cut, odd_texts_in_parts)
{
    static const char *const words[] = {
        "the", " ",      "  ",  "\n",           "\n\n",     ".",       "\r\n", "12",
        "'s",  "\t",     "...", "caf",          "\xc3\xa9", "<|end|>", " a",   "keep",
        "<",   "<keep>", "|>",  "\xe4\xb8\x8b", "\xff"};
    uint32_t state = 12345;

    for (size_t i = 0; i < sizeof(tokenizers) / sizeof(*tokenizers); i++) {
        char path[512];
        room_t room;

        snprintf(path, sizeof(path), AG_TEST_DATA "/tokenizer/%s/tokenizer.json", tokenizers[i]);
        room_open_file(&room, path);
        for (int round = 0; round < 40; round++) {
            size_t n = 0;

            while (n < 4000) {
                const char *word = words[(state >> 16) % (sizeof(words) / sizeof(*words))];

                state = state * 1664525u + 1013904223u;
                memcpy(text + n, word, strlen(word));
                n += strlen(word);
            }
            check_parts(room.tokenizer, tokenizers[i], n, 300);
        }
        room_close(&room);
    }
}

Test(cut, a_text_without_a_place_is_not_cut)
{
    ag_doc_rules_t rules = {.vocab_size = TINY_VOCAB};
    room_t room;

    room_open(&room, NULL, false);
    rules.tokenizer = room.tokenizer;
    memset(text, 'a', 4096);
    cr_expect_eq(ag_data_find_cut(&rules, text, 4096, 0, 2048), 0);
    memset(text, ' ', 4096);
    cr_expect_eq(ag_data_find_cut(&rules, text, 4096, 0, 2048), 0);
    cr_expect_eq(ag_data_find_cut(&rules, text, 10, 0, 10), 0);
    room_close(&room);
}
