/* Llama 1 to 3 and what shares their form: Touvron et al. 2023; transformers' modeling_llama.py. */
#include <math.h>
#include <stddef.h>

#include "runtime/model/family_priv.h"

#define FIELD(field) offsetof(ag_settings_t, field)

static const ag_key_row_t keys[] = {
    {FIELD(n_layers), AG_SETTING_U32, true, "num_hidden_layers", "block_count"},
    {FIELD(hidden), AG_SETTING_U32, true, "hidden_size", "embedding_length"},
    {FIELD(vocab), AG_SETTING_U32, false, "vocab_size", "vocab_size"},
    {FIELD(context_tokens), AG_SETTING_U32, true, "max_position_embeddings", "context_length"},
    {FIELD(n_heads), AG_SETTING_U32, true, "num_attention_heads", "attention.head_count"},
    {FIELD(n_kv_heads), AG_SETTING_U32, false, "num_key_value_heads", "attention.head_count_kv"},
    {FIELD(head_dim), AG_SETTING_U32, false, "head_dim", "attention.key_length"},
    {FIELD(ffn_width), AG_SETTING_U32, true, "intermediate_size", "feed_forward_length"},
    {FIELD(norm_eps), AG_SETTING_REAL, true, "rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {FIELD(rope.base), AG_SETTING_REAL, false, "rope_parameters.rope_theta|rope_theta",
     "rope.freq_base"},
    {FIELD(rotary), AG_SETTING_U32, false, NULL, "rope.dimension_count"},
    {FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL},
    {FIELD(mlp_bias), AG_SETTING_BOOL, false, "mlp_bias", NULL},
    {FIELD(tied), AG_SETTING_BOOL, false, "tie_word_embeddings", NULL},
    {0},
};

static const ag_name_row_t names[] = {
    {AG_ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight", AG_TRANSFORM_NONE},
    {AG_ROLE_HEAD, "lm_head.weight", "output.weight", AG_TRANSFORM_NONE},
    {AG_ROLE_FINAL_NORM, "model.norm.weight", "output_norm.weight", AG_TRANSFORM_NONE},
    {AG_ROLE_ROPE_FACTORS, NULL, "rope_freqs.weight", AG_TRANSFORM_NONE},
    {AG_ROLE_ATTN_NORM, "model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight",
     AG_TRANSFORM_NONE},
    {AG_ROLE_Q, "model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight",
     AG_TRANSFORM_UNPERMUTE_ROPE},
    {AG_ROLE_K, "model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight",
     AG_TRANSFORM_UNPERMUTE_ROPE},
    {AG_ROLE_V, "model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight",
     AG_TRANSFORM_NONE},
    {AG_ROLE_O, "model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight",
     AG_TRANSFORM_NONE},
    {AG_ROLE_Q_BIAS, "model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias",
     AG_TRANSFORM_UNPERMUTE_ROPE},
    {AG_ROLE_K_BIAS, "model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias",
     AG_TRANSFORM_UNPERMUTE_ROPE},
    {AG_ROLE_V_BIAS, "model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias",
     AG_TRANSFORM_NONE},
    {AG_ROLE_O_BIAS, "model.layers.%u.self_attn.o_proj.bias", "blk.%u.attn_output.bias",
     AG_TRANSFORM_NONE},
    {AG_ROLE_FFN_NORM, "model.layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight",
     AG_TRANSFORM_NONE},
    {AG_ROLE_GATE, "model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight",
     AG_TRANSFORM_NONE},
    {AG_ROLE_UP, "model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight", AG_TRANSFORM_NONE},
    {AG_ROLE_DOWN, "model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight",
     AG_TRANSFORM_NONE},
    {AG_ROLE_GATE_BIAS, "model.layers.%u.mlp.gate_proj.bias", "blk.%u.ffn_gate.bias",
     AG_TRANSFORM_NONE},
    {AG_ROLE_UP_BIAS, "model.layers.%u.mlp.up_proj.bias", "blk.%u.ffn_up.bias", AG_TRANSFORM_NONE},
    {AG_ROLE_DOWN_BIAS, "model.layers.%u.mlp.down_proj.bias", "blk.%u.ffn_down.bias",
     AG_TRANSFORM_NONE},
    {AG_ROLE_COMPUTED, "model.layers.%u.self_attn.rotary_emb.inv_freq",
     "blk.%u.attn_rot_embd.weight", AG_TRANSFORM_NONE},
    {0},
};

static ag_status_t adjust(const ag_model_files_t *files, const ag_settings_t *settings,
                          ag_spec_t *spec)
{
    const ag_json_t *config = ag_model_files_config(files);
    ag_layer_spec_t *layer = &spec->layer_kinds[0];

    layer->attention_scale = 1.0f / sqrtf((float)layer->head_dim);
    if (spec->rope.rotary != layer->head_dim) { /* the transform of q and k moves whole heads */
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "%s: a rope over %u of a head's %u dimensions is not known of this "
                       "architecture",
                       ag_model_files_path(files), spec->rope.rotary, layer->head_dim);
    }
    if (config != NULL) {
        layer->q_bias = layer->k_bias = layer->v_bias = layer->o_bias = settings->attention_bias;
        layer->ffn_bias = settings->mlp_bias;
        return ag_family_activation(files, "hidden_act", AG_ACT_SILU, &layer->ffn_act);
    }
    layer->q_bias = ag_model_files_find(files, "blk.0.attn_q.bias") != NULL;
    layer->k_bias = ag_model_files_find(files, "blk.0.attn_k.bias") != NULL;
    layer->v_bias = ag_model_files_find(files, "blk.0.attn_v.bias") != NULL;
    layer->o_bias = ag_model_files_find(files, "blk.0.attn_output.bias") != NULL;
    layer->ffn_bias = ag_model_files_find(files, "blk.0.ffn_down.bias") != NULL;
    layer->ffn_act = AG_ACT_SILU;
    spec->tied = ag_model_files_find(files, "output.weight") == NULL;
    return AG_OK;
}

const ag_family_t ag_family_llama = {
    .name = "llama",
    .hf_model_type = "llama",
    .gguf_arch = "llama",
    .keys = keys,
    .names = names,
    .adjust = adjust,
};
