/* Mistral: Jiang et al. 2023; transformers' modeling_mistral.py. GGUF files call it llama, and say
 * nothing of a window but for ours. */
#include <math.h>

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
    {AG_ROLE_GATE, "model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_UP, "model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight", AG_TRANSFORM_NONE,
     AG_STACK_NONE},
    {AG_ROLE_DOWN, "model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {0},
};

extern const ag_family_t ag_family_mistral;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    const ag_json_t *config = ag_model_files_config(files);
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    layer->attention_scale = 1.0f / sqrtf((float)layer->head_dim);
    layer->window_tokens = settings->window_tokens;
    if (layer->rope.rotary != layer->head_dim) { /* the transform of q and k moves whole heads */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: a rope over %u of a head's %u dimensions is not known of this "
                       "architecture",
                       ag_model_files_path(files), layer->rope.rotary, layer->head_dim);
    }
    if (config == NULL) {
        spec->tied = ag_model_files_find(files, "output.weight") == NULL;
    } else if (ag_json_get(config, "sliding_window") == NULL) {
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
    .keys = keys,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
