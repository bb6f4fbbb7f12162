/* Norms over rows: Zhang and Sennrich 2019 (RMS), Ba et al. 2016. Two passes over a row in L1. */
#include <math.h>

#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"

static float mean_of(const float *x, uint64_t n)
{
    float sums[AG_LANES] = {0};
    double sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        sums[i % AG_LANES] += x[i];
    }
    for (int lane = 0; lane < AG_LANES; lane++) {
        sum += (double)sums[lane];
    }
    return (float)(sum / (double)n);
}

static float mean_square(const float *x, uint64_t n, float mean)
{
    float sums[AG_LANES] = {0};
    double sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        sums[i % AG_LANES] += (x[i] - mean) * (x[i] - mean);
    }
    for (int lane = 0; lane < AG_LANES; lane++) {
        sum += (double)sums[lane];
    }
    return (float)(sum / (double)n);
}

static float variance(const ag_kernel_context_t *context, const ag_norm_t *norm, const float *row,
                      float mean)
{
    return context->isa != NULL && norm->kind == AG_NORM_RMS
               ? context->isa->sum_squares(row, norm->width) / (float)norm->width
               : mean_square(row, norm->width, mean);
}

void ag_kernel_norm(const ag_kernel_context_t *context, const ag_norm_t *norm, const float *x,
                    uint64_t n_rows, float *y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *row = x + i * norm->width;
        float *out = y + i * norm->width;
        float mean = norm->kind == AG_NORM_LAYER ? mean_of(row, norm->width) : 0.0f;
        float scale = 1.0f / sqrtf(variance(context, norm, row, mean) + norm->eps);

        for (uint64_t j = 0; j < norm->width; j++) {
            out[j] = (row[j] - mean) * scale * norm->weight[j];
        }
        for (uint64_t j = 0; norm->bias != NULL && j < norm->width; j++) {
            out[j] += norm->bias[j];
        }
    }
}
