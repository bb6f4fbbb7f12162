/* What the families share. */
#pragma once

#include <stddef.h>

#include "runtime/model/family.h"

/* A setting that is a string; longer ones are cut, they are none that is known. */
typedef struct ag_setting_text {
    bool is_there;
    char room[64];
} ag_setting_text_t;

/** @param gguf_key  NULL: config.json alone is asked. @return AG_OK; AG_ERR_FORMAT: no string. */
ag_status_t ag_setting_text(const ag_model_files_t *files, const char *hf_path,
                            const char *gguf_key, ag_setting_text_t *text);

/** A list of config.json. @param list_p  out: NULL: absent. @return AG_OK; AG_ERR_FORMAT: no list.
 */
ag_status_t ag_setting_list(const ag_model_files_t *files, const char *path,
                            const ag_json_t **list_p);

/** The activation that config.json names under key; `otherwise` where it does not. */
ag_status_t ag_family_activation(const ag_model_files_t *files, const char *key, ag_act_t otherwise,
                                 ag_act_t *act_p);

/** GGUF files of such families say nothing of the activation. @return AG_OK, AG_ERR_UNSUPPORTED. */
ag_status_t ag_family_check_act(const ag_spec_t *spec, bool gguf, ag_act_t implied);

/** The same of families whose GGUF files have no biases of attention: other programs would refuse
 * to load them. */
ag_status_t ag_family_check_plain(const ag_spec_t *spec, bool gguf, ag_act_t implied);

/**
 * Two kinds of layers: the first as it is, the second the same with the settings' window. Which
 * layer is which config.json's layer_types say; else every `period`th is of the first, if the
 * settings say no other period.
 * @return AG_OK; AG_ERR_FORMAT, AG_ERR_UNSUPPORTED: of the list.
 */
ag_status_t ag_family_alternate(const ag_model_files_t *files, const ag_settings_t *settings,
                                uint32_t period, ag_spec_t *spec);

/* Which layers have a window, where config.json's layer_types do not say. */
typedef enum ag_windows {
    AG_WINDOWS_ALL,
    AG_WINDOWS_FROM,     /* those from max_window_layers on */
    AG_WINDOWS_BY_TURNS, /* every second of those before, the first included */
} ag_windows_t;

/** Where the settings have a window, kinds of layers like those so far that have it. @return AG_OK;
 * AG_ERR_FORMAT, AG_ERR_UNSUPPORTED: of the list. */
ag_status_t ag_family_windows(const ag_model_files_t *files, const ag_family_t *family,
                              const ag_settings_t *settings, ag_windows_t which, ag_spec_t *spec);
void ag_family_restore_windows(const ag_spec_t *spec, ag_settings_t *settings);

/** The reverse of ag_family_alternate(). @return AG_OK; AG_ERR_UNSUPPORTED: GGUF files say nothing
 * of another period. */
ag_status_t ag_family_restore_alternate(const ag_spec_t *spec, bool gguf, uint32_t period,
                                        ag_settings_t *settings);

/** What decoders of this form have alike: how attention scales, and in GGUF files no more than the
 * embedding table where that is the head. */
void ag_family_complete(const ag_model_files_t *files, const ag_family_t *family, ag_spec_t *spec);

/** The same, which of attention's matrices have biases in a GGUF file. */
void ag_family_find_biases(const ag_model_files_t *files, const ag_family_t *family,
                           ag_layer_spec_t *layer);

/** A kind of layers like the first, with one feed-forward part of this width in the experts' place.
 * @return its number. */
uint32_t ag_family_dense_kind(ag_spec_t *spec, uint32_t ffn_width);

/** Of mlp_only_layers and decoder_sparse_step, which layers have no experts. @return AG_OK,
 * AG_ERR_FORMAT, AG_ERR_UNSUPPORTED: none has any. */
ag_status_t ag_family_find_dense(const ag_model_files_t *files, const ag_settings_t *settings,
                                 ag_spec_t *spec);

/** The widths of experts and of layers without. @param sums_to_1  what a GGUF file implies of the
 * experts' weights. @return AG_OK, AG_ERR_UNSUPPORTED. */
ag_status_t ag_family_restore_experts(const ag_spec_t *spec, bool gguf, bool sums_to_1,
                                      ag_settings_t *settings);

/** Heads, ropes, experts and layers without, of models whose keys and values come from a latent
 * vector; routers' kinds are the families'. @return AG_OK, AG_ERR_FORMAT, AG_ERR_UNSUPPORTED. */
ag_status_t ag_family_latent(const ag_model_files_t *files, const ag_family_t *family,
                             const ag_settings_t *settings, ag_spec_t *spec);
ag_status_t ag_family_restore_latent(const ag_spec_t *spec, bool gguf, ag_settings_t *settings);

/**
 * The settings of AG_CAPPED_KEYS to the spec: norms before and behind, the scale of embeddings and
 * of scores, caps, biases, the activation. The first kind of layers alone is filled.
 * @param n_layers_of_wide  by which GGUF files tell the model whose scores are scaled by its width.
 * @return AG_OK, AG_ERR_FORMAT, AG_ERR_UNSUPPORTED.
 */
ag_status_t ag_family_adjust_capped(const ag_model_files_t *files, const ag_family_t *family,
                                    const ag_settings_t *settings, uint32_t n_layers_of_wide,
                                    ag_spec_t *spec);

/** The reverse. @return AG_OK; AG_ERR_UNSUPPORTED: such files cannot say what the spec has. */
ag_status_t ag_family_restore_capped(const ag_spec_t *spec, bool gguf, uint32_t n_layers_of_wide,
                                     ag_settings_t *settings);

#define AG_SETTING_FIELD(field) offsetof(ag_settings_t, field)

/* clang-format off */
/* Keys that decoders of all kinds have alike. */
#define AG_SIZE_KEYS                                                                               \
    {AG_SETTING_FIELD(n_layers), AG_SETTING_U32, true, "num_hidden_layers", "block_count"},        \
    {AG_SETTING_FIELD(hidden), AG_SETTING_U32, true, "hidden_size", "embedding_length"},           \
    {AG_SETTING_FIELD(vocab), AG_SETTING_U32, false, "vocab_size", "vocab_size"},                  \
    {AG_SETTING_FIELD(context_tokens), AG_SETTING_U32, true, "max_position_embeddings",            \
     "context_length"},                                                                            \
    {AG_SETTING_FIELD(n_heads), AG_SETTING_U32, true, "num_attention_heads",                       \
     "attention.head_count"},                                                                      \
    {AG_SETTING_FIELD(n_kv_heads), AG_SETTING_U32, false, "num_key_value_heads",                   \
     "attention.head_count_kv"}

#define AG_RMS_FFN_ROPE_KEYS                                                                       \
    {AG_SETTING_FIELD(ffn_width), AG_SETTING_U32, true, "intermediate_size",                       \
     "feed_forward_length"},                                                                       \
    {AG_SETTING_FIELD(norm_eps), AG_SETTING_REAL, true, "rms_norm_eps",                            \
     "attention.layer_norm_rms_epsilon"},                                                          \
    {AG_SETTING_FIELD(rope.base), AG_SETTING_REAL, false,                                          \
     "rope_parameters.rope_theta|rope_theta", "rope.freq_base"}

/* Keys and names of decoders with RMS norms, a rope and a gated feed-forward part: what several
 * families have alike. */
#define AG_DECODER_KEYS                                                                            \
    AG_SIZE_KEYS,                                                                                  \
    {AG_SETTING_FIELD(head_dim), AG_SETTING_U32, false, "head_dim", "attention.key_length"},       \
    {AG_SETTING_FIELD(value_dim), AG_SETTING_U32, false, NULL, "attention.value_length"},          \
    AG_RMS_FFN_ROPE_KEYS,                                                                          \
    {AG_SETTING_FIELD(rotary), AG_SETTING_U32, false, NULL, "rope.dimension_count"},               \
    {AG_SETTING_FIELD(tied), AG_SETTING_BOOL, false, "tie_word_embeddings", NULL}

/* @param qk_transform  of the rows of q and k in GGUF files. */
#define AG_DECODER_NAMES_BY(qk_transform)                                                          \
    {AG_ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight", AG_TRANSFORM_NONE,           \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_HEAD, "lm_head.weight", "output.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},           \
    {AG_ROLE_FINAL_NORM, "model.norm.weight", "output_norm.weight", AG_TRANSFORM_NONE,             \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_ROPE_FACTORS, NULL, "rope_freqs.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},           \
    {AG_ROLE_Q, "model.layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight", qk_transform,   \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_K, "model.layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight", qk_transform,   \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_V, "model.layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight",                 \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_O, "model.layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight",            \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_Q_BIAS, "model.layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias", qk_transform,  \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_K_BIAS, "model.layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias", qk_transform,  \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_V_BIAS, "model.layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias",                \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_O_BIAS, "model.layers.%u.self_attn.o_proj.bias", "blk.%u.attn_output.bias",           \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_Q_NORM, "model.layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight",       \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_K_NORM, "model.layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight",       \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_COMPUTED, "model.layers.%u.self_attn.rotary_emb.inv_freq",                            \
     "blk.%u.attn_rot_embd.weight", AG_TRANSFORM_NONE, AG_STACK_NONE}

/* Norms before attention and the feed-forward part, and nowhere else. */
#define AG_NORMS_BEFORE_NAMES                                                                      \
    {AG_ROLE_ATTN_NORM, "model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight",       \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_FFN_NORM, "model.layers.%u.post_attention_layernorm.weight",                          \
     "blk.%u.ffn_norm.weight", AG_TRANSFORM_NONE, AG_STACK_NONE}

#define AG_GLU_NAMES                                                                               \
    {AG_ROLE_GATE, "model.layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight",               \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_UP, "model.layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight", AG_TRANSFORM_NONE,  \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_DOWN, "model.layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight",               \
     AG_TRANSFORM_NONE, AG_STACK_NONE}

/* Where GGUF files have the rows of q and k in pairs. */
#define AG_DECODER_NAMES                                                                           \
    AG_DECODER_NAMES_BY(AG_TRANSFORM_UNPERMUTE_ROPE), AG_NORMS_BEFORE_NAMES

/* Keys and names of experts with a router, as most families have them. */
#define AG_EXPERT_KEYS                                                                             \
    {AG_SETTING_FIELD(n_experts), AG_SETTING_U32, true, "num_experts|num_local_experts",           \
     "expert_count"},                                                                              \
    {AG_SETTING_FIELD(n_experts_used), AG_SETTING_U32, true, "num_experts_per_tok",                \
     "expert_used_count"},                                                                         \
    {AG_SETTING_FIELD(expert_width), AG_SETTING_U32, false, "moe_intermediate_size",               \
     "expert_feed_forward_length"},                                                                \
    {AG_SETTING_FIELD(expert_weights_sum_1), AG_SETTING_BOOL, false, "norm_topk_prob", NULL}

/* transformers 4 and the files that 5 writes have a tensor an expert, 5's own modules one for all,
 * gate above up. */
#define AG_EXPERT_NAMES                                                                            \
    {AG_ROLE_ROUTER, "model.layers.%u.mlp.gate.weight", "blk.%u.ffn_gate_inp.weight",              \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_EXPERT_GATE, NULL, "blk.%u.ffn_gate_exps.weight", AG_TRANSFORM_NONE,                  \
     AG_STACK_EXPERTS},                                                                            \
    {AG_ROLE_EXPERT_GATE, "model.layers.%u.mlp.experts.%u.gate_proj.weight", NULL,                 \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_EXPERT_GATE, "model.layers.%u.mlp.experts.gate_up_proj", NULL, AG_TRANSFORM_NONE,     \
     AG_STACK_FIRST_HALF},                                                                         \
    {AG_ROLE_EXPERT_UP, NULL, "blk.%u.ffn_up_exps.weight", AG_TRANSFORM_NONE, AG_STACK_EXPERTS},   \
    {AG_ROLE_EXPERT_UP, "model.layers.%u.mlp.experts.%u.up_proj.weight", NULL, AG_TRANSFORM_NONE,  \
     AG_STACK_NONE},                                                                               \
    {AG_ROLE_EXPERT_UP, "model.layers.%u.mlp.experts.gate_up_proj", NULL, AG_TRANSFORM_NONE,       \
     AG_STACK_SECOND_HALF},                                                                        \
    {AG_ROLE_EXPERT_DOWN, NULL, "blk.%u.ffn_down_exps.weight", AG_TRANSFORM_NONE,                  \
     AG_STACK_EXPERTS},                                                                            \
    {AG_ROLE_EXPERT_DOWN, "model.layers.%u.mlp.experts.%u.down_proj.weight", NULL,                 \
     AG_TRANSFORM_NONE, AG_STACK_NONE},                                                            \
    {AG_ROLE_EXPERT_DOWN, "model.layers.%u.mlp.experts.down_proj", NULL, AG_TRANSFORM_NONE,        \
     AG_STACK_EXPERTS}

/* @param module  a Hugging Face module's name. */
#define AG_SHARED_NAMES(module)                                                                    \
    {AG_ROLE_SHARED_GATE, "model.layers.%u.mlp." module ".gate_proj.weight",                       \
     "blk.%u.ffn_gate_shexp.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},                            \
    {AG_ROLE_SHARED_UP, "model.layers.%u.mlp." module ".up_proj.weight",                           \
     "blk.%u.ffn_up_shexp.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},                              \
    {AG_ROLE_SHARED_DOWN, "model.layers.%u.mlp." module ".down_proj.weight",                       \
     "blk.%u.ffn_down_shexp.weight", AG_TRANSFORM_NONE, AG_STACK_NONE}

/* Keys and names of DeepSeek's models. */
#define AG_LATENT_KEYS                                                                             \
    AG_SIZE_KEYS,                                                                                  \
    {AG_SETTING_FIELD(head_dim), AG_SETTING_U32, false, NULL, "attention.key_length"},             \
    {AG_SETTING_FIELD(nope_dim), AG_SETTING_U32, false, "qk_nope_head_dim", NULL},                 \
    {AG_SETTING_FIELD(rotary), AG_SETTING_U32, true, "qk_rope_head_dim", "rope.dimension_count"},  \
    {AG_SETTING_FIELD(value_dim), AG_SETTING_U32, true, "v_head_dim", "attention.value_length"},   \
    {AG_SETTING_FIELD(expanded_head_dim), AG_SETTING_U32, false, NULL,                             \
     "attention.key_length_mla"},                                                                  \
    {AG_SETTING_FIELD(expanded_value_dim), AG_SETTING_U32, false, NULL,                            \
     "attention.value_length_mla"},                                                                \
    {AG_SETTING_FIELD(q_rank), AG_SETTING_U32, false, "q_lora_rank", "attention.q_lora_rank"},     \
    {AG_SETTING_FIELD(kv_rank), AG_SETTING_U32, true, "kv_lora_rank", "attention.kv_lora_rank"},   \
    AG_RMS_FFN_ROPE_KEYS,                                                                          \
    {AG_SETTING_FIELD(log_multiplier), AG_SETTING_REAL, false, NULL,                               \
     "rope.scaling.yarn_log_multiplier"},                                                          \
    {AG_SETTING_FIELD(tied), AG_SETTING_BOOL, false, "tie_word_embeddings", NULL},                 \
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL},            \
    {AG_SETTING_FIELD(n_dense), AG_SETTING_U32, false, "first_k_dense_replace",                    \
     "leading_dense_block_count"},                                                                 \
    {AG_SETTING_FIELD(n_experts), AG_SETTING_U32, true,                                            \
     "n_routed_experts|num_local_experts|num_experts", "expert_count"},                            \
    {AG_SETTING_FIELD(n_experts_used), AG_SETTING_U32, true, "num_experts_per_tok",                \
     "expert_used_count"},                                                                         \
    {AG_SETTING_FIELD(n_shared_experts), AG_SETTING_U32, false, "n_shared_experts",                \
     "expert_shared_count"},                                                                       \
    {AG_SETTING_FIELD(expert_width), AG_SETTING_U32, true, "moe_intermediate_size",                \
     "expert_feed_forward_length"},                                                                \
    {AG_SETTING_FIELD(n_expert_groups), AG_SETTING_U32, false, "n_group", "expert_group_count"},   \
    {AG_SETTING_FIELD(n_expert_groups_used), AG_SETTING_U32, false, "topk_group",                  \
     "expert_group_used_count"},                                                                   \
    {AG_SETTING_FIELD(expert_gating), AG_SETTING_U32, false, NULL, "expert_gating_func"},          \
    {AG_SETTING_FIELD(expert_scale), AG_SETTING_REAL, false, "routed_scaling_factor",              \
     "expert_weights_scale"},                                                                      \
    {AG_SETTING_FIELD(expert_weights_sum_1), AG_SETTING_BOOL, false, "norm_topk_prob",             \
     "expert_weights_norm"}

#define AG_LATENT_DEFAULTS                                                                         \
    {.offset = AG_SETTING_FIELD(q_rank), .hf = 1536, .is_null = true},                             \
    {.offset = AG_SETTING_FIELD(nope_dim), .hf = 128}

#define AG_LATENT_NAMES                                                                            \
    AG_DECODER_NAMES_BY(AG_TRANSFORM_NONE), AG_NORMS_BEFORE_NAMES, AG_GLU_NAMES,                   \
        AG_EXPERT_NAMES, AG_SHARED_NAMES("shared_experts"),                                        \
        {AG_ROLE_Q_B, "model.layers.%u.self_attn.q_b_proj.weight", "blk.%u.attn_q_b.weight",         \
         AG_TRANSFORM_NONE, AG_STACK_NONE},                                                        \
        {AG_ROLE_Q_A, "model.layers.%u.self_attn.q_a_proj.weight", "blk.%u.attn_q_a.weight",       \
         AG_TRANSFORM_NONE, AG_STACK_NONE},                                                        \
        {AG_ROLE_Q_A_NORM, "model.layers.%u.self_attn.q_a_layernorm.weight",                       \
         "blk.%u.attn_q_a_norm.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},                         \
        {AG_ROLE_KV_A, "model.layers.%u.self_attn.kv_a_proj_with_mqa.weight",                      \
         "blk.%u.attn_kv_a_mqa.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},                         \
        {AG_ROLE_KV_A_NORM, "model.layers.%u.self_attn.kv_a_layernorm.weight",                     \
         "blk.%u.attn_kv_a_norm.weight", AG_TRANSFORM_NONE, AG_STACK_NONE},                        \
        {AG_ROLE_K_B, "model.layers.%u.self_attn.kv_b_proj.weight", NULL, AG_TRANSFORM_NONE,       \
         AG_STACK_HEAD_KEYS},                                                                      \
        {AG_ROLE_V_B, "model.layers.%u.self_attn.kv_b_proj.weight", NULL, AG_TRANSFORM_NONE,       \
         AG_STACK_HEAD_VALUES},                                                                    \
        {AG_ROLE_K_B, NULL, "blk.%u.attn_k_b.weight", AG_TRANSFORM_TURN_HEADS, AG_STACK_HEADS},    \
        {AG_ROLE_V_B, NULL, "blk.%u.attn_v_b.weight", AG_TRANSFORM_NONE, AG_STACK_HEADS},          \
        {AG_ROLE_K_B, NULL, "blk.%u.attn_kv_b.weight", AG_TRANSFORM_NONE, AG_STACK_HEAD_KEYS},     \
        {AG_ROLE_V_B, NULL, "blk.%u.attn_kv_b.weight", AG_TRANSFORM_NONE, AG_STACK_HEAD_VALUES}

/* Layers with a window in turn, and what is capped. */
#define AG_CAPPED_KEYS                                                                             \
    {AG_SETTING_FIELD(window_tokens), AG_SETTING_U32, false, "sliding_window",                     \
     "attention.sliding_window"},                                                                  \
    {AG_SETTING_FIELD(window_period), AG_SETTING_U32, false,                                       \
     "sliding_window_pattern|_sliding_window_pattern", "attention.sliding_window_pattern"},                                      \
    {AG_SETTING_FIELD(query_scalar), AG_SETTING_U32, false, "query_pre_attn_scalar", NULL},        \
    {AG_SETTING_FIELD(logit_cap), AG_SETTING_REAL, false, "final_logit_softcapping",               \
     "final_logit_softcapping"},                                                                   \
    {AG_SETTING_FIELD(attention_bias), AG_SETTING_BOOL, false, "attention_bias", NULL}

/* What transformers' configurations have of it where a config.json does not say. */
#define AG_CAPPED_DEFAULTS                                                                         \
    {.offset = AG_SETTING_FIELD(n_kv_heads), .hf = 4},                                             \
    {.offset = AG_SETTING_FIELD(head_dim), .hf = 256},                                             \
    {.offset = AG_SETTING_FIELD(query_scalar), .hf = 256},                                         \
    {.offset = AG_SETTING_FIELD(tied), .hf = true}

/* The same of Qwen's windows, which are off unless used. */
#define AG_WINDOW_DEFAULTS                                                                         \
    {.offset = AG_SETTING_FIELD(window_tokens), .hf = 4096, .is_null = true},                      \
    {.offset = AG_SETTING_FIELD(first_window_layer), .hf = 28}

/* Norms before attention and the feed-forward part, and behind them. */
#define AG_NORMS_AROUND_NAMES(transform)                                                           \
    {AG_ROLE_FINAL_NORM, "model.norm.weight", "output_norm.weight", transform, AG_STACK_NONE},     \
    {AG_ROLE_ATTN_NORM, "model.layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight",       \
     transform, AG_STACK_NONE},                                                                    \
    {AG_ROLE_ATTN_POST_NORM, "model.layers.%u.post_attention_layernorm.weight",                    \
     "blk.%u.post_attention_norm.weight", transform, AG_STACK_NONE},                               \
    {AG_ROLE_FFN_NORM, "model.layers.%u.pre_feedforward_layernorm.weight",                         \
     "blk.%u.ffn_norm.weight", transform, AG_STACK_NONE},                                          \
    {AG_ROLE_FFN_POST_NORM, "model.layers.%u.post_feedforward_layernorm.weight",                   \
     "blk.%u.post_ffw_norm.weight", transform, AG_STACK_NONE}
/* clang-format on */
