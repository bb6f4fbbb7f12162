#!/usr/bin/env python3
"""By hand, for it needs PyTorch: transformers loads what `argosy convert` writes and computes the same.

pip install torch transformers==5.24.0 numpy==2.4.6; run with ARGOSY and ARGOSY_SMOLLM2 set as in README.md. Each line
is the largest difference between transformers' logits of the folder and the reference, or argosy's own logits.
"""
import json
import os
import sys
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import convert
import expert_families
import families
from harness import DATA, expect, expect_close, logits, run, smollm2

VARIANTS = os.path.join(DATA, "variants")
IDS = np.load(os.path.join(VARIANTS, "seq100.npy"))


def theirs(folder, ids):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                 experts_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids, np.int64))[None]).logits[0].numpy()


def check(name):
    with tempfile.TemporaryDirectory() as place:
        file, folder = os.path.join(place, "m.gguf"), os.path.join(place, "folder")
        source = os.path.join(VARIANTS, name, "model.gguf")
        if not os.path.exists(source):  # by way of a file: the settings must come from the spec, not from a config.json
            source = convert.lend(name, os.path.join(place, "source"))
            run(["convert", source, "--to", "gguf", file])
        run(["convert", file if os.path.exists(file) else source, "--to", "hf", folder])
        expect_close(theirs(folder, IDS), logits(source, IDS, place, ["--compute", "f32"]), 2e-5, name)


def check_family(name):
    """By way of a GGUF file where one can say what the model has."""
    with tempfile.TemporaryDirectory() as place:
        source, file = families.lend(name, os.path.join(place, "source")), os.path.join(place, "m.gguf")
        with open(os.path.join(families.FAMILIES, name, "golden.json")) as golden:
            if json.load(golden)["gguf"]:
                run(["convert", source, "--to", "gguf", "--type", "f32", file])
                source = file
        run(["convert", source, "--to", "hf", os.path.join(place, "folder")])
        ids = np.load(os.path.join(DATA, "tiny", "seq33.npy"))
        wanted = np.load(os.path.join(families.FAMILIES, name, "logits33.npy"))
        expect_close(theirs(os.path.join(place, "folder"), ids)[-len(wanted):], wanted, 2e-5, name)


def check_experts(name):
    """Of gpt-oss by way of a GGUF file, too: 4-bit floats become floats as modules have them."""
    ids = np.load(os.path.join(DATA, "tiny", "seq33.npy"))
    wanted = np.load(os.path.join(expert_families.EXPERTS, name, "logits33.npy"))
    with tempfile.TemporaryDirectory() as place:
        sources = [expert_families.lend(name, os.path.join(place, "source"))]
        if name.startswith("gpt_oss"):
            sources.append(os.path.join(place, "m.gguf"))
            run(["convert", sources[0], "--to", "gguf", sources[1]])
        for i, source in enumerate(sources):
            folder = os.path.join(place, f"folder{i}")
            run(["convert", source, "--to", "hf", folder])
            expect_close(theirs(folder, ids)[-len(wanted):], wanted, 2e-5, f"{name} of {os.path.basename(source)}")


def main():
    torch.set_num_threads(2)
    for name in sorted(os.listdir(expert_families.EXPERTS)):
        check_experts(name)
    for name in sorted(os.listdir(families.FAMILIES)):
        check_family(name)
    variants = [name for name in sorted(os.listdir(VARIANTS)) if os.path.isdir(os.path.join(VARIANTS, name))]
    for name in ["llama", "mixtral"] + variants:
        check(name)
    with tempfile.TemporaryDirectory() as folder:
        run(["convert", smollm2(), "--to", "hf", folder])
        tokenizer = AutoTokenizer.from_pretrained(folder)
        messages = [{"role": "user", "content": "Why is the sky blue?"}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        expect(text.endswith("<|im_start|>assistant\n"), text)
        ids = tokenizer(text)["input_ids"]
        expect_close(theirs(folder, ids), logits(smollm2(), ids, folder, ["--compute", "f32"]), 2e-3, "SmolLM2")


if __name__ == "__main__":
    sys.exit(main())
