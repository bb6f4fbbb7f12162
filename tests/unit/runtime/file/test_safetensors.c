#include "runtime/file/safetensors.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "make_files.h"

#define SAMPLE                                                                                     \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                                       \
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"                           \
    "\"ids\":{\"dtype\":\"I64\",\"shape\":[4],\"data_offsets\":[24,56]},"                          \
    "\"scale\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[56,58]},"                        \
    "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[58,58]},"                       \
    "\"last\":{\"dtype\":\"F16\",\"shape\":[1,2,3,4],\"data_offsets\":[58,106]}}   "

enum { SAMPLE_DATA_BYTES = 106 };

/* One tensor 't' with 16 bytes of data in the file. */
static ag_status_t try_json(const char *json, bool strict)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    ag_safetensors_t *safetensors = NULL;
    memory_file_t file;
    ag_status_t status;

    put_safetensors(&bytes, json, 16);
    memory_file_open(&file, &bytes);
    status = ag_safetensors_open(file.path, strict, &safetensors);
    if (status == AG_OK) {
        ag_safetensors_close(safetensors);
    } else {
        cr_expect(error_says(file.path, NULL));
    }
    memory_file_close(&file);
    ag_array_fini(&bytes);
    return status;
}

static ag_status_t try_tensor(const char *dtype, const char *shape, const char *offsets)
{
    char json[512];

    snprintf(json, sizeof(json), "{\"t\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}", dtype,
             shape, offsets);
    return try_json(json, true);
}

static ag_status_t try_bytes(const void *start, size_t n_bytes)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    ag_safetensors_t *safetensors = NULL;
    memory_file_t file;
    ag_status_t status;

    put(&bytes, start, n_bytes);
    memory_file_open(&file, &bytes);
    status = ag_safetensors_open(file.path, false, &safetensors);
    cr_expect_neq(status, AG_OK);
    cr_expect(error_says(file.path, NULL));
    memory_file_close(&file);
    ag_array_fini(&bytes);
    return status;
}

Test(safetensors, tensors_have_shapes_and_offsets_from_the_start_of_the_file)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    ag_safetensors_t *safetensors = NULL;
    const ag_file_tensor_t *tensors;
    const ag_safetensors_left_out_t *left_out;
    memory_file_t file;
    size_t n;
    size_t data = 8 + strlen(SAMPLE);

    put_safetensors(&bytes, SAMPLE, SAMPLE_DATA_BYTES);
    memory_file_open(&file, &bytes);
    cr_assert_eq(ag_safetensors_open(file.path, false, &safetensors), AG_OK, "%s", ag_error());
    tensors = ag_safetensors_tensors(safetensors, &n);
    cr_assert_eq(n, 4);
    cr_expect_str_eq(tensors[0].name, "w");
    cr_expect_eq(tensors[0].dtype, AG_F32);
    cr_expect_eq(tensors[0].n_dims, 2);
    cr_expect_eq(tensors[0].dims[0], 2);
    cr_expect_eq(tensors[0].dims[1], 3);
    cr_expect_eq(tensors[0].dims[3], 1);
    cr_expect_eq(tensors[0].offset_bytes, data);
    cr_expect_eq(tensors[0].bytes, 24);
    cr_expect_str_eq(tensors[1].name, "scale");
    cr_expect_eq(tensors[1].dtype, AG_BF16);
    cr_expect_eq(tensors[1].n_dims, 0);
    cr_expect_eq(tensors[1].offset_bytes, data + 56);
    cr_expect_eq(tensors[2].bytes, 0);
    cr_expect_eq(tensors[2].dims[0], 0);
    cr_expect_eq(tensors[3].n_dims, 4);
    cr_expect_eq(tensors[3].offset_bytes + tensors[3].bytes, bytes.n_items);
    left_out = ag_safetensors_left_out(safetensors, &n);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(left_out[0].name, "ids");
    cr_expect_str_eq(left_out[0].type, "I64");
    ag_safetensors_close(safetensors);
    memory_file_close(&file);
    ag_array_fini(&bytes);
}

Test(safetensors, the_file_that_transformers_wrote_is_read)
{
    ag_safetensors_t *safetensors = NULL;
    const ag_file_tensor_t *tensors;
    const ag_file_tensor_t *query = NULL;
    size_t n_tensors;

    cr_assert_eq(
        ag_safetensors_open(AG_TEST_DATA "/tiny/llama/model.safetensors", true, &safetensors),
        AG_OK, "%s", ag_error());
    tensors = ag_safetensors_tensors(safetensors, &n_tensors);
    cr_expect_eq(n_tensors, 30);
    for (size_t i = 0; i < n_tensors; i++) {
        if (strcmp(tensors[i].name, "model.layers.0.self_attn.q_proj.weight") == 0) {
            query = &tensors[i];
        }
    }
    cr_assert_not_null(query);
    cr_expect_eq(query->dtype, AG_F32);
    cr_expect_eq(query->dims[0], 72);
    cr_expect_eq(query->dims[1], 72);
    cr_expect_eq(query->offset_bytes, 369704);
    cr_expect_eq(query->bytes, 72 * 72 * 4);
    ag_safetensors_close(safetensors);
}

Test(safetensors, strict_reading_refuses_an_unknown_type_and_lists_the_known_ones)
{
    cr_expect_eq(try_tensor("\"I32\"", "[4]", "[0,16]"), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("'t'", "I32", "BF16", NULL));
    cr_expect_eq(
        try_json("{\"t\":{\"dtype\":\"I32\",\"shape\":[4],\"data_offsets\":[0,16]}}", false), AG_OK,
        "%s", ag_error());
}

Test(safetensors, a_tensor_that_cannot_be_is_refused_by_name)
{
    cr_expect_eq(try_tensor("\"F32\"", "[4]", "[0,16]"), AG_OK, "%s", ag_error());
    cr_expect_eq(try_tensor("\"F32\"", "[5]", "[0,20]"), AG_ERR_FORMAT);
    cr_expect(error_says("'t'", "truncated", NULL));
    cr_expect_eq(try_tensor("\"F32\"", "[3]", "[0,16]"), AG_ERR_FORMAT);
    cr_expect(error_says("'t'", "16 bytes", "12", NULL));
    cr_expect_eq(try_tensor("\"F32\"", "[4]", "[16,0]"), AG_ERR_FORMAT);
    cr_expect(error_says("'t'", "data_offsets", NULL));
    cr_expect_eq(try_tensor("\"F32\"", "[4]", "[-16,0]"), AG_ERR_FORMAT);
    cr_expect_eq(try_tensor("\"F32\"", "[4]", "[0,16,16]"), AG_ERR_FORMAT);
    cr_expect_eq(try_tensor("\"F32\"", "[4]", "[0,16.0]"), AG_ERR_FORMAT);
    cr_expect_eq(try_tensor("\"F32\"", "[4]", "null"), AG_ERR_FORMAT);
    cr_expect_eq(try_tensor("\"F32\"", "[-4]", "[0,16]"), AG_ERR_FORMAT);
    cr_expect_eq(try_tensor("\"F32\"", "[4.0]", "[0,16]"), AG_ERR_FORMAT);
    cr_expect_eq(try_tensor("\"F32\"", "4", "[0,16]"), AG_ERR_FORMAT);
    cr_expect(error_says("'t'", "shape", NULL));
    cr_expect_eq(try_tensor("4", "[4]", "[0,16]"), AG_ERR_FORMAT);
    cr_expect(error_says("'t'", "dtype", NULL));
    cr_expect_eq(try_tensor("\"F32\"", "[1,1,1,1,4]", "[0,16]"), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("'t'", "5 dimensions", NULL));
    cr_expect_eq(try_tensor("\"F32\"", "[4611686018427387904,4]", "[0,0]"), AG_ERR_FORMAT);
    cr_expect(error_says("'t'", "too large", NULL));
}

Test(safetensors, tensors_share_neither_bytes_nor_names)
{
    cr_expect_eq(try_json("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                          "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                          true),
                 AG_ERR_FORMAT);
    cr_expect(error_says("'a'", "'b'", "share", NULL));
    cr_expect_eq(try_json("{\"a\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                          "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                          false),
                 AG_ERR_FORMAT);
    cr_expect_eq(try_json("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                          "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                          true),
                 AG_ERR_FORMAT);
    cr_expect_eq(try_json("{\"\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", true),
                 AG_ERR_FORMAT);
    cr_expect_eq(try_json("{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[],"
                          "\"data_offsets\":[0,4]}}",
                          true),
                 AG_ERR_FORMAT);
    cr_expect_eq(
        try_json("{\"a\\nb\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", true),
        AG_ERR_FORMAT);
    cr_expect_null(strchr(ag_error(), '\n'));
}

Test(safetensors, bytes_that_are_no_tensors_are_refused)
{
    cr_expect_eq(try_tensor("\"F32\"", "[3]", "[0,12]"), AG_ERR_FORMAT);
    cr_expect(error_says("last 4 bytes", "no tensor's", NULL));
    cr_expect_eq(try_tensor("\"F32\"", "[3]", "[4,16]"), AG_ERR_FORMAT);
    cr_expect(error_says("4 bytes before tensor 't'", NULL));
    cr_expect_eq(try_tensor("\"F32\"", "[0]", "[16,16]"), AG_ERR_FORMAT);
    cr_expect(error_says("last 16 bytes", NULL));
    cr_expect_eq(try_json("{}", true), AG_ERR_FORMAT);
    cr_expect_eq(try_json("{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]},"
                          "\"a\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                          false),
                 AG_ERR_FORMAT);
    cr_expect(error_says("4 bytes before tensor 'b'", NULL));
    cr_expect_eq(try_json("{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},"
                          "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[3,3]},"
                          "\"a\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                          false),
                 AG_OK, "%s", ag_error());
}

Test(safetensors, what_is_not_safetensors_is_said_to_be_so)
{
    cr_expect_eq(try_bytes("", 0), AG_ERR_FORMAT);
    cr_expect(error_says("empty", NULL));
    cr_expect_eq(try_bytes("1234567", 7), AG_ERR_FORMAT);
    cr_expect_eq(try_bytes("GGUF\x03\0\0\0 12345678", 16), AG_ERR_FORMAT);
    cr_expect(error_says("not a safetensors file", "begins with \"GGUF\"", NULL));
    cr_expect_eq(try_bytes("\x09\0\0\0\0\0\0\0{}", 10), AG_ERR_FORMAT);
    cr_expect(error_says("not a safetensors file", NULL));
    cr_expect_eq(try_bytes("\x04\0\0\0\0\0\0\0[12]", 12), AG_ERR_FORMAT);
    cr_expect(error_says("no JSON object", NULL));
    cr_expect_eq(try_bytes("\0\0\0\0\0\0\0\0{}", 10), AG_ERR_FORMAT);
    cr_expect_eq(try_bytes("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), AG_ERR_FORMAT);
}

static ag_status_t read_all(const char *path)
{
    ag_safetensors_t *safetensors;
    ag_status_t status = ag_safetensors_open(path, false, &safetensors);

    if (status == AG_OK) {
        ag_safetensors_close(safetensors);
    }
    return status;
}

Test(safetensors, every_truncation_is_an_error)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_safetensors(&bytes, SAMPLE, SAMPLE_DATA_BYTES);
    expect_truncations_refused(&bytes, read_all);
    ag_array_fini(&bytes);
}

Test(safetensors, damaged_headers_are_refused_or_read_but_never_crash)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    damage_count_t count;

    put_safetensors(&bytes, SAMPLE, SAMPLE_DATA_BYTES);
    count = read_damaged(&bytes, 8 + strlen(SAMPLE), 5, read_all);
    cr_expect_gt(count.n_truncated, 400);
    cr_expect_eq(count.n_truncated_read, 0);
    cr_expect_gt(count.n_flipped_refused, count.n_flipped / 2);
    cr_expect_eq(count.n_unclear, 0);
    ag_array_fini(&bytes);
}
