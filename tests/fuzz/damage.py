#!/usr/bin/env python3
"""Damage files at random and see that argosy says so in one line, or runs as ever.

    ARGOSY=build/sanitize/argosy tests/fuzz/damage.py [--first SEED] [--keep FOLDER] COUNT [FORMAT..]

COUNT files of each format, the same for the same seeds. What is demanded: exit code 0 and no error, or 1, 2 or 3 and
one line that begins with "argosy: "; no crash, no report of a sanitizer, an end within minutes. What fails is kept.
"""
import argparse
import copy
import glob
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DATA = os.path.join(ROOT, "tests", "parity", "data")
TINY = os.path.join(DATA, "tiny", "llama")
IDS = os.path.join(DATA, "tiny", "seq33.npy")
EXAMPLES = os.path.join(ROOT, "examples", "data")
MEMORY = ["--max-memory", "1G", "--threads", "1"]
TIMEOUT_S = 240
INTERESTING = [0, 1, 2, 3, 7, 8, 31, 32, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1,
               2**63, 2**64 - 1]
VALUES = [None, True, False, -1, 0, 1, 2, 3, 255, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 1e300, -1.5, 1e-320, "", "x",
          "f32", "\n", "\u0000", "\ud7ff", "a" * 3000, [], {}, [0], [[]], [1] * 500, {"a": 1}]


def damage_bytes(data, rng, header):
    """Some bytes changed, most often near the beginning, or the file cut, or parts of it moved."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not data:
            break
        most = min(len(data), header) if rng.random() < 0.8 else len(data)
        at, kind = rng.randrange(most), rng.randrange(8)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind in (2, 3):
            size = rng.choice([2, 4, 8])
            number = (rng.choice(INTERESTING) + rng.choice([-1, 0, 0, 1])) % 2 ** (8 * size)
            data[at : at + size] = number.to_bytes(size, "little")
        elif kind == 4:
            del data[at : at + rng.choice([1, 4, 8, 100])]
        elif kind == 5:
            begin = rng.randrange(len(data))
            data[at:at] = data[begin : begin + rng.choice([1, 4, 8, 100])]
        elif kind == 6:
            data[at : at + rng.choice([8, 64])] = bytes(rng.choice([8, 64]))
        elif rng.random() < 0.5:
            del data[rng.choice([at, rng.randrange(len(data))]) :]
    return bytes(data)


def places(value):
    """Every container of a JSON value, with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from places(value[key])


def damage_json(data, rng, spare=()):
    """Values removed, doubled, changed; now and then bytes. @param spare  keys that are not looked into, for size"""
    if rng.random() < 0.25:
        return damage_bytes(data, rng, len(data))
    value = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        shallow = {k: v for k, v in value.items() if k not in spare} if isinstance(value, dict) else value
        found = [(value if held is shallow else held, key) for held, key in places(shallow)]
        if not found:
            break
        held, key = rng.choice(found)
        kind = rng.randrange(5)
        if kind == 0:
            del held[key]
        elif kind == 1 and isinstance(held, list):
            held.insert(rng.randrange(len(held) + 1), copy.deepcopy(held[key]))
        elif kind == 1:
            held[rng.choice(list(held))] = copy.deepcopy(held[key])
        elif kind == 2 and isinstance(held[key], (int, float)) and not isinstance(held[key], bool):
            held[key] = rng.choice([held[key] + 1, held[key] - 1, -held[key], held[key] * 2, held[key] * 1000])
        else:
            held[key] = copy.deepcopy(rng.choice(VALUES))  # or what is changed next stands in another place, too
    return json.dumps(value).encode()


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def lend(folder, source, *names):
    """A folder of links to another's files, but for some, which are to be written."""
    for name in os.listdir(source):
        if name not in names and os.path.isfile(os.path.join(source, name)):
            os.symlink(os.path.join(source, name), os.path.join(folder, name))
    if not os.path.exists(os.path.join(folder, "tokenizer.json")) and "tokenizer.json" not in names:
        os.symlink(os.path.join(TINY, "tokenizer.json"), os.path.join(folder, "tokenizer.json"))


def put(data, *path):
    with open(os.path.join(*path), "wb") as file:
        file.write(data)


def use(model, rng, where):
    """One of the ways in which a model's files are read."""
    prompt = ["--prompt", "Hello there", "--max-tokens", "2"]
    return rng.choice([["eval", "--model", model, "--tokens", IDS] + MEMORY,
                       ["eval", "--model", model, "--tokens", IDS, "--compute", "f32"] + MEMORY,
                       ["generate", "--model", model] + prompt + MEMORY,
                       ["generate", "--chat", "--model", model] + prompt + MEMORY,
                       ["tokenize", "--model", model, "--text", "Hello there"],
                       ["convert", model, "--to", "gguf", os.path.join(where, "out.gguf")],
                       ["convert", model, "--to", "hf", os.path.join(where, "out")],
                       ["plan", "--model", model] + MEMORY])


def gguf(rng, where):
    source = rng.choice(["gguf_q8_0", "gguf_k", "gguf_f32_bias", "gguf_q5_0"])
    put(damage_bytes(read(DATA, "variants", source, "model.gguf"), rng, 8192), where, "m.gguf")
    return use(os.path.join(where, "m.gguf"), rng, where)


def folders(*names):
    """The folders of whole models among the references."""
    return [os.path.dirname(path) for name in names
            for path in sorted(glob.glob(os.path.join(DATA, name, "*", "model*.safetensors")))]


def safetensors(rng, where):
    source = rng.choice([TINY, TINY, os.path.join(DATA, "variants", "sharded"), os.path.join(DATA, "f8"),
                         rng.choice(folders("families", "experts"))])
    names = [name for name in sorted(os.listdir(source)) if ".safetensors" in name]
    name = rng.choice(names)
    lend(where, source, name)
    data = read(source, name)
    put(damage_json(data, rng) if name.endswith(".json") else damage_bytes(data, rng, 6000), where, name)
    return use(where, rng, where)


def config(rng, where):
    source = rng.choice(folders("tiny", "variants", "families", "experts"))
    lend(where, source, "config.json")
    put(damage_json(read(source, "config.json"), rng), where, "config.json")
    return use(where, rng, where)


def tokenizer(rng, where):
    lend(where, TINY, "tokenizer.json")
    spare = ("model",) if rng.random() < 0.7 else ()
    source = rng.choice([os.path.join(TINY, "tokenizer.json")] +
                        sorted(glob.glob(os.path.join(DATA, "tokenizer", "*", "tokenizer.json"))))
    put(damage_json(read(source), rng, spare), where, "tokenizer.json")
    if rng.random() < 0.3:
        template = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        settings = json.dumps({"chat_template": template, "eos_token": "</s>", "bos_token": {"content": "<s>"}})
        put(damage_json(settings.encode(), rng), where, "tokenizer_config.json")
    return rng.choice([["tokenize", "--model", where, "--text", "Hello  there, 12345 \u00e9\u4e2d"],
                       ["convert", where, "--to", "gguf", os.path.join(where, "out.gguf")],
                       ["generate", "--model", where, "--prompt", "Hello", "--max-tokens", "2"] + MEMORY,
                       ["generate", "--model", where, "--chat", "--prompt", "Hello", "--max-tokens", "2"] + MEMORY])


def train(where, *args):
    return ["train", "--model", TINY, "--seq-length", "32", "--global-batch-size", "2", "--output",
            os.path.join(where, "out")] + MEMORY + list(args)


def data(rng, where):
    name = rng.choice(["dialogues.jsonl", "samples.jsonl", "story.txt", "texts.jsonl"])
    text = read(EXAMPLES, name)
    if name.endswith("jsonl") and rng.random() < 0.6:
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        lines[at] = damage_json(lines[at], rng)
        text = b"\n".join(lines)
    else:
        text = damage_bytes(text, rng, len(text))
    put(text, where, name)
    return train(where, "--data", os.path.join(where, name), *rng.choice([["--dry-run"], ["--train-steps", "1"]]))


def npy(rng, where):
    put(damage_bytes(read(IDS), rng, 128), where, "ids.npy")
    ids = os.path.join(where, "ids.npy")
    return rng.choice([["eval", "--model", TINY, "--tokens", ids] + MEMORY,
                       train(where, "--tokens", ids, "--train-steps", "1")])


def checkpoint(rng, where):
    """Of two steps, one of which is to go on from."""
    text = os.path.join(EXAMPLES, "texts.jsonl")
    base = checkpoint.base
    if base is None:
        base = checkpoint.base = tempfile.mkdtemp()
        subprocess.run([os.environ["ARGOSY"]] + train(base, "--data", text, "--train-steps", "2", "--save-steps", "1"),
                       check=True, capture_output=True)
    shutil.copytree(os.path.join(base, "out"), os.path.join(where, "out"))
    files = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(where, "out", "checkpoints"))
             for name in sorted(names)]
    manifests = [path for path in files if path.endswith(".json")]
    for path in rng.choice([manifests, manifests, [rng.choice(sorted(files))]]):
        whole = read(path)
        put(damage_json(whole, rng) if path.endswith(".json") else damage_bytes(whole, rng, len(whole)), path)
    return train(where, "--data", text, "--train-steps", "3", "--resume")


checkpoint.base = None
FORMATS = dict(gguf=gguf, safetensors=safetensors, config=config, tokenizer=tokenizer, data=data, npy=npy,
               checkpoint=checkpoint)


def wrong_with(done):
    """What a finished process did that it must not; None: nothing."""
    text = done.stderr.decode("utf-8", "replace")
    errors = [line for line in text.split("\n") if line.startswith("argosy: ") and ": warning: " not in line[:20]]
    if "Sanitizer" in text or "runtime error:" in text:
        return "a sanitizer's report"
    if done.returncode not in (0, 1, 2, 3):
        return f"exit code {done.returncode}"
    if done.returncode == 0 and errors:
        return "an error, and exit code 0"
    if done.returncode != 0 and len(errors) != 1:
        return f"exit code {done.returncode} and {len(errors)} lines of error"
    if any(ord(c) < 32 or len(line) > 4096 for line in errors for c in line):
        return "an error that is no line of text"
    return None


def run_case(name, seed, keep, cache):
    """@param cache  a folder, where the machine's limits are kept from the first case on"""
    rng = random.Random(f"{name} {seed}")
    environment = dict(os.environ, ASAN_OPTIONS="max_allocation_size_mb=1500:detect_leaks=1",
                       UBSAN_OPTIONS="print_stacktrace=1", XDG_CACHE_HOME=cache)
    with tempfile.TemporaryDirectory() as where:
        line = [os.environ["ARGOSY"]] + FORMATS[name](rng, where)
        try:
            done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S,
                                  env=environment)
            wrong = wrong_with(done)
        except subprocess.TimeoutExpired as expired:
            done, wrong = expired, f"no end within {TIMEOUT_S} s"
        if wrong is not None:
            print(f"{name} {seed}: {wrong}: {' '.join(line)}\n{(done.stderr or b'').decode('utf-8', 'replace')[:3000]}",
                  flush=True)
            if keep is not None:
                shutil.copytree(where, os.path.join(keep, f"{name}-{seed}"), symlinks=True, dirs_exist_ok=True)
        return wrong is None, getattr(done, "returncode", None)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep")
    options = parser.parse_args()
    n_failed, seeds, cache = 0, range(options.first, options.first + options.count), tempfile.mkdtemp()
    for name in options.formats or FORMATS:
        results = [run_case(name, seed, options.keep, cache) for seed in seeds]
        n_bad = sum(not right for right, _ in results)
        n_failed += n_bad
        print(f"{name}: {len(results)} files, {sum(code == 0 for _, code in results)} run as ever, {n_bad} failed",
              flush=True)
    shutil.rmtree(cache)
    if checkpoint.base is not None:
        shutil.rmtree(checkpoint.base)
    return 1 if n_failed > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
