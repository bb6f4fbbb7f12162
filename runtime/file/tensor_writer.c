#include "runtime/file/tensor_writer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"

enum { VERSION = 3, GGUF_ALIGNMENT = 32, SAFETENSORS_ALIGNMENT = 8 };

typedef struct entry {
    char *name;
    ag_dtype_t dtype;
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS]; /* outermost first */
    uint64_t bytes;
} entry_t;

struct ag_tensor_writer {
    ag_aside_t *aside;
    const ag_gguf_metadata_t *metadata; /* NULL: safetensors */
    uint64_t alignment;                 /* of a tensor in the data; 1: they follow each other */
    ag_array_t entries;                 /* entry_t */
    bool begun;
    size_t at;              /* the tensor that is being written … */
    uint64_t written_bytes; /* … and how much of it there is */
};

ag_status_t ag_tensor_writer_create(ag_aside_t *aside, const ag_gguf_metadata_t *metadata,
                                    ag_tensor_writer_t **writer_p)
{
    ag_tensor_writer_t *writer = calloc(1, sizeof(*writer));

    if (writer == NULL) {
        return ag_fail_nomem("writing tensors", sizeof(*writer));
    }
    writer->aside = aside;
    writer->metadata = metadata;
    writer->alignment = metadata != NULL ? GGUF_ALIGNMENT : 1;
    writer->entries = AG_ARRAY(entry_t);
    *writer_p = writer;
    return AG_OK;
}

void ag_tensor_writer_destroy(ag_tensor_writer_t *writer)
{
    if (writer == NULL) {
        return;
    }
    for (size_t i = 0; i < writer->entries.n_items; i++) {
        free(AG_ITEMS(&writer->entries, entry_t)[i].name);
    }
    ag_array_fini(&writer->entries);
    free(writer);
}

ag_status_t ag_tensor_writer_add(ag_tensor_writer_t *writer, const char *name, ag_dtype_t dtype,
                                 uint32_t n_dims, const uint64_t *dims)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);
    entry_t entry = {.dtype = dtype, .n_dims = n_dims};
    uint64_t n = 1;
    ag_status_t status;

    if (writer->metadata == NULL && info->safetensors == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED, "tensor %s: safetensors files have no type %s", name,
                       info->name);
    }
    for (uint32_t d = 0; d < n_dims; d++) {
        entry.dims[d] = dims[d];
        n *= dims[d];
    }
    assert(n_dims > 0 && n_dims <= AG_MAX_DIMS && dims[n_dims - 1] % info->block_elements == 0);
    entry.bytes = ag_dtype_bytes(dtype, n);
    entry.name = strdup(name);
    status = entry.name != NULL ? ag_array_append(&writer->entries, &entry, 1)
                                : ag_fail_nomem(name, strlen(name));
    if (status != AG_OK) {
        free(entry.name);
    }
    return status;
}

static uint64_t align_up(uint64_t n, uint64_t alignment)
{
    return (n + alignment - 1) / alignment * alignment;
}

uint64_t ag_tensor_writer_bytes(const ag_tensor_writer_t *writer)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < writer->entries.n_items; i++) {
        bytes += align_up(AG_ITEMS(&writer->entries, entry_t)[i].bytes, writer->alignment);
    }
    return bytes;
}

static ag_status_t append(ag_array_t *header, const void *bytes, size_t n)
{
    return ag_array_append(header, bytes, n);
}

/* The magic, counts and metadata; then the directory, dimensions innermost first. */
static ag_status_t make_gguf_header(const ag_tensor_writer_t *writer, ag_array_t *header)
{
    uint32_t version = VERSION;
    uint64_t counts[2] = {writer->entries.n_items, writer->metadata->n_entries}, offset = 0;
    ag_status_t status = append(header, "GGUF", 4);

    status = status == AG_OK ? append(header, &version, sizeof(version)) : status;
    status = status == AG_OK ? append(header, counts, sizeof(counts)) : status;
    status = status == AG_OK ? writer->metadata->status : status;
    if (status == AG_OK && writer->metadata->bytes.n_items > 0) {
        status = append(header, writer->metadata->bytes.items, writer->metadata->bytes.n_items);
    }
    for (size_t i = 0; i < writer->entries.n_items && status == AG_OK; i++) {
        const entry_t *entry = &AG_ITEMS(&writer->entries, entry_t)[i];
        uint64_t n_name = strlen(entry->name);
        int32_t type = ag_dtype_info(entry->dtype)->ggml_type;

        status = append(header, &n_name, sizeof(n_name));
        status = status == AG_OK ? append(header, entry->name, n_name) : status;
        status = status == AG_OK ? append(header, &entry->n_dims, sizeof(entry->n_dims)) : status;
        for (uint32_t d = entry->n_dims; d > 0 && status == AG_OK; d--) {
            status = append(header, &entry->dims[d - 1], sizeof(entry->dims[0]));
        }
        status = status == AG_OK ? append(header, &type, sizeof(type)) : status;
        status = status == AG_OK ? append(header, &offset, sizeof(offset)) : status;
        offset += align_up(entry->bytes, GGUF_ALIGNMENT);
    }
    if (status == AG_OK) {
        size_t n_header = header->n_items;

        status = append(header, NULL, align_up(n_header, GGUF_ALIGNMENT) - n_header);
    }
    return status;
}

/* A length and a JSON object, padded with spaces; transformers asks for the format's mark. */
static ag_status_t make_safetensors_header(const ag_tensor_writer_t *writer, ag_array_t *header)
{
    ag_json_t *json = ag_json_new_object(), *mark = ag_json_new_object();
    uint64_t offset = 0, n_text = 0;
    char *text = NULL;
    ag_status_t status;

    ag_json_set(mark, "format", ag_json_new_string("pt", 2));
    ag_json_set(json, "__metadata__", mark);
    for (size_t i = 0; i < writer->entries.n_items; i++) {
        const entry_t *entry = &AG_ITEMS(&writer->entries, entry_t)[i];
        const char *type = ag_dtype_info(entry->dtype)->safetensors;
        ag_json_t *tensor = ag_json_new_object(), *shape = ag_json_new_array();
        ag_json_t *offsets = ag_json_new_array();

        for (uint32_t d = 0; d < entry->n_dims; d++) {
            ag_json_append(shape, ag_json_new_integer((int64_t)entry->dims[d]));
        }
        ag_json_append(offsets, ag_json_new_integer((int64_t)offset));
        offset += entry->bytes;
        ag_json_append(offsets, ag_json_new_integer((int64_t)offset));
        ag_json_set(tensor, "dtype", ag_json_new_string(type, strlen(type)));
        ag_json_set(tensor, "shape", shape);
        ag_json_set(tensor, "data_offsets", offsets);
        ag_json_set(json, entry->name, tensor);
    }
    status = ag_json_size(json) == writer->entries.n_items + 1
                 ? ag_json_text(json, AG_JSON_LINE, &text)
                 : ag_fail_nomem("writing a safetensors header", writer->entries.n_items);
    ag_json_destroy(json);
    if (status == AG_OK) {
        size_t n = strlen(text);

        n_text = align_up(n, SAFETENSORS_ALIGNMENT);
        status = append(header, &n_text, sizeof(n_text));
        status = status == AG_OK ? append(header, text, n) : status;
        for (; n < n_text && status == AG_OK; n++) {
            status = append(header, " ", 1);
        }
    }
    free(text);
    return status;
}

static ag_status_t begin(ag_tensor_writer_t *writer)
{
    ag_array_t header = AG_ARRAY(char);
    ag_status_t status = writer->metadata != NULL ? make_gguf_header(writer, &header)
                                                  : make_safetensors_header(writer, &header);

    if (status == AG_OK) {
        status = ag_aside_reserve(writer->aside, header.n_items + ag_tensor_writer_bytes(writer));
    }
    if (status == AG_OK) {
        status = ag_aside_write(writer->aside, header.items, header.n_items);
    }
    ag_array_fini(&header);
    writer->begun = true;
    return status;
}

/* The tensor is whole: what stands between it and the next; tensors of no bytes are whole, too. */
static ag_status_t finish_tensors(ag_tensor_writer_t *writer)
{
    static const char zeros[GGUF_ALIGNMENT];
    const entry_t *entries = AG_ITEMS(&writer->entries, entry_t);
    ag_status_t status = AG_OK;

    while (status == AG_OK && writer->at < writer->entries.n_items &&
           entries[writer->at].bytes == writer->written_bytes) {
        status = ag_aside_write(writer->aside, zeros,
                                align_up(writer->written_bytes, writer->alignment) -
                                    writer->written_bytes);
        writer->at++;
        writer->written_bytes = 0;
    }
    return status;
}

ag_status_t ag_tensor_writer_write(ag_tensor_writer_t *writer, const void *bytes, size_t n)
{
    ag_status_t status = writer->begun ? AG_OK : begin(writer);
    const char *from = bytes;

    if (status == AG_OK) {
        status = finish_tensors(writer);
    }
    while (n > 0 && status == AG_OK) {
        const entry_t *entry = &AG_ITEMS(&writer->entries, entry_t)[writer->at];
        uint64_t left = 0;

        assert(writer->at < writer->entries.n_items); /* no byte more than was declared */
        left = entry->bytes - writer->written_bytes;
        left = left < n ? left : n;
        status = ag_aside_write(writer->aside, from, left);
        writer->written_bytes += left;
        from += left;
        n -= left;
        if (status == AG_OK) {
            status = finish_tensors(writer);
        }
    }
    return status;
}

ag_status_t ag_tensor_writer_end(ag_tensor_writer_t *writer)
{
    ag_status_t status = ag_tensor_writer_write(writer, NULL, 0);

    if (status == AG_OK && writer->at < writer->entries.n_items) {
        return ag_fail(AG_ERR_IO, "writing tensors: %s has %llu of %llu bytes",
                       AG_ITEMS(&writer->entries, entry_t)[writer->at].name,
                       (unsigned long long)writer->written_bytes,
                       (unsigned long long)AG_ITEMS(&writer->entries, entry_t)[writer->at].bytes);
    }
    return status;
}
