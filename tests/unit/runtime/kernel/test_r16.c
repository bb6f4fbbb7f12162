/* Weights packed in groups of 16 rows: what they unpack to, and LINEAR over them by every
 * instruction set that this machine has. */
#include "kernel_call.h"
#include "runtime/kernel/r16_priv.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 70 };

/* (n, k) in the file's encoding -> packed, as large as said and no larger; free() it. */
static unsigned char *pack(ag_dtype_t dtype, const unsigned char *rows, uint64_t n, uint64_t k)
{
    const ag_packing_info_t *info = ag_packing_info(AG_PACKING_R16);
    uint64_t group_bytes = info->group_bytes(dtype, k), row_bytes = ag_dtype_bytes(dtype, k);
    size_t n_bytes = ag_packing_bytes(AG_PACKING_R16, dtype, n, k);
    unsigned char *packed = take(n_bytes);

    memset(packed, 0xa5, n_bytes);
    for (uint64_t i = 0; i < n; i += info->group_rows) {
        const unsigned char *group[AG_PACKING_MAX_ROWS] = {NULL};

        for (uint64_t r = 0; r < info->group_rows && i + r < n; r++) {
            group[r] = rows + (i + r) * row_bytes;
        }
        info->pack(dtype, group, k, packed + i / info->group_rows * group_bytes);
    }
    return packed;
}

/* k in [1, most] blocks; some more for types without blocks. */
static uint64_t random_k(ag_dtype_t dtype, uint64_t seed, uint64_t index)
{
    uint64_t block = ag_dtype_info(dtype)->block_elements;

    return block * (1 + random_below(seed, index, block == 1 ? 300 : block == 32 ? 12 : 3));
}

Test(r16, packing_loses_no_bit_of_any_type)
{
    for (int t = 0; t < AG_N_DTYPES; t++) {
        ag_dtype_t dtype = (ag_dtype_t)t;

        for (uint64_t seed = 0; seed < 12 && ag_packing_choose(dtype, 256) == AG_PACKING_R16;
             seed++) {
            /* among others rows of so many columns that they are packed piece by piece */
            uint64_t k = seed == 0 ? 2048 + 3 * ag_dtype_info(dtype)->block_elements
                                   : random_k(dtype, seed, 1);
            uint64_t n = 1 + random_below(seed, 0, 50);
            unsigned char *rows = random_weights(dtype, seed, n * k);
            unsigned char *packed = pack(dtype, rows, n, k);
            float *wanted = decode(dtype, rows, n * k), *got = take(k * sizeof(float));

            for (uint64_t i = 0; i < n; i++) {
                ag_packing_unpack_row(AG_PACKING_R16, dtype, packed, k, i, got);
                cr_assert_eq(memcmp(got, wanted + i * k, k * sizeof(float)), 0,
                             "%s, k %llu: row %llu of %llu", ag_dtype_info(dtype)->name,
                             (unsigned long long)k, (unsigned long long)i, (unsigned long long)n);
            }
            free(rows);
            free(packed);
            free(wanted);
            free(got);
        }
    }
}

Test(r16, whole_groups_take_at_most_7_percent_more_than_the_file)
{
    for (int t = 0; t < AG_N_DTYPES; t++) {
        ag_dtype_t dtype = (ag_dtype_t)t;

        /* of the others unpack_gemm takes care */
        if (dtype != AG_F32 && dtype != AG_F8_E4M3) {
            cr_expect_eq(ag_packing_choose(dtype, 768), AG_PACKING_R16);
            cr_expect_leq((double)ag_packing_bytes(AG_PACKING_R16, dtype, 64, 768),
                          1.07 * (double)ag_dtype_bytes(dtype, 64 * 768), "%s",
                          ag_dtype_info(dtype)->name);
        }
    }
}

Test(r16, a_row_cut_within_a_block_is_not_packed)
{
    cr_expect_eq(ag_packing_choose(AG_Q4_0, 48), AG_PACKING_ROWS);
    cr_expect_eq(ag_packing_choose(AG_Q4_K, 128), AG_PACKING_ROWS);
    cr_expect_eq(ag_packing_choose(AG_F32, 64), AG_PACKING_ROWS);
}

typedef struct linear_case {
    ag_linear_t linear;
    uint64_t n_rows;
    const float *x;
} linear_case_t;

static void run_r16(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const linear_case_t *c = arg;

    ag_linear_r16.run(context, &c->linear, c->x, c->n_rows, y);
}

/* What the kernels multiply instead of x: int8 times a scale for 32 columns, or bf16. */
static void round_x(ag_dtype_t dtype, const float *x, uint64_t n, float *rounded)
{
    for (uint64_t i = 0; i < n; i++) {
        float largest = 0;

        if (!ag_r16_is_int8(dtype)) {
            rounded[i] = dtype != AG_F16 ? ag_bf16_to_f32(ag_f32_to_bf16(x[i])) : x[i];
            continue;
        }
        for (uint64_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
            largest = fmaxf(largest, fabsf(x[j]));
        }
        rounded[i] = largest > 0 ? nearbyintf(x[i] * (127.0f / largest)) * (largest / 127.0f) : 0;
        /* half a step, and the rounding of the scale and of its inverse */
        cr_assert_leq(fabsf(rounded[i] - x[i]), largest / 254.0f * 1.0001f);
    }
}

/*
 * The products of what was rounded are summed in float32, a block at a time: k / 32 + 8 roundings,
 * or k. Each is relative to a sum of at most 4 times the largest weight of its block (of 16 or 32
 * columns) times |x|: a minimum and what is above it may be as large and of different sign.
 */
static void expect_sums(const linear_case_t *c, const float *weights, const float *rounded,
                        const float *y, const char *what)
{
    bool blocks = ag_r16_is_int8(c->linear.dtype);
    uint64_t n = c->linear.n, k = c->linear.k;
    double roundings = blocks ? (double)k / 32 + 8 : (double)k + 4;

    for (uint64_t at = 0; at < c->n_rows * n; at++) {
        const float *x = rounded + at / n * k, *w = weights + at % n * k;
        double sum = c->linear.bias != NULL ? (double)c->linear.bias[at % n] : 0, size = fabs(sum);

        for (uint64_t i = 0; i < k; i++) {
            double largest = fabs((double)w[i]);

            for (uint64_t j = i / 32 * 32; blocks && j < i / 32 * 32 + 32; j++) {
                largest = fmax(largest, 4 * fabs((double)w[j]));
            }
            sum += (double)w[i] * (double)x[i];
            size += largest * fabs((double)x[i]);
        }
        cr_assert_leq(fabs((double)y[at] - sum), roundings * 0x1p-24 * size,
                      "%s: y[%llu][%llu] is %g, not %g", what, (unsigned long long)(at / n),
                      (unsigned long long)(at % n), (double)y[at], sum);
    }
}

/* All threads prepare, meet, and multiply by what they left. */
static void run_prepared(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const linear_case_t *c = arg;

    ag_kernel_prepare(context, &c->linear, c->x, c->n_rows, (void *)c->linear.prepared);
    ag_team_barrier(context->worker);
    ag_linear_r16.run(context, &c->linear, c->x, c->n_rows, y);
}

/* Rows that all threads prepared together give the bits of those that each prepares by itself. */
static void expect_prepared(const linear_case_t *c, const ag_isa_t *isa, const float *y,
                            const char *what)
{
    uint64_t row_bytes = ag_linear_prepared_bytes(&c->linear, false);
    linear_case_t prepared = *c;
    kernel_call_t call = {.fn = run_prepared, .arg = &prepared, .isa = isa};
    float *got;

    cr_assert_eq(row_bytes % 4, 0);
    prepared.linear.prepared = take(c->n_rows * row_bytes);
    got = kernel_call(&call, c->n_rows * c->linear.n, what);
    cr_expect_eq(memcmp(got, y, c->n_rows * c->linear.n * sizeof(float)), 0,
                 "%s: rows prepared together have other bits", what);
    free(got);
    free((void *)prepared.linear.prepared);
}

/* A row has the same bits whatever rows stand beside it. */
static void expect_alone(const linear_case_t *c, const ag_isa_t *isa, const float *y,
                         const char *what)
{
    for (uint64_t row = 0; row < c->n_rows; row += 1 + c->n_rows / 3) {
        linear_case_t alone = *c;
        kernel_call_t call = {.fn = run_r16,
                              .arg = &alone,
                              .isa = isa,
                              .scratch_bytes = ag_linear_r16.scratch_bytes(&c->linear)};
        float *one;

        alone.x = c->x + row * c->linear.k;
        alone.n_rows = 1;
        one = kernel_call(&call, c->linear.n, what);
        cr_expect_eq(memcmp(one, y + row * c->linear.n, c->linear.n * sizeof(float)), 0,
                     "%s: row %llu alone has other bits", what, (unsigned long long)row);
        free(one);
    }
}

static void check_case(ag_dtype_t dtype, uint64_t n, uint64_t k, uint64_t n_rows, uint64_t seed)
{
    unsigned char *rows = random_weights(dtype, seed, n * k), *packed = pack(dtype, rows, n, k);
    float *weights = decode(dtype, rows, n * k), *bias = random_floats(seed + 2, n, 1);
    float *x = random_floats(seed + 1, n_rows * k, 1), *rounded = take(n_rows * k * sizeof(float));
    linear_case_t c = {.linear = {.dtype = dtype,
                                  .packing = AG_PACKING_R16,
                                  .n = n,
                                  .k = k,
                                  .weight = packed,
                                  .bias = seed % 2 == 0 ? bias : NULL},
                       .n_rows = n_rows,
                       .x = x};

    for (uint64_t i = 0; i < k && i < 32; i++) {
        x[i] = seed % 3 == 0 ? 0 : x[i] * 1000; /* a block of zeros, a row far from the others */
    }
    round_x(dtype, x, n_rows * k, rounded);
    for (int i = 0; i < N_ISAS; i++) {
        const ag_isa_t *isa;
        char what[128];
        float *y;

        if (!isa_at(i, &isa) || isa == NULL) {
            continue;
        }
        snprintf(what, sizeof(what), "%s, %s, n %llu, k %llu, %llu rows", ag_isa_name(isa),
                 ag_dtype_info(dtype)->name, (unsigned long long)n, (unsigned long long)k,
                 (unsigned long long)n_rows);
        cr_expect(ag_linear_r16.can(NULL, isa, &c.linear, false));
        cr_expect_not(ag_linear_r16.can(NULL, isa, &c.linear, true));
        y = kernel_call(&(kernel_call_t){.fn = run_r16,
                                         .arg = &c,
                                         .isa = isa,
                                         .scratch_bytes = ag_linear_r16.scratch_bytes(&c.linear),
                                         .yields = true},
                        n_rows * n, what);
        expect_sums(&c, weights, rounded, y, what);
        expect_alone(&c, isa, y, what);
        expect_prepared(&c, isa, y, what);
        free(y);
    }
    free(rows);
    free(packed);
    free(weights);
    free(bias);
    free(x);
    free(rounded);
}

static void check_type(ag_dtype_t dtype)
{
    uint64_t block = ag_dtype_info(dtype)->block_elements, seed = 1000 * (uint64_t)dtype;

    check_case(dtype, 1, block, 1, seed++);
    check_case(dtype, 16, 2 * block, 8, seed++);
    check_case(dtype, 33, 3 * block, 15, seed++);
    for (uint64_t i = 0; i < 10; i++, seed++) {
        check_case(dtype, 1 + random_below(seed, 0, 70), random_k(dtype, seed, 1),
                   1 + random_below(seed, 2, MOST_ROWS), seed);
    }
}

Test(r16, q8_0_weights)
{
    check_type(AG_Q8_0);
}
Test(r16, q4_0_weights)
{
    check_type(AG_Q4_0);
}
Test(r16, q4_1_weights)
{
    check_type(AG_Q4_1);
}
Test(r16, q5_1_weights)
{
    check_type(AG_Q5_1);
}

Test(r16, q5_0_weights)
{
    check_type(AG_Q5_0);
}
Test(r16, q4_k_weights)
{
    check_type(AG_Q4_K);
}
Test(r16, q6_k_weights)
{
    check_type(AG_Q6_K);
}
Test(r16, q5_k_weights)
{
    check_type(AG_Q5_K);
}
Test(r16, q2_k_weights)
{
    check_type(AG_Q2_K);
}
Test(r16, q3_k_weights)
{
    check_type(AG_Q3_K);
}
Test(r16, iq4_nl_weights)
{
    check_type(AG_IQ4_NL);
}
Test(r16, iq4_xs_weights)
{
    check_type(AG_IQ4_XS);
}
Test(r16, mxfp4_weights)
{
    check_type(AG_MXFP4);
}
Test(r16, f8_e4m3_128_weights)
{
    check_type(AG_F8_E4M3_128);
}
Test(r16, an_8_bit_float_that_is_no_number_gives_none)
{
    enum { N = 18, K = 256 };
    unsigned char *rows = random_weights(AG_F8_E4M3_128, 5, N * K), *packed;
    float *x = random_floats(6, K, 1);
    linear_case_t c = {
        .linear = {.dtype = AG_F8_E4M3_128, .packing = AG_PACKING_R16, .n = N, .k = K},
        .n_rows = 1,
        .x = x};

    rows[ag_dtype_bytes(AG_F8_E4M3_128, 3 * K) + 140] = 0xff;
    packed = pack(AG_F8_E4M3_128, rows, N, K);
    c.linear.weight = packed;
    for (int i = 0; i < N_ISAS; i++) {
        const ag_isa_t *isa;

        if (isa_at(i, &isa) && isa != NULL) {
            kernel_call_t call = {.fn = run_r16,
                                  .arg = &c,
                                  .isa = isa,
                                  .scratch_bytes = ag_linear_r16.scratch_bytes(&c.linear)};
            float *y = kernel_call(&call, N, ag_isa_name(isa));

            for (int j = 0; j < N; j++) {
                cr_expect_eq(isnan(y[j]) != 0, j == 3, "%s: y[%d]", ag_isa_name(isa), j);
            }
            free(y);
        }
    }
    free(rows);
    free(packed);
    free(x);
}
Test(r16, bf16_weights)
{
    check_type(AG_BF16);
}
Test(r16, f16_weights)
{
    check_type(AG_F16);
}

/* What a damaged weight or an overflow leaves in x. */
static const struct {
    uint32_t bits;
    bool everywhere; /* else in one column of the row */
} not_finite[] = {{0x7fc00000, false}, {0xffc00000, false}, {0x7f800001, false},
                  {0x7f800000, false}, {0xff800000, false}, {0x7fc00000, true},
                  {0xffffffff, true},  {0x7f800000, true}};

/* Nothing of the row is finite; the other rows have the bits that they have without it. */
static void expect_not_finite(linear_case_t c, uint64_t row, const ag_isa_t *isa, const char *what)
{
    uint64_t n = c.linear.n, k = c.linear.k;
    float *x = take(c.n_rows * k * sizeof(float)), *y, *wanted;
    kernel_call_t call = {.fn = run_r16,
                          .arg = &c,
                          .isa = isa,
                          .scratch_bytes = ag_linear_r16.scratch_bytes(&c.linear)};

    wanted = kernel_call(&call, c.n_rows * n, what);
    for (size_t i = 0; i < sizeof(not_finite) / sizeof(not_finite[0]); i++) {
        memcpy(x, c.x, c.n_rows * k * sizeof(float));
        for (uint64_t j = 0; j < k; j++) {
            if (not_finite[i].everywhere || j == (7 * i + row) % k) {
                memcpy(&x[row * k + j], &not_finite[i].bits, sizeof(float));
            }
        }
        call.arg = &(linear_case_t){.linear = c.linear, .n_rows = c.n_rows, .x = x};
        y = kernel_call(&call, c.n_rows * n, what);
        for (uint64_t at = 0; at < c.n_rows * n; at++) {
            cr_assert(at / n == row ? !isfinite(y[at]) : memcmp(&y[at], &wanted[at], 4) == 0,
                      "%s, %#x in row %llu of %llu: y[%llu] is %g", what, not_finite[i].bits,
                      (unsigned long long)row, (unsigned long long)c.n_rows, (unsigned long long)at,
                      (double)y[at]);
        }
        free(y);
    }
    free(wanted);
    free(x);
}

Test(r16, rows_that_are_not_finite_give_nothing_finite)
{
    static const uint64_t rows[] = {1, 3, 9};
    enum { N = 20, K = 256 };

    for (int t = 0; t < AG_N_DTYPES; t++) {
        ag_dtype_t dtype = (ag_dtype_t)t;
        unsigned char *weights, *packed;

        if (ag_packing_choose(dtype, K) != AG_PACKING_R16) {
            continue;
        }
        weights = random_weights(dtype, 7, N * K);
        packed = pack(dtype, weights, N, K);
        for (int i = 0; i < N_ISAS * 3; i++) {
            linear_case_t c = {.linear = {.dtype = dtype,
                                          .packing = AG_PACKING_R16,
                                          .n = N,
                                          .k = K,
                                          .weight = packed},
                               .n_rows = rows[i % 3],
                               .x = random_floats((uint64_t)i, rows[i % 3] * K, 1)};
            const ag_isa_t *isa;
            char what[64];

            if (isa_at(i / 3, &isa) && isa != NULL) {
                snprintf(what, sizeof(what), "%s, %s", ag_isa_name(isa),
                         ag_dtype_info(dtype)->name);
                expect_not_finite(c, rows[i % 3] / 2, isa, what);
            }
            free((void *)c.x);
        }
        free(weights);
        free(packed);
    }
}

enum { SHARED_N = 40, SHARED_K = 256, SHARED_ROWS = 9 };

/* Layers one after the other with one scratch: of one input, of one input in another form, of
 * another input, and after a layer that uses the scratch for something else. */
typedef struct chain {
    ag_linear_t layers[6];
    const float *x[6];
} chain_t;

static void run_chain(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const chain_t *chain = arg;
    ag_prepared_t prepared = {0};
    ag_kernel_context_t mine = *context;

    mine.prepared = &prepared;
    for (int i = 0; i < 6; i++) {
        ag_kernel_linear(&mine, &chain->layers[i], chain->x[i], SHARED_ROWS, false,
                         y + i * SHARED_ROWS * SHARED_N);
    }
}

Test(r16, layers_of_one_input_share_its_prepared_rows_and_others_do_not)
{
    static const ag_dtype_t dtypes[6] = {AG_Q4_0, AG_Q4_0, AG_Q6_K, AG_Q4_0, AG_F32, AG_Q4_0};
    static const int inputs[6] = {0, 0, 0, 1, 1, 1};
    chain_t chain;
    unsigned char *rows[6], *packed[6];
    float *x[2], *y;
    size_t scratch_bytes = 0;
    kernel_call_t call = {.fn = run_chain, .arg = &chain, .isa = ag_isa_best()};

    for (uint64_t i = 0; i < 2; i++) {
        x[i] = random_floats(70 + i, SHARED_ROWS * SHARED_K, 1);
    }
    for (uint64_t i = 0; i < 6; i++) {
        ag_packing_t packing = ag_packing_choose(dtypes[i], SHARED_K);
        size_t bytes;

        rows[i] = random_weights(dtypes[i], 80 + i, SHARED_N * SHARED_K);
        packed[i] = packing == AG_PACKING_R16 ? pack(dtypes[i], rows[i], SHARED_N, SHARED_K) : NULL;
        chain.x[i] = x[inputs[i]];
        chain.layers[i] = (ag_linear_t){.dtype = dtypes[i],
                                        .packing = packing,
                                        .n = SHARED_N,
                                        .k = SHARED_K,
                                        .weight = packed[i] != NULL ? packed[i] : rows[i]};
        bytes = ag_linear_scratch_bytes(&chain.layers[i]);
        scratch_bytes = bytes > scratch_bytes ? bytes : scratch_bytes;
    }
    call.scratch_bytes = scratch_bytes;
    y = kernel_call(&call, 6 * SHARED_ROWS * SHARED_N, "a chain");
    for (int i = 0; i < 6; i++) {
        float *rounded = take(SHARED_ROWS * SHARED_K * sizeof(float));
        float *weights = decode(dtypes[i], rows[i], SHARED_N * SHARED_K);
        linear_case_t c = {.linear = chain.layers[i], .n_rows = SHARED_ROWS, .x = chain.x[i]};

        memcpy(rounded, chain.x[i], SHARED_ROWS * SHARED_K * sizeof(float));
        if (dtypes[i] != AG_F32) {
            round_x(dtypes[i], chain.x[i], SHARED_ROWS * SHARED_K, rounded);
        }
        expect_sums(&c, weights, rounded, y + i * SHARED_ROWS * SHARED_N, "a chain");
        free(rounded);
        free(weights);
        free(rows[i]);
        free(packed[i]);
    }
    free(x[0]);
    free(x[1]);
    free(y);
}

/* The largest products there are: 16-bit sums of two would saturate. */
Test(r16, products_of_the_largest_bytes_do_not_saturate)
{
    enum { N = 16, K = 64 };
    static unsigned char rows[N * K / 32 * 34];
    float x[K], weights[N * K], rounded[K];
    unsigned char *packed;

    for (int b = 0; b < N * K / 32; b++) {
        uint16_t one = ag_f32_to_f16(1);

        memcpy(rows + 34 * b, &one, 2);
        memset(rows + 34 * b + 2, b % 3 == 0 ? -128 : 127, 32);
    }
    for (int i = 0; i < K; i++) {
        x[i] = i < 32 ? -1 : 1;
    }
    packed = pack(AG_Q8_0, rows, N, K);
    ag_dtype_info(AG_Q8_0)->unpack(rows, weights, N * K / 32);
    round_x(AG_Q8_0, x, K, rounded);
    for (int i = 0; i < N_ISAS; i++) {
        linear_case_t c = {.linear = {.dtype = AG_Q8_0,
                                      .packing = AG_PACKING_R16,
                                      .n = N,
                                      .k = K,
                                      .weight = packed},
                           .n_rows = 1,
                           .x = x};
        const ag_isa_t *isa;

        if (isa_at(i, &isa) && isa != NULL) {
            kernel_call_t call = {.fn = run_r16,
                                  .arg = &c,
                                  .isa = isa,
                                  .scratch_bytes = ag_linear_r16.scratch_bytes(&c.linear)};
            float *y = kernel_call(&call, N, ag_isa_name(isa));

            expect_sums(&c, weights, rounded, y, ag_isa_name(isa));
            free(y);
        }
    }
    free(packed);
}

Test(isa, an_unknown_name_is_refused_with_those_that_are_known)
{
    const ag_isa_t *isa = NULL;

    cr_expect_eq(ag_isa_find("avx3", &isa), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "avx3") != NULL && strstr(ag_error(), "base") != NULL, "%s",
              ag_error());
    cr_expect_null(isa);
}

Test(isa, the_best_is_one_that_can_be_asked_for_and_base_is_everywhere)
{
    const ag_isa_t *isa = NULL;

    cr_expect_eq(ag_isa_find(ag_isa_name(ag_isa_best()), &isa), AG_OK);
    cr_expect_eq(isa, ag_isa_best());
    cr_expect_eq(ag_isa_find("base", &isa), AG_OK);
    cr_expect_str_eq(ag_isa_name(isa), "base");
}
