#include "runtime/model/family.h"

#include <math.h>
#include <stdio.h>

#include "runtime/model/family_priv.h"

/* clang-format off */
/* The first that its marks fit is taken. */
#define FAMILIES(_)                                                                                \
    _(deepseek_v3) _(deepseek_v2) _(gpt2) _(gpt_oss) _(mixtral) _(mistral) _(llama) _(gemma2)      \
    _(gemma3) _(olmo2) _(olmoe) _(phi3) _(qwen2) _(qwen2_moe) _(qwen3) _(qwen3_moe) _(starcoder2)

#define DECLARE(name) extern const ag_family_t ag_family_##name;
#define POINTER(name) &ag_family_##name,

FAMILIES(DECLARE)

const ag_family_t *const ag_families[] = {FAMILIES(POINTER) NULL};
/* clang-format on */

const ag_name_row_t *ag_family_row(const ag_family_t *family, ag_role_t role, bool gguf)
{
    for (const ag_name_row_t *row = family->names; row->hf != NULL || row->gguf != NULL; row++) {
        if (row->role == role && (gguf ? row->gguf : row->hf) != NULL) {
            return row;
        }
    }
    return NULL;
}

ag_transform_t ag_family_transform(const ag_name_row_t *row, bool gguf)
{
    bool is_of_gguf =
        row->transform == AG_TRANSFORM_UNPERMUTE_ROPE || row->transform == AG_TRANSFORM_TURN_HEADS;
    ag_transform_t transform =
        row->transform == AG_TRANSFORM_TRANSPOSE_FLOATS ? AG_TRANSFORM_TRANSPOSE : row->transform;

    return is_of_gguf == gguf ? transform : AG_TRANSFORM_NONE;
}

void ag_family_name(const char *pattern, uint32_t layer, uint32_t expert,
                    char name[AG_TENSOR_NAME_BYTES])
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(name, AG_TENSOR_NAME_BYTES, pattern, layer, expert); /* our own tables': two %u at
                                                                     most */
#pragma GCC diagnostic pop
}

ag_found_tensor_t ag_family_find(const ag_family_t *family, const ag_model_files_t *files,
                                 ag_role_t role, uint32_t layer, uint32_t expert)
{
    bool gguf = ag_model_files_gguf(files) != NULL;
    ag_found_tensor_t found = {0};

    for (const ag_name_row_t *row = family->names; row->hf != NULL || row->gguf != NULL; row++) {
        const char *pattern = gguf ? row->gguf : row->hf;
        char name[sizeof(found.name)];

        if (row->role != role || pattern == NULL) {
            continue;
        }
        ag_family_name(pattern, layer, expert, name);
        found.tensor = ag_model_files_find(files, name);
        if (found.tensor != NULL || found.name[0] == '\0') {
            snprintf(found.name, sizeof(found.name), "%s", name);
            found.transform = ag_family_transform(row, gguf);
            found.stack = row->stack;
        }
        if (found.tensor != NULL && row->transform == AG_TRANSFORM_TRANSPOSE_FLOATS &&
            found.tensor->dtype == AG_MXFP4) {
            found.transform = AG_TRANSFORM_NONE;
        }
        if (found.tensor != NULL) {
            break;
        }
    }
    return found;
}

static bool has(const ag_model_files_t *files, const ag_family_t *family, ag_role_t role)
{
    return ag_family_find(family, files, role, 0, 0).tensor != NULL;
}

void ag_family_complete(const ag_model_files_t *files, const ag_family_t *family, ag_spec_t *spec)
{
    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        spec->layer_kinds[i].attention_scale = 1.0f / sqrtf((float)spec->layer_kinds[i].head_dim);
    }
    if (ag_model_files_gguf(files) != NULL) {
        spec->tied = !has(files, family, AG_ROLE_HEAD);
    }
}

void ag_family_find_biases(const ag_model_files_t *files, const ag_family_t *family,
                           ag_layer_spec_t *layer)
{
    layer->q_bias = has(files, family, AG_ROLE_Q_BIAS);
    layer->k_bias = has(files, family, AG_ROLE_K_BIAS);
    layer->v_bias = has(files, family, AG_ROLE_V_BIAS);
    layer->o_bias = has(files, family, AG_ROLE_O_BIAS);
}
