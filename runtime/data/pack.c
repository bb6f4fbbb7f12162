#include "runtime/data/pack_priv.h"

#include <stdlib.h>
#include <string.h>

enum { NO_ROW = UINT32_MAX };

/* A piece of the window. */
typedef struct entry {
    uint32_t piece;
    uint32_t length; /* places that it takes */
    uint32_t number; /* in the window's order */
    uint32_t row;    /* in the window */
} entry_t;

/* Rows of the window by what is left of them: a list for each number of places. */
typedef struct packer {
    uint32_t seq_length;
    entry_t *entries; /* (AG_PACK_PIECES) by length while they are packed, else by number */
    uint32_t n_entries, n_rows;
    uint32_t *left;   /* (AG_PACK_PIECES) of each row */
    uint32_t *next;   /* (AG_PACK_PIECES) row with as much left */
    uint32_t *heads;  /* (seq_length + 1) by places left */
    uint64_t *filled; /* (seq_length / 64 + 1) which lists have a row */
    uint32_t *places; /* (AG_PACK_PIECES) of each row: its number in the order of first pieces */
    uint32_t *counts; /* (AG_PACK_PIECES) pieces of that row, then where they go */
} packer_t;

static void fini_packer(packer_t *packer)
{
    free(packer->entries);
    free(packer->left);
    free(packer->next);
    free(packer->heads);
    free(packer->filled);
    free(packer->places);
    free(packer->counts);
}

static ag_status_t init_packer(packer_t *packer, uint32_t seq_length)
{
    *packer = (packer_t){
        .seq_length = seq_length,
        .entries = calloc(AG_PACK_PIECES, sizeof(*packer->entries)),
        .left = calloc(AG_PACK_PIECES, sizeof(*packer->left)),
        .next = calloc(AG_PACK_PIECES, sizeof(*packer->next)),
        .heads = calloc((size_t)seq_length + 1, sizeof(*packer->heads)),
        .filled = calloc((size_t)seq_length / 64 + 1, sizeof(*packer->filled)),
        .places = calloc(AG_PACK_PIECES, sizeof(*packer->places)),
        .counts = calloc(AG_PACK_PIECES, sizeof(*packer->counts)),
    };
    if (packer->entries == NULL || packer->left == NULL || packer->next == NULL ||
        packer->heads == NULL || packer->filled == NULL || packer->places == NULL ||
        packer->counts == NULL) {
        fini_packer(packer);
        return ag_fail_nomem("packing documents into rows",
                             AG_PACK_PIECES * sizeof(*packer->entries));
    }
    memset(packer->heads, 0xff, ((size_t)seq_length + 1) * sizeof(*packer->heads));
    return AG_OK;
}

static int longest_first(const void *a, const void *b)
{
    const entry_t *one = a, *other = b;

    if (one->length != other->length) {
        return one->length > other->length ? -1 : 1;
    }
    return one->number < other->number ? -1 : one->number > other->number;
}

static int first_first(const void *a, const void *b)
{
    const entry_t *one = a, *other = b;

    return one->number < other->number ? -1 : one->number > other->number;
}

/* The least number of places left in a row that has at least so many; NO_ROW: there is none. */
static uint32_t find_left(const packer_t *packer, uint32_t least)
{
    uint32_t n_words = packer->seq_length / 64 + 1;
    uint64_t word = packer->filled[least / 64] & ~0ull << least % 64;

    for (uint32_t i = least / 64; i < n_words; word = ++i < n_words ? packer->filled[i] : 0) {
        if (word != 0) {
            return i * 64 + (uint32_t)__builtin_ctzll(word);
        }
    }
    return NO_ROW;
}

static void put_row(packer_t *packer, uint32_t row, uint32_t left)
{
    packer->left[row] = left;
    packer->next[row] = packer->heads[left];
    packer->heads[left] = row;
    packer->filled[left / 64] |= 1ull << left % 64;
}

static uint32_t take_row(packer_t *packer, uint32_t left)
{
    uint32_t row = packer->heads[left];

    packer->heads[left] = packer->next[row];
    if (packer->heads[left] == NO_ROW) {
        packer->filled[left / 64] &= ~(1ull << left % 64);
    }
    return row;
}

static void pack_window(packer_t *packer)
{
    packer->n_rows = 0;
    qsort(packer->entries, packer->n_entries, sizeof(entry_t), longest_first);
    for (uint32_t i = 0; i < packer->n_entries; i++) {
        entry_t *entry = &packer->entries[i];
        uint32_t left = find_left(packer, entry->length);

        entry->row = left != NO_ROW ? take_row(packer, left) : packer->n_rows++;
        put_row(packer, entry->row, (left != NO_ROW ? left : packer->seq_length) - entry->length);
    }
    for (uint32_t row = 0; row < packer->n_rows; row++) { /* the lists are empty again */
        packer->heads[packer->left[row]] = NO_ROW;
        packer->filled[packer->left[row] / 64] &= ~(1ull << packer->left[row] % 64);
    }
    qsort(packer->entries, packer->n_entries, sizeof(entry_t), first_first);
}

/* Append the window's rows, in the order of their first pieces. */
static void write_window(packer_t *packer, ag_packing_t *packing, uint32_t n_before)
{
    uint32_t n_found = 0;

    memset(packer->places, 0xff, packer->n_rows * sizeof(*packer->places));
    memset(packer->counts, 0, packer->n_rows * sizeof(*packer->counts));
    for (uint32_t i = 0; i < packer->n_entries; i++) {
        uint32_t *place = &packer->places[packer->entries[i].row];

        *place = *place == NO_ROW ? n_found++ : *place;
        packer->counts[*place]++;
    }
    for (uint32_t row = 0, at = n_before; row < packer->n_rows; row++) {
        uint32_t n = packer->counts[row];

        packing->row_begin[packing->n_rows++] = packer->counts[row] = at;
        at += n;
    }
    for (uint32_t i = 0; i < packer->n_entries; i++) {
        uint32_t place = packer->places[packer->entries[i].row];

        packing->pieces[packer->counts[place]++] = packer->entries[i].piece;
    }
    packing->row_begin[packing->n_rows] = n_before + packer->n_entries;
}

/* The next pieces of the order. @return how many. */
static uint32_t fill_window(packer_t *packer, const ag_data_piece_t *pieces, uint32_t n_before,
                            uint32_t n_pieces, const ag_order_t *order)
{
    uint64_t room = (uint64_t)AG_PACK_ROWS * packer->seq_length;

    packer->n_entries = 0;
    while (packer->n_entries < AG_PACK_PIECES && n_before + packer->n_entries < n_pieces) {
        uint32_t number = n_before + packer->n_entries;
        uint32_t piece = order != NULL ? (uint32_t)ag_order_at(order, number) : number;
        uint32_t length = pieces[piece].n_tokens - 1;

        if (length > room) {
            break;
        }
        room -= length;
        packer->entries[packer->n_entries] =
            (entry_t){.piece = piece, .length = length, .number = packer->n_entries};
        packer->n_entries++;
    }
    return packer->n_entries;
}

ag_status_t ag_pack(const ag_data_piece_t *pieces, uint32_t n_pieces, uint32_t seq_length,
                    const ag_order_t *order, const ag_cancel_t *cancel, ag_packing_t *packing)
{
    packer_t packer;
    ag_status_t status = init_packer(&packer, seq_length);

    if (status != AG_OK) {
        return status;
    }
    *packing = (ag_packing_t){
        .pieces = calloc(n_pieces, sizeof(*packing->pieces)),
        .row_begin = calloc((size_t)n_pieces + 1, sizeof(*packing->row_begin)),
    };
    if (packing->pieces == NULL || packing->row_begin == NULL) {
        status = ag_fail_nomem("packing documents into rows", n_pieces * sizeof(uint32_t));
    }
    for (uint32_t at = 0; at < n_pieces && status == AG_OK; at += packer.n_entries) {
        if (ag_cancel_is_asked(cancel)) {
            status = ag_fail(AG_ERR_INTERRUPTED, "interrupted while packing documents into rows");
            break;
        }
        fill_window(&packer, pieces, at, n_pieces, order);
        pack_window(&packer);
        write_window(&packer, packing, at);
    }
    fini_packer(&packer);
    if (status != AG_OK) {
        ag_packing_fini(packing);
    }
    return status;
}

void ag_packing_fini(ag_packing_t *packing)
{
    free(packing->pieces);
    free(packing->row_begin);
    *packing = (ag_packing_t){0};
}
