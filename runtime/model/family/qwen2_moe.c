/* Qwen1.5-MoE and Qwen2-MoE: Yang et al. 2024; transformers' modeling_qwen2_moe.py. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_EXPERT_KEYS,
    {AG_SETTING_FIELD(shared_width), AG_SETTING_U32, true, "shared_expert_intermediate_size",
     "expert_shared_feed_forward_length"},
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "qkv_bias", NULL},
    {AG_SETTING_FIELD(sparse_step), AG_SETTING_U32, false, "decoder_sparse_step", NULL},
    {AG_SETTING_FIELD(has_window), AG_SETTING_BOOL, false, "use_sliding_window", NULL},
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {AG_SETTING_FIELD(first_window_layer), AG_SETTING_U32, false, "max_window_layers", NULL},
    {0},
};

/* transformers' configuration_qwen2_moe.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 16},
    {.offset = AG_SETTING_FIELD(attention_bias), .hf = true, .gguf = true},
    {.offset = AG_SETTING_FIELD(expert_width), .hf = 1408},
    {.offset = AG_SETTING_FIELD(sparse_step), .hf = 1, .gguf = 1},
    AG_WINDOW_DEFAULTS,
    {0},
};

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_NORMS_BEFORE_NAMES,
    AG_GLU_NAMES, /* of layers without experts */
    AG_EXPERT_NAMES,
    AG_SHARED_NAMES("shared_expert"),
    {AG_ROLE_SHARED_SCALE, "model.layers.%u.mlp.shared_expert_gate.weight",
     "blk.%u.ffn_gate_inp_shexp.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {0},
};

extern const ag_family_t ag_family_qwen2_moe;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    ag_status_t status =
        ag_family_activation(files, ag_family_qwen2_moe.hf_act, AG_ACT_SILU, &layer->ffn_act);

    ag_family_complete(files, &ag_family_qwen2_moe, spec);
    layer->q_bias = layer->k_bias = layer->v_bias = settings->attention_bias;
    layer->shared_is_gated = layer->shared_width > 0;
    if (status == AG_OK) {
        status = ag_family_find_dense(files, settings, spec);
    }
    return status == AG_OK
               ? ag_family_windows(files, &ag_family_qwen2_moe, settings, AG_WINDOWS_BY_TURNS, spec)
               : status;
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    ag_status_t status = ag_family_restore_experts(spec, gguf, false, settings);

    settings->attention_bias = spec->layer_kinds[0].q_bias;
    ag_family_restore_windows(spec, settings);
    return status == AG_OK ? ag_family_check_act(spec, gguf, AG_ACT_SILU) : status;
}

const ag_family_t ag_family_qwen2_moe = {
    .name = "qwen2_moe",
    .hf_model_type = "qwen2_moe",
    .hf_class = "Qwen2MoeForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "qwen2moe",
    .gguf_window_is_ours = true,
    .gguf_lists_windows = true,
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
