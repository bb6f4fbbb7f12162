"""Run argosy and look at what it says: shared by the tests of whole models."""
import json
import os
import subprocess
import sys
import time

import numpy as np

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
ARGOSY = os.environ["ARGOSY"]
SMOLLM2 = os.environ.get("ARGOSY_SMOLLM2", "")
GEMMA3 = os.environ.get("ARGOSY_GEMMA3", "")
TINY = os.path.join(DATA, "tiny", "llama")
EXACT = ["--compute", "f32"]  # as near the references as there is
PEAK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peak.py")


def smollm2():
    assert os.path.isfile(SMOLLM2), "ARGOSY_SMOLLM2 must name SmolLM2's GGUF file: run tests/run.sh"
    return SMOLLM2


def gemma3():
    assert os.path.isfile(GEMMA3), "ARGOSY_GEMMA3 must name Gemma 3 270M's GGUF file: run tests/run.sh"
    return GEMMA3


def command(ranks, args, under_mpirun=None):
    """The command line of a job; one rank needs no mpirun."""
    mpirun = ["mpirun", "--oversubscribe", "-n", str(ranks)]
    under_mpirun = ranks > 1 if under_mpirun is None else under_mpirun
    return (mpirun if under_mpirun else []) + args


def run(args, ranks=1, stdin=None, check=True, timeout=300, wrapper=(), under_mpirun=None, env=None):
    """Run argosy; with check, it must succeed. Returns the finished process, output as bytes."""
    line = command(ranks, list(wrapper) + [ARGOSY] + [str(a) for a in args], under_mpirun)
    done = subprocess.run(line, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          env=dict(os.environ, **(env or {})))
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(line)}\nended with {done.returncode}:\n{done.stderr.decode()}")
    return done


def generate(model, args, ranks=1, **options):
    """One answer, as its JSON object."""
    done = run(["generate", "--model", model, "--json"] + args, ranks, **options)
    return json.loads(done.stdout)


def logits(model, ids, folder, args, ranks=1):
    """Logits (positions, vocabulary) of ids, one window."""
    path, out = os.path.join(folder, "ids.npy"), os.path.join(folder, "logits.npy")
    np.save(path, np.asarray(ids, dtype=np.int32))
    run(["eval", "--model", model, "--tokens", path, "--logits", out] + args, ranks)
    return np.load(out)


def expect(true, what):
    if not true:
        raise AssertionError(what)


def expect_close(a, b, bound, what):
    worst = float(np.max(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))))
    print(f"{what}: largest difference {worst:.3g}, bound {bound:g}")
    expect(worst <= bound, f"{what}: {worst:.3g} is beyond {bound:g}")


def expect_greedy(tokens, reference, margins, least_margin, what):
    """Equal up to the first place where the reference itself was nearly undecided."""
    for i, (token, wanted, margin) in enumerate(zip(tokens, reference, margins)):
        if margin < least_margin:
            print(f"{what}: {i} tokens equal, then a margin of {margin:.2g}")
            return
        expect(token == wanted, f"{what}: token {i} is {token}, the reference has {wanted}")
    expect(len(tokens) == len(reference), f"{what}: {len(tokens)} tokens, not {len(reference)}")


def one_line(args, code, words, ranks=1, **options):
    """A bad input: this exit code, one line of ours, these words in it."""
    begin = time.monotonic()
    done = run(args, ranks, check=False, timeout=60, **options)
    expect_one_line(done, f"{args} on {ranks}, {time.monotonic() - begin:.1f} s", code, words)


def expect_one_line(done, what, code, words):
    text = done.stderr.decode("utf-8", "replace")
    ours = [line for line in text.split("\n") if line.startswith("argosy: ")]
    what = f"{what}: code {done.returncode}: {text!r}"
    expect(done.returncode == code, what)
    expect(len(ours) == 1, what)
    for word in words:
        expect(word in ours[0], f"{word!r} is not in it: {what}")


def main(cases):
    """Run the case that the command line names; every one prints what it compared."""
    if len(sys.argv) != 2 or sys.argv[1] not in cases:
        sys.exit("cases: " + " ".join(cases))
    cases[sys.argv[1]]()
    print("passed")
