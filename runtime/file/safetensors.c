#include "runtime/file/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/array.h"
#include "runtime/base/json.h"
#include "runtime/file/extent_priv.h"
#include "runtime/file/input_priv.h"
#include "runtime/file/names_priv.h"
#include "runtime/file/pile_priv.h"

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER_BYTES = 100 * 1000 * 1000, /* the limit of the format's own library */
    WHAT_BYTES = 2048,
};

struct ag_safetensors {
    ag_pile_t pile;
    ag_array_t tensors;  /* ag_file_tensor_t */
    ag_array_t left_out; /* ag_safetensors_left_out_t */
};

/* What the reading of one header carries from tensor to tensor. */
typedef struct ag_safetensors_read {
    ag_safetensors_t *file;
    const char *path;
    bool strict;
    uint64_t data_begin_bytes; /* from the start of the file */
    uint64_t file_bytes;
    ag_array_t extents; /* ag_extent_t, the tensors that are left out as well */
} ag_safetensors_read_t;

static ag_status_t read_shape(const char *what, const ag_json_t *shape, ag_file_tensor_t *tensor)
{
    size_t n_dims = ag_json_size(shape);

    if (ag_json_kind(shape) != AG_JSON_ARRAY) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: it has no shape", what);
    }
    if (n_dims > AG_MAX_DIMS) {
        return ag_fail(AG_ERR_UNSUPPORTED, "%s: it has %zu dimensions; at most %d are possible",
                       what, n_dims, AG_MAX_DIMS);
    }
    tensor->n_dims = (uint32_t)n_dims;
    for (size_t d = 0; d < AG_MAX_DIMS; d++) {
        const ag_json_t *dim = ag_json_at(shape, d);
        int64_t size = ag_json_integer(dim, -1);

        if (d < n_dims && (ag_json_kind(dim) != AG_JSON_INTEGER || size < 0)) {
            return ag_fail(AG_ERR_FORMAT, "%s: damaged: dimension %zu is no size", what, d);
        }
        tensor->dims[d] = d < n_dims ? (uint64_t)size : 1;
    }
    return AG_OK;
}

/* The tensor's bytes, relative to the start of the data in the file and absolute here. */
static ag_status_t read_extent(const ag_safetensors_read_t *read, const char *what,
                               const ag_json_t *offsets, ag_extent_t *extent)
{
    uint64_t data_bytes = read->file_bytes - read->data_begin_bytes;
    const ag_json_t *first = ag_json_at(offsets, 0);
    const ag_json_t *second = ag_json_at(offsets, 1);
    int64_t begin = ag_json_integer(first, -1);
    int64_t end = ag_json_integer(second, -1);

    if (ag_json_kind(offsets) != AG_JSON_ARRAY || ag_json_size(offsets) != 2 ||
        ag_json_kind(first) != AG_JSON_INTEGER || ag_json_kind(second) != AG_JSON_INTEGER ||
        begin < 0 || end < begin) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: its data_offsets are no range of bytes", what);
    }
    if ((uint64_t)end > data_bytes) {
        return ag_fail(AG_ERR_FORMAT, "%s: truncated: it ends at byte %llu, the file has %llu",
                       what, (unsigned long long)end + (unsigned long long)read->data_begin_bytes,
                       (unsigned long long)read->file_bytes);
    }
    extent->begin_bytes = read->data_begin_bytes + (uint64_t)begin;
    extent->bytes = (uint64_t)(end - begin);
    return AG_OK;
}

static ag_status_t leave_out(ag_safetensors_read_t *read, const char *what, const char *type,
                             const ag_json_t *shape, const ag_extent_t *extent)
{
    ag_safetensors_left_out_t left_out = {
        .name = extent->name, .offset_bytes = extent->begin_bytes, .bytes = extent->bytes};
    ag_file_tensor_t tensor = {0};
    uint64_t n = 1;
    ag_status_t status = ag_pile_text(&read->file->pile, type, strlen(type), &left_out.type);

    if (status == AG_OK && strcmp(type, "U8") == 0 && ag_json_size(shape) <= AG_MAX_DIMS) {
        status = read_shape(what, shape, &tensor);
        for (uint32_t d = 0; d < tensor.n_dims && status == AG_OK; d++) {
            n = tensor.dims[d] > 0 && n > extent->bytes / tensor.dims[d] ? 0 : n * tensor.dims[d];
        }
        left_out.n_dims = n == extent->bytes ? tensor.n_dims : 0;
        memcpy(left_out.dims, tensor.dims, sizeof(left_out.dims));
    }
    return status == AG_OK ? ag_array_append(&read->file->left_out, &left_out, 1) : status;
}

static ag_status_t read_tensor(ag_safetensors_read_t *read, const char *what, const char *name,
                               const ag_json_t *entry)
{
    ag_file_tensor_t tensor = {.name = name};
    ag_extent_t extent = {.name = name};
    size_t n_type = 0;
    const char *type = ag_json_string(ag_json_get(entry, "dtype"), &n_type);
    uint64_t shape_bytes;
    ag_status_t status;

    if (type == NULL || !ag_name_usable(type, n_type)) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: it has no dtype", what);
    }
    status = read_extent(read, what, ag_json_get(entry, "data_offsets"), &extent);
    if (status == AG_OK) {
        status = ag_array_append(&read->extents, &extent, 1);
    }
    if (status != AG_OK) {
        return status;
    }
    status = ag_dtype_from_safetensors(type, what, &tensor.dtype);
    if (status == AG_ERR_UNSUPPORTED && !read->strict) {
        return leave_out(read, what, type, ag_json_get(entry, "shape"), &extent);
    }
    if (status == AG_OK) {
        status = read_shape(what, ag_json_get(entry, "shape"), &tensor);
    }
    if (status == AG_OK) {
        status = ag_extent_bytes(what, tensor.dtype, tensor.n_dims, tensor.dims, &shape_bytes);
    }
    if (status != AG_OK) {
        return status;
    }
    if (shape_bytes != extent.bytes) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: damaged: it has %llu bytes, its shape and type take %llu", what,
                       (unsigned long long)extent.bytes, (unsigned long long)shape_bytes);
    }
    tensor.offset_bytes = extent.begin_bytes;
    tensor.bytes = extent.bytes;
    return ag_array_append(&read->file->tensors, &tensor, 1);
}

static ag_status_t read_member(void *arg, const char *key, size_t key_bytes, const ag_json_t *value)
{
    ag_safetensors_read_t *read = arg;
    char what[WHAT_BYTES];
    const char *name;
    ag_status_t status;

    if (strcmp(key, "__metadata__") == 0) {
        return AG_OK;
    }
    if (!ag_name_usable(key, key_bytes)) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: damaged: a tensor's name is not a line of text of 1 to %d bytes",
                       read->path, AG_NAME_MAX_BYTES);
    }
    status = ag_pile_text(&read->file->pile, key, key_bytes, &name);
    if (status != AG_OK) {
        return status;
    }
    snprintf(what, sizeof(what), "%s: tensor '%s'", read->path, name);
    return read_tensor(read, what, name, value);
}

/* The header's length was read; the header itself follows. */
static ag_status_t read_json(ag_input_t *input, size_t n_bytes, ag_json_t **json_p)
{
    ag_json_t *json = NULL;
    char *text = malloc(n_bytes);
    ag_status_t status;

    if (text == NULL) {
        return ag_fail_nomem(input->path, n_bytes);
    }
    status = ag_input_take(input, text, n_bytes);
    if (status == AG_OK) {
        status = ag_json_parse(text, n_bytes, input->path, &json);
        status = status == AG_ERR_FORMAT ? ag_fail(status, "%s: its header is damaged", ag_error())
                                         : status;
    }
    free(text);
    if (status == AG_OK && ag_json_kind(json) != AG_JSON_OBJECT) {
        ag_json_destroy(json);
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: its header is no JSON object", input->path);
    }
    if (status == AG_OK) {
        *json_p = json;
    }
    return status;
}

/* The format has no holes, in front of a tensor or behind the last (safetensors' README, "Format"):
 * where there is one, offsets are wrong or the file is two files' parts. The extents are sorted. */
static ag_status_t check_no_holes(const ag_safetensors_read_t *read)
{
    const ag_extent_t *extents = AG_ITEMS(&read->extents, ag_extent_t);
    uint64_t end_bytes = read->data_begin_bytes;

    for (size_t i = 0; i < read->extents.n_items; i++) {
        if (extents[i].bytes > 0 && extents[i].begin_bytes > end_bytes) {
            return ag_fail(AG_ERR_FORMAT,
                           "%s: damaged: the %llu bytes before tensor '%s' are no tensor's",
                           read->path, (unsigned long long)(extents[i].begin_bytes - end_bytes),
                           extents[i].name);
        }
        end_bytes += extents[i].bytes;
    }
    return end_bytes == read->file_bytes
               ? AG_OK
               : ag_fail(AG_ERR_FORMAT,
                         "%s: damaged: its last %llu bytes, from byte %llu on, are no tensor's",
                         read->path, (unsigned long long)(read->file_bytes - end_bytes),
                         (unsigned long long)end_bytes);
}

static ag_status_t read_header(ag_safetensors_read_t *read, ag_input_t *input)
{
    ag_json_t *json = NULL;
    uint64_t n_bytes;
    ag_status_t status;

    if (input->file_bytes < LENGTH_BYTES) {
        return ag_input_refuse(input, "is too short for a safetensors file");
    }
    status = ag_input_take(input, &n_bytes, sizeof(n_bytes));
    if (status != AG_OK) {
        return status;
    }
    if (n_bytes == 0 || n_bytes > ag_input_left_bytes(input)) {
        return ag_input_refuse(input, "is truncated or not a safetensors file: its header would be "
                                      "longer than the file");
    }
    if (n_bytes > MAX_HEADER_BYTES) {
        return ag_input_refuse(input,
                               "is not a safetensors file: its header would be longer than the "
                               "format's limit of 100 MB");
    }
    status = read_json(input, n_bytes, &json);
    if (status != AG_OK) {
        return status;
    }
    read->data_begin_bytes = input->at_bytes;
    read->file_bytes = input->file_bytes;
    status = ag_json_each(json, read_member, read);
    ag_json_destroy(json);
    if (status == AG_OK) {
        status = ag_extents_check(read->path, AG_ITEMS(&read->extents, ag_extent_t),
                                  read->extents.n_items);
    }
    return status == AG_OK ? check_no_holes(read) : status;
}

ag_status_t ag_safetensors_open(const char *path, bool strict, ag_safetensors_t **file_p)
{
    ag_safetensors_read_t read = {.path = path, .strict = strict, .extents = AG_ARRAY(ag_extent_t)};
    ag_safetensors_t *file;
    ag_input_t input;
    ag_status_t status = ag_input_open(&input, path);

    if (status != AG_OK) {
        return status;
    }
    file = calloc(1, sizeof(*file));
    if (file == NULL) {
        status = ag_fail_nomem(path, sizeof(*file));
        goto close_input;
    }
    /* Its strings are pieces of the header, so they cannot ask for more than twice its size. */
    file->pile = ag_pile_empty("a safetensors header", 2 * (size_t)MAX_HEADER_BYTES);
    file->tensors = AG_ARRAY(ag_file_tensor_t);
    file->left_out = AG_ARRAY(ag_safetensors_left_out_t);
    read.file = file;
    status = read_header(&read, &input);
    ag_array_fini(&read.extents);
    if (status != AG_OK) {
        ag_safetensors_close(file);
        goto close_input;
    }
    *file_p = file;

close_input:
    ag_input_close(&input);
    return status;
}

void ag_safetensors_close(ag_safetensors_t *file)
{
    if (file == NULL) {
        return;
    }
    ag_array_fini(&file->left_out);
    ag_array_fini(&file->tensors);
    ag_pile_fini(&file->pile);
    free(file);
}

const ag_file_tensor_t *ag_safetensors_tensors(const ag_safetensors_t *file, size_t *n_tensors_p)
{
    *n_tensors_p = file->tensors.n_items;
    return AG_ITEMS(&file->tensors, const ag_file_tensor_t);
}

const ag_safetensors_left_out_t *ag_safetensors_left_out(const ag_safetensors_t *file, size_t *n_p)
{
    *n_p = file->left_out.n_items;
    return AG_ITEMS(&file->left_out, const ag_safetensors_left_out_t);
}
