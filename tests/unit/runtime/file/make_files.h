/* Files for the tests of runtime/file: made here byte by byte, kept in memory or in a scratch
 * folder. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/array.h"
#include "runtime/file/gguf.h"

/* Bytes that grow: AG_ARRAY(unsigned char). */
void put(ag_array_t *bytes, const void *src, size_t n_bytes);
void put_u8(ag_array_t *bytes, uint8_t value);
void put_u16(ag_array_t *bytes, uint16_t value);
void put_u32(ag_array_t *bytes, uint32_t value);
void put_u64(ag_array_t *bytes, uint64_t value);
void put_zeros(ag_array_t *bytes, size_t n_bytes);
void put_alignment(ag_array_t *bytes, size_t alignment);

/* The pieces of a GGUF file, in the order in which they follow each other. */
void put_gguf_start(ag_array_t *bytes, uint64_t n_tensors, uint64_t n_entries);
void put_gguf_text(ag_array_t *bytes, const char *text);
void put_gguf_key(ag_array_t *bytes, const char *key, ag_gguf_kind_t kind); /* the value follows */
void put_gguf_array(ag_array_t *bytes, const char *key, ag_gguf_kind_t kind, uint64_t n_items);
void put_gguf_tensor(ag_array_t *bytes, const char *name, uint32_t n_dims, const uint64_t *dims,
                     int32_t type, uint64_t offset); /* dims in the file's order */

void put_safetensors(ag_array_t *bytes, const char *json, size_t n_data_bytes);
void put_npy(ag_array_t *bytes, uint8_t version, const char *dict); /* the data follow */

/* A file in memory, which has a path as long as it is open. */
typedef struct memory_file {
    int fd;
    char path[32];
} memory_file_t;

void memory_file_open(memory_file_t *file, const ag_array_t *bytes);
void memory_file_set(memory_file_t *file, const void *bytes, size_t n_bytes);
void memory_file_close(memory_file_t *file);

/* A folder that is removed with all in it. */
typedef struct scratch {
    char path[64];
} scratch_t;

void scratch_open(scratch_t *scratch);
/** The path of a name in the folder; one of four static buffers. */
const char *scratch_path(const scratch_t *scratch, const char *name);
const char *scratch_write(const scratch_t *scratch, const char *name, const void *bytes,
                          size_t n_bytes);
size_t scratch_count(const scratch_t *scratch); /* entries in the folder */
void scratch_close(scratch_t *scratch);

/** Whether the last error says all of the texts (the list ends in NULL). */
bool error_says(const char *text, ...) __attribute__((sentinel));

typedef ag_status_t (*read_fn_t)(const char *path);

/** Fails the test where the file is read cut short anywhere, or the error does not name it. */
void expect_truncations_refused(const ag_array_t *whole, read_fn_t read_fn);

enum { N_DAMAGES = 2000 };

typedef struct damage_count {
    unsigned n_truncated;
    unsigned n_truncated_read; /* truncated, and read without an error */
    unsigned n_flipped;
    unsigned n_flipped_refused;
    unsigned n_unclear; /* an error without the path, or of more than a line */
} damage_count_t;

/**
 * Read N_DAMAGES files that are `whole` cut short or with bytes of its first n_header_bytes
 * changed; always the same ones for the same seed.
 */
damage_count_t read_damaged(const ag_array_t *whole, size_t n_header_bytes, uint32_t seed,
                            read_fn_t read_fn);
