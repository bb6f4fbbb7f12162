#include "runtime/file/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/array.h"
#include "runtime/file/extent_priv.h"
#include "runtime/file/gguf_value_priv.h"
#include "runtime/file/names_priv.h"

enum {
    LEAST_VERSION = 2, /* of the same layout; version 1 had lengths of 32 bits */
    VERSION = 3,
    DEFAULT_ALIGNMENT = 32,
    MAX_HEADER_BYTES = 1 << 30,               /* the largest vocabularies take tens of MiB */
    MIN_ENTRY_BYTES = 8 + 1 + 4 + 1,          /* key length, key, kind, value */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* name length, name, n_dims, a dim, type, offset */
    WHAT_BYTES = 512,
};

typedef struct ag_gguf_entry {
    const char *key;
    ag_gguf_value_t value;
} ag_gguf_entry_t;

struct ag_gguf {
    const char *path;
    ag_pile_t pile;
    ag_array_t entries; /* ag_gguf_entry_t */
    ag_array_t tensors; /* ag_file_tensor_t */
    ag_names_t keys;    /* -> entries */
};

static ag_status_t read_entry(ag_gguf_t *gguf, ag_input_t *input, size_t i, uint64_t n_entries)
{
    ag_gguf_entry_t entry = {0};
    ag_status_t status;

    ag_input_name_part(input, "metadata entry %zu of %llu", i + 1, (unsigned long long)n_entries);
    status = ag_gguf_read_name(&gguf->pile, input, &entry.key);
    if (status != AG_OK) {
        return status;
    }
    if (ag_names_find(&gguf->keys, entry.key) != AG_NAME_ABSENT) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: the key '%s' is there twice", input->path,
                       entry.key);
    }
    ag_input_name_part(input, "key '%s'", entry.key);
    status = ag_gguf_read_value(&gguf->pile, input, &entry.value);
    if (status == AG_OK) {
        status = ag_array_append(&gguf->entries, &entry, 1);
    }
    if (status == AG_OK) {
        status = ag_names_add(&gguf->keys, entry.key, i);
    }
    return status;
}

static ag_status_t read_dims(ag_input_t *input, ag_file_tensor_t *tensor)
{
    uint32_t n_dims;
    ag_status_t status = ag_input_take(input, &n_dims, sizeof(n_dims));

    if (status != AG_OK) {
        return status;
    }
    if (n_dims < 1 || n_dims > AG_MAX_DIMS) {
        return ag_fail(AG_ERR_FORMAT, "%s: %s has %u dimensions; 1 to %d are possible", input->path,
                       input->part, n_dims, AG_MAX_DIMS);
    }
    tensor->n_dims = n_dims;
    for (uint32_t d = 0; d < AG_MAX_DIMS; d++) {
        tensor->dims[d] = 1;
    }
    for (uint32_t d = n_dims; status == AG_OK && d > 0; d--) {
        status = ag_input_take(input, &tensor->dims[d - 1], sizeof(tensor->dims[d - 1]));
    }
    return status;
}

/* One directory entry; its offset is still relative to the start of the data. */
static ag_status_t read_tensor(ag_gguf_t *gguf, ag_input_t *input, size_t i, uint64_t n_tensors)
{
    ag_file_tensor_t tensor = {0};
    char what[WHAT_BYTES];
    int32_t type;
    ag_status_t status;

    ag_input_name_part(input, "tensor entry %zu of %llu", i + 1, (unsigned long long)n_tensors);
    status = ag_gguf_read_name(&gguf->pile, input, &tensor.name);
    if (status != AG_OK) {
        return status;
    }
    ag_input_name_part(input, "tensor '%s'", tensor.name);
    status = read_dims(input, &tensor);
    if (status == AG_OK) {
        status = ag_input_take(input, &type, sizeof(type));
    }
    if (status == AG_OK) {
        status = ag_input_take(input, &tensor.offset_bytes, sizeof(tensor.offset_bytes));
    }
    if (status != AG_OK) {
        return status;
    }
    snprintf(what, sizeof(what), "%s: %s", input->path, input->part);
    status = ag_dtype_from_ggml(type, what, &tensor.dtype);
    if (status == AG_OK) {
        status = ag_extent_bytes(what, tensor.dtype, tensor.n_dims, tensor.dims, &tensor.bytes);
    }
    if (status == AG_OK) {
        status = ag_array_append(&gguf->tensors, &tensor, 1);
    }
    return status;
}

static ag_status_t read_start(ag_input_t *input, uint64_t *n_entries_p, uint64_t *n_tensors_p)
{
    char magic[4];
    uint32_t version;
    uint64_t counts[2];
    ag_status_t status;

    if (input->file_bytes < sizeof(magic)) {
        memset(magic, 0, sizeof(magic));
    } else {
        status = ag_input_take(input, magic, sizeof(magic));
        if (status != AG_OK) {
            return status;
        }
    }
    if (memcmp(magic, "GGUF", sizeof(magic)) != 0) {
        return ag_input_refuse(input, "is not a GGUF file");
    }
    status = ag_input_take(input, &version, sizeof(version));
    if (status != AG_OK) {
        return status;
    }
    if (version == __builtin_bswap32(VERSION) || version == __builtin_bswap32(LEAST_VERSION)) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s is a big-endian GGUF file; convert the model to a little-endian one",
                       input->path);
    }
    if (version < LEAST_VERSION || version > VERSION) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s is a GGUF file of version %u; versions %d to %d are read: convert the "
                       "model again",
                       input->path, version, LEAST_VERSION, VERSION);
    }
    status = ag_input_take(input, counts, sizeof(counts));
    if (status == AG_OK) {
        *n_tensors_p = counts[0];
        *n_entries_p = counts[1];
    }
    return status;
}

static ag_status_t alignment_of(const ag_gguf_t *gguf, uint64_t *alignment_p)
{
    const ag_gguf_value_t *value = ag_gguf_get(gguf, "general.alignment");

    *alignment_p = DEFAULT_ALIGNMENT;
    if (value == NULL) {
        return AG_OK;
    }
    if (value->kind != AG_GGUF_U32 || value->as.integer == 0 ||
        (value->as.integer & (value->as.integer - 1)) != 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: damaged: general.alignment is not a power of two stored as u32",
                       gguf->path);
    }
    *alignment_p = (uint64_t)value->as.integer;
    return AG_OK;
}

/* Make the tensor's offset absolute and see that its bytes are there. */
static ag_status_t place_tensor(const ag_input_t *input, uint64_t alignment, uint64_t data_bytes,
                                ag_file_tensor_t *tensor)
{
    uint64_t offset_bytes;
    uint64_t end_bytes;

    if (tensor->offset_bytes % alignment != 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: damaged: tensor '%s' begins at %llu, which is no multiple of the "
                       "alignment %llu",
                       input->path, tensor->name, (unsigned long long)tensor->offset_bytes,
                       (unsigned long long)alignment);
    }
    if (__builtin_add_overflow(data_bytes, tensor->offset_bytes, &offset_bytes) ||
        __builtin_add_overflow(offset_bytes, tensor->bytes, &end_bytes)) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: tensor '%s' lies beyond any file", input->path,
                       tensor->name);
    }
    if (end_bytes > input->file_bytes) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: truncated: tensor '%s' needs a file of %llu bytes, it has %llu",
                       input->path, tensor->name, (unsigned long long)end_bytes,
                       (unsigned long long)input->file_bytes);
    }
    tensor->offset_bytes = offset_bytes;
    return AG_OK;
}

static ag_status_t check_names(const ag_gguf_t *gguf)
{
    const ag_file_tensor_t *tensors = AG_ITEMS(&gguf->tensors, const ag_file_tensor_t);
    ag_names_t names = {0};
    ag_status_t status = AG_OK;

    for (size_t i = 0; status == AG_OK && i < gguf->tensors.n_items; i++) {
        if (ag_names_find(&names, tensors[i].name) != AG_NAME_ABSENT) {
            status = ag_fail(AG_ERR_FORMAT, "%s: damaged: tensor '%s' is there twice", gguf->path,
                             tensors[i].name);
        } else {
            status = ag_names_add(&names, tensors[i].name, i);
        }
    }
    ag_names_fini(&names);
    return status;
}

static ag_status_t check_overlap(const ag_gguf_t *gguf)
{
    const ag_file_tensor_t *tensors = AG_ITEMS(&gguf->tensors, const ag_file_tensor_t);
    size_t n = gguf->tensors.n_items;
    ag_extent_t *extents = calloc(n + 1, sizeof(*extents));
    ag_status_t status;

    if (extents == NULL) {
        return ag_fail_nomem(gguf->path, n * sizeof(*extents));
    }
    for (size_t i = 0; i < n; i++) {
        extents[i] = (ag_extent_t){tensors[i].name, tensors[i].offset_bytes, tensors[i].bytes};
    }
    status = ag_extents_check(gguf->path, extents, n);
    free(extents);
    return status;
}

static ag_status_t read_header(ag_gguf_t *gguf, ag_input_t *input)
{
    uint64_t n_entries = 0;
    uint64_t n_tensors = 0;
    uint64_t alignment = DEFAULT_ALIGNMENT;
    uint64_t data_bytes;
    ag_status_t status = read_start(input, &n_entries, &n_tensors);

    if (status == AG_OK) {
        ag_input_name_part(input, "the metadata");
        status = ag_input_expect(input, n_entries, MIN_ENTRY_BYTES);
    }
    for (size_t i = 0; status == AG_OK && i < n_entries; i++) {
        status = read_entry(gguf, input, i, n_entries);
    }
    if (status == AG_OK) {
        ag_input_name_part(input, "the tensor directory");
        status = ag_input_expect(input, n_tensors, MIN_TENSOR_BYTES);
    }
    for (size_t i = 0; status == AG_OK && i < n_tensors; i++) {
        status = read_tensor(gguf, input, i, n_tensors);
    }
    if (status == AG_OK) {
        status = alignment_of(gguf, &alignment);
    }
    data_bytes = (input->at_bytes + alignment - 1) / alignment * alignment;
    for (size_t i = 0; status == AG_OK && i < n_tensors; i++) {
        status = place_tensor(input, alignment, data_bytes,
                              &AG_ITEMS(&gguf->tensors, ag_file_tensor_t)[i]);
    }
    if (status == AG_OK) {
        status = check_names(gguf);
    }
    return status == AG_OK ? check_overlap(gguf) : status;
}

ag_status_t ag_gguf_open(const char *path, ag_gguf_t **gguf_p)
{
    ag_input_t input;
    ag_gguf_t *gguf;
    ag_status_t status = ag_input_open(&input, path);

    if (status != AG_OK) {
        return status;
    }
    gguf = calloc(1, sizeof(*gguf));
    if (gguf == NULL) {
        status = ag_fail_nomem(path, sizeof(*gguf));
        goto close_input;
    }
    gguf->pile = ag_pile_empty(path, MAX_HEADER_BYTES);
    gguf->entries = AG_ARRAY(ag_gguf_entry_t);
    gguf->tensors = AG_ARRAY(ag_file_tensor_t);
    status = ag_pile_text(&gguf->pile, path, strlen(path), &gguf->path);
    if (status == AG_OK) {
        gguf->pile.path = gguf->path;
        status = read_header(gguf, &input);
    }
    if (status != AG_OK) {
        ag_gguf_close(gguf);
        goto close_input;
    }
    *gguf_p = gguf;

close_input:
    ag_input_close(&input);
    return status;
}

void ag_gguf_close(ag_gguf_t *gguf)
{
    if (gguf == NULL) {
        return;
    }
    ag_names_fini(&gguf->keys);
    ag_array_fini(&gguf->tensors);
    ag_array_fini(&gguf->entries);
    ag_pile_fini(&gguf->pile);
    free(gguf);
}

const char *ag_gguf_path(const ag_gguf_t *gguf)
{
    return gguf->path;
}

const ag_gguf_value_t *ag_gguf_get(const ag_gguf_t *gguf, const char *key)
{
    size_t i = ag_names_find(&gguf->keys, key);

    return i == AG_NAME_ABSENT ? NULL : &AG_ITEMS(&gguf->entries, ag_gguf_entry_t)[i].value;
}

const ag_gguf_value_t *ag_gguf_entry(const ag_gguf_t *gguf, size_t i, const char **key_p)
{
    const ag_gguf_entry_t *entries = AG_ITEMS(&gguf->entries, ag_gguf_entry_t);

    if (i >= gguf->entries.n_items) {
        return NULL;
    }
    *key_p = entries[i].key;
    return &entries[i].value;
}

const ag_file_tensor_t *ag_gguf_tensors(const ag_gguf_t *gguf, size_t *n_tensors_p)
{
    *n_tensors_p = gguf->tensors.n_items;
    return AG_ITEMS(&gguf->tensors, const ag_file_tensor_t);
}
