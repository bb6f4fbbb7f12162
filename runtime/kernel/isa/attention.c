/*
 * Some query rows against a span of the cache: blocks of 32 positions of float16 keys and values.
 *
 *     scores (rows, positions): for each dimension, 32 keys times each row's element
 *         or, where values are part of keys: for each position, its key times each row
 *     each row's running maximum and sum (Milakov and Gimelshein 2018), once for the span
 *     gathered (rows, value_dim) = gathered * rescale + weights (rows, positions) * values
 *
 * Keys stand dimension by dimension, so that a lane is a position; of values a lane is a dimension:
 * no sum of these is horizontal. Keys that hold values stand as those do: a sum over hundreds of
 * dimensions is horizontal once. A row's sums run in one order whatever rows stand beside it.
 * Meanwhile the next span is called into L1: few rows are too little work for the processor to
 * fetch it in time by itself.
 */
#include "runtime/kernel/isa/kernels.h"
#include "runtime/kernel/isa/vec.h"

enum {
    POSITIONS = AG_ATTEND_POSITIONS,
    SPAN = AG_ATTEND_BLOCKS * POSITIONS,
    PAIR = 2 * AG_VEC_LANES, /* lanes of two vectors: with as many rows they fill the registers */
    ROWS = AG_VEC_BYTES == 64 ? 8 : 4,
};

AG_INLINE void call(const void *bytes, uint32_t offset)
{
    if (bytes != NULL) {
        __builtin_prefetch((const uint8_t *)bytes + offset, 0, 3);
    }
}

/* Of n rows, a constant: scores with the keys of two vectors' positions of a block. */
AG_INLINE void score_pair(const ag_attend_t *args, uint32_t row, const int n, uint32_t block,
                          uint32_t position, float (*scores)[SPAN])
{
    const uint16_t *keys = (const uint16_t *)args->blocks[block].keys + position;
    const void *ahead = row == 0 && position == 0 ? args->ahead[block].keys : NULL;
    ag_vec_f_t sums[ROWS][2];

    for (int r = 0; r < n; r++) {
        sums[r][0] = sums[r][1] = ag_vec_splat_f(0);
    }
    for (uint32_t d = 0; d < args->head_dim; d++, keys += POSITIONS) {
        ag_vec_f_t low = ag_vec_load_f16(keys), high = ag_vec_load_f16(keys + AG_VEC_LANES);

        call(ahead, d * POSITIONS * (uint32_t)sizeof(uint16_t));
        for (int r = 0; r < n; r++) {
            ag_vec_f_t q = ag_vec_splat_f(args->q[row + (uint32_t)r][d]);

            sums[r][0] = ag_vec_fma(low, q, sums[r][0]);
            sums[r][1] = ag_vec_fma(high, q, sums[r][1]);
        }
    }
    for (int r = 0; r < n; r++) {
        float *dst = &scores[r][block * POSITIONS + position];

        ag_vec_store_f(dst, sums[r][0] * ag_vec_splat_f(args->scale));
        ag_vec_store_f(dst + AG_VEC_LANES, sums[r][1] * ag_vec_splat_f(args->scale));
    }
}

/* Of n rows, a constant: scores with two positions of a block whose keys stand as values do. */
AG_INLINE void score_two(const ag_attend_t *args, uint32_t row, const int n, uint32_t block,
                         uint32_t position, float (*scores)[SPAN])
{
    uint32_t head_dim = args->head_dim, d = 0;
    const uint16_t *first = (const uint16_t *)args->blocks[block].values + position * head_dim;
    const uint16_t *second = first + head_dim;
    ag_vec_f_t sums[ROWS][2];

    for (int r = 0; r < n; r++) {
        sums[r][0] = sums[r][1] = ag_vec_splat_f(0);
    }
    for (; d + AG_VEC_LANES <= head_dim; d += AG_VEC_LANES) {
        ag_vec_f_t a = ag_vec_load_f16(first + d), b = ag_vec_load_f16(second + d);

        for (int r = 0; r < n; r++) {
            ag_vec_f_t q = ag_vec_load_f(args->q[row + (uint32_t)r] + d);

            sums[r][0] = ag_vec_fma(a, q, sums[r][0]);
            sums[r][1] = ag_vec_fma(b, q, sums[r][1]);
        }
    }
    for (int r = 0; r < n; r++) {
        const float *q = args->q[row + (uint32_t)r];
        float *dst = &scores[r][block * POSITIONS + position];

        dst[0] = ag_vec_sum(sums[r][0]);
        dst[1] = ag_vec_sum(sums[r][1]);
        for (uint32_t i = d; i < head_dim; i++) {
            dst[0] += q[i] * ag_f16_to_f32(first[i]);
            dst[1] += q[i] * ag_f16_to_f32(second[i]);
        }
        dst[0] *= args->scale;
        dst[1] *= args->scale;
    }
}

static void cap_scores(float cap, uint32_t from, uint32_t n_scored, float *scores)
{
    ag_vec_f_t part = ag_vec_splat_f(1.0f / cap), size = ag_vec_splat_f(cap);

    for (uint32_t i = from; i < n_scored; i += AG_VEC_LANES) {
        ag_vec_store_f(scores + i, size * ag_vec_tanh(ag_vec_load_f(scores + i) * part));
    }
}

/*
 * Scores of a row, from position `from` on, to weights by its new maximum.
 * @param n_scored  whole blocks. @return what is gathered so far shrinks by.
 */
static float weigh(const ag_attend_t *args, uint32_t row, uint32_t from, uint32_t n_scored,
                   float *scores)
{
    ag_vec_f_t largest = ag_vec_splat_f(*args->maximum[row]), sum = ag_vec_splat_f(0);
    float maximum, rescale;

    if (args->score_cap > 0) {
        cap_scores(args->score_cap, from, n_scored, scores);
    }
    for (uint32_t i = from; i < args->n_before[row]; i++) {
        scores[i] = -AG_VEC_INFINITY;
    }
    for (uint32_t i = args->n_positions[row]; i < n_scored; i++) {
        scores[i] = -AG_VEC_INFINITY;
    }
    for (uint32_t i = from; i < n_scored; i += AG_VEC_LANES) {
        largest = ag_vec_max(ag_vec_load_f(scores + i), largest);
    }
    maximum = ag_vec_largest(largest);
    rescale = maximum == *args->maximum[row]
                  ? 1.0f
                  : ag_vec_exp(ag_vec_splat_f(*args->maximum[row] - maximum))[0];
    for (uint32_t i = from; i < n_scored; i += AG_VEC_LANES) {
        ag_vec_f_t weights = ag_vec_exp(ag_vec_load_f(scores + i) - ag_vec_splat_f(maximum));

        sum += weights;
        ag_vec_store_f(scores + i, weights);
    }
    *args->maximum[row] = maximum;
    *args->sum[row] = *args->sum[row] * rescale + ag_vec_sum(sum);
    return rescale;
}

/* Of n rows, a constant: two vectors' dimensions, of positions that all of them see. */
AG_INLINE void gather_pair(const ag_attend_t *args, uint32_t row, const int n, uint32_t d,
                           uint32_t first, uint32_t last, float (*weights)[SPAN],
                           const float *rescale)
{
    ag_vec_f_t sums[ROWS][2];

    for (int r = 0; r < n; r++) {
        const float *gathered = args->gathered[row + (uint32_t)r] + d;

        sums[r][0] = ag_vec_load_f(gathered) * ag_vec_splat_f(rescale[r]);
        sums[r][1] = ag_vec_load_f(gathered + AG_VEC_LANES) * ag_vec_splat_f(rescale[r]);
    }
    for (uint32_t i = first; i < last; i++) {
        const ag_attend_block_t *block = &args->blocks[i / POSITIONS];
        uint32_t at = i % POSITIONS * args->head_dim + d;
        const uint16_t *values = (const uint16_t *)block->values + at;
        ag_vec_f_t low = ag_vec_load_f16(values), high = ag_vec_load_f16(values + AG_VEC_LANES);

        if (row == 0) { /* two vectors of halves are a line, or less */
            call(args->ahead[i / POSITIONS].values, at * (uint32_t)sizeof(uint16_t));
        }
        for (int r = 0; r < n; r++) {
            ag_vec_f_t weight = ag_vec_splat_f(weights[r][i]);

            sums[r][0] = ag_vec_fma(low, weight, sums[r][0]);
            sums[r][1] = ag_vec_fma(high, weight, sums[r][1]);
        }
    }
    for (int r = 0; r < n; r++) {
        float *gathered = args->gathered[row + (uint32_t)r] + d;

        ag_vec_store_f(gathered, sums[r][0]);
        ag_vec_store_f(gathered + AG_VEC_LANES, sums[r][1]);
    }
}

/* Of one row: dimensions from d on that two vectors do not divide, positions [first, last). */
static void gather_rest(const ag_attend_t *args, uint32_t row, uint32_t d, uint32_t first,
                        uint32_t last, const float *weights)
{
    for (; d < args->value_dim; d++) {
        for (uint32_t i = first; i < last; i++) {
            const uint16_t *values = args->blocks[i / POSITIONS].values;

            args->gathered[row][d] +=
                weights[i] * ag_f16_to_f32(values[i % POSITIONS * args->head_dim + d]);
        }
    }
}

/* Positions that a row sees and not all of its neighbours do: one that a row does not see must not
 * meet it even with a weight of zero, for its value may be infinite. */
static void gather_alone(const ag_attend_t *args, uint32_t row, uint32_t first, uint32_t last,
                         const float *weights)
{
    uint32_t n = args->value_dim / PAIR * PAIR;
    float *gathered = args->gathered[row];

    for (uint32_t i = first; i < last; i++) {
        const uint16_t *values =
            (const uint16_t *)args->blocks[i / POSITIONS].values + i % POSITIONS * args->head_dim;
        ag_vec_f_t weight = ag_vec_splat_f(weights[i]);

        for (uint32_t d = 0; d < n; d += AG_VEC_LANES) {
            ag_vec_store_f(gathered + d, ag_vec_fma(ag_vec_load_f16(values + d), weight,
                                                    ag_vec_load_f(gathered + d)));
        }
    }
    gather_rest(args, row, n, first, last, weights);
}

/* Positions of the span: that any of some rows sees, and that all of them do. */
typedef struct sight {
    uint32_t first, last, all_first, all_last;
} sight_t;

AG_INLINE sight_t find_sight(const ag_attend_t *args, uint32_t row, const int n)
{
    const uint32_t *before = args->n_before + row, *seen = args->n_positions + row;
    sight_t sight = {before[0], seen[0], before[0], seen[0]};

    for (int r = 1; r < n; r++) {
        sight.first = before[r] < sight.first ? before[r] : sight.first;
        sight.last = seen[r] > sight.last ? seen[r] : sight.last;
        sight.all_first = before[r] > sight.all_first ? before[r] : sight.all_first;
        sight.all_last = seen[r] < sight.all_last ? seen[r] : sight.all_last;
    }
    if (sight.all_first >= sight.all_last) { /* none: each row's own are before those */
        sight.all_first = sight.all_last = sight.last;
    }
    return sight;
}

/* A row's positions before those that all see. */
static void gather_first(const ag_attend_t *args, uint32_t row, uint32_t all_first,
                         const float *weights, float *rescale)
{
    uint32_t last = args->n_positions[row] < all_first ? args->n_positions[row] : all_first;

    for (uint32_t d = 0; d < args->value_dim; d++) {
        args->gathered[row][d] *= *rescale;
    }
    *rescale = 1;
    gather_alone(args, row, args->n_before[row], last, weights);
}

AG_INLINE void attend_rows(const ag_attend_t *args, uint32_t row, const int n)
{
    sight_t sight = find_sight(args, row, n);
    float scores[ROWS][SPAN], rescale[ROWS];
    uint32_t from = sight.first / PAIR * PAIR, d = 0;
    uint32_t n_scored = (sight.last + POSITIONS - 1) / POSITIONS * POSITIONS;

    if (args->value_dim < args->head_dim) {
        for (uint32_t i = from; i < n_scored; i += 2) {
            score_two(args, row, n, i / POSITIONS, i % POSITIONS, scores);
        }
    } else {
        for (uint32_t i = from; i < n_scored; i += PAIR) {
            score_pair(args, row, n, i / POSITIONS, i % POSITIONS, scores);
        }
    }
    for (int r = 0; r < n; r++) {
        rescale[r] = weigh(args, row + (uint32_t)r, from, n_scored, scores[r]);
        if (args->n_before[row + (uint32_t)r] < sight.all_first) {
            gather_first(args, row + (uint32_t)r, sight.all_first, scores[r], &rescale[r]);
        }
    }
    for (; d + PAIR <= args->value_dim; d += PAIR) {
        gather_pair(args, row, n, d, sight.all_first, sight.all_last, scores, rescale);
    }
    for (int r = 0; r < n; r++) {
        uint32_t seen = args->n_positions[row + (uint32_t)r];

        for (uint32_t i = d; i < args->value_dim; i++) {
            args->gathered[row + (uint32_t)r][i] *= rescale[r];
        }
        gather_rest(args, row + (uint32_t)r, d, sight.all_first, sight.all_last, scores[r]);
        if (seen > sight.all_last) {
            gather_alone(args, row + (uint32_t)r, sight.all_last, seen, scores[r]);
        }
    }
}

void AG_ISA_FN(ag_attend)(const ag_attend_t *args)
{
    uint32_t row = 0;

    for (; row + ROWS <= args->n_rows; row += ROWS) {
        attend_rows(args, row, ROWS);
    }
    switch (args->n_rows - row) {
#define REST(n)                                                                                    \
    case n:                                                                                        \
        attend_rows(args, row, n < ROWS ? n : 1);                                                  \
        break
        REST(1);
        REST(2);
        REST(3);
        REST(4);
        REST(5);
        REST(6);
        REST(7);
#undef REST
    default:
        break;
    }
}
