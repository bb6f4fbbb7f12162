/* GPT-2: Radford et al. 2019; transformers' modeling_gpt2.py, whose matrices stand as (in, out). */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    {AG_SETTING_FIELD(n_layers), AG_SETTING_U32, true, "n_layer|num_hidden_layers", "block_count"},
    {AG_SETTING_FIELD(hidden), AG_SETTING_U32, true, "n_embd|hidden_size", "embedding_length"},
    {AG_SETTING_FIELD(vocab), AG_SETTING_U32, false, "vocab_size", NULL},
    {AG_SETTING_FIELD(context_tokens), AG_SETTING_U32, true, "n_positions|max_position_embeddings",
     "context_length"},
    {AG_SETTING_FIELD(n_heads), AG_SETTING_U32, true, "n_head|num_attention_heads",
     "attention.head_count"},
    {AG_SETTING_FIELD(ffn_width), AG_SETTING_U32, false, "n_inner|intermediate_size",
     "feed_forward_length"},
    {AG_SETTING_FIELD(norm_eps), AG_SETTING_REAL, true, "layer_norm_epsilon",
     "attention.layer_norm_epsilon"},
    {AG_SETTING_FIELD(tied), AG_SETTING_BOOL, false, "tie_word_embeddings", NULL},
    {0},
};

/* transformers' configuration_gpt2.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(tied), .hf = true},
    {0},
};

/* Some folders have the names without what they begin with here. */
#define NAME(role, hf, gguf, transform, stack)                                                     \
    {role, "transformer." hf, NULL, transform, stack},                                             \
    {                                                                                              \
        role, hf, gguf, transform, stack                                                           \
    }

#define PAIR(role, hf, gguf, transform, stack)                                                     \
    NAME(role, hf ".weight", gguf ".weight", transform, stack),                                    \
        NAME(role##_BIAS, hf ".bias", gguf ".bias", AG_TRANSFORM_NONE, stack)

static const ag_name_row_t names[] = {
    NAME(AG_ROLE_EMBED, "wte.weight", "token_embd.weight", AG_TRANSFORM_NONE, AG_STACK_NONE),
    NAME(AG_ROLE_POSITIONS, "wpe.weight", "position_embd.weight", AG_TRANSFORM_NONE, AG_STACK_NONE),
    {AG_ROLE_HEAD, "lm_head.weight", "output.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},
    PAIR(AG_ROLE_FINAL_NORM, "ln_f", "output_norm", AG_TRANSFORM_NONE, AG_STACK_NONE),
    PAIR(AG_ROLE_ATTN_NORM, "h.%u.ln_1", "blk.%u.attn_norm", AG_TRANSFORM_NONE, AG_STACK_NONE),
    PAIR(AG_ROLE_Q, "h.%u.attn.c_attn", "blk.%u.attn_qkv", AG_TRANSFORM_TRANSPOSE, AG_STACK_QKV),
    PAIR(AG_ROLE_K, "h.%u.attn.c_attn", "blk.%u.attn_qkv", AG_TRANSFORM_TRANSPOSE, AG_STACK_QKV),
    PAIR(AG_ROLE_V, "h.%u.attn.c_attn", "blk.%u.attn_qkv", AG_TRANSFORM_TRANSPOSE, AG_STACK_QKV),
    PAIR(AG_ROLE_O, "h.%u.attn.c_proj", "blk.%u.attn_output", AG_TRANSFORM_TRANSPOSE,
         AG_STACK_NONE),
    PAIR(AG_ROLE_FFN_NORM, "h.%u.ln_2", "blk.%u.ffn_norm", AG_TRANSFORM_NONE, AG_STACK_NONE),
    PAIR(AG_ROLE_UP, "h.%u.mlp.c_fc", "blk.%u.ffn_up", AG_TRANSFORM_TRANSPOSE, AG_STACK_NONE),
    PAIR(AG_ROLE_DOWN, "h.%u.mlp.c_proj", "blk.%u.ffn_down", AG_TRANSFORM_TRANSPOSE, AG_STACK_NONE),
    NAME(AG_ROLE_COMPUTED, "h.%u.attn.bias", NULL, AG_TRANSFORM_NONE, AG_STACK_NONE), /* a mask */
    NAME(AG_ROLE_COMPUTED, "h.%u.attn.masked_bias", NULL, AG_TRANSFORM_NONE, AG_STACK_NONE),
    {0},
};

extern const ag_family_t ag_family_gpt2;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    (void)settings;
    ag_family_complete(files, &ag_family_gpt2, spec);
    spec->norm_kind = AG_NORM_LAYER;
    spec->norm_bias = true;
    spec->n_positions = spec->context_tokens;
    layer->rope.rotary = 0;
    layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = layer->ffn_bias = true;
    layer->ffn_is_gated = false;
    return ag_family_activation(files, ag_family_gpt2.hf_act, AG_ACT_GELU_TANH, &layer->ffn_act);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    (void)settings;
    return ag_family_check_act(spec, gguf, AG_ACT_GELU_TANH);
}

const ag_family_t ag_family_gpt2 = {
    .name = "gpt2",
    .hf_model_type = "gpt2",
    .hf_class = "GPT2LMHeadModel",
    .hf_act = "activation_function",
    .gguf_arch = "gpt2",
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
