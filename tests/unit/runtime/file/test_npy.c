#include "runtime/file/npy.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_files.h"

static ag_status_t read_ids(const ag_array_t *bytes, int32_t **ids_p, size_t *n_ids_p)
{
    memory_file_t file;
    ag_status_t status;

    memory_file_open(&file, bytes);
    status = ag_npy_read_ids(file.path, ids_p, n_ids_p);
    if (status != AG_OK) {
        cr_expect(error_says(file.path, NULL));
    }
    memory_file_close(&file);
    return status;
}

/* The status of reading ids from a header and n_data_bytes zeros. */
static ag_status_t try_ids(uint8_t version, const char *dict, size_t n_data_bytes)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    int32_t *ids = NULL;
    size_t n_ids;
    ag_status_t status;

    put_npy(&bytes, version, dict);
    put_zeros(&bytes, n_data_bytes);
    status = read_ids(&bytes, &ids, &n_ids);
    free(ids);
    ag_array_fini(&bytes);
    return status;
}

static ag_status_t try_f32(const char *dict, size_t n_data_bytes, uint32_t *n_dims_p,
                           uint64_t dims[AG_MAX_DIMS])
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    float *data = NULL;
    memory_file_t file;
    ag_status_t status;

    put_npy(&bytes, 1, dict);
    put_zeros(&bytes, n_data_bytes);
    memory_file_open(&file, &bytes);
    status = ag_npy_read_f32(file.path, &data, n_dims_p, dims);
    if (status != AG_OK) {
        cr_expect(error_says(file.path, NULL));
    }
    free(data);
    memory_file_close(&file);
    ag_array_fini(&bytes);
    return status;
}

Test(npy, unsigned_ids_are_never_taken_for_negative_ones)
{
    ag_array_t narrow = AG_ARRAY(unsigned char), wide = AG_ARRAY(unsigned char);
    int32_t *ids;
    size_t n_ids;

    put_npy(&narrow, 1, "{'descr': '<u2', 'fortran_order': False, 'shape': (1,), }");
    put_u16(&narrow, 65535);
    cr_assert_eq(read_ids(&narrow, &ids, &n_ids), AG_OK, "%s", ag_error());
    cr_expect_eq(ids[0], 65535);
    free(ids);
    put_npy(&wide, 1, "{'descr': '<u4', 'fortran_order': False, 'shape': (1,), }");
    put_u32(&wide, UINT32_MAX);
    cr_expect_eq(read_ids(&wide, &ids, &n_ids), AG_ERR_FORMAT);
    cr_expect(error_says("element 0, 4294967295, is no token id", NULL), "%s", ag_error());
    ag_array_fini(&narrow);
    ag_array_fini(&wide);
}

Test(npy, parts_of_ids_are_those_of_the_whole)
{
    static const char *const dicts[] = {
        "{'descr': '<i4', 'fortran_order': False, 'shape': (9001,), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (9001,), }",
        "{'descr': '<u2', 'fortran_order': False, 'shape': (9001,), }",
        "{'descr': '<u4', 'fortran_order': False, 'shape': (9001,), }"};
    static const size_t id_bytes[] = {4, 8, 2, 4};

    for (int type = 0; type < 4; type++) {
        ag_array_t bytes = AG_ARRAY(unsigned char);
        memory_file_t file;
        ag_npy_ids_t *ids;
        int32_t part[5000];

        put_npy(&bytes, 1, dicts[type]);
        for (uint32_t i = 0; i < 9001; i++) {
            put(&bytes, &(uint64_t){i}, id_bytes[type]);
        }
        memory_file_open(&file, &bytes);
        cr_assert_eq(ag_npy_ids_open(file.path, &ids), AG_OK, "%s", ag_error());
        cr_expect_eq(ag_npy_ids_count(ids), 9001);
        for (uint64_t first = 0; first < 9001; first += 1999) {
            size_t n = 9001 - first < 5000 ? 9001 - first : 5000;

            cr_assert_eq(ag_npy_ids_read(ids, first, n, part), AG_OK, "%s", ag_error());
            for (size_t i = 0; i < n; i++) {
                cr_assert_eq(part[i], (int32_t)(first + i));
            }
        }
        cr_expect_eq(ag_npy_ids_read(ids, 9001, 1, part), AG_ERR_IO);
        ag_npy_ids_close(ids);
        memory_file_close(&file);
        ag_array_fini(&bytes);
    }
}

Test(npy, ids_that_numpy_wrote_are_read)
{
    static const int32_t expected[] = {0, 191, 210, 275, 177, 238, 306};
    int32_t *ids = NULL;
    size_t n_ids = 0;

    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/tiny/seq7.npy", &ids, &n_ids), AG_OK, "%s",
                 ag_error());
    cr_assert_eq(n_ids, 7);
    cr_expect_eq(memcmp(ids, expected, sizeof(expected)), 0);
    free(ids);
}

Test(npy, a_matrix_that_numpy_wrote_is_read)
{
    float *logits = NULL;
    uint32_t n_dims = 0;
    uint64_t dims[AG_MAX_DIMS];

    cr_assert_eq(ag_npy_read_f32(AG_TEST_DATA "/tiny/llama/logits7.npy", &logits, &n_dims, dims),
                 AG_OK, "%s", ag_error());
    cr_expect_eq(n_dims, 2);
    cr_expect_eq(dims[0], 7);
    cr_expect_eq(dims[1], 307);
    cr_expect_eq(dims[2], 1);
    cr_expect_eq(logits[0], -0.08008512854576111f);
    cr_expect_eq(logits[7 * 307 - 1], -1.4077606201171875f);
    free(logits);
}

Test(npy, int64_ids_are_read_when_they_fit_int32)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    int32_t *ids = NULL;
    size_t n_ids = 0;
    enum { N_IDS = 10000 };

    put_npy(&bytes, 2, "{'descr': '<i8', 'fortran_order': False, 'shape': (10000,), }\n");
    for (uint64_t i = 0; i < N_IDS; i++) {
        put_u64(&bytes, 3 * i);
    }
    cr_assert_eq(read_ids(&bytes, &ids, &n_ids), AG_OK, "%s", ag_error());
    cr_assert_eq(n_ids, N_IDS);
    for (int32_t i = 0; i < N_IDS; i++) {
        cr_assert_eq(ids[i], 3 * i);
    }
    free(ids);
    ((unsigned char *)bytes.items)[bytes.n_items - 4] = 1; /* the last id gains 2^32 */
    ids = NULL;
    cr_expect_eq(read_ids(&bytes, &ids, &n_ids), AG_ERR_FORMAT);
    cr_expect(error_says("element 9999", "4294997293", NULL));
    cr_expect_null(ids);
    ag_array_fini(&bytes);
}

Test(npy, headers_are_read_as_python_would)
{
    cr_expect_eq(try_ids(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }  \n", 12),
                 AG_OK);
    cr_expect_eq(try_ids(2, "{ \"shape\":(3,),\"descr\":\"<i4\",\"fortran_order\":True}", 12),
                 AG_OK, "%s", ag_error());
    cr_expect_eq(try_ids(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (0,)}", 0), AG_OK);
    cr_expect_eq(try_ids(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (3)}", 12), AG_OK);
}

Test(npy, what_is_no_array_of_ids_is_refused)
{
    static const char *const dicts[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '>i4', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (), }",
        "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (-3,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3 3), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (4611686018427387907,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 3), }",
        "{'descr': '<i4', 'fortran_order': Maybe, 'shape': (3,), }",
        "{'descr': '<i4', 'fortran_order': False}",
        "{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), 'more': 1}",
        "{'descr': '<i4' 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,)",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,)} x",
        "{'descr': '<\x02i4', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<\xffi4', 'fortran_order': False, 'shape': (3,), }",
        "{'descr",
        "",
    };

    for (size_t i = 0; i < sizeof(dicts) / sizeof(*dicts); i++) {
        cr_expect_eq(try_ids(1, dicts[i], 12), AG_ERR_FORMAT, "%s", dicts[i]);
        for (const char *at = ag_error(); *at != '\0'; at++) {
            cr_expect((unsigned char)*at >= ' ' && (unsigned char)*at < 0x7f, "%s", dicts[i]);
        }
    }
    cr_expect_eq(try_ids(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }", 13),
                 AG_ERR_FORMAT);
    cr_expect(error_says("13 bytes", NULL));
    cr_expect_eq(try_ids(3, "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }", 12),
                 AG_ERR_FORMAT);
    cr_expect(error_says("version 3", NULL));
}

Test(npy, float_arrays_have_up_to_four_dimensions)
{
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS];

    cr_expect_eq(try_f32("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1, 5)}", 120,
                         &n_dims, dims),
                 AG_OK, "%s", ag_error());
    cr_expect_eq(n_dims, 4);
    cr_expect_eq(dims[3], 5);
    cr_expect_eq(try_f32("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", 4, &n_dims, dims),
                 AG_OK);
    cr_expect_eq(n_dims, 0);
    cr_expect_eq(
        try_f32("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", 24, &n_dims, dims),
        AG_ERR_FORMAT);
    cr_expect(error_says("Fortran", NULL));
    cr_expect_eq(
        try_f32("{'descr': '<f4', 'fortran_order': False, 'shape': (3 1)}", 12, &n_dims, dims),
        AG_ERR_FORMAT);
    cr_expect_eq(
        try_f32("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}", 24, &n_dims, dims),
        AG_ERR_FORMAT);
    cr_expect(error_says("'<f8'", NULL));
    cr_expect_eq(try_f32("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, "
                         "4294967296, 0)}",
                         0, &n_dims, dims),
                 AG_ERR_FORMAT);
}

Test(npy, what_is_not_npy_is_shown_by_its_first_bytes)
{
    ag_array_t bytes = AG_ARRAY(unsigned char);
    int32_t *ids = NULL;
    size_t n_ids;

    put(&bytes, "[1, 2, 3]\n", 10);
    cr_expect_eq(read_ids(&bytes, &ids, &n_ids), AG_ERR_FORMAT);
    cr_expect(error_says("not a .npy file", "begins with \"[1, \"", NULL));
    cr_expect_eq(ag_npy_read_ids("/nowhere/ids.npy", &ids, &n_ids), AG_ERR_IO);
    cr_expect(error_says("/nowhere/ids.npy", "No such file", NULL));
    ag_array_fini(&bytes);
}

static ag_status_t read_path(const char *path)
{
    int32_t *ids = NULL;
    size_t n_ids;
    ag_status_t status = ag_npy_read_ids(path, &ids, &n_ids);

    free(ids);
    return status;
}

Test(npy, damaged_files_are_refused_or_read_but_never_crash)
{
    static const char dict[] = "{'descr': '<i8', 'fortran_order': False, 'shape': (11,), }\n";
    ag_array_t bytes = AG_ARRAY(unsigned char);
    damage_count_t count;

    put_npy(&bytes, 2, dict);
    put_zeros(&bytes, 88);
    count = read_damaged(&bytes, 12 + strlen(dict), 7, read_path);
    cr_expect_gt(count.n_truncated, 400);
    cr_expect_eq(count.n_truncated_read, 0);
    cr_expect_gt(count.n_flipped_refused, count.n_flipped / 2);
    cr_expect_eq(count.n_unclear, 0);
    ag_array_fini(&bytes);
}

Test(npy_writer, rows_that_were_written_are_read_back)
{
    static const float rows[] = {1, 2, 3, 4, 5, -6};
    scratch_t scratch;
    const char *path;
    ag_npy_writer_t *writer = NULL;
    float *data = NULL;
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS];

    scratch_open(&scratch);
    path = scratch_path(&scratch, "out.npy");
    cr_assert_eq(ag_npy_writer_open(path, 3, 2, &writer), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_npy_writer_rows(writer, rows, 2), AG_OK);
    cr_assert_eq(ag_npy_writer_rows(writer, NULL, 0), AG_OK);
    cr_assert_eq(ag_npy_writer_rows(writer, rows + 4, 1), AG_OK);
    cr_assert_eq(ag_npy_writer_close(writer), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_npy_read_f32(path, &data, &n_dims, dims), AG_OK, "%s", ag_error());
    cr_expect_eq(n_dims, 2);
    cr_expect_eq(dims[0], 3);
    cr_expect_eq(dims[1], 2);
    cr_expect_eq(memcmp(data, rows, sizeof(rows)), 0);
    cr_expect_eq(scratch_count(&scratch), 1);
    free(data);
    scratch_close(&scratch);
}

Test(npy_writer, the_header_is_the_one_that_numpy_writes)
{
    char expected[128];
    char found[128];
    scratch_t scratch;
    const char *path;
    ag_npy_writer_t *writer = NULL;
    FILE *stream;

    memset(expected, ' ', sizeof(expected));
    memcpy(expected, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(expected + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 307), }", 61);
    expected[127] = '\n';
    scratch_open(&scratch);
    path = scratch_path(&scratch, "out.npy");
    cr_assert_eq(ag_npy_writer_open(path, 0, 307, &writer), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_npy_writer_close(writer), AG_OK, "%s", ag_error());
    stream = fopen(path, "rb");
    cr_assert_not_null(stream);
    cr_assert_eq(fread(found, 1, sizeof(found), stream), sizeof(found));
    cr_expect_eq(fgetc(stream), EOF);
    cr_expect_eq(memcmp(found, expected, sizeof(found)), 0);
    fclose(stream);
    scratch_close(&scratch);
}

Test(npy_writer, the_old_file_stands_until_the_new_one_is_complete)
{
    static const float row[] = {1, 2};
    scratch_t scratch;
    const char *path;
    ag_npy_writer_t *writer = NULL;

    scratch_open(&scratch);
    path = scratch_write(&scratch, "out.npy", "old", 3);
    cr_assert_eq(ag_npy_writer_open(path, 2, 2, &writer), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_npy_writer_rows(writer, row, 1), AG_OK);
    cr_expect_eq(scratch_count(&scratch), 2);
    cr_expect_eq(ag_npy_writer_close(writer), AG_ERR_INVALID);
    cr_expect(error_says(path, "1 of 2 rows", NULL));
    cr_expect_eq(scratch_count(&scratch), 1);
    cr_expect_eq(read_path(path), AG_ERR_FORMAT);
    cr_expect(error_says("begins with \"old\"", NULL));

    cr_assert_eq(ag_npy_writer_open(path, 1, 2, &writer), AG_OK, "%s", ag_error());
    ag_npy_writer_discard(writer);
    ag_npy_writer_discard(NULL);
    cr_expect_eq(scratch_count(&scratch), 1);
    cr_expect_eq(read_path(path), AG_ERR_FORMAT);
    scratch_close(&scratch);
}

Test(npy_writer, what_cannot_be_written_is_refused)
{
    static const float rows[] = {1, 2};
    scratch_t scratch;
    const char *path;
    ag_npy_writer_t *writer = NULL;

    scratch_open(&scratch);
    path = scratch_path(&scratch, "out.npy");
    cr_expect_eq(ag_npy_writer_open("/dev/null", 1, 1, &writer), AG_ERR_INVALID);
    cr_expect(error_says("/dev/null", NULL));
    cr_expect_eq(ag_npy_writer_open("/nowhere/out.npy", 1, 1, &writer), AG_ERR_IO);
    cr_expect(error_says("/nowhere/out.npy", "No such file", NULL));
    cr_expect_eq(ag_npy_writer_open(path, UINT64_C(1) << 62, 2, &writer), AG_ERR_INVALID);
    cr_assert_eq(ag_npy_writer_open(path, 1, 1, &writer), AG_OK);
    cr_expect_eq(ag_npy_writer_rows(writer, rows, 2), AG_ERR_INVALID);
    cr_expect(error_says(path, "more than the 1 rows", NULL));
    ag_npy_writer_discard(writer);
    cr_expect_eq(scratch_count(&scratch), 0);
    scratch_close(&scratch);
}
