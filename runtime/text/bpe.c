/*
 * Byte pair encoding (Sennrich et al. 2016) of one word: of two neighbours that may become one
 * those of the least rank are merged first, the leftmost among equals. A heap of candidates over a
 * linked list: n log n, also for long words.
 *
 * By merges, a pair has a rank where it is listed. By scores (SentencePiece's bpe_model.cc), it has
 * one where both together are a word: the better its score, the less its rank.
 */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"
#include "runtime/text/unicode_priv.h"

enum { UNKNOWN = 0xfffffffeu }; /* a symbol that is no word */

typedef struct symbol {
    uint32_t id;         /* AG_NO_ID: merged into its left neighbour */
    int32_t left, right; /* neighbours; -1: none */
    uint32_t begin;      /* in the word */
} symbol_t;

typedef struct candidate {
    uint32_t rank;
    int32_t at; /* the left symbol */
} candidate_t;

_Static_assert(sizeof(symbol_t) == AG_SYMBOL_BYTES && sizeof(candidate_t) == AG_CANDIDATE_BYTES,
               "the encoder's arrays hold them");

static bool is_less(const candidate_t *a, const candidate_t *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static ag_status_t push(ag_encoder_t *encoder, const candidate_t *candidate)
{
    ag_status_t status = ag_array_append(&encoder->heap, candidate, 1);
    candidate_t *heap = AG_ITEMS(&encoder->heap, candidate_t);
    size_t at = encoder->heap.n_items - 1;

    if (status != AG_OK) {
        return status;
    }
    if (at >= encoder->most_candidates) {
        encoder->most_candidates = at + 1;
    }
    while (at > 0 && is_less(&heap[at], &heap[(at - 1) / 2])) {
        candidate_t other = heap[at];

        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = other;
        at = (at - 1) / 2;
    }
    return AG_OK;
}

static candidate_t pop(ag_encoder_t *encoder)
{
    candidate_t *heap = AG_ITEMS(&encoder->heap, candidate_t);
    candidate_t least = heap[0];
    size_t n = --encoder->heap.n_items, at = 0;

    heap[0] = heap[n];
    for (;;) {
        size_t child = 2 * at + 1;
        candidate_t other = heap[at];

        if (child + 1 < n && is_less(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (child >= n || !is_less(&heap[child], &heap[at])) {
            return least;
        }
        heap[at] = heap[child];
        heap[child] = other;
        at = child;
    }
}

/* Unsigned numbers in the reverse order of floats. */
static uint32_t rank_of_score(double score)
{
    float number = (float)score + 0.0f; /* -0 is 0 */
    uint32_t bits;

    memcpy(&bits, &number, sizeof(bits));
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

/* What two neighbours make; AG_NO_ID: no word. @param rank_p  out: set where there is one. */
static uint32_t pair_by_score(const ag_encoder_t *encoder, const symbol_t *left,
                              const symbol_t *right, uint32_t *rank_p)
{
    const symbol_t *symbols = AG_ITEMS(&encoder->symbols, symbol_t);
    size_t end = right->right >= 0 ? symbols[right->right].begin : encoder->n_text;
    size_t n = end - left->begin;
    uint32_t id = n <= encoder->tokenizer->longest
                      ? ag_word_id(encoder->tokenizer, encoder->text + left->begin, n)
                      : AG_NO_ID;

    if (id != AG_NO_ID) {
        *rank_p = rank_of_score(AG_ITEMS(&encoder->tokenizer->scores, double)[id]);
    }
    return id;
}

static ag_status_t consider(ag_encoder_t *encoder, int32_t left)
{
    const ag_tokenizer_t *tokenizer = encoder->tokenizer;
    const symbol_t *symbols = AG_ITEMS(&encoder->symbols, symbol_t);
    int32_t right = left >= 0 ? symbols[left].right : -1;
    uint32_t rank = AG_NO_ID;

    if (right < 0) {
        return AG_OK;
    }
    if (tokenizer->model == AG_MODEL_SCORES) {
        pair_by_score(encoder, &symbols[left], &symbols[right], &rank);
    } else {
        rank = tokenizer->pairs[ag_pair_slot(tokenizer, symbols[left].id, symbols[right].id)];
    }
    return rank == AG_NO_ID ? AG_OK : push(encoder, &(candidate_t){.rank = rank, .at = left});
}

/* What a candidate makes; AG_NO_ID where one of the two was merged meanwhile. */
static uint32_t made_of(const ag_encoder_t *encoder, const candidate_t *best)
{
    const symbol_t *symbols = AG_ITEMS(&encoder->symbols, symbol_t);
    const symbol_t *left = &symbols[best->at];
    const symbol_t *right = left->right >= 0 ? &symbols[left->right] : NULL;
    const ag_merge_t *merge;
    uint32_t rank, id;

    if (right == NULL || left->id == AG_NO_ID) {
        return AG_NO_ID;
    }
    if (encoder->tokenizer->model == AG_MODEL_SCORES) {
        id = pair_by_score(encoder, left, right, &rank);
        return id != AG_NO_ID && rank == best->rank ? id : AG_NO_ID;
    }
    merge = &AG_ITEMS(&encoder->tokenizer->merges, ag_merge_t)[best->rank];
    return left->id == merge->left && right->id == merge->right ? merge->id : AG_NO_ID;
}

static ag_status_t merge_all(ag_encoder_t *encoder)
{
    symbol_t *symbols = AG_ITEMS(&encoder->symbols, symbol_t);
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < encoder->symbols.n_items && status == AG_OK; i++) {
        status = consider(encoder, (int32_t)i);
    }
    while (encoder->heap.n_items > 0 && status == AG_OK) {
        candidate_t best = pop(encoder);
        uint32_t id = made_of(encoder, &best);
        symbol_t *left = &symbols[best.at], *right;

        if (id == AG_NO_ID) {
            continue;
        }
        right = &symbols[left->right];
        left->id = id;
        right->id = AG_NO_ID;
        left->right = right->right;
        if (left->right >= 0) {
            symbols[left->right].left = best.at;
        }
        status = consider(encoder, left->left);
        if (status == AG_OK) {
            status = consider(encoder, best.at);
        }
    }
    return status;
}

static ag_status_t add_symbol(ag_encoder_t *encoder, uint32_t id, size_t begin)
{
    int32_t at = (int32_t)encoder->symbols.n_items;

    return ag_array_append(
        &encoder->symbols,
        &(symbol_t){.id = id, .left = at - 1, .right = at + 1, .begin = (uint32_t)begin}, 1);
}

/* A symbol for each byte of a character; false: some have none. */
static bool add_bytes(ag_encoder_t *encoder, const char *bytes, size_t n, size_t begin,
                      ag_status_t *status)
{
    const uint32_t *ids = encoder->tokenizer->byte_ids;

    for (size_t i = 0; i < n; i++) {
        if (ids[(unsigned char)bytes[i]] == AG_NO_ID) {
            return false;
        }
    }
    for (size_t i = 0; i < n && *status == AG_OK; i++) {
        *status = add_symbol(encoder, ids[(unsigned char)bytes[i]], begin + i);
    }
    return true;
}

/*
 * A symbol for each byte or character. What has none becomes its bytes, or the unknown token, or is
 * dropped; an unknown one waits for its neighbours, and is passed by bytes, as in Hugging Face's
 * merge_word.
 */
static ag_status_t split_word(ag_encoder_t *encoder, const char *bytes, size_t n_bytes)
{
    const ag_tokenizer_t *tokenizer = encoder->tokenizer;
    bool of_bytes = tokenizer->model == AG_MODEL_BYTES, by_score, waits = false;
    ag_status_t status = AG_OK;
    size_t n;

    by_score = tokenizer->model == AG_MODEL_SCORES;
    for (size_t at = 0; at < n_bytes && status == AG_OK; at += n) {
        uint32_t id;

        n = of_bytes ? 1 : ag_unicode_length(bytes + at);
        id = of_bytes ? tokenizer->byte_ids[(unsigned char)bytes[at]]
                      : ag_word_id(tokenizer, bytes + at, n);
        if (id == AG_NO_ID && by_score) {
            id = UNKNOWN; /* it may still be part of a word */
        } else if (id == AG_NO_ID && !of_bytes && add_bytes(encoder, bytes + at, n, at, &status)) {
            continue;
        }
        if (waits && (id != AG_NO_ID || !tokenizer->fuses_unknown)) {
            status = add_symbol(encoder, tokenizer->unknown, at);
            waits = false;
        }
        if (id != AG_NO_ID && status == AG_OK) {
            status = add_symbol(encoder, id, at);
        }
        waits = waits || (id == AG_NO_ID && tokenizer->unknown != AG_NO_ID);
    }
    if (waits && status == AG_OK) {
        status = add_symbol(encoder, tokenizer->unknown, n_bytes);
    }
    n = encoder->symbols.n_items;
    if (n > encoder->most_symbols) {
        encoder->most_symbols = n;
    }
    if (status == AG_OK && n > 0) {
        AG_ITEMS(&encoder->symbols, symbol_t)[n - 1].right = -1;
    }
    return status;
}

/* The ids of a character that is no word: its bytes' tokens, else the unknown one. */
static ag_status_t put_unknown(const ag_encoder_t *encoder, const symbol_t *symbol, bool after,
                               ag_array_t *ids)
{
    const ag_tokenizer_t *tokenizer = encoder->tokenizer;
    size_t n = ag_unicode_length(encoder->text + symbol->begin);
    bool has_bytes = true;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)encoder->text[symbol->begin + i];

        has_bytes = has_bytes && tokenizer->byte_ids[byte] != AG_NO_ID;
    }
    for (size_t i = 0; i < n && has_bytes && status == AG_OK; i++) {
        unsigned char byte = (unsigned char)encoder->text[symbol->begin + i];

        status = ag_array_append(ids, &tokenizer->byte_ids[byte], 1);
    }
    return has_bytes || tokenizer->unknown == AG_NO_ID || (after && tokenizer->fuses_unknown)
               ? status
               : ag_array_append(ids, &tokenizer->unknown, 1);
}

/* A part of a word that nothing is merged across. */
static ag_status_t encode_part(ag_encoder_t *encoder, const char *bytes, size_t n_bytes,
                               ag_array_t *ids)
{
    bool after_unknown = false;
    ag_status_t status;

    encoder->symbols.n_items = 0;
    encoder->heap.n_items = 0;
    encoder->text = bytes;
    encoder->n_text = n_bytes;
    status = split_word(encoder, bytes, n_bytes);
    if (status == AG_OK) {
        status = merge_all(encoder);
    }
    for (size_t i = 0; i < encoder->symbols.n_items && status == AG_OK; i++) {
        const symbol_t *symbol = &AG_ITEMS(&encoder->symbols, symbol_t)[i];

        if (symbol->id == AG_NO_ID) {
            continue;
        }
        status = symbol->id != UNKNOWN ? ag_array_append(ids, &symbol->id, 1)
                                       : put_unknown(encoder, symbol, after_unknown, ids);
        after_unknown = symbol->id == UNKNOWN;
    }
    return status;
}

/* Where a part ends: before a metaspace that no word has behind what stands before it. */
static size_t part_end(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes,
                       size_t begin)
{
    size_t n = strlen(AG_METASPACE);

    if (!tokenizer->cuts_at_spaces) {
        return n_bytes;
    }
    for (size_t at = begin + 1; at + n <= n_bytes; at++) {
        const char *lead = memchr(bytes + at, AG_METASPACE[0], n_bytes - at);

        if (lead == NULL) {
            break;
        }
        at = (size_t)(lead - bytes);
        if (at + n <= n_bytes && memcmp(lead, AG_METASPACE, n) == 0 &&
            !tokenizer->bridges[(unsigned char)bytes[at - 1]]) {
            return at;
        }
    }
    return n_bytes;
}

ag_status_t ag_bpe_encode(ag_encoder_t *encoder, const char *bytes, size_t n_bytes, ag_array_t *ids)
{
    const ag_tokenizer_t *tokenizer = encoder->tokenizer;
    uint32_t whole = tokenizer->ignore_merges ? ag_word_id(tokenizer, bytes, n_bytes) : AG_NO_ID;
    ag_status_t status = AG_OK;

    if (n_bytes > INT32_MAX) {
        return ag_fail(AG_ERR_INVALID, "a word of %zu bytes is too long", n_bytes);
    }
    if (whole != AG_NO_ID) {
        return ag_array_append(ids, &whole, 1);
    }
    for (size_t begin = 0, end; begin < n_bytes && status == AG_OK; begin = end) {
        end = part_end(tokenizer, bytes, n_bytes, begin);
        status = encode_part(encoder, bytes + begin, end - begin, ids);
    }
    return status;
}
