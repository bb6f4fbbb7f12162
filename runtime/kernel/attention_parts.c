/*
 * Attention of few rows over a long cache. A step of few rows is one tile a sequence: there the
 * positions are cut into parts, which all threads share out by KV head and part, and what each part
 * gathered is put together behind a barrier (Dao et al. 2023, Flash-Decoding):
 *
 *     for each of my (KV head, part): its positions against all rows and query heads: attention.c
 *     barrier
 *     for each of my (row, query head): parts in their order, by the largest maximum
 *
 * Where it is cut depends on the position alone, so that bits do not depend on the threads.
 */
#include <math.h>
#include <string.h>

#include "runtime/kernel/attention_priv.h"

enum { MERGE_COLUMNS = 16 }; /* whose sums stay in registers */

/* How the positions [begin, end) that a tile's rows see are cut: whole spans but for the last. */
typedef struct cut {
    uint32_t begin, end, part_positions, n_parts;
} cut_t;

static cut_t cut_tile(const ag_step_t *step, const ag_attention_t *attention, const ag_kv_t *kv,
                      const ag_attention_piece_t *tile)
{
    uint32_t first = ag_attention_first(attention, step->positions[tile->row_begin]);
    uint32_t span = AG_ATTEND_BLOCKS * kv->block_tokens, n_spans, n;
    cut_t cut = {.begin = first / span * span,
                 .end = (uint32_t)step->positions[tile->row_end - 1] + 1};

    n_spans = (cut.end - cut.begin + span - 1) / span;
    n = n_spans < AG_ATTENTION_PARTS ? n_spans : AG_ATTENTION_PARTS;
    cut.part_positions = (n_spans + n - 1) / n * span;
    cut.n_parts = (cut.end - cut.begin + cut.part_positions - 1) / cut.part_positions;
    return cut;
}

/* Where a row's part of a head stands: what it gathered, its maximum and its sum. */
static uint64_t part_at(const ag_attention_t *attention, const ag_kv_t *kv, uint64_t row,
                        uint64_t head, uint32_t part)
{
    return ((row * attention->n_heads + head) * AG_ATTENTION_PARTS + part) *
           ((uint64_t)ag_kv_value_dim(kv) + 2);
}

static void run_part(const ag_kernel_context_t *context, const ag_attention_t *attention,
                     const ag_kv_t *kv, const ag_attention_piece_t *piece, const float *q,
                     uint32_t part, const cut_t *cut, float *parts)
{
    uint64_t n_heads = piece->head_end - piece->head_begin, value_dim = ag_kv_value_dim(kv);
    uint32_t begin = cut->begin + part * cut->part_positions;
    uint32_t end = cut->end - begin < cut->part_positions ? cut->end : begin + cut->part_positions;

    ag_attention_run(context, attention, kv, piece, q, begin, end);
    for (uint64_t at = 0; at < (piece->row_end - piece->row_begin) * n_heads; at++) {
        float *dst = parts + part_at(attention, kv, piece->row_begin + at / n_heads,
                                     piece->head_begin + at % n_heads, part);

        memcpy(dst, piece->gathered + at * value_dim, value_dim * sizeof(float));
        dst[value_dim] = piece->maximum[at];
        dst[value_dim + 1] = piece->sum[at];
    }
}

uint32_t ag_attention_parts_width(const ag_attention_t *attention, uint32_t value_dim)
{
    return attention->n_heads * AG_ATTENTION_PARTS * (value_dim + 2);
}

/* This thread's pieces among all: KV head by KV head, part by part of every tile. */
static uint64_t count_pieces(const ag_step_t *step, const ag_attention_t *attention,
                             const ag_kv_t *kv)
{
    ag_attention_piece_t tile = {0};
    uint64_t n = 0;

    while (ag_attention_next_tile(step, &tile)) {
        n += kv->n_kv_heads * cut_tile(step, attention, kv, &tile).n_parts;
    }
    return n;
}

void ag_kernel_attention_parts(const ag_kernel_context_t *context, const ag_attention_t *attention,
                               const ag_kv_t *kv, const float *q, float *parts)
{
    const ag_step_t *step = context->step;
    uint64_t number = 0, begin, end;
    ag_attention_piece_t piece;

    ag_attention_split_scratch(attention, kv, context->scratch, &piece);
    ag_worker_share(context->worker, count_pieces(step, attention, kv), 1, &begin, &end);
    while (number < end && ag_attention_next_tile(step, &piece)) {
        cut_t cut = cut_tile(step, attention, kv, &piece);
        uint32_t n_parts = cut.n_parts;

        for (uint32_t i = 0; i < kv->n_kv_heads * n_parts && number < end; i++, number++) {
            if (number < begin) {
                continue;
            }
            piece.kv_head = i / n_parts;
            piece.next_head = (i + 1) / n_parts;
            piece.next_first = number + 1 < end && piece.next_head < kv->n_kv_heads
                                   ? cut.begin + (i + 1) % n_parts * cut.part_positions
                                   : UINT32_MAX;
            ag_attention_find_heads(attention, &piece);
            run_part(context, attention, kv, &piece, q, i % n_parts, &cut, parts);
            ag_kernel_yield(context);
        }
    }
}

/* y[0 .. n) = sum of parts times scales, over the sum of sums. */
static inline void merge_columns(const float *parts, uint64_t stride, uint32_t n_parts,
                                 const float *scales, float sum, uint32_t n, float *y)
{
    float gathered[MERGE_COLUMNS] = {0};

    for (uint32_t p = 0; p < n_parts; p++) {
        for (uint32_t d = 0; d < n; d++) {
            gathered[d] += parts[p * stride + d] * scales[p];
        }
    }
    for (uint32_t d = 0; d < n; d++) {
        y[d] = gathered[d] / sum;
    }
}

/* Parts of one row and head, in their order. */
static void merge_row(const ag_attention_t *attention, const ag_kv_t *kv, uint64_t head,
                      const float *parts, uint32_t n_parts, float *y)
{
    uint32_t value_dim = ag_kv_value_dim(kv);
    uint64_t stride = (uint64_t)value_dim + 2;
    float maximum = -INFINITY, sum = 0, scales[AG_ATTENTION_PARTS];
    uint32_t d = 0;

    for (uint32_t p = 0; p < n_parts; p++) {
        maximum = fmaxf(maximum, parts[p * stride + value_dim]);
    }
    for (uint32_t p = 0; p < n_parts; p++) {
        const float *last = parts + p * stride + value_dim;

        /* a part that the row does not see has a sum of 0 and no maximum */
        scales[p] = last[1] > 0 ? expf(last[0] - maximum) : 0;
        sum += last[1] * scales[p];
    }
    sum += ag_attention_sink(attention, head, maximum);
    for (; d + MERGE_COLUMNS <= value_dim; d += MERGE_COLUMNS) {
        merge_columns(parts + d, stride, n_parts, scales, sum, MERGE_COLUMNS, y + d);
    }
    merge_columns(parts + d, stride, n_parts, scales, sum, value_dim - d, y + d);
}

void ag_kernel_attention_merge(const ag_kernel_context_t *context, const ag_attention_t *attention,
                               const ag_kv_t *kv, const float *parts, float *y)
{
    const ag_step_t *step = context->step;
    uint64_t n_heads = attention->n_heads, begin, end;
    ag_attention_piece_t tile = {0};

    ag_worker_share(context->worker, step->counts[AG_COUNT_TOKENS] * n_heads, 1, &begin, &end);
    while (ag_attention_next_tile(step, &tile)) {
        uint64_t first = tile.row_begin * n_heads, last = tile.row_end * n_heads;
        uint32_t n_parts = cut_tile(step, attention, kv, &tile).n_parts;

        for (uint64_t at = first > begin ? first : begin; at < last && at < end; at++) {
            merge_row(attention, kv, at % n_heads,
                      parts + part_at(attention, kv, at / n_heads, at % n_heads, 0), n_parts,
                      y + at * ag_kv_value_dim(kv));
        }
    }
}
