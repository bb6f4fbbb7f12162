"""How transformers and PyTorch train the tiny mixtral with losses that keep its routers usable: transformers' balance
loss over each layer, and the squared logarithm of the scores' sum of exponentials. Writes data/variants/router.json.

    python3 -m venv V && V/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors numpy
    V/bin/python3 tests/parity/make_router.py
"""
import json
import os

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
N_STEPS, ROWS, TOKENS = 20, 2, 32
CASES = {"balance": (0.5, 0), "z": (0, 0.25), "both": (0.1, 0.05)}


def batch(stream, step):
    at = step * ROWS * TOKENS
    return stream[at:at + ROWS * TOKENS].reshape(ROWS, TOKENS), stream[at + 1:at + 1 + ROWS * TOKENS]


def train(stream, aux, z):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(DATA, "tiny", "mixtral"), attn_implementation="eager",
                                                 experts_implementation="eager", dtype=torch.float32)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for step in range(N_STEPS):
        x, y = batch(stream, step)
        out = model(x, output_router_logits=True, use_cache=False)
        loss = torch.nn.functional.cross_entropy(out.logits.reshape(-1, out.logits.shape[-1]), y)
        losses.append(float(loss.detach()))
        for scores in out.router_logits:
            loss = loss + aux * load_balancing_loss_func((scores,), model.config.num_local_experts,
                                                         model.config.num_experts_per_tok)
            loss = loss + z * torch.logsumexp(scores, -1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        optimizer.step()
    return {"aux": aux, "z": z, "train_losses": losses, "train_grad_norms_preclip": norms}


def main():
    torch.set_num_threads(1)
    stream = torch.tensor(np.load(os.path.join(DATA, "tiny", "train_stream.npy")).astype(np.int64))
    with open(os.path.join(DATA, "tiny", "mixtral", "golden.json"), encoding="utf-8") as file:
        golden = json.load(file)["train_losses"]
    plain = train(stream, 0, 0)["train_losses"]
    assert max(abs(a - b) / b for a, b in zip(plain, golden)) < 1e-5
    with open(os.path.join(DATA, "variants", "router.json"), "w", encoding="utf-8") as file:
        json.dump({name: train(stream, *case) for name, case in CASES.items()}, file, indent=1)


main()
