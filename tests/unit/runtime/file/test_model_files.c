#include "runtime/file/model_files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "make_files.h"

#define TINY AG_TEST_DATA "/tiny/llama"
#define T(name, begin, end)                                                                        \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" begin "," end "]}"

static void write_json(const scratch_t *scratch, const char *name, const char *json)
{
    scratch_write(scratch, name, json, strlen(json));
}

/* Bytes of data that differ: byte i is 16 * mark + i. */
static void write_safetensors(const scratch_t *scratch, const char *name, const char *json,
                              size_t n_data_bytes, unsigned mark)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_safetensors(&bytes, json, 0);
    for (size_t i = 0; i < n_data_bytes; i++) {
        put_u8(&bytes, (uint8_t)(16 * mark + i));
    }
    scratch_write(scratch, name, bytes.items, bytes.n_items);
    ag_array_fini(&bytes);
}

static ag_status_t refusal(const char *path)
{
    ag_model_files_t *files = NULL;
    ag_status_t status = ag_model_files_open(path, &files);

    if (status == AG_OK) {
        ag_model_files_close(files);
    } else {
        cr_expect(error_says(path, NULL));
        cr_expect_null(files);
    }
    return status;
}

Test(model_files, a_hugging_face_folder_opens)
{
    ag_model_files_t *files = NULL;
    const ag_model_tensor_t *tensor;
    float values[4];
    size_t n_tensors;

    cr_assert_eq(ag_model_files_open(TINY, &files), AG_OK, "%s", ag_error());
    cr_expect_str_eq(ag_model_files_path(files), TINY);
    cr_expect_null(ag_model_files_gguf(files));
    cr_expect_null(ag_model_files_generation_config(files));
    cr_expect_eq(ag_json_integer(ag_json_get(ag_model_files_config(files), "hidden_size"), 0), 72);
    ag_model_files_tensors(files, &n_tensors);
    cr_expect_eq(n_tensors, 30);
    tensor = ag_model_files_find(files, "model.layers.0.self_attn.q_proj.weight");
    cr_assert_not_null(tensor);
    cr_expect_eq(tensor->dtype, AG_F32);
    cr_expect_eq(tensor->dims[0], 72);
    cr_assert_eq(ag_model_files_read(files, tensor, 0, sizeof(values), values), AG_OK);
    cr_expect_eq(values[0], -0.13239353895187378f);
    cr_expect_eq(values[3], 0.02415086142718792f);
    cr_assert_eq(ag_model_files_read(files, tensor, 4, 4, values), AG_OK);
    cr_expect_eq(values[0], 0.06899546831846237f);
    ag_model_files_close(files);
}

Test(model_files, every_tensor_is_found_by_its_name)
{
    ag_model_files_t *files = NULL;
    const ag_model_tensor_t *tensors;
    const ag_model_tensor_t *tensor = NULL;
    size_t n_tensors;

    cr_assert_eq(ag_model_files_open(TINY, &files), AG_OK, "%s", ag_error());
    tensors = ag_model_files_tensors(files, &n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        cr_expect_eq(ag_model_files_find(files, tensors[i].name), &tensors[i]);
    }
    cr_expect_null(ag_model_files_find(files, "model.layers.0.self_attn.q_proj"));
    cr_expect_eq(ag_model_files_require(files, "lm_head.weight", &tensor), AG_OK);
    cr_expect_eq(tensor, ag_model_files_find(files, "lm_head.weight"));
    cr_expect_eq(ag_model_files_require(files, "lm_head.bias", &tensor), AG_ERR_FORMAT);
    cr_expect(error_says(TINY, "'lm_head.bias'", "missing", NULL));
    ag_model_files_close(files);
}

Test(model_files, a_range_beyond_the_tensor_is_refused)
{
    ag_model_files_t *files = NULL;
    const ag_model_tensor_t *tensor;
    unsigned char bytes[8];

    cr_assert_eq(ag_model_files_open(TINY, &files), AG_OK, "%s", ag_error());
    tensor = ag_model_files_find(files, "model.norm.weight");
    cr_assert_not_null(tensor);
    cr_expect_eq(ag_model_files_read(files, tensor, tensor->bytes - 8, 8, bytes), AG_OK);
    cr_expect_eq(ag_model_files_read(files, tensor, tensor->bytes, 0, bytes), AG_OK);
    cr_expect_eq(ag_model_files_read(files, tensor, tensor->bytes - 7, 8, bytes), AG_ERR_INVALID);
    cr_expect(error_says("model.norm.weight", TINY, NULL));
    cr_expect_eq(ag_model_files_read(files, tensor, UINT64_MAX, 8, bytes), AG_ERR_INVALID);
    cr_expect_eq(ag_model_files_read(files, tensor, 8, UINT64_MAX, bytes), AG_ERR_INVALID);
    ag_model_files_close(files);
}

Test(model_files, a_file_that_shrinks_while_in_use_is_an_error_with_file_tensor_and_offset)
{
    scratch_t scratch;
    ag_model_files_t *files = NULL;
    unsigned char bytes[8];

    scratch_open(&scratch);
    write_json(&scratch, "config.json", "{}");
    write_safetensors(&scratch, "model.safetensors", "{" T("a", "0", "8") "}", 8, 0);
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    cr_assert_eq(truncate(scratch_path(&scratch, "model.safetensors"), 12), 0);
    cr_expect_eq(ag_model_files_read(files, ag_model_files_find(files, "a"), 0, 8, bytes),
                 AG_ERR_IO);
    cr_expect(error_says("model.safetensors", "(a)", "byte", NULL));
    ag_model_files_close(files);
    scratch_close(&scratch);
}

Test(model_files, an_index_says_which_files_hold_the_tensors)
{
    scratch_t scratch;
    ag_model_files_t *files = NULL;
    const ag_model_tensor_t *tensor;
    unsigned char bytes[8];
    size_t n_tensors;

    scratch_open(&scratch);
    write_json(&scratch, "config.json", "{}");
    write_json(&scratch, "generation_config.json", "{\"eos_token_id\": [2, 3]}");
    write_json(&scratch, "model.safetensors.index.json",
               "{\"metadata\":{},\"weight_map\":{\"a\":\"x-2.safetensors\","
               "\"b\":\"x-1.safetensors\",\"c\":\"x-2.safetensors\"}}");
    write_safetensors(&scratch, "x-1.safetensors", "{" T("b", "0", "8") "}", 8, 1);
    write_safetensors(&scratch, "x-2.safetensors", "{" T("a", "0", "8") "," T("c", "8", "16") "}",
                      16, 2);
    write_json(&scratch, "model-stray.safetensors", "not looked at");
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    ag_model_files_tensors(files, &n_tensors);
    cr_expect_eq(n_tensors, 3);
    tensor = ag_model_files_find(files, "c");
    cr_assert_not_null(tensor);
    cr_assert_eq(ag_model_files_read(files, tensor, 1, 7, bytes), AG_OK);
    cr_expect_eq(bytes[0], 16 * 2 + 9);
    tensor = ag_model_files_find(files, "b");
    cr_assert_not_null(tensor);
    cr_assert_eq(ag_model_files_read(files, tensor, 0, 8, bytes), AG_OK);
    cr_expect_eq(bytes[7], 16 + 7);
    cr_expect_eq(ag_json_size(ag_json_get(ag_model_files_generation_config(files), "eos_token_id")),
                 2);
    ag_model_files_close(files);
    scratch_close(&scratch);
}

Test(model_files, an_index_that_is_wrong_is_refused)
{
    static const struct {
        const char *index;
        ag_status_t status;
        const char *says;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"x.safetensors\"}}", AG_OK, ""},
        {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", AG_ERR_IO, "gone.safetensors"},
        {"{\"weight_map\":{\"b\":\"x.safetensors\"}}", AG_ERR_FORMAT, "tensor 'b' is not in x.saf"},
        {"{\"weight_map\":{\"a\":\"y.safetensors\",\"b\":\"x.safetensors\"}}", AG_ERR_FORMAT,
         "tensor 'a' is not in y.saf"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", AG_ERR_FORMAT, "plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", AG_ERR_FORMAT, "plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", AG_ERR_FORMAT, "plain name"},
        {"{\"weight_map\":{\"a\":7}}", AG_ERR_FORMAT, "plain name"},
        {"{\"weight_map\":{\"a\\u0000b\":\"x.safetensors\"}}", AG_ERR_FORMAT, ""},
        {"{\"weight_map\":{}}", AG_ERR_FORMAT, "weight_map"},
        {"{\"weight_map\":[]}", AG_ERR_FORMAT, "weight_map"},
        {"{}", AG_ERR_FORMAT, "weight_map"},
        {"[]", AG_ERR_FORMAT, "object"},
        {"{", AG_ERR_FORMAT, ""},
    };
    scratch_t scratch;

    scratch_open(&scratch);
    write_json(&scratch, "config.json", "{}");
    write_safetensors(&scratch, "x.safetensors", "{" T("a", "0", "8") "}", 8, 0);
    write_safetensors(&scratch, "y.safetensors", "{" T("b", "0", "8") "}", 8, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        write_json(&scratch, "model.safetensors.index.json", cases[i].index);
        cr_expect_eq(refusal(scratch.path), cases[i].status, "%s", cases[i].index);
        if (cases[i].status != AG_OK) {
            cr_expect(error_says("index.json", cases[i].says, NULL));
        }
    }
    scratch_close(&scratch);
}

Test(model_files, without_an_index_every_model_file_is_opened_in_order)
{
    scratch_t scratch;
    ag_model_files_t *files = NULL;
    const ag_model_tensor_t *tensors;
    size_t n_tensors;

    scratch_open(&scratch);
    write_json(&scratch, "config.json", "{}");
    write_safetensors(&scratch, "model-2.safetensors", "{" T("b", "0", "8") "}", 8, 0);
    write_safetensors(&scratch, "model-4.safetensors", "{" T("d", "0", "8") "}", 8, 0);
    write_safetensors(&scratch, "model-1.safetensors", "{" T("a", "0", "8") "}", 8, 0);
    write_safetensors(&scratch, "model-5.safetensors", "{" T("e", "0", "8") "}", 8, 0);
    write_safetensors(&scratch, "model-3.safetensors", "{" T("c", "0", "8") "}", 8, 0);
    write_json(&scratch, "optimizer.safetensors", "not looked at");
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    tensors = ag_model_files_tensors(files, &n_tensors);
    cr_assert_eq(n_tensors, 5);
    for (uint32_t i = 0; i < n_tensors; i++) {
        cr_expect_eq(tensors[i].name[0], (char)('a' + i));
        cr_expect_eq(tensors[i].file, i);
    }
    ag_model_files_close(files);

    write_safetensors(&scratch, "model-6.safetensors", "{" T("a", "0", "8") "}", 8, 0);
    cr_expect_eq(refusal(scratch.path), AG_ERR_FORMAT);
    cr_expect(error_says("'a'", "model-1.safetensors", "model-6.safetensors", NULL));

    write_safetensors(&scratch, "model.safetensors", "{" T("single", "0", "8") "}", 8, 0);
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    tensors = ag_model_files_tensors(files, &n_tensors);
    cr_assert_eq(n_tensors, 1);
    cr_expect_str_eq(tensors[0].name, "single");
    ag_model_files_close(files);
    scratch_close(&scratch);
}

Test(model_files, tensors_of_other_types_are_left_out_and_named_when_needed)
{
    scratch_t scratch;
    ag_model_files_t *files = NULL;
    const ag_model_tensor_t *tensor = NULL;
    size_t n_tensors;

    scratch_open(&scratch);
    write_json(&scratch, "config.json", "{}");
    write_json(&scratch, "model.safetensors.index.json",
               "{\"weight_map\":{\"a\":\"x.safetensors\",\"ids\":\"x.safetensors\"}}");
    write_safetensors(&scratch, "x.safetensors",
                      "{" T("a", "0", "8") ",\"ids\":{\"dtype\":\"I64\",\"shape\":[1],"
                                           "\"data_offsets\":[8,16]}}",
                      16, 0);
    cr_assert_eq(ag_model_files_open(scratch.path, &files), AG_OK, "%s", ag_error());
    ag_model_files_tensors(files, &n_tensors);
    cr_expect_eq(n_tensors, 1);
    cr_expect_null(ag_model_files_find(files, "ids"));
    cr_expect_eq(ag_model_files_require(files, "ids", &tensor), AG_ERR_UNSUPPORTED);
    cr_expect(error_says(scratch.path, "ids", "I64", "BF16", NULL));
    ag_model_files_close(files);
    scratch_close(&scratch);
}

Test(model_files, a_gguf_file_opens)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    scratch_t scratch;
    ag_model_files_t *files = NULL;
    const ag_model_tensor_t *tensor;
    float values[2];
    const char *path;

    put_gguf_start(&bytes, 2, 1);
    put_gguf_key(&bytes, "general.architecture", AG_GGUF_STRING);
    put_gguf_text(&bytes, "llama");
    put_gguf_tensor(&bytes, "a", 2, (uint64_t[]){2, 3}, 0, 32);
    put_gguf_tensor(&bytes, "b", 1, (uint64_t[]){2}, 0, 0);
    put_alignment(&bytes, 32);
    put(&bytes, (float[]){1, 2, 0, 0, 0, 0, 0, 0}, 32);
    put(&bytes, (float[]){3, 4, 5, 6, 7, 8}, 24);
    scratch_open(&scratch);
    path = scratch_write(&scratch, "model.bin", bytes.items, bytes.n_items);
    cr_assert_eq(ag_model_files_open(path, &files), AG_OK, "%s", ag_error());
    cr_expect_str_eq(ag_model_files_path(files), path);
    cr_expect_null(ag_model_files_config(files));
    cr_expect_null(ag_model_files_generation_config(files));
    cr_assert_not_null(ag_model_files_gguf(files));
    cr_expect_str_eq(ag_gguf_path(ag_model_files_gguf(files)), path);
    cr_expect_not_null(ag_gguf_get(ag_model_files_gguf(files), "general.architecture"));
    tensor = ag_model_files_find(files, "a");
    cr_assert_not_null(tensor);
    cr_expect_eq(tensor->dims[0], 3);
    cr_expect_eq(tensor->dims[1], 2);
    cr_assert_eq(ag_model_files_read(files, tensor, 8, 8, values), AG_OK);
    cr_expect_eq(values[0], 5);
    cr_expect_eq(values[1], 6);
    ag_model_files_close(files);
    scratch_close(&scratch);
    ag_array_fini(&bytes);
}

Test(model_files, tensors_that_no_file_has_are_drawn)
{
    const uint64_t dims[] = {40, 50};
    const ag_model_tensor_t *tensor;
    ag_model_files_t *files;
    float all[2000], some[7], ones[50];
    scratch_t scratch;
    double sum = 0, squares = 0;

    scratch_open(&scratch);
    cr_assert_eq(ag_model_files_open(
                     scratch_write(&scratch, "some.json", "{\"model_type\": \"a\"}", 19), &files),
                 AG_OK, "%s", ag_error());
    cr_assert(ag_model_files_are_made(files));
    cr_assert_eq(ag_model_files_make(files, "w", 2, dims, 3, 2, 5), AG_OK);
    cr_assert_eq(ag_model_files_make(files, "norm", 1, dims + 1, 1, 0, 6), AG_OK);
    cr_assert_eq(ag_model_files_require(files, "w", &tensor), AG_OK);
    cr_assert_eq(ag_model_files_read(files, tensor, 0, sizeof(all), all), AG_OK);
    cr_assert_eq(ag_model_files_read(files, tensor, 100 * sizeof(float), sizeof(some), some),
                 AG_OK);
    cr_expect_arr_eq(some, all + 100, sizeof(some), "a part is the part");
    for (uint64_t seed = 1; seed != 0; seed = seed << 32) { /* either half of it counts */
        ag_model_files_seed(files, seed);
        cr_assert_eq(ag_model_files_read(files, tensor, 0, sizeof(some), some), AG_OK);
        for (int i = 0; i < 7; i++) {
            cr_expect_neq(some[i], all[i]);
        }
    }
    ag_model_files_seed(files, 0);
    cr_assert_eq(ag_model_files_read(files, tensor, 0, sizeof(some), some), AG_OK);
    cr_expect_arr_eq(some, all, sizeof(some), "the same again");
    for (int i = 0; i < 2000; i++) {
        sum += (double)all[i] - 3;
        squares += ((double)all[i] - 3) * ((double)all[i] - 3);
    }
    cr_expect(sum / 2000 < 0.2 && sum / 2000 > -0.2, "a mean of %g beside 3", sum / 2000);
    cr_expect(squares / 2000 > 3.4 && squares / 2000 < 4.6, "a variance of %g", squares / 2000);
    cr_expect_eq(ag_model_files_read(files, tensor, sizeof(all), 4, some), AG_ERR_INVALID);
    cr_assert_eq(ag_model_files_require(files, "norm", &tensor), AG_OK);
    cr_assert_eq(ag_model_files_read(files, tensor, 0, sizeof(ones), ones), AG_OK);
    cr_expect(ones[0] == 1 && ones[49] == 1);
    ag_model_files_close(files);
    scratch_close(&scratch);
}

Test(model_files, what_is_no_model_is_told_what_a_model_can_be)
{
    scratch_t scratch;

    scratch_open(&scratch);
    cr_expect_eq(refusal(scratch_write(&scratch, "tokenizer.json", "{\"a\": 1}", 8)),
                 AG_ERR_FORMAT);
    cr_expect(
        error_says("GGUF", "config.json", "model*.safetensors", "begins with \"{\"a\"\"", NULL));
    cr_expect_eq(refusal(scratch_write(&scratch, "empty", "", 0)), AG_ERR_FORMAT);
    cr_expect(error_says("is no model", "empty", NULL));
    cr_expect_eq(refusal(scratch_path(&scratch, "absent")), AG_ERR_IO);
    cr_expect(error_says("No such file", NULL));
    cr_expect_eq(refusal("/dev/null"), AG_ERR_IO);
    scratch_close(&scratch);
}

Test(model_files, a_folder_without_its_parts_says_what_was_looked_for)
{
    scratch_t scratch;

    scratch_open(&scratch);
    cr_expect_eq(refusal(scratch.path), AG_ERR_IO);
    cr_expect(error_says("no config.json", "GGUF", NULL));
    write_json(&scratch, "config.json", "{\"model_type\": \"llama\"}");
    cr_expect_eq(refusal(scratch.path), AG_ERR_IO);
    cr_expect(error_says("no weights", "model.safetensors.index.json", "model.safetensors",
                         "model*.safetensors", NULL));
    write_json(&scratch, "config.json", "[]");
    cr_expect_eq(refusal(scratch.path), AG_ERR_FORMAT);
    cr_expect(error_says("config.json", NULL));
    write_json(&scratch, "config.json", "{\"model_type\": ");
    cr_expect_eq(refusal(scratch.path), AG_ERR_FORMAT);
    cr_expect(error_says("config.json", NULL));
    scratch_close(&scratch);
}
