/* Mistral: Jiang et al. 2023; transformers' modeling_mistral.py. GGUF files call it llama, and say
 * nothing of a window but for ours. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {0},
};

/* transformers' configuration_mistral.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 8},
    {.offset = AG_SETTING_FIELD(window_tokens), .hf = 4096, .is_null = true},
    {0},
};

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES,
    AG_GLU_NAMES,
    {0},
};

extern const ag_family_t ag_family_mistral;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    ag_settings_t windowed = *settings;
    ag_status_t status;

    windowed.has_window = true;
    ag_family_complete(files, &ag_family_mistral, spec);
    if (layer->rope.rotary != layer->head_dim) { /* the transform of q and k moves whole heads */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: a rope over %u of a head's %u dimensions is not known of this "
                       "architecture",
                       ag_model_files_path(files), layer->rope.rotary, layer->head_dim);
    }
    status = ag_family_activation(files, ag_family_mistral.hf_act, AG_ACT_SILU, &layer->ffn_act);
    return status == AG_OK
               ? ag_family_windows(files, &ag_family_mistral, &windowed, AG_WINDOWS_ALL, spec)
               : status;
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    ag_family_restore_windows(spec, settings);
    return ag_family_check_act(spec, gguf, AG_ACT_SILU);
}

const ag_family_t ag_family_mistral = {
    .name = "mistral",
    .hf_model_type = "mistral",
    .hf_class = "MistralForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "llama",
    .gguf_mark = "attention.sliding_window",
    .gguf_window_is_ours = true,
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
