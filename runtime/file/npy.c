#include "runtime/file/npy.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/file/input_priv.h"
#include "runtime/file/names_priv.h"
#include "runtime/file/npy_priv.h"

enum {
    MAX_HEADER_BYTES = 64 * 1024,
    MAX_DESCR_BYTES = 8,
    SLICE_IDS = 4096,
};

typedef struct ag_npy_header {
    char descr[MAX_DESCR_BYTES]; /* "<f4" */
    bool fortran_order;
    uint32_t n_dims;
    uint64_t dims[AG_MAX_DIMS];
    uint64_t n_elements;
} ag_npy_header_t;

/* The header is a Python dictionary; these take it apart token by token. */
typedef struct ag_npy_cursor {
    const char *at;
    const char *end;
} ag_npy_cursor_t;

static void skip_spaces(ag_npy_cursor_t *cursor)
{
    while (cursor->at < cursor->end && strchr(" \t\n\r", *cursor->at) != NULL &&
           *cursor->at != '\0') {
        cursor->at++;
    }
}

static bool accept(ag_npy_cursor_t *cursor, const char *token)
{
    size_t n_bytes = strlen(token);

    skip_spaces(cursor);
    if ((size_t)(cursor->end - cursor->at) < n_bytes || memcmp(cursor->at, token, n_bytes) != 0) {
        return false;
    }
    cursor->at += n_bytes;
    return true;
}

/* A quoted string without escapes, into text of n_text bytes. */
static bool accept_string(ag_npy_cursor_t *cursor, char *text, size_t n_text)
{
    const char *quote;
    const char *begin;
    size_t n_bytes;

    skip_spaces(cursor);
    if (cursor->at == cursor->end || (*cursor->at != '\'' && *cursor->at != '"')) {
        return false;
    }
    begin = cursor->at + 1;
    quote = memchr(begin, *cursor->at, (size_t)(cursor->end - begin));
    if (quote == NULL) {
        return false;
    }
    n_bytes = (size_t)(quote - begin);
    if (n_bytes >= n_text || memchr(begin, '\\', n_bytes) != NULL ||
        !ag_name_usable(begin, n_bytes)) { /* it may get into an error */
        return false;
    }
    memcpy(text, begin, n_bytes);
    text[n_bytes] = '\0';
    cursor->at = quote + 1;
    return true;
}

static bool accept_number(ag_npy_cursor_t *cursor, uint64_t *number_p)
{
    const char *begin;
    uint64_t number = 0;

    skip_spaces(cursor);
    begin = cursor->at;
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*cursor->at - '0'), &number)) {
            return false;
        }
    }
    *number_p = number;
    return cursor->at > begin;
}

static bool accept_shape(ag_npy_cursor_t *cursor, ag_npy_header_t *header)
{
    bool more = true;

    header->n_dims = 0;
    header->n_elements = 1;
    for (uint32_t d = 0; d < AG_MAX_DIMS; d++) {
        header->dims[d] = 1;
    }
    if (!accept(cursor, "(")) {
        return false;
    }
    while (!accept(cursor, ")")) {
        uint64_t size;

        if (!more || header->n_dims == AG_MAX_DIMS || !accept_number(cursor, &size) ||
            __builtin_mul_overflow(header->n_elements, size, &header->n_elements)) {
            return false;
        }
        header->dims[header->n_dims++] = size;
        more = accept(cursor, ",");
    }
    return true;
}

static bool parse_header(ag_npy_cursor_t *cursor, ag_npy_header_t *header)
{
    bool has_descr = false;
    bool has_order = false;
    bool has_shape = false;
    bool more = true;

    if (!accept(cursor, "{")) {
        return false;
    }
    while (!accept(cursor, "}")) {
        char key[sizeof("fortran_order")];
        bool ok = more && accept_string(cursor, key, sizeof(key)) && accept(cursor, ":");

        if (!ok) {
            return false;
        }
        if (strcmp(key, "descr") == 0 && !has_descr) {
            has_descr = accept_string(cursor, header->descr, sizeof(header->descr));
            ok = has_descr;
        } else if (strcmp(key, "fortran_order") == 0 && !has_order) {
            header->fortran_order = accept(cursor, "True");
            has_order = header->fortran_order || accept(cursor, "False");
            ok = has_order;
        } else if (strcmp(key, "shape") == 0 && !has_shape) {
            has_shape = accept_shape(cursor, header);
            ok = has_shape;
        } else {
            ok = false;
        }
        if (!ok) {
            return false;
        }
        more = accept(cursor, ",");
    }
    skip_spaces(cursor);
    return has_descr && has_order && has_shape && cursor->at == cursor->end;
}

/* Magic, version and the length of the dictionary. */
static ag_status_t read_start(ag_input_t *input, size_t *n_header_p)
{
    unsigned char start[AG_NPY_MAGIC_BYTES + 2];
    uint16_t n_short;
    uint32_t n_long;
    ag_status_t status;

    memset(start, 0, sizeof(start));
    if (input->file_bytes >= sizeof(start)) {
        status = ag_input_take(input, start, sizeof(start));
        if (status != AG_OK) {
            return status;
        }
    }
    if (memcmp(start, AG_NPY_MAGIC, AG_NPY_MAGIC_BYTES) != 0) {
        return ag_input_refuse(input, "is not a .npy file");
    }
    if (start[AG_NPY_MAGIC_BYTES] == 1) {
        status = ag_input_take(input, &n_short, sizeof(n_short));
        n_long = status == AG_OK ? n_short : 0;
    } else if (start[AG_NPY_MAGIC_BYTES] == 2) {
        status = ag_input_take(input, &n_long, sizeof(n_long));
    } else {
        return ag_fail(AG_ERR_FORMAT, "%s: .npy version %u; versions 1 and 2 are read", input->path,
                       start[AG_NPY_MAGIC_BYTES]);
    }
    if (status == AG_OK && n_long > MAX_HEADER_BYTES) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: a .npy header of %u bytes", input->path,
                       n_long);
    }
    *n_header_p = n_long;
    return status;
}

static ag_status_t read_header(ag_input_t *input, ag_npy_header_t *header)
{
    ag_npy_cursor_t cursor;
    size_t n_header = 0;
    char *text;
    ag_status_t status = read_start(input, &n_header);

    if (status != AG_OK) {
        return status;
    }
    text = malloc(n_header + 1);
    if (text == NULL) {
        return ag_fail_nomem(input->path, n_header + 1);
    }
    status = ag_input_take(input, text, n_header);
    cursor = (ag_npy_cursor_t){.at = text, .end = text + n_header};
    if (status == AG_OK && !parse_header(&cursor, header)) {
        status =
            ag_fail(AG_ERR_FORMAT,
                    "%s: its .npy header is damaged, or not that of a plain array of at most %d "
                    "dimensions",
                    input->path, AG_MAX_DIMS);
    }
    free(text);
    return status;
}

/* The rest of the file must be the array, no more and no less. */
static ag_status_t check_size(const ag_input_t *input, const ag_npy_header_t *header,
                              uint64_t element_bytes)
{
    uint64_t left_bytes = ag_input_left_bytes(input);

    if (left_bytes % element_bytes == 0 && left_bytes / element_bytes == header->n_elements) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_FORMAT,
                   "%s: truncated or damaged: %llu bytes of data for %llu elements of %llu bytes: "
                   "write it again",
                   input->path, (unsigned long long)left_bytes,
                   (unsigned long long)header->n_elements, (unsigned long long)element_bytes);
}

/* What ids may be stored as, below int32's largest. */
typedef struct id_type {
    char descr[MAX_DESCR_BYTES];
    size_t n_bytes;
} id_type_t;

static const id_type_t id_types[] = {{"<i4", 4}, {"<i8", 8}, {"<u2", 2}, {"<u4", 4}};

struct ag_npy_ids {
    ag_input_t input; /* its window is not used any more */
    char *path;
    uint64_t data_bytes; /* where the data begin */
    uint64_t n_ids;
    const id_type_t *type;
};

/* What the file holds, from its header. */
static ag_status_t check_ids(ag_npy_ids_t *ids, const ag_npy_header_t *header)
{
    for (size_t i = 0; i < sizeof(id_types) / sizeof(*id_types); i++) {
        if (strcmp(header->descr, id_types[i].descr) == 0) {
            ids->type = &id_types[i];
        }
    }
    if (ids->type == NULL || header->n_dims != 1) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s holds %u-dimensional '%s'; token ids are one-dimensional int32 "
                       "('<i4'), int64 ('<i8'), uint16 ('<u2') or uint32 ('<u4')",
                       ids->path, header->n_dims, header->descr);
    }
    ids->n_ids = header->n_elements;
    ids->data_bytes = ids->input.at_bytes;
    return check_size(&ids->input, header, ids->type->n_bytes);
}

ag_status_t ag_npy_ids_open(const char *path, ag_npy_ids_t **ids_p)
{
    ag_npy_ids_t *ids = calloc(1, sizeof(*ids));
    ag_npy_header_t header = {0};
    ag_status_t status;

    if (ids == NULL) {
        return ag_fail_nomem(path, sizeof(*ids));
    }
    ids->path = strdup(path);
    if (ids->path == NULL) {
        status = ag_fail_nomem(path, strlen(path) + 1);
        goto free_ids;
    }
    status = ag_input_open(&ids->input, ids->path);
    if (status != AG_OK) {
        goto free_ids;
    }
    status = read_header(&ids->input, &header);
    if (status == AG_OK) {
        status = check_ids(ids, &header);
    }
    if (status != AG_OK) {
        ag_npy_ids_close(ids);
        return status;
    }
    *ids_p = ids;
    return AG_OK;

free_ids:
    free(ids->path);
    free(ids);
    return status;
}

uint64_t ag_npy_ids_count(const ag_npy_ids_t *ids)
{
    return ids->n_ids;
}

/* @param slice  (n) ids as they are stored. @param first  number of the first, for errors. */
static ag_status_t convert_ids(const ag_npy_ids_t *ids, const unsigned char *slice, uint64_t first,
                               size_t n, int32_t *dst)
{
    size_t id_bytes = ids->type->n_bytes;

    for (size_t i = 0; i < n; i++) {
        uint64_t id = 0;

        memcpy(&id, slice + i * id_bytes, id_bytes);
        if ((int64_t)id < INT32_MIN || (int64_t)id > INT32_MAX) {
            return ag_fail(AG_ERR_FORMAT, "%s: element %llu, %lld, is no token id", ids->path,
                           (unsigned long long)(first + i), (long long)id);
        }
        dst[i] = (int32_t)(int64_t)id;
    }
    return AG_OK;
}

ag_status_t ag_npy_ids_read(const ag_npy_ids_t *ids, uint64_t first, size_t n, int32_t *dst)
{
    static const char part[] = "token ids";
    size_t id_bytes = ids->type->n_bytes;
    unsigned char slice[SLICE_IDS * sizeof(int64_t)];
    ag_status_t status = AG_OK;

    if (ids->type == &id_types[0]) { /* as they stand */
        return ag_file_pread(ids->input.fd, ids->path, part, ids->data_bytes + first * id_bytes,
                             n * sizeof(*dst), dst);
    }
    for (size_t done = 0; done < n && status == AG_OK; done += SLICE_IDS) {
        size_t n_slice = n - done < SLICE_IDS ? n - done : SLICE_IDS;

        status =
            ag_file_pread(ids->input.fd, ids->path, part,
                          ids->data_bytes + (first + done) * id_bytes, n_slice * id_bytes, slice);
        if (status == AG_OK) {
            status = convert_ids(ids, slice, first + done, n_slice, dst + done);
        }
    }
    return status;
}

void ag_npy_ids_close(ag_npy_ids_t *ids)
{
    if (ids != NULL) {
        ag_input_close(&ids->input);
        free(ids->path);
        free(ids);
    }
}

ag_status_t ag_npy_read_ids(const char *path, int32_t **ids_p, size_t *n_ids_p)
{
    ag_npy_ids_t *file;
    int32_t *ids;
    ag_status_t status = ag_npy_ids_open(path, &file);

    if (status != AG_OK) {
        return status;
    }
    ids = malloc(file->n_ids * sizeof(*ids) + 1); /* never of 0 bytes */
    if (ids == NULL) {
        status = ag_fail_nomem(path, file->n_ids * sizeof(*ids));
        goto close_file;
    }
    status = ag_npy_ids_read(file, 0, file->n_ids, ids);
    if (status != AG_OK) {
        free(ids);
        goto close_file;
    }
    *ids_p = ids;
    *n_ids_p = file->n_ids;

close_file:
    ag_npy_ids_close(file);
    return status;
}

ag_status_t ag_npy_read_f32(const char *path, float **data_p, uint32_t *n_dims_p,
                            uint64_t dims[AG_MAX_DIMS])
{
    ag_npy_header_t header = {0};
    ag_input_t input;
    float *data;
    ag_status_t status = ag_input_open(&input, path);

    if (status != AG_OK) {
        return status;
    }
    status = read_header(&input, &header);
    if (status != AG_OK) {
        goto close_input;
    }
    if (strcmp(header.descr, "<f4") != 0 || (header.fortran_order && header.n_dims > 1)) {
        status = ag_fail(AG_ERR_FORMAT,
                         "%s holds '%s' in %s order; float32 ('<f4') in C order is needed", path,
                         header.descr, header.fortran_order ? "Fortran" : "C");
        goto close_input;
    }
    status = check_size(&input, &header, sizeof(*data));
    if (status != AG_OK) {
        goto close_input;
    }
    data = malloc(header.n_elements * sizeof(*data) + 1); /* never of 0 bytes */
    if (data == NULL) {
        status = ag_fail_nomem(path, header.n_elements * sizeof(*data));
        goto close_input;
    }
    status = ag_input_take(&input, data, header.n_elements * sizeof(*data));
    if (status != AG_OK) {
        free(data);
        goto close_input;
    }
    *data_p = data;
    *n_dims_p = header.n_dims;
    memcpy(dims, header.dims, sizeof(header.dims));

close_input:
    ag_input_close(&input);
    return status;
}
