/* Mistral: Jiang et al. 2023; transformers' modeling_mistral.py. GGUF files call it llama, and say
 * nothing of a window but for ours. */
#include "runtime/model/family_priv.h"

enum { DEFAULT_WINDOW = 4096 }; /* of a config.json that does not say, not even null */

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
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
    const ag_json_t *config = ag_model_files_config(files);
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    ag_family_complete(files, &ag_family_mistral, spec);
    layer->window_tokens = settings->window_tokens;
    if (layer->rope.rotary != layer->head_dim) { /* the transform of q and k moves whole heads */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: a rope over %u of a head's %u dimensions is not known of this "
                       "architecture",
                       ag_model_files_path(files), layer->rope.rotary, layer->head_dim);
    }
    if (config != NULL && ag_json_get(config, "sliding_window") == NULL) {
        layer->window_tokens = DEFAULT_WINDOW;
    }
    return ag_family_activation(files, ag_family_mistral.hf_act, AG_ACT_SILU, &layer->ffn_act);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    settings->window_tokens = spec->layer_kinds[0].window_tokens;
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
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
