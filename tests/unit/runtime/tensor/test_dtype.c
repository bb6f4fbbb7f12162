#include "runtime/tensor/dtype.h"
#include "runtime/tensor/tensor.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(dtype, every_row_is_found_by_each_of_its_names)
{
    for (int i = 0; i < AG_N_DTYPES; i++) {
        const ag_dtype_info_t *info = ag_dtype_info((ag_dtype_t)i);
        ag_dtype_t dtype = AG_N_DTYPES;

        cr_assert(info->name != NULL && info->unpack != NULL, "row %d", i);
        cr_assert_eq(ag_dtype_from_name(info->name, &dtype), AG_OK);
        cr_expect_eq((int)dtype, i);
        dtype = AG_N_DTYPES;
        cr_expect_eq(ag_dtype_to_write(info->name, &dtype) == AG_OK, info->pack != NULL);
        cr_expect_eq((int)dtype, info->pack != NULL ? i : AG_N_DTYPES);
        dtype = AG_N_DTYPES;
        if (info->ggml_type >= 0) {
            cr_assert_eq(ag_dtype_from_ggml(info->ggml_type, "a.gguf, x", &dtype), AG_OK);
            cr_expect_eq((int)dtype, i);
        }
        if (info->safetensors != NULL) {
            dtype = AG_N_DTYPES;
            cr_assert_eq(ag_dtype_from_safetensors(info->safetensors, "a", &dtype), AG_OK);
            cr_expect_eq((int)dtype, i);
        }
    }
}

/* types.txt of tests/parity/make_blocks.py: name, number, elements and bytes of a block */
Test(dtype, numbers_and_blocks_are_those_of_the_gguf_package)
{
    FILE *file = fopen(AG_TEST_DATA "/dequant/types.txt", "r");
    char name[16];
    int number, n_types = 0, n_known = 0;
    unsigned n_elements, n_bytes;

    cr_assert_not_null(file);
    for (; fscanf(file, "%15s %d %u %u", name, &number, &n_elements, &n_bytes) == 4; n_types++) {
        ag_dtype_t dtype = AG_N_DTYPES;

        cr_assert_eq(ag_dtype_from_name(name, &dtype), AG_OK, "%s", name);
        cr_expect_eq(ag_dtype_info(dtype)->ggml_type, number, "%s", name);
        cr_expect_eq(ag_dtype_info(dtype)->block_elements, n_elements, "%s", name);
        cr_expect_eq(ag_dtype_info(dtype)->block_bytes, n_bytes, "%s", name);
    }
    fclose(file);
    for (int i = 0; i < AG_N_DTYPES; i++) {
        n_known += ag_dtype_info((ag_dtype_t)i)->ggml_type >= 0;
    }
    cr_expect_eq(n_types, n_known, "run make_blocks.py for the new type");
}

Test(dtype, a_type_that_is_not_known_is_an_error_that_lists_the_known)
{
    ag_dtype_t dtype = AG_F32;

    cr_expect_eq(ag_dtype_from_ggml(99, "a.gguf, tensor x", &dtype), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "a.gguf, tensor x"));
    cr_expect_not_null(strstr(ag_error(), "99"));
    cr_expect_eq(ag_dtype_from_ggml(-1, "a.gguf, tensor x", &dtype), AG_ERR_UNSUPPORTED);
    for (int i = 0; i < AG_N_DTYPES; i++) {
        const char *name = ag_dtype_info((ag_dtype_t)i)->name;

        cr_expect(ag_dtype_info((ag_dtype_t)i)->ggml_type < 0 || strstr(ag_error(), name) != NULL,
                  "%s is not in: %s", name, ag_error());
    }
    cr_expect_eq(ag_dtype_from_safetensors("F8_E5M2", "b, tensor y", &dtype), AG_ERR_UNSUPPORTED);
    cr_expect_str_eq(ag_error(),
                     "b, tensor y: type \"F8_E5M2\" is not known (known: F32, F16, BF16, F8_E4M3)");
    cr_expect_eq(ag_dtype_from_name("q9", &dtype), AG_ERR_UNSUPPORTED);
    cr_expect_eq(ag_dtype_to_write("q3_k", &dtype), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "q4_k"));
    cr_expect_null(strstr(ag_error(), "q5_k"));
    cr_expect_eq(dtype, AG_F32, "an output is set on success only");
}

Test(dtype, bytes_are_those_of_whole_blocks)
{
    cr_expect_eq(ag_dtype_bytes(AG_F32, 3), 12);
    cr_expect_eq(ag_dtype_bytes(AG_Q4_1, 576), 18 * 20);
    cr_expect_eq(ag_dtype_bytes(AG_Q6_K, 512), 2 * 210);
}

Test(tensor, a_shape_reads_as_in_the_literature)
{
    char text[64], small[6];

    cr_expect_str_eq(ag_shape_text(2, (uint64_t[]){576, 1536}, text, sizeof(text)), "(576, 1536)");
    cr_expect_str_eq(ag_shape_text(1, (uint64_t[]){7}, text, sizeof(text)), "(7)");
    cr_expect_str_eq(ag_shape_text(0, NULL, text, sizeof(text)), "()");
    cr_expect_str_eq(ag_shape_text(2, (uint64_t[]){576, 1536}, small, sizeof(small)), "(576,");
}
