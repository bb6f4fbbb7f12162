#define _GNU_SOURCE
/* From texts of tokens and merges to compact tables. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer_priv.h"

/*
 * GPT-2's byte alphabet: printable Latin-1 stands for itself, the other bytes are code points from
 * 256 on, in order (Radford et al. 2019, encoder.py). -1 for a code point that is none of it.
 */
static int byte_of(uint32_t code)
{
    uint32_t next = 256;

    if ((code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xac) ||
        (code >= 0xae && code <= 0xff)) {
        return (int)code;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
                         (byte >= 0xae && byte <= 0xff);

        if (!printable && next++ == code) {
            return (int)byte;
        }
    }
    return -1;
}

static uint32_t code_at(const char *text, size_t length)
{
    const unsigned char *b = (const unsigned char *)text;

    switch (length) {
    case 1:
        return b[0];
    case 2:
        return (b[0] & 31u) << 6 | (b[1] & 63u);
    case 3:
        return (b[0] & 15u) << 12 | (b[1] & 63u) << 6 | (b[2] & 63u);
    default:
        return (b[0] & 7u) << 18 | (b[1] & 63u) << 12 | (b[2] & 63u) << 6 | (b[3] & 63u);
    }
}

/* Bytes that a text in the alphabet stands for; false where it is not in it. */
static bool to_bytes(const char *text, size_t n_bytes, char *bytes, size_t *n_p)
{
    size_t n = 0;

    for (size_t i = 0; i < n_bytes;) {
        size_t bad_bytes, length;
        bool is_short;
        int byte;

        length = ag_utf8_sequence(text + i, n_bytes - i, &bad_bytes, &is_short);
        byte = length > 0 ? byte_of(code_at(text + i, length)) : -1;
        if (byte < 0) {
            return false;
        }
        bytes[n++] = (char)byte;
        i += length;
    }
    *n_p = n;
    return true;
}

ag_status_t ag_build_token(ag_tokenizer_t *tokenizer, const ag_token_text_t *token)
{
    ag_piece_t piece = {.offset = (uint32_t)tokenizer->bytes.n_items,
                        .added = token->added,
                        .special = token->special,
                        .strips = token->strips};
    size_t n_bytes = token->n_bytes;
    uint32_t id = (uint32_t)tokenizer->pieces.n_items;
    ag_status_t status = ag_array_append(&tokenizer->bytes, token->text, n_bytes);
    char *bytes;

    if (status != AG_OK) {
        return status;
    }
    if (tokenizer->bytes.n_items > UINT32_MAX || id == AG_NO_ID) {
        return ag_fail(AG_ERR_UNSUPPORTED, "a vocabulary of more than 4 GiB");
    }
    bytes = AG_ITEMS(&tokenizer->bytes, char) + piece.offset;
    if (!token->added && n_bytes > 0 && to_bytes(token->text, n_bytes, bytes, &n_bytes)) {
        tokenizer->bytes.n_items = piece.offset + n_bytes;
    }
    piece.n_bytes = (uint32_t)n_bytes;
    if (token->added && n_bytes > 0) {
        status = ag_array_append(&tokenizer->added, &id, 1);
    }
    return status == AG_OK ? ag_array_append(&tokenizer->pieces, &piece, 1) : status;
}

static size_t table_size(size_t n)
{
    size_t size = 16;

    while (size < 2 * n) {
        size *= 2;
    }
    return size;
}

static size_t word_slot(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes)
{
    size_t at = ag_hash_mix(ag_hash_bytes(AG_HASH_SEED, bytes, n_bytes)) & (tokenizer->n_words - 1);

    for (;; at = (at + 1) & (tokenizer->n_words - 1)) {
        uint32_t id = tokenizer->words[at];
        const ag_piece_t *piece;

        if (id == AG_NO_ID) {
            return at;
        }
        piece = ag_piece_at(tokenizer, id);
        if (piece->n_bytes == n_bytes &&
            memcmp(AG_ITEMS(&tokenizer->bytes, char) + piece->offset, bytes, n_bytes) == 0) {
            return at;
        }
    }
}

uint32_t ag_word_id(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes)
{
    return n_bytes == 0 ? AG_NO_ID : tokenizer->words[word_slot(tokenizer, bytes, n_bytes)];
}

uint32_t ag_text_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes)
{
    char stack[256];
    char *bytes = n_bytes <= sizeof(stack) ? stack : malloc(n_bytes);
    uint32_t id = AG_NO_ID;
    size_t n;

    if (bytes == NULL) {
        return AG_NO_ID;
    }
    if (to_bytes(text, n_bytes, bytes, &n)) {
        id = ag_word_id(tokenizer, bytes, n);
    }
    if (id == AG_NO_ID) {
        id = ag_word_id(tokenizer, text, n_bytes);
    }
    if (bytes != stack) {
        free(bytes);
    }
    return id;
}

/* The longest first, so that the first that fits at a place is the one to take. */
static int by_length(const void *a, const void *b, void *arg)
{
    const ag_tokenizer_t *tokenizer = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    uint32_t n_x = ag_piece_at(tokenizer, x)->n_bytes, n_y = ag_piece_at(tokenizer, y)->n_bytes;

    return n_x != n_y ? (n_x < n_y ? 1 : -1) : (x > y) - (x < y);
}

ag_status_t ag_build_tables(ag_tokenizer_t *tokenizer, size_t n_merges)
{
    size_t n_tokens = tokenizer->pieces.n_items;

    tokenizer->n_words = table_size(n_tokens);
    tokenizer->n_pairs = table_size(n_merges);
    tokenizer->words = malloc(tokenizer->n_words * sizeof(*tokenizer->words));
    tokenizer->pairs = malloc(tokenizer->n_pairs * sizeof(*tokenizer->pairs));
    if (tokenizer->words == NULL || tokenizer->pairs == NULL) {
        return ag_fail_nomem("making a tokenizer", tokenizer->n_pairs * sizeof(ag_pair_slot_t));
    }
    for (size_t i = 0; i < tokenizer->n_words; i++) {
        tokenizer->words[i] = AG_NO_ID;
    }
    for (size_t i = 0; i < tokenizer->n_pairs; i++) {
        tokenizer->pairs[i].id = AG_NO_ID;
    }
    for (int byte = 0; byte < 256; byte++) {
        tokenizer->byte_ids[byte] = AG_NO_ID;
    }
    for (uint32_t id = 0; id < n_tokens; id++) {
        const ag_piece_t *piece = ag_piece_at(tokenizer, id);
        const char *bytes = AG_ITEMS(&tokenizer->bytes, char) + piece->offset;

        if (piece->n_bytes > 0) {
            size_t at = word_slot(tokenizer, bytes, piece->n_bytes);

            tokenizer->words[at] = tokenizer->words[at] == AG_NO_ID ? id : tokenizer->words[at];
        }
        if (piece->n_bytes == 1 && !piece->added) {
            tokenizer->byte_ids[(unsigned char)bytes[0]] = id;
        }
    }
    if (tokenizer->added.n_items > 1) {
        qsort_r(tokenizer->added.items, tokenizer->added.n_items, sizeof(uint32_t), by_length,
                tokenizer);
    }
    return AG_OK;
}

ag_status_t ag_build_merge(ag_tokenizer_t *tokenizer, const char *left, size_t n_left,
                           const char *right, size_t n_right, uint32_t rank)
{
    uint32_t left_id = ag_text_id(tokenizer, left, n_left);
    uint32_t right_id = ag_text_id(tokenizer, right, n_right), id = AG_NO_ID;
    uint64_t key = (uint64_t)left_id << 32 | right_id;
    ag_array_t joined = AG_ARRAY(char);
    ag_status_t status;
    size_t at;

    if (left_id == AG_NO_ID || right_id == AG_NO_ID) {
        return AG_OK;
    }
    status = ag_array_append(&joined, left, n_left);
    if (status == AG_OK) {
        status = ag_array_append(&joined, right, n_right);
    }
    if (status == AG_OK) {
        id = ag_text_id(tokenizer, joined.items, joined.n_items);
    }
    ag_array_fini(&joined);
    if (status != AG_OK || id == AG_NO_ID) {
        return status;
    }
    at = ag_hash_mix(key) & (tokenizer->n_pairs - 1);
    while (tokenizer->pairs[at].id != AG_NO_ID && tokenizer->pairs[at].key != key) {
        at = (at + 1) & (tokenizer->n_pairs - 1);
    }
    if (tokenizer->pairs[at].id == AG_NO_ID) {
        tokenizer->pairs[at] = (ag_pair_slot_t){.key = key, .rank = rank, .id = id};
    }
    return AG_OK;
}
