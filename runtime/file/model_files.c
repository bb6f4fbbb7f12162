#include "runtime/file/model_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/array.h"
#include "runtime/file/input_priv.h"
#include "runtime/file/made_priv.h"
#include "runtime/file/names_priv.h"
#include "runtime/file/pile_priv.h"
#include "runtime/file/safetensors.h"

#define A_MODEL_IS                                                                                 \
    "a model is a GGUF file, or a Hugging Face folder with config.json and model*.safetensors"
#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

enum { MAX_PATHS_BYTES = 16 << 20 };

/* One file with tensors. */
typedef struct ag_model_shard {
    const char *name; /* within the folder; the whole path of a GGUF file */
    const char *path;
    ag_safetensors_t *file; /* NULL: the GGUF file */
    int fd;
} ag_model_shard_t;

struct ag_model_files {
    ag_pile_t pile; /* names and paths */
    const char *path;
    ag_gguf_t *gguf;
    ag_json_t *config;
    ag_json_t *generation_config;
    ag_array_t shards;  /* ag_model_shard_t */
    ag_array_t tensors; /* ag_model_tensor_t */
    ag_names_t names;   /* -> tensors */
    bool are_made;
    ag_array_t made; /* ag_made_t, of each tensor, if so */
};

static ag_status_t add_tensor(ag_model_files_t *files, const ag_model_tensor_t *tensor)
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

/* Open the file for reading its tensors; the shard is closed with `files`, whatever comes later. */
static ag_status_t add_shard(ag_model_files_t *files, const ag_model_shard_t *shard)
{
    ag_model_shard_t opened = *shard;
    uint64_t file_bytes;
    ag_status_t status = ag_file_open(shard->path, &opened.fd, &file_bytes);

    if (status != AG_OK) {
        return status;
    }
    status = ag_array_append(&files->shards, &opened, 1);
    if (status != AG_OK) {
        close(opened.fd);
    }
    return status;
}

static ag_status_t add_gguf_tensors(ag_model_files_t *files)
{
    size_t n_tensors;
    const ag_gguf_tensor_t *tensors = ag_gguf_tensors(files->gguf, &n_tensors);
    ag_status_t status = AG_OK;

    for (size_t i = 0; status == AG_OK && i < n_tensors; i++) {
        ag_model_tensor_t tensor = {.name = tensors[i].name,
                                    .dtype = tensors[i].dtype,
                                    .n_dims = tensors[i].n_dims,
                                    .offset_bytes = tensors[i].offset_bytes,
                                    .bytes = tensors[i].bytes};

        memcpy(tensor.dims, tensors[i].dims, sizeof(tensor.dims));
        status = add_tensor(files, &tensor);
    }
    return status;
}

/* A file that is not whole can be mended by nobody here. */
static ag_status_t say_get_again(ag_status_t status)
{
    return status == AG_ERR_FORMAT ? ag_fail(status, "%s: get the file again", ag_error()) : status;
}

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
        status = ag_fail(status, "%s: " A_MODEL_IS, ag_error());
    }
    ag_input_close(&input);
    return status;
}

static ag_status_t open_gguf(ag_model_files_t *files)
{
    const ag_gguf_value_t *n_parts;
    ag_status_t status = check_begins_as_gguf(files->path);

    if (status == AG_OK) {
        status = say_get_again(ag_gguf_open(files->path, &files->gguf));
    }
    if (status != AG_OK) {
        return status;
    }
    n_parts = ag_gguf_get(files->gguf, "split.count");
    if (n_parts != NULL && n_parts->kind != AG_GGUF_ARRAY && n_parts->as.integer > 1) {
        return ag_fail(
            AG_ERR_UNSUPPORTED,
            "%s is one of %lld parts of a model; join them with llama-gguf-split --merge",
            files->path, (long long)n_parts->as.integer);
    }
    status = add_shard(files, &(ag_model_shard_t){.name = files->path, .path = files->path});
    return status == AG_OK ? add_gguf_tensors(files) : status;
}

static ag_status_t path_in_folder(ag_model_files_t *files, const char *name, const char **path_p)
{
    size_t n_folder = strlen(files->path);
    size_t n_name = strlen(name);
    char *path;
    ag_status_t status = ag_pile_take(&files->pile, n_folder + 1 + n_name + 1, false, &path);

    if (status != AG_OK) {
        return status;
    }
    memcpy(path, files->path, n_folder);
    path[n_folder] = '/';
    memcpy(path + n_folder + 1, name, n_name + 1);
    *path_p = path;
    return AG_OK;
}

/* Read a JSON file of the folder; *json_p stays NULL when there is none. */
static ag_status_t read_json(ag_model_files_t *files, const char *name, ag_json_t **json_p)
{
    struct stat info;
    const char *path;
    ag_status_t status = path_in_folder(files, name, &path);

    if (status != AG_OK || (stat(path, &info) != 0 && errno == ENOENT)) {
        return status;
    }
    status = ag_json_read(path, json_p);
    if (status == AG_OK && ag_json_kind(*json_p) != AG_JSON_OBJECT) {
        return ag_fail(AG_ERR_FORMAT, "%s: it should hold one JSON object", path);
    }
    return status;
}

static ag_status_t add_safetensors(ag_model_files_t *files, const char *name)
{
    ag_model_shard_t shard = {.name = name};
    uint32_t index = (uint32_t)files->shards.n_items;
    const ag_safetensors_tensor_t *tensors;
    size_t n_tensors;
    ag_status_t status = path_in_folder(files, name, &shard.path);

    if (status == AG_OK) {
        status = say_get_again(ag_safetensors_open(shard.path, false, &shard.file));
    }
    if (status != AG_OK) {
        return status;
    }
    status = add_shard(files, &shard);
    if (status != AG_OK) {
        ag_safetensors_close(shard.file);
        return status;
    }
    tensors = ag_safetensors_tensors(shard.file, &n_tensors);
    for (size_t i = 0; status == AG_OK && i < n_tensors; i++) {
        ag_model_tensor_t tensor = {.name = tensors[i].name,
                                    .dtype = tensors[i].dtype,
                                    .n_dims = tensors[i].n_dims,
                                    .file = index,
                                    .offset_bytes = tensors[i].offset_bytes,
                                    .bytes = tensors[i].bytes};

        memcpy(tensor.dims, tensors[i].dims, sizeof(tensor.dims));
        status = add_tensor(files, &tensor);
    }
    return status;
}

/* The type of a tensor that is in the shard but was left out; NULL: it is not there. */
static const char *left_out_type(const ag_model_shard_t *shard, const char *name)
{
    size_t n = 0;
    const ag_safetensors_left_out_t *left_out =
        shard->file == NULL ? NULL : ag_safetensors_left_out(shard->file, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(left_out[i].name, name) == 0) {
            return left_out[i].type;
        }
    }
    return NULL;
}

/* What walks over the index: first to open the files it names, then to see that it was right. */
typedef struct ag_index_walk {
    ag_model_files_t *files;
    ag_names_t opened; /* file name -> shard */
} ag_index_walk_t;

static ag_status_t open_named_file(void *arg, const char *key, size_t key_bytes,
                                   const ag_json_t *value)
{
    ag_index_walk_t *walk = arg;
    ag_model_files_t *files = walk->files;
    size_t n_name = 0;
    const char *name = ag_json_string(value, &n_name);
    ag_status_t status;

    if (!ag_name_usable(key, key_bytes) || name == NULL || !ag_name_usable(name, n_name) ||
        strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s/" INDEX_NAME ": weight_map has an entry that is not the plain name of a "
                       "file in this folder",
                       files->path);
    }
    if (ag_names_find(&walk->opened, name) != AG_NAME_ABSENT) {
        return AG_OK;
    }
    status = ag_pile_text(&files->pile, name, n_name, &name);
    if (status == AG_OK) {
        status = add_safetensors(files, name);
    }
    if (status != AG_OK) {
        return ag_fail_context(status, "a file named by %s/" INDEX_NAME, files->path);
    }
    return ag_names_add(&walk->opened, name, files->shards.n_items - 1);
}

static ag_status_t check_named_tensor(void *arg, const char *key, size_t key_bytes,
                                      const ag_json_t *value)
{
    ag_index_walk_t *walk = arg;
    const ag_model_files_t *files = walk->files;
    const char *file_name = ag_json_string(value, NULL);
    size_t file = ag_names_find(&walk->opened, file_name);
    const ag_model_tensor_t *tensor = ag_model_files_find(files, key);

    (void)key_bytes;
    if ((tensor != NULL && tensor->file == file) ||
        left_out_type(&AG_ITEMS(&files->shards, ag_model_shard_t)[file], key) != NULL) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_FORMAT,
                   "%s/" INDEX_NAME ": tensor '%s' is not in %s, as it says: "
                   "get both files again",
                   files->path, key, file_name);
}

static ag_status_t open_indexed(ag_model_files_t *files, const ag_json_t *index)
{
    ag_index_walk_t walk = {.files = files};
    const ag_json_t *weight_map = ag_json_get(index, "weight_map");
    ag_status_t status;

    if (ag_json_kind(weight_map) != AG_JSON_OBJECT || ag_json_size(weight_map) == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s/" INDEX_NAME ": it has no weight_map", files->path);
    }
    status = ag_json_each(weight_map, open_named_file, &walk);
    if (status == AG_OK) {
        status = ag_json_each(weight_map, check_named_tensor, &walk);
    }
    ag_names_fini(&walk.opened);
    return status;
}

static int is_weights(const struct dirent *entry)
{
    static const char ending[] = ".safetensors";
    size_t n_name = strlen(entry->d_name);
    size_t n_ending = sizeof(ending) - 1;

    return strncmp(entry->d_name, "model", strlen("model")) == 0 && n_name > n_ending &&
           strcmp(entry->d_name + n_name - n_ending, ending) == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static ag_status_t open_listed(ag_model_files_t *files)
{
    struct dirent **entries;
    int n_entries = scandir(files->path, &entries, is_weights, by_name);
    ag_status_t status = AG_OK;

    if (n_entries < 0) {
        return ag_fail(AG_ERR_IO, "listing %s: %s", files->path, strerror(errno));
    }
    if (n_entries == 0) {
        status = ag_fail(AG_ERR_IO,
                         "%s has no weights: looked for " INDEX_NAME ", " SINGLE_NAME
                         " and model*.safetensors",
                         files->path);
    }
    for (int i = 0; i < n_entries; i++) {
        const char *name;

        if (status == AG_OK) {
            status =
                ag_pile_text(&files->pile, entries[i]->d_name, strlen(entries[i]->d_name), &name);
        }
        if (status == AG_OK) {
            status = add_safetensors(files, name);
        }
        free(entries[i]);
    }
    free(entries);
    return status;
}

static ag_status_t open_folder(ag_model_files_t *files)
{
    ag_json_t *index = NULL;
    struct stat info;
    const char *single_path;
    ag_status_t status = read_json(files, "config.json", &files->config);

    if (status == AG_OK && files->config == NULL) {
        status = ag_fail(AG_ERR_IO, "%s has no config.json: " A_MODEL_IS, files->path);
    }
    if (status == AG_OK) {
        status = read_json(files, "generation_config.json", &files->generation_config);
    }
    if (status == AG_OK) {
        status = read_json(files, INDEX_NAME, &index);
    }
    if (status == AG_OK) {
        status = path_in_folder(files, SINGLE_NAME, &single_path);
    }
    if (status != AG_OK) {
        goto destroy_index;
    }
    if (index != NULL) {
        status = open_indexed(files, index);
    } else if (stat(single_path, &info) == 0) {
        status = add_safetensors(files, SINGLE_NAME);
    } else {
        status = open_listed(files);
    }

destroy_index:
    ag_json_destroy(index);
    return status;
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
    return status == AG_OK ? read_json(files, "generation_config.json", &files->generation_config)
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
    files->made = AG_ARRAY(ag_made_t);
    status = ag_pile_text(&files->pile, path, strlen(path), &files->path);
    if (status == AG_OK) {
        status = S_ISDIR(info.st_mode)    ? open_folder(files)
                 : is_config(path, &json) ? take_config(files, path, json)
                                          : open_gguf(files);
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
        ag_safetensors_close(shard->file);
    }
    ag_names_fini(&files->names);
    ag_array_fini(&files->tensors);
    ag_array_fini(&files->made);
    ag_array_fini(&files->shards);
    ag_json_destroy(files->generation_config);
    ag_json_destroy(files->config);
    ag_gguf_close(files->gguf);
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

ag_status_t ag_model_files_require(const ag_model_files_t *files, const char *name,
                                   const ag_model_tensor_t **tensor_p)
{
    const ag_model_tensor_t *tensor = ag_model_files_find(files, name);
    const ag_model_shard_t *shards = AG_ITEMS(&files->shards, const ag_model_shard_t);
    const char *type = NULL;
    ag_dtype_t dtype;
    ag_status_t status;

    if (tensor != NULL) {
        *tensor_p = tensor;
        return AG_OK;
    }
    for (size_t i = 0; type == NULL && i < files->shards.n_items; i++) {
        type = left_out_type(&shards[i], name);
    }
    if (type == NULL) {
        return ag_fail(
            AG_ERR_FORMAT,
            "%s: tensor '%s' is missing: the model is incomplete (get it again), or it is "
            "of an architecture that is not known here",
            files->path, name);
    }
    status = ag_dtype_from_safetensors(type, name, &dtype);
    return ag_fail_context(status, "%s", files->path);
}

bool ag_model_files_are_made(const ag_model_files_t *files)
{
    return files->are_made;
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
    return status == AG_OK ? add_tensor(files, &tensor) : status;
}

ag_status_t ag_model_files_read(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                                uint64_t begin, uint64_t n, void *dst)
{
    const ag_model_shard_t *shard;

    if (files->are_made) {
        size_t number = (size_t)(tensor - AG_ITEMS(&files->tensors, const ag_model_tensor_t));

        return ag_made_draw(&AG_ITEMS(&files->made, ag_made_t)[number], tensor, begin, n, dst);
    }
    shard = &AG_ITEMS(&files->shards, const ag_model_shard_t)[tensor->file];
    if (begin > tensor->bytes || n > tensor->bytes - begin) {
        return ag_fail(AG_ERR_INVALID,
                       "reading %s: tensor '%s' has %llu bytes, not %llu from %llu on", shard->path,
                       tensor->name, (unsigned long long)tensor->bytes, (unsigned long long)n,
                       (unsigned long long)begin);
    }
    return ag_file_pread(shard->fd, shard->path, tensor->name, tensor->offset_bytes + begin, n,
                         dst);
}
