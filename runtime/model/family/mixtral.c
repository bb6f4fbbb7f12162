/* Mixtral: Jiang et al. 2024; transformers' modeling_mixtral.py. GGUF files call it llama. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    {AG_SETTING_FIELD(n_experts), AG_SETTING_U32, true, "num_local_experts|num_experts",
     "expert_count"},
    {AG_SETTING_FIELD(n_experts_used), AG_SETTING_U32, true, "num_experts_per_tok",
     "expert_used_count"},
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {0},
};

/* transformers' configuration_mixtral.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 8},
    {.offset = AG_SETTING_FIELD(rope.base), .hf = 1e6},
    {0},
};

/* transformers 4 and the files that 5 writes have a tensor an expert, 5's own modules one for all,
 * gate above up; old GGUF files have one an expert, too. */
static const ag_name_row_t names[] = {
    AG_DECODER_NAMES,
    {AG_ROLE_ROUTER, "model.layers.%u.block_sparse_moe.gate.weight", "blk.%u.ffn_gate_inp.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_ROUTER, "model.layers.%u.mlp.gate.weight", NULL, AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_EXPERT_GATE, NULL, "blk.%u.ffn_gate_exps.weight", AG_TRANSFORM_NONE, AG_STACK_EXPERTS},
    {AG_ROLE_EXPERT_GATE, "model.layers.%u.block_sparse_moe.experts.%u.w1.weight",
     "blk.%u.ffn_gate.%u.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_EXPERT_GATE, "model.layers.%u.mlp.experts.%u.gate_proj.weight", NULL,
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_EXPERT_GATE, "model.layers.%u.mlp.experts.gate_up_proj", NULL, AG_TRANSFORM_NONE,
     AG_STACK_FIRST_HALF},
    {AG_ROLE_EXPERT_UP, NULL, "blk.%u.ffn_up_exps.weight", AG_TRANSFORM_NONE, AG_STACK_EXPERTS},
    {AG_ROLE_EXPERT_UP, "model.layers.%u.block_sparse_moe.experts.%u.w3.weight",
     "blk.%u.ffn_up.%u.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_EXPERT_UP, "model.layers.%u.mlp.experts.%u.up_proj.weight", NULL, AG_TRANSFORM_NONE,
     AG_STACK_NONE},
    {AG_ROLE_EXPERT_UP, "model.layers.%u.mlp.experts.gate_up_proj", NULL, AG_TRANSFORM_NONE,
     AG_STACK_SECOND_HALF},
    {AG_ROLE_EXPERT_DOWN, NULL, "blk.%u.ffn_down_exps.weight", AG_TRANSFORM_NONE, AG_STACK_EXPERTS},
    {AG_ROLE_EXPERT_DOWN, "model.layers.%u.block_sparse_moe.experts.%u.w2.weight",
     "blk.%u.ffn_down.%u.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_EXPERT_DOWN, "model.layers.%u.mlp.experts.%u.down_proj.weight", NULL,
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_EXPERT_DOWN, "model.layers.%u.mlp.experts.down_proj", NULL, AG_TRANSFORM_NONE,
     AG_STACK_EXPERTS},
    {0},
};

extern const ag_family_t ag_family_mixtral;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    ag_family_complete(files, &ag_family_mixtral, spec);
    layer->route.sums_to_1 = true;
    layer->window_tokens = settings->window_tokens;
    if (layer->rope.rotary != layer->head_dim) { /* the transform of q and k moves whole heads */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: a rope over %u of a head's %u dimensions is not known of this "
                       "architecture",
                       ag_model_files_path(files), layer->rope.rotary, layer->head_dim);
    }
    if (layer->route.n_experts == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: it has 0 experts, which makes no sense",
                       ag_model_files_path(files));
    }
    return ag_family_activation(files, ag_family_mixtral.hf_act, AG_ACT_SILU, &layer->ffn_act);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    settings->window_tokens = spec->layer_kinds[0].window_tokens;
    return ag_family_check_act(spec, gguf, AG_ACT_SILU);
}

const ag_family_t ag_family_mixtral = {
    .name = "mixtral",
    .hf_model_type = "mixtral",
    .hf_class = "MixtralForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "llama",
    .gguf_mark = "expert_count",
    .gguf_window_is_ours = true,
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
