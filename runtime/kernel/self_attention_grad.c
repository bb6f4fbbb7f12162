/*
 * The gradient of attention of rows among themselves (Dao et al. 2022): weights are computed again
 * from the logarithm of their sum.
 *
 *     D = rowsum(dy * y), p = exp(scale * q * k^T - lse), ds = p * (dy * v^T - D) * scale, and
 * where scores are capped, times their slope dq += ds * k, dk += ds^T * q, dv += p^T * dy
 *
 *     for each sequence and KV head, for each of its tiles of queries (64 rows of up to 4 heads)
 *         for each 64 keys up to its last row: these products
 *
 * A thread takes sequences and KV heads, 10 * head_dim operations for each pair of row and key;
 * dk and dv are added to where they go. Of those that cannot be shared out evenly it takes tiles of
 * queries and sums up dq, then tiles of keys and sums up dk and dv: 14 * head_dim operations, the
 * same products added in the same order, so that the bits do not depend on it.
 */
#include "runtime/kernel/self_attention_priv.h"

#include <math.h>

#include "runtime/kernel/spans_priv.h"

typedef struct backward {
    const ag_self_attention_saved_t *saved;
    ag_elements_t dy;
    float *dq, *dk, *dv;
} backward_t;

/* Sums of spans, added in order. */
static float dot(const ag_isa_t *isa, ag_elements_t x, ag_elements_t y, uint64_t n)
{
    float of_x[AG_SPAN], of_y[AG_SPAN], sum = 0;

    for (uint64_t at = 0, n_span; at < n; at += n_span) {
        n_span = n - at < AG_SPAN ? n - at : AG_SPAN;
        sum += ag_dot(ag_span_floats(isa, x, at, n_span, of_x),
                      ag_span_floats(isa, y, at, n_span, of_y), n_span);
    }
    return sum;
}

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
            scratch->total[i] = dot(work->context->isa, ag_elements_at(backward->dy, at * head_dim),
                                    ag_elements_at(saved->y, at * head_dim), head_dim);
        }
    }
}

/* A tile of keys from `begin` on. @return its end */
static uint64_t load_keys(const ag_self_work_t *work, const ag_self_tile_t *tile,
                          const backward_t *backward, uint64_t begin)
{
    uint32_t n_kv_heads = work->attention->n_kv_heads;
    uint64_t end =
        begin + AG_SELF_ROWS < tile->sequence_end ? begin + AG_SELF_ROWS : tile->sequence_end;

    ag_self_load(work, backward->saved->k, n_kv_heads, tile->kv_head, tile->kv_head + 1, begin, end,
                 AG_SELF_ROWS, work->scratch.k);
    ag_self_load(work, backward->saved->v, n_kv_heads, tile->kv_head, tile->kv_head + 1, begin, end,
                 AG_SELF_ROWS, work->scratch.v);
    return end;
}

static uint64_t count_queries(const ag_self_tile_t *tile)
{
    return (uint64_t)AG_SELF_ROWS * (tile->head_end - tile->head_begin);
}

/* Does a row see keys from `key` on, and none but of that tile? */
static bool has_all(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t i,
                    uint64_t key)
{
    uint64_t row = tile->begin + i % AG_SELF_ROWS;

    return work->attention->sinks == NULL && row < tile->end && row >= key &&
           row < key + AG_SELF_ROWS && ag_self_first_key(work, tile, row, 1) >= key;
}

/*
 * D of a row all of whose keys are at hand, from what its ds are made of: rowsum(p * dp) /
 * rowsum(p). Then they add up to zero but for their own rounding, as dy * y, rounded another way,
 * does not make them: of a row with few keys, or one that looks at one key alone, that is most of
 * what is left of dp - D. A sink takes its part of the weights, and leaves nothing to cancel.
 */
static void balance(const ag_self_work_t *work, const float *scores, const float *dp, uint64_t n,
                    ag_slopes_t *slopes)
{
    float p[AG_SELF_ROWS], ds[AG_SELF_ROWS];
    double sum = 0, product = 0;

    ag_span_slopes(work->context->isa, AG_GEMM_F32, slopes, scores, dp, n, p, ds);
    for (uint64_t j = 0; j < n; j++) {
        sum += (double)p[j];
        product += (double)p[j] * (double)dp[j];
    }
    if (sum > 0) {
        slopes->mean = (float)(product / sum);
    }
}

/* p and ds of a tile's queries and the keys from `key` on, both loaded. */
static void find_slopes(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t key)
{
    const ag_self_scratch_t *scratch = &work->scratch;
    uint64_t n_queries = count_queries(tile);
    ag_gemm_form_t form = {
        .m = n_queries, .n = AG_SELF_ROWS, .k = work->attention->head_dim, .b_by_columns = true};

    ag_self_multiply(work, form, scratch->q, scratch->k, scratch->scores);
    ag_self_multiply(work, form, scratch->dy, scratch->v, scratch->dp);
    for (uint64_t i = 0; i < n_queries; i++) {
        ag_self_keys_t seen = ag_self_seen(work, tile, i, key, AG_SELF_ROWS);
        unsigned char *p = ag_self_pairs_row(work, scratch->p, i, AG_SELF_ROWS);
        unsigned char *ds = ag_self_pairs_row(work, scratch->ds, i, AG_SELF_ROWS);
        uint64_t first = i * AG_SELF_ROWS + seen.first;
        ag_slopes_t slopes = {work->attention->scale, work->attention->score_cap,
                              scratch->largest[i], scratch->total[i]};

        p = ag_self_clear_unseen(work, p, &seen, AG_SELF_ROWS);
        ds = ag_self_clear_unseen(work, ds, &seen, AG_SELF_ROWS);
        if (has_all(work, tile, i, key)) {
            balance(work, scratch->scores + first, scratch->dp + first, seen.last - seen.first,
                    &slopes);
        }
        ag_span_slopes(work->context->isa, work->kind, &slopes, scratch->scores + first,
                       scratch->dp + first, seen.last - seen.first, p, ds);
    }
    ag_kernel_yield(work->context);
}

/* A product for rows begin to end - 1 of one head to where it goes. @param add  or it is the first
 */
static void put_sums(const ag_self_work_t *work, const float *sums, uint64_t begin, uint64_t end,
                     uint32_t n_heads, uint32_t head, bool add, float *dst)
{
    uint32_t head_dim = work->attention->head_dim;

    for (uint64_t row = begin; row < end; row++) {
        const float *from = sums + (row - begin) * head_dim;
        float *to = dst + (row * n_heads + head) * head_dim;

        for (uint32_t d = 0; d < head_dim; d++) {
            to[d] = add ? to[d] + from[d] : from[d];
        }
    }
}

/* The first tile of keys that a tile of queries from `row` on sees. */
static uint64_t first_key(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t row)
{
    return ag_self_first_key(work, tile, row, AG_SELF_ROWS);
}

/* dq of a tile's queries: what the keys from `key` on, at hand, add. */
static void add_to_queries(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t key,
                           const backward_t *backward)
{
    const ag_self_scratch_t *scratch = &work->scratch;
    uint32_t head_dim = work->attention->head_dim;

    ag_self_multiply(work,
                     (ag_gemm_form_t){.m = count_queries(tile), .n = head_dim, .k = AG_SELF_ROWS},
                     scratch->ds, scratch->k, scratch->sums);
    for (uint32_t h = tile->head_begin; h < tile->head_end; h++) {
        put_sums(work, scratch->sums + (uint64_t)(h - tile->head_begin) * AG_SELF_ROWS * head_dim,
                 tile->begin, tile->end, work->attention->n_heads, h,
                 key > first_key(work, tile, tile->begin), backward->dq);
    }
}

/* dk and dv of the keys from `key` on: what a tile's queries, at hand, add. The first to do so
 * stands at the same rows, of the KV head's first query head. */
static void add_to_keys(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t key,
                        uint64_t end, bool is_first, const backward_t *backward)
{
    const ag_self_scratch_t *scratch = &work->scratch;
    uint32_t head_dim = work->attention->head_dim, n_kv_heads = work->attention->n_kv_heads;
    ag_gemm_form_t form = {
        .m = AG_SELF_ROWS, .n = head_dim, .k = count_queries(tile), .a_by_columns = true};

    ag_self_multiply(work, form, scratch->p, scratch->dy, scratch->sums);
    put_sums(work, scratch->sums, key, end, n_kv_heads, tile->kv_head, !is_first, backward->dv);
    ag_self_multiply(work, form, scratch->ds, scratch->q, scratch->sums);
    put_sums(work, scratch->sums, key, end, n_kv_heads, tile->kv_head, !is_first, backward->dk);
}

/* Keys of a KV head that no query head uses. */
static void clear_keys(const ag_self_work_t *work, const ag_self_tile_t *tile, uint64_t begin,
                       uint64_t end, const backward_t *backward)
{
    uint32_t head_dim = work->attention->head_dim, n_kv_heads = work->attention->n_kv_heads;

    for (uint64_t row = begin; row < end; row++) {
        uint64_t at = (row * n_kv_heads + tile->kv_head) * head_dim;

        memset(backward->dk + at, 0, head_dim * sizeof(float));
        memset(backward->dv + at, 0, head_dim * sizeof(float));
    }
}

/* The tile of queries from `begin` on. */
static ag_self_tile_t queries_from(const ag_self_tile_t *tile, uint64_t begin)
{
    ag_self_tile_t queries = *tile;

    queries.begin = begin;
    queries.end =
        begin + AG_SELF_ROWS < tile->sequence_end ? begin + AG_SELF_ROWS : tile->sequence_end;
    queries.head_end = tile->head_begin;
    return queries;
}

/* All of a sequence and KV head. */
static void run_whole(const ag_self_work_t *work, const ag_self_tile_t *tile,
                      const backward_t *backward)
{
    if (tile->head_begin == tile->head_end) {
        clear_keys(work, tile, tile->sequence_begin, tile->sequence_end, backward);
        return;
    }
    for (uint64_t at = tile->sequence_begin; at < tile->sequence_end; at += AG_SELF_ROWS) {
        ag_self_tile_t queries = queries_from(tile, at);

        while (ag_self_next_heads(work->attention, tile->head_end, &queries)) {
            load_queries(work, &queries, backward);
            for (uint64_t key = first_key(work, tile, at); key <= at; key += AG_SELF_ROWS) {
                uint64_t end = load_keys(work, tile, backward, key);

                find_slopes(work, &queries, key);
                add_to_queries(work, &queries, key, backward);
                add_to_keys(work, &queries, key, end,
                            key == at && queries.head_begin == tile->head_begin, backward);
            }
        }
    }
}

static void run_queries(const ag_self_work_t *work, const ag_self_tile_t *tile, void *arg)
{
    const backward_t *backward = arg;

    load_queries(work, tile, backward);
    for (uint64_t key = first_key(work, tile, tile->begin); key < tile->end; key += AG_SELF_ROWS) {
        load_keys(work, tile, backward, key);
        find_slopes(work, tile, key);
        add_to_queries(work, tile, key, backward);
    }
}

static void run_keys(const ag_self_work_t *work, const ag_self_tile_t *tile, void *arg)
{
    const backward_t *backward = arg;

    if (tile->head_begin == tile->head_end) {
        clear_keys(work, tile, tile->begin, tile->end, backward);
        return;
    }
    load_keys(work, tile, backward, tile->begin);
    for (uint64_t at = tile->begin;
         at < tile->sequence_end && first_key(work, tile, at) <= tile->begin; at += AG_SELF_ROWS) {
        ag_self_tile_t queries = queries_from(tile, at);

        while (ag_self_next_heads(work->attention, tile->head_end, &queries)) {
            load_queries(work, &queries, backward);
            find_slopes(work, &queries, tile->begin);
            add_to_keys(work, &queries, tile->begin, tile->end,
                        at == tile->begin && queries.head_begin == tile->head_begin, backward);
        }
    }
}

/* What a sequence costs of a KV head: its pairs of rows, about. */
static uint64_t cost_of(const ag_self_work_t *work, uint64_t sequence)
{
    const ag_step_t *step = work->context->step;
    uint64_t n = (uint64_t)(step->row_begin[sequence + 1] - step->row_begin[sequence]);
    uint64_t window = work->attention->window_tokens;

    return n * (window == 0 || n < window ? n : window);
}

/* The first n sequences and KV heads together. */
static uint64_t cost_of_first(const ag_self_work_t *work, uint64_t n)
{
    uint64_t n_kv_heads = work->attention->n_kv_heads, cost = 0;

    for (uint64_t s = 0; s < n / n_kv_heads; s++) {
        cost += cost_of(work, s) * n_kv_heads;
    }
    return n % n_kv_heads == 0 ? cost : cost + cost_of(work, n / n_kv_heads) * (n % n_kv_heads);
}

/* Which thread takes one whole: the one in whose share of the cost its middle lies. */
static uint64_t thread_of(uint64_t before, uint64_t cost, uint64_t all, uint64_t n_threads)
{
    return (before + cost / 2) * n_threads / all;
}

/* What the slowest thread has to do of the first n. */
static uint64_t most_of_first(const ag_self_work_t *work, uint64_t n, uint64_t all)
{
    uint64_t n_threads = work->context->worker->n_threads, before = 0, load = 0, most = 0, last = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t cost = cost_of(work, i / work->attention->n_kv_heads), thread;

        if (cost == 0) {
            continue;
        }
        thread = thread_of(before, cost, all, n_threads);
        load = thread == last ? load + cost : cost;
        most = load > most ? load : most;
        last = thread;
        before += cost;
    }
    return most;
}

/*
 * How many of the first sequences and KV heads threads take as a whole, so that the slowest has
 * least to do: all, or but for some fewer than there are threads, which are left to tiles, or none.
 */
static uint64_t choose_wholes(const ag_self_work_t *work)
{
    uint64_t n_threads = work->context->worker->n_threads, best_n = 0;
    uint64_t n = work->context->step->counts[AG_COUNT_SEQUENCES] * work->attention->n_kv_heads;
    uint64_t all = cost_of_first(work, n), best = 7 * all;

    for (uint64_t left = 0; left < n_threads && left < n; left++) {
        uint64_t whole = cost_of_first(work, n - left), time;

        if (whole == 0) {
            continue;
        }
        time = most_of_first(work, n - left, whole) * n_threads * 5 + (all - whole) * 7;
        if (time <= best) {
            best = time;
            best_n = n - left;
        }
    }
    return best_n;
}

static void run_wholes(const ag_self_work_t *work, const backward_t *backward)
{
    const ag_step_t *step = work->context->step;
    uint32_t n_kv_heads = work->attention->n_kv_heads;
    uint64_t all = cost_of_first(work, work->n_whole), before = 0;

    for (uint64_t i = 0; i < work->n_whole; i++) {
        uint64_t s = i / n_kv_heads, cost = cost_of(work, s);
        ag_self_tile_t tile = {.sequence_begin = (uint64_t)step->row_begin[s],
                               .sequence_end = (uint64_t)step->row_begin[s + 1]};

        if (cost > 0 && thread_of(before, cost, all, work->context->worker->n_threads) ==
                            work->context->worker->thread) {
            ag_self_find_heads(work->attention, (uint32_t)(i % n_kv_heads), &tile);
            run_whole(work, &tile, backward);
        }
        before += cost;
    }
}

void ag_kernel_self_attention_grad(const ag_kernel_context_t *context,
                                   const ag_self_attention_t *attention,
                                   const ag_self_attention_saved_t *saved, ag_elements_t dy,
                                   float *dq, float *dk, float *dv)
{
    backward_t backward = {.saved = saved, .dy = dy, .dq = dq, .dk = dk, .dv = dv};
    ag_self_work_t work;

    ag_self_work_init(context, attention, &work);
    work.n_whole = choose_wholes(&work);
    run_wholes(&work, &backward);
    ag_self_for_tiles(&work, true, false, run_queries, &backward);
    ag_self_for_tiles(&work, false, true, run_keys, &backward);
}

/* Of a sink: the weight that it takes of a row, times what the row's weights lose by it. */
void ag_kernel_sinks_grad(const ag_kernel_context_t *context, const ag_self_attention_t *attention,
                          const ag_self_attention_saved_t *saved, ag_elements_t dy, float *dsinks)
{
    const ag_step_t *step = context->step;
    uint64_t n_rows = (uint64_t)step->row_begin[step->counts[AG_COUNT_SEQUENCES]], begin, end;
    uint32_t n_heads = attention->n_heads, head_dim = attention->head_dim;

    ag_worker_share(context->worker, n_heads, 1, &begin, &end);
    for (uint64_t h = begin; h < end; h++) {
        double sum = 0;

        for (uint64_t row = 0; row < n_rows; row++) {
            uint64_t at = row * n_heads + h;
            float weight = expf(attention->sinks[h] - saved->lse[at]);

            sum += (double)(weight * dot(context->isa, ag_elements_at(dy, at * head_dim),
                                         ag_elements_at(saved->y, at * head_dim), head_dim));
        }
        dsinks[h] -= (float)sum;
        ag_kernel_yield(context);
    }
}
