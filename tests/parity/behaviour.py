"""What the commands promise beside numbers: bits, memory, forms of output, errors of one line."""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

from harness import (ARGOSY, DATA, PEAK, TINY, expect, expect_close, generate, logits, main, one_line,
                     run, smollm2)

EXACT = ["--compute", "f32"]
MIB = 1 << 20


def bits():
    """The same bits from run to run and for any number of threads."""
    ids = np.load(os.path.join(DATA, "tiny", "seq33.npy"))
    with tempfile.TemporaryDirectory() as folder:
        for model, compute, ranks, split in ((TINY, "f32", 1, []), (smollm2(), "f32", 1, []),
                                             (smollm2(), "auto", 1, []),
                                             (smollm2(), "auto", 2, ["--tp", "2"])):
            first = None
            for threads in ("1", "1", "2", "3", "5"):
                got = logits(model, ids, folder,
                             ["--compute", compute, "--threads", threads] + split, ranks).tobytes()
                first = first or got
                expect(got == first, f"{compute}, {threads} threads, {split}: other bits")


def peak_of(args, ranks):
    """Peaks of the ranks, and what the plan foretells."""
    plan = json.loads(run(args + ["--dry-run"], ranks).stdout)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "peaks")
        run(args, ranks, wrapper=[sys.executable, PEAK], env={"ARGOSY_PEAK": path})
        with open(path) as file:
            peaks = {int(rank): int(peak) for rank, peak in (line.split() for line in file)}
    return [(peaks[entry["rank"]], entry["peak_bytes"]) for entry in plan["predicted"]["memory"]]


def peak_at_work(args):
    """The peak of one rank from its start until it has computed for a second, and then is stopped."""
    args = [ARGOSY] + args + ["--threads", "2"]
    job = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def status(key):
        with open(f"/proc/{job.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(key + ":"))

    while status("Threads") < 2:  # the team is made when the input is read and the plan accepted
        time.sleep(0.02)
    time.sleep(1)
    peak = status("VmHWM") * 1024
    job.send_signal(signal.SIGINT)
    err = job.communicate(timeout=60)[1].decode()
    expect(job.returncode == 130, f"{args}: it was at work: code {job.returncode}: {err}")
    return peak


def memory_of_input():
    """What the user gives is in the plan, too: texts, ids and prompts larger than the model."""
    with tempfile.TemporaryDirectory() as folder:
        text, word, ids, prompts = (os.path.join(folder, name)
                                    for name in ("text", "word", "ids.npy", "prompts.jsonl"))
        with open(text, "w") as file:
            file.write("The quick brown fox, 42. " * 360000)
        with open(word, "w") as file:
            file.write("a" * 2000000)
        with open(prompts, "w") as file:
            file.write("".join(json.dumps(f"Prompt {i} of many") + "\n" for i in range(60000)))
        np.save(ids, (np.arange(4 << 20) % 300).astype(np.int32))
        for args in (["eval", "--text", text], ["eval", "--text", word],
                     ["eval", "--tokens", ids, "--window", "100"],
                     ["generate", "--prompts", prompts, "--max-tokens", "9", "--ignore-eos"]):
            args += ["--model", TINY]
            plan = json.loads(run(args + ["--threads", "2", "--dry-run"]).stdout)
            planned, peak = plan["predicted"]["memory"][0]["peak_bytes"], peak_at_work(args)
            what = f"{args}: peak {peak / MIB:.1f} MiB, plan {planned / MIB:.1f} MiB"
            print(what)
            expect(peak <= planned and peak >= 0.95 * planned - 16 * MIB, what)
        one_line(["eval", "--model", TINY, "--text", text, "--max-memory", "40M"], 3, ["input", "MiB"])


def memory():
    """Each process's peak is at most the plan's, and at least 95% of it less 16 MiB."""
    text = " ".join(str(i) for i in range(250))
    for ranks, split in ((1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"]), (3, ["--tp", "2,1"]),
                         (5, ["--tp", "5"])):
        for compute in ("f32", "auto"):
            args = ["generate", "--model", smollm2(), "--prompt", text, "--max-tokens", "4",
                    "--context", "2048", "--compute", compute] + split
            for rank, (peak, planned) in enumerate(peak_of(args, ranks)):
                what = (f"{split} {compute} rank {rank}: peak {peak / MIB:.1f} MiB, "
                        f"plan {planned / MIB:.1f} MiB")
                print(what)
                expect(peak <= planned and peak >= 0.95 * planned - 16 * MIB, what)
    args = ["eval", "--model", smollm2(), "--tokens", os.path.join(DATA, "real", "smollm2", "ppl.ids.npy"),
            "--window", "1024"]
    for peak, planned in peak_of(args, 1):
        expect(peak <= planned and peak >= 0.95 * planned - 16 * MIB,
               f"eval: peak {peak / MIB:.1f} MiB, plan {planned / MIB:.1f} MiB")
    memory_of_input()


def forms():
    """The shapes of output that scripts depend on."""
    model = smollm2()
    answer = generate(model, ["--prompt", "The capital of France is", "--max-tokens", "5"])
    wanted = {"prompt_tokens", "tokens", "text", "stop", "prefill_tokens_per_s",
              "decode_tokens_per_s", "limit", "ratio", "held_back_by"}
    expect(set(answer) == wanted, f"members: {sorted(answer)}")
    expect(set(answer["limit"]) == {"prefill_tokens_per_s", "decode_tokens_per_s"}, "limit")
    expect(set(answer["ratio"]) == {"prefill", "decode"}, "ratio")
    expect(len(answer["tokens"]) == 5 and answer["stop"] == "length", "five tokens, then length")
    for name in ("prefill", "decode"):
        figure = answer[f"{name}_tokens_per_s"]
        expect(0 < figure <= answer["limit"][f"{name}_tokens_per_s"], f"{name} within its limit")
    plain = run(["generate", "--model", model, "--prompt", "The capital of France is",
                 "--max-tokens", "5"])
    expect(plain.stdout.decode() == answer["text"] + "\n", "text alone on standard output")
    last = plain.stderr.decode().strip().split("\n")[-1]
    expect("tokens/s" in last and "held back by" in last, f"the closing line: {last}")
    for ranks, split in ((1, []), (2, ["--pipeline-split", "29,1"]), (2, ["--pipeline-split", "1,29"])):
        done = run(["generate", "--model", model, "--prompt", "a", "--max-tokens", "20", "--json"] + split, ranks)
        held = json.loads(done.stdout)["held_back_by"]
        expect(f"; held back by {held}" in done.stderr.decode(), f"JSON says {held}: {done.stderr.decode()}")
    decoded = run(["tokenize", "--model", model, "--decode", "--text", json.dumps(answer["tokens"])])
    expect(decoded.stdout.decode() == answer["text"], "text is the tokens decoded")
    text = answer["text"]
    cut = generate(model, ["--prompt", "The capital of France is", "--max-tokens", "5", "--stop",
                           text[2:5]])
    expect(cut["text"] == text[:text.index(text[2:5])] and cut["stop"] == "stop", f"stop: {cut}")
    expect(cut["tokens"] == answer["tokens"][:len(cut["tokens"])], "a stop's tokens stay")


def is_holder(name):
    """Is it one of the things that hold a run back?"""
    return name in ("memory bandwidth", "arithmetic", "bubble", "exposed communication", "overhead") or \
        re.fullmatch(r"link \d+-\d+|imbalance \(rank \d+\)", name) is not None


def check_rates(rates):
    """Every machine has these; fast products of narrow types it may lack."""
    expect(all(rates[name] > 0 for name in ("read_bytes_per_s", "copy_bytes_per_s", "f32_flops_per_s")) and
           rates["bf16_flops_per_s"] >= 0 and rates["int8_ops_per_s"] >= 0, f"{rates}")


def check_figures(result, ranks):
    """A bench's limits, ratios and what it says of them fit each other."""
    above = False
    for name in ("prefill", "decode"):
        figure, limit = (of[f"{name}_tokens_per_s"] for of in (result, result["limit"]))
        ratio = result["ratio"][name]
        expect(limit > 0 and 0 < ratio < 2 and abs(figure / limit - ratio) < 1e-6 * ratio, f"{name}: {result}")
        above |= ratio > 1
    expect(result.get("above_limit", False) == above, f"what is above the limit is said: {result}")
    expect(is_holder(result["held_back_by"]), result["held_back_by"])
    check_rates(result["limits"])
    reads = result["memory_reads"]
    expect(isinstance(result["disturbed"], bool) and reads["start_bytes_per_s"] > 0, f"{reads}")
    used = {"start": "start_bytes_per_s", "between tokens": "between_tokens_bytes_per_s",
            "best between tokens": "best_between_tokens_bytes_per_s"}[reads["limit_is_of"]]
    expect(reads[used] == result["limits"]["read_bytes_per_s"], f"{reads}, {result['limits']}")
    expect(reads["passes"] == (0 if ranks > 1 else result["gen_tokens"] // 8), f"a pass every eighth token: {reads}")


def bench():
    """bench model and bench limits: the members that scripts read, by one rank and by two."""
    model = smollm2()
    wanted = {"model", "cpu", "isa", "threads", "ranks", "prefill_tokens_per_s", "decode_tokens_per_s",
              "limit", "ratio", "held_back_by", "load_s", "peak_memory_bytes", "limits", "profile"}
    rates = {"read_bytes_per_s", "copy_bytes_per_s", "f32_flops_per_s", "bf16_flops_per_s",
             "int8_ops_per_s"}
    for ranks, split in ((1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"])):
        done = run(["bench", "model", "--model", model, "--prompt-tokens", "40", "--gen-tokens", "33",
                    "--json"] + split, ranks)
        result = json.loads(done.stdout)
        expect(wanted <= set(result) and set(result["limits"]) == rates, f"members: {sorted(result)}")
        expect(result["ranks"] == ranks and result["load_s"] > 0, f"{result}")
        check_figures(result, ranks)
        for name in ("prefill", "decode"):
            kernels = result["profile"][name]
            attention = "ATTENTION" if name == "prefill" else "ATTENTION_PARTS"
            expect({"LINEAR", attention, "NORM"} <= {kernel["node"] for kernel in kernels}, kernels)
            waited = {kernel["node"] for kernel in kernels}
            expect("SAMPLING" in waited and (("ALL_REDUCE" in waited) == ("--tp" in split)), f"{split}: {waited}")
            bounded = [k["node"] for k in kernels if k["limit_seconds"] > 0]
            expect("LINEAR" in bounded and attention in bounded, f"{name}: {bounded} have a limit")
            moved = sum(k["bytes"] for k in kernels if k["node"] == "LINEAR" and ranks == 1)
            steps = 1 if name == "prefill" else 33
            expect(ranks > 1 or abs(moved / steps - 96.4e6) < 2e6, f"{name}: weights of {moved} bytes")
    plain = run(["bench", "model", "--model", model, "--prompt-tokens", "4", "--gen-tokens", "2",
                 "--isa", "base"])
    expect("LINEAR q4_1" in plain.stdout.decode(), "a table of kernels")
    one_line(["bench", "model", "--model", model, "--isa", "avx1024"], 2, ["avx1024", "base"])
    one_line(["bench", "model", "--model", model, "--prompt-tokens", "8100"], 2, ["8192"])
    one_line(["bench", "model", "--model", model, "--context", "45", "--prompt-tokens", "40", "--gen-tokens",
              "80"], 2, ["40 prompt", "80 made", "--context 45"])
    one_line(["bench"], 2, ["limits", "model"])
    one_line(["bench", "limits", "--dir", "/nonexistent"], 1, ["/nonexistent"])
    limits = json.loads(run(["bench", "limits", "--json"], 2).stdout)
    expect(len(limits["links"]) == 1 and limits["links"][0]["bytes_per_s"] > 0, f"{limits}")
    expect(isinstance(limits["disturbed"], bool), f"{limits}")
    for row in limits["by_threads"]:
        expect(rates | {"threads"} == set(row), f"{limits}")
        check_rates(row)


def trace():
    """A trace has every operation and kernel, and the profile against the limits."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        run(["generate", "--model", smollm2(), "--prompt", "Once", "--max-tokens", "3", "--tp", "2",
             "--trace", path], 2)
        with open(path) as file:
            events = json.load(file)
    names = {(event["pid"], event["name"]) for event in events if event["ph"] == "X"}
    for rank in (0, 1):
        expect({(rank, name) for name in ("LINEAR", "ATTENTION_PARTS", "ALL_REDUCE", "attn")}
               <= names, names)
    begins = [event["ts"] for event in events if event["ph"] == "X"]
    expect(min(begins) == 0, f"times are counted from the first event: {min(begins)}")
    profile = [event["args"] for event in events if event.get("name") == "profile of decode"]
    expect(any(k["type"] == "q4_1" and k["bytes"] > 0 and k["limit_seconds"] > 0 for k in profile),
           f"{profile}")


def hidden_sums(events, rank):
    """Of the sums of half the rows of a rank: how many there are, and run beside the other half's segment."""
    mine = [e for e in events if e["ph"] == "X" and e["pid"] == rank and e["name"][-2:] in (".a", ".b")]
    sums = [e for e in mine if e["name"].startswith("ALL_REDUCE")]
    segments = [e for e in mine if not e["name"].startswith("ALL_REDUCE")]

    def beside(s):
        return any(e["name"][-1] != s["name"][-1] and e["ts"] < s["ts"] + s["dur"] and
                   s["ts"] < e["ts"] + e["dur"] for e in segments)
    return len(sums), sum(beside(s) for s in sums)


def overlap():
    """In prefill one half's sums run behind the other half's arithmetic: in most layers, or so it is in one of
    a few runs, since on a busy machine a sum may come when all others have."""
    args = ["generate", "--model", smollm2(), "--prompt", "one two three four " * 50, "--max-tokens", "1",
            "--tp", "2"]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        for more, halves in (([], True), (["--overlap-tokens", "0"], False)):
            shares = []
            while not shares or (halves and len(shares) < 5 and max(shares) <= 0.5):
                run(args + more + ["--trace", path], 2)
                with open(path) as file:
                    events = json.load(file)
                found = [hidden_sums(events, rank) for rank in (0, 1)]
                for n, _ in found:  # after the embedding, and twice a layer of 30, of each half
                    expect(n == (2 * (1 + 2 * 30) if halves else 0), f"{more}: {n} sums of half the rows")
                shares.append(min(hidden / max(n, 1) for n, hidden in found))
                os.remove(path)
            print(f"{more}: shares of the sums beside the other half's segment: {shares}")
            expect(not halves or max(shares) > 0.5, f"sums run beside arithmetic: {shares}")


def prompts():
    """Many prompts get what each gets alone; a file is one prompt; sampling repeats by its seed."""
    model = smollm2()
    texts = ["Once upon a time", "The number 7 is", "def f(x):\n    return"]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "prompts.jsonl")
        with open(path, "w") as file:
            file.write("".join(json.dumps(text) + "\n" for text in texts))
        done = run(["generate", "--model", model, "--prompts", path, "--max-tokens", "6", "--json"])
        answers = [json.loads(line) for line in done.stdout.decode().strip().split("\n")]
        for text, answer in zip(texts, answers, strict=True):
            alone = generate(model, ["--prompt", text, "--max-tokens", "6"])
            expect(alone["tokens"] == answer["tokens"], f"{text!r} alone: {alone['tokens']}")
        path = os.path.join(folder, "prompt.txt")
        with open(path, "w") as file:
            file.write(texts[2])
        answer = generate(model, ["--prompt-file", path, "--max-tokens", "6"])
        expect(answer["tokens"] == answers[2]["tokens"], "a prompt from a file")
    sampled = ["--prompt", texts[0], "--max-tokens", "12", "--temperature", "1.5", "--top-k", "50"]
    one, two, other = (generate(model, sampled + ["--seed", seed])["tokens"] for seed in "113")
    expect(one == two and one != other, "a seed decides the samples")
    sampled += ["--seed", "1"] + EXACT  # fast kernels may round a split's sums otherwise
    expect(generate(model, sampled + ["--tp", "2"], 2)["tokens"] == generate(model, sampled)["tokens"],
           "and no split changes them")


def chat():
    """SmolLM2's template, rendered by transformers' rules, its default system turn included, or one that is given."""
    model = smollm2()
    rendered = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
                "Face<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n")
    ids = json.loads(run(["tokenize", "--model", model, "--text", rendered]).stdout)
    answer = generate(model, ["--chat", "--prompt", "Hi there", "--max-tokens", "100"])
    expect(answer["prompt_tokens"] == ids, f"ids: {answer['prompt_tokens']}")
    expect(answer["stop"] == "eos" and 2 not in answer["tokens"], "ends with the end token, left out")
    on = generate(model, ["--chat", "--prompt", "Hi there", "--max-tokens", "100", "--ignore-eos"])
    expect(2 in on["tokens"] and len(on["tokens"]) == 100, "--ignore-eos runs on, the token stays")
    for option, text in (("--system-prompt", "Be <|im_end|> brief."), ("-sys", "")):
        marks = ["<|im_start|>system\n", text, "<|im_end|>\n" + rendered[rendered.index("<|im_start|>user"):]]
        ids = []
        for i, part in enumerate(marks):  # what is said is text
            plain = ["--no-special"] if i == 1 else []
            ids += json.loads(run(["tokenize", "--model", model, "--text", part] + plain).stdout) if part else []
        got = generate(model, ["--chat", "--prompt", "Hi there", option, text, "--max-tokens", "1"])["prompt_tokens"]
        expect(got == ids, f"with a system turn: {got}, not {ids}")
    one_line(["generate", "--model", model, "--prompt", "a", "--system-prompt", "b"], 2, ["--chat"])


def context():
    """The context ends an answer; a chunked prefill gives the same logits."""
    ids = np.arange(1, 41) % 300
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ids.npy")
        np.save(path, ids.astype(np.int32))
        answer = generate(TINY, ["--tokens", path, "--context", "45", "--ignore-eos"] + EXACT)
        expect(answer["stop"] == "length" and len(answer["tokens"]) == 6,
               f"5 positions are left, and the token after the last: {len(answer['tokens'])}")
        plan = json.loads(run(["plan", "--model", TINY, "--context", "64"] + EXACT).stdout)
        plan["batch_tokens"] = 7
        plan_path = os.path.join(folder, "plan.json")
        with open(plan_path, "w") as file:
            json.dump(plan, file)
        chunked = logits(TINY, ids, folder, ["--plan", plan_path])
        expect_close(chunked, logits(TINY, ids, folder, EXACT), 2e-5, "prefill in chunks of 7")


def windows():
    """eval's windows are each on their own, and the short last one counts."""
    ids = np.load(os.path.join(DATA, "tiny", "seq33.npy"))
    with tempfile.TemporaryDirectory() as folder:
        path, out = os.path.join(folder, "ids.npy"), os.path.join(folder, "out.npy")
        np.save(path, ids)
        done = run(["eval", "--model", TINY, "--tokens", path, "--window", "10", "--logits", out,
                    "--json"] + EXACT)
        got, result = np.load(out), json.loads(done.stdout)
        expect(got.shape[0] == 33 and result["predicted"] == 33 - 4, f"{got.shape}, {result}")
        total = 0.0
        for begin in range(0, 33, 10):
            rows = logits(TINY, ids[begin:begin + 10], folder, EXACT).astype(np.float64)
            expect_close(got[begin:begin + 10], rows, 2e-6, f"window at {begin}")
            rows -= np.log(np.exp(rows).sum(1, keepdims=True))
            total -= sum(rows[i, ids[begin + i + 1]] for i in range(len(rows) - 1))
        expect_close(result["nll"], total / 29, 1e-5, "mean nll")


def tiny_variant(folder, name, edit=None, config=None):
    """The tiny llama with its weights' bytes edited, or its settings."""
    path = os.path.join(folder, name)
    shutil.copytree(TINY, path)
    if config is not None:
        with open(os.path.join(path, "config.json")) as file:
            settings = json.load(file)
        config(settings)
        with open(os.path.join(path, "config.json"), "w") as file:
            json.dump(settings, file)
    if edit is not None:
        tensors = os.path.join(path, "model.safetensors")
        with open(tensors, "rb") as file:
            data = file.read()
        with open(tensors, "wb") as file:
            file.write(edit(data))
    return path


def damaged_models(folder):
    """Bad models by what the error must name."""
    def variant(name, edit=None, config=None):
        return tiny_variant(folder, name, edit, config)

    def without(name):
        def edit(data):
            n = struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8:8 + n])
            del header[name]
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + data[8 + n:]
        return edit

    def not_a_number(name):
        def edit(data):
            n = struct.unpack("<Q", data[:8])[0]
            at = 8 + n + json.loads(data[8:8 + n])[name]["data_offsets"][0]
            return data[:at] + struct.pack("<f", float("nan")) + data[at + 4:]
        return edit

    def quantized(name, tensor):
        """A GGUF file of 8 bits with one NaN among a norm's weights."""
        with open(os.path.join(DATA, "variants", "gguf_q8_0", "model.gguf"), "rb") as file:
            data = bytearray(file.read())
        info = re.compile(rb"(output_norm|token_embd|blk\.\d\.\w+)\.weight\x01?\x02?\0\0\0")
        for found in info.finditer(data):  # dimensions, each 8 bytes; the type, 4; the offset, 8
            end = found.end() + 8 * data[found.end() - 4] + 12
            if found.group().startswith(tensor.encode()):
                at = struct.unpack("<Q", data[end - 8:end])[0]
        at += (end + 31) // 32 * 32  # tensors begin behind the last one's description
        data[at:at + 4] = struct.pack("<f", float("nan"))
        path = os.path.join(folder, name + ".gguf")
        with open(path, "wb") as file:
            file.write(data)
        return path

    head = os.path.join(folder, "head.gguf")
    with open(smollm2(), "rb") as source, open(head, "wb") as target:
        target.write(source.read(3 << 20))
    noise = os.path.join(folder, "noise.gguf")
    with open(noise, "wb") as file:
        file.write(b"no model at all" * 100)
    return [
        (os.path.join(folder, "nothing"), 1, ["nothing", "check the path"]),
        (noise, 1, ["noise.gguf", "GGUF"]),
        (head, 1, ["head.gguf", "truncated", "get the file again"]),
        (variant("arch", config=lambda c: c.update(model_type="nonesuch")), 1,
         ["arch", "nonesuch", "llama"]),
        (variant("base", config=lambda c: c["rope_parameters"].update(rope_theta=0)), 1,
         ["base", "rope"]),
        (variant("eps", config=lambda c: c.update(rms_norm_eps=-1e-5)), 1, ["eps", "below zero"]),
        (variant("rope", config=lambda c: c.update(rope_parameters={"rope_type": "odd"})), 1,
         ["odd", "llama3"]),
        (variant("shape", config=lambda c: c.update(intermediate_size=188)), 1,
         ["shape", "mlp", "(187, 72)", "(188, 72)", "another model"]),
        (variant("missing", without("model.layers.1.mlp.up_proj.weight")), 1,
         ["missing", "model.layers.1.mlp.up_proj.weight", "get it again"]),
        (variant("short", lambda data: data[:-4]), 1, ["short", "get the file again"]),
        (variant("header", lambda data: data[:40] + b"?" + data[41:]), 1, ["header", "get the file again"]),
        (quantized("q_first", "blk.0.attn_norm"), 1, ["q_first", "not finite", "get them again"]),
        (quantized("q_last", "output_norm"), 1, ["q_last", "not finite", "get them again"]),
        (variant("nan", not_a_number("model.norm.weight")), 1, ["nan", "not finite", "get them again", "--compute f32"]),
    ]


def errors():
    """Each bad input is one line for the whole job that names what is wrong and what would do."""
    ask = ["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "2"]
    with tempfile.TemporaryDirectory() as folder:
        for path, code, words in damaged_models(folder):
            for ranks, split in ((1, []), (2, ["--tp", "2"])):
                one_line(["generate", "--model", path, "--prompt", "a"] + split, code, words, ranks)
        one_line(["eval", "--model", path, "--tokens", os.path.join(DATA, "tiny", "seq7.npy")], code,
                 words)  # the last: logits that are no numbers
        empty, large = os.path.join(folder, "empty.npy"), os.path.join(folder, "large.npy")
        np.save(empty, np.zeros(0, dtype=np.int32))
        np.save(large, np.full(3, 307, dtype=np.int32))
        one_line(["generate", "--model", TINY, "--tokens", empty], 2, ["empty"])
        one_line(["generate", "--model", TINY, "--tokens", large], 2, ["307", "306"])
        plan = json.loads(run(["plan", "--model", TINY, "--tp", "2"] + EXACT).stdout)
        plan["model"]["spec_hash"] = "0" * 16
        path = os.path.join(folder, "plan.json")
        with open(path, "w") as file:
            json.dump(plan, file)
        one_line(ask + ["--plan", path], 2, ["another model"], 2)
        one_line(ask + ["--plan", path, "--context", "45"], 2, ["--plan", "--context"])
    one_line(["generate", "--model", TINY, "--prompt", ""], 2, ["empty"])
    one_line(["generate", "--model", TINY, "--prompt", "ab " * 200], 2, ["128"])
    one_line(ask + ["--context", "129"], 2, ["--context", "128"])
    one_line(ask + ["--pp", "4"], 2, ["--pp", "3"], 4)
    one_line(ask + ["--tp", "2"], 2, ["2 ranks", "mpirun -n 2"], 1)
    one_line(ask + ["--tp", "2"], 2, ["2 ranks", "3", "mpirun -n 2"], 3)
    one_line(ask, 2, ["1 rank", "--tp 2"], 2)
    one_line(ask, 2, ["1 rank", "or give --tp 6,5"], 11)  # no prime number of ranks in one stage
    one_line(ask + ["--pipeline-split", "2,1"], 2, ["mpirun -n 2", "leave --pipeline-split out"])
    one_line(ask + ["--tensor-split", "1,0"], 2, ["--tensor-split 1,0", "rank 1", "nothing"], 2)
    one_line(ask + ["--tp", "11"], 2, ["--tp 11: ", "rank 9", "nothing"], 2)
    one_line(["plan", "--model", TINY, "--pp", "2", "--tp", "11"], 2, ["--tp 11 --pp 2: ", "rank 9"])
    one_line(ask + ["--tensor-split", "0,0"], 2, ["--tensor-split"], 2)
    one_line(ask + ["--pipeline-split", "1,1"], 2, ["--pipeline-split", "2", "3"], 2)
    one_line(["show", "--model", TINY, "--tp", "2", "--rank", "9"], 2, ["--rank 9", "0 to 1"], 2)
    one_line(["plan", "--model", TINY, "--tp", "300"], 2, ["--tp", "254"])
    one_line(ask + ["--max-memory", "4M"], 3, ["rank 0", "MiB", "--max-memory"])
    one_line(ask + ["--max-memory", "4M", "--tp", "2"], 3, ["MiB", "--max-memory"], 2)
    one_line(["generate", "--model", smollm2(), "--prompt", "a", "--context", "8192", "--max-memory", "200M"],
             3, ["kv cache 180.0 MiB", "--max-memory 3", "--context 3", "or less", "mpirun -n 3"])
    for ranks in (1, 2):
        one_line(ask + ["--temprature", "1"], 2, ["--temprature", "--temperature"], ranks)
    one_line(["generate", "--model", TINY], 2, ["--prompt"])
    one_line(["eval", "--model", TINY, "--text", "/nonexistent"], 1, ["/nonexistent", "check the path"])
    ids = ["eval", "--model", TINY, "--tokens", os.path.join(DATA, "tiny", "seq7.npy")]
    one_line(ids + ["--window", "129"], 2, ["--window 129", "128", "--window 128"])  # of 7 ids
    one_line(ids + ["--window", "12", "--context", "9"], 2, ["--window 12", "--context 9"])
    one_line(ids + ["--context", "129"], 2, ["--context 129", "128"])


def own_cores():
    """What is measured stays on the cores that it was given."""
    core = str(min(os.sched_getaffinity(0)))
    with open("/proc/self/comm") as file:
        before = ("taskset", file.read().strip())  # what the process is until it is argosy
    job = subprocess.Popen(["taskset", "-c", core, ARGOSY, "measure-rates", "--threads", "2"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    while job.poll() is None:
        for thread in os.listdir(f"/proc/{job.pid}/task"):
            try:
                with open(f"/proc/{job.pid}/task/{thread}/status") as file:
                    name, allowed = (next(line.split(":")[1].strip() for line in file if line.startswith(key))
                                     for key in ("Name:", "Cpus_allowed_list:"))
            except (OSError, StopIteration):
                continue  # it has ended
            expect(allowed == core or name in before, f"{name} may run on {allowed}, not on {core} alone")
        time.sleep(0.02)
    expect(job.returncode == 0 and len(job.stdout.read().split()) == 12, "the rates are told")


def first_checked():
    """What is wrong with the input is told before anything is measured; a dry run measures nothing anew."""
    with tempfile.TemporaryDirectory() as folder:
        cache, a_file = os.path.join(folder, "cache"), os.path.join(folder, "file")
        os.mkdir(cache)
        with open(a_file, "w") as file:
            file.write("no folder")
        env = {"XDG_CACHE_HOME": cache}
        bench = ["bench", "model", "--model", TINY, "--gen-tokens", "4"]
        for args, code, words in (
                (["bench", "limits", "--dir", "/nonexistent"], 1, ["/nonexistent"]),
                (["bench", "limits", "--dir", a_file], 1, [a_file]),
                (["bench", "model", "--model", "/nonexistent"], 1, ["/nonexistent"]),
                (bench + ["--prompt-tokens", "900"], 2, ["900", "128"]),
                (bench + ["--isa", "avx1024"], 2, ["avx1024"]),
                (bench + ["--prompt-tokens", "4", "--tp", "2"], 2, ["mpirun -n 2"]),
                (["generate", "--model", TINY, "--prompt", "ab " * 200], 2, ["128"]),
                (["eval", "--model", TINY, "--tokens", os.path.join(DATA, "tiny", "seq7.npy"), "--logits",
                  "/nonexistent/out.npy"], 1, ["/nonexistent"]),
                (["generate", "--model", TINY, "--prompt-file", "/nonexistent"], 1, ["/nonexistent"])):
            one_line(args, code, words, env=env)
            expect(not os.listdir(cache), f"{args}: the limits were measured first")
        run(bench + ["--prompt-tokens", "4", "--dry-run"], env=env)
        kept = os.path.join(cache, "argosy", os.listdir(os.path.join(cache, "argosy"))[0])
        before = os.stat(kept).st_mtime_ns
        run(bench + ["--prompt-tokens", "4", "--dry-run"], env=env)
        expect(os.stat(kept).st_mtime_ns == before, "a dry run measures nothing anew")


def prompt_ids(lines):
    """The ids that lines of tokenize or generate --json tell of."""
    values = [json.loads(line) for line in lines.decode().strip().split("\n")]
    return [value["prompt_tokens"] if isinstance(value, dict) else value for value in values]


def plans():
    """A plan that was printed is one that can be looked at and run."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "plan.json")
        printed = run(["plan", "--model", TINY, "--context", "40", "--tp", "2"]).stdout
        with open(path, "wb") as file:
            file.write(printed)
        for command_name in ("plan", "show"):
            given = run([command_name, "--model", TINY, "--plan", path]).stdout
            expect(given == run([command_name, "--model", TINY, "--context", "40", "--tp", "2"]).stdout,
                   f"{command_name} --plan is as by the options: {given.decode()}")
        one_line(["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "60", "--plan", path], 2,
                 [path, "40", "--context"], 2)
        done = run(["generate", "--model", TINY, "--prompt", "a", "--ignore-eos", "--json", "--plan", path], 2)
        answer, said = json.loads(done.stdout), done.stderr.decode()
        expect(len(answer["prompt_tokens"]) + len(answer["tokens"]) == 41 and answer["stop"] == "length", f"{answer}")
        expect(path in said and "context of 40" in said and "--max-tokens" in said, said)
        bad_plans(json.loads(printed), path)


def without_tokenizer():
    """Ids are computed with, and plans made, where a model has no tokenizer, or one that is not understood."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ids.npy")
        np.save(path, np.arange(1, 9, dtype=np.int32))
        whole = run(["eval", "--model", TINY, "--tokens", path, "--json"] + EXACT).stdout
        for name, tokenizer in (("none", None), ("odd", '{"model": {"type": "Odd"}}')):
            model = os.path.join(folder, name)
            os.mkdir(model)
            for file in ("config.json", "model.safetensors"):
                os.symlink(os.path.join(TINY, file), os.path.join(model, file))
            if tokenizer is not None:
                with open(os.path.join(model, "tokenizer.json"), "w") as file:
                    file.write(tokenizer)
            found = run(["eval", "--model", model, "--tokens", path, "--json"] + EXACT).stdout
            expect(json.loads(found)["nll"] == json.loads(whole)["nll"], found)
            run(["plan", "--model", model] + EXACT)
            run(["show", "--model", model] + EXACT)
            out = os.path.join(folder, name + "-out")
            run(["train", "--model", model, "--tokens", path, "--seq-length", "4", "--train-steps", "1", "--output", out])
            expect(os.path.exists(os.path.join(out, "tokenizer.json")) == (tokenizer is not None), f"{os.listdir(out)}")
            one_line(["eval", "--model", model, "--text", __file__], 1, ["tokenizer"])


def bad_plans(good, path):
    """What is no plan for this model and these ranks is one line with the file and what to do."""
    ask = ["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "1", "--plan", path]

    def refused(change, words, ranks=2):
        plan = json.loads(json.dumps(good))
        change(plan)
        with open(path, "w") as file:
            json.dump(plan, file)
        one_line(ask, 2, [path] + words, ranks)

    def stage(plan):
        return plan["stages"][0]

    def replica(plan):
        return stage(plan)["replicas"][0]

    refused(lambda p: p.update(argosy_plan=2), ["argosy_plan must be 1", "make the plan anew"])
    refused(lambda p: p["model"].update(spec_hash="0" * 16), ["another model", "make the plan anew"])
    refused(lambda p: stage(p).update(layers=[0, 4]), ["another model", "4 layers"])
    refused(lambda p: p["stages"].append(p["stages"][0]), ["stages[1].layers", "overlap", "begin with 3"])
    refused(lambda p: stage(p).update(layers=[1, 3]), ["stages[0].layers", "gap", "begin with 0"])
    refused(lambda p: replica(p).update(shares=[1]), ["stages[0].replicas[0].shares", "each of 2 ranks"])
    refused(lambda p: replica(p).update(shares=[0, 0]), ["shares", "all 0", "one must be above"])
    refused(lambda p: replica(p).update(ranks=[0, 2]), ["ranks[1] is 2", "names 0 to 1, each once"])
    refused(lambda p: p.update(zero_stage=3), ['"zero_stage"', "known: argosy_plan, model", "take it out"])
    refused(lambda p: p.pop("stages"), ["stages must be a list"])
    refused(lambda p: p.update(context_tokens=4096), ["4096", "128", "make the plan anew"])
    with open(path, "w") as file:
        file.write('{"argosy_plan": 1,\n "model": }')
    one_line(ask, 2, [path, "line 2", "mend it there"], 2)
    one_line(ask[:-1] + [path + ".missing"], 1, [path + ".missing"], 2)
    with open(path, "w") as file:
        json.dump(good, file)
    for ranks in (1, 3):
        one_line(ask, 2, ["2 ranks", "--plan", "mpirun -n 2"], ranks)


def unused():
    """Tensors that a model is computed without are told of, once for the whole job."""
    def more(names):
        def edit(data):
            n = struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8:8 + n])
            for i, name in enumerate(names):
                at = len(data) - 8 - n + 4 * i
                header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [at, at + 4]}
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + data[8 + n:] + bytes(4 * len(names))
        return edit

    def warnings(model, ranks, split):
        err = run(["generate", "--model", model, "--prompt", "a", "--max-tokens", "2"] + split, ranks).stderr
        return [line for line in err.decode().split("\n") if "warning" in line]

    norm, buffer = (f"model.layers.0.self_attn.{name}" for name in ("q_norm.weight", "rotary_emb.inv_freq"))
    with tempfile.TemporaryDirectory() as folder:
        for name, names, n_layers, words in (
                ("none", [buffer], 3, None), ("norm", [norm, buffer], 3, ["1 tensor is", norm]),
                ("layers", [norm], 2, ["10 tensors are", "model.layers.2."])):
            model = tiny_variant(folder, name, more(names), lambda c, n=n_layers: c.update(num_hidden_layers=n))
            for ranks, split in ((1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"])):
                got = warnings(model, ranks, split)
                expect(len(got) == (1 if words else 0) and all(w in got[0] for w in words or []),
                       f"{name}, {split}: {got}")


def inputs():
    """What is read besides the model is bounded, named with its line, and never overwritten."""
    bad = b"a\xffb"
    with tempfile.TemporaryDirectory() as folder:
        def path(name, data):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
            return os.path.join(folder, name)

        ask = ["generate", "--model", TINY, "--max-tokens", "1"]
        for command_line in (ask + ["--prompt-file", "/dev/zero"],
                             ["eval", "--model", TINY, "--text", "/dev/zero"],
                             ["tokenize", "--model", TINY, "--file", "/dev/zero"],
                             ["tokenize", "--model", TINY, "--jsonl", "--file", "/dev/zero"]):
            one_line(command_line, 2, ["/dev/zero", "larger"])
        for data, words in ((b'"a"\n\n"b"\n', ["line 2", "empty"]), (b'"a"\n7\n', ["line 2", "string"]),
                            (b'"a"\n"\n', ["line 2: column", "one JSON value"])):
            lines = path("lines.jsonl", data)
            one_line(["tokenize", "--model", TINY, "--jsonl", "--file", lines], 1, [lines] + words)
            one_line(ask + ["--prompts", lines], 1, [lines] + words)
        lines = path("lines.jsonl", b'"a"\n""\n')
        one_line(ask + ["--prompts", lines], 2, [lines, "line 2", "empty"])
        text = path("text.txt", bad)
        for args in (ask + ["--prompt", bad.decode("utf-8", "surrogateescape")],
                     ask + ["--prompt-file", text], ["eval", "--model", TINY, "--text", text],
                     ["tokenize", "--model", TINY, "--file", text]):
            expect("UTF-8" in run(args).stderr.decode(), f"{args}: invalid UTF-8 is replaced, and said")
        mended, plain = path("mended.jsonl", b'\xef\xbb\xbf"first"\n"' + bad + b'"\n"x\\ud83cy"\n'), \
            path("plain.jsonl", '"first"\n"a\ufffdb"\n"x\ufffdy"\n'.encode())
        for args in (ask + ["--json", "--prompts"], ["tokenize", "--model", TINY, "--jsonl", "--file"]):
            got, wanted = run(args + [mended]), run(args + [plain])
            said = got.stderr.decode()
            expect(prompt_ids(got.stdout) == prompt_ids(wanted.stdout), f"{args}: {got.stdout}")
            expect(f"warning: {mended}, line 2 is not valid UTF-8" in said and
                   f"warning: {mended}, line 3 has half a surrogate pair" in said and
                   "line 1" not in said and "warning" not in wanted.stderr.decode(), f"{args}: {said}")
        ids = os.path.join(folder, "ids.npy")
        np.save(ids, np.arange(3, dtype=np.int32))
        before = open(ids, "rb").read()
        one_line(["eval", "--model", TINY, "--tokens", ids, "--logits", ids], 2, [ids, "overwrite"])
        expect(open(ids, "rb").read() == before, "the ids are as they were")
        model = tiny_variant(folder, "model")
        weights = os.path.join(model, "model.safetensors")
        before = open(weights, "rb").read()
        work = ["generate", "--model", model, "--prompt", "a", "--max-tokens", "2", "--trace"]
        for ranks, split in ((1, []), (2, ["--tp", "2"])):
            one_line(work + [weights] + split, 2, [weights, "overwrite", "the model"], ranks)
            one_line(work + ["/nonexistent/trace"] + split, 1, ["/nonexistent/trace"], ranks)
        expect(open(weights, "rb").read() == before, "the weights are as they were")
        trace_path = os.path.join(model, "trace")
        one_line(["eval", "--model", model, "--tokens", ids, "--window", "999", "--trace", trace_path], 2, ["999"])
        expect(sorted(os.listdir(model)) == sorted(os.listdir(TINY)), "nothing is left of a trace not written")
        run(work + [trace_path])
        one_line(work + [trace_path], 2, ["overwrite"])  # by now it lies in the model's folder
        alone = json.loads(run(["eval", "--model", TINY, "--tokens", ids, "--window", "1",
                                "--json"]).stdout)
        expect(alone == {"tokens": 3, "predicted": 0}, f"no token has one before it: {alone}")
    for args in (["plan"], ["generate", "--prompt", "a", "--dry-run"]):
        one_line(args + ["--model", TINY, "--max-memory", "4M,900M", "--tp", "2"], 3, ["rank 0", "MiB"])


main({f.__name__: f for f in (bits, memory, forms, bench, trace, overlap, prompts, chat, context, windows, errors,
                              inputs, plans, unused, without_tokenizer, first_checked, own_cores)})
