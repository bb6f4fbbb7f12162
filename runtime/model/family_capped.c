/* What families of capped scores and logits have alike: norms before and behind, embeddings scaled
 * by the square root of their width, a scale of scores that GGUF files do not say. */
#include <math.h>

#include "runtime/model/family_priv.h"

/* As llama.cpp has it. */
static uint32_t implied_query_scalar(const ag_spec_t *spec, uint32_t n_layers_of_wide)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    return spec->n_layers == n_layers_of_wide ? spec->hidden / layer->n_heads : layer->head_dim;
}

static float scale_of(uint32_t query_scalar)
{
    return (float)(1 / sqrt((double)query_scalar));
}

ag_status_t ag_family_adjust_capped(const ag_model_files_t *files, const ag_family_t *family,
                                    const ag_settings_t *settings, uint32_t n_layers_of_wide,
                                    ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    uint32_t scalar = settings->query_scalar;

    if (settings->score_cap < 0 || settings->logit_cap < 0) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: a cap of scores of %g, or of logits of %g, is below zero",
                       ag_model_files_path(files), settings->score_cap, settings->logit_cap);
    }
    ag_family_complete(files, family, spec);
    spec->embed_scale = (float)sqrt((double)spec->hidden);
    spec->logit_cap = (float)settings->logit_cap;
    if (scalar == 0) {
        scalar = implied_query_scalar(spec, n_layers_of_wide);
    }
    layer->attention_scale = scale_of(scalar);
    layer->score_cap = (float)settings->score_cap;
    layer->norms_after = true;
    layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = settings->attention_bias;
    return ag_family_activation(files, family->hf_act, AG_ACT_GELU_TANH, &layer->ffn_act);
}

ag_status_t ag_family_restore_capped(const ag_spec_t *spec, bool gguf, uint32_t n_layers_of_wide,
                                     ag_settings_t *settings)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];
    double scalar = round(1 / ((double)layer->attention_scale * (double)layer->attention_scale));

    settings->query_scalar = scalar >= 1 && scalar <= UINT32_MAX ? (uint32_t)scalar : 0;
    settings->score_cap = (double)layer->score_cap;
    settings->logit_cap = (double)spec->logit_cap;
    settings->attention_bias = layer->q_bias;
    if (scale_of(settings->query_scalar) != layer->attention_scale ||
        (gguf && settings->query_scalar != implied_query_scalar(spec, n_layers_of_wide))) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model scales its scores by %g, which such files cannot say",
                       (double)layer->attention_scale);
    }
    return ag_family_check_plain(spec, gguf, AG_ACT_GELU_TANH);
}
