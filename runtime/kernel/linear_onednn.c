/*
 * LINEAR over float32 weights by oneDNN, a panel of 64 output columns at a time:
 *
 *     for each of my panels
 *         for each 256 rows of x: tile (256, 64) = x * panel^T, then its rows go to their places in
 * y
 *
 * The panel (64 * k floats) stays in L2 for all rows. 2 * rows * n * k operations at the float32
 * peak.
 */
#include "runtime/kernel/kernel_priv.h"

enum { ROWS_AT_ONCE = 256 };

static bool can(const ag_gemm_cache_t *gemm, const ag_isa_t *isa, const ag_linear_t *linear,
                bool exact)
{
    (void)isa;
    (void)exact;
    return gemm != NULL && linear->dtype == AG_F32 && linear->k > 0 &&
           ag_gemm_is_fast(gemm, AG_GEMM_F32);
}

static void run(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                uint64_t n_rows, float *y)
{
    const float *weight = linear->weight;
    float *tile = context->scratch;
    uint64_t begin, end;

    ag_worker_share(context->worker, linear->n, ag_linear_grain(linear->packing), &begin, &end);
    for (uint64_t column = begin; column < end; column += AG_PANEL_COLUMNS) {
        uint64_t n = end - column < AG_PANEL_COLUMNS ? end - column : AG_PANEL_COLUMNS;

        for (uint64_t row = 0; row < n_rows; row += ROWS_AT_ONCE) {
            uint64_t m = n_rows - row < ROWS_AT_ONCE ? n_rows - row : ROWS_AT_ONCE;
            ag_status_t status =
                ag_gemm(context->gemm, context->worker->thread, AG_GEMM_F32, m, n, linear->k,
                        x + row * linear->k, weight + column * linear->k, tile);

            if (status == AG_OK) {
                ag_linear_store(linear, tile, m, column, n, y + row * linear->n);
            } else {
                ag_linear_panel(linear, x + row * linear->k, m, context->scratch, column, n,
                                y + row * linear->n);
            }
            ag_kernel_yield(context);
        }
    }
}

static size_t scratch_bytes(const ag_linear_t *linear)
{
    size_t tile = ROWS_AT_ONCE * AG_PANEL_COLUMNS * sizeof(float);
    size_t row = linear->k * sizeof(float);

    return linear->dtype != AG_F32 ? 0 : ag_align_up(tile > row ? tile : row);
}

const ag_linear_impl_t ag_linear_onednn = {
    .name = "onednn", .can = can, .run = run, .scratch_bytes = scratch_bytes};
