"""Several sequences at once: each prompt gets what it gets alone, in the order of the prompts."""
import json
import os
import signal
import subprocess
import tempfile

from harness import ARGOSY, TINY, command, expect, main, one_line, run, smollm2

TEXTS = ["Once upon a time", "The number 7 is", "def f(x):\n    return", "x", "The sea was calm. " * 130,
         "Count: 1, 2, 3,", "\u00e9t\u00e9 \u2603"]
SPLITS = [(1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"]), (3, ["--pipeline-split", "17,4,9"])]


def write_prompts(folder, texts):
    path = os.path.join(folder, "prompts.jsonl")
    with open(path, "w") as file:
        file.write("".join(json.dumps(text) + "\n" for text in texts))
    return path


def answers(path, args, ranks, batch):
    done = run(["generate", "--model", smollm2(), "--prompts", path, "--json"] + args +
               (["--batch", batch] if batch else []), ranks)
    return [json.loads(line) for line in done.stdout.decode().strip().split("\n")]


def compare(path, args, ranks, batches):
    kept = ("prompt_tokens", "tokens", "text", "stop")
    alone = [{key: answer[key] for key in kept} for answer in answers(path, args, ranks, None)]
    for batch in batches:
        for number, answer in enumerate(answers(path, args, ranks, batch)):
            got = {key: answer[key] for key in kept}
            expect(got == alone[number], f"{args} on {ranks}, --batch {batch}, prompt {number}: {got['tokens']}, "
                                         f"alone {alone[number]['tokens']}")
    print(f"{args} on {ranks}: {[len(answer['tokens']) for answer in alone]} tokens, "
          f"{[answer['stop'] for answer in alone]}")
    return alone


def alone():
    """Fast kernels, any split, more prompts than sequences and fewer, one longer than a chunk."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_prompts(folder, TEXTS)
        for ranks, split in SPLITS:
            compare(path, ["--max-tokens", "12"] + split, ranks, (1, 2, 3, 8))


def sampled():
    """A prompt's samples come from its own stream of the seed; answers end at different times."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_prompts(folder, ["Hi there", "What is 2+2?", "Name a colour.", "Yes or no?", "Say hello."])
        for ranks, split in (SPLITS[0], SPLITS[2]):
            chat = compare(path, ["--chat", "--max-tokens", "40"] + split, ranks, (3,))
            expect({"eos"} <= {answer["stop"] for answer in chat} and
                   len({len(answer["tokens"]) for answer in chat}) > 2, "they end at different times")
            for more in (["--temperature", "1", "--seed", "3"],
                         ["--temperature", "0.9", "--repeat-penalty", "1.3", "--stop", "e", "--compute", "f32"]):
                compare(path, ["--max-tokens", "16"] + more + split, ranks, (2, 8))


def output():
    """Texts come whole and in order; figures are of all answers."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_prompts(folder, TEXTS)
        args = ["generate", "--model", smollm2(), "--prompts", path, "--max-tokens", "9"]
        one = run(args)
        for ranks, split in (SPLITS[0], SPLITS[2]):
            many = run(args + ["--batch", "3"] + split, ranks)
            expect(many.stdout == one.stdout, f"{many.stdout} is not {one.stdout}")
            expect(many.stderr.decode().count("held back by") == 1, many.stderr.decode())
        last = answers(path, ["--max-tokens", "9"], 1, 3)[-1]
        expect(last["decode_tokens_per_s"] > 0 and last["prefill_tokens_per_s"] > 0, f"{last}")
        plan = json.loads(run(["plan", "--model", TINY, "--batch", "6", "--pp", "2"]).stdout)
        expect(plan["sequences"] == 6, f"the plan has {plan['sequences']} sequences")
        plan_path = os.path.join(folder, "plan.json")
        with open(plan_path, "w") as file:
            json.dump(plan, file)
        args = ["generate", "--model", TINY, "--prompts", write_prompts(folder, ["a", "b c", "d"]), "--max-tokens", "3"]
        expect(run(args + ["--plan", plan_path], 2).stdout == run(args).stdout, "the same by a plan's file")


def errors():
    """What cannot be is one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_prompts(folder, ["a", "b"])
        ask = ["generate", "--model", TINY, "--prompts", path]
        one_line(ask + ["--batch", "0"], 2, ["--batch"])
        one_line(ask + ["--batch", "-1"], 2, ["--batch"])
        one_line(ask + ["--batch", "65537"], 2, ["65537 sequences"])
        one_line(["generate", "--model", TINY, "--prompt", "a", "--batch", "2"], 2, ["--batch", "--prompts"])
        one_line(["eval", "--model", TINY, "--text", path, "--batch", "2"], 2, ["--batch"])
        one_line(ask + ["--plan", path, "--batch", "2"], 2, ["--plan", "--batch"])
        one_line(["generate", "--model", smollm2(), "--prompts", path, "--batch", "64", "--context", "2048",
                  "--max-memory", "1G"], 3, ["kv cache", "--batch"])
        for ranks, split in SPLITS[:1] + SPLITS[2:3]:
            one_line(ask[:3] + ["--prompts", write_prompts(folder, ["a", ""])] + split + ["--batch", "2"], 2,
                     ["line 2", "empty"], ranks)


def bench():
    """All sequences are prefilled and decoded, and count."""
    for ranks, split in SPLITS[:3]:
        for batch in (1, 2, 5):
            done = run(["bench", "model", "--model", TINY, "--prompt-tokens", "20", "--gen-tokens", "8", "--json",
                        "--batch", batch] + split, ranks)
            figures = json.loads(done.stdout)
            expect(figures["batch"] == batch and figures["decode_tokens_per_s"] > 0, f"{figures}")


def interrupted():
    """Ctrl-C ends what was begun, in order; a rank that is lost ends the job."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_prompts(folder, TEXTS)
        args = ["generate", "--model", smollm2(), "--prompts", path, "--max-tokens", "4000", "--ignore-eos",
                "--batch", "3"]
        for ranks, split in (SPLITS[0], SPLITS[2]):
            job = subprocess.Popen(command(ranks, [ARGOSY] + args + split), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            begun = job.stdout.read(200)
            expect(len(begun) == 200, "it answers")
            job.send_signal(signal.SIGINT)
            out, err = job.communicate(timeout=60)
            expect("held back by" in err.decode(), f"figures after Ctrl-C on {ranks}: {err.decode()}")
            expect(job.returncode == (130 if ranks == 1 else 1), f"exit code {job.returncode}")
        shim = os.path.join(folder, "broken_isend.so")
        subprocess.run(["mpicc", "-shared", "-fPIC", "-o", shim,
                        os.path.join(os.path.dirname(__file__), "broken_isend.c")], check=True)
        for rank in ("0", "1"):
            done = run(args + ["--pp", "2"], 2, check=False, timeout=60,
                       env={"LD_PRELOAD": shim, "BROKEN_RANK": rank})
            ours = [line for line in done.stderr.decode().split("\n") if line.startswith("argosy: ")]
            expect(done.returncode == 4 and len(ours) >= 1 and f"rank {rank}" in ours[0],
                   f"rank {rank}: code {done.returncode}, {ours}")


main({f.__name__: f for f in (alone, sampled, output, errors, bench, interrupted)})
