"""GGUF files of models of make_reference.py as llama.cpp's convert_hf_to_gguf.py writes them, where these differ from
folders by more than names: norms with the 1 in them that Gemma's add, ropes. Writes data/families/NAME/model.gguf.

    python3 -m venv V && V/bin/pip install gguf==0.19.0 safetensors numpy
    V/bin/python3 tests/parity/make_family_files.py
"""
import json
import math
import os
import types

import gguf
import numpy as np
from safetensors.numpy import load_file

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
FAMILIES = os.path.join(DATA, "families")
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
         "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}


def gguf_name(name, arch):
    stem = name.removesuffix(".weight")
    if arch == "phi3" and "post_attention_layernorm" in stem:
        return f"blk.{stem.split('.')[2]}.ffn_norm.weight"
    if stem.startswith("model.layers."):
        layer, stem = stem[len("model.layers."):].split(".", 1)
        return f"blk.{layer}.{NAMES[stem]}.weight"
    return {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[stem] + ".weight"


def write_tokenizer(writer):
    with open(os.path.join(DATA, "tiny", "llama", "tokenizer.json")) as file:
        tokenizer = json.load(file)
    tokens, kinds = [f"[PAD{i}]" for i in range(307)], [gguf.TokenType.UNUSED] * 307
    for text, i in tokenizer["model"]["vocab"].items():
        tokens[i], kinds[i] = text, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def write_gemma(writer, config):
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_sliding_window(config.sliding_window)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    else:
        rope = config.rope_parameters["full_attention"]
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def write_phi3(writer, config):
    rope, original = config.rope_parameters, config.original_max_position_embeddings
    head_dim = config.hidden_size // config.num_attention_heads
    writer.add_sliding_window(config.sliding_window)
    writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * head_dim))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_orig_ctx_len(original)
    scale = config.max_position_embeddings / original
    writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
    for length in ("long", "short"):
        writer.add_tensor(f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], np.float32))


def write_gguf(name, arch, write_more):
    folder = os.path.join(FAMILIES, name)
    with open(os.path.join(folder, "config.json")) as file:
        config = types.SimpleNamespace(**json.load(file))
    writer = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), arch)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    write_more(writer, config)
    write_tokenizer(writer)
    for key, tensor in load_file(os.path.join(folder, "model.safetensors")).items():
        adds_1 = arch.startswith("gemma") and "norm" in key
        writer.add_tensor(gguf_name(key, arch), tensor + np.float32(1) if adds_1 else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write_gguf("gemma2", "gemma2", write_gemma)
    write_gguf("gemma3", "gemma3", write_gemma)
    write_gguf("phi3_long", "phi3", write_phi3)
