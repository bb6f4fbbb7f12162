/* OLMo 2: OLMo et al. 2024; transformers' modeling_olmo2.py. Norms stand behind attention and the
 * feed-forward part, none before them, and over all of q and of k. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL},
    {0},
};

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_GLU_NAMES,
    {AG_ROLE_ATTN_POST_NORM, "model.layers.%u.post_attention_layernorm.weight",
     "blk.%u.post_attention_norm.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_FFN_POST_NORM, "model.layers.%u.post_feedforward_layernorm.weight",
     "blk.%u.post_ffw_norm.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {0},
};

extern const ag_family_t ag_family_olmo2;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    ag_family_complete(files, &ag_family_olmo2, spec);
    layer->norms_before = false;
    layer->norms_after = true;
    layer->qk_norm = AG_QK_NORM_WHOLE;
    if (ag_model_files_gguf(files) != NULL) {
        ag_family_find_biases(files, &ag_family_olmo2, layer);
    } else {
        layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = settings->attention_bias;
    }
    return ag_family_activation(files, ag_family_olmo2.hf_act, AG_ACT_SILU, &layer->ffn_act);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    settings->attention_bias = spec->layer_kinds[0].q_bias;
    return ag_family_check_plain(spec, gguf, AG_ACT_SILU);
}

const ag_family_t ag_family_olmo2 = {
    .name = "olmo2",
    .hf_model_type = "olmo2",
    .hf_class = "Olmo2ForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "olmo2",
    .keys = keys,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
