"""Training beside PyTorch, in turns, and two ranks beside one: SmolLM2's shape, batches of 4 x 512 random tokens.

    tests/bench/setup.sh native
    python3 -m venv build/torch-venv && build/torch-venv/bin/pip install torch==2.15.0 transformers==5.23.0
    cmake --build build/release --target argosy
    python3 tests/bench/train_peers.py [--torch PYTHON] [--rounds N] [--steps N] > table.md

PyTorch is compiled, with jemalloc where it is installed and MKL's own path for other makers' processors. Figures are
medians over the rounds; argosy's share of the peak is its own MFU, over the GEMM peak measured in the same run. Exit code:
0 every target is met, 1 not, 2 it could not be measured.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from statistics import median

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ARGOSY = os.path.join(ROOT, "build", "release", "argosy")
PYTHON = os.path.join(ROOT, "build", "bench-venv", "bin", "python")
JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
ROWS, TOKENS, VOCAB = 4, 512, 49152
# name, ranks, options, type, rows of a batch and of a micro-batch, and the least: share of the peak, of PyTorch's rate, of one rank's;
# memory at most of PyTorch's
CASES = [
    ("bf16", 1, [], "bf16", 4, 2, {"mfu": 0.55, "torch": 1.25, "memory": 0.6}),
    ("fp32", 1, [], "f32", 4, 1, {"mfu": 0.70}),
    ("bf16, tp 2 (heads 5:4)", 2, ["--tp", "2"], "bf16", 4, 2, {"one": 0.85}),
    ("bf16, tp 2 (all 5:4)", 2, ["--tensor-split", "5,4"], "bf16", 4, 2, {"one": 0.85}),
    ("bf16, dp 2", 2, ["--dp", "2"], "bf16", 4, 2, {"one": 0.85}),
    ("bf16, pp 2 (19,11), batch 8", 2, ["--pipeline-split", "19,11"], "bf16", 8, 1, {"one": 0.85 * 8 / 9}),
]


def make_inputs(folder):
    """Token ids, and the model's folder."""
    path = os.path.join(folder, "ids.npy")
    code = ("import sys, numpy as np; np.save(sys.argv[1], np.random.default_rng(0).integers(0, int(sys.argv[2]), "
            "size=int(sys.argv[3]), dtype=np.int32))")
    subprocess.run([PYTHON, "-c", code, path, str(VOCAB), str(64 * TOKENS + 1)], check=True)
    made = subprocess.run([PYTHON, os.path.join(HERE, "make_model.py"), "--shape", "smollm2", "--type", "bf16",
                           "--folder"], check=True, stdout=subprocess.PIPE, text=True)
    return path, made.stdout.split()[-1]


def run_argosy(case, ids, model, steps, folder):
    _, ranks, options, kind, rows, micro_rows, _ = case
    out = os.path.join(folder, "out")
    shutil.rmtree(out, ignore_errors=True)
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)] if ranks > 1 else []
    command += [ARGOSY, "train", "--model", model, "--tokens", ids, "--seq-length", str(TOKENS), "--micro-batch-size",
                str(micro_rows), "--global-batch-size", str(rows), "--compute", kind, "--train-steps", str(steps), "--output", out,
                "--threads", "2" if ranks == 1 else "1", *options]
    env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file][1:]  # the first warms up
    shutil.rmtree(out, ignore_errors=True)
    return {"rate": median(line["tokens_per_s"] for line in lines), "mfu": median(line["mfu"] for line in lines),
            "memory": max(line["memory_bytes"] for line in lines)}


def run_torch(python, kind, folder):
    fake = os.path.join(folder, "fake.so")
    if not os.path.exists(fake):
        source = os.path.join(folder, "fake.c")
        with open(source, "w", encoding="ascii") as file:
            file.write("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", fake, source], check=True)
    preload = ":".join(path for path in (JEMALLOC, fake) if os.path.exists(path))
    env = dict(os.environ, LD_PRELOAD=preload, MALLOC_CONF="oversize_threshold:1,background_thread:true,"
               "metadata_thp:auto,dirty_decay_ms:9000000000,muzzy_decay_ms:9000000000")
    done = subprocess.run([python, os.path.join(HERE, "run_torch_train.py"), kind, str(ROWS), str(TOKENS)], check=True,
                          env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    return {"rate": figures["tokens_per_s"], "memory": figures["memory_bytes"]}


def middle(runs, key):
    return median(run[key] for run in runs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", default=os.path.join(ROOT, "build", "torch-venv", "bin", "python3"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    ours, peers, missed = {case[0]: [] for case in CASES}, {"bf16": [], "f32": []}, 0
    with tempfile.TemporaryDirectory() as folder:
        ids, model = make_inputs(folder)
        for round_number in range(options.rounds):
            for case in CASES:
                ours[case[0]].append(run_argosy(case, ids, model, options.steps, folder))
                print(f"round {round_number}, {case[0]}: {ours[case[0]][-1]}", file=sys.stderr)
            for kind, runs in peers.items():
                runs.append(run_torch(options.torch, kind, folder))
                print(f"round {round_number}, PyTorch {kind}: {runs[-1]}", file=sys.stderr)
    print("| | tokens/s | share of the peak | PyTorch | ratio | memory, MiB | of PyTorch's | of one rank |")
    print("|---|---|---|---|---|---|---|---|")
    for name, ranks, _, kind, _, _, least in CASES:
        rate, mfu, memory = (middle(ours[name], key) for key in ("rate", "mfu", "memory"))
        torch_rate, torch_memory = middle(peers[kind], "rate"), middle(peers[kind], "memory")
        one = rate / middle(ours["bf16"], "rate")
        met = (mfu >= least.get("mfu", 0) and rate / torch_rate >= least.get("torch", 0) and
               memory / torch_memory <= least.get("memory", 1e9) and one >= least.get("one", 0))
        missed += not met
        asked = ", ".join(f"{key} {value:.2f}" for key, value in least.items())
        print(f"| {name} ({asked}{'' if met else '; MISSED'}) | {rate:.0f} | {mfu:.2f} | {torch_rate:.0f} | "
              f"{rate / torch_rate:.2f} | {memory / 2**20:.0f} | {memory / torch_memory:.2f} | "
              f"{f'{one:.2f}' if ranks > 1 else ''} |")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"train_peers.py: {error}", file=sys.stderr)
        sys.exit(2)
