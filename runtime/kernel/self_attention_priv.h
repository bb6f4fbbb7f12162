/* What attention without a cache and its gradient share. */
#pragma once

#include <string.h>

#include "runtime/kernel/product_priv.h"
#include "runtime/kernel/train.h"

enum {
    AG_SELF_ROWS = 64,  /* of a tile of queries, of each head */
    AG_SELF_HEADS = 4,  /* most query heads of a tile: they share a KV head */
    AG_SELF_KEYS = 128, /* most of a tile */
    AG_SELF_QUERIES = AG_SELF_ROWS * AG_SELF_HEADS,
};

/* A tile of one sequence and some heads: a unit of work. */
typedef struct ag_self_tile {
    uint64_t sequence_begin, sequence_end; /* rows of the step */
    uint64_t begin, end;                   /* the tile's */
    uint32_t head_begin, head_end;         /* query heads of one KV head */
    uint32_t kv_head;
} ag_self_tile_t;

/* A thread's scratch: factors in the form that is multiplied, the rest float32. */
typedef struct ag_self_scratch {
    void *q, *dy;           /* (queries, head_dim), head after head */
    void *k, *v;            /* (keys, head_dim) */
    void *p, *ds;           /* (queries, keys) */
    float *scores, *dp;     /* (queries, keys) */
    float *sums;            /* (queries, head_dim) */
    float *largest, *total; /* (queries) */
} ag_self_scratch_t;

typedef struct ag_self_work {
    const ag_kernel_context_t *context;
    const ag_self_attention_t *attention;
    ag_gemm_kind_t kind;
    uint64_t n_whole; /* so many KV heads, sequence after sequence, have no tiles */
    ag_self_scratch_t scratch;
} ag_self_work_t;

void ag_self_work_init(const ag_kernel_context_t *context, const ag_self_attention_t *attention,
                       ag_self_work_t *work);

/**
 * Call fn for this thread's tiles of AG_SELF_ROWS rows: each thread gets of the costly and of the
 * cheap ones.
 * @param last_is_costly  a tile costs what stands before it in its sequence; else what is behind.
 * @param by_kv_head      a tile for each KV head, of all its query heads; else for some of those.
 */
void ag_self_for_tiles(const ag_self_work_t *work, bool last_is_costly, bool by_kv_head,
                       void (*fn)(const ag_self_work_t *work, const ag_self_tile_t *tile,
                                  void *arg),
                       void *arg);

/** The next query heads of a KV head from tile->head_end on, before `end`. @return whether there
 * are any */
bool ag_self_next_heads(const ag_self_attention_t *attention, uint32_t end, ag_self_tile_t *tile);

/** The tile's KV head and all its query heads, which may be none. */
void ag_self_find_heads(const ag_self_attention_t *attention, uint32_t kv_head,
                        ag_self_tile_t *tile);

/** Rows begin to end - 1 of some heads of x (tokens, n_heads * head_dim), each head's filled up
 * with zeros to n_padded rows. */
void ag_self_load(const ag_self_work_t *work, ag_elements_t x, uint32_t n_heads,
                  uint32_t head_begin, uint32_t head_end, uint64_t begin, uint64_t end,
                  uint64_t n_padded, void *dst);

/** c (m, n), or added to it. @param form  sizes and orders; the kind is the work's. */
void ag_self_multiply(const ag_self_work_t *work, ag_gemm_form_t form, const void *a, const void *b,
                      float *c);

/* Some keys of a tile, from the first on and before the last. */
typedef struct ag_self_keys {
    uint64_t first, last;
} ag_self_keys_t;

/** Which of the keys from `key` on a row of the tile sees, none for rows that fill it up. */
static inline ag_self_keys_t ag_self_seen(const ag_self_work_t *work, const ag_self_tile_t *tile,
                                          uint64_t i, uint64_t key, uint64_t n_keys)
{
    uint64_t row = tile->begin + i % AG_SELF_ROWS, window = work->attention->window_tokens;
    ag_self_keys_t seen = {0};

    if (row >= tile->end || row < key || (window > 0 && row >= key + n_keys - 1 + window)) {
        return seen;
    }
    seen.first = window > 0 && row + 1 > key + window ? row + 1 - key - window : 0;
    seen.last = row - key + 1 < n_keys ? row - key + 1 : n_keys;
    return seen;
}

/** The first key that rows from `row` on see, at the beginning of a tile of n_keys. */
static inline uint64_t ag_self_first_key(const ag_self_work_t *work, const ag_self_tile_t *tile,
                                         uint64_t row, uint64_t n_keys)
{
    uint64_t window = work->attention->window_tokens, n = row + 1 - tile->sequence_begin;

    return window == 0 || n <= window ? tile->sequence_begin
                                      : tile->sequence_begin + (n - window) / n_keys * n_keys;
}

/** Row i of (queries, n_keys) in the form that is multiplied. */
static inline unsigned char *ag_self_pairs_row(const ag_self_work_t *work, void *pairs, uint64_t i,
                                               uint64_t n_keys)
{
    return (unsigned char *)pairs + i * n_keys * ag_product_element_bytes(work->kind);
}

/** Zeros for the keys that a row does not see. @return where those begin that it sees. */
static inline unsigned char *ag_self_clear_unseen(const ag_self_work_t *work, unsigned char *row,
                                                  const ag_self_keys_t *seen, uint64_t n_keys)
{
    size_t bytes = ag_product_element_bytes(work->kind);

    memset(row, 0, seen->first * bytes);
    memset(row + seen->last * bytes, 0, (n_keys - seen->last) * bytes);
    return row + seen->first * bytes;
}
