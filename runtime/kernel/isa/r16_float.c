/*
 * LINEAR over floats of 16 bits or 8, 16 rows of the weight side by side.
 *
 *     bf16: x is rounded to bf16 too; a lane's two columns are multiplied and summed at once
 *     f8:   the same, for it fits into bf16; sums of 128 columns are multiplied by their scale
 *     f16:  x stays float32
 *
 * A prepared row of x stands beside the other rows of its tile: column after column (f16), or pair
 * after pair of columns (bf16, f8), 4 bytes for each row.
 */
#include "runtime/kernel/isa/r16_run.h"

AG_INLINE void store_sums(const ag_r16_tile_t *tile, const int n_rows, const int n_groups,
                          const int part, ag_vec_f_t (*sums)[AG_TILE_ROWS])
{
    for (int g = 0; g < n_groups; g++) {
        for (int r = 0; r < n_rows; r++) {
            ag_vec_store_f(tile->out + (g * n_rows + r) * AG_GROUP_ROWS + part * AG_VEC_LANES,
                           sums[g][r]);
        }
    }
}

AG_INLINE void call_ahead(const ag_r16_tile_t *tile, const int group, const int part, uint64_t at,
                          const uint32_t n_bytes)
{
    if (part == 0 && tile->is_cold) {
        ag_r16_call(tile->weight + (uint64_t)group * tile->group_bytes + at, n_bytes);
    }
}

AG_INLINE void tile_bf16(const ag_r16_tile_t *tile, const int n_rows, const int n_groups)
{
    for (int part = 0; part < AG_VEC_PARTS; part++) {
        const uint8_t *weight = tile->weight + part * AG_VEC_BYTES, *x = tile->x;
        ag_vec_f_t sums[AG_TILE_GROUPS][AG_TILE_ROWS] = {{{0}}};

        for (uint64_t i = 0; i < (tile->k + 1) / 2; i++, x += 4 * n_rows) {
            ag_vec_b_t w[AG_TILE_GROUPS];

            for (int g = 0; g < n_groups; g++) {
                call_ahead(tile, g, part, i * AG_R16_VECTOR, AG_R16_VECTOR);
                w[g] = ag_vec_load_b(weight + (uint64_t)g * tile->group_bytes + i * AG_R16_VECTOR);
            }
            for (int r = 0; r < n_rows; r++) {
                ag_vec_i_t pair = ag_vec_splat_bytes(x + 4 * r);

                for (int g = 0; g < n_groups; g++) {
                    sums[g][r] = ag_vec_dot2_bf16(sums[g][r], w[g], pair);
                }
            }
        }
        store_sums(tile, n_rows, n_groups, part, sums);
    }
}

AG_INLINE void tile_f16(const ag_r16_tile_t *tile, const int n_rows, const int n_groups)
{
    for (int part = 0; part < AG_VEC_PARTS; part++) {
        const uint8_t *weight = tile->weight + 2 * part * AG_VEC_LANES, *x = tile->x;
        ag_vec_f_t sums[AG_TILE_GROUPS][AG_TILE_ROWS] = {{{0}}};

        for (uint64_t i = 0; i < tile->k; i++, x += 4 * n_rows) {
            ag_vec_f_t w[AG_TILE_GROUPS];

            for (int g = 0; g < n_groups; g++) {
                call_ahead(tile, g, part, 2 * i * AG_GROUP_ROWS, 2 * AG_GROUP_ROWS);
                w[g] = ag_vec_load_f16(weight + (uint64_t)g * tile->group_bytes +
                                       2 * i * AG_GROUP_ROWS);
            }
            for (int r = 0; r < n_rows; r++) {
                ag_vec_f_t one = (ag_vec_f_t)ag_vec_splat_bytes(x + 4 * r);

                for (int g = 0; g < n_groups; g++) {
                    sums[g][r] = ag_vec_fma(w[g], one, sums[g][r]);
                }
            }
        }
        store_sums(tile, n_rows, n_groups, part, sums);
    }
}

AG_R16_TILE_FN(tile_of_bf16, tile_bf16, AG_TILE_GROUPS)
AG_R16_TILE_FN(tile_of_f16, tile_f16, AG_TILE_GROUPS)

static void bf16_prepare(const float *x, uint64_t n_rows, uint64_t k, void *dst)
{
    uint32_t *pairs = dst;
    uint64_t n;

    for (uint64_t row = 0; row < n_rows; row += n, pairs += n * ((k + 1) / 2)) {
        n = ag_tile_rows(n_rows - row);
        for (uint64_t r = 0; r < n; r++) {
            const float *src = x + (row + r) * k;

            for (uint64_t i = 0; i < k / 2; i++) {
                pairs[i * n + r] = (uint32_t)ag_f32_to_bf16(src[2 * i]) |
                                   (uint32_t)ag_f32_to_bf16(src[2 * i + 1]) << 16;
            }
            if (k % 2 != 0) {
                pairs[k / 2 * n + r] = ag_f32_to_bf16(src[k - 1]);
            }
        }
    }
}

static void bf16_run(const ag_r16_run_t *run)
{
    ag_r16_run_tiles(run, AG_BF16, AG_TILE_GROUPS, tile_of_bf16);
}

enum {
    F8_COLS = 128,
    F8_SCALES = 4 * AG_GROUP_ROWS,
    F8_PAIR = 2 * AG_GROUP_ROWS, /* bytes of two columns */
    F8_BYTES = F8_SCALES + F8_COLS * AG_GROUP_ROWS,
    F8_ROWS = 256, /* whose sums stay in L1 while the weights of a block do */
};

/* A part of 16 rows of a block. */
typedef struct f8_block {
    const uint8_t *quants;
    ag_vec_f_t scale;
    bool is_cold;
} f8_block_t;

AG_INLINE ag_vec_b_t f8_pairs(const f8_block_t *block, uint64_t i)
{
    if (block->is_cold) {
        ag_r16_call(block->quants + i * F8_PAIR, F8_PAIR);
    }
    return ag_vec_load_f8_pairs(block->quants + i * F8_PAIR);
}

/* out += scale * dots of a tile. @param pairs  the weights unpacked; NULL: they are not yet. */
AG_INLINE void f8_tile(const f8_block_t *block, const ag_vec_b_t *pairs, const uint8_t *x,
                       const int n_rows, float *out)
{
    ag_vec_f_t dots[AG_TILE_ROWS] = {{0}};

    for (uint64_t i = 0; i < F8_COLS / 2; i++, x += 4 * n_rows) {
        ag_vec_b_t w = pairs != NULL ? pairs[i] : f8_pairs(block, i);

        for (int r = 0; r < n_rows; r++) {
            dots[r] = ag_vec_dot2_bf16(dots[r], w, ag_vec_splat_bytes(x + 4 * r));
        }
    }
    for (int r = 0; r < n_rows; r++, out += AG_GROUP_ROWS) {
        ag_vec_store_f(out, ag_vec_fma(dots[r], block->scale, ag_vec_load_f(out)));
    }
}

AG_INLINE void f8_tile_of(const f8_block_t *block, const ag_vec_b_t *pairs, const uint8_t *x,
                          uint64_t n_rows, float *out)
{
    switch (n_rows) {
    case 8:
        f8_tile(block, pairs, x, 8, out);
        break;
    case 4:
        f8_tile(block, pairs, x, 4, out);
        break;
    case 2:
        f8_tile(block, pairs, x, 2, out);
        break;
    default:
        f8_tile(block, pairs, x, 1, out);
        break;
    }
}

/* Some rows of x, tile after tile, by a block: it is unpacked once where there are several. */
static void f8_rows(const f8_block_t *block, const uint8_t *x, uint64_t row_bytes, uint64_t b,
                    uint64_t n_rows, float *out)
{
    ag_vec_b_t pairs[F8_COLS / 2];
    uint64_t n = ag_tile_rows(n_rows);

    if (n == n_rows) {
        f8_tile_of(block, NULL, x + b * 2 * F8_COLS * n, n, out);
        return;
    }
    for (uint64_t i = 0; i < F8_COLS / 2; i++) {
        pairs[i] = f8_pairs(block, i);
    }
    for (uint64_t row = 0; row < n_rows; row += n) {
        n = ag_tile_rows(n_rows - row);
        f8_tile_of(block, pairs, x + row * row_bytes + b * 2 * F8_COLS * n, n,
                   out + row * AG_GROUP_ROWS);
    }
}

/*
 * for each group of 16 columns of y, for some rows of x
 *     for each block of 128 columns of w: to bf16, in L1
 *         for each tile of rows: 64 dots of pairs, then sum += scale * dots
 */
static void f8_run(const ag_r16_run_t *run)
{
    uint64_t group_bytes = ag_r16_group_bytes(AG_F8_E4M3_128, run->k), n;
    uint64_t row_bytes = ag_r16_x_bytes(AG_F8_E4M3_128, run->k);

    for (uint64_t g = run->group_begin; g < run->group_end; g++) {
        for (uint64_t row = 0; row < run->n_rows; row += n) {
            const uint8_t *weight = run->weight + g * group_bytes;
            float out[F8_ROWS * AG_GROUP_ROWS];

            n = run->n_rows - row < F8_ROWS ? run->n_rows - row : F8_ROWS;
            memset(out, 0, n * AG_GROUP_ROWS * sizeof(float));
            for (uint64_t b = 0; b < run->k / F8_COLS; b++, weight += F8_BYTES) {
                for (int part = 0; part < AG_VEC_PARTS; part++) {
                    f8_block_t block = {.quants = weight + F8_SCALES + part * AG_VEC_LANES,
                                        .scale = 256.0f *
                                                 ag_vec_load_f(weight + 4 * part * AG_VEC_LANES),
                                        .is_cold = row == 0 && part == 0};

                    f8_rows(&block, (const uint8_t *)run->x + row * row_bytes, row_bytes, b, n,
                            out + part * AG_VEC_LANES);
                }
            }
            ag_r16_store(run, g * AG_GROUP_ROWS, row, n, out);
        }
    }
}

static void f16_prepare(const float *x, uint64_t n_rows, uint64_t k, void *dst)
{
    float *floats = dst;
    uint64_t n;

    for (uint64_t row = 0; row < n_rows; row += n, floats += n * k) {
        n = ag_tile_rows(n_rows - row);
        for (uint64_t r = 0; r < n; r++) {
            for (uint64_t i = 0; i < k; i++) {
                floats[i * n + r] = x[(row + r) * k + i];
            }
        }
    }
}

static void f16_run(const ag_r16_run_t *run)
{
    ag_r16_run_tiles(run, AG_F16, AG_TILE_GROUPS, tile_of_f16);
}

const ag_r16_kernel_t AG_ISA_FN(ag_r16_bf16) = {bf16_prepare, bf16_run};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_f16) = {f16_prepare, f16_run};
const ag_r16_kernel_t AG_ISA_FN(ag_r16_f8) = {bf16_prepare, f8_run};
