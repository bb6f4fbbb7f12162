/* Gemma 3, text: Gemma Team 2025; transformers' modeling_gemma3.py. Of six layers five have a
 * window and a rope of their own. */
#include <math.h>
#include <string.h>

#include "runtime/base/quote.h"
#include "runtime/model/family_priv.h"

/* As llama.cpp's llama-model.cpp has it. */
enum { PERIOD = 6, LAYERS_OF_27B = 62 };

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_CAPPED_KEYS,
    {AG_SETTING_FIELD(window_rope_base), AG_SETTING_REAL, false,
     "rope_parameters.sliding_attention.rope_theta|rope_local_base_freq", "rope.freq_base_swa"},
    {0},
};

/* transformers' configuration_gemma3.py. */
static const ag_default_t defaults[] = {
    AG_CAPPED_DEFAULTS,
    {.offset = AG_SETTING_FIELD(window_tokens), .hf = 4096, .is_null = true},
    {.offset = AG_SETTING_FIELD(rope.base), .hf = 1e6},
    {.offset = AG_SETTING_FIELD(window_rope_base), .hf = 10000, .gguf = 10000},
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

/* Layers with a window have a plain one. */
static ag_status_t check_window_rope(const ag_model_files_t *files)
{
    static const char *const paths[] = {"rope_parameters.sliding_attention.rope_type",
                                        "rope_parameters.sliding_attention.type"};

    for (int i = 0; i < 2 && ag_model_files_gguf(files) == NULL; i++) {
        ag_setting_text_t type;
        ag_status_t status = ag_setting_text(files, paths[i], NULL, &type);

        if (status != AG_OK) {
            return status;
        }
        if (type.is_there && strcmp(type.room, "default") != 0) {
            return ag_fail(
                AG_ERR_UNSUPPORTED,
                "%s: a \"%s\" rope of layers with a window is not known of this architecture",
                ag_model_files_path(files), ag_quote_string(type.room).text);
        }
    }
    return AG_OK;
}

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_rope_spec_t *rope;
    ag_status_t status = check_window_rope(files);

    if (status != AG_OK) {
        return status;
    }
    spec->layer_kinds[0].qk_norm = AG_QK_NORM_HEADS;
    status = ag_family_adjust_capped(files, &ag_family_gemma3, settings, LAYERS_OF_27B, spec);
    if (status == AG_OK) {
        status = ag_family_alternate(files, settings, PERIOD, spec);
    }
    rope = &spec->layer_kinds[1].rope;
    rope->kind = AG_ROPE_DEFAULT;
    rope->base = settings->window_rope_base;
    if (status == AG_OK && !(rope->base > 0)) {
        return ag_fail(AG_ERR_FORMAT, "%s: the base of the rope of layers with a window is %g",
                       ag_model_files_path(files), rope->base);
    }
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
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
