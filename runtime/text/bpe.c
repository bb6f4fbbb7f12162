/*
 * Byte pair encoding (Sennrich et al. 2016) of one word: the pair of least rank is merged first,
 * the leftmost among equals. A heap of candidates over a linked list: n log n, also for long words.
 */
#include "runtime/text/tokenizer_priv.h"

typedef struct symbol {
    uint32_t id;         /* AG_NO_ID: merged into its left neighbour */
    int32_t left, right; /* neighbours; -1: none */
} symbol_t;

typedef struct candidate {
    uint32_t rank;
    int32_t at; /* the left symbol */
} candidate_t;

void ag_bpe_init(ag_bpe_t *bpe, const ag_tokenizer_t *tokenizer)
{
    *bpe = (ag_bpe_t){
        .tokenizer = tokenizer, .symbols = AG_ARRAY(symbol_t), .heap = AG_ARRAY(candidate_t)};
}

void ag_bpe_fini(ag_bpe_t *bpe)
{
    ag_array_fini(&bpe->symbols);
    ag_array_fini(&bpe->heap);
}

uint64_t ag_bpe_bytes(const ag_bpe_t *bpe)
{
    return bpe->most_symbols * sizeof(symbol_t) + bpe->most_candidates * sizeof(candidate_t);
}

static bool is_less(const candidate_t *a, const candidate_t *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static ag_status_t push(ag_bpe_t *bpe, const candidate_t *candidate)
{
    ag_status_t status = ag_array_append(&bpe->heap, candidate, 1);
    candidate_t *heap = AG_ITEMS(&bpe->heap, candidate_t);
    size_t at = bpe->heap.n_items - 1;

    if (status != AG_OK) {
        return status;
    }
    if (at >= bpe->most_candidates) {
        bpe->most_candidates = at + 1;
    }
    while (at > 0 && is_less(&heap[at], &heap[(at - 1) / 2])) {
        candidate_t other = heap[at];

        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = other;
        at = (at - 1) / 2;
    }
    return AG_OK;
}

static candidate_t pop(ag_bpe_t *bpe)
{
    candidate_t *heap = AG_ITEMS(&bpe->heap, candidate_t);
    candidate_t least = heap[0];
    size_t n = --bpe->heap.n_items, at = 0;

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

static ag_status_t consider(ag_bpe_t *bpe, int32_t left)
{
    const symbol_t *symbols = AG_ITEMS(&bpe->symbols, symbol_t);
    int32_t right = left >= 0 ? symbols[left].right : -1;
    uint32_t rank;

    if (right < 0) {
        return AG_OK;
    }
    rank = bpe->tokenizer->pairs[ag_pair_slot(bpe->tokenizer, symbols[left].id, symbols[right].id)];
    return rank == AG_NO_ID ? AG_OK : push(bpe, &(candidate_t){.rank = rank, .at = left});
}

static ag_status_t merge_all(ag_bpe_t *bpe)
{
    const ag_merge_t *merges = AG_ITEMS(&bpe->tokenizer->merges, ag_merge_t);
    symbol_t *symbols = AG_ITEMS(&bpe->symbols, symbol_t);
    ag_status_t status = AG_OK;

    while (bpe->heap.n_items > 0 && status == AG_OK) {
        candidate_t best = pop(bpe);
        const ag_merge_t *merge = &merges[best.rank];
        symbol_t *left = &symbols[best.at];
        symbol_t *right = left->right >= 0 ? &symbols[left->right] : NULL;

        if (right == NULL || left->id != merge->left || right->id != merge->right) {
            continue; /* one of the two was merged meanwhile */
        }
        left->id = merge->id;
        right->id = AG_NO_ID;
        left->right = right->right;
        if (left->right >= 0) {
            symbols[left->right].left = best.at;
        }
        status = consider(bpe, left->left);
        if (status == AG_OK) {
            status = consider(bpe, best.at);
        }
    }
    return status;
}

/* Bytes that have no token are dropped, as Hugging Face's tokenizers do without an unknown token.
 */
static ag_status_t split_bytes(ag_bpe_t *bpe, const char *bytes, size_t n_bytes)
{
    ag_status_t status = AG_OK;
    size_t n;

    bpe->symbols.n_items = 0;
    bpe->heap.n_items = 0;
    for (size_t i = 0; i < n_bytes && status == AG_OK; i++) {
        uint32_t id = bpe->tokenizer->byte_ids[(unsigned char)bytes[i]];
        int32_t at = (int32_t)bpe->symbols.n_items;

        if (id != AG_NO_ID) {
            status = ag_array_append(&bpe->symbols,
                                     &(symbol_t){.id = id, .left = at - 1, .right = at + 1}, 1);
        }
    }
    n = bpe->symbols.n_items;
    if (n > bpe->most_symbols) {
        bpe->most_symbols = n;
    }
    if (status == AG_OK && n > 0) {
        AG_ITEMS(&bpe->symbols, symbol_t)[n - 1].right = -1;
    }
    for (size_t i = 0; i < n && status == AG_OK; i++) {
        status = consider(bpe, (int32_t)i);
    }
    return status;
}

ag_status_t ag_bpe_encode(ag_bpe_t *bpe, const char *bytes, size_t n_bytes, ag_array_t *ids)
{
    uint32_t whole =
        bpe->tokenizer->ignore_merges ? ag_word_id(bpe->tokenizer, bytes, n_bytes) : AG_NO_ID;
    ag_status_t status;

    if (n_bytes > INT32_MAX) {
        return ag_fail(AG_ERR_INVALID, "a word of %zu bytes is too long", n_bytes);
    }
    if (whole != AG_NO_ID) {
        return ag_array_append(ids, &whole, 1);
    }
    status = split_bytes(bpe, bytes, n_bytes);
    if (status == AG_OK) {
        status = merge_all(bpe);
    }
    for (size_t i = 0; i < bpe->symbols.n_items && status == AG_OK; i++) {
        uint32_t id = AG_ITEMS(&bpe->symbols, symbol_t)[i].id;

        if (id != AG_NO_ID) {
            status = ag_array_append(ids, &id, 1);
        }
    }
    return status;
}
