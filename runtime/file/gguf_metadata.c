#include "runtime/file/gguf_metadata.h"

#include <string.h>

#include "runtime/file/gguf_value_priv.h"

void ag_gguf_metadata_fini(ag_gguf_metadata_t *metadata)
{
    ag_array_fini(&metadata->bytes);
}

static void put(ag_gguf_metadata_t *metadata, const void *bytes, size_t n)
{
    if (metadata->status == AG_OK && n > 0) {
        metadata->status = ag_array_append(&metadata->bytes, bytes, n);
    }
}

static void put_number(ag_gguf_metadata_t *metadata, uint32_t number)
{
    put(metadata, &number, sizeof(number));
}

static void put_count(ag_gguf_metadata_t *metadata, uint64_t count)
{
    put(metadata, &count, sizeof(count));
}

void ag_gguf_add_string(ag_gguf_metadata_t *metadata, const char *bytes, size_t n_bytes)
{
    put_count(metadata, n_bytes);
    put(metadata, bytes, n_bytes);
}

void ag_gguf_add_i32(ag_gguf_metadata_t *metadata, int32_t value)
{
    put(metadata, &value, sizeof(value));
}

void ag_gguf_add_bool(ag_gguf_metadata_t *metadata, bool value)
{
    uint8_t byte = value;

    put(metadata, &byte, sizeof(byte));
}

static void put_key(ag_gguf_metadata_t *metadata, const char *key, ag_gguf_kind_t kind)
{
    ag_gguf_add_string(metadata, key, strlen(key));
    put_number(metadata, kind);
    metadata->n_entries++;
}

void ag_gguf_put_u32(ag_gguf_metadata_t *metadata, const char *key, uint32_t value)
{
    put_key(metadata, key, AG_GGUF_U32);
    put_number(metadata, value);
}

void ag_gguf_put_f32(ag_gguf_metadata_t *metadata, const char *key, float value)
{
    put_key(metadata, key, AG_GGUF_F32);
    put(metadata, &value, sizeof(value));
}

void ag_gguf_put_bool(ag_gguf_metadata_t *metadata, const char *key, bool value)
{
    uint8_t byte = value;

    put_key(metadata, key, AG_GGUF_BOOL);
    put(metadata, &byte, sizeof(byte));
}

void ag_gguf_put_string(ag_gguf_metadata_t *metadata, const char *key, const char *bytes,
                        size_t n_bytes)
{
    put_key(metadata, key, AG_GGUF_STRING);
    ag_gguf_add_string(metadata, bytes, n_bytes);
}

void ag_gguf_put_array(ag_gguf_metadata_t *metadata, const char *key, ag_gguf_kind_t kind, size_t n)
{
    put_key(metadata, key, AG_GGUF_ARRAY);
    put_number(metadata, kind);
    put_count(metadata, n);
}

void ag_gguf_add_f32(ag_gguf_metadata_t *metadata, float value)
{
    put(metadata, &value, sizeof(value));
}

static void add_item(ag_gguf_metadata_t *metadata, const ag_gguf_value_t *value)
{
    unsigned char bytes[8];

    if (value->kind == AG_GGUF_STRING) {
        ag_gguf_add_string(metadata, value->as.string.bytes, value->as.string.n_bytes);
    } else {
        put(metadata, bytes, ag_gguf_encode(value, bytes));
    }
}

void ag_gguf_put_value(ag_gguf_metadata_t *metadata, const char *key, const ag_gguf_value_t *value)
{
    if (value->kind != AG_GGUF_ARRAY) {
        put_key(metadata, key, value->kind);
        add_item(metadata, value);
        return;
    }
    ag_gguf_put_array(metadata, key, value->as.array.kind, value->as.array.n);
    for (size_t i = 0; i < value->as.array.n; i++) {
        ag_gguf_value_t item = ag_gguf_item(value, i);

        add_item(metadata, &item);
    }
}
