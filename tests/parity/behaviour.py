"""What the commands promise beside numbers: bits, memory, forms of output."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from harness import (ARGOSY, DATA, EXACT, PEAK, TINY, expect, expect_close, generate, logits, main, one_line,
                     run, smollm2)

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


main({f.__name__: f for f in (bits, memory, forms, bench, trace, overlap, prompts, chat, context, windows,
                              own_cores)})
