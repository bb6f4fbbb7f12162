/* Gemma 2: Gemma Team 2024; transformers' modeling_gemma2.py. Every other layer has a window;
 * scores and logits are capped. */
#include "runtime/model/family_priv.h"

/* What files leave unsaid: transformers' configuration_gemma2.py and llama.cpp's llama-model.cpp.
 */
enum { PERIOD = 2, LAYERS_OF_27B = 46, WINDOW = 4096, SCORE_CAP = 50, LOGIT_CAP = 30 };

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_CAPPED_KEYS,
    {0},
};

static const ag_name_row_t names[] = {
    AG_NORMS_AROUND_NAMES(AG_TRANSFORM_ADD_1),
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    AG_GLU_NAMES,
    {0},
};

extern const ag_family_t ag_family_gemma2;

/* A config.json that says null has none; one that says nothing has the default. */
static bool is_unsaid(const ag_model_files_t *files, const char *key)
{
    const ag_json_t *config = ag_model_files_config(files);

    return config == NULL || ag_json_get(config, key) == NULL;
}

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_settings_t complete = *settings;
    ag_status_t status;

    if (complete.score_cap == 0 && is_unsaid(files, "attn_logit_softcapping")) {
        complete.score_cap = SCORE_CAP;
    }
    if (complete.logit_cap == 0 && is_unsaid(files, "final_logit_softcapping")) {
        complete.logit_cap = LOGIT_CAP;
    }
    if (complete.window_tokens == 0 && is_unsaid(files, "sliding_window")) {
        complete.window_tokens = WINDOW;
    }
    status = ag_family_adjust_capped(files, &ag_family_gemma2, &complete, LAYERS_OF_27B, spec);
    return status == AG_OK ? ag_family_alternate(files, &complete, PERIOD, spec) : status;
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
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
