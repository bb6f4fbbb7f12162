/* Qwen3-MoE: Yang et al. 2025; transformers' modeling_qwen3_moe.py. GGUF files say nothing of
 * whether the experts' weights are normalised: they are, as in every published model. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_EXPERT_KEYS,
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL},
    {AG_SETTING_FIELD(sparse_step), AG_SETTING_U32, false, "decoder_sparse_step", NULL},
    {AG_SETTING_FIELD(has_window), AG_SETTING_BOOL, false, "use_sliding_window", NULL},
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {0},
};

/* transformers' configuration_qwen3_moe.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 4},
    {.offset = AG_SETTING_FIELD(expert_width), .hf = 768},
    {.offset = AG_SETTING_FIELD(sparse_step), .hf = 1, .gguf = 1},
    AG_WINDOW_DEFAULTS,
    {0},
};

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_NORMS_BEFORE_NAMES,
    AG_GLU_NAMES, /* of layers without experts */
    AG_EXPERT_NAMES,
    {0},
};

extern const ag_family_t ag_family_qwen3_moe;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    ag_status_t status =
        ag_family_activation(files, ag_family_qwen3_moe.hf_act, AG_ACT_SILU, &layer->ffn_act);

    ag_family_complete(files, &ag_family_qwen3_moe, spec);
    layer->qk_norm = AG_QK_NORM_HEADS;
    if (ag_model_files_gguf(files) != NULL) {
        ag_family_find_biases(files, &ag_family_qwen3_moe, layer);
        layer->route.sums_to_1 = true;
    } else {
        layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = settings->attention_bias;
    }
    if (status == AG_OK) {
        status = ag_family_find_dense(files, settings, spec);
    }
    return status == AG_OK
               ? ag_family_windows(files, &ag_family_qwen3_moe, settings, AG_WINDOWS_ALL, spec)
               : status;
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    ag_status_t status = ag_family_restore_experts(spec, gguf, true, settings);

    ag_family_restore_windows(spec, settings);
    settings->attention_bias = spec->layer_kinds[0].q_bias;
    return status == AG_OK ? ag_family_check_plain(spec, gguf, AG_ACT_SILU) : status;
}

const ag_family_t ag_family_qwen3_moe = {
    .name = "qwen3_moe",
    .hf_model_type = "qwen3_moe",
    .hf_class = "Qwen3MoeForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "qwen3moe",
    .gguf_window_is_ours = true,
    .gguf_lists_windows = true,
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
