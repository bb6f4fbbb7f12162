"""Reference logits from transformers for what the golden data lacks: scaled ropes, biases, other heads, other
types and forms of files. Writes data/variants/.

    python3 -m venv V && V/bin/pip install torch==2.15.0 transformers==5.23.0 gguf==0.19.0 safetensors numpy
    V/bin/python3 tests/parity/make_variants.py
"""
import json
import math
import os
import shutil

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
OUT = os.path.join(DATA, "variants")
TOKENIZER = os.path.join(DATA, "tiny", "llama", "tokenizer.json")
VOCAB = 307
KEPT = 12  # positions whose logits are kept, the last ones
WINDOW = 20
CONTEXT = 128
TEXT = "the cat and the hat; then they sat there and the other one went on with the others. " * 2
ROPES = {
    "rope_default": {"rope_type": "default", "rope_theta": 10000.0},
    "rope_llama3": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "rope_linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "rope_yarn": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                  "original_max_position_embeddings": 32},
    "rope_yarn_factor": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "attention_factor": 0.8,
                         "beta_fast": 16.0, "beta_slow": 2.0, "original_max_position_embeddings": 32},
}


def config_of(rope="rope_default", **changes):
    return LlamaConfig(**dict(dict(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=61, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=True, rope_parameters=ROPES[rope]), **changes))


def make_model(config, seed, dtype=torch.float32):
    """Random weights, rounded to dtype, in a float32 model."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            mean, spread = (1, 0.2) if "norm" in name else (0, 0.5 if name.endswith("bias") else 0.12)
            tensor.normal_(mean, spread)
            tensor.copy_(tensor.to(dtype).float())
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids)[None].astype(np.int64)), use_cache=False).logits[0].numpy()


def write_logits(name, model):
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    for length, path in (("33", os.path.join(DATA, "tiny", "seq33.npy")),
                         ("100", os.path.join(OUT, "seq100.npy"))):
        np.save(os.path.join(folder, f"logits{length}.npy"), logits_of(model, np.load(path))[-KEPT:])


def write_config(name, config, dtype):
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    config.dtype, config.architectures = dtype, ["LlamaForCausalLM"]
    config.save_pretrained(folder)


def stored(model, dtype):
    return {name: tensor.to(dtype).contiguous().clone() for name, tensor in model.state_dict().items()
            if name != "lm_head.weight" or not model.config.tie_word_embeddings}


def write_folder(name, config, seed, dtype=torch.float32, shards=1):
    """A Hugging Face folder and its logits; the tests lend it the tiny tokenizer."""
    model = make_model(config, seed, dtype)
    write_config(name, config, dtype)
    tensors = list(stored(model, dtype).items())
    names, index = [], {}
    for i in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(tensors[i::shards])
        save_file(part, os.path.join(OUT, name, file), metadata={"format": "pt"})
        names.append(file)
        index.update(dict.fromkeys(part, file))
    if shards > 1:
        total = sum(tensor.nbytes for _, tensor in tensors)
        with open(os.path.join(OUT, name, "model.safetensors.index.json"), "w") as file:
            json.dump({"metadata": {"total_size": total}, "weight_map": index}, file)
    write_logits(name, model)
    return model


def heads_swapped(weight, n_heads, back=False):
    """Rows as llama.cpp's converter orders those of q and k (or back)."""
    half = weight.shape[0] // n_heads // 2
    shape = (n_heads, half, 2) if back else (n_heads, 2, half)
    return weight.reshape(*shape, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def gguf_name(name):
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    inner = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm"}
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        layer, stem = stem[len("model.layers."):].split(".", 1)
        return f"blk.{layer}.{inner[stem]}.{kind}"
    return f"{names[stem]}.{kind}"


def heads_of(name, config):
    return (config.num_attention_heads if "q_proj" in name else
            config.num_key_value_heads if "k_proj" in name else 0)


def write_tokenizer(writer, add_bos):
    with open(TOKENIZER) as file:
        tokenizer = json.load(file)
    tokens = [f"[PAD{i}]" for i in range(VOCAB)]
    types = [gguf.TokenType.UNUSED] * VOCAB
    for text, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = text, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(add_bos)


def rope_factors(rope, head_dim):
    """As the converter writes rope_freqs.weight."""
    factors = []
    old = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    for freq in 1.0 / (rope["rope_theta"] ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)):
        length = 2 * math.pi / freq
        smooth = (old / length - low) / (high - low)
        factors.append(1 if length < old / high else rope["factor"] if length > old / low else
                       1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write_rope(writer, config):
    rope = config.rope_parameters
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(rope, config.head_dim))
    elif rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def random_blocks(draw, kind, rows, columns):
    """Blocks of a K-quant with every bit random but the scales, which make weights of about 0.03 to 0.06."""
    blocks = rows * columns // 256
    def half(mean):
        return (mean * draw.uniform(0.5, 1.5, (blocks, 1))).astype("<f2").view(np.uint8)
    def noise(size):
        return draw.integers(0, 256, (blocks, size), dtype=np.uint8)
    parts = {Type.Q4_K: lambda: [half(3e-4), half(7.5 * 3e-4), noise(12 + 128)],
             Type.Q6_K: lambda: [noise(128 + 64 + 16), half(2e-5)]}[kind]()
    return np.concatenate(parts, axis=1).reshape(rows, -1)


def write_gguf(name, config, seed, kind_of, add_bos=False):
    """A GGUF file, and the logits of what the gguf package reads back from it."""
    model = make_model(config, seed)
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    writer = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(VOCAB)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    write_rope(writer, config)
    write_tokenizer(writer, add_bos)
    draw = np.random.default_rng(seed)
    state = {}
    for key, tensor in stored(model, torch.float32).items():
        weight, n_heads = tensor.numpy(), heads_of(key, config)
        kind = kind_of(key) if weight.ndim == 2 else Type.F32
        if kind in (Type.Q4_K, Type.Q6_K):
            data = random_blocks(draw, kind, *weight.shape)
        else:
            data = gguf.quants.quantize(heads_swapped(weight, n_heads) if n_heads else weight, kind)
        writer.add_tensor(gguf_name(key), data, raw_dtype=kind)
        weight = gguf.quants.dequantize(data, kind).astype(np.float32)
        state[key] = torch.from_numpy(heads_swapped(weight, n_heads, back=True).copy() if n_heads else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    write_logits(name, model)
    return model


def loss_of(model, ids, window, before):
    losses = []
    for start in range(0, len(ids), window):
        run = before + ids[start:start + window]
        logp = torch.log_softmax(torch.from_numpy(logits_of(model, run)).double(), -1)
        losses += [-float(logp[i - 1, run[i]]) for i in range(1, len(run))]
    return {"predicted": len(losses), "nll": sum(losses) / len(losses)}


def write_bos(model):
    """The mean negative log likelihood of a text in windows, with BOS before each and without; of a text twice
    as long in windows as long as the context, with BOS before each."""
    tokenizer = Tokenizer.from_file(TOKENIZER)
    ids = tokenizer.encode(TEXT).ids
    result = {"text": TEXT, "ids": ids, "window": WINDOW, "bos": 1,
              "with_bos": loss_of(model, ids, WINDOW, [1]), "without_bos": loss_of(model, ids, WINDOW, []),
              "whole_context": loss_of(model, tokenizer.encode(TEXT * 2).ids, CONTEXT, [1])}
    with open(os.path.join(OUT, "bos.json"), "w") as file:
        json.dump(result, file, indent=1)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    np.save(os.path.join(OUT, "seq100.npy"),
            np.random.default_rng(100).integers(3, 300, 100).astype(np.int32))
    write_folder("rope_default", config_of(tie_word_embeddings=False), 1)
    weights = load_file(os.path.join(OUT, "rope_default", "model.safetensors"))
    for rope in list(ROPES)[1:]:  # the tests lend them rope_default's weights
        config = config_of(rope, tie_word_embeddings=False)
        model = make_model(config, 1)
        model.load_state_dict(weights)
        write_config(rope, config, torch.float32)
        write_logits(rope, model)
    write_folder("bias", config_of(attention_bias=True, mlp_bias=True), 2)
    write_folder("head_dim", config_of(head_dim=12, num_attention_heads=4), 3)
    write_folder("mqa", config_of(num_key_value_heads=1, intermediate_size=67), 4)
    write_folder("seven_heads", config_of(hidden_size=70, num_attention_heads=7, num_key_value_heads=1), 5)
    write_folder("bf16", config_of(), 6, torch.bfloat16)
    write_folder("f16", config_of(), 7, torch.float16)
    write_folder("sharded", config_of(num_hidden_layers=3, intermediate_size=45), 8, torch.bfloat16, 3)
    write_bos(write_gguf("gguf_f32_bias", config_of(attention_bias=True), 9, lambda _: Type.F32, True))
    write_gguf("gguf_f16_llama3", config_of("rope_llama3"), 10, lambda _: Type.F16)
    write_gguf("gguf_f16_linear", config_of("rope_linear", head_dim=12, num_attention_heads=4), 11,
               lambda _: Type.F16)
    for i, kind in enumerate((Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0)):
        write_gguf(f"gguf_{kind.name.lower()}", config_of("rope_yarn", intermediate_size=96), 12 + i,
                   lambda _: kind)
    write_gguf("gguf_k", config_of(hidden_size=256, intermediate_size=256), 20,
               lambda key: Type.Q6_K if "embed" in key or "v_proj" in key or "down" in key else Type.Q4_K)


main()
