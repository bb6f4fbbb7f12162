/* StarCoder 2: Lozhkov et al. 2024; transformers' modeling_starcoder2.py. */
#include "runtime/model/family_priv.h"

static const ag_key_row_t keys[] = {
    {AG_SETTING_FIELD(n_layers), AG_SETTING_U32, true, "num_hidden_layers", "block_count"},
    {AG_SETTING_FIELD(hidden), AG_SETTING_U32, true, "hidden_size", "embedding_length"},
    {AG_SETTING_FIELD(vocab), AG_SETTING_U32, false, "vocab_size", "vocab_size"},
    {AG_SETTING_FIELD(context_tokens), AG_SETTING_U32, true, "max_position_embeddings",
     "context_length"},
    {AG_SETTING_FIELD(n_heads), AG_SETTING_U32, true, "num_attention_heads",
     "attention.head_count"},
    {AG_SETTING_FIELD(n_kv_heads), AG_SETTING_U32, false, "num_key_value_heads",
     "attention.head_count_kv"},
    {AG_SETTING_FIELD(head_dim), AG_SETTING_U32, false, "head_dim", "attention.key_length"},
    {AG_SETTING_FIELD(value_dim), AG_SETTING_U32, false, NULL, "attention.value_length"},
    {AG_SETTING_FIELD(ffn_width), AG_SETTING_U32, true, "intermediate_size", "feed_forward_length"},
    {AG_SETTING_FIELD(norm_eps), AG_SETTING_REAL, true, "norm_epsilon",
     "attention.layer_norm_epsilon"},
    {AG_SETTING_FIELD(rope.base), AG_SETTING_REAL, false, "rope_parameters.rope_theta|rope_theta",
     "rope.freq_base"},
    {AG_SETTING_FIELD(rotary), AG_SETTING_U32, false, NULL, "rope.dimension_count"},
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",
     "attention.sliding_window"},
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "use_bias", NULL},
    {AG_SETTING_FIELD(tied), AG_SETTING_BOOL, false, "tie_word_embeddings", NULL},
    {0},
};

/* transformers' configuration_starcoder2.py. */
static const ag_default_t defaults[] = {
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 2},
    {.offset = AG_SETTING_FIELD(attention_bias), .hf = true},
    {.offset = AG_SETTING_FIELD(tied), .hf = true},
    {0},
};

#define PAIR(role, hf, gguf)                                                                       \
    {role, hf ".weight", gguf ".weight", AG_TRANSFORM_NONE, AG_STACK_NONE},                        \
    {                                                                                              \
        role##_BIAS, hf ".bias", gguf ".bias", AG_TRANSFORM_NONE, AG_STACK_NONE                    \
    }

static const ag_name_row_t names[] = {
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE),
    PAIR(AG_ROLE_FINAL_NORM, "model.norm", "output_norm"),
    PAIR(AG_ROLE_ATTN_NORM, "model.layers.%u.input_layernorm", "blk.%u.attn_norm"),
    PAIR(AG_ROLE_FFN_NORM, "model.layers.%u.post_attention_layernorm", "blk.%u.ffn_norm"),
    PAIR(AG_ROLE_UP, "model.layers.%u.mlp.c_fc", "blk.%u.ffn_up"),
    PAIR(AG_ROLE_DOWN, "model.layers.%u.mlp.c_proj", "blk.%u.ffn_down"),
    {0},
};

extern const ag_family_t ag_family_starcoder2;

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    ag_layer_spec_t *layer = &spec->layer_kinds[0];
    bool bias = settings->attention_bias;

    ag_family_complete(files, &ag_family_starcoder2, spec);
    spec->norm_kind = AG_NORM_LAYER;
    spec->norm_bias = true;
    if (ag_model_files_gguf(files) != NULL) {
        ag_family_find_biases(files, &ag_family_starcoder2, layer);
        bias = layer->q_bias;
    }
    layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = layer->ffn_bias = bias;
    layer->ffn_is_gated = false;
    layer->window_tokens = settings->window_tokens;
    return ag_family_activation(files, ag_family_starcoder2.hf_act, AG_ACT_GELU_TANH,
                                &layer->ffn_act);
}

static ag_status_t restore(const ag_spec_t *spec, bool gguf, ag_settings_t *settings)
{
    settings->attention_bias = spec->layer_kinds[0].q_bias;
    if (gguf && !settings->attention_bias) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model has no biases, which GGUF files of its architecture must have");
    }
    settings->window_tokens = spec->layer_kinds[0].window_tokens;
    return ag_family_check_act(spec, gguf, AG_ACT_GELU_TANH);
}

const ag_family_t ag_family_starcoder2 = {
    .name = "starcoder2",
    .hf_model_type = "starcoder2",
    .hf_class = "Starcoder2ForCausalLM",
    .hf_act = "hidden_act",
    .gguf_arch = "starcoder2",
    .gguf_window_is_ours = true,
    .keys = keys,
    .defaults = defaults,
    .names = names,
    .adjust = adjust,
    .restore = restore,
};
