/* Gradients by central differences in double precision, to hold kernels to. */
#pragma once

#include <stdint.h>

/** A function of n numbers: what a kernel's gradient is of, written as its mathematics says. */
typedef double (*scalar_fn_t)(const void *arg, const double *x);

/** The derivative of fn by x[i]; x is as before when it returns. */
double difference(scalar_fn_t fn, const void *arg, double *x, uint64_t i);

/** n floats as doubles; free() them. */
double *widen(const float *x, uint64_t n);

/** Sum of a[i] * b[i]. */
double dot(const float *a, const double *b, uint64_t n);

/** Fails the test where y (n) is not what was expected, on top of what was there before (NULL: 0).
 */
void expect_sums(const float *y, const float *before, const double *expected, uint64_t n,
                 double relative, const char *what);

/** @return |y - expected| is within relative * (1 + |expected|) */
_Bool is_near(double y, double expected, double relative);
