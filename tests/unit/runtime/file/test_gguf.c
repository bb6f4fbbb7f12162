#include "runtime/file/gguf.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "make_files.h"

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, Q4_0_BLOCK_BYTES = 18 };

enum { N_SAMPLE_ENTRIES = 16, N_SAMPLE_TENSORS = 4, SAMPLE_ALIGNMENT = 64 };

/* A file with a value of every kind; returns the bytes before the data. */
static size_t put_sample(ag_array_t *bytes)
{
    static const double f64 = -2.5;
    static const float f32 = 1e-5f;
    static const uint16_t u16s[] = {1, 2, 65535};

    put_gguf_start(bytes, N_SAMPLE_TENSORS, N_SAMPLE_ENTRIES);
    put_gguf_key(bytes, "a.u8", AG_GGUF_U8);
    put_u8(bytes, 200);
    put_gguf_key(bytes, "a.i8", AG_GGUF_I8);
    put_u8(bytes, (uint8_t)-100);
    put_gguf_key(bytes, "a.u16", AG_GGUF_U16);
    put_u16(bytes, 60000);
    put_gguf_key(bytes, "a.i16", AG_GGUF_I16);
    put_u16(bytes, (uint16_t)-30000);
    put_gguf_key(bytes, "a.u32", AG_GGUF_U32);
    put_u32(bytes, 4000000000u);
    put_gguf_key(bytes, "a.i32", AG_GGUF_I32);
    put_u32(bytes, (uint32_t)-2000000000);
    put_gguf_key(bytes, "a.u64", AG_GGUF_U64);
    put_u64(bytes, INT64_MAX);
    put_gguf_key(bytes, "a.i64", AG_GGUF_I64);
    put_u64(bytes, (uint64_t)INT64_MIN);
    put_gguf_key(bytes, "a.f32", AG_GGUF_F32);
    put(bytes, &f32, sizeof(f32));
    put_gguf_key(bytes, "a.f64", AG_GGUF_F64);
    put(bytes, &f64, sizeof(f64));
    put_gguf_key(bytes, "a.bool", AG_GGUF_BOOL);
    put_u8(bytes, 1);
    put_gguf_key(bytes, "a.string", AG_GGUF_STRING);
    put_gguf_text(bytes, "llama");
    put_gguf_key(bytes, "general.alignment", AG_GGUF_U32);
    put_u32(bytes, SAMPLE_ALIGNMENT);
    put_gguf_array(bytes, "b.u16", AG_GGUF_U16, 3);
    put(bytes, u16s, sizeof(u16s));
    put_gguf_array(bytes, "b.strings", AG_GGUF_STRING, 3);
    put_gguf_text(bytes, "first");
    put_u64(bytes, 5);
    put(bytes, "a\0b\xff\n", 5);
    put_gguf_text(bytes, "");
    put_gguf_array(bytes, "b.none", AG_GGUF_F32, 0);
    put_gguf_tensor(bytes, "t.f32", 2, (uint64_t[]){3, 5}, F32, 0);
    put_gguf_tensor(bytes, "t.q4_0", 3, (uint64_t[]){64, 2, 7}, Q4_0, 64);
    put_gguf_tensor(bytes, "t.none", 1, (uint64_t[]){0}, F32, 64);
    put_gguf_tensor(bytes, "t.last", 4, (uint64_t[]){1, 2, 3, 4}, F16, 576);
    return bytes->n_items;
}

static void put_sample_data(ag_array_t *bytes)
{
    put_alignment(bytes, SAMPLE_ALIGNMENT);
    put_zeros(bytes, 576 + 2 * 24);
}

static ag_gguf_t *open_bytes(const ag_array_t *bytes)
{
    ag_gguf_t *gguf = NULL;
    memory_file_t file;

    memory_file_open(&file, bytes);
    cr_assert_eq(ag_gguf_open(file.path, &gguf), AG_OK, "%s", ag_error());
    memory_file_close(&file);
    return gguf;
}

/* The status of opening the bytes as a file; releases the bytes. */
static ag_status_t refusal(ag_array_t *bytes)
{
    ag_gguf_t *gguf = NULL;
    memory_file_t file;
    ag_status_t status;

    memory_file_open(&file, bytes);
    status = ag_gguf_open(file.path, &gguf);
    if (status == AG_OK) {
        ag_gguf_close(gguf);
    } else {
        cr_expect(error_says(file.path, NULL));
    }
    memory_file_close(&file);
    ag_array_fini(bytes);
    return status;
}

Test(gguf, a_value_of_every_kind_is_read)
{
    static const struct {
        const char *key;
        ag_gguf_kind_t kind;
        int64_t integer;
    } integers[] = {
        {"a.u8", AG_GGUF_U8, 200},          {"a.i8", AG_GGUF_I8, -100},
        {"a.u16", AG_GGUF_U16, 60000},      {"a.i16", AG_GGUF_I16, -30000},
        {"a.u32", AG_GGUF_U32, 4000000000}, {"a.i32", AG_GGUF_I32, -2000000000},
        {"a.u64", AG_GGUF_U64, INT64_MAX},  {"a.i64", AG_GGUF_I64, INT64_MIN},
        {"a.bool", AG_GGUF_BOOL, 1},        {"general.alignment", AG_GGUF_U32, SAMPLE_ALIGNMENT},
    };
    ag_array_t bytes = AG_ARRAY(unsigned char);
    const ag_gguf_value_t *value;
    ag_gguf_t *gguf;

    put_sample(&bytes);
    put_sample_data(&bytes);
    gguf = open_bytes(&bytes);
    for (size_t i = 0; i < sizeof(integers) / sizeof(*integers); i++) {
        value = ag_gguf_get(gguf, integers[i].key);
        cr_assert_not_null(value, "%s", integers[i].key);
        cr_expect_eq(value->kind, integers[i].kind, "%s", integers[i].key);
        cr_expect_eq(value->as.integer, integers[i].integer, "%s", integers[i].key);
    }
    cr_expect_eq(ag_gguf_get(gguf, "a.f32")->as.real, (double)1e-5f);
    cr_expect_eq(ag_gguf_get(gguf, "a.f64")->as.real, -2.5);
    value = ag_gguf_get(gguf, "a.string");
    cr_expect_eq(value->kind, AG_GGUF_STRING);
    cr_expect_eq(value->as.string.n_bytes, 5);
    cr_expect_eq(memcmp(value->as.string.bytes, "llama", 5), 0);
    cr_expect_null(ag_gguf_get(gguf, "a.u"));
    cr_expect_null(ag_gguf_get(gguf, ""));
    ag_gguf_close(gguf);
    ag_array_fini(&bytes);
}

Test(gguf, items_of_arrays_are_found_by_index)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    const ag_gguf_value_t *array;
    ag_gguf_value_t item;
    ag_gguf_t *gguf;

    put_sample(&bytes);
    put_sample_data(&bytes);
    gguf = open_bytes(&bytes);
    array = ag_gguf_get(gguf, "b.u16");
    cr_assert_eq(array->kind, AG_GGUF_ARRAY);
    cr_expect_eq(array->as.array.kind, AG_GGUF_U16);
    cr_assert_eq(array->as.array.n, 3);
    cr_expect_eq(ag_gguf_item(array, 2).as.integer, 65535);
    cr_expect_eq(ag_gguf_item(array, 0).as.integer, 1);

    array = ag_gguf_get(gguf, "b.strings");
    cr_assert_eq(array->as.array.n, 3);
    item = ag_gguf_item(array, 1);
    cr_expect_eq(item.kind, AG_GGUF_STRING);
    cr_expect_eq(item.as.string.n_bytes, 5);
    cr_expect_eq(memcmp(item.as.string.bytes, "a\0b\xff\n", 5), 0);
    cr_expect_eq(ag_gguf_item(array, 2).as.string.n_bytes, 0);
    cr_expect_eq(memcmp(ag_gguf_item(array, 0).as.string.bytes, "first", 5), 0);

    cr_expect_eq(ag_gguf_get(gguf, "b.none")->as.array.n, 0);
    ag_gguf_close(gguf);
    ag_array_fini(&bytes);
}

Test(gguf, tensors_have_outermost_dimension_first_and_offsets_from_the_start_of_the_file)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    size_t data = put_sample(&bytes);
    const ag_file_tensor_t *tensors;
    size_t n_tensors;
    ag_gguf_t *gguf;

    put_sample_data(&bytes);
    data = (data + SAMPLE_ALIGNMENT - 1) / SAMPLE_ALIGNMENT * SAMPLE_ALIGNMENT;
    gguf = open_bytes(&bytes);
    tensors = ag_gguf_tensors(gguf, &n_tensors);
    cr_assert_eq(n_tensors, N_SAMPLE_TENSORS);
    cr_expect_str_eq(tensors[0].name, "t.f32");
    cr_expect_eq(tensors[0].dtype, AG_F32);
    cr_expect_eq(tensors[0].n_dims, 2);
    cr_expect_eq(tensors[0].dims[0], 5);
    cr_expect_eq(tensors[0].dims[1], 3);
    cr_expect_eq(tensors[0].dims[2], 1);
    cr_expect_eq(tensors[0].offset_bytes, data);
    cr_expect_eq(tensors[0].bytes, 60);
    cr_expect_eq(tensors[1].dtype, AG_Q4_0);
    cr_expect_eq(tensors[1].dims[0], 7);
    cr_expect_eq(tensors[1].dims[2], 64);
    cr_expect_eq(tensors[1].offset_bytes, data + 64);
    cr_expect_eq(tensors[1].bytes, 7 * 2 * 2 * Q4_0_BLOCK_BYTES);
    cr_expect_eq(tensors[2].bytes, 0);
    cr_expect_eq(tensors[3].dims[0], 4);
    cr_expect_eq(tensors[3].dims[3], 1);
    cr_expect_eq(tensors[3].offset_bytes + tensors[3].bytes, bytes.n_items);
    ag_gguf_close(gguf);
    ag_array_fini(&bytes);
}

Test(gguf, every_one_of_many_keys_is_found)
{
    enum { N_KEYS = 5000 };
    ag_array_t bytes = AG_ARRAY(unsigned char);
    ag_gguf_t *gguf;
    char key[32];

    put_gguf_start(&bytes, 0, N_KEYS);
    for (uint32_t i = 0; i < N_KEYS; i++) {
        snprintf(key, sizeof(key), "key.%u", i);
        put_gguf_key(&bytes, key, AG_GGUF_U32);
        put_u32(&bytes, i);
    }
    gguf = open_bytes(&bytes);
    for (uint32_t i = 0; i < N_KEYS; i++) {
        snprintf(key, sizeof(key), "key.%u", i);
        cr_assert_not_null(ag_gguf_get(gguf, key));
        cr_assert_eq(ag_gguf_get(gguf, key)->as.integer, i);
    }
    cr_expect_null(ag_gguf_get(gguf, "key.5000"));
    ag_gguf_close(gguf);
    ag_array_fini(&bytes);
}

Test(gguf, what_is_not_gguf_is_shown_by_its_first_bytes)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    ag_gguf_t *gguf = NULL;

    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("is not a GGUF file", "empty", NULL));
    put(&bytes, "PK\x03", 3);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("is not a GGUF file", "begins with \"PK\\x03\"", NULL));
    bytes = AG_ARRAY(unsigned char);
    put(&bytes, "{\"architectures\"", 16);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("begins with \"{\"ar\"", NULL));
    cr_expect_eq(ag_gguf_open("/nowhere/model.gguf", &gguf), AG_ERR_IO);
    cr_expect(error_says("/nowhere/model.gguf", "No such file", NULL));
    cr_expect_eq(ag_gguf_open(AG_TEST_DATA, &gguf), AG_ERR_IO);
    cr_expect(error_says(AG_TEST_DATA, "folder", NULL));
    cr_expect_null(gguf);
}

Test(gguf, other_versions_are_refused_by_number)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put(&bytes, "GGUF\x01\0\0\0", 8);
    put_zeros(&bytes, 16);
    cr_expect_eq(refusal(&bytes), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("version 1", "2 to 3", NULL));
    bytes = AG_ARRAY(unsigned char);
    put(&bytes, "GGUF\x04\0\0\0", 8);
    put_zeros(&bytes, 16);
    cr_expect_eq(refusal(&bytes), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("version 4", NULL));
    bytes = AG_ARRAY(unsigned char);
    put(&bytes, "GGUF\0\0\0\x03", 8);
    put_zeros(&bytes, 16);
    cr_expect_eq(refusal(&bytes), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("big-endian", NULL));
}

Test(gguf, version_2_is_laid_out_as_version_3)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    ag_gguf_t *gguf = NULL;
    memory_file_t file;

    put_gguf_start(&bytes, 0, 1);
    put_gguf_key(&bytes, "a", AG_GGUF_U32);
    put_u32(&bytes, 7);
    AG_ITEMS(&bytes, unsigned char)[4] = 2;
    memory_file_open(&file, &bytes);
    cr_assert_eq(ag_gguf_open(file.path, &gguf), AG_OK, "%s", ag_error());
    cr_assert_not_null(ag_gguf_get(gguf, "a"));
    cr_expect_eq(ag_gguf_get(gguf, "a")->as.integer, 7);
    ag_gguf_close(gguf);
    memory_file_close(&file);
    ag_array_fini(&bytes);
}

Test(gguf, counts_that_the_file_cannot_hold_are_refused_before_room_is_made)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_gguf_start(&bytes, 0, UINT64_MAX);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, UINT64_C(1) << 60, 0);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("the tensor directory", NULL));

    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, 0, 1);
    put_u64(&bytes, UINT64_MAX);
    put_zeros(&bytes, 64);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("metadata entry 1 of 1", "truncated", NULL));
    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, 0, 1);
    put_u64(&bytes, UINT64_C(1) << 40);
    put_zeros(&bytes, 64);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("metadata entry 1 of 1", "truncated", NULL));

    static const ag_gguf_kind_t kinds[] = {AG_GGUF_STRING, AG_GGUF_U8, AG_GGUF_F64};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        static const uint64_t counts[] = {UINT64_MAX, (UINT64_MAX >> 3) + 1, 65};
        for (size_t c = 0; c < sizeof(counts) / sizeof(*counts); c++) {
            bytes = AG_ARRAY(unsigned char);
            put_gguf_start(&bytes, 0, 1);
            put_gguf_array(&bytes, "many", kinds[i], counts[c]);
            put_zeros(&bytes, 64);
            cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
            cr_expect(error_says("key 'many'", "truncated", NULL));
        }
    }
}

Test(gguf, a_count_that_a_large_file_could_hold_is_refused_when_absurd)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    ag_gguf_t *gguf = NULL;
    memory_file_t file;

    put_gguf_start(&bytes, 0, 1);
    put_gguf_array(&bytes, "many", AG_GGUF_STRING, UINT64_C(1) << 32);
    memory_file_open(&file, &bytes);
    cr_assert_eq(ftruncate(file.fd, INT64_C(1) << 36), 0); /* sparse */
    cr_expect_eq(ag_gguf_open(file.path, &gguf), AG_ERR_FORMAT);
    cr_expect(error_says(file.path, "more memory", NULL));
    memory_file_close(&file);
    ag_array_fini(&bytes);
}

Test(gguf, values_that_no_reader_could_mean_are_refused)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_gguf_start(&bytes, 0, 1);
    put_gguf_key(&bytes, "big", AG_GGUF_U64);
    put_u64(&bytes, UINT64_C(1) << 63);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("key 'big'", "out of range", NULL));

    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, 0, 1);
    put_gguf_array(&bytes, "truth", AG_GGUF_BOOL, 2);
    put(&bytes, "\x01\x02", 2);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("key 'truth'", NULL));

    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, 0, 1);
    put_gguf_key(&bytes, "kind", (ag_gguf_kind_t)13);
    put_u64(&bytes, 0);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("key 'kind'", "type 13", NULL));

    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, 0, 1);
    put_gguf_array(&bytes, "nested", AG_GGUF_ARRAY, 0);
    cr_expect_eq(refusal(&bytes), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("nested", "array of arrays", NULL));

    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, 0, 1);
    put_gguf_key(&bytes, "two\nlines", AG_GGUF_U32);
    put_u32(&bytes, 0);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect_null(strchr(ag_error(), '\n'));

    for (uint32_t alignment = 0; alignment < 4; alignment += 3) {
        bytes = AG_ARRAY(unsigned char);
        put_gguf_start(&bytes, 0, 1);
        put_gguf_key(&bytes, "general.alignment", AG_GGUF_U32);
        put_u32(&bytes, alignment);
        cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
        cr_expect(error_says("general.alignment", NULL));
    }
}

Test(gguf, names_are_unique)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_gguf_start(&bytes, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_gguf_key(&bytes, "same", AG_GGUF_U8);
        put_u8(&bytes, 0);
    }
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("'same'", "twice", NULL));

    bytes = AG_ARRAY(unsigned char);
    put_gguf_start(&bytes, 2, 0);
    put_gguf_tensor(&bytes, "same", 1, (uint64_t[]){8}, F32, 0);
    put_gguf_tensor(&bytes, "same", 1, (uint64_t[]){8}, F32, 32);
    put_alignment(&bytes, 32);
    put_zeros(&bytes, 64);
    cr_expect_eq(refusal(&bytes), AG_ERR_FORMAT);
    cr_expect(error_says("'same'", "twice", NULL));
}

/* Two tensors: a good one of 32 bytes at 0, and the one that is tried; 96 bytes of data. */
static ag_status_t try_tensor(uint32_t n_dims, const uint64_t *dims, int32_t type, uint64_t offset)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_gguf_start(&bytes, 2, 0);
    put_gguf_tensor(&bytes, "good", 1, (uint64_t[]){8}, F32, 0);
    put_gguf_tensor(&bytes, "tried", n_dims, dims, type, offset);
    put_alignment(&bytes, 32);
    put_zeros(&bytes, 96);
    return refusal(&bytes);
}

Test(gguf, a_tensor_that_cannot_be_is_refused_by_name)
{
    static const uint64_t huge[] = {UINT64_C(1) << 31, UINT64_C(1) << 31, 4, 1};
    static const uint64_t ones[] = {1, 1, 1, 1, 1};

    cr_expect_eq(try_tensor(1, (uint64_t[]){16}, F32, 32), AG_OK, "%s", ag_error());
    cr_expect_eq(try_tensor(1, (uint64_t[]){17}, F32, 32), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "truncated", NULL));
    cr_expect_eq(try_tensor(1, (uint64_t[]){8}, F32, 16), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "alignment", NULL));
    cr_expect_eq(try_tensor(1, (uint64_t[]){8}, F32, 0), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "'good'", "share", NULL));
    cr_expect_eq(try_tensor(1, (uint64_t[]){8}, F32, UINT64_MAX - 31), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", NULL));
    cr_expect_eq(try_tensor(2, (uint64_t[]){48, 1}, Q4_0, 32), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "48", "q4_0", NULL));
    cr_expect_eq(try_tensor(4, huge, F32, 32), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "too large", NULL));
    cr_expect_eq(try_tensor(1, (uint64_t[]){UINT64_C(1) << 61}, F32, 32), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "too large", NULL));
    cr_expect_eq(try_tensor(1, (uint64_t[]){UINT64_MAX / 32 * 32}, Q8_0, 32), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "too large", NULL));
    cr_expect_eq(try_tensor(0, ones, F32, 32), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "0 dimensions", NULL));
    cr_expect_eq(try_tensor(5, ones, F32, 32), AG_ERR_FORMAT);
    cr_expect(error_says("'tried'", "5 dimensions", NULL));
    cr_expect_eq(try_tensor(1, (uint64_t[]){0}, F32, 96), AG_OK, "%s", ag_error());
}

Test(gguf, an_unknown_type_lists_the_known_ones)
{
    cr_expect_eq(try_tensor(1, (uint64_t[]){32}, 4, 32), AG_ERR_UNSUPPORTED);
    cr_expect(error_says("'tried'", "q4_0", "q6_k", NULL));
    cr_expect_eq(try_tensor(1, (uint64_t[]){32}, -1, 32), AG_ERR_UNSUPPORTED);
}

static ag_status_t read_all(const char *path)
{
    ag_gguf_t *gguf;
    const ag_gguf_value_t *strings;
    ag_status_t status = ag_gguf_open(path, &gguf);

    if (status != AG_OK) {
        return status;
    }
    strings = ag_gguf_get(gguf, "b.strings");
    for (size_t i = 0; strings != NULL && strings->kind == AG_GGUF_ARRAY && i < strings->as.array.n;
         i++) {
        ag_gguf_value_t item = ag_gguf_item(strings, i);

        if (item.kind == AG_GGUF_STRING) {
            cr_assert(item.as.string.n_bytes == strnlen(item.as.string.bytes, 1) ||
                      item.as.string.n_bytes > 0);
        }
    }
    ag_gguf_close(gguf);
    return AG_OK;
}

Test(gguf, every_truncation_is_an_error)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);

    put_sample(&bytes);
    put_sample_data(&bytes);
    expect_truncations_refused(&bytes, read_all);
    ag_array_fini(&bytes);
}

Test(gguf, damaged_headers_are_refused_or_read_but_never_crash)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    size_t n_header_bytes = put_sample(&bytes);
    damage_count_t count;

    put_sample_data(&bytes);
    count = read_damaged(&bytes, n_header_bytes, 3, read_all);
    cr_expect_gt(count.n_truncated, 400);
    cr_expect_eq(count.n_truncated_read, 0);
    cr_expect_gt(count.n_flipped_refused, count.n_flipped / 2);
    cr_expect_eq(count.n_unclear, 0);
    ag_array_fini(&bytes);
}
