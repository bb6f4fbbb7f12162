/* What families share whose keys and values come from a latent vector: DeepSeek V2 and V3. */
#include <math.h>

#include "runtime/model/family_priv.h"

/* transformers' modules have it of their own, whatever other norms add. */
static const float folders_eps = 1e-6f;

static void complete_scale(const ag_model_files_t *files, ag_layer_spec_t *layer)
{
    ag_rope_spec_t *rope = &layer->rope;
    double all = ag_yarn_magnitude(rope->factor, rope->mscale_all_dim);

    if (rope->kind == AG_ROPE_DEFAULT) {
        return;
    }
    if (ag_model_files_gguf(files) != NULL && rope->kind == AG_ROPE_YARN &&
        rope->attention_factor == 0 && rope->mscale > 0) { /* both are one */
        rope->attention_factor = 1;
    }
    if (rope->mscale_all_dim > 0) {
        layer->attention_scale *= (float)(all * all);
    }
}

static ag_status_t complete_heads(const ag_model_files_t *files, const ag_settings_t *settings,
                                  ag_layer_spec_t *layer)
{
    layer->head_dim = ag_model_files_gguf(files) != NULL ? settings->head_dim
                                                         : settings->nope_dim + settings->rotary;
    layer->value_dim = settings->value_dim;
    if (settings->expanded_head_dim > 0) { /* the others say what a cache of latents holds */
        layer->head_dim = settings->expanded_head_dim;
        layer->value_dim = settings->expanded_value_dim;
    }
    layer->n_kv_heads = layer->n_heads;
    layer->kv_rank = settings->kv_rank;
    layer->q_rank = settings->q_rank;
    if (settings->rotary == 0 || settings->rotary >= layer->head_dim || layer->value_dim == 0 ||
        layer->value_dim > layer->head_dim || settings->kv_rank == 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: heads of %u dimensions of which %u rotate, values of %u, from a latent "
                       "vector of %u: one of these makes no sense",
                       ag_model_files_path(files), layer->head_dim, settings->rotary,
                       layer->value_dim, settings->kv_rank);
    }
    layer->attention_scale = 1.0f / sqrtf((float)layer->head_dim);
    return AG_OK;
}

ag_status_t ag_family_latent(const ag_model_files_t *files, const ag_family_t *family,
                             const ag_settings_t *settings, ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    ag_status_t status;

    ag_family_complete(files, family, spec);
    status = complete_heads(files, settings, layer);
    if (status == AG_OK && (settings->attention_bias || layer->route.n_experts == 0 ||
                            settings->n_dense >= spec->n_layers)) {
        status = ag_fail(AG_ERR_UNSUPPORTED,
                         "%s: biases in attention, or no layer with experts, are not known of this "
                         "architecture",
                         ag_model_files_path(files));
    }
    if (status == AG_OK) {
        status = ag_family_activation(files, family->hf_act, AG_ACT_SILU, &layer->ffn_act);
    }
    if (status != AG_OK) {
        return status;
    }
    if (settings->log_multiplier > 0) { /* 0.1 * mscale_all_dim, which mscale equals there */
        layer->rope.mscale = layer->rope.mscale_all_dim = 10 * settings->log_multiplier;
    }
    complete_scale(files, layer);
    layer->latent_norm_eps = ag_model_files_gguf(files) != NULL ? spec->norm_eps : folders_eps;
    layer->rope_by_turns = true;
    layer->shared_width = settings->n_shared_experts * layer->ffn_width;
    if (settings->n_dense > 0) {
        uint32_t kind = ag_family_dense_kind(spec, settings->ffn_width);

        for (uint32_t i = 0; i < settings->n_dense; i++) {
            spec->kind_of_layer[i] = (uint8_t)kind;
        }
    }
    return AG_OK;
}

/* Does what multiplies cos and sin come from the two scales? */
static bool follows(const ag_rope_spec_t *rope)
{
    double both = ag_yarn_magnitude(rope->factor, rope->mscale) /
                  ag_yarn_magnitude(rope->factor, rope->mscale_all_dim);

    return rope->kind == AG_ROPE_YARN && rope->mscale > 0 &&
           fabs(rope->attention_factor - both) < 1e-6;
}

ag_status_t ag_family_restore_latent(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    settings->kv_rank = layer->kv_rank;
    settings->q_rank = layer->q_rank;
    settings->value_dim = layer->value_dim;
    settings->nope_dim = layer->head_dim - layer->rope.rotary;
    if (gguf) { /* as one key-value head of latents, and what that is expanded to */
        settings->n_kv_heads = 1;
        settings->head_dim = layer->kv_rank + layer->rope.rotary;
        settings->value_dim = layer->kv_rank;
        settings->expanded_head_dim = layer->head_dim;
        settings->expanded_value_dim = layer->value_dim;
    }
    settings->n_shared_experts = layer->shared_width / layer->ffn_width;
    settings->expert_gating = layer->route.score == AG_SCORE_SIGMOID ? 2 : 1;
    settings->log_multiplier = 0.1 * layer->rope.mscale_all_dim;
    settings->expert_width = layer->ffn_width;
    settings->ffn_width = spec->layer_kinds[spec->n_layer_kinds - 1].ffn_width;
    while (settings->n_dense < spec->n_layers && spec->kind_of_layer[settings->n_dense] > 0) {
        settings->n_dense++;
    }
    if (gguf && layer->rope.mscale != layer->rope.mscale_all_dim) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model's yarn rope has two unlike scales, which "
                                           "GGUF files of its architecture cannot say");
    }
    if (follows(&layer->rope)) {
        settings->rope.attention_factor = 0;
    }
    if (gguf && (!layer->rope_by_turns || settings->rope.attention_factor != 0 ||
                 (layer->rope.kind == AG_ROPE_YARN && layer->rope.mscale_all_dim == 0))) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model's rope turns other pairs, or multiplies by something else, than "
                       "GGUF files of its architecture can say");
    }
    if (layer->latent_norm_eps != (gguf ? spec->norm_eps : folders_eps)) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model's norms of latent vectors add %g to a mean square, others %g, "
                       "which such files cannot say",
                       (double)layer->latent_norm_eps, (double)spec->norm_eps);
    }
    settings->n_expert_groups += settings->n_expert_groups == 0; /* all in one */
    settings->n_expert_groups_used += settings->n_expert_groups_used == 0;
    return ag_family_check_act(spec, gguf, AG_ACT_SILU);
}
