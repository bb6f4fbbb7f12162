#include "spec_of.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
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
    static const char no_weights[] = "\2\0\0\0\0\0\0\0{}";
    char folder[] = "/tmp/argosy-layers-XXXXXX", path[64], weights[64], text[2048];
    const ag_family_t *family;
    ag_model_files_t *files;
    ag_status_t status;
    int n;

    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/config.json", folder);
    snprintf(weights, sizeof(weights), "%s/model.safetensors", folder);
    n = snprintf(text, sizeof(text), "{%s, %s}", sizes, more);
    write_file(path, text, (size_t)n);
    write_file(weights, no_weights, sizeof(no_weights) - 1);
    cr_assert_eq(ag_model_files_open(folder, &files), AG_OK, "%s", ag_error());
    status = ag_spec_load(files, spec_p, &family);
    ag_model_files_close(files);
    unlink(path);
    unlink(weights);
    rmdir(folder);
    return status;
}
