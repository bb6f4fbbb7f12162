#define _GNU_SOURCE /* asprintf */

/*
 * The manifest: JSON. Its first line has the version and the checksum of all that follows it, so
 * that a damaged one is noticed whatever was hit. What it says is checked before it is used: it
 * comes from a stranger.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/checkpoint_priv.h"
#include "runtime/base/xxh64.h"

enum { SUM_CHARS = 16, PIECE_MEMBERS = 7 };

void ag_manifest_init(ag_manifest_t *manifest)
{
    *manifest = (ag_manifest_t){.files = AG_ARRAY(ag_stored_file_t),
                                .tensors = AG_ARRAY(ag_stored_tensor_t),
                                .pieces = AG_ARRAY(ag_piece_t),
                                .first_piece = AG_ARRAY(size_t)};
}

void ag_manifest_fini(ag_manifest_t *manifest)
{
    for (size_t i = 0; i < manifest->tensors.n_items; i++) {
        free((char *)AG_ITEMS(&manifest->tensors, ag_stored_tensor_t)[i].name);
    }
    free(manifest->spec_hash);
    ag_json_destroy(manifest->state);
    ag_array_fini(&manifest->files);
    ag_array_fini(&manifest->tensors);
    ag_array_fini(&manifest->pieces);
    ag_array_fini(&manifest->first_piece);
}

ag_status_t ag_manifest_add_tensor(ag_manifest_t *manifest, const char *name, uint64_t rows,
                                   uint64_t cols)
{
    ag_stored_tensor_t tensor = {.name = strdup(name), .rows = rows, .cols = cols};
    ag_status_t status;

    if (tensor.name == NULL) {
        return ag_fail_nomem(name, strlen(name) + 1);
    }
    status = ag_array_append(&manifest->tensors, &tensor, 1);
    if (status != AG_OK) {
        free((char *)tensor.name);
        return status;
    }
    return ag_array_append(&manifest->first_piece, &manifest->pieces.n_items, 1);
}

/* ---- writing ---- */

static ag_json_t *string_of(const char *text)
{
    return ag_json_new_string(text, strlen(text));
}

static ag_json_t *files_json(const ag_manifest_t *manifest)
{
    ag_json_t *files = ag_json_new_array();

    for (size_t i = 0; i < manifest->files.n_items; i++) {
        const ag_stored_file_t *file = &AG_ITEMS(&manifest->files, ag_stored_file_t)[i];
        ag_json_t *json = ag_json_new_object();

        ag_json_set(json, "name", string_of(file->name));
        ag_json_set(json, "bytes", ag_json_new_integer((int64_t)file->bytes));
        ag_json_append(files, json);
    }
    return files;
}

/* [file, offset, row begin, row end, column begin, column end, "sum"] */
static ag_json_t *piece_json(const ag_piece_t *piece)
{
    const uint64_t numbers[PIECE_MEMBERS - 1] = {
        piece->file,          piece->offset_bytes,    piece->rect.rows.begin,
        piece->rect.rows.end, piece->rect.cols.begin, piece->rect.cols.end};
    ag_json_t *json = ag_json_new_array();
    char sum[SUM_CHARS + 1];

    for (int i = 0; i < PIECE_MEMBERS - 1; i++) {
        ag_json_append(json, ag_json_new_integer((int64_t)numbers[i]));
    }
    snprintf(sum, sizeof(sum), "%016" PRIx64, piece->sum);
    ag_json_append(json, string_of(sum));
    return json;
}

static ag_json_t *tensors_json(const ag_manifest_t *manifest)
{
    const size_t *first = manifest->first_piece.items;
    ag_json_t *tensors = ag_json_new_array();

    for (size_t i = 0; i < manifest->tensors.n_items; i++) {
        const ag_stored_tensor_t *tensor = &AG_ITEMS(&manifest->tensors, ag_stored_tensor_t)[i];
        size_t end = i + 1 < manifest->tensors.n_items ? first[i + 1] : manifest->pieces.n_items;
        ag_json_t *json = ag_json_new_object(), *pieces = ag_json_new_array();

        for (size_t p = first[i]; p < end; p++) {
            ag_json_append(pieces, piece_json(&AG_ITEMS(&manifest->pieces, ag_piece_t)[p]));
        }
        ag_json_set(json, "name", string_of(tensor->name));
        ag_json_set(json, "type", string_of("f32"));
        ag_json_set(json, "rows", ag_json_new_integer((int64_t)tensor->rows));
        ag_json_set(json, "cols", ag_json_new_integer((int64_t)tensor->cols));
        ag_json_set(json, "pieces", pieces);
        ag_json_append(tensors, json);
    }
    return tensors;
}

/* All but the state. */
static ag_status_t members_text(const ag_manifest_t *manifest, char **text_p)
{
    ag_json_t *json = ag_json_new_object(), *model = ag_json_new_object();
    ag_status_t status;

    ag_json_set(json, "step", ag_json_new_integer((int64_t)manifest->step));
    ag_json_set(model, "spec_hash", string_of(manifest->spec_hash));
    ag_json_set(json, "model", model);
    ag_json_set(json, "files", files_json(manifest));
    ag_json_set(json, "tensors", tensors_json(manifest));
    status = ag_json_text(json, AG_JSON_LINE, text_p);
    ag_json_destroy(json);
    return status;
}

ag_status_t ag_manifest_text(const ag_manifest_t *manifest, char **text_p)
{
    char *state = NULL, *members = NULL, *body = NULL;
    ag_status_t status = ag_json_text(manifest->state, AG_JSON_LINE, &state);

    status = status == AG_OK ? members_text(manifest, &members) : status;
    /* the members' object goes on where the first line has left one open */
    if (status == AG_OK && asprintf(&body, " \"state\": %s, %s\n", state, members + 1) < 0) {
        body = NULL;
        status = ag_fail_nomem("writing a manifest", strlen(members));
    }
    if (status == AG_OK &&
        asprintf(text_p, "{\"argosy_checkpoint\": %d, \"sum\": \"%016" PRIx64 "\",\n%s",
                 AG_MANIFEST_VERSION, ag_xxh64(body, strlen(body)), body) < 0) {
        status = ag_fail_nomem("writing a manifest", strlen(body));
    }
    free(state);
    free(members);
    free(body);
    return status;
}

/* ---- reading ---- */

typedef struct reading {
    const char *what; /* the file */
    ag_manifest_t *manifest;
} reading_t;

static ag_status_t refuse(const reading_t *reading, const char *member, const char *why)
{
    return ag_fail(AG_ERR_FORMAT, "%s: %s %s", reading->what, member, why);
}

/* A size or an index: from 0 up to most. */
static bool read_number(const ag_json_t *json, uint64_t most, uint64_t *value_p)
{
    int64_t value = ag_json_kind(json) == AG_JSON_INTEGER ? ag_json_integer(json, -1) : -1;

    *value_p = value < 0 ? 0 : (uint64_t)value;
    return value >= 0 && *value_p <= most;
}

/* Text that may stand in an error: printable ASCII, up to n_most characters. NULL: it is not. */
static const char *read_name(const ag_json_t *json, size_t n_most)
{
    size_t n = 0;
    const char *text = ag_json_string(json, &n);

    if (text == NULL || n == 0 || n > n_most || strlen(text) != n) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] < ' ' || text[i] > '~') {
            return NULL;
        }
    }
    return text;
}

static bool read_sum(const ag_json_t *json, uint64_t *sum_p)
{
    const char *text = read_name(json, SUM_CHARS);
    char *end;

    if (text == NULL || strlen(text) != SUM_CHARS ||
        strspn(text, "0123456789abcdef") != SUM_CHARS) {
        return false;
    }
    *sum_p = strtoull(text, &end, 16);
    return true;
}

static ag_status_t read_files(const reading_t *reading, const ag_json_t *json)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < ag_json_size(json) && status == AG_OK; i++) {
        const ag_json_t *item = ag_json_at(json, i);
        const char *name = read_name(ag_json_get(item, "name"), AG_RANK_FILE_BYTES - 1);
        ag_stored_file_t file = {0};

        /* it must be one beside the manifest */
        if (name == NULL || name[0] == '.' || strchr(name, '/') != NULL ||
            !read_number(ag_json_get(item, "bytes"), INT64_MAX, &file.bytes)) {
            return refuse(reading, "files", "has an entry without a file's name or size");
        }
        snprintf(file.name, sizeof(file.name), "%s", name);
        status = ag_array_append(&reading->manifest->files, &file, 1);
    }
    return status;
}

/* @return false: not a piece of this tensor, or not within its file. */
static bool read_piece(const ag_manifest_t *manifest, const ag_stored_tensor_t *tensor,
                       const ag_json_t *json, ag_piece_t *piece_p)
{
    uint64_t n[PIECE_MEMBERS - 1];
    const ag_stored_file_t *file;
    ag_rect_t rect;

    if (ag_json_kind(json) != AG_JSON_ARRAY || ag_json_size(json) != PIECE_MEMBERS) {
        return false;
    }
    for (size_t i = 0; i < PIECE_MEMBERS - 1; i++) {
        if (!read_number(ag_json_at(json, i), INT64_MAX, &n[i])) {
            return false;
        }
    }
    rect = (ag_rect_t){{n[2], n[3]}, {n[4], n[5]}};
    if (n[0] >= manifest->files.n_items || rect.rows.begin >= rect.rows.end ||
        rect.rows.end > tensor->rows || rect.cols.begin >= rect.cols.end ||
        rect.cols.end > tensor->cols ||
        ag_rect_floats(&rect) > AG_MOST_PIECE_BYTES / sizeof(float)) {
        return false;
    }
    file = &AG_ITEMS(&manifest->files, ag_stored_file_t)[n[0]];
    *piece_p = (ag_piece_t){.tensor = (uint32_t)manifest->tensors.n_items - 1,
                            .file = (uint32_t)n[0],
                            .rect = rect,
                            .offset_bytes = n[1]};
    return file->bytes >= ag_rect_floats(&rect) * sizeof(float) &&
           n[1] <= file->bytes - ag_rect_floats(&rect) * sizeof(float) &&
           read_sum(ag_json_at(json, PIECE_MEMBERS - 1), &piece_p->sum);
}

/* @param last  the name of the tensor before it; NULL: it is the first. */
static ag_status_t read_tensor(const reading_t *reading, const ag_json_t *json, const char *last)
{
    ag_manifest_t *manifest = reading->manifest;
    const ag_json_t *pieces = ag_json_get(json, "pieces");
    const char *name = read_name(ag_json_get(json, "name"), AG_SAVED_NAME_BYTES - 1);
    const char *type = read_name(ag_json_get(json, "type"), 3);
    ag_stored_tensor_t tensor = {.name = name};
    uint64_t n_floats = 0;
    ag_status_t status;

    if (name == NULL || (last != NULL && strcmp(last, name) >= 0)) {
        return refuse(reading, "tensors", "has one without a name, or not in order of names");
    }
    if (type == NULL || strcmp(type, "f32") != 0 ||
        !read_number(ag_json_get(json, "rows"), AG_MOST_FLOATS, &tensor.rows) ||
        !read_number(ag_json_get(json, "cols"), AG_MOST_FLOATS, &tensor.cols) || tensor.rows == 0 ||
        tensor.cols == 0 || tensor.rows > AG_MOST_FLOATS / tensor.cols) {
        return refuse(reading, name, "has no type f32 or no size");
    }
    status = ag_manifest_add_tensor(manifest, name, tensor.rows, tensor.cols);
    for (size_t i = 0; i < ag_json_size(pieces) && status == AG_OK; i++) {
        ag_piece_t piece;

        if (!read_piece(manifest, &tensor, ag_json_at(pieces, i), &piece)) {
            return refuse(reading, name, "has a piece outside itself or outside its file");
        }
        n_floats += ag_rect_floats(&piece.rect);
        status = n_floats <= tensor.rows * tensor.cols
                     ? ag_array_append(&manifest->pieces, &piece, 1)
                     : refuse(reading, name, "has pieces that overlap");
    }
    return status;
}

static ag_status_t read_members(const reading_t *reading, const ag_json_t *json)
{
    const ag_json_t *files = ag_json_get(json, "files"), *tensors = ag_json_get(json, "tensors");
    const char *hash = read_name(ag_json_path(json, "model.spec_hash"), AG_MOST_SPEC_HASH);
    ag_manifest_t *manifest = reading->manifest;
    const char *last = NULL;
    ag_status_t status;

    if (!read_number(ag_json_get(json, "step"), INT64_MAX, &manifest->step) || hash == NULL ||
        ag_json_kind(ag_json_get(json, "state")) != AG_JSON_OBJECT ||
        ag_json_kind(files) != AG_JSON_ARRAY || ag_json_kind(tensors) != AG_JSON_ARRAY) {
        return refuse(reading, "step, model, state, files or tensors", "is missing or wrong");
    }
    manifest->spec_hash = strdup(hash);
    if (manifest->spec_hash == NULL) {
        return ag_fail_nomem(reading->what, strlen(hash));
    }
    status = read_files(reading, files);
    for (size_t i = 0; i < ag_json_size(tensors) && status == AG_OK; i++) {
        status = read_tensor(reading, ag_json_at(tensors, i), last);
        last = status == AG_OK ? AG_ITEMS(&manifest->tensors, ag_stored_tensor_t)[i].name : NULL;
    }
    /* the end of the last one's pieces */
    return status == AG_OK ? ag_array_append(&manifest->first_piece, &manifest->pieces.n_items, 1)
                           : status;
}

/* Version, then the checksum of what follows the first line. */
static ag_status_t check_head(const reading_t *reading, const ag_json_t *json, const char *text,
                              size_t n_bytes)
{
    const char *line_end = memchr(text, '\n', n_bytes);
    int64_t version = ag_json_integer(ag_json_get(json, "argosy_checkpoint"), -1);
    uint64_t sum;

    if (version > AG_MANIFEST_VERSION) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s is of version %lld, this argosy reads %d: use the newer one",
                       reading->what, (long long)version, AG_MANIFEST_VERSION);
    }
    if (version < 1 || line_end == NULL || !read_sum(ag_json_get(json, "sum"), &sum)) {
        return ag_fail(AG_ERR_FORMAT, "%s is no manifest of a checkpoint, or damaged",
                       reading->what);
    }
    if (ag_xxh64(line_end + 1, n_bytes - (size_t)(line_end + 1 - text)) != sum) {
        return ag_fail(AG_ERR_FORMAT, "%s is damaged: its checksum is another", reading->what);
    }
    return AG_OK;
}

ag_status_t ag_manifest_parse(const char *text, size_t n_bytes, const char *what,
                              ag_manifest_t *manifest_p)
{
    ag_manifest_t manifest;
    reading_t reading = {what, &manifest};
    ag_json_t *json;
    ag_status_t status = ag_json_parse(text, n_bytes, what, &json);

    if (status != AG_OK) {
        return ag_fail(status, "%s: it is half-written or damaged", ag_error());
    }
    ag_manifest_init(&manifest);
    status = check_head(&reading, json, text, n_bytes);
    status = status == AG_OK ? read_members(&reading, json) : status;
    manifest.state = ag_json_take(json, "state");
    ag_json_destroy(json);
    if (status != AG_OK) {
        ag_manifest_fini(&manifest);
        return status;
    }
    *manifest_p = manifest;
    return AG_OK;
}
