#include "runtime/file/gguf_value_priv.h"

#include <assert.h>
#include <string.h>

#include "runtime/file/names_priv.h"

enum { LENGTH_BYTES = 8 };

/* An item of an array of strings. */
typedef struct ag_gguf_text {
    const char *bytes;
    size_t n_bytes;
} ag_gguf_text_t;

/* Bytes of one item in the file; 0: not of a fixed size. */
static const unsigned char kind_bytes[] = {
    [AG_GGUF_U8] = 1,    [AG_GGUF_I8] = 1,  [AG_GGUF_U16] = 2, [AG_GGUF_I16] = 2,
    [AG_GGUF_U32] = 4,   [AG_GGUF_I32] = 4, [AG_GGUF_F32] = 4, [AG_GGUF_BOOL] = 1,
    [AG_GGUF_U64] = 8,   [AG_GGUF_I64] = 8, [AG_GGUF_F64] = 8, [AG_GGUF_STRING] = 0,
    [AG_GGUF_ARRAY] = 0,
};

enum { N_KINDS = sizeof(kind_bytes) };

/* The value of a fixed-size kind at bytes, which need not be aligned. */
static ag_gguf_value_t decode(ag_gguf_kind_t kind, const void *bytes)
{
    ag_gguf_value_t value = {.kind = kind};
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        int64_t i64;
        float f32;
        double f64;
    } raw;

    memcpy(&raw, bytes, kind_bytes[kind]);
    switch (kind) {
    case AG_GGUF_U8:
    case AG_GGUF_BOOL:
        value.as.integer = raw.u8;
        break;
    case AG_GGUF_I8:
        value.as.integer = raw.i8;
        break;
    case AG_GGUF_U16:
        value.as.integer = raw.u16;
        break;
    case AG_GGUF_I16:
        value.as.integer = raw.i16;
        break;
    case AG_GGUF_U32:
        value.as.integer = raw.u32;
        break;
    case AG_GGUF_I32:
        value.as.integer = raw.i32;
        break;
    case AG_GGUF_U64: /* beyond INT64_MAX was refused when the file was read */
    case AG_GGUF_I64:
        value.as.integer = raw.i64;
        break;
    case AG_GGUF_F32:
        value.as.real = raw.f32;
        break;
    case AG_GGUF_F64:
        value.as.real = raw.f64;
        break;
    case AG_GGUF_STRING:
    case AG_GGUF_ARRAY:
        break;
    }
    return value;
}

size_t ag_gguf_encode(const ag_gguf_value_t *value, unsigned char *bytes)
{
    float f32 = (float)value->as.real;

    if (value->kind == AG_GGUF_F32) {
        memcpy(bytes, &f32, sizeof(f32));
    } else if (value->kind == AG_GGUF_F64) {
        memcpy(bytes, &value->as.real, sizeof(value->as.real));
    } else { /* little endian: the first bytes are the low ones */
        memcpy(bytes, &value->as.integer, kind_bytes[value->kind]);
    }
    return kind_bytes[value->kind];
}

/* A truth value other than 0 and 1, or an integer that int64_t cannot hold. */
static bool out_of_range(const ag_gguf_value_t *value)
{
    return (value->kind == AG_GGUF_BOOL && value->as.integer > 1) ||
           (value->kind == AG_GGUF_U64 && value->as.integer < 0);
}

static ag_status_t fail_at(const ag_input_t *input, const char *what)
{
    return ag_fail(AG_ERR_FORMAT, "%s: damaged in %s: %s", input->path, input->part, what);
}

/* A length and as many bytes, copied into the pile. */
static ag_status_t read_text(ag_pile_t *pile, ag_input_t *input, ag_gguf_text_t *text)
{
    uint64_t n_bytes;
    char *bytes;
    ag_status_t status = ag_input_take(input, &n_bytes, sizeof(n_bytes));

    if (status == AG_OK) {
        status = ag_input_expect(input, n_bytes, 1);
    }
    if (status == AG_OK) {
        status = ag_pile_take(pile, n_bytes + 1, false, &bytes);
    }
    if (status == AG_OK) {
        status = ag_input_take(input, bytes, n_bytes);
    }
    if (status == AG_OK) {
        bytes[n_bytes] = '\0';
        *text = (ag_gguf_text_t){.bytes = bytes, .n_bytes = n_bytes};
    }
    return status;
}

ag_status_t ag_gguf_read_name(ag_pile_t *pile, ag_input_t *input, const char **name_p)
{
    ag_gguf_text_t text = {0};
    ag_status_t status = read_text(pile, input, &text);

    if (status != AG_OK) {
        return status;
    }
    if (!ag_name_usable(text.bytes, text.n_bytes)) {
        return fail_at(input, "its name is not a line of text of 1 to 1024 bytes");
    }
    *name_p = text.bytes;
    return AG_OK;
}

static ag_status_t read_kind(ag_input_t *input, ag_gguf_kind_t *kind_p)
{
    uint32_t kind;
    ag_status_t status = ag_input_take(input, &kind, sizeof(kind));

    if (status != AG_OK) {
        return status;
    }
    if (kind >= N_KINDS) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged in %s: value type %u is none of GGUF's",
                       input->path, input->part, kind);
    }
    *kind_p = (ag_gguf_kind_t)kind;
    return AG_OK;
}

static ag_status_t read_texts(ag_pile_t *pile, ag_input_t *input, size_t n, const void **first_p)
{
    ag_gguf_text_t *texts;
    ag_status_t status = ag_input_expect(input, n, LENGTH_BYTES);

    if (status == AG_OK) {
        status = ag_pile_take(pile, n * sizeof(*texts), true, &texts);
    }
    for (size_t i = 0; status == AG_OK && i < n; i++) {
        status = read_text(pile, input, &texts[i]);
    }
    if (status == AG_OK) {
        *first_p = texts;
    }
    return status;
}

static ag_status_t read_scalars(ag_pile_t *pile, ag_input_t *input, ag_gguf_kind_t kind, size_t n,
                                const void **first_p)
{
    size_t item_bytes = kind_bytes[kind];
    unsigned char *items;
    ag_status_t status = ag_input_expect(input, n, item_bytes);

    if (status == AG_OK) {
        status = ag_pile_take(pile, n * item_bytes, true, &items);
    }
    if (status == AG_OK) {
        status = ag_input_take(input, items, n * item_bytes);
    }
    if (status != AG_OK) {
        return status;
    }
    for (size_t i = 0; (kind == AG_GGUF_BOOL || kind == AG_GGUF_U64) && i < n; i++) {
        ag_gguf_value_t value = decode(kind, items + i * item_bytes);

        if (out_of_range(&value)) {
            return fail_at(input, "an item is out of range");
        }
    }
    *first_p = items;
    return AG_OK;
}

static ag_status_t read_array(ag_pile_t *pile, ag_input_t *input, ag_gguf_value_t *value)
{
    ag_gguf_kind_t kind = AG_GGUF_U8;
    uint64_t n;
    const void *first = NULL;
    ag_status_t status = read_kind(input, &kind);

    if (status == AG_OK) {
        status = ag_input_take(input, &n, sizeof(n));
    }
    if (status != AG_OK) {
        return status;
    }
    if (kind == AG_GGUF_ARRAY) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: %s is an array of arrays, which is not supported",
                       input->path, input->part);
    }
    if (kind == AG_GGUF_STRING) {
        status = read_texts(pile, input, n, &first);
    } else {
        status = read_scalars(pile, input, kind, n, &first);
    }
    if (status != AG_OK) {
        return status;
    }
    value->kind = AG_GGUF_ARRAY;
    value->as.array.kind = kind;
    value->as.array.n = n;
    value->as.array.first = first;
    return AG_OK;
}

ag_status_t ag_gguf_read_value(ag_pile_t *pile, ag_input_t *input, ag_gguf_value_t *value)
{
    unsigned char scalar[LENGTH_BYTES];
    ag_gguf_text_t text;
    ag_gguf_kind_t kind = AG_GGUF_U8;
    ag_status_t status = read_kind(input, &kind);

    if (status != AG_OK) {
        return status;
    }
    if (kind == AG_GGUF_ARRAY) {
        return read_array(pile, input, value);
    }
    if (kind == AG_GGUF_STRING) {
        status = read_text(pile, input, &text);
        if (status == AG_OK) {
            value->kind = kind;
            value->as.string.bytes = text.bytes;
            value->as.string.n_bytes = text.n_bytes;
        }
        return status;
    }
    status = ag_input_take(input, scalar, kind_bytes[kind]);
    if (status != AG_OK) {
        return status;
    }
    *value = decode(kind, scalar);
    return out_of_range(value) ? fail_at(input, "the value is out of range") : AG_OK;
}

ag_gguf_value_t ag_gguf_item(const ag_gguf_value_t *array, size_t i)
{
    ag_gguf_kind_t kind = array->as.array.kind;
    ag_gguf_value_t value = {.kind = kind};

    assert(array->kind == AG_GGUF_ARRAY && i < array->as.array.n);
    if (kind == AG_GGUF_STRING) {
        const ag_gguf_text_t *text = (const ag_gguf_text_t *)array->as.array.first + i;

        value.as.string.bytes = text->bytes;
        value.as.string.n_bytes = text->n_bytes;
        return value;
    }
    return decode(kind, (const unsigned char *)array->as.array.first + i * kind_bytes[kind]);
}
