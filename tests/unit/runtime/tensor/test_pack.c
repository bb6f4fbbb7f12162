#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "read_data.h"
#include "runtime/base/philox.h"
#include "runtime/tensor/dtype.h"

static bool is_written(int dtype)
{
    return ag_dtype_info((ag_dtype_t)dtype)->pack != NULL;
}

/* Types that the gguf package encodes, too. */
static const ag_dtype_t known[] = {AG_F16,  AG_BF16, AG_Q8_0, AG_Q4_0,
                                   AG_Q4_1, AG_Q5_0, AG_Q5_1, AG_MXFP4};

Test(pack, the_bits_are_those_of_the_gguf_package)
{
    size_t n_values_bytes, n_expected;
    float *values = read_data("values", &n_values_bytes);

    for (size_t t = 0; t < sizeof(known) / sizeof(known[0]); t++) {
        const ag_dtype_info_t *info = ag_dtype_info(known[t]);
        size_t n_blocks = n_values_bytes / sizeof(float) / info->block_elements;
        char name[32];
        unsigned char *expected, *packed = malloc(n_blocks * info->block_bytes);

        snprintf(name, sizeof(name), "%s.packed", info->name);
        expected = read_data(name, &n_expected);
        cr_assert_eq(n_expected, n_blocks * info->block_bytes);
        info->pack(values, packed, n_blocks);
        for (size_t i = 0; i < n_expected; i++) {
            cr_assert_eq(packed[i], expected[i], "%s: byte %zu of block %zu is %u, not %u",
                         info->name, i % info->block_bytes, i / info->block_bytes, packed[i],
                         expected[i]);
        }
        free(packed);
        free(expected);
    }
    free(values);
}

/* n normal values times size. */
static void fill_normal(float *values, size_t n, float size, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        double u = ag_philox_uniform(seed, 0, i), v = ag_philox_uniform(seed, 1, i);

        values[i] = size * (float)(sqrt(-2 * log(u + 1e-12)) * cos(6.283185307 * v));
    }
}

/* Root of the mean square error over that of the values, of n values. */
static double relative_error(ag_dtype_t dtype, const float *values, size_t n)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);
    size_t n_blocks = n / info->block_elements;
    unsigned char *packed = malloc(n_blocks * info->block_bytes);
    float *back = malloc(n * sizeof(float));
    double error = 0, square = 0;

    info->pack(values, packed, n_blocks);
    info->unpack(packed, back, n_blocks);
    for (size_t i = 0; i < n; i++) {
        error += ((double)back[i] - values[i]) * ((double)back[i] - values[i]);
        square += (double)values[i] * values[i];
    }
    free(packed);
    free(back);
    return square > 0 ? sqrt(error / square) : sqrt(error);
}

/* Bounds stand a few percent above what ggml leaves of such values (tests/bench/bench_pack.c). */
Test(pack, normal_values_come_back_as_near_as_each_type_allows)
{
    static const struct {
        ag_dtype_t dtype;
        double bound;
    } bounds[] = {{AG_F32, 0},      {AG_F16, 3e-4},   {AG_BF16, 2e-3},  {AG_Q8_0, 0.006},
                  {AG_Q6_K, 0.018}, {AG_Q5_1, 0.039}, {AG_Q5_0, 0.044}, {AG_Q4_K, 0.073},
                  {AG_Q4_1, 0.080}, {AG_Q4_0, 0.088}, {AG_MXFP4, 0.13}};
    static float values[64 * 256];

    for (size_t b = 0; b < sizeof(bounds) / sizeof(bounds[0]); b++) {
        for (int size = -2; size <= 2; size += 2) { /* of smaller ones float16 scales are few */
            double error;

            fill_normal(values, 64 * 256, powf(10, (float)size), (uint64_t)(size + 10));
            error = relative_error(bounds[b].dtype, values, 64 * 256);
            cr_expect_leq(error, bounds[b].bound, "%s, size 1e%d: %g",
                          ag_dtype_info(bounds[b].dtype)->name, size, error);
            cr_expect(bounds[b].bound == 0 || error >= bounds[b].bound / 3, "%s, size 1e%d: %g",
                      ag_dtype_info(bounds[b].dtype)->name, size, error);
        }
    }
}

Test(pack, unusual_blocks_come_back_as_near_as_their_largest_value_allows)
{
    static float values[256];

    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        const char *name = ag_dtype_info((ag_dtype_t)dtype)->name;

        for (int shape = 0; is_written(dtype) && shape < 8; shape++) {
            fill_normal(values, 256, 1, 77);
            for (int i = 0; i < 256; i++) {
                float v = values[i];

                values[i] = shape == 0   ? 0
                            : shape == 1 ? 0.37f
                            : shape == 2 ? -0.37f
                            : shape == 3 ? fabsf(v)
                            : shape == 4 ? -fabsf(v)
                            : shape == 5 ? (i % 32 == 7 ? 3.0f : 0)
                            : shape == 6 ? (i == 100 ? -5.0f : 0.001f * v)
                                         : (float)(i % 16) - 8;
            }
            cr_expect_leq(relative_error((ag_dtype_t)dtype, values, 256), 0.21, "%s, shape %d: %g",
                          name, shape, relative_error((ag_dtype_t)dtype, values, 256));
        }
        for (int i = 0; i < 256; i++) { /* their scale is zero, its inverse infinite */
            values[i] = (i % 3 == 0 ? 0 : i % 2 == 0 ? 1e-41f : -1e-41f);
        }
        cr_expect(!is_written(dtype) || relative_error((ag_dtype_t)dtype, values, 256) <= 1, "%s",
                  name);
    }
}

Test(pack, what_was_unpacked_from_plain_types_is_packed_to_what_it_was)
{
    for (size_t t = 0; t < 2; t++) {
        const ag_dtype_info_t *info = ag_dtype_info(known[t]);
        char name[32];
        size_t n_bytes;
        unsigned char *blocks, *packed;
        float *values;

        snprintf(name, sizeof(name), "%s.blocks", info->name);
        blocks = read_data(name, &n_bytes);
        packed = malloc(n_bytes);
        values = malloc(n_bytes * 2);
        info->unpack(blocks, values, n_bytes / 2);
        info->pack(values, packed, n_bytes / 2);
        cr_expect_arr_eq(packed, blocks, n_bytes, "%s", info->name);
        free(values);
        free(packed);
        free(blocks);
    }
}

Test(pack, no_values_are_no_blocks)
{
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        float value = 1.5f;

        if (is_written(dtype)) {
            ag_dtype_info((ag_dtype_t)dtype)->pack(&value, &value, 0);
        }
        cr_expect_eq(value, 1.5f);
    }
}
