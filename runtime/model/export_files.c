/* The weights of an export as files. */
#include <stdio.h>
#include <string.h>

#include "runtime/model/export_priv.h"

#define INDEX_NAME "model.safetensors.index.json"

static const uint64_t usual_shard_bytes = 5000000000; /* as transformers cuts them */

/* @param metadata  NULL: a safetensors file */
static ag_status_t write_all(ag_export_t *export, const ag_gguf_metadata_t *metadata,
                             ag_aside_t *aside)
{
    ag_tensor_writer_t *writer;
    ag_status_t status = ag_tensor_writer_create(aside, metadata, &writer);

    if (status == AG_OK) {
        status = ag_export_stream(export, 0, export->tensors.n_items, writer);
        ag_tensor_writer_destroy(writer);
    }
    return status;
}

ag_status_t ag_export_to_gguf(ag_export_t *export, const ag_gguf_metadata_t *metadata,
                              ag_aside_t *aside)
{
    return write_all(export, metadata, aside);
}

ag_status_t ag_export_to_safetensors(ag_export_t *export, ag_aside_t *aside)
{
    return write_all(export, NULL, aside);
}

/* Where the shard ends that begins with a tensor: before it would be too large, but not empty. */
static size_t shard_end(const ag_export_t *export, size_t begin)
{
    const ag_export_tensor_t *tensors = AG_ITEMS(&export->tensors, ag_export_tensor_t);
    uint64_t bytes = ag_export_tensor_bytes(&tensors[begin]);
    uint64_t most = export->opts.shard_bytes > 0 ? export->opts.shard_bytes : usual_shard_bytes;
    size_t end = begin + 1;

    while (end < export->tensors.n_items) {
        bytes += ag_export_tensor_bytes(&tensors[end]);
        if (bytes > most) {
            break;
        }
        end++;
    }
    return end;
}

static unsigned count_shards(const ag_export_t *export)
{
    unsigned n = 0;

    for (size_t at = 0; at < export->tensors.n_items; at = shard_end(export, at)) {
        n++;
    }
    return n;
}

static ag_status_t write_shard(ag_export_t *export, ag_folder_t *folder, const char *name,
                               size_t begin, size_t end)
{
    ag_aside_t *aside;
    ag_tensor_writer_t *writer;
    ag_status_t status = ag_folder_add(folder, name, &aside);

    if (status == AG_OK) {
        status = ag_tensor_writer_create(aside, NULL, &writer);
    }
    if (status == AG_OK) {
        status = ag_export_stream(export, begin, end, writer);
        ag_tensor_writer_destroy(writer);
    }
    return status == AG_OK ? ag_aside_seal(aside) : status;
}

ag_status_t ag_export_to_folder(ag_export_t *export, ag_folder_t *folder)
{
    const ag_export_tensor_t *tensors = AG_ITEMS(&export->tensors, ag_export_tensor_t);
    unsigned n_shards = count_shards(export), shard = 0;
    ag_json_t *index = ag_json_new_object(), *map = ag_json_new_object();
    ag_json_t *facts = ag_json_new_object();
    ag_status_t status = AG_OK;

    for (size_t begin = 0, end; begin < export->tensors.n_items && status == AG_OK; begin = end) {
        char name[64] = "model.safetensors";

        end = shard_end(export, begin);
        if (n_shards > 1) {
            snprintf(name, sizeof(name), "model-%05u-of-%05u.safetensors", ++shard, n_shards);
        }
        for (size_t i = begin; i < end; i++) {
            ag_json_set(map, tensors[i].name, ag_json_new_string(name, strlen(name)));
        }
        status = write_shard(export, folder, name, begin, end);
    }
    ag_json_set(facts, "total_size", ag_json_new_integer((int64_t) export->facts.bytes));
    ag_json_set(index, "metadata", facts);
    ag_json_set(index, "weight_map", map);
    if (status == AG_OK && n_shards > 1) {
        return ag_folder_add_json(folder, INDEX_NAME, index);
    }
    ag_json_destroy(index);
    return status;
}

bool ag_export_is_old(const char *name)
{
    static const char ending[] = ".safetensors";
    size_t n = strlen(name), n_ending = sizeof(ending) - 1;

    return strcmp(name, "config.json") == 0 || strcmp(name, "generation_config.json") == 0 ||
           strcmp(name, "tokenizer.json") == 0 || strcmp(name, "tokenizer_config.json") == 0 ||
           strcmp(name, "chat_template.jinja") == 0 || strcmp(name, INDEX_NAME) == 0 ||
           (strncmp(name, "model", strlen("model")) == 0 && n > n_ending &&
            strcmp(name + n - n_ending, ending) == 0);
}
