#include "runtime/kernel/spans_priv.h"

#include <math.h>

const float *ag_span_floats(const ag_isa_t *isa, ag_elements_t x, uint64_t at, uint64_t n,
                            float room[AG_SPAN])
{
    const uint16_t *halves = (const uint16_t *)x.data + at;

    if (!x.rounded) {
        return (const float *)x.data + at;
    }
    if (isa != NULL) {
        isa->from_bf16(halves, n, room);
        return room;
    }
    for (uint64_t i = 0; i < n; i++) {
        room[i] = ag_bf16_to_f32(halves[i]);
    }
    return room;
}

void ag_span_put(const ag_isa_t *isa, ag_elements_t y, uint64_t at, uint64_t n,
                 const float room[AG_SPAN])
{
    uint16_t *halves = (uint16_t *)y.data + at;

    if (y.rounded && isa != NULL) {
        isa->to_bf16(room, n, halves);
        return;
    }
    for (uint64_t i = 0; y.rounded && i < n; i++) {
        halves[i] = ag_f32_to_bf16(room[i]);
    }
}

float ag_span_largest(const ag_isa_t *isa, const float *x, uint64_t n)
{
    float most = -INFINITY;

    if (isa != NULL) {
        return isa->largest(x, n);
    }
    for (uint64_t i = 0; i < n; i++) {
        most = x[i] > most ? x[i] : most;
    }
    return most;
}

/* One element to a form. */
static void put(ag_gemm_kind_t kind, float value, uint64_t i, void *y)
{
    if (kind == AG_GEMM_BF16) {
        ((uint16_t *)y)[i] = ag_f32_to_bf16(value);
    } else {
        ((float *)y)[i] = value;
    }
}

float ag_span_exps(const ag_isa_t *isa, ag_gemm_kind_t kind, const ag_exps_t *args, const float *x,
                   uint64_t n, void *y)
{
    double sum = 0;

    if (isa != NULL) {
        return kind == AG_GEMM_BF16 ? isa->exps_bf16(args, x, n, y) : isa->exps(args, x, n, y);
    }
    for (uint64_t i = 0; i < n; i++) {
        float e = expf(x[i] * args->scale - args->shift) * args->factor;

        sum += (double)e;
        if (y != NULL) {
            put(kind, e, i, y);
        }
    }
    return (float)sum;
}

void ag_span_caps(const ag_isa_t *isa, const ag_caps_t *args, const float *x, uint64_t n, float *y)
{
    if (isa != NULL) {
        isa->caps(args, x, n, y);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        y[i] = args->cap * tanhf(x[i] * args->scale / args->cap);
    }
}

void ag_span_slopes(const ag_isa_t *isa, ag_gemm_kind_t kind, const ag_slopes_t *args,
                    const float *scores, const float *dp, uint64_t n, void *p, void *ds)
{
    if (isa != NULL && kind == AG_GEMM_BF16) {
        isa->slopes_bf16(args, scores, dp, n, p, ds);
        return;
    }
    if (isa != NULL) {
        isa->slopes(args, scores, dp, n, p, ds);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        float score = scores[i] * args->scale, slope = args->scale, weight;

        if (args->cap > 0) {
            float part = tanhf(score / args->cap);

            score = args->cap * part;
            slope *= 1 - part * part;
        }
        weight = expf(score - args->lse);
        put(kind, weight * (dp[i] - args->mean) * slope, i, ds);
        put(kind, weight, i, p);
    }
}
