/*
 * Attention of rows among themselves, with a running maximum and sum (Milakov and Gimelshein 2018;
 * Dao et al. 2022):
 *
 *     for each of my tiles: 64 rows of up to 4 query heads of a KV head
 *         for each 128 keys up to the tile's last row, of a window from its first row's first on
 *             scores (256, 128) = q * k^T; maximum, exponentials and sum of each row
 *             sums (256, head_dim) = sums * exp(old maximum - new) + p * v
 *         y = sums / sum, to which a sink is added
 *
 * All stays in L2. 4 * head_dim operations for each pair of row and key, by oneDNN: in bfloat16
 * where products need not be exact. Tiles of the last rows cost the most: they are dealt out first,
 * to and fro, so that threads have nearly the same.
 */
#include "runtime/kernel/self_attention_priv.h"

#include <math.h>
#include <string.h>

#include "runtime/kernel/spans_priv.h"

static size_t split_scratch(const ag_self_attention_t *attention, unsigned char *at,
                            ag_self_scratch_t *scratch)
{
    size_t heads = AG_SELF_QUERIES * (size_t)attention->head_dim * sizeof(float);
    size_t keys = AG_SELF_KEYS * (size_t)attention->head_dim * sizeof(float);
    size_t pairs = AG_SELF_QUERIES * AG_SELF_KEYS * sizeof(float);
    size_t rows = AG_SELF_QUERIES * sizeof(float);
    size_t sizes[11] = {heads, heads, keys, keys, pairs, pairs, pairs, pairs, heads, rows, rows};
    void *parts[11];
    size_t n_bytes = 0;

    for (int i = 0; i < 11; i++) {
        parts[i] = at == NULL ? NULL : at + n_bytes;
        n_bytes += ag_align_up(sizes[i]);
    }
    if (at != NULL) {
        *scratch = (ag_self_scratch_t){.q = parts[0],
                                       .dy = parts[1],
                                       .k = parts[2],
                                       .v = parts[3],
                                       .p = parts[4],
                                       .ds = parts[5],
                                       .scores = parts[6],
                                       .dp = parts[7],
                                       .sums = parts[8],
                                       .largest = parts[9],
                                       .total = parts[10]};
    }
    return n_bytes;
}

size_t ag_self_attention_scratch_bytes(const ag_self_attention_t *attention)
{
    return split_scratch(attention, NULL, NULL);
}

void ag_self_work_init(const ag_kernel_context_t *context, const ag_self_attention_t *attention,
                       ag_self_work_t *work)
{
    *work = (ag_self_work_t){.context = context,
                             .attention = attention,
                             .kind = ag_product_kind(context, attention->exact)};
    split_scratch(attention, context->scratch, &work->scratch);
}

bool ag_self_next_heads(const ag_self_attention_t *attention, uint32_t end, ag_self_tile_t *tile)
{
    tile->head_begin = tile->head_end;
    if (tile->head_begin >= end) {
        return false;
    }
    tile->kv_head = attention->kv_head[tile->head_begin];
    while (tile->head_end < end && tile->head_end - tile->head_begin < AG_SELF_HEADS &&
           attention->kv_head[tile->head_end] == tile->kv_head) {
        tile->head_end++;
    }
    return true;
}

void ag_self_find_heads(const ag_self_attention_t *attention, uint32_t kv_head,
                        ag_self_tile_t *tile)
{
    uint32_t h = 0;

    while (h < attention->n_heads && attention->kv_head[h] < kv_head) {
        h++;
    }
    tile->kv_head = kv_head;
    tile->head_begin = h;
    while (h < attention->n_heads && attention->kv_head[h] == kv_head) {
        h++;
    }
    tile->head_end = h;
}

/* The tile's heads are the next of the tile before: of a KV head all, or some. */
static bool next_heads(const ag_self_work_t *work, bool by_kv_head, uint32_t *kv_head,
                       ag_self_tile_t *tile)
{
    if (!by_kv_head) {
        return ag_self_next_heads(work->attention, work->attention->n_heads, tile);
    }
    if (*kv_head == work->attention->n_kv_heads) {
        return false;
    }
    ag_self_find_heads(work->attention, (*kv_head)++, tile);
    return true;
}

/* To and fro: 0 1 2 2 1 0 0 1 2 .. */
static bool is_mine(const ag_worker_t *worker, uint64_t number)
{
    uint64_t round = number / worker->n_threads, at = number % worker->n_threads;

    return (round % 2 == 0 ? at : worker->n_threads - 1 - at) == worker->thread;
}

static uint64_t count_tiles(const ag_step_t *step, uint64_t sequence)
{
    uint64_t n = (uint64_t)(step->row_begin[sequence + 1] - step->row_begin[sequence]);

    return (n + AG_SELF_ROWS - 1) / AG_SELF_ROWS;
}

static void place_tile(const ag_step_t *step, uint64_t sequence, uint64_t number,
                       ag_self_tile_t *tile)
{
    *tile = (ag_self_tile_t){.sequence_begin = (uint64_t)step->row_begin[sequence],
                             .sequence_end = (uint64_t)step->row_begin[sequence + 1]};
    tile->begin = tile->sequence_begin + number * AG_SELF_ROWS;
    tile->end = tile->begin + AG_SELF_ROWS < tile->sequence_end ? tile->begin + AG_SELF_ROWS
                                                                : tile->sequence_end;
}

void ag_self_for_tiles(const ag_self_work_t *work, bool last_is_costly, bool by_kv_head,
                       void (*fn)(const ag_self_work_t *work, const ag_self_tile_t *tile,
                                  void *arg),
                       void *arg)
{
    const ag_step_t *step = work->context->step;
    uint64_t n_sequences = step->counts[AG_COUNT_SEQUENCES], cost = 0, number = 0;

    for (uint64_t s = 0; s < n_sequences; s++) {
        cost = count_tiles(step, s) > cost ? count_tiles(step, s) : cost;
    }
    while (cost-- > 0) {
        for (uint64_t s = 0; s < n_sequences; s++) {
            uint64_t n = count_tiles(step, s);
            uint32_t kv_head = 0;
            ag_self_tile_t tile;

            if (cost >= n) {
                continue;
            }
            place_tile(step, s, last_is_costly ? cost : n - 1 - cost, &tile);
            while (next_heads(work, by_kv_head, &kv_head, &tile)) {
                if (s * work->attention->n_kv_heads + tile.kv_head >= work->n_whole &&
                    is_mine(work->context->worker, number++)) {
                    fn(work, &tile, arg);
                }
            }
        }
    }
}

void ag_self_load(const ag_self_work_t *work, ag_elements_t x, uint32_t n_heads,
                  uint32_t head_begin, uint32_t head_end, uint64_t begin, uint64_t end,
                  uint64_t n_padded, void *dst)
{
    uint32_t head_dim = work->attention->head_dim;
    size_t row_bytes = head_dim * ag_product_element_bytes(work->kind);
    unsigned char *at = dst;

    for (uint32_t h = head_begin; h < head_end; h++) {
        for (uint64_t i = begin; i < end; i++, at += row_bytes) {
            ag_product_convert(work->context, work->kind,
                               ag_elements_at(x, (i * n_heads + h) * head_dim), head_dim, at);
        }
        memset(at, 0, (n_padded - (end - begin)) * row_bytes);
        at += (n_padded - (end - begin)) * row_bytes;
    }
}

void ag_self_multiply(const ag_self_work_t *work, ag_gemm_form_t form, const void *a, const void *b,
                      float *c)
{
    form.kind = work->kind;
    ag_product_multiply(work->context, &form, a, b, c);
}

/* Scores of some keys to weights, against the maximum so far; what was summed is scaled to it. */
static void weigh(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t n_queries,
                  uint64_t key, uint64_t n_keys)
{
    const ag_self_scratch_t *scratch = &work->scratch;
    uint32_t head_dim = work->attention->head_dim;
    float cap = work->attention->score_cap, scale = cap > 0 ? 1 : work->attention->scale;

    for (uint64_t i = 0; i < n_queries; i++) {
        ag_self_keys_t seen = ag_self_seen(work, tile, i, key, n_keys);
        float *row = scratch->scores + i * n_keys + seen.first;
        float *sums = scratch->sums + i * head_dim;
        float was = scratch->largest[i], now, change = 1;
        unsigned char *weights = ag_self_clear_unseen(
            work, ag_self_pairs_row(work, scratch->p, i, n_keys), &seen, n_keys);
        uint64_t n = seen.last - seen.first;

        if (n == 0) {
            continue;
        }
        if (cap > 0) {
            ag_span_caps(work->context->isa, &(ag_caps_t){work->attention->scale, cap}, row, n,
                         row);
        }
        now = scale * ag_span_largest(work->context->isa, row, n);
        now = now > was ? now : was;
        if (now > was) {
            change = expf(was - now);
            for (uint32_t d = 0; d < head_dim; d++) {
                sums[d] *= change;
            }
        }
        scratch->largest[i] = now;
        scratch->total[i] =
            scratch->total[i] * change + ag_span_exps(work->context->isa, work->kind,
                                                      &(ag_exps_t){scale, now, 1}, row, n, weights);
    }
}

typedef struct forward {
    ag_elements_t q, k, v, y;
    float *lse;
} forward_t;

static void put_row(const ag_self_work_t *work, const float *sums, float scale, ag_elements_t y)
{
    float room[AG_SPAN];

    for (uint32_t at = 0, n; at < work->attention->head_dim; at += n) {
        float *to = ag_span_room(y, at, room);

        n = work->attention->head_dim - at < AG_SPAN ? work->attention->head_dim - at : AG_SPAN;
        for (uint32_t d = 0; d < n; d++) {
            to[d] = sums[at + d] * scale;
        }
        ag_span_put(work->context->isa, y, at, n, to);
    }
}

static void put_rows(const ag_self_work_t *work, const ag_self_tile_t *tile,
                     const forward_t *forward)
{
    const ag_self_scratch_t *scratch = &work->scratch;
    uint32_t n_heads = work->attention->n_heads, head_dim = work->attention->head_dim;

    for (uint32_t h = tile->head_begin; h < tile->head_end; h++) {
        for (uint64_t row = tile->begin; row < tile->end; row++) {
            uint64_t i = (h - tile->head_begin) * (uint64_t)AG_SELF_ROWS + row - tile->begin;
            float largest = scratch->largest[i], total = scratch->total[i], scale = 1;

            if (work->attention->sinks != NULL) {
                float sink = work->attention->sinks[h];

                largest = sink > largest ? sink : largest;
                scale = expf(scratch->largest[i] - largest);
                total = total * scale + expf(sink - largest);
            }
            scale /= total;
            put_row(work, scratch->sums + i * head_dim, scale,
                    ag_elements_at(forward->y, (row * n_heads + h) * head_dim));
            forward->lse[row * n_heads + h] = largest + logf(total);
        }
    }
}

static void run_tile(const ag_self_work_t *work, const ag_self_tile_t *tile, void *arg)
{
    const forward_t *forward = arg;
    const ag_self_scratch_t *scratch = &work->scratch;
    uint64_t n_queries = (uint64_t)AG_SELF_ROWS * (tile->head_end - tile->head_begin), n_keys;
    uint32_t head_dim = work->attention->head_dim, n_kv_heads = work->attention->n_kv_heads;

    ag_self_load(work, forward->q, work->attention->n_heads, tile->head_begin, tile->head_end,
                 tile->begin, tile->end, AG_SELF_ROWS, scratch->q);
    memset(scratch->sums, 0, n_queries * head_dim * sizeof(float));
    memset(scratch->total, 0, n_queries * sizeof(float));
    for (uint64_t i = 0; i < n_queries; i++) {
        scratch->largest[i] = -INFINITY;
    }
    for (uint64_t key = ag_self_first_key(work, tile, tile->begin, AG_SELF_KEYS); key < tile->end;
         key += n_keys) {
        uint64_t end = tile->end - key < AG_SELF_KEYS ? tile->end : key + AG_SELF_KEYS;

        n_keys = end - key > AG_SELF_ROWS ? AG_SELF_KEYS : AG_SELF_ROWS;
        ag_self_load(work, forward->k, n_kv_heads, tile->kv_head, tile->kv_head + 1, key, end,
                     n_keys, scratch->k);
        ag_self_load(work, forward->v, n_kv_heads, tile->kv_head, tile->kv_head + 1, key, end,
                     n_keys, scratch->v);
        ag_self_multiply(
            work,
            (ag_gemm_form_t){.m = n_queries, .n = n_keys, .k = head_dim, .b_by_columns = true},
            scratch->q, scratch->k, scratch->scores);
        weigh(work, tile, n_queries, key, n_keys);
        ag_self_multiply(work,
                         (ag_gemm_form_t){.m = n_queries, .n = head_dim, .k = n_keys, .add = true},
                         scratch->p, scratch->v, scratch->sums);
        ag_kernel_yield(work->context);
    }
    put_rows(work, tile, forward);
}

void ag_kernel_self_attention(const ag_kernel_context_t *context,
                              const ag_self_attention_t *attention, ag_elements_t q,
                              ag_elements_t k, ag_elements_t v, ag_elements_t y, float *lse)
{
    forward_t forward = {.q = q, .k = k, .v = v, .y = y, .lse = lse};
    ag_self_work_t work;

    ag_self_work_init(context, attention, &work);
    ag_self_for_tiles(&work, true, false, run_tile, &forward);
}
