/* Hugging Face folders as models. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/file/model_files_priv.h"

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

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

ag_status_t ag_model_files_read_json(ag_model_files_t *files, const char *name, ag_json_t **json_p)
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
    ag_status_t status = path_in_folder(files, name, &shard.path);

    if (status == AG_OK) {
        status = ag_model_files_say_get_again(
            ag_safetensors_open(shard.path, false, &shard.safetensors));
    }
    if (status != AG_OK) {
        return status;
    }
    return ag_model_files_add_shard(files, &shard);
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
        ag_model_shard_left_out(&AG_ITEMS(&files->shards, ag_model_shard_t)[file], key) != NULL) {
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

static bool ends_in(const char *name, const char *ending)
{
    size_t n_name = strlen(name), n_ending = strlen(ending);

    return n_name > n_ending && strcmp(name + n_name - n_ending, ending) == 0;
}

static int is_weights(const struct dirent *entry)
{
    return strncmp(entry->d_name, "model", strlen("model")) == 0 &&
           ends_in(entry->d_name, ".safetensors");
}

static int is_gguf(const struct dirent *entry)
{
    return ends_in(entry->d_name, ".gguf") && ag_name_usable(entry->d_name, strlen(entry->d_name));
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

/* Folders of GGUF files are many: which one is meant is the user's to say. */
static ag_status_t fail_no_config(const ag_model_files_t *files)
{
    struct dirent **entries;
    int n_entries = scandir(files->path, &entries, is_gguf, by_name);
    ag_status_t status =
        n_entries > 0 ? ag_fail(AG_ERR_IO, "%s has no config.json, but %s: name the file itself",
                                files->path, entries[0]->d_name)
                      : ag_fail(AG_ERR_IO, "%s has no config.json: " AG_A_MODEL_IS, files->path);

    for (int i = 0; i < n_entries; i++) {
        free(entries[i]);
    }
    if (n_entries >= 0) {
        free(entries);
    }
    return status;
}

ag_status_t ag_model_files_open_folder(ag_model_files_t *files)
{
    ag_json_t *index = NULL;
    struct stat info;
    const char *single_path;
    ag_status_t status = ag_model_files_read_json(files, "config.json", &files->config);

    if (status == AG_OK && files->config == NULL) {
        status = fail_no_config(files);
    }
    if (status == AG_OK) {
        status =
            ag_model_files_read_json(files, "generation_config.json", &files->generation_config);
    }
    if (status == AG_OK) {
        status = ag_model_files_read_json(files, INDEX_NAME, &index);
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
    if (status == AG_OK) {
        status = ag_scaled_attach(files);
    }
    if (status == AG_OK) {
        status = ag_mxfp4_join(files);
    }

destroy_index:
    ag_json_destroy(index);
    return status;
}
