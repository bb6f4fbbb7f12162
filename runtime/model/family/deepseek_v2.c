/* DeepSeek-V2 and its Lite: DeepSeek-AI 2024; transformers' modeling_deepseek_v2.py. */
#include <string.h>

#include "runtime/base/quote.h"
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {AG_LATENT_KEYS, {0}};

/* transformers' configuration_deepseek_v2.py. */
static const ag_default_t defaults[] = {
    AG_LATENT_DEFAULTS,
    {.offset = AG_SETTING_FIELD(n_shared_experts), .hf = 2},
    {0},
};
static const ag_name_row_t names[] = {AG_LATENT_NAMES, {0}};

extern const ag_family_t ag_family_deepseek_v2;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    const ag_json_t *config = ag_model_files_config(files);
    ag_setting_text_t method = {0};
    ag_route_t *route = &spec->layer_kinds[0].route;
    ag_status_t status =
        config != NULL ? ag_setting_text(files, "topk_method", NULL, &method) : AG_OK;

    if (status != AG_OK) {
        return status;
    }
    if (route->sums_to_1) { /* transformers does not look at it */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: weights of experts that are normalised are not "
                       "known of this architecture",
                       ag_model_files_path(files));
    }
    if (config != NULL && (!method.is_there || strcmp(method.room, "greedy") == 0)) {
        route->n_groups = route->n_groups_used = 0;
    } else if (config != NULL && strcmp(method.room, "group_limited_greedy") != 0) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: topk_method \"%s\" is not known (known: greedy, group_limited_greedy)",
                       ag_model_files_path(files), ag_quote_string(method.room).text);
    }
    return ag_family_latent(files, &ag_family_deepseek_v2, settings, spec);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    const ag_route_t *route = &spec->layer_kinds[0].route;

    if (gguf && route->n_groups_used < route->n_groups) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model goes by the best expert of each group of experts, programs that "
                       "read GGUF files of its architecture by the best two: they would choose "
                       "other ones");
    }
    if (gguf) { /* all groups are used: there might be none */
        settings->n_expert_groups = settings->n_expert_groups_used = 0;
    }
    return ag_family_restore_latent(spec, gguf, settings);
}

const ag_family_t ag_family_deepseek_v2 = {
    .name = "deepseek_v2",
    .hf_model_type = "deepseek_v2",
    .hf_class = "DeepseekV2ForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "deepseek2",
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
