/*
 * Byte pair encoding (Sennrich et al. 2016) of one word: the pair of least rank is merged first,
 * the leftmost among equals. A heap of candidates over a linked list: n log n, also for long words.
 */
#include <stdlib.h>

#include "runtime/base/hash.h"
#include "runtime/text/tokenizer_priv.h"

typedef struct symbol {
    uint32_t id;         /* AG_NO_ID: merged into its left neighbour */
    int32_t left, right; /* neighbours; -1: none */
} symbol_t;

typedef struct candidate {
    uint32_t rank;
    int32_t at; /* the left symbol */
    uint32_t left_id, right_id, id;
} candidate_t;

typedef struct word {
    const ag_tokenizer_t *tokenizer;
    ag_array_t symbols; /* symbol_t */
    ag_array_t heap;    /* candidate_t, least first */
} word_t;

static const ag_pair_slot_t *find_pair(const ag_tokenizer_t *tokenizer, uint32_t left,
                                       uint32_t right)
{
    uint64_t key = (uint64_t)left << 32 | right;
    size_t at;

    for (at = ag_hash_mix(key) & (tokenizer->n_pairs - 1); tokenizer->pairs[at].id != AG_NO_ID;
         at = (at + 1) & (tokenizer->n_pairs - 1)) {
        if (tokenizer->pairs[at].key == key) {
            return &tokenizer->pairs[at];
        }
    }
    return NULL;
}

static bool is_less(const candidate_t *a, const candidate_t *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static ag_status_t push(word_t *word, const candidate_t *candidate)
{
    ag_status_t status = ag_array_append(&word->heap, candidate, 1);
    candidate_t *heap = AG_ITEMS(&word->heap, candidate_t);
    size_t at = word->heap.n_items - 1;

    if (status != AG_OK) {
        return status;
    }
    while (at > 0 && is_less(&heap[at], &heap[(at - 1) / 2])) {
        candidate_t other = heap[at];

        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = other;
        at = (at - 1) / 2;
    }
    return AG_OK;
}

static candidate_t pop(word_t *word)
{
    candidate_t *heap = AG_ITEMS(&word->heap, candidate_t);
    candidate_t least = heap[0];
    size_t n = --word->heap.n_items, at = 0;

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

static ag_status_t consider(word_t *word, int32_t left)
{
    const symbol_t *symbols = AG_ITEMS(&word->symbols, symbol_t);
    const ag_pair_slot_t *pair;
    int32_t right = left >= 0 ? symbols[left].right : -1;

    if (right < 0) {
        return AG_OK;
    }
    pair = find_pair(word->tokenizer, symbols[left].id, symbols[right].id);
    return pair == NULL ? AG_OK
                        : push(word, &(candidate_t){.rank = pair->rank,
                                                    .at = left,
                                                    .left_id = symbols[left].id,
                                                    .right_id = symbols[right].id,
                                                    .id = pair->id});
}

static ag_status_t merge_all(word_t *word)
{
    symbol_t *symbols = AG_ITEMS(&word->symbols, symbol_t);
    ag_status_t status = AG_OK;

    while (word->heap.n_items > 0 && status == AG_OK) {
        candidate_t best = pop(word);
        symbol_t *left = &symbols[best.at];
        symbol_t *right = left->right >= 0 ? &symbols[left->right] : NULL;

        if (right == NULL || left->id != best.left_id || right->id != best.right_id) {
            continue; /* one of the two was merged meanwhile */
        }
        left->id = best.id;
        right->id = AG_NO_ID;
        left->right = right->right;
        if (left->right >= 0) {
            symbols[left->right].left = best.at;
        }
        status = consider(word, left->left);
        if (status == AG_OK) {
            status = consider(word, best.at);
        }
    }
    return status;
}

/* Bytes that have no token are dropped, as Hugging Face's tokenizers do without an unknown token.
 */
static ag_status_t split_bytes(word_t *word, const char *bytes, size_t n_bytes)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_bytes && status == AG_OK; i++) {
        uint32_t id = word->tokenizer->byte_ids[(unsigned char)bytes[i]];
        int32_t at = (int32_t)word->symbols.n_items;

        if (id != AG_NO_ID) {
            status = ag_array_append(&word->symbols,
                                     &(symbol_t){.id = id, .left = at - 1, .right = at + 1}, 1);
        }
    }
    if (status == AG_OK && word->symbols.n_items > 0) {
        AG_ITEMS(&word->symbols, symbol_t)[word->symbols.n_items - 1].right = -1;
    }
    for (size_t i = 0; i < word->symbols.n_items && status == AG_OK; i++) {
        status = consider(word, (int32_t)i);
    }
    return status;
}

ag_status_t ag_bpe_encode(const ag_tokenizer_t *tokenizer, const char *bytes, size_t n_bytes,
                          ag_array_t *ids)
{
    word_t word = {
        .tokenizer = tokenizer, .symbols = AG_ARRAY(symbol_t), .heap = AG_ARRAY(candidate_t)};
    uint32_t whole = tokenizer->ignore_merges ? ag_word_id(tokenizer, bytes, n_bytes) : AG_NO_ID;
    ag_status_t status;

    if (n_bytes > INT32_MAX) {
        return ag_fail(AG_ERR_INVALID, "a word of %zu bytes is too long", n_bytes);
    }
    if (whole != AG_NO_ID) {
        return ag_array_append(ids, &whole, 1);
    }
    status = split_bytes(&word, bytes, n_bytes);
    if (status == AG_OK) {
        status = merge_all(&word);
    }
    for (size_t i = 0; i < word.symbols.n_items && status == AG_OK; i++) {
        uint32_t id = AG_ITEMS(&word.symbols, symbol_t)[i].id;

        if (id != AG_NO_ID) {
            status = ag_array_append(ids, &id, 1);
        }
    }
    ag_array_fini(&word.symbols);
    ag_array_fini(&word.heap);
    return status;
}
