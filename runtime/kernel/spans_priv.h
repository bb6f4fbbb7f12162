/* What is done to spans of a row, by the instruction set or in plain C. */
#pragma once

#include "runtime/kernel/isa_priv.h"

enum { AG_SPAN = 256 };

/** Up to AG_SPAN elements from `at` on: where they are, or as floats in `room`. */
const float *ag_span_floats(const ag_isa_t *isa, ag_elements_t x, uint64_t at, uint64_t n,
                            float room[AG_SPAN]);

/** Where to write such elements, for ag_span_put() to round. */
static inline float *ag_span_room(ag_elements_t y, uint64_t at, float room[AG_SPAN])
{
    return y.rounded ? room : (float *)y.data + at;
}

/** Round what was written to `room`; nothing is left to do where floats stand in their place. */
void ag_span_put(const ag_isa_t *isa, ag_elements_t y, uint64_t at, uint64_t n,
                 const float room[AG_SPAN]);

/** -infinity of none; a NaN may be lost, but not by ag_span_exps(). */
float ag_span_largest(const ag_isa_t *isa, const float *x, uint64_t n);

/** y = exp(x * scale - shift) * factor in the form that products of a kind take, and their sum
 * unrounded; y may be x in its own form, or NULL: the sum alone. */
float ag_span_exps(const ag_isa_t *isa, ag_gemm_kind_t kind, const ag_exps_t *args, const float *x,
                   uint64_t n, void *y);

/** y = cap * tanh(x * scale / cap); y may be x. */
void ag_span_caps(const ag_isa_t *isa, const ag_caps_t *args, const float *x, uint64_t n, float *y);

/** p and ds of scores, in that form. */
void ag_span_slopes(const ag_isa_t *isa, ag_gemm_kind_t kind, const ag_slopes_t *args,
                    const float *scores, const float *dp, uint64_t n, void *p, void *ds);
