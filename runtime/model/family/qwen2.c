/* Qwen 2 and 2.5: Yang et al. 2024; transformers' modeling_qwen2.py. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    {AG_SETTING_FIELD(has_window), AG_SETTING_BOOL, false, "use_sliding_window", NULL},
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {AG_SETTING_FIELD(first_window_layer), AG_SETTING_U32, false, "max_window_layers", NULL},
    {0},
};

/* transformers' configuration_qwen2.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 32},
    AG_WINDOW_DEFAULTS,
    {0},
};

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_NORMS_BEFORE_NAMES,
    AG_GLU_NAMES,
    {0},
};

extern const ag_family_t ag_family_qwen2;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    ag_status_t status;

    ag_family_complete(files, &ag_family_qwen2, spec);
    layer->q_bias = layer->k_bias = layer->v_bias = true;
    status = ag_family_activation(files, ag_family_qwen2.hf_act, AG_ACT_SILU, &layer->ffn_act);
    return status == AG_OK
               ? ag_family_windows(files, &ag_family_qwen2, settings, AG_WINDOWS_FROM, spec)
               : status;
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    ag_family_restore_windows(spec, settings);
    return ag_family_check_act(spec, gguf, AG_ACT_SILU);
}

const ag_family_t ag_family_qwen2 = {
    .name = "qwen2",
    .hf_model_type = "qwen2",
    .hf_class = "Qwen2ForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "qwen2",
    .gguf_window_is_ours = true,
    .gguf_lists_windows = true,
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
