/*
 * Some query rows against a span of the cache: blocks of 32 positions of float16 keys and values.
 *
 *     scores (rows, positions): for each dimension, 32 keys times each row's element
 *     each row's running maximum and sum (Milakov and Gimelshein 2018), once for the span
 *     gathered (rows, head_dim) = gathered * rescale + weights (rows, positions) * values
 *
 * Keys stand dimension by dimension, so that a lane is a position; of values a lane is a dimension:
 * no sum of these is horizontal. A row's sums run in one order whatever rows stand beside it.
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

/*
 * Scores of a row to weights, by its new maximum.
 * @param n_scored  whole blocks. @return what is gathered so far shrinks by.
 */
static float weigh(const ag_attend_t *args, uint32_t row, uint32_t n_scored, float *scores)
{
    ag_vec_f_t largest = ag_vec_splat_f(*args->maximum[row]), sum = ag_vec_splat_f(0);
    float maximum, rescale;

    for (uint32_t i = args->n_positions[row]; i < n_scored; i++) {
        scores[i] = -AG_VEC_INFINITY;
    }
    for (uint32_t i = 0; i < n_scored; i += AG_VEC_LANES) {
        largest = ag_vec_max(ag_vec_load_f(scores + i), largest);
    }
    maximum = ag_vec_largest(largest);
    rescale = maximum == *args->maximum[row]
                  ? 1.0f
                  : ag_vec_exp(ag_vec_splat_f(*args->maximum[row] - maximum))[0];
    for (uint32_t i = 0; i < n_scored; i += AG_VEC_LANES) {
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
                           uint32_t n_positions, float (*weights)[SPAN], const float *rescale)
{
    ag_vec_f_t sums[ROWS][2];

    for (int r = 0; r < n; r++) {
        const float *gathered = args->gathered[row + (uint32_t)r] + d;

        sums[r][0] = ag_vec_load_f(gathered) * ag_vec_splat_f(rescale[r]);
        sums[r][1] = ag_vec_load_f(gathered + AG_VEC_LANES) * ag_vec_splat_f(rescale[r]);
    }
    for (uint32_t i = 0; i < n_positions; i++) {
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
    for (; d < args->head_dim; d++) {
        for (uint32_t i = first; i < last; i++) {
            const uint16_t *values = args->blocks[i / POSITIONS].values;

            args->gathered[row][d] +=
                weights[i] * ag_f16_to_f32(values[i % POSITIONS * args->head_dim + d]);
        }
    }
}

/* Positions that a row sees and the first of its neighbours does not: one that a row does not see
 * must not meet it even with a weight of zero, for its value may be infinite. */
static void gather_last(const ag_attend_t *args, uint32_t row, uint32_t first, uint32_t last,
                        const float *weights)
{
    uint32_t n = args->head_dim / PAIR * PAIR;
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

AG_INLINE void attend_rows(const ag_attend_t *args, uint32_t row, const int n)
{
    const uint32_t *seen = args->n_positions + row;
    float scores[ROWS][SPAN], rescale[ROWS];
    uint32_t most = seen[0], all_see = seen[0], n_scored, d = 0;

    for (int r = 1; r < n; r++) {
        most = seen[r] > most ? seen[r] : most;
        all_see = seen[r] < all_see ? seen[r] : all_see;
    }
    n_scored = (most + POSITIONS - 1) / POSITIONS * POSITIONS;
    for (uint32_t i = 0; i < n_scored; i += PAIR) {
        score_pair(args, row, n, i / POSITIONS, i % POSITIONS, scores);
    }
    for (int r = 0; r < n; r++) {
        rescale[r] = weigh(args, row + (uint32_t)r, n_scored, scores[r]);
    }
    for (; d + PAIR <= args->head_dim; d += PAIR) {
        gather_pair(args, row, n, d, all_see, scores, rescale);
    }
    for (int r = 0; r < n; r++) {
        for (uint32_t i = d; i < args->head_dim; i++) {
            args->gathered[row + (uint32_t)r][i] *= rescale[r];
        }
        gather_rest(args, row + (uint32_t)r, d, 0, all_see, scores[r]);
        if (seen[r] > all_see) {
            gather_last(args, row + (uint32_t)r, all_see, seen[r], scores[r]);
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
