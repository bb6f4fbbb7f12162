/* OLMoE: Muennighoff et al. 2024; transformers' modeling_olmoe.py. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_EXPERT_KEYS,
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL},
    {0},
};

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_NORMS_BEFORE_NAMES,
    AG_EXPERT_NAMES,
    {0},
};

extern const ag_family_t ag_family_olmoe;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    ag_family_complete(files, &ag_family_olmoe, spec);
    layer->qk_norm = AG_QK_NORM_WHOLE;
    if (ag_model_files_gguf(files) != NULL) {
        ag_family_find_biases(files, &ag_family_olmoe, layer);
    } else {
        layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = settings->attention_bias;
    }
    if (layer->route.n_experts == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: it has 0 experts, which makes no sense",
                       ag_model_files_path(files));
    }
    return ag_family_activation(files, ag_family_olmoe.hf_act, AG_ACT_SILU, &layer->ffn_act);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];
    ag_status_t status = ag_family_restore_experts(spec, gguf, false, settings);

    settings->attention_bias = layer->q_bias;
    settings->expert_width = 0; /* the feed-forward part's */
    if (status == AG_OK && gguf && layer->n_kv_heads != layer->n_heads) {
        return ag_fail(
            AG_ERR_UNSUPPORTED,
            "the model has %u heads of keys and values for %u of queries, which programs "
            "that read GGUF files of its architecture do not load",
            layer->n_kv_heads, layer->n_heads);
    }
    return status == AG_OK ? ag_family_check_plain(spec, gguf, AG_ACT_SILU) : status;
}

const ag_family_t ag_family_olmoe = {
    .name = "olmoe",
    .hf_model_type = "olmoe",
    .hf_class = "OlmoeForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "olmoe",
    .keys = keys,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
