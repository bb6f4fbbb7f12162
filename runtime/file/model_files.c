#include "runtime/file/model_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file/input_priv.h"
#include "runtime/file/made_priv.h"
#include "runtime/file/model_files_priv.h"

enum { MAX_PATHS_BYTES = 16 << 20 };

ag_status_t ag_model_files_add_tensor(ag_model_files_t *files, const ag_model_tensor_t *tensor)
{
    size_t known = ag_names_find(&files->names, tensor->name);
    ag_status_t status;

    if (known != AG_NAME_ABSENT) {
        const ag_model_shard_t *shards = AG_ITEMS(&files->shards, ag_model_shard_t);
        uint32_t other = AG_ITEMS(&files->tensors, ag_model_tensor_t)[known].file;

        return ag_fail(AG_ERR_FORMAT, "%s: tensor '%s' is in both %s and %s", files->path,
                       tensor->name, shards[other].name, shards[tensor->file].name);
    }
    status = ag_array_append(&files->tensors, tensor, 1);
    if (status == AG_OK) {
        status = ag_names_add(&files->names, tensor->name, files->tensors.n_items - 1);
    }
    return status;
}

/* @param shard  the last one. */
static ag_status_t add_shards_tensors(ag_model_files_t *files, const ag_model_shard_t *shard)
{
    size_t n_tensors;
    const ag_file_tensor_t *tensors = shard->gguf != NULL
                                          ? ag_gguf_tensors(shard->gguf, &n_tensors)
                                          : ag_safetensors_tensors(shard->safetensors, &n_tensors);
    ag_status_t status = AG_OK;

    for (size_t i = 0; status == AG_OK && i < n_tensors; i++) {
        ag_model_tensor_t tensor = {.name = tensors[i].name,
                                    .dtype = tensors[i].dtype,
                                    .n_dims = tensors[i].n_dims,
                                    .file = (uint32_t)files->shards.n_items - 1,
                                    .offset_bytes = tensors[i].offset_bytes,
                                    .bytes = tensors[i].bytes};

        memcpy(tensor.dims, tensors[i].dims, sizeof(tensor.dims));
        status = ag_model_files_add_tensor(files, &tensor);
    }
    return status;
}

ag_status_t ag_model_files_add_shard(ag_model_files_t *files, const ag_model_shard_t *shard)
{
    ag_model_shard_t opened = *shard;
    uint64_t file_bytes;
    ag_status_t status = ag_file_open(shard->path, &opened.fd, &file_bytes);

    if (status == AG_OK) {
        status = ag_array_append(&files->shards, &opened, 1);
        if (status == AG_OK) { /* from here on it is closed with the others */
            return add_shards_tensors(files, shard);
        }
        close(opened.fd);
    }
    ag_safetensors_close(shard->safetensors);
    ag_gguf_close(shard->gguf);
    return status;
}

ag_status_t ag_model_files_say_get_again(ag_status_t status)
{
    return status == AG_ERR_FORMAT ? ag_fail(status, "%s: get the file again", ag_error()) : status;
}

/* Settings, by whatever name, say what kind of model they are of. */
static bool is_config(const char *path, ag_json_t **json_p)
{
    static const char end[] = ".json";
    size_t n = strlen(path);

    *json_p = NULL;
    if (n < sizeof(end) || strcmp(path + n - (sizeof(end) - 1), end) != 0 ||
        ag_json_read(path, json_p) != AG_OK) {
        return false;
    }
    if (ag_json_get(*json_p, "model_type") == NULL) {
        ag_json_destroy(*json_p);
        return false;
    }
    return true;
}

/* The settings alone, which are taken over. What belongs to a tokenizer may lie beside them. */
static ag_status_t take_config(ag_model_files_t *files, const char *path, ag_json_t *json)
{
    const char *slash = strrchr(path, '/');
    ag_status_t status =
        slash != NULL ? ag_pile_text(&files->pile, path, (size_t)(slash - path) + 1, &files->path)
                      : ag_pile_text(&files->pile, ".", 1, &files->path);

    files->are_made = true;
    files->config = json;
    return status == AG_OK ? ag_model_files_read_json(files, "generation_config.json",
                                                      &files->generation_config)
                           : status;
}

ag_status_t ag_model_files_open(const char *path, ag_model_files_t **files_p)
{
    ag_model_files_t *files;
    struct stat info;
    ag_json_t *json;
    ag_status_t status;

    if (stat(path, &info) != 0) {
        return ag_fail(AG_ERR_IO, "looking for a model at %s: %s: check the path", path,
                       strerror(errno));
    }
    files = calloc(1, sizeof(*files));
    if (files == NULL) {
        return ag_fail_nomem(path, sizeof(*files));
    }
    files->pile = ag_pile_empty("the names of a model's files", MAX_PATHS_BYTES);
    files->shards = AG_ARRAY(ag_model_shard_t);
    files->tensors = AG_ARRAY(ag_model_tensor_t);
    files->nibble_scales = AG_ARRAY(ag_nibble_scales_t);
    files->made = AG_ARRAY(ag_made_t);
    status = ag_pile_text(&files->pile, path, strlen(path), &files->path);
    if (status == AG_OK) {
        status = S_ISDIR(info.st_mode)    ? ag_model_files_open_folder(files)
                 : is_config(path, &json) ? take_config(files, path, json)
                                          : ag_model_files_open_gguf(files);
    }
    if (status != AG_OK) {
        ag_model_files_close(files);
        return status;
    }
    *files_p = files;
    return AG_OK;
}

void ag_model_files_close(ag_model_files_t *files)
{
    if (files == NULL) {
        return;
    }
    for (size_t i = 0; i < files->shards.n_items; i++) {
        ag_model_shard_t *shard = &AG_ITEMS(&files->shards, ag_model_shard_t)[i];

        close(shard->fd);
        ag_safetensors_close(shard->safetensors);
        ag_gguf_close(shard->gguf);
    }
    ag_names_fini(&files->names);
    ag_array_fini(&files->tensors);
    ag_array_fini(&files->nibble_scales);
    ag_array_fini(&files->made);
    ag_array_fini(&files->shards);
    ag_json_destroy(files->generation_config);
    ag_json_destroy(files->config);
    ag_pile_fini(&files->pile);
    free(files);
}

const char *ag_model_files_path(const ag_model_files_t *files)
{
    return files->path;
}

const ag_gguf_t *ag_model_files_gguf(const ag_model_files_t *files)
{
    return files->gguf;
}

const ag_json_t *ag_model_files_config(const ag_model_files_t *files)
{
    return files->config;
}

const ag_json_t *ag_model_files_generation_config(const ag_model_files_t *files)
{
    return files->generation_config;
}

const ag_model_tensor_t *ag_model_files_tensors(const ag_model_files_t *files, size_t *n_p)
{
    *n_p = files->tensors.n_items;
    return AG_ITEMS(&files->tensors, const ag_model_tensor_t);
}

const ag_model_tensor_t *ag_model_files_find(const ag_model_files_t *files, const char *name)
{
    size_t i = ag_names_find(&files->names, name);

    return i == AG_NAME_ABSENT ? NULL : &AG_ITEMS(&files->tensors, const ag_model_tensor_t)[i];
}

const ag_safetensors_left_out_t *ag_model_shard_left_out(const ag_model_shard_t *shard,
                                                         const char *name)
{
    size_t n = 0;
    const ag_safetensors_left_out_t *left_out =
        shard->safetensors == NULL ? NULL : ag_safetensors_left_out(shard->safetensors, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(left_out[i].name, name) == 0) {
            return &left_out[i];
        }
    }
    return NULL;
}

static ag_status_t fail_missing(const ag_model_files_t *files, const char *name)
{
    size_t n_method = 0;
    const char *method =
        ag_json_string(ag_json_path(files->config, "quantization_config.quant_method"), &n_method);

    if (method != NULL && ag_name_usable(method, n_method)) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: tensor '%s' is missing: config.json says that weights are quantized by "
                       "%s; 8-bit floats with scales and mxfp4 are what is read of such",
                       files->path, name, method);
    }
    return ag_fail(AG_ERR_FORMAT,
                   "%s: tensor '%s' is missing: the model is incomplete (get it again), or it is "
                   "of an architecture that is not known here",
                   files->path, name);
}

ag_status_t ag_model_files_require(const ag_model_files_t *files, const char *name,
                                   const ag_model_tensor_t **tensor_p)
{
    const ag_model_tensor_t *tensor = ag_model_files_find(files, name);
    const ag_model_shard_t *shards = AG_ITEMS(&files->shards, const ag_model_shard_t);
    const ag_safetensors_left_out_t *left_out = NULL;
    ag_dtype_t dtype;
    ag_status_t status;

    if (tensor != NULL) {
        *tensor_p = tensor;
        return AG_OK;
    }
    for (size_t i = 0; left_out == NULL && i < files->shards.n_items; i++) {
        left_out = ag_model_shard_left_out(&shards[i], name);
    }
    if (left_out == NULL) {
        return fail_missing(files, name);
    }
    status = ag_dtype_from_safetensors(left_out->type, name, &dtype);
    return ag_fail_context(status, "%s", files->path);
}

bool ag_model_files_are_made(const ag_model_files_t *files)
{
    return files->are_made;
}

void ag_model_files_seed(ag_model_files_t *files, uint64_t seed)
{
    files->seed = seed;
}

ag_status_t ag_model_files_make(ag_model_files_t *files, const char *name, uint32_t n_dims,
                                const uint64_t *dims, float mean, float deviation, uint32_t stream)
{
    ag_model_tensor_t tensor = {.dtype = AG_F32, .n_dims = n_dims, .bytes = sizeof(float)};
    ag_made_t made = {.mean = mean, .deviation = deviation, .stream = stream};
    ag_status_t status = ag_pile_text(&files->pile, name, strlen(name), &tensor.name);

    for (uint32_t i = 0; i < n_dims; i++) {
        tensor.dims[i] = dims[i];
        tensor.bytes *= dims[i];
    }
    if (status == AG_OK) {
        status = ag_array_append(&files->made, &made, 1);
    }
    return status == AG_OK ? ag_model_files_add_tensor(files, &tensor) : status;
}

ag_status_t ag_model_files_read(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                                uint64_t begin, uint64_t n, void *dst)
{
    const ag_model_shard_t *shard;

    if (files->are_made) {
        size_t number = (size_t)(tensor - AG_ITEMS(&files->tensors, const ag_model_tensor_t));

        return ag_made_draw(&AG_ITEMS(&files->made, ag_made_t)[number], files->seed, tensor, begin,
                            n, dst);
    }
    shard = &AG_ITEMS(&files->shards, const ag_model_shard_t)[tensor->file];
    if (begin > tensor->bytes || n > tensor->bytes - begin) {
        return ag_fail(AG_ERR_INVALID,
                       "reading %s: tensor '%s' has %llu bytes, not %llu from %llu on", shard->path,
                       tensor->name, (unsigned long long)tensor->bytes, (unsigned long long)n,
                       (unsigned long long)begin);
    }
    if (tensor->scales != 0) {
        return tensor->dtype == AG_MXFP4 ? ag_mxfp4_read(files, tensor, begin, n, dst)
                                         : ag_scaled_read(files, tensor, begin, n, dst);
    }
    return ag_file_pread(shard->fd, shard->path, tensor->name, tensor->offset_bytes + begin, n,
                         dst);
}
