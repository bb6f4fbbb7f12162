/* Norms over rows: Zhang and Sennrich 2019 (RMS), Ba et al. 2016. Two passes over a row in L1. */
#include <math.h>

#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/spans_priv.h"
#include "runtime/kernel/train.h"

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

/* Threads share rows out; groups of a row are rows to what works on them. */
static void share_rows(const ag_kernel_context_t *context, const ag_norm_t *norm, uint64_t n_rows,
                       uint64_t *begin_p, uint64_t *end_p)
{
    uint64_t n_groups = norm->n_groups > 0 ? norm->n_groups : 1;

    ag_worker_share(context->worker, n_rows, 1, begin_p, end_p);
    *begin_p *= n_groups;
    *end_p *= n_groups;
}

static float variance(const ag_kernel_context_t *context, const ag_norm_t *norm, const float *row,
                      float mean)
{
    return context->isa != NULL && norm->kind == AG_NORM_RMS
               ? context->isa->sum_squares(row, norm->width) / (float)norm->width
               : mean_square(row, norm->width, mean);
}

size_t ag_norm_scratch_bytes(uint64_t width)
{
    return width * sizeof(float);
}

/* A row as floats: where it is, or in scratch. */
static const float *row_of(const ag_kernel_context_t *context, ag_elements_t x, uint64_t i,
                           uint64_t width)
{
    float *room = context->scratch;

    for (uint64_t at = 0; x.rounded && at < width; at += AG_SPAN) {
        ag_span_floats(context->isa, x, i * width + at, width - at < AG_SPAN ? width - at : AG_SPAN,
                       room + at);
    }
    return x.rounded ? room : (const float *)x.data + i * width;
}

void ag_kernel_norm(const ag_kernel_context_t *context, const ag_norm_t *norm, ag_elements_t x,
                    uint64_t n_rows, ag_elements_t y)
{
    float room[AG_SPAN];
    uint64_t begin, end;

    share_rows(context, norm, n_rows, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        const float *row = row_of(context, x, i, norm->width);
        float mean = norm->kind == AG_NORM_LAYER ? mean_of(row, norm->width) : 0.0f;
        float scale = 1.0f / sqrtf(variance(context, norm, row, mean) + norm->eps);

        for (uint64_t at = 0, n; at < norm->width; at += n) {
            float *out = ag_span_room(y, i * norm->width + at, room);

            n = norm->width - at < AG_SPAN ? norm->width - at : AG_SPAN;
            for (uint64_t j = 0; j < n; j++) {
                out[j] = (row[at + j] - mean) * scale * norm->weight[at + j];
            }
            for (uint64_t j = 0; norm->bias != NULL && j < n; j++) {
                out[j] += norm->bias[at + j];
            }
            ag_span_put(context->isa, y, i * norm->width + at, n, out);
        }
    }
}

/* Sum of a * b * (x - mean), in lanes as ag_dot(). */
static float centered_dot(const float *restrict a, const float *restrict b, const float *restrict x,
                          float mean, uint64_t n)
{
    float sums[AG_LANES] = {0};
    uint64_t i = 0;

    for (; i + AG_LANES <= n; i += AG_LANES) {
        for (uint64_t lane = 0; lane < AG_LANES; lane++) {
            sums[lane] += a[i + lane] * b[i + lane] * (x[i + lane] - mean);
        }
    }
    for (int lane = 0; i < n; i++, lane++) {
        sums[lane] += a[i] * b[i] * (x[i] - mean);
    }
    return ag_sum_lanes(sums);
}

/* With g = dy * weight and d = x - mean, of a row:
 *     dx = (g - mean(g) - d * mean(g * d) / deviation^2) / deviation, for RMS without mean(g). */
static void row_grad(const ag_kernel_context_t *context, const ag_norm_t *norm, const float *dy,
                     const float *x, bool add, float *dx, float *statistics)
{
    bool is_layer = norm->kind == AG_NORM_LAYER;
    float mean = is_layer ? mean_of(x, norm->width) : 0.0f;
    float scale = 1.0f / sqrtf(variance(context, norm, x, mean) + norm->eps);
    float shift = is_layer ? ag_dot(dy, norm->weight, norm->width) / (float)norm->width : 0.0f;
    float slope = centered_dot(dy, norm->weight, x, mean, norm->width) / (float)norm->width;

    slope *= scale * scale;
    for (uint64_t j = 0; j < norm->width; j++) {
        float before = add ? dx[j] : 0.0f;

        dx[j] = before + scale * (dy[j] * norm->weight[j] - shift - (x[j] - mean) * slope);
    }
    statistics[0] = mean;
    statistics[1] = scale;
}

void ag_kernel_norm_grad(const ag_kernel_context_t *context, const ag_norm_t *norm, const float *dy,
                         ag_elements_t x, uint64_t n_rows, bool add, float *dx, float *statistics)
{
    uint64_t begin, end;

    share_rows(context, norm, n_rows, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        row_grad(context, norm, dy + i * norm->width, row_of(context, x, i, norm->width), add,
                 dx + i * norm->width, statistics + i * AG_NORM_STATISTICS);
    }
}

/* A line of memory of each row. */
static void add_column_grads(const ag_isa_t *isa, const ag_norm_t *norm, const float *dy,
                             ag_elements_t x, const float *statistics, uint64_t n_rows,
                             uint64_t n_columns, float *dweight, float *dbias)
{
    double products[AG_LANES] = {0}, sums[AG_LANES] = {0};
    float room[AG_SPAN];

    for (uint64_t i = 0; i < n_rows; i++) {
        float mean = statistics[i * AG_NORM_STATISTICS];
        float scale = statistics[i * AG_NORM_STATISTICS + 1];
        const float *row = ag_span_floats(isa, x, i * norm->width, n_columns, room);

        for (uint64_t j = 0; j < n_columns; j++) {
            float g = dy[i * norm->width + j];

            products[j] += (double)(g * ((row[j] - mean) * scale));
            sums[j] += (double)g;
        }
    }
    for (uint64_t j = 0; j < n_columns; j++) {
        dweight[j] += (float)products[j];
    }
    for (uint64_t j = 0; dbias != NULL && j < n_columns; j++) {
        dbias[j] += (float)sums[j];
    }
}

void ag_kernel_norm_weight_grad(const ag_kernel_context_t *context, const ag_norm_t *norm,
                                const float *dy, ag_elements_t x, const float *statistics,
                                uint64_t n_rows, float *dweight, float *dbias)
{
    uint64_t n_groups = norm->n_groups > 0 ? norm->n_groups : 1, begin, end;

    ag_worker_share(context->worker, norm->width, AG_LANES, &begin, &end);
    for (; begin < end; begin += AG_LANES) {
        add_column_grads(context->isa, norm, dy + begin, ag_elements_at(x, begin), statistics,
                         n_rows * n_groups, end - begin < AG_LANES ? end - begin : AG_LANES,
                         dweight + begin, dbias != NULL ? dbias + begin : NULL);
    }
}
