#include "spec_of.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char sizes[] =
    "\"num_hidden_layers\": 4, \"hidden_size\": 36, \"vocab_size\": 20, \"intermediate_size\": 8, "
    "\"max_position_embeddings\": 2048, \"num_attention_heads\": 3, \"num_key_value_heads\": 1, "
    "\"head_dim\": 8, \"rms_norm_eps\": 1e-6";

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");

    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, n, file), n);
    fclose(file);
}

ag_status_t spec_of(const char *more, ag_spec_t **spec_p)
{
    char text[2048];

    snprintf(text, sizeof(text), "{%s, %s}", sizes, more);
    return spec_of_config(text, NULL, spec_p);
}

ag_status_t spec_of_config(const char *config, ag_array_t *unused_p, ag_spec_t **spec_p)
{
    static const char no_weights[] = "\2\0\0\0\0\0\0\0{}";
    char folder[] = "/tmp/argosy-layers-XXXXXX", path[64], weights[64];
    ag_model_t model;
    ag_status_t status;

    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/config.json", folder);
    snprintf(weights, sizeof(weights), "%s/model.safetensors", folder);
    write_file(path, config, strlen(config));
    write_file(weights, no_weights, sizeof(no_weights) - 1);
    cr_assert_eq(ag_model_files_open(folder, &model.files), AG_OK, "%s", ag_error());
    status = ag_spec_load(model.files, spec_p, &model.family);
    if (status == AG_OK && unused_p != NULL) {
        status = ag_unused_settings(&model, unused_p);
    }
    ag_model_files_close(model.files);
    unlink(path);
    unlink(weights);
    rmdir(folder);
    return status;
}

ag_status_t spec_of_gguf(ag_gguf_metadata_t *metadata, ag_spec_t **spec_p)
{
    struct {
        char magic[4];
        uint32_t version;
        uint64_t n_tensors, n_entries;
    } head = {{'G', 'G', 'U', 'F'}, 3, 0, metadata->n_entries};
    char path[] = "/tmp/argosy-settings-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "wb");
    const ag_family_t *family;
    ag_model_files_t *files;
    ag_status_t status;

    cr_assert_not_null(file);
    cr_assert_eq(fwrite(&head, sizeof(head), 1, file), 1);
    cr_assert_eq(fwrite(metadata->bytes.items, metadata->bytes.n_items, 1, file), 1);
    fclose(file);
    cr_assert_eq(ag_model_files_open(path, &files), AG_OK, "%s", ag_error());
    status = ag_spec_load(files, spec_p, &family);
    ag_model_files_close(files);
    unlink(path);
    ag_gguf_metadata_fini(metadata);
    return status;
}
