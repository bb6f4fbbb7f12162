"""Models with experts: a tiny Mixtral in every form of its files and every split, against transformers."""
import json
import os
import tempfile

import numpy as np

import convert
from harness import DATA, TINY, expect, expect_close, generate, logits, main, one_line, run

MIXTRAL = os.path.join(DATA, "tiny", "mixtral")
TOKENIZER = os.path.join(TINY, "tokenizer.json")
EXACT = ["--compute", "f32"]


def case(n):
    return np.load(os.path.join(DATA, "tiny", f"seq{n}.npy")), np.load(os.path.join(MIXTRAL, f"logits{n}.npy"))


def lend(folder, config="config.json"):
    """The golden folder, with a tokenizer."""
    os.symlink(TOKENIZER, os.path.join(folder, "tokenizer.json"))
    os.symlink(os.path.join(MIXTRAL, config), os.path.join(folder, "config.json"))
    os.symlink(os.path.join(MIXTRAL, "model.safetensors"), os.path.join(folder, "model.safetensors"))
    return folder


def golden():
    with open(os.path.join(MIXTRAL, "config.json")) as file:
        return json.load(file), convert.read_safetensors(os.path.join(MIXTRAL, "model.safetensors"))


def logits_of(config="config.json"):
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as folder:
        lend(model, config)
        for n in (7, 33):
            ids, reference = case(n)
            expect_close(logits(model, ids, folder, EXACT), reference, 2e-5, f"{config}, {n} tokens")
            expect_close(logits(model, ids, folder, []), reference, 5e-3, f"{config}, {n} tokens, auto")


def one_rank():
    logits_of("config.json")
    logits_of("config.v4.json")


def files():
    """The same weights in the other forms that files have: the same bits."""
    config, tensors = golden()
    ids, reference = case(33)
    with tempfile.TemporaryDirectory() as folder:
        forms = {"fused": convert.fuse_experts(tensors, 5), "anew": convert.name_experts_anew(tensors)}
        for name, form in forms.items():
            os.mkdir(os.path.join(folder, name))
            convert.write_folder(os.path.join(folder, name), config, form, TOKENIZER)
        for name, stacked in (("stacked.gguf", True), ("old.gguf", False)):
            convert.mixtral_to_gguf(config, tensors, os.path.join(folder, name), "f32", stacked)
        for name in ("fused", "anew", "stacked.gguf", "old.gguf"):
            expect_close(logits(os.path.join(folder, name), ids, folder, EXACT), reference, 2e-5, name)
            done = run(["eval", "--model", os.path.join(folder, name), "--tokens", os.path.join(folder, "ids.npy")])
            expect("unused" not in done.stderr.decode(), f"{name}: {done.stderr.decode()}")


def bad_files():
    """Settings that make no sense are one line each."""
    config, tensors = golden()
    cases = [({"num_experts_per_tok": 6}, ["6 of 5 experts"]), ({"num_experts_per_tok": 0}, ["0 of 5"]),
             ({"num_local_experts": 0}, ["0 experts"]), ({"num_local_experts": 100000}, ["100000"]),
             ({"num_local_experts": 6}, ["(6, 48)", "gate.weight"]), ({"num_local_experts": None}, ["num_local_experts"])]
    for change, words in cases:
        with tempfile.TemporaryDirectory() as folder:
            convert.write_folder(folder, dict(config, **change), tensors, TOKENIZER)
            one_line(["generate", "--model", folder, "--prompt", "a"], 1, words)
    del tensors["model.layers.1.block_sparse_moe.experts.4.w2.weight"]
    with tempfile.TemporaryDirectory() as folder:
        convert.write_folder(folder, config, tensors, TOKENIZER)
        one_line(["generate", "--model", folder, "--prompt", "a"], 1, ["layers.1", "experts.4.w2"])


main({f.__name__: f for f in (one_rank, files, bad_files)})
