/*
 * LINEAR over any encoding held as rows: unpack a panel to bfloat16, then oneDNN.
 *
 *     for each 256 rows of x: to bfloat16, once per thread (256 * k)
 *         for each of my panels: unpack 64 rows of the weight (64 * k bfloat16, in L2)
 *             tile (256, 64) = x * panel^T, then its rows go to their places in y
 *
 * Unpacking is paid once per 256 rows. 2 * rows * n * k operations at the bfloat16 peak.
 */
#include "runtime/kernel/kernel_priv.h"

enum { ROWS_AT_ONCE = 256 };

static bool can(const ag_gemm_cache_t *gemm, const ag_isa_t *isa, const ag_linear_t *linear,
                bool exact)
{
    (void)isa;
    return gemm != NULL && !exact && linear->dtype != AG_F32 &&
           linear->packing == AG_PACKING_ROWS && linear->k > 0 &&
           ag_gemm_is_fast(gemm, AG_GEMM_BF16);
}

static void to_bf16(const float *src, uint64_t n, uint16_t *dst)
{
    for (uint64_t i = 0; i < n; i++) {
        dst[i] = ag_f32_to_bf16(src[i]);
    }
}

static void unpack_panel(const ag_linear_t *linear, uint64_t column, uint64_t n, float *row,
                         uint16_t *panel)
{
    for (uint64_t i = 0; i < n; i++) {
        ag_packing_unpack_row(linear->packing, linear->dtype, linear->weight, linear->k, column + i,
                              row);
        to_bf16(row, linear->k, panel + i * linear->k);
    }
}

/* The parts of a thread's scratch. */
typedef struct parts {
    float *row, *tile;
    uint16_t *panel, *x;
} parts_t;

static size_t split_scratch(const ag_linear_t *linear, void *scratch, parts_t *parts)
{
    unsigned char *at = scratch;
    size_t row = ag_align_up(linear->k * sizeof(float));
    size_t tile = ag_align_up(ROWS_AT_ONCE * AG_PANEL_COLUMNS * sizeof(float));
    size_t panel = ag_align_up(AG_PANEL_COLUMNS * linear->k * sizeof(uint16_t));
    size_t x = ag_align_up(ROWS_AT_ONCE * linear->k * sizeof(uint16_t));

    if (at != NULL) {
        *parts = (parts_t){.row = (float *)(void *)at,
                           .tile = (float *)(void *)(at + row),
                           .panel = (uint16_t *)(void *)(at + row + tile),
                           .x = (uint16_t *)(void *)(at + row + tile + panel)};
    }
    return row + tile + panel + x;
}

static void run_panel(const ag_kernel_context_t *context, const ag_linear_t *linear,
                      const parts_t *parts, const float *x, uint64_t m, uint64_t column, uint64_t n,
                      float *y)
{
    unpack_panel(linear, column, n, parts->row, parts->panel);
    if (ag_gemm(context->gemm, context->worker->thread, AG_GEMM_BF16, m, n, linear->k, parts->x,
                parts->panel, parts->tile) == AG_OK) {
        ag_linear_store(linear, parts->tile, m, column, n, y);
    } else {
        ag_linear_panel(linear, x, m, parts->row, column, n, y);
    }
}

static void run(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                uint64_t n_rows, float *y)
{
    uint64_t begin, end;
    parts_t parts = {0};

    split_scratch(linear, context->scratch, &parts);
    ag_worker_share(context->worker, linear->n, ag_linear_grain(linear->packing), &begin, &end);
    for (uint64_t row = 0; row < n_rows && begin < end; row += ROWS_AT_ONCE) {
        uint64_t m = n_rows - row < ROWS_AT_ONCE ? n_rows - row : ROWS_AT_ONCE;

        to_bf16(x + row * linear->k, m * linear->k, parts.x);
        for (uint64_t column = begin; column < end; column += AG_PANEL_COLUMNS) {
            uint64_t n = end - column < AG_PANEL_COLUMNS ? end - column : AG_PANEL_COLUMNS;

            run_panel(context, linear, &parts, x + row * linear->k, m, column, n,
                      y + row * linear->n);
            ag_kernel_yield(context);
        }
    }
}

static size_t scratch_bytes(const ag_linear_t *linear)
{
    return linear->dtype == AG_F32 || linear->packing != AG_PACKING_ROWS
               ? 0
               : split_scratch(linear, NULL, NULL);
}

const ag_linear_impl_t ag_linear_unpack_gemm = {
    .name = "unpack_gemm", .can = can, .run = run, .scratch_bytes = scratch_bytes};
