/* What the types' kernels share: rows of x in tiles, columns of y in groups. */
#pragma once

#include "runtime/kernel/isa/kernels.h"
#include "runtime/kernel/isa/vec.h"

/* How far ahead weights are called into L2: beside this much arithmetic the processor does not
 * fetch early enough by itself (with it 1 row reads 4-bit weights 1.3 times as fast, 4 rows 1.6
 * times). */
enum { AG_TILE_ROWS = 8, AG_PREFETCH_BYTES = 16384 };

/** Rows of the next tile when so many are left: x is prepared in the same tiles. */
static inline uint64_t ag_tile_rows(uint64_t n_left)
{
    uint64_t n = AG_TILE_ROWS;

    while (n > n_left) {
        n /= 2;
    }
    return n;
}

/** out (n_rows, 16) = the tile's rows of x times 16 rows of the weight. */
typedef void (*ag_r16_tile_t)(const uint8_t *quants, const uint8_t *scales, uint64_t k,
                              const uint8_t *x, uint64_t n_rows, float *out);

static inline void ag_r16_store(const ag_r16_run_t *run, uint64_t column, uint64_t row,
                                uint64_t n_rows, const float *out)
{
    uint64_t n = run->n - column < AG_GROUP_ROWS ? run->n - column : AG_GROUP_ROWS;

    for (uint64_t r = 0; r < n_rows; r++) {
        float *dst = run->y + (row + r) * run->n + column;

        for (uint64_t i = 0; i < n; i++) {
            dst[i] = out[r * AG_GROUP_ROWS + i] + (run->bias != NULL ? run->bias[column + i] : 0);
        }
    }
}

/*
 * for each group of 16 columns: its weights stay in L1 or L2
 *     for each tile of rows of x
 */
static inline void ag_r16_run_tiles(const ag_r16_run_t *run, ag_dtype_t dtype, uint64_t x_bytes,
                                    ag_r16_tile_t tile)
{
    const ag_r16_type_t *type = &ag_r16_types[dtype];
    uint64_t group_bytes = ag_r16_group_bytes(dtype, run->k);
    uint64_t quant_bytes = ag_r16_blocks(type, run->k) * type->quant_bytes;

    for (uint64_t g = run->group_begin; g < run->group_end; g++) {
        const uint8_t *quants = run->weight + g * group_bytes;
        const uint8_t *x = run->x;
        uint64_t n;

        for (uint64_t row = 0; row < run->n_rows; row += n, x += n * x_bytes) {
            float out[AG_TILE_ROWS * AG_GROUP_ROWS];

            n = ag_tile_rows(run->n_rows - row);
            tile(quants, quants + quant_bytes, run->k, x, n, out);
            ag_r16_store(run, g * AG_GROUP_ROWS, row, n, out);
        }
    }
}
