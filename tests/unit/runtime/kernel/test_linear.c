/* LINEAR: every implementation against a sum in double precision. */
#include "kernel_call.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ag_linear_impl_t *const impls[] = {&ag_linear_reference, &ag_linear_onednn,
                                                &ag_linear_unpack_gemm};
enum { N_IMPLS = sizeof(impls) / sizeof(impls[0]), MANY_ROWS = 4096 };

typedef struct linear_case {
    ag_linear_t linear;
    uint64_t n_rows;
    const float *x;
    const ag_linear_impl_t *impl;
} linear_case_t;

static void run_linear(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const linear_case_t *c = arg;

    c->impl->run(context, &c->linear, c->x, c->n_rows, y);
}

/* How far a sum of k products may be from the exact one, as a part of the sum of |products|. */
static double tolerance(const linear_case_t *c, bool rounds_operands)
{
    double sums = (double)(c->linear.k + 2) * 0x1p-24;

    if (c->impl == &ag_linear_reference) {
        sums = (double)(c->linear.k / AG_LANES + 8) * 0x1p-24; /* a sum for each lane */
    }
    /* bf16 keeps 8 bits of each operand */
    return sums + (rounds_operands ? 0x1.02p-7 : 0);
}

static float to_bf16(float value)
{
    return ag_bf16_to_f32(ag_f32_to_bf16(value));
}

/* @param rounded  multiply what bf16 makes of the operands. */
static void expect_products(const linear_case_t *c, const float *weights, const float *y,
                            bool rounded, double relative, const char *what)
{
    uint64_t n = c->linear.n, k = c->linear.k;

    for (uint64_t i = 0; i < c->n_rows; i++) {
        for (uint64_t j = 0; j < n; j++) {
            double sum = c->linear.bias != NULL ? (double)c->linear.bias[j] : 0;
            double size = fabs(sum);

            for (uint64_t l = 0; l < k; l++) {
                float a = c->x[i * k + l], b = weights[j * k + l];
                double product =
                    rounded ? (double)to_bf16(a) * (double)to_bf16(b) : (double)a * (double)b;

                sum += product;
                size += fabs(product);
            }
            cr_assert_leq(fabs((double)y[i * n + j] - sum), relative * size,
                          "%s: y[%llu][%llu] is %g, not %g", what, (unsigned long long)i,
                          (unsigned long long)j, (double)y[i * n + j], sum);
        }
    }
}

static void check_impl(linear_case_t *c, const float *weights, ag_gemm_cache_t *gemm,
                       const ag_linear_impl_t *impl, size_t scratch_bytes)
{
    bool rounds = impl == &ag_linear_unpack_gemm;
    kernel_call_t call = {.fn = run_linear,
                          .arg = c,
                          .scratch_bytes = scratch_bytes,
                          .gemm = gemm,
                          .yields = c->linear.n > 0};
    char what[128];
    float *y;

    c->impl = impl;
    snprintf(what, sizeof(what), "%s, %s, n %llu, k %llu, %llu rows%s", impl->name,
             ag_dtype_info(c->linear.dtype)->name, (unsigned long long)c->linear.n,
             (unsigned long long)c->linear.k, (unsigned long long)c->n_rows,
             c->linear.bias != NULL ? ", bias" : "");
    y = kernel_call(&call, c->n_rows * c->linear.n, what);
    expect_products(c, weights, y, false, tolerance(c, rounds), what);
    if (rounds && ag_gemm_is_fast(gemm, AG_GEMM_BF16)) {
        expect_products(c, weights, y, true, tolerance(c, false), what);
    }
    free(y);
}

/* Every implementation that takes the type, directly; then the one that is chosen. */
static void check_case(ag_gemm_cache_t *gemm, ag_dtype_t dtype, uint64_t n, uint64_t k,
                       uint64_t n_rows, uint64_t seed)
{
    void *weight = random_weights(dtype, seed, n * k);
    float *weights = decode(dtype, weight, n * k);
    float *x = random_floats(seed + 1, n_rows * k, 1), *bias = random_floats(seed + 2, n, 1);
    linear_case_t c = {
        .linear = {.dtype = dtype, .n = n, .k = k, .weight = weight}, .n_rows = n_rows, .x = x};

    c.linear.bias = seed % 2 == 0 ? bias : NULL;
    for (int i = 0; i < N_IMPLS; i++) {
        if (impls[i]->can(gemm, NULL, &c.linear, impls[i] == &ag_linear_onednn)) {
            check_impl(&c, weights, gemm, impls[i], impls[i]->scratch_bytes(&c.linear));
        }
    }
    for (int exact = 0; exact < 2 && n_rows > 0; exact++) {
        check_impl(&c, weights, gemm, ag_linear_choose(gemm, NULL, &c.linear, n_rows, exact != 0),
                   ag_linear_scratch_bytes(&c.linear));
    }
    free(weight);
    free(weights);
    free(x);
    free(bias);
}

static void check_type(ag_dtype_t dtype)
{
    const uint64_t block = ag_dtype_info(dtype)->block_elements;
    const uint64_t most_blocks = block == 1 ? 700 : block == 32 ? 22 : 4;
    const uint64_t edges[][3] = {/* n, blocks in k, rows */
                                 {0, 2, 3},  {1, 1, 1},  {5, 0, 2},
                                 {65, 1, 1}, {64, 2, 9}, {3, 1, 300}};
    ag_gemm_cache_t *gemm = NULL;
    uint64_t seed = 100 * (uint64_t)dtype;

    cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        check_case(gemm, dtype, edges[i][0], edges[i][1] * block, edges[i][2], seed++);
        check_case(gemm, dtype, edges[i][0], edges[i][1] * block, edges[i][2], seed++);
    }
    for (uint64_t i = 0; i < 6; i++, seed++) {
        check_case(gemm, dtype, random_below(seed, 0, 200),
                   (1 + random_below(seed, 1, most_blocks)) * block, 1 + random_below(seed, 2, 20),
                   seed);
    }
    ag_gemm_cache_destroy(gemm);
}

Test(linear, f32_weights)
{
    check_type(AG_F32);
}
Test(linear, f16_weights)
{
    check_type(AG_F16);
}
Test(linear, bf16_weights)
{
    check_type(AG_BF16);
}
Test(linear, q8_0_weights)
{
    check_type(AG_Q8_0);
}
Test(linear, q4_0_weights)
{
    check_type(AG_Q4_0);
}
Test(linear, q4_1_weights)
{
    check_type(AG_Q4_1);
}
Test(linear, q5_1_weights)
{
    check_type(AG_Q5_1);
}

Test(linear, q5_0_weights)
{
    check_type(AG_Q5_0);
}
Test(linear, q6_k_weights)
{
    check_type(AG_Q6_K);
}
Test(linear, q5_k_weights)
{
    check_type(AG_Q5_K);
}
Test(linear, q2_k_weights)
{
    check_type(AG_Q2_K);
}
Test(linear, q3_k_weights)
{
    check_type(AG_Q3_K);
}
Test(linear, iq4_nl_weights)
{
    check_type(AG_IQ4_NL);
}
Test(linear, iq4_xs_weights)
{
    check_type(AG_IQ4_XS);
}
Test(linear, mxfp4_weights)
{
    check_type(AG_MXFP4);
}
Test(linear, f8_e4m3_weights)
{
    check_type(AG_F8_E4M3);
}
Test(linear, f8_e4m3_128_weights)
{
    check_type(AG_F8_E4M3_128);
}
Test(linear, q4_k_weights)
{
    check_type(AG_Q4_K);
}

Test(linear, a_rank_that_holds_no_input_columns_gives_the_bias)
{
    float bias[3] = {1, -2, 3};
    float x;
    linear_case_t c = {.linear = {.dtype = AG_Q8_0, .n = 3, .bias = bias},
                       .n_rows = 2,
                       .x = &x,
                       .impl = &ag_linear_reference};
    float *y = kernel_call(&(kernel_call_t){.fn = run_linear, .arg = &c}, 6, "no columns");

    cr_expect_arr_eq(y, bias, sizeof(bias));
    cr_expect_arr_eq(y + 3, bias, sizeof(bias));
    free(y);
}

Test(linear, exact_products_never_round_weights_or_inputs)
{
    ag_gemm_cache_t *gemm = NULL;

    cr_assert_eq(ag_gemm_cache_create(1, &gemm), AG_OK);
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        ag_linear_t linear = {.dtype = (ag_dtype_t)dtype, .n = 64, .k = 256};
        const ag_linear_impl_t *chosen = ag_linear_choose(gemm, NULL, &linear, MANY_ROWS, true);

        cr_expect(chosen == &ag_linear_onednn || chosen == &ag_linear_reference, "%s: %s",
                  ag_dtype_info(linear.dtype)->name, chosen->name);
    }
    ag_gemm_cache_destroy(gemm);
}

Test(linear, many_rows_go_to_onednn_where_it_is_fast)
{
    ag_linear_t plain = {.dtype = AG_F32, .n = 64, .k = 256};
    ag_linear_t packed = {.dtype = AG_Q4_1, .n = 64, .k = 256};
    ag_gemm_cache_t *gemm = NULL;

    cr_assert_eq(ag_gemm_cache_create(1, &gemm), AG_OK);
    if (ag_gemm_is_fast(gemm, AG_GEMM_F32)) {
        cr_expect_eq(ag_linear_choose(gemm, NULL, &plain, MANY_ROWS, true), &ag_linear_onednn);
    }
    if (ag_gemm_is_fast(gemm, AG_GEMM_BF16)) {
        cr_expect_eq(ag_linear_choose(gemm, NULL, &packed, MANY_ROWS, false),
                     &ag_linear_unpack_gemm);
    }
    ag_gemm_cache_destroy(gemm);
}

Test(linear, without_onednn_the_reference_takes_all)
{
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        ag_linear_t linear = {.dtype = (ag_dtype_t)dtype, .n = 64, .k = 256};

        cr_expect_eq(ag_linear_choose(NULL, NULL, &linear, MANY_ROWS, false), &ag_linear_reference);
    }
}

/* Which columns of y one thread of several writes, and no other. */
static void expect_share(const ag_linear_t *linear, ag_gemm_cache_t *gemm, bool exact,
                         unsigned n_threads, unsigned thread)
{
    enum { ROWS = 2 };
    ag_worker_t worker = {.thread = thread, .n_threads = n_threads};
    ag_step_t step = {0};
    float *x = random_floats(3, ROWS * linear->k, 1), *y = take(ROWS * linear->n * sizeof(float));
    ag_kernel_context_t context = {
        .worker = &worker, .step = &step, .gemm = gemm, .isa = exact ? NULL : ag_isa_best()};
    uint64_t begin, end;

    context.scratch = aligned_alloc(64, ag_align_up(ag_linear_scratch_bytes(linear)));
    cr_assert_not_null(context.scratch);
    for (uint64_t i = 0; i < ROWS * linear->n; i++) {
        y[i] = NAN;
    }
    ag_kernel_linear(&context, linear, x, ROWS, exact, y);
    ag_worker_share(&worker, linear->n, ag_packing_info(linear->packing)->share_rows, &begin, &end);
    for (uint64_t i = 0; i < ROWS * linear->n; i++) {
        bool mine = i % linear->n >= begin && i % linear->n < end;

        cr_assert_eq(!isnan(y[i]), mine, "%s, thread %u of %u: column %lu",
                     ag_dtype_info(linear->dtype)->name, thread, n_threads,
                     (unsigned long)(i % linear->n));
    }
    free(context.scratch);
    free(x);
    free(y);
}

/* Loading puts rows where they are multiplied by (runtime/model/params_load.c). */
Test(linear, a_thread_computes_the_columns_that_the_packing_shares_out_to_it)
{
    enum { N = 1000, K = 256 };
    static const ag_dtype_t dtypes[] = {AG_F32, AG_Q4_0, AG_BF16};

    for (int i = 0; i < 6; i++) {
        ag_dtype_t dtype = dtypes[i / 2];
        void *rows = random_weights(dtype, 7, N * K);
        ag_linear_t linear = {.dtype = dtype, .n = N, .k = K, .weight = rows};
        ag_gemm_cache_t *gemm = NULL;
        unsigned char *packed = NULL;

        cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &gemm), AG_OK);
        if (i % 2 == 1 && ag_packing_choose(dtype, K) == AG_PACKING_R16) {
            linear.packing = AG_PACKING_R16;
            packed = take(ag_packing_bytes(AG_PACKING_R16, dtype, N, K));
            memset(packed, 0, ag_packing_bytes(AG_PACKING_R16, dtype, N, K)); /* any values do */
            linear.weight = packed;
        }
        for (unsigned n_threads = 1; n_threads <= MOST_THREADS; n_threads += 2) {
            for (unsigned thread = 0; thread < n_threads; thread++) {
                expect_share(&linear, gemm, i % 2 == 0, n_threads, thread);
            }
        }
        ag_gemm_cache_destroy(gemm);
        free(packed);
        free(rows);
    }
}

Test(packing, shares_are_whole_groups)
{
    for (int p = 0; p < AG_N_PACKINGS; p++) {
        const ag_packing_info_t *info = ag_packing_info((ag_packing_t)p);

        cr_expect_eq(info->share_rows % info->group_rows, 0, "%s", info->name);
        cr_expect_leq(info->group_rows, AG_PACKING_MAX_ROWS);
    }
}
