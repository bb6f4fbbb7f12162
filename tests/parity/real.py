"""What transformers makes of a real model (data/real): greedy tokens, the last position's logits, likelihoods."""
import json
import os
import tempfile

import numpy as np

from harness import DATA, EXACT, expect, expect_close, expect_greedy, generate, logits, run


def folder_of(name):
    return os.path.join(DATA, "real", name)


def real_cases(name):
    with open(os.path.join(folder_of(name), "cases.json")) as file:
        return json.load(file)["cases"]


def expect_real_greedy(model, name):
    for case in real_cases(name):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ids.npy")
            np.save(path, np.asarray(case["ids"], dtype=np.int32))
            answer = generate(model, ["--tokens", path, "--max-tokens", "64", "--ignore-eos"] + EXACT)
        expect(answer["prompt_tokens"] == case["ids"], f"{case['name']}: the prompt's ids")
        expect_greedy(answer["tokens"], case["greedy_ids"], case["greedy_margins"], 2e-3, case["name"])


def expect_real_logits(model, name, splits=((1, []),)):
    """The last position's. @param splits  of which the first alone is for all cases, the others for one."""
    for case in real_cases(name):
        whole = case["name"] == "english"
        with tempfile.TemporaryDirectory() as folder:
            for ranks, split in splits if whole else splits[:1]:
                got = logits(model, case["ids"], folder, EXACT + split, ranks)[-1]
                what = " ".join([case["name"]] + split)
                expect_close(got[case["top50_ids"]], case["top50_logits"], 1e-3, f"{what}: 50 likeliest")
                if whole:
                    wanted = np.load(os.path.join(folder_of(name), "english.logits.npy")).reshape(-1)
                    expect_close(got, wanted, 1e-3, f"{what}: all")


def expect_real_nll(model, name, predicted):
    """Eight windows of 512 tokens. @param predicted  of their tokens: all, where a BOS goes before each"""
    wanted = float(np.nanmean(np.load(os.path.join(folder_of(name), "ppl.nll.npy"))))
    for compute, bound in (("f32", 1e-4), ("auto", 0.01)):
        done = run(["eval", "--model", model, "--tokens", os.path.join(folder_of(name), "ppl.ids.npy"),
                    "--window", "512", "--compute", compute, "--json"])
        result = json.loads(done.stdout)
        expect(result["tokens"] == 4096 and result["predicted"] == predicted, f"counts: {result}")
        expect_close(result["nll"], wanted, bound, f"mean nll, {compute}")
        expect_close(result["perplexity"], np.exp(result["nll"]), 1e-6, "perplexity")
