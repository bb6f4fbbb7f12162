"""Models whose layers have a window in turn: the golden tiny Gemma 3, GGUF files as llama.cpp's converter writes them,
and the real Gemma 3 270M."""
import os
import tempfile

import numpy as np

from harness import DATA, EXACT, TINY, expect_close, gemma3, logits, main
from real import expect_real_greedy, expect_real_logits, expect_real_nll
from train import expect_layouts

SPLITS = [(1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"]), (3, ["--tensor-split", "1,2;1"])]
TRAINED = ((1, []), (2, ["--tp", "2"]), (4, ["--dp", "2", "--pp", "2", "--recompute", "full"]))
GOLDEN = os.path.join(DATA, "tiny", "gemma3")


def lend(folder, *files, config="config.json"):
    """The tiny model's folder, with a tokenizer and one spelling of its config."""
    for file, source in [("config.json", os.path.join(GOLDEN, config)),
                         ("tokenizer.json", os.path.join(TINY, "tokenizer.json"))] + [
                             (file, os.path.join(GOLDEN, file)) for file in ("model.safetensors",) + files]:
        os.symlink(source, os.path.join(folder, file))
    return folder


def ids_of(length):
    return np.load(os.path.join(DATA, "tiny", f"seq{length}.npy"))


def tiny_logits():
    """Both spellings of config.json; splits; the fast kernels near them."""
    for config in ("config.json", "config.v4.json"):
        with tempfile.TemporaryDirectory() as lent, tempfile.TemporaryDirectory() as folder:
            model = lend(lent, config=config)
            for length in (7, 33):
                reference = np.load(os.path.join(GOLDEN, f"logits{length}.npy"))
                for ranks, split in SPLITS if config == "config.json" and length == 33 else SPLITS[:1]:
                    expect_close(logits(model, ids_of(length), folder, EXACT + split, ranks), reference, 2e-5,
                                 f"{config}, {length} tokens, {' '.join(split)}")
    with tempfile.TemporaryDirectory() as lent, tempfile.TemporaryDirectory() as folder:
        expect_close(logits(lend(lent), ids_of(33), folder, []), reference, 5e-3, "auto")


def tiny_training():
    with tempfile.TemporaryDirectory() as folder:
        expect_layouts(TRAINED, lend(folder, "golden.json", "grads.safetensors", "logits33_after20.npy"))


def real_greedy():
    expect_real_greedy(gemma3(), "gemma3")


def real_logits():
    expect_real_logits(gemma3(), "gemma3", SPLITS)


def real_nll():
    expect_real_nll(gemma3(), "gemma3", 4096)


if __name__ == "__main__":
    main({f.__name__: f for f in (tiny_logits, tiny_training, real_greedy, real_logits, real_nll)})
