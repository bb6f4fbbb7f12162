/* gpt-oss: OpenAI 2025; transformers' modeling_gpt_oss.py. Its rope's ramp is not truncated, which
 * GGUF files do not say. */
#include "runtime/model/family_priv.h"

enum { PERIOD = 2 }; /* every second layer has no window */

enum { GLU_LIMIT = 7 }; /* where it is not said */

/* transformers' configuration_gpt_oss.py. */
static const ag_rope_spec_t default_rope = {.kind = AG_ROPE_YARN,
                                            .factor = 32,
                                            .beta_fast = 32,
                                            .beta_slow = 1,
                                            .original_context_tokens = 4096};

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    AG_EXPERT_KEYS,
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {AG_SETTING_FIELD(window_period), AG_SETTING_U32, false, NULL,
     "attention.sliding_window_pattern"},
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL},
    {AG_SETTING_FIELD(glu_limit), AG_SETTING_REAL, false, "swiglu_limit", NULL},
    {0},
};

/* transformers' configuration_gpt_oss.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 8},
    {.offset = AG_SETTING_FIELD(head_dim), .hf = 64},
    {.offset = AG_SETTING_FIELD(attention_bias), .hf = true, .gguf = true},
    {.offset = AG_SETTING_FIELD(rope.base), .hf = 150000},
    {.offset = AG_SETTING_FIELD(window_tokens), .hf = 128, .is_null = true},
    {.offset = AG_SETTING_FIELD(glu_limit), .hf = GLU_LIMIT, .gguf = GLU_LIMIT},
    {0},
};

/* clang-format off */
/* GGUF files have a tensor for each of an expert's matrices; folders of others one for each expert,
 * too. */
#define ONE_BY_ONE(ROLE, name)                                                                     \
    {AG_ROLE_EXPERT_##ROLE, NULL, "blk.%u.ffn_" name "_exps.weight", AG_TRANSFORM_NONE,            \
     AG_STACK_EXPERTS},                                                                            \
    {AG_ROLE_EXPERT_##ROLE, "model.layers.%u.mlp.experts.%u." name "_proj.weight", NULL,           \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_EXPERT_##ROLE##_BIAS, NULL, "blk.%u.ffn_" name "_exps.bias", AG_TRANSFORM_NONE,       \
     AG_STACK_EXPERTS},                                                                            \
    {AG_ROLE_EXPERT_##ROLE##_BIAS, "model.layers.%u.mlp.experts.%u." name "_proj.bias", NULL,      \
     AG_TRANSFORM_NONE, AG_STACK_NONE}
/* clang-format on */

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    {AG_ROLE_ATTN_NORM, "model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_FFN_NORM, "model.layers.%u.post_attention_layernorm.weight",
     "blk.%u.post_attention_norm.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_SINKS, "model.layers.%u.self_attn.sinks", "blk.%u.attn_sinks.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_ROUTER, "model.layers.%u.mlp.router.weight", "blk.%u.ffn_gate_inp.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_ROUTER_BIAS, "model.layers.%u.mlp.router.bias", "blk.%u.ffn_gate_inp.bias",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_EXPERT_GATE, "model.layers.%u.mlp.experts.gate_up_proj", NULL,
     AG_TRANSFORM_TRANSPOSE_FLOATS, AG_STACK_EVEN},
    {AG_ROLE_EXPERT_UP, "model.layers.%u.mlp.experts.gate_up_proj", NULL,
     AG_TRANSFORM_TRANSPOSE_FLOATS, AG_STACK_ODD},
    {AG_ROLE_EXPERT_DOWN, "model.layers.%u.mlp.experts.down_proj", NULL,
     AG_TRANSFORM_TRANSPOSE_FLOATS, AG_STACK_EXPERTS},
    {AG_ROLE_EXPERT_GATE_BIAS, "model.layers.%u.mlp.experts.gate_up_proj_bias", NULL,
     AG_TRANSFORM_NONE, AG_STACK_EVEN},
    {AG_ROLE_EXPERT_UP_BIAS, "model.layers.%u.mlp.experts.gate_up_proj_bias", NULL,
     AG_TRANSFORM_NONE, AG_STACK_ODD},
    {AG_ROLE_EXPERT_DOWN_BIAS, "model.layers.%u.mlp.experts.down_proj_bias", NULL,
     AG_TRANSFORM_NONE, AG_STACK_EXPERTS},
    ONE_BY_ONE(GATE, "gate"),
    ONE_BY_ONE(UP, "up"),
    ONE_BY_ONE(DOWN, "down"),
    {0},
};

extern const ag_family_t ag_family_gpt_oss;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    const ag_json_t *config = ag_model_files_config(files);
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    ag_family_complete(files, &ag_family_gpt_oss, spec);
    layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = settings->attention_bias;
    layer->sinks = layer->router_bias = layer->ffn_bias = layer->route.sums_to_1 = true;
    layer->ffn_act = AG_ACT_GELU_QUICK;
    layer->ffn_limit = (float)settings->glu_limit;
    layer->ffn_up_offset = 1;
    layer->rope.truncates = config != NULL && layer->rope.truncates;
    if (layer->route.n_experts == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s: it has 0 experts, which makes no sense",
                       ag_model_files_path(files));
    }
    return ag_family_alternate(files, settings, PERIOD, spec);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    settings->expert_width = layer->ffn_width;
    settings->attention_bias = layer->q_bias;
    if (gguf && layer->rope.kind == AG_ROPE_YARN && layer->rope.truncates) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model's yarn rope has a ramp of whole dimensions, "
                                           "which GGUF files of its architecture have not");
    }
    settings->rope.truncates |= gguf; /* such files mean that, and do not say it */
    if (gguf && (layer->ffn_limit != GLU_LIMIT || !layer->q_bias)) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model's swiglu_limit is not 7, or its attention "
                                           "has no biases, which a GGUF file cannot say");
    }
    return ag_family_restore_alternate(spec, gguf, PERIOD, settings);
}

const ag_family_t ag_family_gpt_oss = {
    .name = "gpt_oss",
    .hf_model_type = "gpt_oss",
    .hf_class = "GptOssForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "gpt-oss",
    .keys = keys,
    .defaults = defaults,
    .default_rope = &default_rope,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
