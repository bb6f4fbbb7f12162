"""What transformers computes of tiny random models with experts: logits, and the gradients of a first batch. Writes
data/experts/FAMILY.

    python3 -m venv V && V/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors numpy
    V/bin/python3 tests/parity/make_experts.py [FAMILY ...]
"""
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
OUT = os.path.join(DATA, "experts")
ROWS, TOKENS, KEPT = 2, 32, 12
COMMON = dict(vocab_size=307, hidden_size=48, num_attention_heads=6, num_key_value_heads=2,
              max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "original_max_position_embeddings": 32}
LATENT = dict(qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=12, kv_lora_rank=20)

FAMILIES = {
    "qwen2_moe": ("Qwen2Moe", dict(num_hidden_layers=2, intermediate_size=44, moe_intermediate_size=20,
                                   shared_expert_intermediate_size=36, num_experts=6, num_experts_per_tok=2)),
    # weights that are normalised, a layer without experts, windows
    "qwen2_moe_norm": ("Qwen2Moe", dict(num_hidden_layers=3, intermediate_size=44, moe_intermediate_size=20,
                                        shared_expert_intermediate_size=36, num_experts=5, num_experts_per_tok=3,
                                        norm_topk_prob=True, mlp_only_layers=[1], tie_word_embeddings=True,
                                        use_sliding_window=True, sliding_window=9, max_window_layers=3)),
    "qwen3_moe": ("Qwen3Moe", dict(num_hidden_layers=2, intermediate_size=44, moe_intermediate_size=20, head_dim=12,
                                   num_experts=7, num_experts_per_tok=3, norm_topk_prob=True)),
    "qwen3_moe_sparse": ("Qwen3Moe", dict(num_hidden_layers=3, intermediate_size=44, moe_intermediate_size=20,
                                          num_experts=4, num_experts_per_tok=1, decoder_sparse_step=2,
                                          head_dim=8, use_sliding_window=True, sliding_window=11)),
    "olmoe": ("Olmoe", dict(num_hidden_layers=2, intermediate_size=20, num_experts=6, num_experts_per_tok=2,
                            num_key_value_heads=6)),
    "gpt_oss": ("GptOss", dict(num_hidden_layers=2, intermediate_size=32, hidden_size=64, num_local_experts=5,
                               num_experts_per_tok=2, head_dim=16, sliding_window=8,
                               rope_parameters=dict(YARN, truncate=False))),
    "deepseek_v2": ("DeepseekV2", dict(LATENT, num_hidden_layers=3, intermediate_size=44, moe_intermediate_size=20,
                                       num_key_value_heads=6, n_routed_experts=6, num_experts_per_tok=2,
                                       n_shared_experts=2, first_k_dense_replace=1, q_lora_rank=None,
                                       topk_method="greedy", routed_scaling_factor=1.5,
                                       rope_parameters=dict(YARN, mscale=0.7, mscale_all_dim=0.7))),
    "deepseek_v2_groups": ("DeepseekV2", dict(LATENT, num_hidden_layers=2, intermediate_size=44,
                                              moe_intermediate_size=20, num_key_value_heads=6, n_routed_experts=8,
                                              num_experts_per_tok=3, n_shared_experts=1, first_k_dense_replace=1,
                                              q_lora_rank=24, topk_method="group_limited_greedy", n_group=4,
                                              topk_group=2, routed_scaling_factor=4.0)),
    "deepseek_v3": ("DeepseekV3", dict(LATENT, num_hidden_layers=3, intermediate_size=44, moe_intermediate_size=20,
                                       num_key_value_heads=6, n_routed_experts=8, num_experts_per_tok=3,
                                       n_shared_experts=1, first_k_dense_replace=1, q_lora_rank=24, n_group=4,
                                       topk_group=2, routed_scaling_factor=2.5, num_mtp_layers=0,
                                       rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=1.0))),
}


def make_model(family, seed):
    """Random weights, rounded to bfloat16, in a float32 model."""
    name, changes = FAMILIES[family]
    config = getattr(transformers, name + "Config")(**dict(COMMON, **changes))
    torch.manual_seed(seed)
    model = getattr(transformers, name + "ForCausalLM")._from_config(
        config, attn_implementation="eager", experts_implementation="eager").float().eval()
    with torch.no_grad():
        for key, tensor in list(model.named_parameters()) + list(model.named_buffers()):
            if not tensor.is_floating_point() or "inv_freq" in key:
                continue
            is_norm = "norm" in key
            wide = key.endswith("bias") or "sinks" in key or "gate.weight" in key or "router.weight" in key
            tensor.normal_(1 if is_norm else 0, 0.2 if is_norm else 0.5 if wide else 0.12)
            tensor.copy_(tensor.to(torch.bfloat16).float())
    return model


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def draw_blocks(model):
    """4-bit floats for experts' matrices, as gpt-oss stores them: of the model's parameters their transposes."""
    stored = {}
    for name, tensor in model.named_parameters():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        shape = tensor.transpose(1, 2).shape
        codes = torch.randint(0, 16, shape)
        scales = torch.randint(121, 124, (*shape[:2], shape[2] // 32))
        values = FP4[codes] * torch.exp2(scales.repeat_interleave(32, 2).float() - 127)
        with torch.no_grad():
            tensor.copy_(values.transpose(1, 2))
        pairs = codes.reshape(*scales.shape, 16, 2)
        stored[name + "_blocks"] = (pairs[..., 0] | pairs[..., 1] << 4).to(torch.uint8)
        stored[name + "_scales"] = scales.to(torch.uint8)
    return stored


def single_experts(tensors):
    """Each expert's matrices by names of their own, as files of transformers 4 have them."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("mlp.experts.gate_up_proj"):
            half = tensor.shape[1] // 2
            for i, both in enumerate(tensor):
                stem = name.removesuffix("gate_up_proj") + f"{i}."
                out[stem + "gate_proj.weight"] = both[:half].contiguous()
                out[stem + "up_proj.weight"] = both[half:].contiguous()
        elif name.endswith("mlp.experts.down_proj"):
            for i, one in enumerate(tensor):
                out[name.removesuffix("down_proj") + f"{i}.down_proj.weight"] = one.contiguous()
        else:
            out[name] = tensor.contiguous()
    return out


def write(family, seed):
    model = make_model(family, seed)
    blocks = draw_blocks(model) if family.startswith("gpt_oss") else {}
    folder = os.path.join(OUT, family)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    form = (lambda tensors: tensors) if blocks else single_experts
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    state = {k: t for k, t in model.state_dict().items() if k not in tied and k + "_blocks" not in blocks}
    save_file(dict({k: t.to(torch.bfloat16) for k, t in form(state).items()}, **blocks),
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    model.config.dtype, model.config.architectures = torch.bfloat16, [type(model).__name__]
    model.config.save_pretrained(folder)
    ids = np.load(os.path.join(DATA, "tiny", "seq33.npy")).reshape(-1)
    with torch.no_grad():
        logits = model(torch.tensor(ids.astype(np.int64))[None], use_cache=False).logits[0]
    np.save(os.path.join(folder, "logits33.npy"), logits[-KEPT:].numpy())
    stream = torch.tensor(np.load(os.path.join(DATA, "tiny", "train_stream.npy")).astype(np.int64))
    x, y = stream[:ROWS * TOKENS].reshape(ROWS, TOKENS), stream[1:1 + ROWS * TOKENS]
    logits = model(x, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y)
    loss.backward()
    grads = {k: p.grad if p.grad is not None else torch.zeros_like(p) for k, p in model.named_parameters()}
    save_file(form(grads), os.path.join(folder, "grads.safetensors"), metadata={"loss": repr(float(loss.detach()))})
    print(f"{family}: {sum(t.numel() for t in state.values())} weights, a loss of {float(loss.detach()):.5f}")


def main():
    torch.set_num_threads(1)
    for seed, family in enumerate(FAMILIES):
        if len(sys.argv) == 1 or family in sys.argv[1:]:
            write(family, 10 + seed)


main()
