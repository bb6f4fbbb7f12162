/* oneDNN behind its cache. */
#include "kernel_call.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static ag_gemm_cache_t *make_cache(void)
{
    ag_gemm_cache_t *cache = NULL;

    cr_assert_eq(ag_gemm_cache_create(1, &cache), AG_OK);
    return cache;
}

static void check_f32(ag_gemm_cache_t *cache, uint64_t m, uint64_t n, uint64_t k)
{
    float *a = random_floats(m, m * k, 1), *b = random_floats(n, n * k, 1);
    float *c = take(m * n * sizeof(float));

    cr_assert_eq(ag_gemm(cache, 0, AG_GEMM_F32, m, n, k, a, b, c), AG_OK);
    for (uint64_t i = 0; i < m * n; i++) {
        double sum = 0;

        for (uint64_t l = 0; l < k; l++) {
            sum += (double)a[i / n * k + l] * (double)b[i % n * k + l];
        }
        cr_assert_float_eq((double)c[i], sum, 1e-6 * (double)k, "%u, %u, %u", (unsigned)m,
                           (unsigned)n, (unsigned)k);
    }
    free(a);
    free(b);
    free(c);
}

static void check_form(ag_gemm_cache_t *cache, const ag_gemm_form_t *form)
{
    uint64_t m = form->m, n = form->n, k = form->k;
    float *a = random_floats(1, m * k, 1), *b = random_floats(2, n * k, 1);
    float *c = random_floats(3, m * n, 1), *before = random_floats(3, m * n, 1);

    cr_assert_eq(ag_gemm_run(cache, 0, form, a, b, c), AG_OK);
    for (uint64_t i = 0; i < m * n; i++) {
        double sum = form->add ? (double)before[i] : 0;

        for (uint64_t l = 0; l < k; l++) {
            sum += (double)a[form->a_by_columns ? l * m + i / n : i / n * k + l] *
                   (double)b[form->b_by_columns ? i % n * k + l : l * n + i % n];
        }
        cr_assert_float_eq((double)c[i], sum, 1e-6 * (double)k);
    }
    free(a);
    free(b);
    free(c);
    free(before);
}

Test(gemm, factors_lie_by_rows_or_columns_and_products_are_added)
{
    ag_gemm_cache_t *cache = make_cache();

    for (int i = 0; i < 8; i++) { /* one shape, so that forms are not confused */
        check_form(cache, &(ag_gemm_form_t){.a_by_columns = (i & 1) != 0,
                                            .b_by_columns = (i & 2) != 0,
                                            .add = (i & 4) != 0,
                                            .m = 9,
                                            .n = 17,
                                            .k = 5});
    }
    ag_gemm_cache_destroy(cache);
}

Test(gemm, more_shapes_than_are_kept_drop_the_oldest_and_stay_right)
{
    ag_gemm_cache_t *cache = make_cache();

    for (int again = 0; again < 2; again++) {
        for (uint64_t m = 1; m <= 120; m++) {
            check_f32(cache, m, 5, 7);
        }
    }
    ag_gemm_cache_destroy(cache);
}

Test(gemm, shapes_that_differ_in_one_size_are_not_confused)
{
    ag_gemm_cache_t *cache = make_cache();

    check_f32(cache, 4, 6, 8);
    check_f32(cache, 6, 4, 8);
    check_f32(cache, 4, 8, 6);
    check_f32(cache, 4, 6, 8);
    ag_gemm_cache_destroy(cache);
}

Test(gemm, int8_products_are_exact)
{
    enum { M = 9, N = 33, K = 100 };
    uint8_t a[M * K];
    int8_t b[N * K];
    int32_t c[M * N];
    ag_gemm_cache_t *cache = make_cache();

    for (uint64_t i = 0; i < M * K; i++) {
        a[i] = (uint8_t)random_below(1, i, 128); /* sums of two stay below 2^15 */
    }
    for (uint64_t i = 0; i < N * K; i++) {
        b[i] = (int8_t)((int)random_below(2, i, 255) - 127);
    }
    cr_assert_eq(ag_gemm(cache, 0, AG_GEMM_INT8, M, N, K, a, b, c), AG_OK);
    for (int i = 0; i < M * N; i++) {
        int32_t sum = 0;

        for (int l = 0; l < K; l++) {
            sum += a[i / N * K + l] * b[i % N * K + l];
        }
        cr_assert_eq(c[i], sum, "%d", i);
    }
    ag_gemm_cache_destroy(cache);
}

Test(gemm, no_cache_may_be_destroyed)
{
    ag_gemm_cache_destroy(NULL);
}
