/*
 * Unigram (Kudo 2018): of all ways to write a word as tokens the one with the greatest sum of
 * scores (Viterbi), as SentencePiece's EncodeOptimized and Hugging Face's encode_optimized find it:
 * among equals the one whose last token begins first.
 */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"
#include "runtime/text/unicode_priv.h"

/* The best way to a place in the word. */
typedef struct place {
    double score;
    uint32_t id;    /* of the token that ends here */
    uint32_t begin; /* where it begins; AG_NO_ID: no way leads here */
} place_t;

_Static_assert(sizeof(place_t) == AG_SYMBOL_BYTES, "the encoder's array holds them");

static void offer(const ag_tokenizer_t *tokenizer, place_t *places, size_t begin, size_t end,
                  uint32_t id, double score)
{
    double sum = places[begin].score + score;

    if (places[end].begin == AG_NO_ID || sum > places[end].score) {
        places[end] = (place_t){
            .score = tokenizer->sums_floats ? (float)sum : sum, .id = id, .begin = (uint32_t)begin};
    }
}

/* Every token that begins at a place, and the unknown one where none is of one character. */
static void offer_tokens(const ag_tokenizer_t *tokenizer, place_t *places, const char *bytes,
                         size_t n_bytes, size_t begin)
{
    const double *scores = AG_ITEMS(&tokenizer->scores, double);
    const ag_trie_node_t *nodes = AG_ITEMS(&tokenizer->trie.nodes, ag_trie_node_t);
    size_t length = ag_unicode_length(bytes + begin);
    bool has_single = false;
    uint32_t at = 0;

    for (size_t i = begin; tokenizer->trie.nodes.n_items > 0 && i < n_bytes &&
                           ag_trie_step(&tokenizer->trie, &at, (unsigned char)bytes[i]);
         i++) {
        if (nodes[at].value != AG_TRIE_NOTHING) {
            offer(tokenizer, places, begin, i + 1, nodes[at].value, scores[nodes[at].value]);
            has_single = has_single || i + 1 - begin == length;
        }
    }
    if (!has_single) {
        offer(tokenizer, places, begin, begin + length, AG_NO_ID, tokenizer->unknown_score);
    }
}

/* The text of the unknown token counts as unknown, too. */
static bool is_unknown(const ag_tokenizer_t *tokenizer, uint32_t id)
{
    return id == AG_NO_ID || id == tokenizer->unknown;
}

/* What is unknown, which may be a word for all that, or its bytes' tokens. */
static ag_status_t put_unknown(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes,
                               ag_array_t *ids)
{
    uint32_t id = ag_word_id(tokenizer, bytes, n_bytes);
    bool has_bytes = id == AG_NO_ID;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_bytes; i++) {
        has_bytes = has_bytes && tokenizer->byte_ids[(unsigned char)bytes[i]] != AG_NO_ID;
    }
    for (size_t i = 0; i < n_bytes && has_bytes && status == AG_OK; i++) {
        status = ag_array_append(ids, &tokenizer->byte_ids[(unsigned char)bytes[i]], 1);
    }
    if (has_bytes) {
        return status;
    }
    id = id != AG_NO_ID ? id : tokenizer->unknown;
    return id != AG_NO_ID
               ? ag_array_append(ids, &id, 1)
               : ag_fail(AG_ERR_UNSUPPORTED, "a text holds characters that the tokenizer does not "
                                             "know, and it has no token for what is unknown");
}

/* The ids of the best way, from its end: first the links are turned round. */
static ag_status_t put_best(const ag_tokenizer_t *tokenizer, place_t *places, const char *bytes,
                            size_t n_bytes, ag_array_t *ids)
{
    uint32_t next = (uint32_t)n_bytes;
    ag_status_t status = AG_OK;

    for (uint32_t end = (uint32_t)n_bytes; end > 0;) {
        uint32_t begin = places[end].begin;

        places[end].begin = next; /* where the token behind ends */
        next = end;
        end = begin;
    }
    for (uint32_t begin = 0, end = next; begin < n_bytes && status == AG_OK;) {
        uint32_t behind = places[end].begin;

        if (!is_unknown(tokenizer, places[end].id)) {
            status = ag_array_append(ids, &places[end].id, 1);
        } else {
            while (tokenizer->fuses_unknown && end < n_bytes &&
                   is_unknown(tokenizer, places[behind].id)) {
                end = behind;
                behind = places[end].begin;
            }
            status = put_unknown(tokenizer, bytes + begin, end - begin, ids);
        }
        begin = end;
        end = behind;
    }
    return status;
}

ag_status_t ag_unigram_encode(ag_encoder_t *encoder, const char *bytes, size_t n_bytes,
                              ag_array_t *ids)
{
    const ag_tokenizer_t *tokenizer = encoder->tokenizer;
    place_t *places;
    ag_status_t status;

    if (n_bytes > INT32_MAX) {
        return ag_fail(AG_ERR_INVALID, "a word of %zu bytes is too long", n_bytes);
    }
    encoder->symbols.n_items = 0;
    status = ag_array_append(&encoder->symbols, NULL, n_bytes + 1);
    if (status != AG_OK) {
        return status;
    }
    if (n_bytes >= encoder->most_symbols) {
        encoder->most_symbols = n_bytes + 1;
    }
    places = AG_ITEMS(&encoder->symbols, place_t);
    for (size_t at = 1; at <= n_bytes; at++) {
        places[at].begin = AG_NO_ID;
    }
    for (size_t at = 0; at < n_bytes; at += ag_unicode_length(bytes + at)) {
        offer_tokens(tokenizer, places, bytes, n_bytes, at);
    }
    return put_best(tokenizer, places, bytes, n_bytes, ids);
}
