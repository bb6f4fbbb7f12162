/* DeepSeek-V3 and R1: DeepSeek-AI 2024; transformers' modeling_deepseek_v3.py. GGUF files call it
 * as they call DeepSeek-V2, and say that scores are sigmoids. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_LATENT_KEYS,
    {AG_SETTING_FIELD(rope_by_turns), AG_SETTING_BOOL, false, "rope_interleave", NULL},
    {0},
};

/* transformers' configuration_deepseek_v3.py. */
static const ag_default_t defaults[] = {
    AG_LATENT_DEFAULTS,
    {.offset = AG_SETTING_FIELD(n_shared_experts), .hf = 1},
    {.offset = AG_SETTING_FIELD(n_dense), .hf = 3},
    {.offset = AG_SETTING_FIELD(n_expert_groups), .hf = 8},
    {.offset = AG_SETTING_FIELD(n_expert_groups_used), .hf = 4},
    {.offset = AG_SETTING_FIELD(expert_scale), .hf = 2.5},
    {.offset = AG_SETTING_FIELD(expert_weights_sum_1), .hf = true},
    {.offset = AG_SETTING_FIELD(rope_by_turns), .hf = true, .gguf = true},
    {0},
};

static const ag_name_row_t names[] = {
    AG_LATENT_NAMES,
    {AG_ROLE_ROUTE_PREFERENCE, "model.layers.%u.mlp.gate.e_score_correction_bias",
     "blk.%u.exp_probs_b.bias", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {0},
};

extern const ag_family_t ag_family_deepseek_v3;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    ag_status_t status;

    layer->route.score = AG_SCORE_SIGMOID;
    layer->route.group_of_two = layer->route.n_groups > 0;
    layer->route_preference = true;
    status = ag_family_latent(files, &ag_family_deepseek_v3, settings, spec);
    for (uint32_t i = 0; i < spec->n_layer_kinds; i++) {
        spec->layer_kinds[i].rope_by_turns = settings->rope_by_turns;
    }
    return status;
}

const ag_family_t ag_family_deepseek_v3 = {
    .name = "deepseek_v3",
    .hf_model_type = "deepseek_v3",
    .hf_class = "DeepseekV3ForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "deepseek2",
    .gguf_mark = "expert_gating_func=2",
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = ag_family_restore_latent,
};
