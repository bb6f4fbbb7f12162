/*
 * LINEAR in plain C, for every type and any number of rows:
 *
 *     for each of my panels of 64 output columns
 *         for each column: unpack its row of the weight to float32 (k floats, in L1)
 *             for each row of x: one dot product
 *
 * It moves the weight once per step: n * k elements in their encoding, and x once per column, from
 * L1 or L2. 2 * rows * n * k operations.
 */
#include "runtime/kernel/kernel_priv.h"

static bool can(const ag_gemm_cache_t *gemm, const ag_isa_t *isa, const ag_linear_t *linear,
                bool exact)
{
    (void)isa;
    (void)gemm;
    (void)linear;
    (void)exact;
    return true;
}

static void run_column(const ag_linear_t *linear, const float *x, uint64_t n_rows, float *row,
                       uint64_t column, float *y)
{
    float bias = linear->bias != NULL ? linear->bias[column] : 0.0f;
    const float *weights = row;

    if (linear->dtype == AG_F32 && linear->k > 0) { /* else the weight may be NULL */
        weights = (const float *)linear->weight + column * linear->k;
    } else {
        ag_packing_unpack_row(linear->packing, linear->dtype, linear->weight, linear->k, column,
                              row);
    }
    for (uint64_t i = 0; i < n_rows; i++) {
        y[i * linear->n + column] = ag_dot(x + i * linear->k, weights, linear->k) + bias;
    }
}

void ag_linear_panel(const ag_linear_t *linear, const float *x, uint64_t n_rows, float *row,
                     uint64_t column, uint64_t n_columns, float *y)
{
    for (uint64_t i = 0; i < n_columns; i++) {
        run_column(linear, x, n_rows, row, column + i, y);
    }
}

static void run(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                uint64_t n_rows, float *y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, linear->n, ag_linear_grain(linear->packing), &begin, &end);
    for (uint64_t column = begin; column < end; column += AG_PANEL_COLUMNS) {
        uint64_t n = end - column < AG_PANEL_COLUMNS ? end - column : AG_PANEL_COLUMNS;

        ag_linear_panel(linear, x, n_rows, context->scratch, column, n, y);
        ag_kernel_yield(context);
    }
}

static size_t scratch_bytes(const ag_linear_t *linear)
{
    return ag_align_up(linear->k * sizeof(float));
}

const ag_linear_impl_t ag_linear_reference = {
    .name = "reference", .can = can, .run = run, .scratch_bytes = scratch_bytes};
