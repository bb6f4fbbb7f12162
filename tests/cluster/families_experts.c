/* Families with experts: their tensors, and what their settings say beside those of all. */
#include <string.h>

#include "model.h"

/* clang-format off */
#define EMBEDDINGS                                                                                 \
    {"model.embed_tokens", "token_embd", AXIS_VOCAB, AXIS_HIDDEN, ALWAYS, false, "weight"},        \
    {"lm_head", "output", AXIS_VOCAB, AXIS_HIDDEN, IF_UNTIED, false, "weight"},                    \
    {"model.norm", "output_norm", AXIS_HIDDEN, AXIS_NONE, ALWAYS, false, "weight"},                \
    {"model.layers.%u.input_layernorm", "blk.%u.attn_norm", AXIS_HIDDEN, AXIS_NONE, ALWAYS, false, \
     "weight"}

#define NORM_OF_EXPERTS(gguf)                                                                      \
    {"model.layers.%u.post_attention_layernorm", gguf, AXIS_HIDDEN, AXIS_NONE, ALWAYS, false,      \
     "weight"}

#define HEADS                                                                                      \
    {"model.layers.%u.self_attn.q_proj", "blk.%u.attn_q", AXIS_Q, AXIS_HIDDEN, ALWAYS, false,      \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.k_proj", "blk.%u.attn_k", AXIS_KV, AXIS_HIDDEN, ALWAYS, false,     \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.v_proj", "blk.%u.attn_v", AXIS_KV, AXIS_HIDDEN, ALWAYS, false,     \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.o_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_Q, ALWAYS, false, \
     "weight"}

#define QKV_BIASES                                                                                 \
    {"model.layers.%u.self_attn.q_proj", "blk.%u.attn_q", AXIS_Q, AXIS_NONE, IF_QKV_BIAS, false,   \
     "bias"},                                                                                      \
    {"model.layers.%u.self_attn.k_proj", "blk.%u.attn_k", AXIS_KV, AXIS_NONE, IF_QKV_BIAS, false,  \
     "bias"},                                                                                      \
    {"model.layers.%u.self_attn.v_proj", "blk.%u.attn_v", AXIS_KV, AXIS_NONE, IF_QKV_BIAS, false,  \
     "bias"}

#define QK_NORMS(q, k)                                                                             \
    {"model.layers.%u.self_attn.q_norm", "blk.%u.attn_q_norm", q, AXIS_NONE, ALWAYS, false,        \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.k_norm", "blk.%u.attn_k_norm", k, AXIS_NONE, ALWAYS, false,        \
     "weight"}

#define EXPERTS(router)                                                                            \
    {"model.layers.%u.mlp." router, "blk.%u.ffn_gate_inp", AXIS_EXPERTS, AXIS_HIDDEN, ALWAYS,      \
     false, "weight"},                                                                             \
    {"model.layers.%u.mlp.experts.%u.gate_proj", "blk.%u.ffn_gate_exps", AXIS_FFN, AXIS_HIDDEN,    \
     ALWAYS, true, "weight"},                                                                      \
    {"model.layers.%u.mlp.experts.%u.up_proj", "blk.%u.ffn_up_exps", AXIS_FFN, AXIS_HIDDEN,        \
     ALWAYS, true, "weight"},                                                                      \
    {"model.layers.%u.mlp.experts.%u.down_proj", "blk.%u.ffn_down_exps", AXIS_HIDDEN, AXIS_FFN,    \
     ALWAYS, true, "weight"}

#define SHARED(module)                                                                             \
    {"model.layers.%u.mlp." module ".gate_proj", "blk.%u.ffn_gate_shexp", AXIS_SHARED,             \
     AXIS_HIDDEN, ALWAYS, false, "weight"},                                                        \
    {"model.layers.%u.mlp." module ".up_proj", "blk.%u.ffn_up_shexp", AXIS_SHARED, AXIS_HIDDEN,    \
     ALWAYS, false, "weight"},                                                                     \
    {"model.layers.%u.mlp." module ".down_proj", "blk.%u.ffn_down_shexp", AXIS_HIDDEN,             \
     AXIS_SHARED, ALWAYS, false, "weight"}

/* Of DeepSeek's: the first layers have one feed-forward part, whose tensors all have here. */
#define LATENTS                                                                                    \
    EMBEDDINGS, NORM_OF_EXPERTS("blk.%u.ffn_norm"), EXPERTS("gate"), SHARED("shared_experts"),     \
    {"model.layers.%u.mlp.gate_proj", "blk.%u.ffn_gate", AXIS_FFN, AXIS_HIDDEN, ALWAYS, false,     \
     "weight"},                                                                                    \
    {"model.layers.%u.mlp.up_proj", "blk.%u.ffn_up", AXIS_FFN, AXIS_HIDDEN, ALWAYS, false,         \
     "weight"},                                                                                    \
    {"model.layers.%u.mlp.down_proj", "blk.%u.ffn_down", AXIS_HIDDEN, AXIS_FFN, ALWAYS, false,     \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.q_proj", "blk.%u.attn_q", AXIS_Q, AXIS_HIDDEN, IF_NO_Q_RANK,       \
     false, "weight"},                                                                             \
    {"model.layers.%u.self_attn.q_a_proj", "blk.%u.attn_q_a", AXIS_Q_RANK, AXIS_HIDDEN,            \
     IF_Q_RANK, false, "weight"},                                                                  \
    {"model.layers.%u.self_attn.q_a_layernorm", "blk.%u.attn_q_a_norm", AXIS_Q_RANK, AXIS_NONE,    \
     IF_Q_RANK, false, "weight"},                                                                  \
    {"model.layers.%u.self_attn.q_b_proj", "blk.%u.attn_q_b", AXIS_Q, AXIS_Q_RANK, IF_Q_RANK,      \
     false, "weight"},                                                                             \
    {"model.layers.%u.self_attn.kv_a_proj_with_mqa", "blk.%u.attn_kv_a_mqa", AXIS_KV_A,            \
     AXIS_HIDDEN, ALWAYS, false, "weight"},                                                        \
    {"model.layers.%u.self_attn.kv_a_layernorm", "blk.%u.attn_kv_a_norm", AXIS_KV_RANK, AXIS_NONE, \
     ALWAYS, false, "weight"},                                                                     \
    {"model.layers.%u.self_attn.kv_b_proj", "blk.%u.attn_kv_b", AXIS_KV_B, AXIS_KV_RANK,           \
     IF_NO_SPLIT, false, "weight"},                                                                \
    {"model.layers.%u.k_b", "blk.%u.attn_k_b", AXIS_HEAD_RANKS, AXIS_KEY_PART, IF_SPLIT, false,    \
     "weight"},                                                                                    \
    {"model.layers.%u.v_b", "blk.%u.attn_v_b", AXIS_VALUES, AXIS_KV_RANK, IF_SPLIT, false,         \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.o_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_VALUES, ALWAYS,   \
     false, "weight"}
/* clang-format on */

const tensor_row_t tensors_qwen2_moe[] = {
    EMBEDDINGS,
    NORM_OF_EXPERTS("blk.%u.ffn_norm"),
    HEADS,
    QKV_BIASES,
    EXPERTS("gate"),
    SHARED("shared_expert"),
    {"model.layers.%u.mlp.shared_expert_gate", "blk.%u.ffn_gate_inp_shexp", AXIS_ONE, AXIS_HIDDEN,
     ALWAYS, false, "weight"},
    {0},
};

const tensor_row_t tensors_qwen3_moe[] = {EMBEDDINGS,      NORM_OF_EXPERTS("blk.%u.ffn_norm"),
                                          HEADS,           QK_NORMS(AXIS_HEAD, AXIS_HEAD),
                                          EXPERTS("gate"), {0}};

const tensor_row_t tensors_olmoe[] = {EMBEDDINGS,      NORM_OF_EXPERTS("blk.%u.ffn_norm"),
                                      HEADS,           QK_NORMS(AXIS_Q, AXIS_KV),
                                      EXPERTS("gate"), {0}};

const tensor_row_t tensors_gpt_oss[] = {
    EMBEDDINGS,
    NORM_OF_EXPERTS("blk.%u.post_attention_norm"),
    HEADS,
    QKV_BIASES,
    EXPERTS("router"),
    {"model.layers.%u.self_attn.o_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_NONE, ALWAYS,
     false, "bias"},
    {"model.layers.%u.self_attn", "blk.%u.attn_sinks", AXIS_HEADS, AXIS_NONE, ALWAYS, false,
     "weight|sinks"},
    {"model.layers.%u.mlp.router", "blk.%u.ffn_gate_inp", AXIS_EXPERTS, AXIS_NONE, ALWAYS, false,
     "bias"},
    {"model.layers.%u.mlp.experts.%u.gate_proj", "blk.%u.ffn_gate_exps", AXIS_FFN, AXIS_NONE,
     ALWAYS, true, "bias"},
    {"model.layers.%u.mlp.experts.%u.up_proj", "blk.%u.ffn_up_exps", AXIS_FFN, AXIS_NONE, ALWAYS,
     true, "bias"},
    {"model.layers.%u.mlp.experts.%u.down_proj", "blk.%u.ffn_down_exps", AXIS_HIDDEN, AXIS_NONE,
     ALWAYS, true, "bias"},
    {0},
};

const tensor_row_t tensors_deepseek_v2[] = {LATENTS, {0}};

const tensor_row_t tensors_deepseek_v3[] = {
    LATENTS,
    {"model.layers.%u.mlp.gate", "blk.%u.exp_probs_b", AXIS_EXPERTS, AXIS_NONE, ALWAYS, false,
     "bias|e_score_correction_bias"},
    {0},
};

void experts_draw(dice_t *dice, model_t *model)
{
    experts_t kind = model->family->experts;
    uint32_t per_group;

    model->n_experts = dice_between(dice, 2, 8);
    model->n_experts_used = dice_between(dice, 1, model->n_experts < 3 ? model->n_experts : 3);
    /* GGUF files of some say nothing of it */
    model->sums_to_1 = kind == EXPERTS_NORMED ? model->is_gguf || dice_one_in(dice, 2)
                       : kind == EXPERTS_V3   ? dice_one_in(dice, 2)
                       : kind == EXPERTS_PARTS || kind == EXPERTS_SHARED
                           ? !model->is_gguf && dice_one_in(dice, 2)
                           : false;
    model->shared = kind == EXPERTS_SHARED ? dice_between(dice, 8, 100) : 0;
    if (kind < EXPERTS_V2) {
        return;
    }
    model->n_groups = dice_between(dice, 1, 4);
    model->n_groups_used = dice_between(dice, 1, model->n_groups);
    per_group = dice_between(dice, 2, 3);
    model->n_experts = model->n_groups * per_group;
    model->n_experts_used = dice_between(dice, 1, model->n_groups_used * per_group < 3 ? 2 : 3);
    model->n_dense = model->n_layers > 1 ? dice_below(dice, 2) : 0;
    model->shared = dice_between(dice, 1, 2) * model->ffn;
    model->n_kv_heads = model->n_heads;
    model->rotary = 2 * dice_between(dice, 1, model->head_dim / 2 - 1);
    model->value_dim = dice_between(dice, model->head_dim / 2, model->head_dim);
    model->kv_rank = dice_one_in(dice, 2) /* a norm over few numbers may be over hardly any */
                         ? dice_between(dice, 16, 64)
                         : 32 * dice_between(dice, 1, 2);
    model->is_split = model->is_gguf && dice_one_in(dice, 2);
    model->q_rank = dice_one_in(dice, 2) ? dice_between(dice, 16, 64) : 0;
}

static uint32_t list_plain(const model_t *model, setting_t *settings)
{
    const setting_t all[] = {
        {"num_local_experts", "expert_count", model->n_experts, false},
        {"num_experts_per_tok", "expert_used_count", model->n_experts_used, false},
        {"norm_topk_prob", "expert_weights_norm", model->sums_to_1, false},
        {"moe_intermediate_size", "expert_feed_forward_length", model->ffn, false},
        {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", model->shared,
         false},
    };
    uint32_t n = model->family->experts == EXPERTS_SHARED ? 5 : 4;

    memcpy(settings, all, n * sizeof(all[0]));
    return n;
}

uint32_t experts_settings(const model_t *model, setting_t *settings)
{
    const setting_t latent[] = {
        {"qk_nope_head_dim", "nope", model->head_dim - model->rotary, false},
        {"qk_rope_head_dim", "rope.dimension_count", model->rotary, false},
        {"v_head_dim", "attention.value_length",
         model->is_split ? model->kv_rank : model->value_dim, false},
        {"key_mla", "attention.key_length_mla", model->is_split ? model->head_dim : 0, false},
        {"value_mla", "attention.value_length_mla", model->is_split ? model->value_dim : 0, false},
        {"kv_lora_rank", "attention.kv_lora_rank", model->kv_rank, false},
        {"q_lora_rank", "attention.q_lora_rank", model->q_rank, false},
        {"first_k_dense_replace", "leading_dense_block_count", model->n_dense, false},
        {"n_shared_experts", "expert_shared_count", model->shared / model->ffn, false},
        {"n_group", "expert_group_count", model->n_groups, false},
        {"topk_group", "expert_group_used_count", model->n_groups_used, false},
        {"routed_scaling_factor", "expert_weights_scale", 1.5, true},
        {"gating", "expert_gating_func", model->family->experts == EXPERTS_V3 ? 2 : 1, false},
    };
    uint32_t n = list_plain(model, settings);

    if (model->family->experts >= EXPERTS_V2) {
        memcpy(settings + n, latent, sizeof(latent));
        n += sizeof(latent) / sizeof(latent[0]);
    }
    return n;
}
