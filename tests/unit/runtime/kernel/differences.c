#include "differences.h"

#include <criterion/criterion.h>
#include <math.h>

#include "kernel_call.h"

double difference(scalar_fn_t fn, const void *arg, double *x, uint64_t i)
{
    double was = x[i], step = 1e-5 * (1 + fabs(was)), up, down;

    x[i] = was + step;
    up = fn(arg, x);
    x[i] = was - step;
    down = fn(arg, x);
    x[i] = was;
    return (up - down) / (2 * step);
}

double *widen(const float *x, uint64_t n)
{
    double *wide = take(n * sizeof(double));

    for (uint64_t i = 0; i < n; i++) {
        wide[i] = (double)x[i];
    }
    return wide;
}

double dot(const float *a, const double *b, uint64_t n)
{
    double sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        sum += (double)a[i] * b[i];
    }
    return sum;
}

bool is_near(double y, double expected, double relative)
{
    return fabs(y - expected) <= relative * (1 + fabs(expected));
}

void expect_sums(const float *y, const float *before, const double *expected, uint64_t n,
                 double relative, const char *what)
{
    for (uint64_t i = 0; i < n; i++) {
        double whole = expected[i] + (before != NULL ? (double)before[i] : 0);

        cr_assert(is_near((double)y[i], whole, relative), "%s: [%u] is %g, not %g", what,
                  (unsigned)i, (double)y[i], whole);
    }
}
