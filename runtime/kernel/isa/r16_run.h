/* What the types' kernels share: rows of x in tiles, columns of y in groups. */
#pragma once

#include "runtime/kernel/isa/kernels.h"
#include "runtime/kernel/isa/vec.h"

enum { AG_TILE_ROWS = 8, AG_AHEAD_BYTES = 6144 };

/** Call the lines that begin in n_bytes of weights into L1, so far ahead of their use; they may lie
 * past the end. None is called twice: what that cost was 7% for blocks of an odd size. */
AG_INLINE void ag_r16_call(const uint8_t *at, const uint32_t n_bytes)
{
    uintptr_t begin = (uintptr_t)at + AG_AHEAD_BYTES;

    for (uintptr_t line = (begin + 63) / 64 * 64; line < begin + n_bytes; line += 64) {
        __builtin_prefetch((const void *)line, 0, 3);
    }
}

/* Groups of columns that a tile may have side by side: where registers are many, each element of x
 * that is loaded meets the weights of two. */
enum { AG_TILE_GROUPS = AG_VEC_BYTES == 64 ? 2 : 1 };

/** Rows of the next tile when so many are left: x is prepared in the same tiles. */
static inline uint64_t ag_tile_rows(uint64_t n_left)
{
    uint64_t n = AG_TILE_ROWS;

    while (n > n_left) {
        n /= 2;
    }
    return n;
}

/* A tile: some rows of x, and one group of 16 columns or two neighbours. */
typedef struct ag_r16_tile {
    const uint8_t *weight; /* the first group */
    uint64_t group_bytes;  /* to the next one */
    uint64_t k;
    const uint8_t *x; /* n_rows, prepared */
    uint64_t n_rows;
    float *out;   /* (groups, n_rows, 16) */
    bool is_cold; /* the weights are still to be called near */
} ag_r16_tile_t;

typedef void (*ag_r16_tile_fn_t)(const ag_r16_tile_t *tile, uint64_t n_groups);

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
 * for each group of 16 columns, or each pair: its weights stay in L1 or L2
 *     for each tile of rows of x
 *
 * Pairs are for many rows: one stream of weights comes faster from memory than two.
 */
static inline void ag_r16_run_tiles(const ag_r16_run_t *run, ag_dtype_t dtype, uint64_t most_groups,
                                    ag_r16_tile_fn_t fn)
{
    uint64_t most = run->n_rows >= 2 * AG_TILE_ROWS ? most_groups : 1, n_groups;
    ag_r16_tile_t tile = {.group_bytes = ag_r16_group_bytes(dtype, run->k), .k = run->k};

    for (uint64_t g = run->group_begin; g < run->group_end; g += n_groups) {
        float out[AG_TILE_GROUPS * AG_TILE_ROWS * AG_GROUP_ROWS];

        n_groups = run->group_end - g < most ? run->group_end - g : most;
        tile.weight = run->weight + g * tile.group_bytes;
        tile.x = run->x;
        tile.out = out;
        for (uint64_t row = 0; row < run->n_rows; row += tile.n_rows) {
            tile.n_rows = ag_tile_rows(run->n_rows - row);
            tile.is_cold = row == 0;
            fn(&tile, n_groups);
            for (uint64_t i = 0; i < n_groups; i++) {
                ag_r16_store(run, (g + i) * AG_GROUP_ROWS, row, tile.n_rows,
                             out + i * tile.n_rows * AG_GROUP_ROWS);
            }
            tile.x += tile.n_rows * ag_r16_x_bytes(dtype, run->k);
        }
    }
}

/* Constant numbers of rows and groups, so that sums stay in registers. */
#define AG_R16_TILE_FN(name, body, groups)                                                         \
    static void name(const ag_r16_tile_t *tile, uint64_t n_groups)                                 \
    {                                                                                              \
        switch ((n_groups > 1 ? 16 : 0) + tile->n_rows) {                                          \
        case 16 + 8:                                                                               \
            body(tile, 8, groups);                                                                 \
            break;                                                                                 \
        case 16 + 4:                                                                               \
            body(tile, 4, groups);                                                                 \
            break;                                                                                 \
        case 16 + 2:                                                                               \
            body(tile, 2, groups);                                                                 \
            break;                                                                                 \
        case 16 + 1:                                                                               \
            body(tile, 1, groups);                                                                 \
            break;                                                                                 \
        case 8:                                                                                    \
            body(tile, 8, 1);                                                                      \
            break;                                                                                 \
        case 4:                                                                                    \
            body(tile, 4, 1);                                                                      \
            break;                                                                                 \
        case 2:                                                                                    \
            body(tile, 2, 1);                                                                      \
            break;                                                                                 \
        default:                                                                                   \
            body(tile, 1, 1);                                                                      \
            break;                                                                                 \
        }                                                                                          \
    }
