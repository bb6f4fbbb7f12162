#define _GNU_SOURCE /* memfd_create, nftw */

#include "make_files.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/philox.h"

void put(ag_array_t *bytes, const void *src, size_t n_bytes)
{
    if (n_bytes > 0) {
        cr_assert_eq(ag_array_append(bytes, src, n_bytes), AG_OK);
    }
}

void put_u8(ag_array_t *bytes, uint8_t value)
{
    put(bytes, &value, sizeof(value));
}

void put_u16(ag_array_t *bytes, uint16_t value)
{
    put(bytes, &value, sizeof(value));
}

void put_u32(ag_array_t *bytes, uint32_t value)
{
    put(bytes, &value, sizeof(value));
}

void put_u64(ag_array_t *bytes, uint64_t value)
{
    put(bytes, &value, sizeof(value));
}

void put_zeros(ag_array_t *bytes, size_t n_bytes)
{
    put(bytes, NULL, n_bytes);
}

void put_alignment(ag_array_t *bytes, size_t alignment)
{
    put_zeros(bytes, (alignment - bytes->n_items % alignment) % alignment);
}

void put_gguf_start(ag_array_t *bytes, uint64_t n_tensors, uint64_t n_entries)
{
    put(bytes, "GGUF", 4);
    put_u32(bytes, 3);
    put_u64(bytes, n_tensors);
    put_u64(bytes, n_entries);
}

void put_gguf_text(ag_array_t *bytes, const char *text)
{
    put_u64(bytes, strlen(text));
    put(bytes, text, strlen(text));
}

void put_gguf_key(ag_array_t *bytes, const char *key, ag_gguf_kind_t kind)
{
    put_gguf_text(bytes, key);
    put_u32(bytes, kind);
}

void put_gguf_array(ag_array_t *bytes, const char *key, ag_gguf_kind_t kind, uint64_t n_items)
{
    put_gguf_key(bytes, key, AG_GGUF_ARRAY);
    put_u32(bytes, kind);
    put_u64(bytes, n_items);
}

void put_gguf_tensor(ag_array_t *bytes, const char *name, uint32_t n_dims, const uint64_t *dims,
                     int32_t type, uint64_t offset)
{
    put_gguf_text(bytes, name);
    put_u32(bytes, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) {
        put_u64(bytes, dims[d]);
    }
    put_u32(bytes, (uint32_t)type);
    put_u64(bytes, offset);
}

void put_safetensors(ag_array_t *bytes, const char *json, size_t n_data_bytes)
{
    put_u64(bytes, strlen(json));
    put(bytes, json, strlen(json));
    put_zeros(bytes, n_data_bytes);
}

void put_npy(ag_array_t *bytes, uint8_t version, const char *dict)
{
    put(bytes, "\x93NUMPY", 6);
    put_u8(bytes, version);
    put_u8(bytes, 0);
    if (version == 1) {
        put_u16(bytes, (uint16_t)strlen(dict));
    } else {
        put_u32(bytes, (uint32_t)strlen(dict));
    }
    put(bytes, dict, strlen(dict));
}

void memory_file_set(memory_file_t *file, const void *bytes, size_t n_bytes)
{
    cr_assert_eq(ftruncate(file->fd, (off_t)n_bytes), 0);
    cr_assert_eq(pwrite(file->fd, bytes, n_bytes, 0), (ssize_t)n_bytes);
}

void memory_file_open(memory_file_t *file, const ag_array_t *bytes)
{
    file->fd = memfd_create("argosy-test", MFD_CLOEXEC);
    cr_assert_geq(file->fd, 0);
    snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
    memory_file_set(file, bytes->items, bytes->n_items);
}

void memory_file_close(memory_file_t *file)
{
    close(file->fd);
}

void scratch_open(scratch_t *scratch)
{
    snprintf(scratch->path, sizeof(scratch->path), "/tmp/argosy-test-XXXXXX");
    cr_assert_not_null(mkdtemp(scratch->path));
}

const char *scratch_path(const scratch_t *scratch, const char *name)
{
    static char paths[4][256];
    static unsigned n_calls;
    char *path = paths[n_calls++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", scratch->path, name);
    return path;
}

const char *scratch_write(const scratch_t *scratch, const char *name, const void *bytes,
                          size_t n_bytes)
{
    const char *path = scratch_path(scratch, name);
    FILE *stream = fopen(path, "wb");

    cr_assert_not_null(stream);
    cr_assert_eq(fwrite(bytes, 1, n_bytes, stream), n_bytes);
    cr_assert_eq(fclose(stream), 0);
    return path;
}

size_t scratch_count(const scratch_t *scratch)
{
    DIR *folder = opendir(scratch->path);
    size_t n = 0;

    cr_assert_not_null(folder);
    while (readdir(folder) != NULL) {
        n++;
    }
    closedir(folder);
    return n - 2; /* "." and ".." */
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

void scratch_close(scratch_t *scratch)
{
    cr_assert_eq(nftw(scratch->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

bool error_says(const char *text, ...)
{
    bool says = true;
    va_list texts;

    va_start(texts, text);
    for (; text != NULL; text = va_arg(texts, const char *)) {
        if (strstr(ag_error(), text) == NULL) {
            cr_log_warn("\"%s\" does not say \"%s\"", ag_error(), text);
            says = false;
        }
    }
    va_end(texts);
    return says;
}

/* Change 1 to 8 bytes: one bit of them, or to a value that counts and lengths dislike. */
static void flip(unsigned char *bytes, size_t n_header_bytes, uint32_t seed, uint32_t number)
{
    static const unsigned char disliked[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    uint32_t words[4];
    uint32_t n_changes;

    ag_philox((uint32_t[]){seed, 1}, (uint32_t[]){number, 0, 0, 0}, words);
    n_changes = 1 + words[0] % 8;
    for (uint32_t i = 0; i < n_changes; i++) {
        ag_philox((uint32_t[]){seed, 1}, (uint32_t[]){number, 1 + i, 0, 0}, words);
        if (words[0] % 2 == 0) {
            bytes[words[1] % n_header_bytes] ^= (unsigned char)(1u << words[2] % 8);
        } else {
            bytes[words[1] % n_header_bytes] = disliked[words[2] % sizeof(disliked)];
        }
    }
}

damage_count_t read_damaged(const ag_array_t *whole, size_t n_header_bytes, uint32_t seed,
                            read_fn_t read_fn)
{
    unsigned char *bytes = malloc(whole->n_items);
    damage_count_t count = {0};
    memory_file_t file;

    cr_assert_not_null(bytes);
    memory_file_open(&file, whole);
    cr_assert_eq(read_fn(file.path), AG_OK, "the undamaged file: %s", ag_error());
    for (uint32_t number = 0; number < N_DAMAGES; number++) {
        uint32_t words[4];
        ag_status_t status;

        ag_philox((uint32_t[]){seed, 0}, (uint32_t[]){number, 0, 0, 0}, words);
        memcpy(bytes, whole->items, whole->n_items);
        if (words[0] % 4 == 0) {
            memory_file_set(&file, bytes, words[1] % whole->n_items);
            status = read_fn(file.path);
            count.n_truncated++;
            count.n_truncated_read += status == AG_OK;
        } else {
            flip(bytes, n_header_bytes, seed, number);
            memory_file_set(&file, bytes, whole->n_items);
            status = read_fn(file.path);
            count.n_flipped++;
            count.n_flipped_refused += status != AG_OK;
        }
        count.n_unclear += status != AG_OK && (strstr(ag_error(), file.path) == NULL ||
                                               strchr(ag_error(), '\n') != NULL);
    }
    memory_file_close(&file);
    free(bytes);
    return count;
}

void expect_truncations_refused(const ag_array_t *whole, read_fn_t read_fn)
{
    memory_file_t file;

    memory_file_open(&file, whole);
    for (size_t n = 0; n < whole->n_items; n++) {
        memory_file_set(&file, whole->items, n);
        cr_assert_eq(read_fn(file.path), AG_ERR_FORMAT, "cut to %zu", n);
        cr_assert(error_says(file.path, NULL));
    }
    memory_file_close(&file);
}
