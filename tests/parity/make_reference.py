"""Tiny random models of every family, and what transformers and PyTorch make of them. Writes data/families/NAME/ for
each row of FAMILIES: config.json (transformers 5's spelling), config.v4.json (4's), model.safetensors and
golden.json: logits of the last positions, digests of the first batch's gradients, the curve of 20 steps.

    python3 -m venv V && V/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors numpy
    V/bin/python3 tests/parity/make_reference.py [NAME ...]

To add a family: a row here, NAME: (its config class in transformers, its sizes). Sizes are odd and small (see COMMON;
NAME may be one of several variants of a family), so that NAME's folder has 100 to 300 KB. Run the script for it, commit
what it writes; families.py then compares argosy with it, by a line for it in CMakeLists.txt. What stands in a row beside
a config's own fields:
    None        as a value: the config is to have none of COMMON's
    weights     {part of a tensor's name: (mean, deviation)}, where random weights of the usual size would not do
    tokens      how many a row of the training stream has, where 32 are too many or too few
    gguf        False: GGUF files of its architecture cannot say what it has
"""
import json
import os
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
OUT = os.path.join(DATA, "families")
KEPT = 8  # positions whose logits are kept, the last ones
N_STEPS, ROWS = 20, 2
COMMON = dict(vocab_size=307, hidden_size=40, intermediate_size=45, num_hidden_layers=2, num_attention_heads=6,
              num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0,
              tie_word_embeddings=False)
GEMMA = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=12, query_pre_attn_scalar=12, tie_word_embeddings=True,
             weights={"": (0, 0.3), "norm": (0, 0.2)})
FAMILIES = {
    "mistral": ("MistralConfig", dict(head_dim=10, sliding_window=9, num_attention_heads=4)),
    "gemma2": ("Gemma2Config", dict(GEMMA, num_hidden_layers=3, sliding_window=7, attn_logit_softcapping=1.5,
                                    final_logit_softcapping=4.0)),
    "gemma3": ("Gemma3TextConfig", dict(GEMMA, num_hidden_layers=7, sliding_window=11, rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0}})),
    "gemma3_else": ("Gemma3TextConfig", dict(GEMMA, num_hidden_layers=4, sliding_window=5, query_pre_attn_scalar=33,
                                             final_logit_softcapping=3.0, gguf=False, layer_types=[
                                                 "full_attention"] + ["sliding_attention"] * 2 + ["full_attention"])),
    "qwen2": ("Qwen2Config", dict(hidden_size=36, num_attention_heads=6, num_key_value_heads=3)),
    "qwen2_tied": ("Qwen2Config", dict(hidden_size=48, num_hidden_layers=3, tie_word_embeddings=True,
                                       num_key_value_heads=1, use_sliding_window=True, sliding_window=9,
                                       max_window_layers=1, rope_parameters={
                                           "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                                           "original_max_position_embeddings": 32})),
    "qwen3": ("Qwen3Config", dict(head_dim=12)),
    "qwen3_bias": ("Qwen3Config", dict(head_dim=8, attention_bias=True, num_attention_heads=5, num_key_value_heads=1,
                                       num_hidden_layers=3, tie_word_embeddings=True, gguf=False)),
    "olmo2": ("Olmo2Config", dict(hidden_size=48, num_attention_heads=6, num_key_value_heads=3)),
    "olmo2_mha": ("Olmo2Config", dict(hidden_size=40, num_attention_heads=5, num_key_value_heads=5, num_hidden_layers=3,
                                      rope_parameters={"rope_type": "default", "rope_theta": 500000.0})),
    "gpt2": ("GPT2Config", dict(num_attention_heads=5, max_position_embeddings=64, intermediate_size=None,
                                num_key_value_heads=None, tie_word_embeddings=True)),
    "gpt2_relu": ("GPT2Config", dict(hidden_size=36, num_attention_heads=3, num_hidden_layers=3, n_inner=45, gguf=False,
                                     max_position_embeddings=64, intermediate_size=None, num_key_value_heads=None,
                                     activation_function="relu")),
    "phi3": ("Phi3Config", dict(hidden_size=48, num_attention_heads=6, num_key_value_heads=3, sliding_window=20)),
    "phi3_partial": ("Phi3Config", dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1,
                                        tie_word_embeddings=True, num_hidden_layers=3, rope_parameters={
                                            "rope_type": "default", "rope_theta": 10000.0,
                                            "partial_rotary_factor": 0.75})),
    "starcoder2": ("Starcoder2Config", dict(hidden_size=40, num_attention_heads=5, num_key_value_heads=1,
                                            num_hidden_layers=3, sliding_window=21, tie_word_embeddings=True)),
    "starcoder2_plain": ("Starcoder2Config", dict(hidden_size=36, num_attention_heads=6, num_key_value_heads=3,
                                                  use_bias=False, gguf=False)),
    "phi3_long": ("Phi3Config", dict(hidden_size=48, num_attention_heads=6, num_key_value_heads=3, sliding_window=262,
                                     original_max_position_embeddings=16, rope_parameters={
                                         "rope_type": "longrope", "rope_theta": 10000.0,
                                         "short_factor": [1.0, 1.08, 1.3, 1.7], "long_factor": [1.1, 2.4, 4.5, 7.75]})),
    "phi4_long": ("Phi3Config", dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, sliding_window=262,
                                     tie_word_embeddings=True, num_hidden_layers=3, tokens=16,
                                     original_max_position_embeddings=20, rope_parameters={
                                         "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                                         "attention_factor": 1.4, "short_factor": [1.0, 1.0, 1.05, 1.1, 1.2, 1.5],
                                         "long_factor": [1.0, 1.2, 1.9, 3.3, 5.1, 6.0]})),
}
OWN = ("weights", "tokens", "gguf")  # of a row, and not of a config


def config_of(name):
    kind, sizes = FAMILIES[name]
    sizes = {**COMMON, **{key: value for key, value in sizes.items() if key not in OWN}}
    config = getattr(transformers, kind)(**{key: value for key, value in sizes.items() if value is not None})
    config.dtype = torch.float32
    return config


def make_model(name, config):
    """Random weights: norms about 1 (those that add 1 themselves about 0), biases and sinks of some size."""
    torch.manual_seed(sum(map(ord, name)))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    config.architectures = [type(model).__name__]
    own = FAMILIES[name][1].get("weights", {})
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            mean, deviation = (1, 0.2) if tensor.ndim < 2 and "bias" not in key else (0, 0.15)
            for part, wanted in own.items():
                mean, deviation = wanted if part in key else (mean, deviation)
            tensor.normal_(mean, deviation)
    return model


def v4(config):
    """A config as transformers 4 wrote it: the rope's settings at the top."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype")}
    old["torch_dtype"] = "float32"
    rope = config.get("rope_parameters")
    if rope is not None and "full_attention" in rope:  # by kind of layer
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if rope is not None:
        for key in ("rope_theta", "partial_rotary_factor"):
            if key in rope:
                old[key] = rope[key]
        scaling = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
        old["rope_scaling"] = scaling if rope.get("rope_type", "default") != "default" else None
        if old["rope_scaling"] is not None and scaling["rope_type"] == "longrope":
            old["original_max_position_embeddings"] = scaling.pop("original_max_position_embeddings")
            old["rope_scaling"]["type"] = old["rope_scaling"].pop("rope_type")
    return old


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids, dtype=np.int64))[None], use_cache=False).logits[0].numpy()


def digest(tensor):
    """The length of a gradient, and its products with vectors of signs."""
    flat = np.asarray(tensor, dtype=np.float64).ravel()
    signs = np.random.default_rng(5).integers(0, 2, (4, flat.size)) * 2 - 1
    return [float(np.sqrt(flat @ flat))] + [float(value) for value in signs @ flat]


def batch(stream, step, tokens):
    at = step * ROWS * tokens
    x, y = (stream[at + i:at + i + ROWS * tokens].reshape(ROWS, tokens) for i in (0, 1))
    return torch.tensor(x, dtype=torch.int64), torch.tensor(y, dtype=torch.int64)


def loss_of(model, x, y):
    logits = model(input_ids=x, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def train(model, tokens):
    """The digests of the first batch's gradients, losses and norms of gradients of all steps."""
    stream = np.load(os.path.join(DATA, "tiny", "train_stream.npy"))
    decayed = {n: p.ndim >= 2 and not n.endswith("bias") for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(
        [{"params": [p for n, p in model.named_parameters() if decayed[n] == decay], "weight_decay": 0.1 * decay}
         for decay in (True, False)], lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses, norms, grads = [], [], {}
    for step in range(N_STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, *batch(stream, step, tokens))
        loss.backward()
        if step == 0:
            grads = {n: digest(p.grad) for n, p in model.named_parameters()}
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        losses.append(float(loss.detach()))
        optimizer.step()
    return {"tokens": tokens, "grads": grads, "train_losses": losses, "train_grad_norms_preclip": norms}


def write(name):
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    config = config_of(name)
    model = make_model(name, config)
    config.save_pretrained(folder)
    with open(os.path.join(folder, "config.json")) as file:
        saved = json.load(file)
    with open(os.path.join(folder, "config.v4.json"), "w") as file:
        json.dump(v4(saved), file, indent=1)
    weights = {n: p.detach().clone().contiguous() for n, p in model.named_parameters()}
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    for length in ("7", "33"):
        ids = np.load(os.path.join(DATA, "tiny", f"seq{length}.npy"))
        np.save(os.path.join(folder, f"logits{length}.npy"), logits_of(model, ids)[-KEPT:])
    with open(os.path.join(folder, "golden.json"), "w") as file:
        golden = train(model, FAMILIES[name][1].get("tokens", 32))
        json.dump({**golden, "gguf": FAMILIES[name][1].get("gguf", True)}, file, indent=1)
    print(name, sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder)) // 1000, "KB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in sys.argv[1:] or FAMILIES:
        write(row)
