/* Models in forms that are several files, or several tensors for one. */
#include "runtime/file/model_files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "make_files.h"

typedef struct part {
    unsigned number, n_parts; /* as its metadata say; n_parts 0: nothing */
    unsigned n_tensors;       /* of all, as its metadata say; 0: nothing */
    const char *tensor;       /* of two float32, or NULL */
} part_t;

/* A part whose tensor is two floats, 1 and the part's number. */
static void write_part(const scratch_t *scratch, const char *name, const part_t *part)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    float values[2] = {1, (float)part->number};
    uint64_t n_entries = (part->n_parts > 0 ? 2 : 0) + (part->n_tensors > 0);

    put_gguf_start(&bytes, part->tensor != NULL, n_entries);
    if (part->n_parts > 0) {
        put_gguf_key(&bytes, "split.no", AG_GGUF_U16);
        put_u16(&bytes, (uint16_t)part->number);
        put_gguf_key(&bytes, "split.count", AG_GGUF_U16);
        put_u16(&bytes, (uint16_t)part->n_parts);
    }
    if (part->n_tensors > 0) {
        put_gguf_key(&bytes, "split.tensors.count", AG_GGUF_I32);
        put_u32(&bytes, part->n_tensors);
    }
    if (part->tensor != NULL) {
        put_gguf_tensor(&bytes, part->tensor, 1, (uint64_t[]){2}, 0, 0);
        put_alignment(&bytes, 32);
        put(&bytes, values, sizeof(values));
    }
    scratch_write(scratch, name, bytes.items, bytes.n_items);
    ag_array_fini(&bytes);
}

static void write_three(const scratch_t *scratch)
{
    write_part(scratch, "m-00001-of-00003.gguf", &(part_t){0, 3, 2, NULL});
    write_part(scratch, "m-00002-of-00003.gguf", &(part_t){1, 3, 2, "a"});
    write_part(scratch, "m-00003-of-00003.gguf", &(part_t){2, 3, 2, "b"});
}

static void expect_refused(const scratch_t *scratch, const char *name, const char *says)
{
    ag_model_files_t *files = NULL;

    cr_expect_neq(ag_model_files_open(scratch_path(scratch, name), &files), AG_OK);
    cr_expect(error_says(scratch->path, says, NULL), "%s", ag_error());
    cr_expect_null(strchr(ag_error(), '\n'));
}

Test(model_forms, any_part_of_a_split_gguf_opens_all_of_them)
{
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00003-of-00003.gguf"};
    scratch_t scratch;

    scratch_open(&scratch);
    write_three(&scratch);
    for (int i = 0; i < 2; i++) {
        ag_model_files_t *files = NULL;
        const ag_model_tensor_t *tensor = NULL;
        float values[2];
        size_t n;

        cr_assert_eq(ag_model_files_open(scratch_path(&scratch, names[i]), &files), AG_OK, "%s",
                     ag_error());
        ag_model_files_tensors(files, &n);
        cr_expect_eq(n, 2);
        cr_assert_not_null(ag_gguf_get(ag_model_files_gguf(files), "split.no"));
        cr_expect_eq(ag_gguf_get(ag_model_files_gguf(files), "split.no")->as.integer, 0,
                     "the metadata are those of the first");
        cr_assert_eq(ag_model_files_require(files, "b", &tensor), AG_OK);
        cr_assert_eq(ag_model_files_read(files, tensor, 0, sizeof(values), values), AG_OK);
        cr_expect_eq(values[1], 2);
        ag_model_files_close(files);
    }
    scratch_close(&scratch);
}

Test(model_forms, of_a_folder_of_gguf_files_one_is_to_be_named)
{
    scratch_t scratch;

    scratch_open(&scratch);
    expect_refused(&scratch, ".", "a model is a GGUF file, or");
    write_three(&scratch);
    expect_refused(&scratch, ".", "but m-00001-of-00003.gguf");
    scratch_close(&scratch);
}

Test(model_forms, parts_that_do_not_belong_together_are_refused)
{
    scratch_t scratch;

    scratch_open(&scratch);
    write_three(&scratch);
    write_part(&scratch, "other.gguf", &(part_t){1, 3, 0, "a"});
    expect_refused(&scratch, "other.gguf", "-00002-of-00003.gguf");
    write_part(&scratch, "beyond.gguf", &(part_t){3, 3, 0, "a"});
    expect_refused(&scratch, "beyond.gguf", "part 4 of 3");
    write_part(&scratch, "m-00003-of-00003.gguf", &(part_t){1, 3, 0, "b"});
    expect_refused(&scratch, "m-00001-of-00003.gguf", "not part 3 of 3");
    write_part(&scratch, "m-00003-of-00003.gguf", &(part_t){2, 3, 0, "a"});
    expect_refused(&scratch, "m-00001-of-00003.gguf", "'a' is in both");
    write_part(&scratch, "m-00003-of-00003.gguf", &(part_t){2, 3, 0, NULL});
    expect_refused(&scratch, "m-00001-of-00003.gguf", "1 tensors, not 2");
    cr_assert_eq(unlink(scratch_path(&scratch, "m-00003-of-00003.gguf")), 0);
    expect_refused(&scratch, "m-00001-of-00003.gguf", "part 3 of 3");
    write_part(&scratch, "m-00003-of-00003.gguf", &(part_t){0, 0, 0, "b"});
    expect_refused(&scratch, "m-00002-of-00003.gguf", "not part 3 of 3");
    scratch_close(&scratch);
}

static const ag_model_tensor_t *find(const ag_model_files_t *files, const char *name)
{
    const ag_model_tensor_t *tensor = NULL;

    cr_assert_eq(ag_model_files_require(files, name, &tensor), AG_OK, "%s", ag_error());
    return tensor;
}

/* data/f8 of tests/parity/make_f8.py, in ranges of blocks of all lengths. */
Test(model_forms, scaled_8_bit_floats_have_the_values_that_torch_multiplies_out)
{
    static const char *const names[] = {"blocks.weight", "rows.weight", "one.weight"};
    FILE *file = fopen(AG_TEST_DATA "/f8/expected.f32", "rb");
    ag_model_files_t *files = NULL;

    cr_assert_not_null(file);
    cr_assert_eq(ag_model_files_open(AG_TEST_DATA "/f8", &files), AG_OK, "%s", ag_error());
    for (int i = 0; i < 3; i++) {
        const ag_model_tensor_t *tensor = find(files, names[i]);
        uint64_t n_blocks = tensor->dims[0] * tensor->dims[1] / 128, n;
        float *expected = malloc(n_blocks * 512);

        cr_assert_eq(tensor->dtype, AG_F8_E4M3_128);
        cr_assert_eq(tensor->bytes, n_blocks * 132);
        cr_assert_eq(fread(expected, 512, n_blocks, file), n_blocks);
        for (uint64_t begin = 0; begin < n_blocks; begin += n) {
            unsigned char *blocks;
            float *values;

            n = 1 + begin * 7 % 40;
            n = n < n_blocks - begin ? n : n_blocks - begin;
            blocks = malloc(n * 132);
            values = malloc(n * 512);
            cr_assert_eq(ag_model_files_read(files, tensor, begin * 132, n * 132, blocks), AG_OK);
            ag_dtype_info(tensor->dtype)->unpack(blocks, values, n);
            cr_expect_arr_eq(values, expected + begin * 128, n * 512, "%s, block %llu", names[i],
                             (unsigned long long)begin);
            free(blocks);
            free(values);
        }
        cr_expect_eq(ag_model_files_read(files, tensor, 0, 0, NULL), AG_OK);
        cr_expect_eq(ag_model_files_read(files, tensor, 4, 132, expected), AG_ERR_INVALID);
        free(expected);
    }
    ag_model_files_close(files);
    fclose(file);
}

#define F8(name, rows, cols, begin, end)                                                           \
    "\"" name "\":{\"dtype\":\"F8_E4M3\",\"shape\":[" rows "," cols "],\"data_offsets\":[" begin   \
    "," end "]}"

static void write_folder(const scratch_t *scratch, const char *header, size_t n_bytes)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_safetensors(&bytes, header, n_bytes);
    scratch_write(scratch, "model.safetensors", bytes.items, bytes.n_items);
    scratch_write(scratch, "config.json", "{}", 2);
    ag_array_fini(&bytes);
}

Test(model_forms, eight_bit_floats_without_scales_are_what_they_are)
{
    ag_model_files_t *files = NULL;
    scratch_t scratch;

    scratch_open(&scratch);
    write_folder(&scratch, "{" F8("w", "2", "3", "0", "6") "}", 6);
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    cr_expect_eq(find(files, "w")->dtype, AG_F8_E4M3);
    cr_expect_eq(find(files, "w")->bytes, 6);
    ag_model_files_close(files);
    scratch_close(&scratch);
}

Test(model_forms, scales_that_do_not_fit_are_refused)
{
    static const struct {
        const char *header, *says;
        size_t n_bytes;
    } cases[] = {
        {"{" F8("w", "2", "128", "0", "256") ",\"w_scale\":{\"dtype\":\"F32\",\"shape\":[3],"
                                             "\"data_offsets\":[256,268]}}",
         "shape (3)", 268},
        {"{" F8("w", "2", "128", "0", "256") ",\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[0],"
                                             "\"data_offsets\":[256,256]}}",
         "shape (0)", 256},
        {"{" F8("w", "2", "100", "0", "200") ",\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1],"
                                             "\"data_offsets\":[200,204]}}",
         "rows of 100", 204},
        {"{" F8("w", "2", "128", "0", "256") ",\"w_scale_inv\":{\"dtype\":\"F8_E8M0\","
                                             "\"shape\":[1],\"data_offsets\":[256,257]}}",
         "F8_E8M0", 257},
        {"{" F8("w", "2", "128", "0", "256") "," F8("w_scale", "1", "1", "256", "257") "}",
         "type f8_e4m3", 257},
    };
    scratch_t scratch;

    scratch_open(&scratch);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_folder(&scratch, cases[i].header, cases[i].n_bytes);
        expect_refused(&scratch, ".", cases[i].says);
    }
    scratch_close(&scratch);
}

#define U8(name, shape, begin, end)                                                                \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

/* Two experts' two rows of 64 values: every value of the type, and scales of 1, 2, 4.. */
Test(model_forms, four_bit_floats_and_their_scales_are_one_tensor)
{
    enum { N_BLOCKS = 8, N_RAW = N_BLOCKS * 16 };
    static const char header[] =
        "{" U8("w_blocks", "2,2,2,16", "0", "128") "," U8("w_scales", "2,2,2", "128", "136") "}";
    static const float table[16] = {0, 0.5f,  1,  1.5f,  2,  3,  4,  6,
                                    0, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    ag_array_t bytes = AG_ARRAY(unsigned char);
    const ag_model_tensor_t *tensor;
    ag_model_files_t *files = NULL;
    unsigned char *data, blocks[N_BLOCKS * 17];
    float values[N_BLOCKS * 32];
    scratch_t scratch;

    scratch_open(&scratch);
    put_safetensors(&bytes, header, N_RAW + N_BLOCKS);
    data = AG_ITEMS(&bytes, unsigned char) + bytes.n_items - N_RAW - N_BLOCKS;
    for (int i = 0; i < N_RAW; i++) {
        data[i] = (unsigned char)(i * 37 + i / 16);
    }
    for (int i = 0; i < N_BLOCKS; i++) {
        data[N_RAW + i] = (unsigned char)(127 + i);
    }
    scratch_write(&scratch, "model.safetensors", bytes.items, bytes.n_items);
    scratch_write(&scratch, "config.json", "{}", 2);
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    tensor = find(files, "w");
    cr_assert_eq(tensor->dtype, AG_MXFP4);
    cr_assert_eq(tensor->n_dims, 3);
    cr_expect_eq(tensor->dims[2], 64);
    cr_assert_eq(tensor->bytes, sizeof(blocks));
    for (int i = 0; i < N_BLOCKS; i++) { /* one by one, and the last two at once */
        uint64_t n = i == N_BLOCKS - 2 ? 2 : 1;

        cr_assert_eq(ag_model_files_read(files, tensor, (uint64_t)i * 17, n * 17, blocks + i * 17),
                     AG_OK);
    }
    ag_dtype_info(AG_MXFP4)->unpack(blocks, values, N_BLOCKS);
    for (int i = 0; i < N_BLOCKS * 32; i++) {
        unsigned code = data[i / 2] >> (i % 2 * 4) & 15;

        cr_assert_eq(values[i], table[code] * (float)(1 << i / 32), "value %d: %g", i,
                     (double)values[i]);
    }
    cr_expect_eq(ag_model_files_read(files, tensor, 0, 0, NULL), AG_OK);
    cr_expect_eq(ag_model_files_read(files, tensor, 1, 17, blocks), AG_ERR_INVALID);
    ag_model_files_close(files);
    ag_array_fini(&bytes);
    scratch_close(&scratch);
}

Test(model_forms, four_bit_floats_whose_scales_do_not_fit_are_refused)
{
    static const struct {
        const char *header, *says;
        size_t n_bytes;
    } cases[] = {
        {"{" U8("w_blocks", "2,1,16", "0", "32") "}", "w_scales", 32},
        {"{" U8("w_blocks", "2,1,16", "0", "32") "," U8("w_scales", "2,2", "32", "36") "}",
         "w_scales", 36},
        {"{" U8("w_blocks", "2,1,8", "0", "16") "," U8("w_scales", "2,1", "16", "18") "}",
         "(2, 1, 8)", 18},
        {"{" U8("w_blocks", "32", "0", "32") "," U8("w_scales", "2", "32", "34") "}", "w_blocks",
         34},
        {"{" U8("w_blocks", "2,1,16", "0", "33") "," U8("w_scales", "2,1", "33", "35") "}",
         "w_blocks", 35},
    };
    scratch_t scratch;

    scratch_open(&scratch);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_folder(&scratch, cases[i].header, cases[i].n_bytes);
        expect_refused(&scratch, ".", cases[i].says);
    }
    scratch_close(&scratch);
}

Test(model_forms, weights_that_are_quantized_in_ways_that_are_not_read_are_told)
{
    static const char config[] = "{\"quantization_config\":{\"quant_method\":\"gptq\"}}";
    const ag_model_tensor_t *tensor;
    ag_model_files_t *files = NULL;
    scratch_t scratch;

    scratch_open(&scratch);
    write_folder(&scratch, "{" F8("w", "2", "128", "0", "256") "}", 256);
    scratch_write(&scratch, "config.json", config, sizeof(config) - 1);
    expect_refused(&scratch, ".", "no scales beside it");
    write_folder(&scratch, "{}", 0);
    scratch_write(&scratch, "config.json", config, sizeof(config) - 1);
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_model_files_require(files, "q.weight", &tensor), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("'q.weight'", "gptq", NULL), "%s", ag_error());
    ag_model_files_close(files);
    scratch_close(&scratch);
}
