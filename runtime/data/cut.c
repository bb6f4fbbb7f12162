/*
 * Long texts are tokenized in parts. Tokenizers look at words, and words end at spaces, but where
 * exactly depends on the tokenizer; so a place at the edge of white space is tried out: what
 * surrounds it has to give the same ids whole and in two parts.
 */
#include <string.h>

#include "runtime/data/make_priv.h"

enum {
    AROUND_BYTES = 96, /* looked at on each side: more than a word and what may join it */
    MOST_TRIES = 256,
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_inside(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80; /* of a character of UTF-8 */
}

static bool gives_same(const ag_doc_rules_t *rules, const char *text, size_t begin, size_t at,
                       size_t end, ag_array_t *whole, ag_array_t *parts)
{
    const ag_tokenizer_t *tokenizer = rules->tokenizer;
    const unsigned flags = AG_TOKEN_SPECIAL | AG_TOKEN_CONTINUES;

    whole->n_items = parts->n_items = 0;
    return ag_tokenizer_encode(tokenizer, text + begin, end - begin, flags, whole, NULL) == AG_OK &&
           ag_tokenizer_encode(tokenizer, text + begin, at - begin, flags, parts, NULL) == AG_OK &&
           ag_tokenizer_encode(tokenizer, text + at, end - at, flags, parts, NULL) == AG_OK &&
           whole->n_items == parts->n_items &&
           memcmp(whole->items, parts->items, whole->n_items * sizeof(int32_t)) == 0;
}

size_t ag_data_find_cut(const ag_doc_rules_t *rules, const char *text, size_t n_bytes, size_t from,
                        size_t at)
{
    ag_array_t whole = AG_ARRAY(int32_t), parts = AG_ARRAY(int32_t);
    size_t found = 0, begin, end;

    for (int tries = 0; at > from && at > AROUND_BYTES && tries < MOST_TRIES && found == 0; at--) {
        /* the edge of white space: within it how long it is decides on the ids */
        if (at + AROUND_BYTES > n_bytes || is_space(text[at]) == is_space(text[at - 1])) {
            continue;
        }
        for (begin = at - AROUND_BYTES; is_inside(text[begin]) && begin < at;) {
            begin++;
        }
        for (end = at + AROUND_BYTES; end > at && end < n_bytes && is_inside(text[end]);) {
            end--;
        }
        found = gives_same(rules, text, begin, at, end, &whole, &parts) ? at : 0;
        tries++;
    }
    ag_array_fini(&whole);
    ag_array_fini(&parts);
    return found;
}
