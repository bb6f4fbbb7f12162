"""Models that the golden data lacks, against transformers (data/variants, made by make_variants.py)."""
import json
import os
import tempfile

import numpy as np

from harness import DATA, EXACT, TINY, expect, expect_close, generate, logits, main, run

VARIANTS = os.path.join(DATA, "variants")
SPLITS = [(1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"]), (3, ["--tp", "2,1"])]
BOS_MODEL = os.path.join(VARIANTS, "gguf_f32_bias", "model.gguf")
NO_BOS_MODEL = os.path.join(VARIANTS, "gguf_f16_llama3", "model.gguf")
FOLDERS = ["rope_default", "rope_llama3", "rope_linear", "rope_yarn", "rope_yarn_factor", "bias", "head_dim",
           "mqa", "seven_heads", "bf16", "f16", "sharded"]
FILES = ["gguf_f32_bias", "gguf_f16_llama3", "gguf_f16_linear", "gguf_q8_0", "gguf_q4_0", "gguf_q4_1",
         "gguf_q5_0", "gguf_k"]


def lend(name, folder):
    """The folder of a variant, with what it shares with others: the tokenizer, the ropes' weights."""
    source = os.path.join(VARIANTS, name)
    for file in os.listdir(source):
        os.symlink(os.path.join(source, file), os.path.join(folder, file))
    os.symlink(os.path.join(TINY, "tokenizer.json"), os.path.join(folder, "tokenizer.json"))
    if name.startswith("rope_") and name != "rope_default":
        os.symlink(os.path.join(VARIANTS, "rope_default", "model.safetensors"),
                   os.path.join(folder, "model.safetensors"))
    return folder


def references(name):
    """Ids, and the logits of the last positions of them."""
    for length, path in (("33", os.path.join(DATA, "tiny", "seq33.npy")),
                         ("100", os.path.join(VARIANTS, "seq100.npy"))):
        yield length, np.load(path), np.load(os.path.join(VARIANTS, name, f"logits{length}.npy"))


def compare(name, auto_bound):
    with tempfile.TemporaryDirectory() as lent, tempfile.TemporaryDirectory() as folder:
        gguf = os.path.join(VARIANTS, name, "model.gguf")
        model = gguf if os.path.exists(gguf) else lend(name, lent)
        for length, ids, reference in references(name):
            for ranks, split in SPLITS:
                got = logits(model, ids, folder, EXACT + split, ranks)
                expect(len(got) == len(ids), f"{len(got)} positions, not {len(ids)}")
                expect_close(got[-len(reference):], reference, 2e-5, f"{name}, {length} tokens, {split}")
            got = logits(model, ids, folder, [])
            expect_close(got[-len(reference):], reference, auto_bound, f"{name}, {length} tokens, auto")


def bos_eval():
    """BOS stands before each window and outside its length, and is not itself predicted."""
    with open(os.path.join(VARIANTS, "bos.json")) as file:
        wanted = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        text, ids = os.path.join(folder, "text"), os.path.join(folder, "ids.npy")
        begun = os.path.join(folder, "begun")
        with open(begun, "w") as file:
            file.write("<s>" + wanted["text"])
        np.save(ids, np.asarray(wanted["ids"], dtype=np.int32))
        with open(text, "w") as file:
            file.write(wanted["text"])
        for source in (["--text", text], ["--text", begun], ["--tokens", ids]):
            for ranks, split in SPLITS[:3]:
                done = run(["eval", "--model", BOS_MODEL, "--window", wanted["window"], "--json"] + source +
                           EXACT + split, ranks)
                result = json.loads(done.stdout)
                expect(result["tokens"] == len(wanted["ids"]), f"tokens: {result}")
                expect(result["predicted"] == wanted["with_bos"]["predicted"], f"predicted: {result}")
                expect_close(result["nll"], wanted["with_bos"]["nll"], 1e-5, f"mean nll {source[0]} {split}")
        longer = os.path.join(folder, "longer")
        with open(longer, "w") as file:
            file.write(wanted["text"] * 2)
        for split in ([], ["--window", "128"], ["--context", "128"]):  # the BOS stands outside the context
            done = run(["eval", "--model", BOS_MODEL, "--text", longer, "--json"] + EXACT + split)
            result = json.loads(done.stdout)
            expect(result["predicted"] == wanted["whole_context"]["predicted"], f"predicted: {result}")
            expect_close(result["nll"], wanted["whole_context"]["nll"], 1e-5, f"whole context {split}")
        result = json.loads(run(["eval", "--model", NO_BOS_MODEL, "--window", wanted["window"], "--json",
                                 "--text", text]).stdout)
        expect(result["predicted"] == wanted["without_bos"]["predicted"], f"predicted without BOS: {result}")


def bos_prompts():
    """Text gets BOS once where the tokenizer adds it; ids never do; tokenize never shows it."""
    with open(os.path.join(VARIANTS, "bos.json")) as file:
        wanted = json.load(file)
    text, ids = wanted["text"][:40], None
    for model, before in ((BOS_MODEL, [1]), (NO_BOS_MODEL, [])):
        done = run(["tokenize", "--model", model, "--text", text])
        ids = json.loads(done.stdout)
        whole = json.loads(run(["tokenize", "--model", model, "--text", wanted["text"]]).stdout)
        expect(whole == wanted["ids"], f"tokenize: {whole}, not {wanted['ids']}")
        got = generate(model, ["--prompt", text, "--max-tokens", "2"])["prompt_tokens"]
        expect(got == before + ids, f"prompt {got}, not {before} + {ids}")
        got = generate(model, ["--prompt", "<s>" + text, "--max-tokens", "2"])["prompt_tokens"]
        expect(got == [1] + ids, f"prompt that begins with <s>: {got}, not 1 + {ids}")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ids.npy")
            np.save(path, np.asarray(ids, dtype=np.int32))
            got = generate(model, ["--tokens", path, "--max-tokens", "2"])["prompt_tokens"]
        expect(got == ids, f"--tokens: {got}, not {ids}")


def bos_folders():
    """Folders: BOS before a text and before a chat where transformers puts one, and nowhere else."""
    with open(os.path.join(DATA, "tokenizer", "bos.json")) as file:
        wanted = json.load(file)
    with open(os.path.join(TINY, "tokenizer.json")) as file:
        tokenizer = json.load(file)
    for case in wanted["cases"]:
        tokenizer["post_processor"] = wanted["processors"][case["processor"]]
        with tempfile.TemporaryDirectory() as folder:
            for name in ("config.json", "model.safetensors"):
                os.symlink(os.path.join(TINY, name), os.path.join(folder, name))
            for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", case["settings"])):
                with open(os.path.join(folder, name), "w") as file:
                    json.dump(content, file)
            ask = ["--prompt", wanted["text"], "--max-tokens", "1"]
            ids = case["ids"][:-1] if case["ids"][-1] == 2 else case["ids"]  # no prompt is ended by EOS
            got = generate(folder, ask)["prompt_tokens"]
            expect(got == ids, f"{case['processor']}, {case['settings']}: {got}, not {ids}")
            got = generate(folder, ask + ["--chat"])["prompt_tokens"]
            expect(got == case["chat"], f"{case['processor']}, chat: {got}, not {case['chat']}")


def case_of(name):
    # float32 weights are multiplied as they are; smaller types meet activations as small as they are
    exact_weights = name == "gguf_f32_bias" or name in FOLDERS[:9]
    return lambda: compare(name, 0.02 if exact_weights else 0.15)


main(dict({name: case_of(name) for name in FOLDERS + FILES}, bos_eval=bos_eval, bos_prompts=bos_prompts,
     bos_folders=bos_folders))
