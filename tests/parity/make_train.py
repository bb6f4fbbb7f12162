"""A llama of 6 layers with tied embeddings, and how transformers and PyTorch train it: what the golden data lacks for
interleaved pipelines. Writes data/variants/llama6/ in the form of data/tiny/llama (golden.json, model.safetensors,
config.json, grads.safetensors).

    python3 -m venv V && V/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors numpy
    V/bin/python3 tests/parity/make_train.py
"""
import json
import os
import shutil

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
OUT = os.path.join(DATA, "variants", "llama6")
N_STEPS, ROWS, TOKENS = 20, 2, 32


def batch(stream, step):
    at = step * ROWS * TOKENS
    x = stream[at:at + ROWS * TOKENS].reshape(ROWS, TOKENS)
    y = stream[at + 1:at + 1 + ROWS * TOKENS].reshape(ROWS, TOKENS)
    return torch.tensor(x, dtype=torch.int64), torch.tensor(y, dtype=torch.int64)


def loss_of(model, x, y):
    logits = model(input_ids=x).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def main():
    torch.manual_seed(6)
    torch.set_num_threads(1)
    config = LlamaConfig(vocab_size=307, hidden_size=48, intermediate_size=93, num_hidden_layers=6,
                         num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5,
                         bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager").float()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.normal_(1 if "norm" in name else 0, 0.2 if "norm" in name else 0.15)
    stream = np.load(os.path.join(DATA, "tiny", "train_stream.npy"))
    os.makedirs(OUT, exist_ok=True)
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    save_file(weights, os.path.join(OUT, "model.safetensors"))
    config.save_pretrained(OUT)
    shutil.copy(os.path.join(DATA, "tiny", "llama", "tokenizer.json"), OUT)

    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2]
    others = [p for n, p in model.named_parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for step in range(N_STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, *batch(stream, step))
        loss.backward()
        if step == 0:
            save_file({n: p.grad.clone() for n, p in model.named_parameters()}, os.path.join(OUT, "grads.safetensors"))
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        losses.append(float(loss.detach()))
        optimizer.step()
    with open(os.path.join(OUT, "golden.json"), "w", encoding="utf-8") as file:
        json.dump({"train_losses": losses, "train_grad_norms_preclip": norms}, file, indent=1)
    print(losses, norms)


main()
