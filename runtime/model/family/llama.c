/* Llama 1 to 3 and what shares their form: Touvron et al. 2023; transformers' modeling_llama.py. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL},
    {AG_SETTING_FIELD(mlp_bias), AG_SETTING_BOOL, false, "mlp_bias", NULL},
    {0},
};

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES,
    AG_GLU_NAMES,
    {AG_ROLE_GATE_BIAS, "model.layers.%u.mlp.gate_proj.bias", "blk.%u.ffn_gate.bias",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_UP_BIAS, "model.layers.%u.mlp.up_proj.bias", "blk.%u.ffn_up.bias", AG_TRANSFORM_NONE,
     AG_STACK_NONE},
    {AG_ROLE_DOWN_BIAS, "model.layers.%u.mlp.down_proj.bias", "blk.%u.ffn_down.bias",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {0},
};

extern const ag_family_t ag_family_llama;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    const ag_json_t *config = ag_model_files_config(files);
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    ag_family_complete(files, &ag_family_llama, spec);
    if (layer->rope.rotary != layer->head_dim) { /* the transform of q and k moves whole heads */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: a rope over %u of a head's %u dimensions is not known of this "
                       "architecture",
                       ag_model_files_path(files), layer->rope.rotary, layer->head_dim);
    }
    if (config != NULL) {
        layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = settings->attention_bias;
        layer->ffn_bias = settings->mlp_bias;
        return ag_family_activation(files, ag_family_llama.hf_act, AG_ACT_SILU, &layer->ffn_act);
    }
    ag_family_find_biases(files, &ag_family_llama, layer);
    layer->ffn_bias = ag_model_files_find(files, "blk.0.ffn_down.bias") != NULL;
    layer->ffn_act = AG_ACT_SILU;
    return AG_OK;
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    if (!gguf && (layer->k_bias != layer->q_bias || layer->v_bias != layer->q_bias ||
                  layer->o_bias != layer->q_bias)) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model has biases on some of its attention's "
                                           "matrices, which config.json cannot say");
    }
    settings->attention_bias = layer->q_bias;
    settings->mlp_bias = layer->ffn_bias;
    return ag_family_check_act(spec, gguf, AG_ACT_SILU);
}

const ag_family_t ag_family_llama = {
    .name = "llama",
    .hf_model_type = "llama",
    .hf_class = "LlamaForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "llama",
    .keys = keys,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
