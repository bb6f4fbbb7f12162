/* GGUF versions 2 and 3 (ggml's docs/gguf.md): metadata and a tensor directory. Little endian. */
#pragma once

#include "runtime/file/file_tensor.h"

typedef struct ag_gguf ag_gguf_t;

typedef enum ag_gguf_kind {
    AG_GGUF_U8,
    AG_GGUF_I8,
    AG_GGUF_U16,
    AG_GGUF_I16,
    AG_GGUF_U32,
    AG_GGUF_I32,
    AG_GGUF_F32,
    AG_GGUF_BOOL,
    AG_GGUF_STRING,
    AG_GGUF_ARRAY,
    AG_GGUF_U64,
    AG_GGUF_I64,
    AG_GGUF_F64,
} ag_gguf_kind_t; /* the numbers of the file format */

typedef struct ag_gguf_value {
    ag_gguf_kind_t kind;
    union {
        int64_t integer; /* all integer kinds and BOOL; U64 beyond INT64_MAX is refused when read */
        double real;     /* F32, F64 */
        struct {
            const char *bytes;
            size_t n_bytes;
        } string; /* not NUL-terminated */
        struct {
            ag_gguf_kind_t kind;
            size_t n;
            const void *first;
        } array; /* by ag_gguf_item() */
    } as;
} ag_gguf_value_t;

/**
 * Read the header, metadata and directory. Every count, offset and size is checked against the
 * file.
 * @return AG_OK; AG_ERR_IO; AG_ERR_FORMAT (not GGUF, truncated, out of range, a duplicate name);
 *         AG_ERR_UNSUPPORTED (another version, an unknown tensor type).
 */
ag_status_t ag_gguf_open(const char *path, ag_gguf_t **gguf_p);
void ag_gguf_close(ag_gguf_t *gguf);

const char *ag_gguf_path(const ag_gguf_t *gguf);

/** The value of a key; NULL when absent. Borrowed. */
const ag_gguf_value_t *ag_gguf_get(const ag_gguf_t *gguf, const char *key);

/** Entry i of the metadata, in the file's order; NULL: there are no more. Borrowed. */
const ag_gguf_value_t *ag_gguf_entry(const ag_gguf_t *gguf, size_t i, const char **key_p);

/** Item i of an array of scalars or strings. */
ag_gguf_value_t ag_gguf_item(const ag_gguf_value_t *array, size_t i);

const ag_file_tensor_t *ag_gguf_tensors(const ag_gguf_t *gguf, size_t *n_tensors_p);
