/* GGUF metadata to be written: keys and values, in order. */
#pragma once

#include "runtime/base/array.h"
#include "runtime/file/gguf.h"

/*
 * Where memory runs out it says so when the file is begun: putting has no status of its own. Who
 * puts keys sees to it that none comes twice.
 */
typedef struct ag_gguf_metadata {
    ag_array_t bytes; /* char: as the file has them */
    uint64_t n_entries;
    ag_status_t status; /* of what was put so far */
} ag_gguf_metadata_t;

#define AG_GGUF_METADATA ((ag_gguf_metadata_t){.bytes = AG_ARRAY(char)})

void ag_gguf_metadata_fini(ag_gguf_metadata_t *metadata);

void ag_gguf_put_u32(ag_gguf_metadata_t *metadata, const char *key, uint32_t value);
void ag_gguf_put_f32(ag_gguf_metadata_t *metadata, const char *key, float value);
void ag_gguf_put_bool(ag_gguf_metadata_t *metadata, const char *key, bool value);
void ag_gguf_put_string(ag_gguf_metadata_t *metadata, const char *key, const char *bytes,
                        size_t n_bytes);

/** A value of another file. */
void ag_gguf_put_value(ag_gguf_metadata_t *metadata, const char *key, const ag_gguf_value_t *value);

/** Begin an array of n items; so many calls of the function of its kind must follow. */
void ag_gguf_put_array(ag_gguf_metadata_t *metadata, const char *key, ag_gguf_kind_t kind,
                       size_t n);
void ag_gguf_add_string(ag_gguf_metadata_t *metadata, const char *bytes, size_t n_bytes);
void ag_gguf_add_f32(ag_gguf_metadata_t *metadata, float value);
void ag_gguf_add_i32(ag_gguf_metadata_t *metadata, int32_t value);
void ag_gguf_add_bool(ag_gguf_metadata_t *metadata, bool value);
