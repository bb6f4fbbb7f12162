"""Training as a user runs it: PyTorch's curves, gradients and models; resuming; what goes wrong."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from html.parser import HTMLParser

import numpy as np

from convert import read_safetensors, write_safetensors
from harness import ARGOSY, DATA, TINY, command, expect, expect_close, logits, main, one_line, run

STREAM = os.path.join(DATA, "tiny", "train_stream.npy")
TUNE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "mpirun.conf")
TIMEOUT = "-mca odls_base_sigkill_timeout"
MIXTRAL = os.path.join(DATA, "tiny", "mixtral")
KEYS = ["step", "loss", "grad_norm", "lr", "tokens", "tokens_per_s", "mfu", "memory_bytes"]


def options(out, steps=20, model=TINY):
    return ["train", "--model", model, "--tokens", STREAM, "--seq-length", "32", "--global-batch-size", "2",
            "--lr", "1e-3", "--train-steps", str(steps), "--output", out]


def metrics(out):
    with open(os.path.join(out, "metrics.jsonl")) as file:
        return [json.loads(line) for line in file]


def golden(model=TINY):
    with open(os.path.join(model, "golden.json")) as file:
        return json.load(file)


def expect_curve(out, bound, what, model=TINY):
    """Losses and norms of gradients in parts of PyTorch's, and what metrics.jsonl promises."""
    lines, reference = metrics(out), golden(model)
    expect([line["step"] for line in lines] == list(range(1, 21)), f"{what}: steps")
    for line in lines:
        expect(list(line) == KEYS, f"{what}: {list(line)}")
        expect(line["tokens"] == 64 and line["lr"] == 1e-3, f"{what}: {line}")
        expect(line["tokens_per_s"] > 0 and line["mfu"] > 0 and line["memory_bytes"] > 1 << 20, f"{what}: {line}")
    for key, names, factor in (("loss", "train_losses", 1), ("grad_norm", "train_grad_norms_preclip", 10)):
        ratio = np.array([line[key] for line in lines]) / np.array(reference[names])
        expect_close(ratio, 1, factor * bound, f"{what}: {key}, in parts of it")


def expect_model(out, folder, bound, what, model=TINY):
    after = np.load(os.path.join(model, "logits33_after20.npy"))
    ours = logits(out, np.load(os.path.join(DATA, "tiny", "seq33.npy")), folder, ["--compute", "f32"])
    expect_close(ours, after.reshape(ours.shape), bound, f"{what}: logits of the exported model")


def expect_gradients(path, bound, what, model=TINY):
    ours, theirs = read_safetensors(path), read_safetensors(os.path.join(model, "grads.safetensors"))
    expect(set(ours) == set(theirs), f"{what}: {set(ours) ^ set(theirs)}")
    for name, wanted in theirs.items():
        expect(ours[name].shape == wanted.shape, f"{what}: {name}")
    worst, name = max((float(np.abs(ours[name] - wanted).max() / (np.abs(wanted).max() or 1)), name)
                      for name, wanted in theirs.items())
    print(f"{what}: gradients within {worst:.2g} of the largest ({name}), bound {bound:g}")
    expect(worst <= bound, f"{what}: {name} differs by {worst:g}")


def curve():
    """One rank: the curve, the first step's gradients, the model after it; also in micro-batches, by words."""
    with tempfile.TemporaryDirectory() as folder:
        for name, args in (("one micro-batch", ["--micro-batch-size", "2"]), ("two micro-batches", []),
                           ("one thread", ["--threads", "1"])):
            out, grads = os.path.join(folder, "out"), os.path.join(folder, "grads")
            run(options(out) + args + ["--save-grads", grads])
            expect_curve(out, 2e-5, name)
            expect_gradients(grads, 1e-5, name)
            expect_model(out, folder, 1e-3, name)
            done = run(["generate", "--model", out, "--prompt", "a", "--max-tokens", "2", "--ignore-eos", "--json"])
            expect(len(json.loads(done.stdout)["tokens"]) == 2, "it answers")
            shutil.rmtree(out)


class Page(HTMLParser):
    """What stands in a page: its text, its drawings, whether every tag is closed."""
    def __init__(self, path):
        super().__init__()
        self.open, self.text, self.counts = [], "", {}
        with open(path) as file:
            self.feed(file.read())
        expect(not self.open, f"{self.open} is not closed")

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        expect(not any(name in ("src", "href") for name, _ in attrs), "it needs nothing from elsewhere")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        expect(self.open.pop() == tag, f"</{tag}>")

    def handle_data(self, data):
        self.text += data


def report():
    """report.html has its parts, on one rank and of all ranks."""
    with tempfile.TemporaryDirectory() as folder:
        for ranks, split in ((1, []), (4, ["--dp", "2", "--pp", "2"])):
            out = os.path.join(folder, str(ranks))
            run(options(out, 5) + split, ranks)
            page = Page(os.path.join(out, "report.html"))
            for part in ("Curves", "Time by operator", "The last step", "Memory", "Bytes on each link",
                         "Operations of a step", "Plan", "Idle in a step", "The schedule's bubble", f"{ranks} rank", "LINEAR_WEIGHT_GRAD"):
                expect(part in page.text, f"{part!r} is not in it")
            expect(page.counts["polyline"] == 4 and page.counts["rect"] > 20, f"{page.counts}")
            planned = json.loads(run(options(out, 5) + split + ["--dry-run"]).stdout)["predicted"]["step"]["ranks"]
            cells = "".join(f"<td>{rank['flops'] * 1e-9:.3f}</td></tr>" for rank in planned)
            with open(os.path.join(out, "report.html")) as file:
                found = "".join(line[line.rindex("<td>"):].strip() for line in file
                                if line.startswith("<tr><td>") and line.count("%</td>") == 2)
            expect(found == cells, f"operations of a step: {found}, planned {cells}")
    with tempfile.TemporaryDirectory() as folder:
        args = options(os.path.join(folder, "out"), 1) + ["--dp", "2", "--dry-run"]
        for more, wanted in (([], None), (["--save-grads", "f"], 0), (["--zero-stage", "1", "--save-grads", "f"], 1)):
            told = json.loads(run(args + more).stdout)["predicted"]["memory"]
            parts = [{part: n for part, n in rank["parts"].items() if part == "gradients"} for rank in told]
            expect(all(bool(part.get("gradients", None)) == bool(wanted) for part in parts), f"{more}: {told}")
    plan = ["plan", "--train", "--model", TINY, "--seq-length", "32", "--global-batch-size", "4", "--micro-batch-size", "1"]
    one, two = (json.loads(run(plan + split).stdout)["predicted"]["step"] for split in ([], ["--pp", "2"]))
    expect(one["bubble"] == 0 and one["links"] == [] and one["flops"] > 0, f"{one}")
    expect(abs(two["flops"] / one["flops"] - 1) < 1e-9 and 0 < two["bubble"] < 0.5, f"{two}")
    expect({(link["from"], link["to"]) for link in two["links"]} == {(0, 1), (1, 0)}, f"{two}")


def same_bits():
    """The same bits for any number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [os.path.join(folder, n) for n in "123"]
        for n, out in enumerate(outs):
            run(options(out, 6) + ["--threads", str(n + 1)])
        for out in outs[1:]:
            for name in ("model.safetensors", "checkpoints/step-6/rank-0.bin"):
                with open(os.path.join(outs[0], name), "rb") as a, open(os.path.join(out, name), "rb") as b:
                    expect(a.read() == b.read(), f"{name} of {out}")


SPLITS = ((2, ["--dp", "2"]), (2, ["--dp", "2", "--zero-stage", "1"]), (2, ["--tensor-split", "6,3"]), (2, ["--pp", "2"]),
          (2, ["--pp", "2", "--schedule", "gpipe"]), (2, ["--pipeline-split", "1,2"]),
          (4, ["--pp", "2", "--tensor-split", "2,1;1,2"]), (4, ["--dp", "2", "--pp", "2"]), (2, ["--pp", "2", "--recompute", "full"]))


def expect_layouts(splits, model):
    """The same curve, gradients and model whatever the layout."""
    with tempfile.TemporaryDirectory() as folder:
        for ranks, split in splits:
            out, grads, what = os.path.join(folder, "out"), os.path.join(folder, "grads"), " ".join(split)
            run(options(out, model=model) + split + ["--save-grads", grads], ranks)
            expect_curve(out, 1e-4 if split else 2e-5, what, model)
            expect_gradients(grads, 1e-5, what, model)
            if not os.path.exists(os.path.join(out, "tokenizer.json")):  # a model without can be trained all the same
                shutil.copy(os.path.join(TINY, "tokenizer.json"), out)
            expect_model(out, folder, 1e-3, what, model)
            shutil.rmtree(out)


def layouts():
    """Splits of the tiny llama."""
    expect_layouts(SPLITS, TINY)


def experts():
    """The tiny Mixtral, its experts on one rank and on several."""
    expect_layouts(((1, []), (2, ["--dp", "2", "--ep", "2"]), (2, ["--tp", "2", "--ep", "2"]), (2, ["--pp", "2"])), MIXTRAL)


def resume():
    """Lines of steps behind the checkpoint that a run goes on from are cut off (resume.py has the rest)."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        run(options(out, 7))
        with open(os.path.join(out, "metrics.jsonl"), "a") as file:  # of a run that went on and died
            file.write('{"step": 8, "loss": 1}\n{"step": 9, "lo')
        run(options(out) + ["--resume"])
        expect_curve(out, 2e-5, "resumed")
        expect_model(out, folder, 1e-3, "resumed")
        done = run(options(out) + ["--resume"])
        expect(b"nothing was left" in done.stderr, "what is done is not done again")
        with open(STREAM, "rb") as file:
            n_rows = (len(np.load(file)) - 1) // 32
        half = n_rows // 4  # steps of 2 rows, before steps of 3 go to the end of the data
        out = os.path.join(folder, "epoch")
        run(options(out, half))
        rest = [word for word in options(out) if word not in ("--train-steps", "20")]
        rest[rest.index("--global-batch-size") + 1] = "3"
        run(rest + ["--lr-schedule", "linear", "--resume"])
        lines, n = metrics(out), -(-(n_rows - 2 * half) // 3)
        expect(len(lines) == half + n and [line["tokens"] for line in lines[half:]] == n * [96], f"{lines}")
        expect(abs(lines[-1]["lr"] - 1e-3 / (half + n)) < 1e-9, "the schedule ends with the last of them")


def verify_plan():
    """One step by a plan and by one rank: loss and gradients are the same but for rounding."""
    with tempfile.TemporaryDirectory() as folder:
        args = options(os.path.join(folder, "out"))[:-4] + ["--verify-plan"]
        for ranks, split in ((1, []), (2, ["--dp", "2", "--zero-stage", "1"]), (2, ["--pp", "2"])):
            told = json.loads(run(args + split + ["--json"], ranks).stdout)
            print(f"{split}: {told}")
            expect(told["tensors"] == len(read_safetensors(os.path.join(TINY, "grads.safetensors"))), "all tensors")
            expect(abs(told["loss"] - golden()["train_losses"][0]) < 1e-4, "the first step's loss")
            expect(told["loss_difference"] <= 1e-6 and told["gradient_difference"] <= 1e-5, f"{split}: {told}")
            expect(ranks > 1 or told["gradient_difference"] == 0, "the same twice")
        args = [word for word in options(os.path.join(folder, "out"), model=MIXTRAL)[:-4] if word not in ("--global-batch-size", "2")]
        told = json.loads(run(args + ["--dp", "2", "--ep", "2", "--micro-batches", "5,3", "--verify-plan", "--json"], 2).stdout)
        print(f"experts over replicas of uneven micro-batches: {told}")
        expect(told["loss_difference"] <= 1e-6 and told["gradient_difference"] <= 1e-5, f"{told}")
        expect(not os.path.exists(os.path.join(folder, "out")), "nothing is written")


def from_config():
    """config.json alone: weights about 0 as it says, norms 1, the same on any layout; a model after it."""
    with tempfile.TemporaryDirectory() as folder:
        config, tensors = os.path.join(TINY, "config.json"), []
        for n, (ranks, split) in enumerate(((1, []), (2, ["--pp", "2"]), (2, ["--tensor-split", "6,3"]))):
            out = os.path.join(folder, str(n))
            args = [word for word in options(out, 1, config) if word not in ("--lr", "1e-3")]
            run(args + ["--lr", "1e-30"] + split, ranks)
            tensors.append(read_safetensors(os.path.join(out, "model.safetensors")))
        seeded = []
        for n, (ranks, split, seed) in enumerate(((1, [], "5"), (2, ["--pp", "2"], "5"))):
            out = os.path.join(folder, f"seed{n}")
            args = [word for word in options(out, 1, config) if word not in ("--lr", "1e-3")]
            said = run(args + ["--lr", "1e-30", "--seed", seed] + split, ranks).stderr.decode()
            expect("changes nothing" not in said, said)
            seeded.append(read_safetensors(os.path.join(out, "model.safetensors")))
        for name, values in seeded[0].items():
            expect(np.array_equal(values, seeded[1][name]), f"{name} by a seed, on another layout")
            expect(values.ndim == 1 or np.mean(values == tensors[0][name]) < 0.01, f"{name} is the seed's")
        with open(config) as file:
            deviation = json.load(file)["initializer_range"]
        for name, values in tensors[0].items():
            expect(all(np.array_equal(values, other[name]) for other in tensors[1:]), f"{name} on another layout")
            if values.ndim == 1:
                expect(np.all(values == 1), f"{name} is a norm")
                continue
            n = values.size
            mean, spread = values.mean() / deviation, values.std() / deviation
            expect(abs(mean) < 5 / n ** 0.5 and abs(spread - 1) < 5 / (2 * n) ** 0.5, f"{name}: {mean}, {spread}")
            expect(len(np.unique(values)) > 0.99 * n, f"{name} repeats itself")
        embed, head = (tensors[0][name] for name in ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"))
        n = min(embed.size, head.size)
        expect(abs(np.corrcoef(embed.ravel()[:n], head.ravel()[:n])[0, 1]) < 5 / n ** 0.5, "tensors are independent")
        mixtral = []
        for n, (ranks, split) in enumerate(((1, []), (4, ["--tp", "2", "--dp", "2", "--ep", "4"]))):
            out = os.path.join(folder, f"experts{n}")
            args = [word for word in options(out, 1, os.path.join(MIXTRAL, "config.json")) if word not in ("--lr", "1e-3")]
            run(args + ["--lr", "1e-30"] + split, ranks)
            mixtral.append(read_safetensors(os.path.join(out, "model.safetensors")))
        expect(all(np.array_equal(values, mixtral[1][name]) for name, values in mixtral[0].items()), "experts")
        done = run(["generate", "--model", os.path.join(folder, "0"), "--prompt", "a", "--max-tokens", "2", "--json"])
        expect("tokens" in json.loads(done.stdout), "it answers")


def data():
    """Texts and samples are learned; an evaluation changes nothing; a sample is shown with its mask."""
    texts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "data")
    with tempfile.TemporaryDirectory() as folder:
        base = ["train", "--model", TINY, "--seq-length", "64", "--global-batch-size", "2", "--data"]
        base += [os.path.join(texts, "texts.jsonl"), os.path.join(texts, "samples.jsonl")]
        outs = [os.path.join(folder, name) for name in "ab"]
        run(base + ["--output", outs[0], "--epochs", "2", "--lr-schedule", "cosine", "--warmup-steps", "2"])
        done = run(base + ["--output", outs[1], "--epochs", "2", "--lr-schedule", "cosine", "--warmup-steps", "2",
                           "--eval-data", os.path.join(texts, "story.txt"), "--eval-steps", "2", "--json"])
        a, b = (metrics(out) for out in outs)
        expect([line["loss"] for line in a] == [line["loss"] for line in b], "evaluations change nothing")
        shown = [json.loads(line) for line in done.stdout.decode().splitlines()]
        expect(shown == b, "--json has the lines of metrics.jsonl")
        with open(os.path.join(outs[1], "eval.jsonl")) as file:
            evals = [json.loads(line) for line in file]
        expect([line["step"] for line in evals] == sorted(set(list(range(2, len(b) + 1, 2)) + [len(b)])), f"{evals}")
        expect(len({line["tokens"] for line in evals}) == 1, f"{evals}")
        rates = [line["lr"] for line in a]
        expect(rates[0] < rates[1] and rates[-1] < rates[2] and min(rates) > 0, f"{rates}")
        done = run(base[:-1] + ["--dry-run"])
        plan = json.loads(done.stdout)
        expect(plan["mode"] == "train" and "\u27e6" in run(
            base[:-2] + [os.path.join(texts, "samples.jsonl"), "--dry-run"]).stderr.decode(), "a sample with its mask")
        memory = plan["predicted"]["memory"][0]["peak_bytes"]
        run(base + ["--output", os.path.join(folder, "c"), "--train-steps", "2"])
        peak = metrics(os.path.join(folder, "c"))[-1]["memory_bytes"]
        print(f"a peak of {peak / 1048576:.1f} MiB, {memory / 1048576:.1f} were foretold")
        expect(memory >= peak >= 0.95 * memory - (16 << 20), "memory as foretold")


def errors():
    """One clear line for each mistake."""
    with tempfile.TemporaryDirectory() as folder:
        out, path = os.path.join(folder, "out"), os.path.join(folder, "data")

        def told(args, code, words, **more):
            one_line(["train", "--model", TINY, "--seq-length", "32"] + args, code, words, **more)

        for text, words in (("", ["data.jsonl", "nothing"]), ('{"text": "a"}\n{"text": \n', ["data.jsonl:2"]),
                            ('{"no": 1}\n', ["data.jsonl:1", "text"])):
            with open(path + ".jsonl", "w") as file:
                file.write(text)
            told(["--data", path + ".jsonl", "--output", out], 1, words)
        np.save(path, np.array([1, 2, 100000] * 30, np.int32))
        told(["--tokens", path + ".npy", "--output", out], 1, ["100000", "vocabulary"])
        ids = ["--tokens", STREAM, "--output", out]
        told(["--tokens", STREAM], 2, ["--output"])
        expect(not os.path.exists(out), "what fails before it begins leaves no folder")
        told(ids + ["--micro-batch-size", "2", "--global-batch-size", "3"], 2, ["--global-batch-size 3 is no multiple of"])
        told(ids + ["--global-batch-size", "70000"], 2, ["is 70000 micro-batches of 1, of which there are at most"])
        with open(path + ".jsonl", "w") as file:
            file.write('{"text": "a b c"}\n')
        told(["--tokens", path + ".jsonl", "--output", out], 2, [".npy file of ids", "--data"])
        told(ids + ["--schedule", "zigzag"], 2, ["zigzag", "1f1b"])
        told(ids + ["--pp", "9"], 2, ["9"])
        one_line(["plan", "--train", "--model", TINY, "--seq-length", "100000"], 2, ["--seq-length 100000", "context"])
        told(ids + ["--dp", "2"], 2, ["(--dp 2)", "leave --dp out"])
        told(ids + ["--adam-beta1", "1"], 2, ["--adam-beta1 1", "below 1"])
        for ranks in (1, 2):
            told(ids + ["--train-steps", "20", "--lr", "1e18", "--save-steps", "1", "--dp", str(ranks)], 1,
                 ["step 2", "no number", "layer 0", "rank 0", "--lr"], ranks=ranks)
            expect(os.listdir(os.path.join(out, "checkpoints")) == ["step-1"], "a step that fails is not saved")
            shutil.rmtree(out)
        bad = os.path.join(folder, "bad")
        shutil.copytree(TINY, bad)
        tensors = dict(read_safetensors(os.path.join(bad, "model.safetensors")))
        name = "model.layers.1.mlp.down_proj.weight"
        tensors[name] = tensors[name].copy()
        tensors[name][3, 4] = np.nan
        write_safetensors(os.path.join(bad, "model.safetensors"), tensors)
        one_line(["train", "--model", bad, "--seq-length", "32"] + ids, 1,
                 ["step 1", "no number", "feed-forward part of layer 1, on rank 0"])
        shutil.rmtree(out)
        told(ids + ["--resume"], 1, ["checkpoint"])
        shutil.rmtree(out, ignore_errors=True)
        run(options(out, 2))
        told(ids, 2, ["--resume"])
        said = run(options(out, 2) + ["--resume", "--seed", "5"]).stderr.decode()
        expect("--seed 5 changes nothing" in said and "the checkpoint's" in said and ": 1 document, " in said, said)
        expect("dropout" not in said, said)
        shutil.rmtree(out)
        drops = os.path.join(folder, "drops")
        shutil.copytree(TINY, drops)
        with open(os.path.join(drops, "config.json")) as file:
            config = json.load(file)
        config["attention_dropout"] = 0.1
        with open(os.path.join(drops, "config.json"), "w") as file:
            json.dump(config, file)
        said = run(options(out, 1, drops) + ["--seed", "5"]).stderr.decode()
        expect("--seed 5 changes nothing" in said and "the model's" in said, said)
        expect("attention_dropout 0.1: argosy trains without dropout" in said, said)
        told(["--tokens", STREAM, "--output", path + ".npy"], 2, ["no folder"])
        told(["--tokens", STREAM, "--output", TINY], 2, ["model's folder"])
        told(["--tokens", STREAM, "--output", os.path.join(folder, "no", "such")], 1, ["no/such"])


def start(args, ranks, mpirun=()):
    line = command(ranks, [ARGOSY] + args)
    if ranks > 1:
        line[1:1] = list(mpirun)
    return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_steps(job, out, n):
    """Until so many lines stand in its metrics."""
    path = os.path.join(out, "metrics.jsonl")
    while not os.path.exists(path) or open(path).read().count("\n") < n:
        expect(job.poll() is None, f"it trains: {job.stderr.read().decode() if job.poll() is not None else ''}")
        time.sleep(0.01)


def interrupted():
    """Ctrl-C: the step is finished and saved, and the run goes on from there."""
    with tempfile.TemporaryDirectory() as folder:
        with open(TUNE) as file:
            text = file.read()
        expect(f"{TIMEOUT} 30\n" in text, "the file that we ship gives half a minute")
        tuned = os.path.join(folder, "mpirun.conf")  # mpirun waits that long, twice, in any case
        with open(tuned, "w") as file:
            file.write(text.replace(f"{TIMEOUT} 30", f"{TIMEOUT} 8"))
        for ranks, split, tune in ((1, [], ()), (2, ["--pp", "2"], ("--tune", tuned))):
            out = os.path.join(folder, f"out{ranks}")
            job = start(options(out, 1000000) + split, ranks, tune)
            wait_for_steps(job, out, 3)
            job.send_signal(signal.SIGINT)
            _, err = job.communicate(timeout=120)
            n = metrics(out)[-1]["step"]
            expect(job.returncode == (130 if ranks == 1 else 1), f"code {job.returncode}: {err.decode()}")
            expect(f"step {n} of 1000000" in err.decode() and f"step-{n}" in err.decode(), err.decode())
            run(options(out, n + 2) + split + ["--resume"], ranks)
            expect(metrics(out)[-1]["step"] == n + 2, "it went on")
        out = os.path.join(folder, "killed")  # without the file of parameters: there is a second
        job = start(options(out, 1000000) + ["--pp", "2", "--save-steps", "2"], 2)
        wait_for_steps(job, out, 8)
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=120)
        expect("the last complete checkpoint is" in err.decode(), err.decode())


if __name__ == "__main__":
    main({f.__name__: f for f in (curve, report, same_bits, layouts, experts, resume, verify_plan, from_config, data, errors, interrupted)})
