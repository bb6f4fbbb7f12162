/*
 * The gradient of attention of rows among themselves (Dao et al. 2022): weights are computed again
 * from the logarithm of their sum, in two walks, so that no two threads add to one place.
 *
 *     D = rowsum(dy * y), p = exp(scale * q * k^T - lse), ds = p * (dy * v^T - D) * scale
 *
 *     for each of my tiles of queries, for each 128 keys up to its last row: dq += ds * k
 *     for each of my tiles of keys, for its query heads and 64 rows from its first on:
 *                                                          dv += p^T * dy, dk += ds^T * q
 *
 * 14 * head_dim operations for each pair of row and key.
 */
#include "runtime/kernel/self_attention_priv.h"

#include <math.h>
#include <string.h>

#include "runtime/kernel/spans_priv.h"

typedef struct backward {
    const ag_self_attention_saved_t *saved;
    const float *dy;
    float *dq, *dk, *dv;
} backward_t;

/* q and dy of a tile's heads; lse and D of its rows as largest and total. */
static void load_queries(const ag_self_work_t *work, const ag_self_tile_t *tile,
                         const backward_t *backward)
{
    const ag_self_scratch_t *scratch = &work->scratch;
    const ag_self_attention_saved_t *saved = backward->saved;
    uint32_t n_heads = work->attention->n_heads, head_dim = work->attention->head_dim;

    ag_self_load(work, saved->q, n_heads, tile->head_begin, tile->head_end, tile->begin, tile->end,
                 AG_SELF_ROWS, scratch->q);
    ag_self_load(work, backward->dy, n_heads, tile->head_begin, tile->head_end, tile->begin,
                 tile->end, AG_SELF_ROWS, scratch->dy);
    for (uint32_t h = tile->head_begin; h < tile->head_end; h++) {
        for (uint64_t row = tile->begin; row < tile->end; row++) {
            uint64_t i = (h - tile->head_begin) * (uint64_t)AG_SELF_ROWS + row - tile->begin;
            uint64_t at = row * n_heads + h;

            scratch->largest[i] = saved->lse[at];
            scratch->total[i] =
                ag_dot(backward->dy + at * head_dim, saved->y + at * head_dim, head_dim);
        }
    }
}

static void load_keys(const ag_self_work_t *work, const ag_self_tile_t *tile,
                      const backward_t *backward, uint64_t begin, uint64_t end, uint64_t n_keys)
{
    uint32_t n_kv_heads = work->attention->n_kv_heads;

    ag_self_load(work, backward->saved->k, n_kv_heads, tile->kv_head, tile->kv_head + 1, begin, end,
                 n_keys, work->scratch.k);
    ag_self_load(work, backward->saved->v, n_kv_heads, tile->kv_head, tile->kv_head + 1, begin, end,
                 n_keys, work->scratch.v);
}

/* p and ds of a tile's queries and some keys, both loaded, in the form that is multiplied. */
static void find_slopes(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t key,
                        uint64_t n_keys)
{
    const ag_self_scratch_t *scratch = &work->scratch;
    uint64_t n_queries = (uint64_t)AG_SELF_ROWS * (tile->head_end - tile->head_begin);
    ag_gemm_form_t form = {
        .m = n_queries, .n = n_keys, .k = work->attention->head_dim, .b_by_columns = true};

    ag_self_multiply(work, form, scratch->q, scratch->k, scratch->scores);
    ag_self_multiply(work, form, scratch->dy, scratch->v, scratch->dp);
    for (uint64_t i = 0; i < n_queries; i++) {
        uint64_t seen = ag_self_seen(tile, i, key, n_keys);
        float *p = scratch->scores + i * n_keys, *ds = scratch->dp + i * n_keys;
        float scale = work->attention->scale;

        ag_span_exps(work->context->isa, &(ag_exps_t){scale, scratch->largest[i], 1}, p, seen, p);
        for (uint64_t j = 0; j < seen; j++) {
            ds[j] = p[j] * (ds[j] - scratch->total[i]) * scale;
        }
        memset(p + seen, 0, (n_keys - seen) * sizeof(float));
        memset(ds + seen, 0, (n_keys - seen) * sizeof(float));
    }
    ag_product_convert(work->context, work->kind, scratch->scores, n_queries * n_keys, scratch->p);
    ag_product_convert(work->context, work->kind, scratch->dp, n_queries * n_keys, scratch->ds);
}

/* Sums of a tile to rows begin to end - 1 of one head. */
static void put_sums(const ag_self_work_t *work, const float *sums, uint64_t begin, uint64_t end,
                     uint32_t n_heads, uint32_t head, float *dst)
{
    uint32_t head_dim = work->attention->head_dim;

    for (uint64_t row = begin; row < end; row++) {
        memcpy(dst + (row * n_heads + head) * head_dim, sums + (row - begin) * head_dim,
               head_dim * sizeof(float));
    }
}

static void run_queries(const ag_self_work_t *work, const ag_self_tile_t *tile, void *arg)
{
    const backward_t *backward = arg;
    const ag_self_scratch_t *scratch = &work->scratch;
    uint32_t head_dim = work->attention->head_dim;
    uint64_t n_queries = (uint64_t)AG_SELF_ROWS * (tile->head_end - tile->head_begin), n_keys;

    load_queries(work, tile, backward);
    memset(scratch->sums, 0, n_queries * head_dim * sizeof(float));
    for (uint64_t key = tile->sequence_begin; key < tile->end; key += n_keys) {
        uint64_t end = tile->end - key < AG_SELF_KEYS ? tile->end : key + AG_SELF_KEYS;

        n_keys = end - key > AG_SELF_ROWS ? AG_SELF_KEYS : AG_SELF_ROWS;
        load_keys(work, tile, backward, key, end, n_keys);
        find_slopes(work, tile, key, n_keys);
        ag_self_multiply(work,
                         (ag_gemm_form_t){.m = n_queries, .n = head_dim, .k = n_keys, .add = true},
                         scratch->ds, scratch->k, scratch->sums);
    }
    for (uint32_t h = tile->head_begin; h < tile->head_end; h++) {
        put_sums(work, scratch->sums + (uint64_t)(h - tile->head_begin) * AG_SELF_ROWS * head_dim,
                 tile->begin, tile->end, work->attention->n_heads, h, backward->dq);
    }
}

static void run_keys(const ag_self_work_t *work, const ag_self_tile_t *tile, void *arg)
{
    const backward_t *backward = arg;
    const ag_self_scratch_t *scratch = &work->scratch;
    uint32_t head_dim = work->attention->head_dim, n_kv_heads = work->attention->n_kv_heads;
    ag_self_tile_t queries = *tile;

    load_keys(work, tile, backward, tile->begin, tile->end, AG_SELF_ROWS);
    memset(scratch->sums, 0, (size_t)AG_SELF_ROWS * head_dim * sizeof(float));
    memset(scratch->sums2, 0, (size_t)AG_SELF_ROWS * head_dim * sizeof(float));
    for (queries.head_end = tile->head_begin;
         ag_self_next_heads(work->attention, tile->head_end, &queries);) {
        ag_gemm_form_t form = {.m = AG_SELF_ROWS,
                               .n = head_dim,
                               .k =
                                   (uint64_t)AG_SELF_ROWS * (queries.head_end - queries.head_begin),
                               .a_by_columns = true,
                               .add = true};

        for (queries.begin = tile->begin; queries.begin < tile->sequence_end;
             queries.begin = queries.end) {
            queries.end = queries.begin + AG_SELF_ROWS < tile->sequence_end
                              ? queries.begin + AG_SELF_ROWS
                              : tile->sequence_end;
            load_queries(work, &queries, backward);
            find_slopes(work, &queries, tile->begin, AG_SELF_ROWS);
            ag_self_multiply(work, form, scratch->p, scratch->dy, scratch->sums);
            ag_self_multiply(work, form, scratch->ds, scratch->q, scratch->sums2);
        }
    }
    put_sums(work, scratch->sums, tile->begin, tile->end, n_kv_heads, tile->kv_head, backward->dv);
    put_sums(work, scratch->sums2, tile->begin, tile->end, n_kv_heads, tile->kv_head, backward->dk);
}

void ag_kernel_self_attention_grad(const ag_kernel_context_t *context,
                                   const ag_self_attention_t *attention,
                                   const ag_self_attention_saved_t *saved, const float *dy,
                                   float *dq, float *dk, float *dv)
{
    backward_t backward = {.saved = saved, .dy = dy, .dq = dq, .dk = dk, .dv = dv};
    ag_self_work_t work;

    ag_self_work_init(context, attention, &work);
    ag_self_for_tiles(&work, true, false, run_queries, &backward);
    ag_self_for_tiles(&work, false, true, run_keys, &backward);
}
