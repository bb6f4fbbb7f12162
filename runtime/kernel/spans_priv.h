/* What is done to spans of a row, by the instruction set or in plain C. */
#pragma once

#include "runtime/kernel/isa_priv.h"

/** -infinity of none; a NaN may be lost, but not by ag_span_exps(). */
float ag_span_largest(const ag_isa_t *isa, const float *x, uint64_t n);

/** y = exp(x * scale - shift) * factor, and their sum; y may be x, or NULL: the sum alone. */
float ag_span_exps(const ag_isa_t *isa, const ag_exps_t *args, const float *x, uint64_t n,
                   float *y);
