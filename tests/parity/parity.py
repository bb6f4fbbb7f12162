"""Parity with reference data that we did not compute (data/, made by transformers and PyTorch)."""
import json
import os
import tempfile

import numpy as np

from harness import (DATA, EXACT, TINY, expect, expect_close, expect_greedy, gemma3, generate, logits, main, run,
                     smollm2)
from real import expect_real_greedy, expect_real_logits, expect_real_nll, folder_of, real_cases

# every way of splitting that the options can say, by number of ranks
TINY_SPLITS = [
    (2, "--tp 2"), (3, "--tp 3"), (4, "--tp 4"), (5, "--tp 5"), (2, "--pp 2"), (3, "--pp 3"),
    (4, "--tp 2 --pp 2"), (3, "--tp 2,1"), (3, "--tp 1,2"), (4, "--tp 1,2,1"), (5, "--tp 3,2"),
    (3, "--tp 3 --tensor-split 7,1,1"), (2, "--tp 2 --tensor-split 5,4"),
    (3, "--tp 2 --pp 2 --tp 2,1 --tensor-split 5,4;1"), (2, "--pp 2 --pipeline-split 1,2"),
    (2, "--tensor-split 1,8"), (5, "--tp 2,2,1"),
    (2, "--tp 2 --overlap-tokens 2"), (3, "--tp 3 --tensor-split 7,1,1 --overlap-tokens 2"),
    (5, "--tp 3,2 --overlap-tokens 33"),
]
SMOLLM2_SPLITS = [
    (2, "--tp 2"), (3, "--tp 3"), (4, "--tp 4"), (5, "--tp 5"), (2, "--pp 2"), (3, "--pp 3"),
    (4, "--pp 4"), (5, "--pp 5"), (4, "--tp 2 --pp 2"), (3, "--tp 2,1"),
    (3, "--tp 3 --tensor-split 7,1,1"), (2, "--tp 2 --tensor-split 20,1"),
    (2, "--pp 2 --pipeline-split 20,10"), (5, "--tp 3,2 --tensor-split 7,1,1;1,2"),
    (2, "--tp 2 --overlap-tokens 2"), (3, "--tp 3 --tensor-split 7,1,1 --overlap-tokens 2"),
]


def options(text):
    words = text.split()
    kept = []
    for name, value in zip(words[::2], words[1::2]):  # the last of a name counts
        kept = [pair for pair in kept if pair[0] != name] + [(name, value)]
    return [word for pair in kept for word in pair]


def tiny_case(n):
    return np.load(os.path.join(DATA, "tiny", f"seq{n}.npy")), np.load(os.path.join(TINY, f"logits{n}.npy"))


def tiny_logits():
    with tempfile.TemporaryDirectory() as folder:
        for n in (7, 33):
            ids, reference = tiny_case(n)
            expect_close(logits(TINY, ids, folder, EXACT), reference, 2e-5, f"logits of {n} tokens")


def tiny_config_v4():
    """The older spelling of config.json says the same."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("model.safetensors", "tokenizer.json"):
            os.symlink(os.path.join(TINY, name), os.path.join(folder, name))
        os.symlink(os.path.join(TINY, "config.v4.json"), os.path.join(folder, "config.json"))
        ids, reference = tiny_case(33)
        expect_close(logits(folder, ids, folder, EXACT), reference, 2e-5, "logits of 33 tokens")


def tiny_splits():
    ids, reference = tiny_case(33)
    with tempfile.TemporaryDirectory() as folder:
        for ranks, split in TINY_SPLITS:
            split = options(split)
            expect_close(logits(TINY, ids, folder, EXACT + split, ranks), reference, 2e-5,
                         f"{ranks} ranks, {' '.join(split)}")


def tiny_auto():
    """The fast kernels on float32 weights: other sums, the same model."""
    ids, reference = tiny_case(33)
    with tempfile.TemporaryDirectory() as folder:
        expect_close(logits(TINY, ids, folder, []), reference, 5e-3, "auto")


def real_greedy():
    expect_real_greedy(smollm2(), "smollm2")


def real_logits():
    expect_real_logits(smollm2(), "smollm2")


def real_nll():
    expect_real_nll(smollm2(), "smollm2", 4088)


def real_text_nll():
    """The same text as text: its first 4096 tokens are the reference's."""
    ids = np.load(os.path.join(folder_of("smollm2"), "ppl.ids.npy"))
    done = run(["tokenize", "--model", smollm2(), "--file", os.path.join(DATA, "real", "ppl_text.txt")])
    expect(json.loads(done.stdout)[:4096] == ids.tolist(), "the text's ids")


def real_splits():
    case = next(c for c in real_cases("smollm2") if c["name"] == "english")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ids.npy")
        np.save(path, np.asarray(case["ids"], dtype=np.int32))
        one = logits(smollm2(), case["ids"], folder, EXACT)
        args = ["--max-tokens", "24", "--ignore-eos"] + EXACT
        for ranks, split in SMOLLM2_SPLITS:
            what = f"{ranks} ranks, {split}"
            split = options(split)
            expect_close(logits(smollm2(), case["ids"], folder, EXACT + split, ranks), one, 2e-4, what)
            np.save(path, np.asarray(case["ids"], dtype=np.int32))
            answer = generate(smollm2(), ["--tokens", path] + args + split, ranks)
            expect_greedy(answer["tokens"], case["greedy_ids"][:24], case["greedy_margins"], 2e-4, what)


def tokenizer():
    """Two real ones, from GGUF: byte-level BPE, and SentencePiece's pieces."""
    compare_tokenizer("smollm2.jsonl", smollm2())
    compare_tokenizer("gemma3.jsonl", gemma3())


def compare_tokenizer(name, model):
    with open(os.path.join(DATA, "tokenizer", name), encoding="utf-8", newline="\n") as file:
        lines = [json.loads(line) for line in file.read().split("\n") if line]
    texts = [line for line in lines if line["kind"] == "encode"]
    stdin = "".join(json.dumps(line["text"]) + "\n" for line in texts).encode()
    for flags, key in (([], "ids"), (["--no-special"], "ids_plain")):
        done = run(["tokenize", "--model", model, "--jsonl"] + flags, stdin=stdin)
        got = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
        for line, ids in zip(texts, got, strict=True):
            wanted = line.get(key, line["ids"])
            expect(ids == wanted, f"{name}, case {line['n']} {flags}: {ids}, not {wanted}")
    stdin = "".join(json.dumps(line["ids"]) + "\n" for line in lines).encode()
    for flags, key in (([], "decoded"), (["--no-special"], "decoded_skip_special")):
        done = run(["tokenize", "--model", model, "--jsonl", "--decode"] + flags, stdin=stdin)
        got = [json.loads(line) for line in done.stdout.decode("utf-8").split("\n") if line]
        for line, text in zip(lines, got, strict=True):
            if key in line:
                expect(text == line[key], f"{name}, case {line.get('n')} {flags}: {text!r}, not {line[key]!r}")
    for line in lines:
        if "decoded_bytes_hex" in line:
            done = run(["tokenize", "--model", model, "--decode", "--text", json.dumps(line["ids"])])
            expect(done.stdout.hex() == line["decoded_bytes_hex"], f"{name}, case {line.get('n')}: bytes")
        if "bytes_hex" in line:
            with tempfile.NamedTemporaryFile() as file:
                file.write(bytes.fromhex(line["bytes_hex"]))
                file.flush()
                done = run(["tokenize", "--model", model, "--file", file.name])
            expect(json.loads(done.stdout) == line["ids"], f"{name}, case {line.get('n')}: raw bytes")


def tokenizers():
    """tokenizer.json of every kind: the pre-tokenizers that models have, BPE of bytes and of characters, Unigram; added
    tokens; a leading space."""
    sources = [(name, os.path.join(DATA, "tokenizer", name, "cases.jsonl"), os.path.join(DATA, "tokenizer", name))
               for name in ("gpt2", "prefix", "llama3", "smollm", "removed", "splits", "qwen2", "deepseek_llm", "deepseek_v3",
                            "gpt4o", "tekken", "llama", "llama_first", "gemma", "metaspace", "few_bytes", "unigram_t5",
                            "unigram_bytes")]
    for name, cases, source in sources + [("tiny", os.path.join(DATA, "tokenizer", "tiny.jsonl"), TINY)]:
        with open(cases) as file:
            lines = [json.loads(line) for line in file]
        with tempfile.TemporaryDirectory() as folder:
            for file in ("config.json", "model.safetensors"):
                os.symlink(os.path.join(TINY, file), os.path.join(folder, file))
            os.symlink(os.path.join(source, "tokenizer.json"), os.path.join(folder, "tokenizer.json"))
            for flags, key in (([], "ids"), (["--no-special"], "ids_plain")):
                stdin = "".join(json.dumps(line["text"]) + "\n" for line in lines).encode()
                done = run(["tokenize", "--model", folder, "--jsonl"] + flags, stdin=stdin)
                for line, text in zip(lines, done.stdout.decode().strip().split("\n"), strict=True):
                    wanted = line.get(key, line["ids"])
                    expect(json.loads(text) == wanted, f"{name} {flags} {line['text']!r}: {text}, not {wanted}")
            stdin = "".join(json.dumps(line["ids"]) + "\n" for line in lines).encode()
            done = run(["tokenize", "--model", folder, "--jsonl", "--decode"], stdin=stdin)
            for line, text in zip(lines, done.stdout.decode().split("\n")[:-1], strict=True):
                expect(json.loads(text) == line["decoded"], f"{name}: {text}, not {line['decoded']!r}")


def sentencepiece():
    """GGUF files of both its models: ids as the package sentencepiece has them, and texts come back."""
    for name in ("sp_bpe", "sp_bpe_plain", "sp_unigram", "sp_unigram_bytes"):
        source, model = os.path.join(DATA, "tokenizer", name), os.path.join(DATA, "tokenizer", name, "model.gguf")
        with open(os.path.join(source, "cases.jsonl")) as file:
            lines = [json.loads(line) for line in file]
        stdin = "".join(json.dumps(line["text"]) + "\n" for line in lines).encode()
        for flags, key in (([], "ids"), (["--no-special"], "ids_plain")):
            done = run(["tokenize", "--model", model, "--jsonl"] + flags, stdin=stdin)
            for line, text in zip(lines, done.stdout.decode().strip().split("\n"), strict=True):
                wanted = line.get(key, line["ids"])
                expect(json.loads(text) == wanted, f"{name} {flags} {line['text']!r}: {text}, not {wanted}")


def chat_templates():
    """Templates are recognised, or chosen by name, and render as Jinja2 does; what is not known is refused with the way
    out. Every template is rendered by the unit tests of runtime/text; here is what lies between them and a user."""
    with open(os.path.join(DATA, "chat", "templates.json")) as file:
        listed = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("model.safetensors", "tokenizer.json"):
            os.symlink(os.path.join(TINY, name), os.path.join(folder, name))
        with open(os.path.join(TINY, "config.json")) as file:
            config = dict(json.load(file), max_position_embeddings=1024)
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file)

        def prompt_of(template, args):
            with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
                json.dump({"chat_template": template}, file)
            ids = generate(folder, ["--chat", "--max-tokens", "1"] + args)["prompt_tokens"]
            return run(["tokenize", "--model", folder, "--decode", "--text", json.dumps(ids)]).stdout.decode()

        date = "-".join(f"{number:02d}" for number in listed["date"])
        checked = set()
        for case in listed["templates"]:
            if "refused" in case:
                with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
                    json.dump({"chat_template": case["template"]}, file)
                done = run(["generate", "--model", folder, "--chat", "--prompt", "x"], check=False)
                expect(done.returncode == 1 and "--chat-template (known: chatml" in done.stderr.decode(),
                       f"{case['title']} is refused: {done.stderr.decode()}")
                continue
            for wanted in case["cases"]:
                if case["name"] in ("chatml", "qwen3", "llama3.2", "gpt-oss") and case["name"] not in checked and \
                        wanted["prompt"] and [m["role"] for m in wanted["messages"]] == ["user"] and "thinking" not in wanted:
                    checked.add(case["name"])
                    args = ["--date", date, "--prompt", wanted["messages"][0]["content"]]
                    text = wanted["rendered"].replace(listed["bos"], "")  # the model has none
                    for template, more in ((case["template"], []), ("{{ x }}", ["--chat-template", case["name"]])):
                        found = prompt_of(template, args + more)
                        expect(found == text, f"{case['name']}: {found!r}, not {text!r}")
        expect(len(checked) == 4, f"{checked} are checked")
        found = prompt_of("", ["--chat-template", "qwen3", "--thinking", "off", "--prompt", "a"])
        expect(found.endswith("assistant\n<think>\n\n</think>\n\n"), found)


main({f.__name__: f for f in (tiny_logits, tiny_config_v4, tiny_splits, tiny_auto, real_greedy,
                              real_logits, real_nll, real_text_nll, real_splits, tokenizer,
                              tokenizers, sentencepiece, chat_templates)})
