"""One model in other files: what the ecosystem's converters would write, for the tests of reading."""
import json
import os
import shutil
import struct

import numpy as np

GGUF_TYPES = {"f32": (0, 1), "q4_0": (2, 32), "q8_0": (8, 32)}  # number, block
U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def lend(name, folder):
    """A tiny model or a variant as a folder that may be changed, with the tokenizer and weights that others share."""
    tiny = os.path.join(DATA, "tiny", name)
    shutil.copytree(tiny if os.path.isdir(tiny) else os.path.join(DATA, "variants", name), folder)
    if not os.path.exists(os.path.join(folder, "tokenizer.json")):
        shutil.copy(os.path.join(DATA, "tiny", "llama", "tokenizer.json"), folder)
    if name.startswith("rope_") and name != "rope_default":
        shutil.copy(os.path.join(DATA, "variants", "rope_default", "model.safetensors"), folder)
    return folder


def read_safetensors(path):
    """Name -> float32 array; bytes stay bytes."""
    with open(path, "rb") as file:
        (n,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(n))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            assert entry["dtype"] in ("F32", "BF16", "U8")
            if entry["dtype"] != "BF16":
                values = np.frombuffer(data[begin:end], np.float32 if entry["dtype"] == "F32" else np.uint8)
            else:
                values = (np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16).view(np.float32)
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    header, end = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, np.float32).tobytes())


def quantize(values, kind):
    """Bytes of rows in a type of GGUF_TYPES: a scale and 32 quants a block, as ggml's reference does."""
    if kind == "f32":
        return np.ascontiguousarray(values, np.float32).tobytes()
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, 32)
    if kind == "q8_0":
        scale = np.abs(blocks).max(1, keepdims=True) / 127
        quants = np.round(blocks / np.where(scale == 0, 1, scale)).astype(np.int8).view(np.uint8)
    else:
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
        scale = largest / -8
        quants = np.clip(np.floor(blocks / np.where(scale == 0, 1, scale) + 8.5), 0, 15).astype(np.uint8)
        quants = quants[:, :16] | quants[:, 16:] << 4
    return np.concatenate([scale.astype(np.float16).view(np.uint8), quants], 1).tobytes()


def gguf_value(value):
    if isinstance(value, str):
        return struct.pack("<I", STRING) + gguf_string(value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    if isinstance(value, list) and isinstance(value[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(gguf_string, value))
    if isinstance(value, list):
        return struct.pack(f"<IIQ{len(value)}i", ARRAY, I32, len(value), *value)
    return struct.pack("<II", U32, value)


def gguf_string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_gguf(path, metadata, tensors, kind):
    """Matrices are of the kind where their rows are whole blocks, routers and all else float32."""
    number, block = GGUF_TYPES[kind]
    infos, data = b"", b""
    for name, values in tensors.items():
        whole = values.ndim > 1 and values.shape[-1] % block == 0 and "ffn_gate_inp" not in name
        dims = values.shape[::-1]
        infos += gguf_string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number if whole else 0,
                                                 len(data))
        data += quantize(values, kind if whole else "f32")
        data += b"\0" * (-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(gguf_string(key) + gguf_value(value) for key, value in metadata.items()) + infos
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % 32) + data)


def fuse_experts(tensors, n_experts):
    """transformers 5's own modules: one tensor for all experts of a layer, gate above up."""
    fused = {}
    for name, values in tensors.items():
        layer, experts, rest = name.partition(".block_sparse_moe.")
        if not experts:
            fused[name] = values
        elif rest == "gate.weight":
            fused[f"{layer}.mlp.gate.weight"] = values
            w1, w2, w3 = ([tensors[f"{layer}.block_sparse_moe.experts.{e}.w{i}.weight"] for e in range(n_experts)]
                          for i in (1, 2, 3))
            fused[f"{layer}.mlp.experts.gate_up_proj"] = np.stack([np.concatenate(p) for p in zip(w1, w3)])
            fused[f"{layer}.mlp.experts.down_proj"] = np.stack(w2)
    return fused


def name_experts_anew(tensors):
    """The spelling of other models with experts, which some converters use for all."""
    names = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    anew = {}
    for name, values in tensors.items():
        for theirs, ours in names.items():
            name = name.replace(f".{theirs}.", f".{ours}.")
        anew[name.replace("block_sparse_moe", "mlp")] = values
    return anew


GGUF_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "block_sparse_moe.gate": "ffn_gate_inp", "model.embed_tokens": "token_embd", "model.norm": "output_norm",
    "lm_head": "output",
}


def interleave(values, n_heads):
    """q and k rows as llama.cpp's converter leaves them."""
    rows, cols = values.shape
    return values.reshape(n_heads, 2, rows // n_heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def mixtral_to_gguf(config, tensors, path, kind, stacked=True, vocabulary=()):
    """A GGUF file of a Mixtral folder; not stacked is how files of its first weeks are."""
    out, stacks = {}, {}
    for name, values in tensors.items():
        name = name.removesuffix(".weight")
        if name in GGUF_NAMES:
            out[GGUF_NAMES[name] + ".weight"] = values
            continue
        layer, part = name.removeprefix("model.layers.").split(".", 1)
        if ".experts." in part:
            expert, which = part.removeprefix("block_sparse_moe.experts.").split(".")
            which = {"w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up"}[which]
            if stacked:
                stacks.setdefault(f"blk.{layer}.{which}_exps.weight", []).append(values)
            else:
                out[f"blk.{layer}.{which}.{expert}.weight"] = values
            continue
        if part in ("self_attn.q_proj", "self_attn.k_proj"):
            values = interleave(values, config["num_attention_heads" if "q_" in part else "num_key_value_heads"])
        out[f"blk.{layer}.{GGUF_NAMES[part]}.weight"] = values
    out.update((name, np.stack(values)) for name, values in stacks.items())
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    metadata = {
        "general.architecture": "llama", "llama.block_count": config["num_hidden_layers"],
        "llama.embedding_length": config["hidden_size"], "llama.vocab_size": config["vocab_size"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.feed_forward_length": config["intermediate_size"], "llama.rope.dimension_count": head_dim,
        "llama.attention.key_length": head_dim,
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
        "llama.expert_count": config["num_local_experts"], "llama.expert_used_count": config["num_experts_per_tok"],
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": list(vocabulary) or [f"<{i}>" for i in range(config["vocab_size"])],
        "tokenizer.ggml.token_type": [1] * config["vocab_size"], "tokenizer.ggml.merges": ["a b"],
    }
    write_gguf(path, metadata, out, kind)


def random_mixtral(hidden, ffn, heads, kv_heads, experts, used, layers=2, vocab=307, seed=1):
    """Config and tensors of a model of any shape."""
    draw = np.random.default_rng(seed)
    head = hidden // heads
    config = {"model_type": "mixtral", "hidden_act": "silu", "hidden_size": hidden, "intermediate_size": ffn,
              "max_position_embeddings": 128, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
              "num_experts_per_tok": used, "num_local_experts": experts, "num_hidden_layers": layers,
              "rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
              "tie_word_embeddings": False, "vocab_size": vocab, "bos_token_id": 1, "eos_token_id": 2}
    shapes = {"model.embed_tokens": (vocab, hidden), "model.norm": (hidden,), "lm_head": (vocab, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes.update({at + "input_layernorm": (hidden,), at + "post_attention_layernorm": (hidden,),
                       at + "self_attn.q_proj": (hidden, hidden), at + "self_attn.k_proj": (kv_heads * head, hidden),
                       at + "self_attn.v_proj": (kv_heads * head, hidden), at + "self_attn.o_proj": (hidden, hidden),
                       at + "block_sparse_moe.gate": (experts, hidden)})
        for e in range(experts):
            shapes.update({f"{at}block_sparse_moe.experts.{e}.w1": (ffn, hidden),
                           f"{at}block_sparse_moe.experts.{e}.w2": (hidden, ffn),
                           f"{at}block_sparse_moe.experts.{e}.w3": (ffn, hidden)})
    return config, {f"{name}.weight": (1 + 0.1 * draw.standard_normal(shape) if len(shape) == 1 else
                                       draw.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)
                    for name, shape in shapes.items()}


def write_folder(folder, config, tensors, tokenizer):
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    os.symlink(tokenizer, os.path.join(folder, "tokenizer.json"))
