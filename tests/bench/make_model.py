"""Models with random weights in the shapes that the benches measure: GGUF files and folders.

    P=build/bench-venv/bin/python
    $P tests/bench/make_model.py --shape tinyllama --type q4_0
    $P tests/bench/make_model.py --shape smollm2 --type bf16 --folder
    $P tests/bench/make_model.py --type q8_0 --hidden 448 --heads 7 --kv-heads 1 --ffn 1219
    $P tests/bench/make_model.py --type q6_k --layers 8 --experts 8 --experts-used 2
    $P tests/bench/make_model.py --shape qwen3moe --type q4_k

Prints the path, under build/models/bench, and makes nothing that is there already. One tensor at a
time is in memory. q4_k is llama.cpp's Q4_K_M, with Q6_K where that has it, q6_k its Q6_K: both made
of q8_0 by its own quantizer. With experts the model is a Mixtral, or with --shape qwen3moe a
Qwen3-MoE, --ffn is the width of each; a Mixtral's Q4_K_M has Q5_K too. mixtral has half of the real
one's widths, qwen3moe those of Qwen3-30B-A3B: both as many layers as make some 2 GB in Q4_K_M.
"""
import argparse
import dataclasses
import json
import os
import shutil
import struct
import sys
import zlib

try:
    import numpy as np
except ImportError:
    sys.exit("make_model.py: numpy is missing: run tests/bench/setup.sh, then this with "
             "build/bench-venv/bin/python")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "build", "models", "bench")
SPREAD = 0.02  # of the weights: what comes out of a layer stays as large as what went in
CHUNK = 1 << 24  # values in memory as float32 at a time
SPECIAL = ["<pad>", "<s>", "</s>"]
NUMPY_TYPES = {"f32": ("F32", 4), "f16": ("F16", 2), "bf16": ("BF16", 2)}  # of safetensors, bytes
GGUF_TYPES = "q8_0 q4_0 q4_1 q5_0 q4_k q6_k bf16 f16 f32".split()
QUANTIZED = {"q4_k": 15, "q6_k": 18}  # LLAMA_FTYPE_MOSTLY_Q4_K_M, LLAMA_FTYPE_MOSTLY_Q6_K


@dataclasses.dataclass
class Shape:
    """What a model of the llama family is; a head's size of 0 is hidden / heads."""
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    tied: bool
    rope_base: float = 10000.0
    head_dim: int = 0
    experts: int = 0  # 0: none
    experts_used: int = 0
    arch: str = "llama"  # GGUF's name; a Mixtral is a llama there


SHAPES = {
    "tinyllama": Shape(22, 2048, 5632, 32, 4, 32000, 8192, False),
    "smollm2": Shape(30, 576, 1536, 9, 3, 49152, 8192, True, 100000.0),
    "mixtral": Shape(9, 2048, 7168, 16, 4, 32000, 8192, False, 1e6, 128, 8, 2),
    "qwen3moe": Shape(5, 2048, 768, 32, 4, 151936, 8192, False, 1e6, 128, 128, 8, "qwen3moe"),
}


def feed_forward(shape, is_folder):
    """Yield (Hugging Face name, GGUF name, dimensions) of a layer's feed-forward part."""
    parts = (("gate", "w1", (shape.ffn, shape.hidden)), ("up", "w3", (shape.ffn, shape.hidden)),
             ("down", "w2", (shape.hidden, shape.ffn)))
    if shape.experts == 0:
        for part, _, dims in parts:
            yield f"mlp.{part}_proj", f"ffn_{part}", dims
        return
    yield "block_sparse_moe.gate", "ffn_gate_inp", (shape.experts, shape.hidden)
    for part, theirs, dims in parts:
        if is_folder:
            for expert in range(shape.experts):
                yield f"block_sparse_moe.experts.{expert}.{theirs}", None, dims
        else:
            yield f"block_sparse_moe.experts.{theirs}", f"ffn_{part}_exps", (shape.experts, *dims)


def qk_norms(shape):
    """Norms of each query and key head, where the family has them."""
    if shape.arch != "qwen3moe":
        return ()
    return (("self_attn.q_norm", "attn_q_norm", (shape.head_dim,)),
            ("self_attn.k_norm", "attn_k_norm", (shape.head_dim,)))


def tensors(shape, is_folder):
    """Yield (Hugging Face name, GGUF name, dimensions), in the order of the file."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "model.embed_tokens", "token_embd", (shape.vocab, shape.hidden)
    for layer in range(shape.layers):
        for theirs, ggufs, dims in (
                ("input_layernorm", "attn_norm", (shape.hidden,)),
                ("self_attn.q_proj", "attn_q", (q, shape.hidden)),
                ("self_attn.k_proj", "attn_k", (kv, shape.hidden)),
                ("self_attn.v_proj", "attn_v", (kv, shape.hidden)),
                *qk_norms(shape),
                ("self_attn.o_proj", "attn_output", (shape.hidden, q)),
                ("post_attention_layernorm", "ffn_norm", (shape.hidden,)),
                *feed_forward(shape, is_folder)):
            yield f"model.layers.{layer}.{theirs}", f"blk.{layer}.{ggufs}", dims
    yield "model.norm", "output_norm", (shape.hidden,)
    if not shape.tied:
        yield "lm_head", "output", (shape.vocab, shape.hidden)


def chunks(name, dims):
    """Yield a tensor's rows as float32, some at a time; the same in whatever type they are kept."""
    if len(dims) == 1:
        yield np.ones(dims, np.float32)
        return
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    n_rows, n_columns = int(np.prod(dims[:-1])), dims[-1]
    rows = max(1, CHUNK // n_columns)
    for first in range(0, n_rows, rows):
        n = min(rows, n_rows - first)
        yield draw.standard_normal((n, n_columns), np.float32) * np.float32(SPREAD)


def as_bytes(values, kind):
    """float32 values in a type of NUMPY_TYPES; bf16 is rounded to nearest, ties to even."""
    if kind == "bf16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    return values.astype({"f32": np.float32, "f16": np.float16}[kind]).tobytes()


def byte_characters():
    """GPT-2's character for each byte, those of common text first."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    text = {byte: chr(byte) for byte in kept}
    text.update((byte, chr(256 + i)) for i, byte in enumerate(others))
    first = b" etaoinshrdlucmfwypvbgkqjxzTAIS.,\n'0123456789"
    return [text[byte] for byte in first] + [text[byte] for byte in range(256) if byte not in first]


def make_vocabulary(size):
    """(tokens, merges) of byte-level BPE: every byte, then as many pairs as the size allows."""
    characters = byte_characters()
    tokens, merges = SPECIAL + characters, []
    if size < len(tokens):
        sys.exit(f"make_model.py: --vocab {size}: give at least {len(tokens)}: bytes are tokens")
    for square in range(len(characters)):
        for i in range(2 * square + 1):
            if len(tokens) == size:
                return tokens, merges
            left, right = (i, square) if i <= square else (square, 2 * square - i)
            tokens.append(characters[left] + characters[right])
            merges.append((characters[left], characters[right]))
    return tokens, merges


def write_tokenizer_json(shape, path):
    """tokenizer.json as Hugging Face's tokenizers writes it."""
    tokens, merges = make_vocabulary(shape.vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
               "special": True}
    content = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": text, **special} for i, text in enumerate(SPECIAL)],
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": False,
                  "vocab": {text: i for i, text in enumerate(tokens)}, "merges": merges}}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)


def write_config(shape, kind, path):
    """config.json of transformers' LlamaForCausalLM, or of MixtralForCausalLM."""
    name = "Mixtral" if shape.experts > 0 else "Llama"
    content = {
        "architectures": [f"{name}ForCausalLM"], "model_type": name.lower(), "hidden_act": "silu",
        "dtype": {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[kind],
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 0, "vocab_size": shape.vocab, "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": shape.rope_base, "rope_type": "default"},
        "tie_word_embeddings": shape.tied}
    if shape.experts > 0:
        content.update(num_local_experts=shape.experts, num_experts_per_tok=shape.experts_used)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)


def write_folder(shape, kind, folder):
    """A Hugging Face folder: config.json, tokenizer.json, model.safetensors."""
    name, size = NUMPY_TYPES[kind]
    header, end = {"__metadata__": {"format": "pt"}}, 0
    os.makedirs(folder)
    write_config(shape, kind, os.path.join(folder, "config.json"))
    write_tokenizer_json(shape, os.path.join(folder, "tokenizer.json"))
    for key, _, dims in tensors(shape, True):
        begin, end = end, end + size * int(np.prod(dims))
        header[f"{key}.weight"] = {"dtype": name, "shape": list(dims), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key, _, dims in tensors(shape, True):
            for values in chunks(key, dims):
                file.write(as_bytes(values, kind))


def gguf_type(gguf, kind, name, dims):
    """A tensor's type as with llama.cpp: norms and routers are F32; rows that blocks do not divide
    are F16."""
    wanted = gguf.GGMLQuantizationType[kind.upper()]
    if len(dims) == 1 or name.endswith("ffn_gate_inp"):
        return gguf.GGMLQuantizationType.F32
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    return wanted if dims[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def add_gguf_keys(gguf, writer, shape):
    """Metadata of the model and its tokenizer."""
    tokens, merges = make_vocabulary(shape.vocab)
    unused = shape.vocab - len(tokens)
    kinds = gguf.TokenType
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    if shape.experts > 0:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
    if shape.arch == "qwen3moe":
        writer.add_expert_feed_forward_length(shape.ffn)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens + [f"[PAD{i}]" for i in range(unused)])
    writer.add_token_types([kinds.CONTROL] * len(SPECIAL) +
                           [kinds.NORMAL] * (len(tokens) - len(SPECIAL)) + [kinds.UNUSED] * unused)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def write_gguf(shape, kind, path):
    """A GGUF file in a type that the gguf package can make."""
    import gguf
    writer = gguf.GGUFWriter(path, shape.arch)
    add_gguf_keys(gguf, writer, shape)
    for _, name, dims in tensors(shape, False):
        dtype = gguf_type(gguf, kind, name, dims)
        byte_dims = gguf.quant_shape_to_byte_shape(dims, dtype)
        writer.add_tensor_info(f"{name}.weight", byte_dims, np.dtype(np.uint8),
                               int(np.prod(byte_dims)), dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for key, name, dims in tensors(shape, False):
        dtype = gguf_type(gguf, kind, name, dims)
        parts = [gguf.quants.quantize(values, dtype).view(np.uint8) for values in chunks(key, dims)]
        writer.write_tensor_data(np.concatenate(parts))
    writer.close()


def quantize_k(source, kind, path):
    """llama.cpp's own quantization of another GGUF file, to a type of QUANTIZED."""
    import ctypes

    import llama_cpp
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = QUANTIZED[kind]
    params.nthread = len(os.sched_getaffinity(0))
    params.allow_requantize = True
    if llama_cpp.llama_model_quantize(source.encode(), path.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"make_model.py: llama_model_quantize fails on {source}")


def complete(path, write):
    """Call write(path aside) and rename, so that the path is whole or absent."""
    if os.path.exists(path):
        return path
    aside = path + ".part"
    if os.path.isdir(aside):
        shutil.rmtree(aside)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    print(f"making {os.path.relpath(path)}", file=sys.stderr)
    write(aside)
    os.rename(aside, path)
    return path


def make(shape, name, kind, is_folder):
    """Make the model, unless it is there. @return its path"""
    path = os.path.join(OUT, f"{name}-{kind}" + ("" if is_folder else ".gguf"))
    if is_folder:
        return complete(path, lambda aside: write_folder(shape, kind, aside))
    if kind not in QUANTIZED:
        return complete(path, lambda aside: write_gguf(shape, kind, aside))
    if not os.path.exists(path):
        source = make(shape, name, "q8_0", False)
        complete(path, lambda aside: quantize_k(source, kind, aside))
    return path


def parse(arguments):
    """@return shape, its name, type, whether a folder"""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama", help="[tinyllama]")
    parser.add_argument("--type", choices=GGUF_TYPES, default="q8_0", help="[q8_0]")
    parser.add_argument("--folder", action="store_true", help="a Hugging Face folder")
    parser.add_argument("--tied", type=int, choices=(0, 1), help="1: the head is the embedding")
    for field in ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab", "context",
                  "experts", "experts_used"):
        parser.add_argument("--" + field.replace("_", "-"), type=int, metavar="N",
                            help="[the shape's]")
    options = parser.parse_args(arguments)
    if options.folder and SHAPES[options.shape].arch != "llama":
        parser.error(f"--folder: not of --shape {options.shape}, which is made as GGUF only")
    if options.folder and options.type not in NUMPY_TYPES:
        parser.error(f"--folder: give --type {', '.join(NUMPY_TYPES)}")
    changes = {field.name: getattr(options, field.name) for field in dataclasses.fields(Shape)
               if getattr(options, field.name, None) is not None}
    shape = dataclasses.replace(SHAPES[options.shape], **changes)
    if min(shape.layers, shape.hidden, shape.ffn, shape.heads, shape.kv_heads, shape.context) < 1:
        parser.error("every size is at least 1")
    if shape.experts < 0 or not min(shape.experts, 1) <= shape.experts_used <= shape.experts:
        parser.error("--experts N and --experts-used of them, both or neither")
    if shape.heads % shape.kv_heads != 0:
        parser.error(f"--kv-heads {shape.kv_heads} does not divide --heads {shape.heads}")
    if shape.head_dim == 0 and shape.hidden % shape.heads == 0:
        shape.head_dim = shape.hidden // shape.heads
    if shape.head_dim < 2 or shape.head_dim % 2 != 0:
        parser.error(f"a head of {shape.head_dim or f'{shape.hidden} / {shape.heads}'} values: "
                     "give an even --head-dim")
    name = "-".join([options.shape] + [f"{key}{int(value)}" for key, value in changes.items()])
    return shape, name, options.type, options.folder


if __name__ == "__main__":
    print(make(*parse(sys.argv[1:])))
