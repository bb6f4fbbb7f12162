"""Every family against transformers and PyTorch, on a tiny random model (data/families, made by make_reference.py):
logits of folders in both spellings of config.json, in splits, by way of a GGUF file and back, of a GGUF file that
others wrote (make_family_files.py); training."""
import json
import os
import shutil
import sys
import tempfile

import numpy as np

from convert import read_safetensors
from harness import DATA, EXACT, TINY, expect, expect_close, logits, one_line, run

FAMILIES = os.path.join(DATA, "families")
SPLITS = [(2, ["--tensor-split", "2,1"]), (3, ["--tp", "1,2"])]


def lend(name, folder, config="config.json"):
    """A family's folder with the tiny tokenizer in it."""
    os.makedirs(folder)
    for file, source in (("config.json", os.path.join(FAMILIES, name, config)),
                         ("model.safetensors", os.path.join(FAMILIES, name, "model.safetensors")),
                         ("tokenizer.json", os.path.join(TINY, "tokenizer.json"))):
        shutil.copy(source, os.path.join(folder, file))
    return folder


def compare(name, model, place, what, args=(), ranks=1, lengths=("33",)):
    for length in lengths:
        wanted = np.load(os.path.join(FAMILIES, name, f"logits{length}.npy"))
        got = logits(model, np.load(os.path.join(DATA, "tiny", f"seq{length}.npy")), place, EXACT + list(args), ranks)
        expect_close(got[-len(wanted):], wanted, 2e-5, f"{name}, {what}, {length} tokens")


def expect_file(name, file, place, lengths):
    """A GGUF file, and the folder that convert makes of it."""
    back = os.path.join(place, "back")
    compare(name, file, place, "GGUF", lengths=lengths)
    run(["convert", file, "--to", "hf", back])
    compare(name, back, place, "folder of that", lengths=lengths)
    shutil.rmtree(back)


def digest(tensor):  # as make_reference.py has it
    flat = np.asarray(tensor, dtype=np.float64).ravel()
    signs = np.random.default_rng(5).integers(0, 2, (4, flat.size)) * 2 - 1
    return np.array([np.sqrt(flat @ flat)] + list(signs @ flat))


def expect_training(name, model, place, golden, args, ranks):
    out, grads, what = os.path.join(place, "out"), os.path.join(place, "grads"), f"{name}, training, {args}"
    tokens = golden["tokens"]
    run(["train", "--model", model, "--tokens", os.path.join(DATA, "tiny", "train_stream.npy"), "--seq-length", tokens,
         "--global-batch-size", 2, "--lr", "1e-3", "--train-steps", len(golden["train_losses"]), "--output", out,
         "--save-grads", grads] + args, ranks)
    with open(os.path.join(out, "metrics.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    for key, names, bound in (("loss", "train_losses", 5e-5), ("grad_norm", "train_grad_norms_preclip", 5e-4)):
        expect_close(np.array([line[key] for line in lines]) / np.array(golden[names]), 1, bound, f"{what}: {key}")
    ours = read_safetensors(grads)
    expect(set(ours) == set(golden["grads"]), f"{what}: {set(ours) ^ set(golden['grads'])}")
    worst, tensor = max((np.abs(digest(ours[key]) - np.array(wanted)).max() / wanted[0], key)
                        for key, wanted in golden["grads"].items())
    print(f"{what}: gradients within {worst:.2g} of their length ({tensor})")
    expect(worst <= 1e-5, f"{what}: {tensor} is {worst:g} of its length away")
    shutil.rmtree(out)


def main(name):
    with open(os.path.join(FAMILIES, name, "golden.json")) as file:
        golden = json.load(file)
    with tempfile.TemporaryDirectory() as place:
        model = lend(name, os.path.join(place, "v5"))
        lengths = ("7", "33") if name.endswith("_long") else ("33",)  # of two kinds of context
        compare(name, model, place, "folder", lengths=("7", "33"))
        compare(name, lend(name, os.path.join(place, "v4"), "config.v4.json"), place, "version 4's folder")
        for ranks, split in SPLITS:
            compare(name, model, place, split, split, ranks)
        others, file = os.path.join(FAMILIES, name, "model.gguf"), os.path.join(place, "model.gguf")
        if os.path.exists(others):
            expect_file(name, others, place, lengths)
        to_gguf = ["convert", model, "--to", "gguf", "--type", "f32", file]
        if golden["gguf"]:
            run(to_gguf)
            expect_file(name, file, place, lengths)
        else:
            one_line(to_gguf, 1, ["GGUF"])
        for ranks, split in ((1, []), SPLITS[1]):
            expect_training(name, model, place, golden, split, ranks)
    print("passed")


if __name__ == "__main__":
    main(sys.argv[1])
