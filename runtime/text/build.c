/* From texts of tokens and merges to compact tables. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/utf8.h"
#include "runtime/text/tokenizer_priv.h"

/*
 * GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes are the code
 * points from 256 on, in order (Radford et al. 2019, encoder.py). -1: the code point is none of it.
 */
static int byte_of(uint32_t code)
{
    bool printable = (code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xff);
    uint32_t rest = code - 256;

    if (printable && code != 0xad) {
        return (int)code;
    }
    if (code < 256 || rest > 67) {
        return -1;
    }
    return rest <= 0x20 ? (int)rest : rest == 67 ? 0xad : (int)(0x7f + rest - 0x21);
}

static uint32_t code_at(const char *text, size_t length)
{
    const unsigned char *b = (const unsigned char *)text;

    switch (length) {
    case 1:
        return b[0];
    case 2:
        return (b[0] & 31u) << 6 | (b[1] & 63u);
    default:
        return UINT32_MAX; /* beyond the alphabet */
    }
}

/* Bytes that a text in the alphabet stands for, n_bytes at most; false where it is not in it. */
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

/*
 * A word becomes the bytes it stands for; one that stands for none can never be made. The text of
 * an added token stays in the pool beside them.
 */
static ag_status_t resolve(ag_tokenizer_t *tokenizer, ag_piece_t *piece)
{
    const char *text;
    char *bytes;
    ag_status_t status = AG_OK;
    size_t n = 0;

    if (piece->n_bytes == 0 || !(piece->flags & AG_PIECE_WORD)) {
        piece->flags &= ~(unsigned)AG_PIECE_WORD;
        return AG_OK;
    }
    bytes = malloc(piece->n_bytes);
    if (bytes == NULL) {
        return ag_fail_nomem("reading a token", piece->n_bytes);
    }
    text = AG_ITEMS(&tokenizer->bytes, char) + piece->offset;
    if (!to_bytes(text, piece->n_bytes, bytes, &n)) {
        piece->flags &= ~(unsigned)AG_PIECE_WORD;
    } else if (n != piece->n_bytes || memcmp(text, bytes, n) != 0) {
        if (!(piece->flags & AG_PIECE_ADDED)) {
            tokenizer->bytes.n_items = piece->offset;
        }
        piece->offset = (uint32_t)tokenizer->bytes.n_items;
        piece->n_bytes = (uint32_t)n;
        status = ag_array_append(&tokenizer->bytes, bytes, n);
    }
    free(bytes);
    return status;
}

ag_status_t ag_build_token(ag_tokenizer_t *tokenizer, const ag_token_text_t *token)
{
    uint32_t id = (uint32_t)tokenizer->pieces.n_items;
    ag_piece_t piece = {.offset = (uint32_t)tokenizer->bytes.n_items, .flags = token->flags};
    ag_added_t added = {.id = id, .offset = piece.offset};
    ag_status_t status;

    /* twice: as text and as bytes */
    if (token->n_bytes > (UINT32_MAX - tokenizer->bytes.n_items) / 2 || id >= INT32_MAX) {
        return ag_fail(AG_ERR_UNSUPPORTED, "a vocabulary of more than 4 GiB");
    }
    piece.n_bytes = token->text != NULL ? (uint32_t)token->n_bytes : 0;
    added.n_bytes = piece.n_bytes;
    status = ag_array_append(&tokenizer->bytes, token->text, piece.n_bytes);
    /* what is no UTF-8 never stands in text, and must not cut a character of it */
    if (status == AG_OK && (piece.flags & AG_PIECE_ADDED) && piece.n_bytes > 0 &&
        ag_utf8_valid(token->text, token->n_bytes)) {
        status = ag_array_append(&tokenizer->added, &added, 1);
    }
    if (status == AG_OK) {
        status = resolve(tokenizer, &piece);
    }
    return status == AG_OK ? ag_array_append(&tokenizer->pieces, &piece, 1) : status;
}

/* By first byte; then the longest first, so that the first that fits at a place is taken. */
static int compare_added(const void *a, const void *b, void *arg)
{
    const ag_added_t *x = a, *y = b;
    unsigned char bx = (unsigned char)ag_added_bytes(arg, x)[0];
    unsigned char by = (unsigned char)ag_added_bytes(arg, y)[0];

    if (bx != by) {
        return bx < by ? -1 : 1;
    }
    return x->n_bytes != y->n_bytes ? (x->n_bytes < y->n_bytes ? 1 : -1)
                                    : (x->id > y->id) - (x->id < y->id);
}

static void sort_added(ag_tokenizer_t *tokenizer)
{
    const ag_added_t *added = tokenizer->added.items;
    size_t n = tokenizer->added.n_items;
    uint32_t at = 0;

    if (n > 0) {
        qsort_r(tokenizer->added.items, n, sizeof(ag_added_t), compare_added, tokenizer);
    }
    for (int byte = 0; byte <= 256; byte++) {
        tokenizer->added_from[byte] = at;
        while (at < n && (unsigned char)ag_added_bytes(tokenizer, &added[at])[0] == byte) {
            at++;
        }
    }
}

/* Slots for n items, two thirds full at most. */
static ag_status_t make_slots(size_t n, uint32_t **slots_p, size_t *n_slots_p)
{
    size_t n_slots = 16;

    while (n_slots < n + n / 2 + 1) {
        n_slots *= 2;
    }
    *slots_p = malloc(n_slots * sizeof(**slots_p));
    if (*slots_p == NULL) {
        return ag_fail_nomem("making a tokenizer", n_slots * sizeof(**slots_p));
    }
    for (size_t i = 0; i < n_slots; i++) {
        (*slots_p)[i] = AG_NO_ID;
    }
    *n_slots_p = n_slots;
    return AG_OK;
}

/* Give back what doubling took too much; where that fails, nothing is lost. */
static void shrink(ag_array_t *array)
{
    void *items =
        array->n_items > 0 ? realloc(array->items, array->n_items * array->item_bytes) : NULL;

    if (items != NULL) {
        array->items = items;
        array->capacity = array->n_items;
    }
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
            memcmp(ag_piece_bytes(tokenizer, piece), bytes, n_bytes) == 0) {
            return at;
        }
    }
}

uint32_t ag_word_id(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes)
{
    return n_bytes == 0 ? AG_NO_ID : tokenizer->words[word_slot(tokenizer, bytes, n_bytes)];
}

ag_status_t ag_build_words(ag_tokenizer_t *tokenizer, size_t n_merges)
{
    size_t n_tokens = tokenizer->pieces.n_items;
    ag_status_t status = make_slots(n_tokens, &tokenizer->words, &tokenizer->n_words);

    if (status == AG_OK) {
        status = make_slots(n_merges, &tokenizer->pairs, &tokenizer->n_pairs);
    }
    if (status != AG_OK) {
        return status;
    }
    shrink(&tokenizer->pieces);
    shrink(&tokenizer->bytes);
    for (uint32_t id = 0; id < n_tokens; id++) {
        const ag_piece_t *piece = ag_piece_at(tokenizer, id);

        if (piece->flags & AG_PIECE_WORD) {
            size_t at = word_slot(tokenizer, ag_piece_bytes(tokenizer, piece), piece->n_bytes);

            tokenizer->words[at] = tokenizer->words[at] == AG_NO_ID ? id : tokenizer->words[at];
        }
    }
    for (int byte = 0; byte < 256; byte++) {
        tokenizer->byte_ids[byte] = ag_word_id(tokenizer, &(char){(char)byte}, 1);
    }
    sort_added(tokenizer);
    return AG_OK;
}

/* The word of a text in the alphabet. */
static uint32_t alphabet_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes)
{
    enum { MOST_BYTES = 1024 };
    char bytes[MOST_BYTES], *longer = n_bytes > MOST_BYTES ? malloc(n_bytes) : NULL;
    char *dst = longer != NULL ? longer : bytes;
    uint32_t id = AG_NO_ID;
    size_t n;

    if ((n_bytes <= MOST_BYTES || longer != NULL) && to_bytes(text, n_bytes, dst, &n)) {
        id = ag_word_id(tokenizer, dst, n);
    }
    free(longer);
    return id;
}

uint32_t ag_text_id(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes)
{
    for (size_t i = 0; i < tokenizer->added.n_items; i++) {
        const ag_added_t *added = &AG_ITEMS(&tokenizer->added, ag_added_t)[i];

        if (added->n_bytes == n_bytes &&
            memcmp(ag_added_bytes(tokenizer, added), text, n_bytes) == 0) {
            return added->id;
        }
    }
    return alphabet_id(tokenizer, text, n_bytes);
}

size_t ag_pair_slot(const ag_tokenizer_t *tokenizer, uint32_t left, uint32_t right)
{
    const ag_merge_t *merges = AG_ITEMS(&tokenizer->merges, ag_merge_t);
    uint64_t hash = ag_hash_mix((uint64_t)left << 32 | right);

    for (size_t at = hash & (tokenizer->n_pairs - 1);; at = (at + 1) & (tokenizer->n_pairs - 1)) {
        uint32_t rank = tokenizer->pairs[at];

        if (rank == AG_NO_ID || (merges[rank].left == left && merges[rank].right == right)) {
            return at;
        }
    }
}

ag_status_t ag_build_merge(ag_tokenizer_t *tokenizer, const ag_merge_text_t *text, bool *known_p)
{
    ag_merge_t merge = {.left = alphabet_id(tokenizer, text->left, text->n_left),
                        .right = alphabet_id(tokenizer, text->right, text->n_right)};
    uint32_t rank = (uint32_t)tokenizer->merges.n_items;
    const ag_piece_t *a, *b;
    ag_status_t status;
    char *joined;
    size_t at;

    *known_p = false;
    if (merge.left == AG_NO_ID || merge.right == AG_NO_ID) {
        return AG_OK;
    }
    a = ag_piece_at(tokenizer, merge.left);
    b = ag_piece_at(tokenizer, merge.right);
    joined = malloc((size_t)a->n_bytes + b->n_bytes);
    if (joined == NULL) {
        return ag_fail_nomem("reading a merge", (unsigned long long)a->n_bytes + b->n_bytes);
    }
    memcpy(joined, ag_piece_bytes(tokenizer, a), a->n_bytes);
    memcpy(joined + a->n_bytes, ag_piece_bytes(tokenizer, b), b->n_bytes);
    merge.id = ag_word_id(tokenizer, joined, (size_t)a->n_bytes + b->n_bytes);
    free(joined);
    if (merge.id == AG_NO_ID) {
        return AG_OK;
    }
    *known_p = true;
    at = ag_pair_slot(tokenizer, merge.left, merge.right);
    if (tokenizer->pairs[at] != AG_NO_ID && !text->last_counts) {
        return AG_OK;
    }
    status = ag_array_append(&tokenizer->merges, &merge, 1);
    if (status == AG_OK) {
        tokenizer->pairs[at] = rank;
    }
    return status;
}

void ag_build_end(ag_tokenizer_t *tokenizer, int64_t id)
{
    if (id >= 0 && id < (int64_t)ag_tokenizer_size(tokenizer)) {
        AG_ITEMS(&tokenizer->pieces, ag_piece_t)[id].flags |= AG_PIECE_END;
    }
}
