#!/usr/bin/env python3
"""By hand, for it needs llama.cpp: it loads the GGUF files that `argosy convert` writes, and goes on as argosy does.

tests/bench/setup.sh native, then build/bench-venv/bin/python tests/parity/load_in_llama_cpp.py [NAME...] with ARGOSY and
ARGOSY_SMOLLM2 set as in README.md. Of every family an f32 file: the same greedy tokens wherever llama.cpp's own margin is
above 2e-3; those that `convert` refuses are told. Of SmolLM2 every type that can be written: the two programs' logits side by side; llama.cpp rounds what it
multiplies by integers to them, as argosy does, so they differ by that.
"""
import os
import sys
import tempfile

import llama_cpp
import numpy as np

import convert
import expert_families
import families
from harness import DATA, EXACT, expect, expect_greedy, generate, logits, run, smollm2

# what llama.cpp makes something else of, or does not load, for reasons of its own
OTHERWISE = {"gpt_oss": "it rounds the ends of a yarn rope's ramp, whatever truncate says",
             "deepseek_v2": "it knows models without q_lora_rank by their 27 layers"}
WINDOWS = {"mistral": 9, "phi3": 20, "qwen2_tied": 9, "starcoder2": 21}  # that it does not look at: all is to fit in
IDS, N_TOKENS, LEAST_MARGIN = np.load(os.path.join(DATA, "tiny", "seq33.npy")), 16, 2e-3
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q6_k", "mxfp4")
SAID = []  # the last lines of llama.cpp's log
LOG = llama_cpp.llama_log_callback(lambda level, text, _: SAID.append(text.decode(errors="replace").strip()))


class Peer:
    """A model and a context of llama.cpp, of float32 caches."""

    def __init__(self, path):
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        expect(self.model, "llama.cpp does not load it: " + " / ".join(line for line in SAID[-4:] if line))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 128
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        params.flash_attn_type = 0
        params.swa_full = True
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def feed(self, ids):
        """@return logits behind the last of the ids"""
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
        expect(llama_cpp.llama_decode(self.context, batch) == 0, "llama_decode fails")
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, -1), (self.n_vocab,)).copy()

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def greedy(peer, ids, n_tokens):
    """@return tokens, and how much each stood above the next"""
    tokens, margins = [], []
    values = peer.feed([int(token) for token in ids])
    while len(tokens) < n_tokens:
        second, first = np.sort(values)[-2:]
        tokens.append(int(np.argmax(values)))
        margins.append(float(first - second))
        values = peer.feed(tokens[-1:])
    return tokens, margins


def check(name, source, place):
    path, at = os.path.join(place, "m.gguf"), os.path.join(place, "ids.npy")
    room = WINDOWS.get(name, len(IDS) + N_TOKENS)
    ids, n_tokens = IDS[:min(len(IDS), room // 2)], min(N_TOKENS, room - room // 2)
    np.save(at, ids)
    done = run(["convert", source, "--to", "gguf", "--type", "f32", path], check=False)
    if done.returncode != 0:
        expect(b"GGUF" in done.stderr, done.stderr.decode())
        print(f"{name}: is refused: {done.stderr.decode().strip()}")
        return
    ours = generate(path, ["--tokens", at, "--max-tokens", str(n_tokens), "--ignore-eos", "--temperature", "0"] + EXACT)
    peer = Peer(path)
    theirs, margins = greedy(peer, ids, n_tokens)
    peer.close()
    expect_greedy(ours["tokens"], theirs, margins, LEAST_MARGIN, name)
    print(f"{name}: {len(ids)} tokens, then the same {n_tokens}, least margin {min(margins):.2g}")


def check_types():
    with tempfile.TemporaryDirectory() as place:
        for kind in TYPES:
            path, ids = os.path.join(place, f"{kind}.gguf"), [int(token) for token in IDS]
            run(["convert", smollm2(), "--to", "gguf", "--type", kind, path])
            ours, peer = logits(path, IDS, place, [])[-1], Peer(path)
            theirs = peer.feed(ids)
            peer.close()
            os.remove(path)
            apart = np.abs(ours - theirs).max() / theirs.std()
            print(f"SmolLM2, {kind}: logits differ by {apart:.3g} of their deviation")
            expect(apart < 0.5, f"{kind}: another model")


def main():
    llama_cpp.llama_log_set(LOG, None)
    lenders = {name: families.lend for name in sorted(os.listdir(families.FAMILIES))}
    lenders.update({name: expert_families.lend for name in sorted(os.listdir(expert_families.EXPERTS))})
    lenders.update({name: convert.lend for name in ("llama", "mixtral", "bias", "rope_llama3", "rope_linear", "rope_yarn")})
    for name, lend in lenders.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        if name in OTHERWISE:
            print(f"{name}: not compared: {OTHERWISE[name]}")
            continue
        with tempfile.TemporaryDirectory() as place:
            check(name, lend(name, os.path.join(place, "source")), place)
    if not sys.argv[1:]:
        check_types()


if __name__ == "__main__":
    main()
