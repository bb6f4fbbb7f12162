"""A step of training by PyTorch, as fast as it goes on CPUs: SmolLM2's shape with random float32 weights, AdamW, batch
4 x 512, compiled, bf16 by autocast or float32. One JSON line: tokens_per_s, memory_bytes (VmHWM). Called by train_peers.py,
which sets allocator and threads.

    python3 run_torch_train.py f32|bf16 [ROWS SEQ_LENGTH [eager]]
"""
import contextlib
import json
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

THREADS, WARM, STEPS = 2, 2, 4


def peak_bytes():
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def main():
    kind = sys.argv[1]
    rows, length = (int(n) for n in sys.argv[2:4]) if len(sys.argv) > 3 else (4, 512)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
                         tie_word_embeddings=True, rms_norm_eps=1e-5)
    model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.randint(0, config.vocab_size, (rows, length + 1))

    def loss_of(x, y):
        logits = model(input_ids=x, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().view(-1, logits.shape[-1]), y.view(-1))

    if "eager" not in sys.argv:
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if kind == "bf16" else contextlib.nullcontext():
            loss = loss_of(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    best = float("inf")
    for i in range(WARM + STEPS):
        begin = time.monotonic()
        step()
        if i >= WARM:
            best = min(best, time.monotonic() - begin)
    print(json.dumps({"tokens_per_s": rows * length / best, "memory_bytes": peak_bytes()}))


main()
