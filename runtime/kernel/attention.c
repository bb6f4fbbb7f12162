/*
 * Causal attention over a KV cache in blocks, for a tile of up to 16 rows and the query heads that
 * share a KV head:
 *
 *     for each block of positions, oldest first: its keys and values to float32 (in L1)
 *         for each row of the tile, each head: scores with the block's keys
 *             running maximum and sum; what was gathered so far is scaled when the maximum grows
 *
 * A row may see a window of the last positions only: the first block is the one that the tile's
 * first row sees. A sink is added to the sum in the end.
 *
 * A block is read once per tile and KV head. 4 * head size operations per (query head, key) pair
 * seen. Tiles go to threads in turn, for later ones see more.
 *
 * What has few rows is cut by positions: attention_parts.c.
 */
#include <math.h>
#include <string.h>

#include "runtime/kernel/attention_priv.h"

enum {
    ROWS_AT_ONCE = 16,
    MANY_TILES = 8,
    SPAN_POSITIONS = AG_ATTEND_BLOCKS * AG_ATTEND_POSITIONS,
};

static uint64_t head_floats(const ag_kv_t *kv)
{
    return (uint64_t)kv->block_tokens * kv->head_dim;
}

/* What stands apart of a KV head: keys, and values where these are no part of them. */
static uint32_t n_parts(const ag_kv_t *kv)
{
    return kv->value_dim > 0 ? 1 : 2;
}

uint64_t ag_kv_blocks_bytes(const ag_kv_t *kv, uint64_t n_blocks)
{
    return ag_dtype_bytes(kv->dtype, n_parts(kv) * kv->n_kv_heads * head_floats(kv)) * n_blocks;
}

/* Keys (which = 0) or values (1) of a KV head in a block. */
static unsigned char *block_part(const ag_kv_t *kv, int32_t block, uint32_t which, uint32_t head)
{
    uint64_t index = ((uint64_t)block * n_parts(kv) + which) * kv->n_kv_heads + head;

    return (unsigned char *)kv->blocks + ag_dtype_bytes(kv->dtype, index * head_floats(kv));
}

static uint32_t sequence_of(const ag_step_t *step, uint64_t row)
{
    uint32_t s = 0;

    while (row >= (uint64_t)step->row_begin[s + 1]) {
        s++;
    }
    return s;
}

/* n floats to places of a block, `stride` apart. */
static void store(const ag_kv_t *kv, const float *src, uint32_t n, void *dst, uint64_t first,
                  uint64_t stride)
{
    for (uint32_t i = 0; i < n; i++) {
        if (kv->dtype == AG_F32) {
            ((float *)dst)[first + i * stride] = src[i];
        } else {
            ((uint16_t *)dst)[first + i * stride] = ag_f32_to_f16(src[i]);
        }
    }
}

/* A head's row of k and of v to its position within a block. */
static void store_head(const ag_kv_t *kv, int32_t block, uint32_t head, uint64_t within,
                       const float *k, const float *v)
{
    void *keys = block_part(kv, block, 0, head);
    uint64_t first = within * kv->head_dim;

    if (kv->value_dim > 0) {
        store(kv, k, kv->value_dim, keys, first, 1);
        store(kv, v, kv->head_dim - kv->value_dim, keys, first + kv->value_dim, 1);
    } else {
        store(kv, k, kv->head_dim, keys, within, kv->block_tokens);
        store(kv, v, kv->head_dim, block_part(kv, block, 1, head), first, 1);
    }
}

void ag_kernel_kv_append(const ag_kernel_context_t *context, const ag_kv_t *kv, const float *k,
                         const float *v)
{
    const ag_step_t *step = context->step;
    uint64_t k_dim = ag_kv_value_dim(kv);
    uint64_t v_dim = kv->value_dim > 0 ? kv->head_dim - kv->value_dim : kv->head_dim, begin, end;

    ag_worker_share(context->worker, step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    for (uint64_t r = begin; r < end; r++) {
        uint32_t position = (uint32_t)step->positions[r];
        int32_t block = step->block_tables[(uint64_t)sequence_of(step, r) * step->table_stride +
                                           position / kv->block_tokens];

        for (uint32_t head = 0; head < kv->n_kv_heads; head++) {
            store_head(kv, block, head, position % kv->block_tokens,
                       k + (r * kv->n_kv_heads + head) * k_dim,
                       v + (r * kv->n_kv_heads + head) * v_dim);
        }
    }
}

/* The first positions of a block to (position, head_dim) float32; values that are part of keys are
 * not copied. */
static void load_block(const ag_kv_t *kv, int32_t block, const ag_attention_piece_t *piece,
                       uint32_t n_positions)
{
    const void *keys = block_part(kv, block, 0, piece->kv_head);

    if (kv->value_dim > 0) {
        ag_dtype_info(kv->dtype)->unpack(keys, piece->keys, (uint64_t)n_positions * kv->head_dim);
        return;
    }
    for (uint64_t d = 0; d < kv->head_dim; d++) {
        for (uint64_t i = 0; i < n_positions; i++) {
            uint64_t at = d * kv->block_tokens + i;

            piece->keys[i * kv->head_dim + d] = kv->dtype == AG_F32
                                                    ? ((const float *)keys)[at]
                                                    : ag_f16_to_f32(((const uint16_t *)keys)[at]);
        }
    }
    ag_dtype_info(kv->dtype)->unpack(block_part(kv, block, 1, piece->kv_head), piece->values,
                                     (uint64_t)n_positions * kv->head_dim);
}

static float score(const ag_attention_t *attention, const ag_kv_t *kv, const float *q,
                   const float *key)
{
    float product = ag_dot(q, key, kv->head_dim) * attention->scale, cap = attention->score_cap;

    return cap > 0 ? cap * tanhf(product / cap) : product;
}

/* One row and head against positions [first, n) of the block at hand. */
static void meet_block(const ag_attention_t *attention, const ag_kv_t *kv,
                       const ag_attention_piece_t *piece, const float *q, uint64_t at,
                       uint32_t first, uint32_t n)
{
    const float *values = kv->value_dim > 0 ? piece->keys : piece->values;
    uint32_t value_dim = ag_kv_value_dim(kv);
    float *gathered = piece->gathered + (uint64_t)at * value_dim;
    float largest = piece->maximum[at], rescale;

    for (uint32_t i = first; i < n; i++) {
        piece->scores[i] = score(attention, kv, q, piece->keys + (uint64_t)i * kv->head_dim);
        largest = piece->scores[i] > largest ? piece->scores[i] : largest;
    }
    rescale = expf(piece->maximum[at] - largest);
    piece->maximum[at] = largest;
    piece->sum[at] *= rescale;
    for (uint32_t d = 0; d < value_dim; d++) {
        gathered[d] *= rescale;
    }
    for (uint32_t i = first; i < n; i++) {
        const float *value = values + (uint64_t)i * kv->head_dim;
        float weight = expf(piece->scores[i] - largest);

        piece->sum[at] += weight;
        for (uint32_t d = 0; d < value_dim; d++) {
            gathered[d] += weight * value[d];
        }
    }
}

static void run_block(const ag_kernel_context_t *context, const ag_attention_t *attention,
                      const ag_kv_t *kv, const ag_attention_piece_t *piece, const float *q,
                      uint32_t first_position)
{
    uint64_t n_heads = piece->head_end - piece->head_begin;

    for (uint64_t r = piece->row_begin; r < piece->row_end; r++) {
        uint32_t position = (uint32_t)context->step->positions[r];
        uint32_t n = position + 1 - first_position;
        uint32_t first = ag_attention_first(attention, context->step->positions[r]);

        if (position < first_position || first >= first_position + kv->block_tokens) {
            continue;
        }
        first = first > first_position ? first - first_position : 0;
        n = n < kv->block_tokens ? n : kv->block_tokens;
        for (uint32_t h = piece->head_begin; h < piece->head_end; h++) {
            meet_block(attention, kv, piece, q + (r * attention->n_heads + h) * kv->head_dim,
                       (r - piece->row_begin) * n_heads + h - piece->head_begin, first, n);
        }
    }
}

/* Exact products are float32's, in plain C. */
static bool has_kernel(const ag_kernel_context_t *context, const ag_kv_t *kv)
{
    return context->isa != NULL && kv->dtype == AG_F16 && kv->block_tokens == AG_ATTEND_POSITIONS;
}

/* The blocks of a span that begins with a position; those that have none of [from, last] are NULL.
 */
static void find_span(const ag_kv_t *kv, const int32_t *table, uint32_t head, uint32_t first,
                      uint32_t from, uint32_t last, ag_attend_block_t blocks[AG_ATTEND_BLOCKS])
{
    for (uint32_t i = 0; i < AG_ATTEND_BLOCKS; i++) {
        uint64_t position =
            (uint64_t)first + i * kv->block_tokens; /* first may be the last number */
        int32_t block;

        blocks[i] = (ag_attend_block_t){0};
        if (position <= last && position + kv->block_tokens > from) {
            block = table[position / kv->block_tokens];
            blocks[i] = (ag_attend_block_t){
                .keys = kv->value_dim > 0 ? NULL : block_part(kv, block, 0, head),
                .values = block_part(kv, block, n_parts(kv) - 1, head)};
        }
    }
}

/* Rows and heads of the piece, a few at a time, against a span by the instruction set's kernel. */
static void attend_span(const ag_kernel_context_t *context, const ag_attention_t *attention,
                        const ag_kv_t *kv, const ag_attention_piece_t *piece, const int32_t *table,
                        const float *q, uint32_t first, uint32_t last)
{
    uint64_t n_heads = piece->head_end - piece->head_begin;
    uint64_t n = (piece->row_end - piece->row_begin) * n_heads;
    const int32_t *positions = context->step->positions;
    uint32_t from = ag_attention_first(attention, positions[piece->row_begin]);
    ag_attend_t args = {.head_dim = kv->head_dim,
                        .value_dim = ag_kv_value_dim(kv),
                        .scale = attention->scale,
                        .score_cap = attention->score_cap};

    find_span(kv, table, piece->kv_head, first, from, last, args.blocks);
    if (first + SPAN_POSITIONS <= last) {
        find_span(kv, table, piece->kv_head, first + SPAN_POSITIONS, from, last, args.ahead);
    } else {
        find_span(kv, table, piece->next_head, piece->next_first, from,
                  (uint32_t)positions[piece->row_end - 1], args.ahead);
    }
    for (uint64_t at = 0; at < n; at++) {
        uint64_t row = piece->row_begin + at / n_heads, head = piece->head_begin + at % n_heads;
        uint32_t position = (uint32_t)positions[row];
        uint32_t begin = ag_attention_first(attention, positions[row]);

        if (position >= first && begin < first + SPAN_POSITIONS) {
            uint32_t seen = position + 1 - first, i = args.n_rows++;

            args.q[i] = q + (row * attention->n_heads + head) * kv->head_dim;
            args.n_before[i] = begin > first ? begin - first : 0;
            args.n_positions[i] = seen < SPAN_POSITIONS ? seen : SPAN_POSITIONS;
            args.gathered[i] = piece->gathered + at * args.value_dim;
            args.maximum[i] = &piece->maximum[at];
            args.sum[i] = &piece->sum[at];
        }
        if (args.n_rows == AG_ATTEND_ROWS || (at + 1 == n && args.n_rows > 0)) {
            context->isa->attend(&args);
            memset(args.ahead, 0, sizeof(args.ahead)); /* the first rows have called it */
            args.n_rows = 0;
        }
    }
}

/* The same in plain C, block after block. */
static void attend_exactly(const ag_kernel_context_t *context, const ag_attention_t *attention,
                           const ag_kv_t *kv, const ag_attention_piece_t *piece,
                           const int32_t *table, const float *q, uint32_t first, uint32_t last)
{
    uint32_t n = last + 1 - first < kv->block_tokens ? last + 1 - first : kv->block_tokens;

    load_block(kv, table[first / kv->block_tokens], piece, n);
    run_block(context, attention, kv, piece, q, first);
}

void ag_attention_run(const ag_kernel_context_t *context, const ag_attention_t *attention,
                      const ag_kv_t *kv, const ag_attention_piece_t *piece, const float *q,
                      uint32_t begin, uint32_t end)
{
    const ag_step_t *step = context->step;
    uint64_t n_sums = (piece->row_end - piece->row_begin) * (piece->head_end - piece->head_begin);
    const int32_t *table = step->block_tables + (uint64_t)piece->sequence * step->table_stride;
    uint32_t first = ag_attention_first(attention, step->positions[piece->row_begin]);

    memset(piece->gathered, 0, n_sums * ag_kv_value_dim(kv) * sizeof(float));
    memset(piece->sum, 0, n_sums * sizeof(float));
    for (uint64_t i = 0; i < n_sums; i++) {
        piece->maximum[i] = -INFINITY;
    }
    while (begin < end) {
        if (has_kernel(context, kv)) {
            attend_span(context, attention, kv, piece, table, q, begin, end - 1);
            begin += SPAN_POSITIONS;
        } else {
            if (begin + kv->block_tokens > first) {
                attend_exactly(context, attention, kv, piece, table, q, begin, end - 1);
            }
            begin += kv->block_tokens;
        }
    }
}

static void run_piece(const ag_kernel_context_t *context, const ag_attention_t *attention,
                      const ag_kv_t *kv, const ag_attention_piece_t *piece, const float *q,
                      float *y)
{
    uint64_t n_heads = piece->head_end - piece->head_begin;
    uint64_t n_sums = (piece->row_end - piece->row_begin) * n_heads;
    const int32_t *positions = context->step->positions;
    uint32_t span = AG_ATTEND_BLOCKS * kv->block_tokens, value_dim = ag_kv_value_dim(kv);
    uint32_t begin = ag_attention_first(attention, positions[piece->row_begin]) / span * span;

    ag_attention_run(context, attention, kv, piece, q, begin,
                     (uint32_t)positions[piece->row_end - 1] + 1);
    for (uint64_t at = 0; at < n_sums; at++) {
        uint64_t row = piece->row_begin + at / n_heads, head = piece->head_begin + at % n_heads;
        float *out = y + (row * attention->n_heads + head) * value_dim;
        float scale =
            1.0f / (piece->sum[at] + ag_attention_sink(attention, head, piece->maximum[at]));

        for (uint32_t d = 0; d < value_dim; d++) {
            out[d] = piece->gathered[at * value_dim + d] * scale;
        }
    }
}

size_t ag_attention_split_scratch(const ag_attention_t *attention, const ag_kv_t *kv,
                                  float *scratch, ag_attention_piece_t *piece)
{
    uint64_t n_sums = (uint64_t)ROWS_AT_ONCE * attention->n_heads;
    uint64_t sizes[6] = {head_floats(kv),  head_floats(kv),
                         kv->block_tokens, n_sums * ag_kv_value_dim(kv),
                         n_sums,           n_sums};
    float *parts[6];
    uint64_t at = 0;

    for (int i = 0; i < 6; i++) {
        parts[i] = scratch == NULL ? NULL : scratch + at;
        at += ag_align_up(sizes[i] * sizeof(float)) / sizeof(float);
    }
    if (piece != NULL) {
        *piece = (ag_attention_piece_t){.next_first = UINT32_MAX,
                                        .keys = parts[0],
                                        .values = parts[1],
                                        .scores = parts[2],
                                        .gathered = parts[3],
                                        .maximum = parts[4],
                                        .sum = parts[5]};
    }
    return at * sizeof(float);
}

size_t ag_attention_scratch_bytes(const ag_attention_t *attention, const ag_kv_t *kv)
{
    return ag_attention_split_scratch(attention, kv, NULL, NULL);
}

void ag_attention_find_heads(const ag_attention_t *attention, ag_attention_piece_t *piece)
{
    piece->head_begin = 0;
    piece->head_end = attention->n_heads;
    if (attention->kv_head == NULL) {
        return;
    }
    while (piece->head_begin < attention->n_heads &&
           attention->kv_head[piece->head_begin] < piece->kv_head) {
        piece->head_begin++;
    }
    piece->head_end = piece->head_begin;
    while (piece->head_end < attention->n_heads &&
           attention->kv_head[piece->head_end] == piece->kv_head) {
        piece->head_end++;
    }
}

/* Some query heads of a tile: the KV heads that they use, one after the other. */
static void run_tile(const ag_kernel_context_t *context, const ag_attention_t *attention,
                     const ag_kv_t *kv, ag_attention_piece_t *piece, uint64_t head_begin,
                     uint64_t head_end, const float *q, float *y)
{
    for (piece->kv_head = 0; piece->kv_head < kv->n_kv_heads; piece->kv_head++) {
        ag_attention_find_heads(attention, piece);
        piece->head_begin = piece->head_begin > head_begin ? piece->head_begin : head_begin;
        piece->head_end = piece->head_end < head_end ? piece->head_end : head_end;
        if (piece->head_begin < piece->head_end) {
            run_piece(context, attention, kv, piece, q, y);
            ag_kernel_yield(context);
        }
    }
}

static uint64_t count_tiles(const ag_step_t *step)
{
    uint64_t n = 0;

    for (uint32_t s = 0; s < step->counts[AG_COUNT_SEQUENCES]; s++) {
        n += ((uint64_t)(step->row_begin[s + 1] - step->row_begin[s]) + ROWS_AT_ONCE - 1) /
             ROWS_AT_ONCE;
    }
    return n;
}

bool ag_attention_next_tile(const ag_step_t *step, ag_attention_piece_t *piece)
{
    uint64_t row = piece->row_end, end;

    if (row == step->counts[AG_COUNT_TOKENS]) {
        return false;
    }
    while (row >= (uint64_t)step->row_begin[piece->sequence + 1]) {
        piece->sequence++;
    }
    end = (uint64_t)step->row_begin[piece->sequence + 1];
    piece->row_begin = row;
    piece->row_end = end - row < ROWS_AT_ONCE ? end : row + ROWS_AT_ONCE;
    return true;
}

/* Many tiles go to the threads in turn; of few, every thread takes its share of the query heads. */
void ag_kernel_attention(const ag_kernel_context_t *context, const ag_attention_t *attention,
                         const ag_kv_t *kv, const float *q, float *y)
{
    const ag_worker_t *worker = context->worker;
    bool by_tiles = count_tiles(context->step) >= MANY_TILES * worker->n_threads;
    uint64_t number = 0, head_begin = 0, head_end = attention->n_heads;
    ag_attention_piece_t piece;

    ag_attention_split_scratch(attention, kv, context->scratch, &piece);
    if (!by_tiles) {
        ag_worker_share(worker, attention->n_heads, 1, &head_begin, &head_end);
    }
    while (ag_attention_next_tile(context->step, &piece)) {
        if (!by_tiles || number++ % worker->n_threads == worker->thread) {
            run_tile(context, attention, kv, &piece, head_begin, head_end, q, y);
        }
    }
}
