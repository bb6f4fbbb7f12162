/* GGUF files as models: one, or the parts that llama-gguf-split makes of one. */
#include <stdio.h>
#include <string.h>

#include "runtime/file/input_priv.h"
#include "runtime/file/model_files_priv.h"

enum { MOST_PARTS = 65535, SUFFIX_BYTES = 64 };

static ag_status_t check_begins_as_gguf(const char *path)
{
    char magic[4] = "";
    ag_input_t input;
    ag_status_t status = ag_input_open(&input, path);

    if (status != AG_OK) {
        return status;
    }
    if (input.file_bytes >= sizeof(magic)) {
        status = ag_input_take(&input, magic, sizeof(magic));
    }
    if (status == AG_OK && memcmp(magic, "GGUF", sizeof(magic)) != 0) {
        status = ag_input_refuse(&input, "is no model");
        status = ag_fail(status, "%s: " AG_A_MODEL_IS, ag_error());
    }
    ag_input_close(&input);
    return status;
}

static ag_status_t add_part(ag_model_files_t *files, const char *path, ag_gguf_t *gguf)
{
    return ag_model_files_add_shard(files,
                                    &(ag_model_shard_t){.name = path, .path = path, .gguf = gguf});
}

/* A count or a number among `split.*`. */
static int64_t split_number(const ag_gguf_t *gguf, const char *key, int64_t otherwise)
{
    const ag_gguf_value_t *value = ag_gguf_get(gguf, key);
    bool is_number = value != NULL && value->kind != AG_GGUF_ARRAY &&
                     value->kind != AG_GGUF_STRING && value->kind != AG_GGUF_F32 &&
                     value->kind != AG_GGUF_F64;

    return is_number ? value->as.integer : otherwise;
}

static void suffix_of(int64_t number, int64_t n_parts, char suffix[SUFFIX_BYTES])
{
    snprintf(suffix, SUFFIX_BYTES, "-%05lld-of-%05lld.gguf", (long long)number + 1,
             (long long)n_parts);
}

/* What the names of all parts begin with. @param gguf  the part that was named. */
static ag_status_t prefix_of(const ag_model_files_t *files, const ag_gguf_t *gguf, int64_t n_parts,
                             size_t *n_prefix_p)
{
    int64_t number = split_number(gguf, "split.no", -1);
    size_t n_path = strlen(files->path), n_suffix;
    char suffix[SUFFIX_BYTES];

    if (n_parts > MOST_PARTS || number < 0 || number >= n_parts) {
        return ag_fail(AG_ERR_FORMAT, "%s: damaged: it is part %lld of %lld of a model",
                       files->path, (long long)number + 1, (long long)n_parts);
    }
    suffix_of(number, n_parts, suffix);
    n_suffix = strlen(suffix);
    if (n_path < n_suffix || strcmp(files->path + n_path - n_suffix, suffix) != 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s is part %lld of %lld of a model: its name does not end in %s, so that "
                       "the others are not found",
                       files->path, (long long)number + 1, (long long)n_parts, suffix);
    }
    *n_prefix_p = n_path - n_suffix;
    return AG_OK;
}

static ag_status_t open_part(ag_model_files_t *files, size_t n_prefix, int64_t number,
                             int64_t n_parts)
{
    char suffix[SUFFIX_BYTES];
    ag_gguf_t *gguf;
    char *path;
    ag_status_t status;

    suffix_of(number, n_parts, suffix);
    status = ag_pile_take(&files->pile, n_prefix + strlen(suffix) + 1, false, &path);
    if (status != AG_OK) {
        return status;
    }
    memcpy(path, files->path, n_prefix);
    memcpy(path + n_prefix, suffix, strlen(suffix) + 1);
    status = ag_model_files_say_get_again(ag_gguf_open(path, &gguf));
    if (status != AG_OK) {
        return ag_fail_context(status, "part %lld of %lld of a model", (long long)number + 1,
                               (long long)n_parts);
    }
    if (split_number(gguf, "split.no", -1) != number ||
        split_number(gguf, "split.count", -1) != n_parts) {
        ag_gguf_close(gguf);
        return ag_fail(AG_ERR_FORMAT, "%s: it is not part %lld of %lld, as its name says", path,
                       (long long)number + 1, (long long)n_parts);
    }
    return add_part(files, path, gguf);
}

/* The first one has the metadata, all of them tensors. */
static ag_status_t open_parts(ag_model_files_t *files, size_t n_prefix, int64_t n_parts)
{
    ag_status_t status = AG_OK;
    int64_t n_tensors;

    for (int64_t i = 0; status == AG_OK && i < n_parts; i++) {
        status = open_part(files, n_prefix, i, n_parts);
    }
    if (status != AG_OK) {
        return status;
    }
    files->gguf = AG_ITEMS(&files->shards, ag_model_shard_t)[0].gguf;
    n_tensors = split_number(files->gguf, "split.tensors.count", (int64_t)files->tensors.n_items);
    if (n_tensors != (int64_t)files->tensors.n_items) {
        return ag_fail(
            AG_ERR_FORMAT, "%s: its %lld parts have %zu tensors, not %lld: get the files again",
            files->path, (long long)n_parts, files->tensors.n_items, (long long)n_tensors);
    }
    return AG_OK;
}

ag_status_t ag_model_files_open_gguf(ag_model_files_t *files)
{
    ag_gguf_t *gguf = NULL;
    int64_t n_parts;
    size_t n_prefix = 0;
    ag_status_t status = check_begins_as_gguf(files->path);

    if (status == AG_OK) {
        status = ag_model_files_say_get_again(ag_gguf_open(files->path, &gguf));
    }
    if (status != AG_OK) {
        return status;
    }
    n_parts = split_number(gguf, "split.count", 1);
    if (n_parts <= 1) {
        files->gguf = gguf;
        return add_part(files, files->path, gguf);
    }
    status = prefix_of(files, gguf, n_parts, &n_prefix);
    ag_gguf_close(gguf);
    return status == AG_OK ? open_parts(files, n_prefix, n_parts) : status;
}
