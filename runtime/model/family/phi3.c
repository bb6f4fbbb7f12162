/* Phi-3, Phi-3.5 and Phi-4-mini: Abdin et al. 2024; transformers' modeling_phi3.py. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    AG_DECODER_KEYS,
    {AG_SETTING_FIELD(rotary_factor), AG_SETTING_REAL, false,
     "rope_parameters.partial_rotary_factor|partial_rotary_factor", NULL},
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {0},
};

/* transformers' configuration_phi3.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(rope.original_context_tokens), .hf = 4096},
    {0},
};

static const ag_name_row_t names[] = {
    AG_NORMS_BEFORE_NAMES,
    {AG_ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight", AG_TRANSFORM_NONE,
     AG_STACK_NONE},
    {AG_ROLE_HEAD, "lm_head.weight", "output.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_FINAL_NORM, "model.norm.weight", "output_norm.weight", AG_TRANSFORM_NONE,
     AG_STACK_NONE},
    {AG_ROLE_ROPE_FACTORS, NULL, "rope_factors_short.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_ROPE_FACTORS_LONG, NULL, "rope_factors_long.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_Q, "model.layers.%u.self_attn.qkv_proj.weight", "blk.%u.attn_qkv.weight",
     AG_TRANSFORM_NONE, AG_STACK_QKV},
    {AG_ROLE_K, "model.layers.%u.self_attn.qkv_proj.weight", "blk.%u.attn_qkv.weight",
     AG_TRANSFORM_NONE, AG_STACK_QKV},
    {AG_ROLE_V, "model.layers.%u.self_attn.qkv_proj.weight", "blk.%u.attn_qkv.weight",
     AG_TRANSFORM_NONE, AG_STACK_QKV},
    {AG_ROLE_O, "model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {AG_ROLE_GATE, "model.layers.%u.mlp.gate_up_proj.weight", "blk.%u.ffn_up.weight",
     AG_TRANSFORM_NONE, AG_STACK_FIRST_HALF},
    {AG_ROLE_UP, "model.layers.%u.mlp.gate_up_proj.weight", "blk.%u.ffn_up.weight",
     AG_TRANSFORM_NONE, AG_STACK_SECOND_HALF},
    {AG_ROLE_DOWN, "model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight",
     AG_TRANSFORM_NONE, AG_STACK_NONE},
    {0},
};

extern const ag_family_t ag_family_phi3;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    ag_family_complete(files, &ag_family_phi3, spec);
    layer->window_tokens = settings->window_tokens;
    if (layer->rope.kind == AG_ROPE_YARN && ag_model_files_config(files) != NULL) {
        layer->rope.kind = AG_ROPE_LONG; /* what early files called it */
    }
    return ag_family_activation(files, ag_family_phi3.hf_act, AG_ACT_SILU, &layer->ffn_act);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    const ag_layer_spec_t *layer = &spec->layer_kinds[0];

    settings->window_tokens = layer->window_tokens;
    settings->rotary_factor = (double)layer->rope.rotary / layer->head_dim;
    return ag_family_check_act(spec, gguf, AG_ACT_SILU);
}

const ag_family_t ag_family_phi3 = {
    .name = "phi3",
    .hf_model_type = "phi3",
    .hf_class = "Phi3ForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "phi3",
    .gguf_window_is_ours = true,
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
