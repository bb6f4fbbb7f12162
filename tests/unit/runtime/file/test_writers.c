#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "make_files.h"
#include "runtime/file/folder.h"
#include "runtime/file/model_files.h"
#include "runtime/file/safetensors.h"
#include "runtime/file/tensor_writer.h"

/* Three tensors, one of no rows, of sizes that are no multiple of anything. */
static const struct {
    const char *name;
    ag_dtype_t dtype;
    uint32_t n_dims;
    uint64_t dims[3], bytes;
} shapes[] = {{"a \"quoted\" name", AG_F32, 1, {7}, 28},
              {"empty", AG_BF16, 2, {0, 5}, 0},
              {"b", AG_F16, 3, {3, 5, 11}, 330},
              {"last", AG_F32, 1, {1}, 4}};

enum { N_SHAPES = 4, N_BYTES = 28 + 330 + 4 };

static void declare(ag_tensor_writer_t *writer)
{
    for (int i = 0; i < N_SHAPES; i++) {
        cr_assert_eq(ag_tensor_writer_add(writer, shapes[i].name, shapes[i].dtype, shapes[i].n_dims,
                                          shapes[i].dims),
                     AG_OK);
    }
}

/* The bytes 0, 1, 2 … in pieces of these sizes. */
static void write_pieces(ag_tensor_writer_t *writer, size_t piece)
{
    unsigned char bytes[N_BYTES];

    for (size_t i = 0; i < N_BYTES; i++) {
        bytes[i] = (unsigned char)i;
    }
    for (size_t at = 0; at < N_BYTES; at += piece) {
        size_t n = N_BYTES - at < piece ? N_BYTES - at : piece;

        cr_assert_eq(ag_tensor_writer_write(writer, bytes + at, n), AG_OK);
    }
}

static void expect_bytes(const char *path, uint64_t offset, uint64_t n, size_t first)
{
    FILE *file = fopen(path, "rb");

    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, (long)offset, SEEK_SET), 0);
    for (uint64_t i = 0; i < n; i++) {
        cr_assert_eq(fgetc(file), (int)((first + i) & 255), "byte %llu at %llu",
                     (unsigned long long)i, (unsigned long long)offset);
    }
    fclose(file);
}

Test(tensor_writer, safetensors_are_read_back_whatever_pieces_they_came_in)
{
    static const size_t pieces[] = {1, 5, 29, N_BYTES};
    scratch_t scratch;

    scratch_open(&scratch);
    for (size_t p = 0; p < sizeof(pieces) / sizeof(*pieces); p++) {
        const char *path = scratch_path(&scratch, "model.safetensors");
        ag_aside_t *aside;
        ag_tensor_writer_t *writer;
        ag_safetensors_t *file;
        const ag_file_tensor_t *tensors;
        size_t n, first = 0;

        cr_assert_eq(ag_aside_open(path, &aside), AG_OK);
        cr_assert_eq(ag_tensor_writer_create(aside, NULL, &writer), AG_OK);
        declare(writer);
        write_pieces(writer, pieces[p]);
        cr_assert_eq(ag_tensor_writer_end(writer), AG_OK);
        ag_tensor_writer_destroy(writer);
        cr_assert_eq(ag_aside_complete(aside), AG_OK);

        cr_assert_eq(ag_safetensors_open(path, true, &file), AG_OK, "%s", ag_error());
        tensors = ag_safetensors_tensors(file, &n);
        cr_assert_eq(n, N_SHAPES);
        for (size_t i = 0; i < n; i++) {
            cr_expect_str_eq(tensors[i].name, shapes[i].name);
            cr_expect_eq(tensors[i].dtype, shapes[i].dtype);
            cr_assert_eq(tensors[i].n_dims, shapes[i].n_dims);
            cr_expect_arr_eq(tensors[i].dims, shapes[i].dims, tensors[i].n_dims * sizeof(uint64_t));
            cr_expect_eq(tensors[i].bytes, shapes[i].bytes);
            expect_bytes(path, tensors[i].offset_bytes, tensors[i].bytes, first);
            first += tensors[i].bytes;
        }
        ag_safetensors_close(file);
    }
    cr_expect_eq(scratch_count(&scratch), 1);
    scratch_close(&scratch);
}

static void put_metadata(ag_gguf_metadata_t *metadata)
{
    ag_gguf_put_string(metadata, "general.architecture", "none", 4);
    ag_gguf_put_u32(metadata, "a.count", 4000000000u);
    ag_gguf_put_f32(metadata, "a.real", 1e-5f);
    ag_gguf_put_bool(metadata, "a.flag", true);
    ag_gguf_put_array(metadata, "a.texts", AG_GGUF_STRING, 3);
    ag_gguf_add_string(metadata, "one", 3);
    ag_gguf_add_string(metadata, "", 0);
    ag_gguf_add_string(metadata, "a\0b", 3);
    ag_gguf_put_array(metadata, "a.numbers", AG_GGUF_I32, 2);
    ag_gguf_add_i32(metadata, -7);
    ag_gguf_add_i32(metadata, 7);
}

static void expect_metadata(const ag_gguf_t *gguf)
{
    const ag_gguf_value_t *texts = ag_gguf_get(gguf, "a.texts");
    const ag_gguf_value_t *numbers = ag_gguf_get(gguf, "a.numbers");
    ag_gguf_value_t text;

    cr_expect_eq(ag_gguf_get(gguf, "a.count")->as.integer, 4000000000);
    cr_expect_eq((float)ag_gguf_get(gguf, "a.real")->as.real, 1e-5f);
    cr_expect_eq(ag_gguf_get(gguf, "a.flag")->kind, AG_GGUF_BOOL);
    cr_expect_eq(ag_gguf_get(gguf, "a.flag")->as.integer, 1);
    cr_assert_eq(texts->as.array.n, 3);
    text = ag_gguf_item(texts, 2);
    cr_assert_eq(text.as.string.n_bytes, 3);
    cr_expect_arr_eq(text.as.string.bytes, "a\0b", 3);
    cr_assert_eq(numbers->as.array.n, 2);
    cr_expect_eq(ag_gguf_item(numbers, 0).as.integer, -7);
}

static void write_gguf(const char *path, const ag_gguf_metadata_t *metadata)
{
    ag_aside_t *aside;
    ag_tensor_writer_t *writer;

    cr_assert_eq(ag_aside_open(path, &aside), AG_OK);
    cr_assert_eq(ag_tensor_writer_create(aside, metadata, &writer), AG_OK);
    declare(writer);
    write_pieces(writer, 13);
    cr_assert_eq(ag_tensor_writer_end(writer), AG_OK);
    ag_tensor_writer_destroy(writer);
    cr_assert_eq(ag_aside_complete(aside), AG_OK);
}

Test(tensor_writer, gguf_is_read_back_and_its_values_can_be_put_again)
{
    const char *key;
    ag_gguf_metadata_t metadata = AG_GGUF_METADATA, again = AG_GGUF_METADATA;
    const ag_file_tensor_t *tensors;
    ag_gguf_t *gguf;
    scratch_t scratch;
    size_t n, first = 0;

    scratch_open(&scratch);
    put_metadata(&metadata);
    write_gguf(scratch_path(&scratch, "one.gguf"), &metadata);
    cr_assert_eq(ag_gguf_open(scratch_path(&scratch, "one.gguf"), &gguf), AG_OK, "%s", ag_error());
    expect_metadata(gguf);
    tensors = ag_gguf_tensors(gguf, &n);
    cr_assert_eq(n, N_SHAPES);
    for (size_t i = 0; i < n; i++) {
        cr_expect_str_eq(tensors[i].name, shapes[i].name);
        cr_expect_eq(tensors[i].dtype, shapes[i].dtype);
        cr_expect_arr_eq(tensors[i].dims, shapes[i].dims, shapes[i].n_dims * sizeof(uint64_t));
        cr_expect_eq(tensors[i].offset_bytes % 32, 0);
        expect_bytes(scratch_path(&scratch, "one.gguf"), tensors[i].offset_bytes, tensors[i].bytes,
                     first);
        first += tensors[i].bytes;
    }
    for (size_t i = 0; ag_gguf_entry(gguf, i, &key) != NULL; i++) {
        ag_gguf_put_value(&again, key, ag_gguf_entry(gguf, i, &key));
    }
    cr_assert_eq(again.status, AG_OK);
    cr_expect_eq(again.n_entries, metadata.n_entries);
    cr_assert_eq(again.bytes.n_items, metadata.bytes.n_items);
    cr_expect_arr_eq(again.bytes.items, metadata.bytes.items, again.bytes.n_items);
    ag_gguf_close(gguf);
    ag_gguf_metadata_fini(&metadata);
    ag_gguf_metadata_fini(&again);
    scratch_close(&scratch);
}

Test(tensor_writer, what_is_not_whole_is_told)
{
    ag_aside_t *aside;
    ag_tensor_writer_t *writer;
    scratch_t scratch;

    scratch_open(&scratch);
    cr_assert_eq(ag_aside_open(scratch_path(&scratch, "m"), &aside), AG_OK);
    cr_assert_eq(ag_tensor_writer_create(aside, NULL, &writer), AG_OK);
    cr_expect_eq(ag_tensor_writer_add(writer, "q", AG_Q8_0, 1, (uint64_t[]){32}),
                 AG_ERR_UNSUPPORTED);
    cr_expect(error_says("q8_0", "tensor q", NULL));
    declare(writer);
    cr_assert_eq(ag_tensor_writer_write(writer, "12345678", 8), AG_OK);
    cr_expect_eq(ag_tensor_writer_end(writer), AG_ERR_IO);
    cr_expect(error_says("8 of 28 bytes", NULL));
    ag_tensor_writer_destroy(writer);
    ag_aside_discard(aside);
    cr_expect_eq(scratch_count(&scratch), 0);
    scratch_close(&scratch);
}

/* A limit on a file's size stands for a full disk: both are found out by the first byte. */
Test(tensor_writer, what_does_not_fit_is_told_before_a_byte_is_written)
{
    struct rlimit limit = {1 << 20, 1 << 20};
    ag_aside_t *aside;
    ag_tensor_writer_t *writer;
    scratch_t scratch;

    scratch_open(&scratch);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(ag_aside_open(scratch_path(&scratch, "m"), &aside), AG_OK);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(ag_tensor_writer_create(aside, NULL, &writer), AG_OK);
    cr_assert_eq(ag_tensor_writer_add(writer, "w", AG_F32, 2, (uint64_t[]){1024, 1024}), AG_OK);
    cr_expect_eq(ag_tensor_writer_bytes(writer), 4 << 20);
    cr_expect_eq(ag_tensor_writer_write(writer, "1234", 4), AG_ERR_IO);
    cr_expect(error_says("/m", "4194", "File too large", NULL), "%s", ag_error());
    ag_tensor_writer_destroy(writer);
    ag_aside_discard(aside);
    cr_expect_eq(scratch_count(&scratch), 0);
    scratch_close(&scratch);
}

static bool is_old(const char *name)
{
    return strncmp(name, "old", 3) == 0 || strcmp(name, "last") == 0;
}

Test(folder, files_take_their_names_together_and_what_was_old_goes)
{
    ag_folder_t *folder;
    scratch_t scratch;
    struct stat info;

    scratch_open(&scratch);
    scratch_write(&scratch, "old.1", "x", 1);
    scratch_write(&scratch, "last", "x", 1);
    scratch_write(&scratch, "other", "x", 1);
    cr_assert_eq(ag_folder_open(scratch.path, &folder), AG_OK);
    cr_assert_eq(ag_folder_add_text(folder, "first", "1234", 4), AG_OK);
    cr_assert_eq(ag_folder_add_json(folder, "last", ag_json_new_integer(12)), AG_OK);
    cr_expect_neq(stat(scratch_path(&scratch, "first"), &info), 0);
    cr_assert_eq(stat(scratch_path(&scratch, "last"), &info), 0);
    cr_expect_eq(info.st_size, 1);
    cr_assert_eq(ag_folder_complete(folder, is_old), AG_OK, "%s", ag_error());
    cr_expect_eq(scratch_count(&scratch), 3);
    cr_assert_eq(stat(scratch_path(&scratch, "first"), &info), 0);
    cr_expect_eq(info.st_size, 4);
    cr_assert_eq(stat(scratch_path(&scratch, "last"), &info), 0);
    cr_expect_eq(info.st_size, 2);
    scratch_close(&scratch);
}

Test(folder, what_is_given_up_leaves_nothing)
{
    ag_folder_t *folder;
    scratch_t scratch;

    scratch_open(&scratch);
    cr_assert_eq(ag_folder_open(scratch_path(&scratch, "made"), &folder), AG_OK);
    cr_assert_eq(ag_folder_add_text(folder, "first", "1234", 4), AG_OK);
    cr_expect_eq(scratch_count(&scratch), 1);
    ag_folder_discard(folder);
    cr_expect_eq(scratch_count(&scratch), 0);

    scratch_write(&scratch, "file", "x", 1);
    cr_expect_eq(ag_folder_open(scratch_path(&scratch, "file"), &folder), AG_ERR_INVALID);
    cr_expect(error_says("/file", "no folder", NULL));
    cr_expect_eq(ag_folder_open(scratch_path(&scratch, "no/folder"), &folder), AG_ERR_IO);
    cr_expect(error_says("no/folder", "No such file", NULL));
    cr_expect_eq(scratch_count(&scratch), 1);
    scratch_close(&scratch);
}
