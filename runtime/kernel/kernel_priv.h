/* What kernels share. */
#pragma once

#include "runtime/kernel/gemm.h"
#include "runtime/kernel/kernel.h"

/* Output columns are cut here whatever the number of threads, so that bits do not depend on it. */
enum { AG_PANEL_COLUMNS = 64, AG_LANES = 16 };

extern const ag_linear_impl_t ag_linear_r16;
extern const ag_linear_impl_t ag_linear_onednn;
extern const ag_linear_impl_t ag_linear_unpack_gemm;
extern const ag_linear_impl_t ag_linear_reference;

/** A dense tile (n_rows, n_columns), and the bias, to its place in y (n_rows, n). */
void ag_linear_store(const ag_linear_t *linear, const float *tile, uint64_t n_rows, uint64_t column,
                     uint64_t n_columns, float *y);

/** Some columns by the reference. @param row  scratch for k floats. */
void ag_linear_panel(const ag_linear_t *linear, const float *x, uint64_t n_rows, float *row,
                     uint64_t column, uint64_t n_columns, float *y);

/** Let communication go on: to be called between pieces of work by every thread. */
static inline void ag_kernel_yield(const ag_kernel_context_t *context)
{
    if (context->worker->thread == 0 && context->yield != NULL && context->yield->fn != NULL) {
        context->yield->fn(context->yield->arg);
    }
}

/** Sums of lanes, added pairwise; they are overwritten. */
static inline float ag_sum_lanes(float *sums)
{
    for (int half = AG_LANES / 2; half > 0; half /= 2) {
        for (int lane = 0; lane < half; lane++) {
            sums[lane] += sums[lane + half];
        }
    }
    return sums[0];
}

/** x . y over n elements: independent sums per lane, added pairwise; one order for every caller. */
static inline float ag_dot(const float *restrict x, const float *restrict y, uint64_t n)
{
    float sums[AG_LANES] = {0};
    uint64_t i = 0;

    for (; i + AG_LANES <= n; i += AG_LANES) {
        for (int lane = 0; lane < AG_LANES; lane++) {
            sums[lane] += x[i + (uint64_t)lane] * y[i + (uint64_t)lane];
        }
    }
    for (int lane = 0; i < n; i++, lane++) {
        sums[lane] += x[i] * y[i];
    }
    return ag_sum_lanes(sums);
}

/** The part of scratch behind n_bytes, 64-byte aligned. */
static inline size_t ag_align_up(size_t n_bytes)
{
    return (n_bytes + 63) / 64 * 64;
}
