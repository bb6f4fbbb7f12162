/* What the files of each family hold. A new family is a row here, and its tensors. */
#include <string.h>

#include "model.h"
#include "runtime/model/family.h"

/* clang-format off */
#define DECODER                                                                                    \
    {"model.embed_tokens", "token_embd", AXIS_VOCAB, AXIS_HIDDEN, ALWAYS, false, "weight"},        \
    {"lm_head", "output", AXIS_VOCAB, AXIS_HIDDEN, IF_UNTIED, false, "weight"},                    \
    {"model.norm", "output_norm", AXIS_HIDDEN, AXIS_NONE, ALWAYS, false, "weight"},                \
    {"model.layers.%u.self_attn.q_proj", "blk.%u.attn_q", AXIS_Q, AXIS_HIDDEN, ALWAYS, false,      \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.k_proj", "blk.%u.attn_k", AXIS_KV, AXIS_HIDDEN, ALWAYS, false,     \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.v_proj", "blk.%u.attn_v", AXIS_KV, AXIS_HIDDEN, ALWAYS, false,     \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.o_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_Q, ALWAYS, false, \
     "weight"},                                                                                    \
    {"model.layers.%u.self_attn.q_proj", "blk.%u.attn_q", AXIS_Q, AXIS_NONE, IF_QKV_BIAS, false,   \
     "bias"},                                                                                      \
    {"model.layers.%u.self_attn.k_proj", "blk.%u.attn_k", AXIS_KV, AXIS_NONE, IF_QKV_BIAS, false,  \
     "bias"},                                                                                      \
    {"model.layers.%u.self_attn.v_proj", "blk.%u.attn_v", AXIS_KV, AXIS_NONE, IF_QKV_BIAS, false,  \
     "bias"},                                                                                      \
    {"model.layers.%u.self_attn.o_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_NONE,             \
     IF_O_BIAS, false, "bias"}

#define NORMS_BEFORE                                                                               \
    {"model.layers.%u.input_layernorm", "blk.%u.attn_norm", AXIS_HIDDEN, AXIS_NONE, ALWAYS, false, \
     "weight"},                                                                                    \
    {"model.layers.%u.post_attention_layernorm", "blk.%u.ffn_norm", AXIS_HIDDEN, AXIS_NONE,        \
     ALWAYS, false, "weight"}

#define NORMS_AROUND                                                                               \
    {"model.layers.%u.input_layernorm", "blk.%u.attn_norm", AXIS_HIDDEN, AXIS_NONE, ALWAYS, false, \
     "weight"},                                                                                    \
    {"model.layers.%u.post_attention_layernorm", "blk.%u.post_attention_norm", AXIS_HIDDEN,        \
     AXIS_NONE, ALWAYS, false, "weight"},                                                          \
    {"model.layers.%u.pre_feedforward_layernorm", "blk.%u.ffn_norm", AXIS_HIDDEN, AXIS_NONE,       \
     ALWAYS, false, "weight"},                                                                     \
    {"model.layers.%u.post_feedforward_layernorm", "blk.%u.post_ffw_norm", AXIS_HIDDEN, AXIS_NONE, \
     ALWAYS, false, "weight"}

#define HEAD_NORMS                                                                                 \
    {"model.layers.%u.self_attn.q_norm", "blk.%u.attn_q_norm", AXIS_HEAD, AXIS_NONE, ALWAYS,       \
     false, "weight"},                                                                             \
    {"model.layers.%u.self_attn.k_norm", "blk.%u.attn_k_norm", AXIS_HEAD, AXIS_NONE, ALWAYS,       \
     false, "weight"}

#define GLU                                                                                        \
    {"model.layers.%u.mlp.gate_proj", "blk.%u.ffn_gate", AXIS_FFN, AXIS_HIDDEN, ALWAYS, false,     \
     "weight"},                                                                                    \
    {"model.layers.%u.mlp.up_proj", "blk.%u.ffn_up", AXIS_FFN, AXIS_HIDDEN, ALWAYS, false,         \
     "weight"},                                                                                    \
    {"model.layers.%u.mlp.down_proj", "blk.%u.ffn_down", AXIS_HIDDEN, AXIS_FFN, ALWAYS, false,     \
     "weight"}
/* clang-format on */

static const tensor_row_t llama[] = {
    DECODER,
    NORMS_BEFORE,
    GLU,
    {"model.layers.%u.mlp.gate_proj", "blk.%u.ffn_gate", AXIS_FFN, AXIS_NONE, IF_FFN_BIAS, false,
     "bias"},
    {"model.layers.%u.mlp.up_proj", "blk.%u.ffn_up", AXIS_FFN, AXIS_NONE, IF_FFN_BIAS, false,
     "bias"},
    {"model.layers.%u.mlp.down_proj", "blk.%u.ffn_down", AXIS_HIDDEN, AXIS_NONE, IF_FFN_BIAS, false,
     "bias"},
    {0},
};

static const tensor_row_t mistral[] = {DECODER, NORMS_BEFORE, GLU, {0}};

static const tensor_row_t mixtral[] = {
    DECODER,
    NORMS_BEFORE,
    {"model.layers.%u.block_sparse_moe.gate", "blk.%u.ffn_gate_inp", AXIS_EXPERTS, AXIS_HIDDEN,
     ALWAYS, false, "weight"},
    {"model.layers.%u.block_sparse_moe.experts.%u.w1", "blk.%u.ffn_gate_exps", AXIS_FFN,
     AXIS_HIDDEN, ALWAYS, true, "weight"},
    {"model.layers.%u.block_sparse_moe.experts.%u.w3", "blk.%u.ffn_up_exps", AXIS_FFN, AXIS_HIDDEN,
     ALWAYS, true, "weight"},
    {"model.layers.%u.block_sparse_moe.experts.%u.w2", "blk.%u.ffn_down_exps", AXIS_HIDDEN,
     AXIS_FFN, ALWAYS, true, "weight"},
    {0},
};

static const tensor_row_t qwen2[] = {
    DECODER,
    NORMS_BEFORE,
    GLU,
    {0},
};

static const tensor_row_t qwen3[] = {DECODER, NORMS_BEFORE, HEAD_NORMS, GLU, {0}};

static const tensor_row_t gemma2[] = {DECODER, NORMS_AROUND, GLU, {0}};

static const tensor_row_t gemma3[] = {DECODER, NORMS_AROUND, HEAD_NORMS, GLU, {0}};

static const tensor_row_t olmo2[] = {
    DECODER,
    GLU,
    {"model.layers.%u.self_attn.q_norm", "blk.%u.attn_q_norm", AXIS_Q, AXIS_NONE, ALWAYS, false,
     "weight"},
    {"model.layers.%u.self_attn.k_norm", "blk.%u.attn_k_norm", AXIS_KV, AXIS_NONE, ALWAYS, false,
     "weight"},
    {"model.layers.%u.post_attention_layernorm", "blk.%u.post_attention_norm", AXIS_HIDDEN,
     AXIS_NONE, ALWAYS, false, "weight"},
    {"model.layers.%u.post_feedforward_layernorm", "blk.%u.post_ffw_norm", AXIS_HIDDEN, AXIS_NONE,
     ALWAYS, false, "weight"},
    {0},
};

/* A matrix of a bias, and one alike of norms. */
#define BIASED(hf, gguf, rows, cols, form)                                                         \
    {hf, gguf, rows, cols, ALWAYS, form, "weight"},                                                \
    {                                                                                              \
        hf, gguf, rows, AXIS_NONE, ALWAYS, FORM_PLAIN, "bias"                                      \
    }
#define BIASED_NORM(hf, gguf)                                                                      \
    {hf, gguf, AXIS_HIDDEN, AXIS_NONE, ALWAYS, FORM_PLAIN, "weight"},                              \
    {                                                                                              \
        hf, gguf, AXIS_HIDDEN, AXIS_NONE, ALWAYS, FORM_PLAIN, "bias"                               \
    }

static const tensor_row_t gpt2[] = {
    {"transformer.wte", "token_embd", AXIS_VOCAB, AXIS_HIDDEN, ALWAYS, FORM_PLAIN, "weight"},
    {"transformer.wpe", "position_embd", AXIS_POSITIONS, AXIS_HIDDEN, ALWAYS, FORM_PLAIN, "weight"},
    {"lm_head", "output", AXIS_VOCAB, AXIS_HIDDEN, IF_UNTIED, FORM_PLAIN, "weight"},
    BIASED_NORM("transformer.ln_f", "output_norm"),
    BIASED_NORM("transformer.h.%u.ln_1", "blk.%u.attn_norm"),
    BIASED_NORM("transformer.h.%u.ln_2", "blk.%u.ffn_norm"),
    BIASED("transformer.h.%u.attn.c_attn", "blk.%u.attn_qkv", AXIS_QKV, AXIS_HIDDEN,
           FORM_TRANSPOSED),
    BIASED("transformer.h.%u.attn.c_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_Q,
           FORM_TRANSPOSED),
    BIASED("transformer.h.%u.mlp.c_fc", "blk.%u.ffn_up", AXIS_FFN, AXIS_HIDDEN, FORM_TRANSPOSED),
    BIASED("transformer.h.%u.mlp.c_proj", "blk.%u.ffn_down", AXIS_HIDDEN, AXIS_FFN,
           FORM_TRANSPOSED),
    {0},
};

static const tensor_row_t phi3[] = {
    {"model.embed_tokens", "token_embd", AXIS_VOCAB, AXIS_HIDDEN, ALWAYS, FORM_PLAIN, "weight"},
    {"lm_head", "output", AXIS_VOCAB, AXIS_HIDDEN, IF_UNTIED, FORM_PLAIN, "weight"},
    {"model.norm", "output_norm", AXIS_HIDDEN, AXIS_NONE, ALWAYS, FORM_PLAIN, "weight"},
    NORMS_BEFORE,
    {"model.layers.%u.self_attn.qkv_proj", "blk.%u.attn_qkv", AXIS_QKV, AXIS_HIDDEN, ALWAYS,
     FORM_PLAIN, "weight"},
    {"model.layers.%u.self_attn.o_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_Q, ALWAYS,
     FORM_PLAIN, "weight"},
    {"model.layers.%u.mlp.gate_up_proj", "blk.%u.ffn_up", AXIS_FFN_2, AXIS_HIDDEN, ALWAYS,
     FORM_PLAIN, "weight"},
    {"model.layers.%u.mlp.down_proj", "blk.%u.ffn_down", AXIS_HIDDEN, AXIS_FFN, ALWAYS, FORM_PLAIN,
     "weight"},
    {0},
};

static const tensor_row_t starcoder2[] = {
    {"model.embed_tokens", "token_embd", AXIS_VOCAB, AXIS_HIDDEN, ALWAYS, FORM_PLAIN, "weight"},
    {"lm_head", "output", AXIS_VOCAB, AXIS_HIDDEN, IF_UNTIED, FORM_PLAIN, "weight"},
    BIASED_NORM("model.norm", "output_norm"),
    BIASED_NORM("model.layers.%u.input_layernorm", "blk.%u.attn_norm"),
    BIASED_NORM("model.layers.%u.post_attention_layernorm", "blk.%u.ffn_norm"),
    BIASED("model.layers.%u.self_attn.q_proj", "blk.%u.attn_q", AXIS_Q, AXIS_HIDDEN, FORM_PLAIN),
    BIASED("model.layers.%u.self_attn.k_proj", "blk.%u.attn_k", AXIS_KV, AXIS_HIDDEN, FORM_PLAIN),
    BIASED("model.layers.%u.self_attn.v_proj", "blk.%u.attn_v", AXIS_KV, AXIS_HIDDEN, FORM_PLAIN),
    BIASED("model.layers.%u.self_attn.o_proj", "blk.%u.attn_output", AXIS_HIDDEN, AXIS_Q,
           FORM_PLAIN),
    BIASED("model.layers.%u.mlp.c_fc", "blk.%u.ffn_up", AXIS_FFN, AXIS_HIDDEN, FORM_PLAIN),
    BIASED("model.layers.%u.mlp.c_proj", "blk.%u.ffn_down", AXIS_HIDDEN, AXIS_FFN, FORM_PLAIN),
    {0},
};

const family_t families[] = {
    {.name = "llama", .gguf_arch = "llama", .biases = BIASES_ANY, .tensors = llama},
    {.name = "mistral", .gguf_arch = "llama", .windows = ALL_LAYERS, .tensors = mistral},
    {.name = "mixtral",
     .gguf_arch = "llama",
     .has_experts = true,
     .windows = ALL_OR_NONE,
     .tensors = mixtral},
    {.name = "gemma2",
     .gguf_arch = "gemma2",
     .windows = IN_TURN,
     .period = 2,
     .has_caps = true,
     .caps_scores = true,
     .adds_1 = true,
     .norms_after = true,
     .tensors = gemma2},
    {.name = "gemma3",
     .hf_type = "gemma3_text",
     .gguf_arch = "gemma3",
     .windows = IN_TURN,
     .period = 6,
     .has_caps = true,
     .adds_1 = true,
     .norms_after = true,
     .tensors = gemma3},
    {.name = "qwen2", .gguf_arch = "qwen2", .biases = BIASES_QKV, .tensors = qwen2},
    {.name = "qwen3", .gguf_arch = "qwen3", .biases = BIASES_ATTENTION, .tensors = qwen3},
    {.name = "olmo2",
     .gguf_arch = "olmo2",
     .biases = BIASES_ATTENTION,
     .norms_after = true,
     .tensors = olmo2},
    {.name = "qwen2_moe",
     .gguf_arch = "qwen2moe",
     .has_experts = true,
     .experts = EXPERTS_SHARED,
     .biases = BIASES_QKV,
     .tensors = tensors_qwen2_moe},
    {.name = "qwen3_moe",
     .gguf_arch = "qwen3moe",
     .has_experts = true,
     .experts = EXPERTS_NORMED,
     .tensors = tensors_qwen3_moe},
    {.name = "olmoe",
     .gguf_arch = "olmoe",
     .has_experts = true,
     .experts = EXPERTS_PARTS,
     .tensors = tensors_olmoe},
    {.name = "gpt_oss",
     .gguf_arch = "gpt-oss",
     .has_experts = true,
     .experts = EXPERTS_ALWAYS_NORMED,
     .biases = BIASES_QKV,
     .windows = ALL_LAYERS,
     .has_sinks = true,
     .tensors = tensors_gpt_oss},
    {.name = "deepseek_v2",
     .gguf_arch = "deepseek2",
     .has_experts = true,
     .experts = EXPERTS_V2,
     .tensors = tensors_deepseek_v2},
    {.name = "deepseek_v3",
     .gguf_arch = "deepseek2",
     .has_experts = true,
     .experts = EXPERTS_V3,
     .tensors = tensors_deepseek_v3},
    {.name = "gpt2", .gguf_arch = "gpt2", .has_positions = true, .tensors = gpt2},
    {.name = "phi3",
     .gguf_arch = "phi3",
     .windows = ALL_OR_NONE,
     .rotates_part = true,
     .tensors = phi3},
    {.name = "starcoder2",
     .gguf_arch = "starcoder2",
     .windows = ALL_OR_NONE,
     .biases = BIASES_ALL,
     .tensors = starcoder2},
    {0},
};

bool family_is_known(const family_t *family)
{
    for (size_t i = 0; ag_families[i] != NULL; i++) {
        if (strcmp(ag_families[i]->name, family->name) == 0) {
            return true;
        }
    }
    return false;
}

uint64_t model_length(const model_t *model, axis_t axis)
{
    switch (axis) {
    case AXIS_HIDDEN:
        return model->hidden;
    case AXIS_HEAD:
        return model->head_dim;
    case AXIS_Q:
        return (uint64_t)model->n_heads * model->head_dim;
    case AXIS_KV:
        return (uint64_t)model->n_kv_heads * model->head_dim;
    case AXIS_QKV:
        return (model->n_heads + 2ull * model->n_kv_heads) * model->head_dim;
    case AXIS_FFN:
        return model->ffn;
    case AXIS_FFN_2:
        return 2ull * model->ffn;
    case AXIS_POSITIONS:
        return model->context;
    case AXIS_VOCAB:
        return model->vocab;
    case AXIS_EXPERTS:
        return model->n_experts;
    case AXIS_HEADS:
        return model->n_heads;
    case AXIS_SHARED:
        return model->shared;
    case AXIS_Q_RANK:
        return model->q_rank;
    case AXIS_KV_RANK:
        return model->kv_rank;
    case AXIS_KV_A:
        return model->kv_rank + model->rotary;
    case AXIS_KV_B:
        return (uint64_t)model->n_heads * (model->head_dim - model->rotary + model->value_dim);
    case AXIS_HEAD_RANKS:
        return (uint64_t)model->n_heads * model->kv_rank;
    case AXIS_KEY_PART:
        return model->head_dim - model->rotary;
    case AXIS_VALUES:
        return (uint64_t)model->n_heads * model->value_dim;
    default:
        return 1;
    }
}
