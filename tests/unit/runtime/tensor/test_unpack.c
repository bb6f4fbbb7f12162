#include "runtime/tensor/dtype.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "read_data.h"

/* "q4_0", "blocks" */
static void *read_type(const char *name, const char *suffix, size_t *n_bytes_p)
{
    char file[64];

    snprintf(file, sizeof(file), "%s.%s", name, suffix);
    return read_data(file, n_bytes_p);
}

static void expect_values(ag_dtype_t dtype)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);
    size_t n_block_bytes, n_expected_bytes, n_blocks;
    unsigned char *blocks = read_type(info->name, "blocks", &n_block_bytes);
    float *expected = read_type(info->name, "f32", &n_expected_bytes);
    float *values;

    cr_assert_eq(n_block_bytes % info->block_bytes, 0);
    n_blocks = n_block_bytes / info->block_bytes;
    cr_assert_eq(n_expected_bytes, n_blocks * info->block_elements * sizeof(float));
    cr_assert_eq(ag_dtype_bytes(dtype, n_blocks * info->block_elements), n_block_bytes);

    /* exact sizes, so that the sanitizer sees a read or a write too far */
    values = malloc(n_expected_bytes);
    blocks = realloc(blocks, n_block_bytes);
    cr_assert(values != NULL && blocks != NULL);
    info->unpack(blocks, values, n_blocks);
    for (size_t i = 0; i < n_blocks * info->block_elements; i++) {
        cr_assert_eq(ag_bits_of_f32(values[i]), ag_bits_of_f32(expected[i]),
                     "%s: value %zu is %a, not %a", info->name, i, (double)values[i],
                     (double)expected[i]);
    }
    free(values);
    free(expected);
    free(blocks);
}

Test(unpack, every_type_gives_the_bits_of_the_gguf_package_or_of_torch)
{
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        expect_values((ag_dtype_t)dtype);
    }
}

Test(unpack, blocks_may_stand_at_any_address)
{
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        const ag_dtype_info_t *info = ag_dtype_info((ag_dtype_t)dtype);
        size_t n_bytes;
        unsigned char *blocks = read_type(info->name, "blocks", &n_bytes);
        unsigned char moved[256];
        float values[256], moved_values[256];

        cr_assert_leq(info->block_bytes, sizeof(moved) - 1);
        memcpy(moved + 1, blocks, info->block_bytes);
        info->unpack(blocks, values, 1);
        info->unpack(moved + 1, moved_values, 1);
        cr_expect_arr_eq(moved_values, values, info->block_elements * sizeof(float), "%s",
                         info->name);
        free(blocks);
    }
}

Test(unpack, no_blocks_are_no_values)
{
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        float value = 1.5f;

        ag_dtype_info((ag_dtype_t)dtype)->unpack(&value, &value, 0);
        cr_expect_eq(value, 1.5f);
    }
}

Test(unpack, what_is_no_number_stays_none)
{
    const unsigned char none[2] = {0x7f, 0xff};
    unsigned char block[132] = {0, 0, 128, 63, 0x7f};
    float values[128];

    ag_dtype_info(AG_F8_E4M3)->unpack(none, values, 2);
    cr_expect(isnan(values[0]) && isnan(values[1]));
    ag_dtype_info(AG_F8_E4M3_128)->unpack(block, values, 1);
    cr_expect(isnan(values[0]) && values[1] == 0);
}
