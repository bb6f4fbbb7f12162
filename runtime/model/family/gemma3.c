/* Gemma 3, text: Gemma Team 2025; transformers' modeling_gemma3.py. Of six layers five have a
 * window and a rope of their own. */
#include <math.h>
#include <string.h>

#include "runtime/model/family_priv.h"

/* What files leave unsaid: transformers' configuration_gemma3.py and llama.cpp's llama-model.cpp.
 */
enum { PERIOD = 6, LAYERS_OF_27B = 62 };
static const double window_rope_base = 10000;

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_CAPPED_KEYS,
    {AG_SETTING_FIELD(window_rope_base), AG_SETTING_REAL, false,
     "rope_parameters.sliding_attention.rope_theta|rope_local_base_freq", "rope.freq_base_swa"},
    {0},
};

static const ag_name_row_t names[] = {
    AG_NORMS_AROUND_NAMES(AG_TRANSFORM_ADD_1),
    {AG_ROLE_Q_NORM, "model.layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight",
     AG_TRANSFORM_ADD_1, AG_STACK_NONE},
    {AG_ROLE_K_NORM, "model.layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight",
     AG_TRANSFORM_ADD_1, AG_STACK_NONE},
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_GLU_NAMES,
    {0},
};

extern const ag_family_t ag_family_gemma3;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    const char *type = ag_json_string(
        ag_json_path(ag_model_files_config(files), "rope_parameters.sliding_attention.rope_type"),
        NULL);
    ag_rope_spec_t *rope;
    ag_status_t status;

    if (type != NULL && strcmp(type, "default") != 0) {
        return ag_fail(
            AG_ERR_UNSUPPORTED,
            "%s: a \"%s\" rope of layers with a window is not known of this architecture",
            ag_model_files_path(files), type);
    }
    spec->layer_kinds[0].qk_norm = AG_QK_NORM_HEADS;
    status = ag_family_adjust_capped(files, &ag_family_gemma3, settings, LAYERS_OF_27B, spec);
    if (status == AG_OK) {
        status = ag_family_alternate(files, settings, PERIOD, spec);
    }
    rope = &spec->layer_kinds[1].rope;
    rope->kind = AG_ROPE_DEFAULT;
    rope->base = settings->window_rope_base > 0 ? settings->window_rope_base : window_rope_base;
    return status;
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    ag_status_t status = ag_family_restore_alternate(spec, gguf, PERIOD, settings);

    settings->window_rope_base = spec->layer_kinds[1].rope.base;
    return status == AG_OK ? ag_family_restore_capped(spec, gguf, LAYERS_OF_27B, settings) : status;
}

const ag_family_t ag_family_gemma3 = {
    .name = "gemma3",
    .hf_model_type = "gemma3_text",
    .hf_class = "Gemma3ForCausalLM",
    .hf_act = "hidden_activation",
    .gguf_arch = "gemma3",
    .keys = keys,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
