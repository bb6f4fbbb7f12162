/* Gemma 2: Gemma Team 2024; transformers' modeling_gemma2.py. Every other layer has a window;
 * scores and logits are capped. */
#include "runtime/model/family_priv.h"

/* As llama.cpp's llama-model.cpp has it. */
enum { PERIOD = 2, LAYERS_OF_27B = 46 };

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_CAPPED_KEYS,
    {AG_SETTING_FIELD(score_cap), AG_SETTING_REAL, false, "attn_logit_softcapping",
     "attn_logit_softcapping"},
    {0},
};

/* transformers' configuration_gemma2.py. */
static const ag_default_t defaults[] = {
    AG_CAPPED_DEFAULTS,
    {.offset = AG_SETTING_FIELD(window_tokens), .hf = 4096, .gguf = 4096, .is_null = true},
    {.offset = AG_SETTING_FIELD(score_cap), .hf = 50, .gguf = 50, .is_null = true},
    {.offset = AG_SETTING_FIELD(logit_cap), .hf = 30, .gguf = 30, .is_null = true},
    {0},
};

static const ag_name_row_t names[] = {
    AG_NORMS_AROUND_NAMES(AG_TRANSFORM_ADD_1),
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_GLU_NAMES,
    {0},
};

extern const ag_family_t ag_family_gemma2;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_status_t status =
        ag_family_adjust_capped(files, &ag_family_gemma2, settings, LAYERS_OF_27B, spec);

    return status == AG_OK ? ag_family_alternate(files, settings, PERIOD, spec) : status;
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    ag_status_t status = ag_family_restore_alternate(spec, gguf, PERIOD, settings);

    if (gguf && (spec->logit_cap == 0 || spec->layer_kinds[0].score_cap == 0)) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model caps no scores, or no logits: GGUF files of "
                                           "its architecture always do");
    }
    return status == AG_OK ? ag_family_restore_capped(spec, gguf, LAYERS_OF_27B, settings) : status;
}

const ag_family_t ag_family_gemma2 = {
    .name = "gemma2",
    .hf_model_type = "gemma2",
    .hf_class = "Gemma2ForCausalLM",
    .hf_act = "hidden_activation",
    .gguf_arch = "gemma2",
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
