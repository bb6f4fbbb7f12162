#include "runtime/kernel/spans_priv.h"

#include <math.h>

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

float ag_span_exps(const ag_isa_t *isa, const ag_exps_t *args, const float *x, uint64_t n, float *y)
{
    double sum = 0;

    if (isa != NULL) {
        return isa->exps(args, x, n, y);
    }
    for (uint64_t i = 0; i < n; i++) {
        float e = expf(x[i] * args->scale - args->shift) * args->factor;

        sum += (double)e;
        if (y != NULL) {
            y[i] = e;
        }
    }
    return (float)sum;
}
