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
     .tensors = gemma2},
    {.name = "gemma3",
     .hf_type = "gemma3_text",
     .gguf_arch = "gemma3",
     .windows = IN_TURN,
     .period = 6,
     .has_caps = true,
     .tensors = gemma3},
    {.name = "qwen2", .gguf_arch = "qwen2", .biases = BIASES_QKV, .tensors = qwen2},
    {.name = "qwen3", .gguf_arch = "qwen3", .biases = BIASES_ATTENTION, .tensors = qwen3},
    {.name = "olmo2", .gguf_arch = "olmo2", .biases = BIASES_ATTENTION, .tensors = olmo2},
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
