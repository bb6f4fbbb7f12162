"""Models whose layers have a window in turn: the golden tiny Gemma 3, GGUF files as llama.cpp's converter writes them,
and the real Gemma 3 270M."""
import json
import os
import tempfile

import numpy as np

from harness import DATA, TINY, expect, expect_close, expect_greedy, gemma3, generate, logits, main, run
from train import expect_layouts

EXACT = ["--compute", "f32"]
SPLITS = [(1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"]), (3, ["--tensor-split", "1,2;1"])]
TRAINED = ((1, []), (2, ["--tp", "2"]), (4, ["--dp", "2", "--pp", "2", "--recompute", "full"]))
GOLDEN = os.path.join(DATA, "tiny", "gemma3")
REAL = os.path.join(DATA, "real", "gemma3")


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


def cases():
    with open(os.path.join(REAL, "cases.json")) as file:
        return json.load(file)["cases"]


def real_greedy():
    for case in cases():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ids.npy")
            np.save(path, np.asarray(case["ids"], dtype=np.int32))
            answer = generate(gemma3(), ["--tokens", path, "--max-tokens", "64", "--ignore-eos"] + EXACT)
        expect(answer["prompt_tokens"] == case["ids"], f"{case['name']}: the prompt's ids")
        expect_greedy(answer["tokens"], case["greedy_ids"], case["greedy_margins"], 2e-3, case["name"])


def real_logits():
    """The last position's, on one rank and on splits."""
    for case in cases():
        whole = case["name"] == "english"
        with tempfile.TemporaryDirectory() as folder:
            for ranks, split in SPLITS if whole else SPLITS[:1]:
                got = logits(gemma3(), case["ids"], folder, EXACT + split, ranks)[-1]
                what = f"{case['name']}, {' '.join(split)}"
                expect_close(got[case["top50_ids"]], case["top50_logits"], 1e-3, f"{what}: 50 likeliest")
                if whole:
                    wanted = np.load(os.path.join(REAL, "english.logits.npy")).reshape(-1)
                    expect_close(got, wanted, 1e-3, f"{what}: all")


def real_nll():
    """Eight windows of 512 tokens, each behind a BOS."""
    wanted = float(np.mean(np.load(os.path.join(REAL, "ppl.nll.npy"))))
    for compute, bound in (("f32", 1e-4), ("auto", 0.01)):
        done = run(["eval", "--model", gemma3(), "--tokens", os.path.join(REAL, "ppl.ids.npy"),
                    "--window", "512", "--compute", compute, "--json"])
        result = json.loads(done.stdout)
        expect(result["tokens"] == 4096 and result["predicted"] == 4096, f"counts: {result}")
        expect_close(result["nll"], wanted, bound, f"mean nll, {compute}")


if __name__ == "__main__":
    main({f.__name__: f for f in (tiny_logits, tiny_training, real_greedy, real_logits, real_nll)})
