"""Measure argosy beside llama.cpp, in turns, and hold the ratios to what was promised.

    tests/bench/setup.sh && cmake --build build/release --target argosy
    python3 tests/bench/peers.py [--quick] [--only CASE]... > table.md

A round is: argosy, argosy's start, llama.cpp, argosy with one thread; figures are medians over the
rounds. Tables (Markdown) go to standard output, progress to standard error, every run to
build/bench/peers.json. Exit code: 0 every target is met, 1 not, 2 it could not be measured.
"""
import argparse
import dataclasses
import datetime
import json
import os
import resource
import struct
import subprocess
import sys
import time
from statistics import median

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SMOLLM2 = os.path.join(ROOT, "build", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
GEMMA3 = os.path.join(ROOT, "build", "models", "gemma-3-270m-Q4_K_M.gguf")
RAW = os.path.join(ROOT, "build", "bench", "peers.json")
START_IDS = os.path.join(ROOT, "build", "bench", "start16.npy")
DECODE_NEAR_LIMIT = 0.92  # of argosy's own limit: counts as met whatever the peer does
DISTURBED = 0.03  # share of the CPUs that others may take before figures are called disturbed
Q8_0, Q4_0, Q4_K = (["--shape", "tinyllama", "--type", kind] for kind in ("q8_0", "q4_0", "q4_k"))
MIXTRAL, QWEN3_MOE = (["--shape", shape, "--type", "q4_k"] for shape in ("mixtral", "qwen3moe"))
BF16 = ["--shape", "smollm2", "--type", "bf16", "--folder"]
HINT = ("if this build is old, or has no `bench model`: "
        "cmake --preset release && cmake --build build/release --target argosy")


@dataclasses.dataclass
class Case:
    """A row: what is run, and the least that is promised (None: nothing is)."""
    name: str
    title: str
    model: object  # a path, or make_model.py's options
    prefill: float = None  # against llama.cpp
    decode: float = None
    prefill_limit: float = None  # against argosy's own limit
    decode_limit: float = None
    peer: str = "native"  # which llama.cpp; None: it cannot read the model
    isa: str = None
    prompt: int = 512
    gen: int = 128
    whole: bool = True  # also its start, and with one thread


CASES = [
    Case("smollm2-q4_1", "SmolLM2-135M Q4_1", SMOLLM2, 6.0, 2.8, None, 0.50),
    Case("gemma3-q4_k", "Gemma 3 270M Q4_K_M", GEMMA3, 2.8, 2.3, None, 0.60),
    Case("1.1b-q8_0", "1.1B Q8_0", Q8_0, 3.0, 1.8, None, 0.88),
    Case("1.1b-q4_0", "1.1B Q4_0", Q4_0, 1.7, 2.0, None, 0.85),
    Case("1.1b-q4_k", "1.1B Q4_K", Q4_K, 1.7, 1.7, None, 0.80),
    Case("mixtral-q4_k", "Mixtral's shape, 2 GB, Q4_K_M", MIXTRAL, 1.7, 1.4, None, 0.75),
    Case("qwen3moe-q4_k", "Qwen3-MoE's shape, 2 GB, Q4_K_M", QWEN3_MOE, 1.7, 1.4, None, 0.75),
    Case("smollm2-bf16", "SmolLM2's shape, bf16 folder", BF16, None, None, 0.6, 0.80, peer=None),
    Case("1.1b-q4_0-4096", "1.1B Q4_0, depth 4,096", Q4_0, 1.6, 1.5, prompt=4096, whole=False),
    Case("1.1b-q4_0-avx2", "1.1B Q4_0, AVX2", Q4_0, 1.0, 1.3, peer="avx2", isa="avx2", whole=False),
]


def fail(text):
    """End with a line that says why nothing was measured."""
    sys.stderr.write(f"peers.py: {text}\n")
    sys.exit(2)


def run(command, hint):
    """@return the JSON object that a command prints as its last line"""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        fail(f"this ends with {done.returncode}: {' '.join(command)}\nit says: {said}\n{hint}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        fail(f"this prints no JSON: {' '.join(command)}\n{hint}")


class Bench:
    """The programs, and how each of them is run."""

    def __init__(self, options, cases):
        """See that what the cases need is there."""
        self.options = options
        self.pythons = {"native": options.peer, "avx2": options.peer_avx2}
        needed = {case.peer for case in cases if case.peer}
        if any(not isinstance(case.model, str) for case in cases):
            needed.add("native")  # it makes the models
        for name in sorted(needed):
            if not os.access(self.pythons[name], os.X_OK):
                fail(f"{self.pythons[name]} is missing: run tests/bench/setup.sh {name}")
        if not os.access(options.argosy, os.X_OK):
            fail(f"{options.argosy} is missing: cmake --preset release && "
                 "cmake --build build/release --target argosy")

    def argosy(self, case, path, threads):
        """One run of argosy: its JSON."""
        command = [self.options.argosy, "bench", "model", "--model", path,
                   "--prompt-tokens", str(case.prompt), "--gen-tokens", str(case.gen),
                   "--threads", str(threads), "--json"]
        result = run(command + (["--isa", case.isa] if case.isa else []), HINT)
        try:
            for phase in ("prefill", "decode"):
                float(result[f"{phase}_tokens_per_s"])
                float(result["ratio"][phase])
            float(result["load_s"])
            float(result["limits"]["read_bytes_per_s"])
        except (KeyError, TypeError, ValueError) as error:
            fail(f"argosy's JSON lacks a figure ({error}): {json.dumps(result)}\n{HINT}")
        return result

    def llama_cpp(self, case, path):
        """One run of llama.cpp: its JSON."""
        command = [self.pythons[case.peer], os.path.join(HERE, "run_llama_cpp.py"), "--model", path,
                   "--prompt-tokens", str(case.prompt), "--gen-tokens", str(case.gen),
                   "--threads", str(self.options.threads)]
        return run(command, f"install llama.cpp: tests/bench/setup.sh {case.peer}")

    def start(self, path):
        """Seconds from starting argosy to the first token of a 16-token prompt on its output."""
        command = [self.options.argosy, "generate", "--model", path, "--tokens", START_IDS,
                   "--max-tokens", "1", "--ignore-eos", "--threads", str(self.options.threads)]
        begin = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, bufsize=0) as child:
            child.stdout.read(1)  # nothing, at its end, where the token is a part of a character
            seconds = time.perf_counter() - begin
            said = child.communicate()[1].decode(errors="replace").strip()
        if child.returncode != 0:
            fail(f"this ends with {child.returncode}: {' '.join(command)}\nit says: {said}")
        return seconds

    def model(self, case):
        """@return the path of the case's model, which is made if need be and in the page cache"""
        if isinstance(case.model, str):
            path = case.model
            if not os.path.exists(path):
                fail(f"{path} is missing: run tests/bench/setup.sh")
        else:
            command = [self.options.peer, os.path.join(HERE, "make_model.py")] + case.model
            made = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if made.returncode != 0:
                fail(f"this makes no model: {' '.join(command)}")
            path = made.stdout.strip()
        files = [path] if os.path.isfile(path) else [entry.path for entry in os.scandir(path)]
        for name in files:
            with open(name, "rb") as file:
                while file.read(1 << 24):
                    pass
        return path


def write_start_ids():
    """16 token ids as a .npy file of int32."""
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (16,), }"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    os.makedirs(os.path.dirname(START_IDS), exist_ok=True)
    with open(START_IDS, "wb") as file:
        file.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode())
        file.write(struct.pack("<16i", *range(100, 116)))


def busy_seconds():
    """CPU seconds that all processes took, and that this one and its children took."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    mine = 0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        mine += usage.ru_utime + usage.ru_stime
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), mine


def measure(bench, case):
    """Run a case's rounds. @return lists of runs, and the share of the CPUs that others took"""
    options = bench.options
    path = bench.model(case)
    one = case.whole and options.threads > 1
    runs = {"argosy": [], "peer": [], "start_s": [], "one_thread": []}
    if case.whole:
        bench.start(path)  # measures argosy's limits, where they are not known yet
    begin, (all_before, mine_before) = time.monotonic(), busy_seconds()
    for i in range(options.pairs):
        sys.stderr.write(f"{case.title}: round {i + 1} of {options.pairs}\n")
        runs["argosy"].append(bench.argosy(case, path, options.threads))
        if case.whole:  # at once, before the host of a virtual machine takes back what was freed
            runs["start_s"].append(bench.start(path))
        if case.peer:
            runs["peer"].append(bench.llama_cpp(case, path))
        if one:
            runs["one_thread"].append(bench.argosy(case, path, 1))
    seconds, (all_after, mine_after) = time.monotonic() - begin, busy_seconds()
    others = (all_after - all_before) - (mine_after - mine_before)
    runs["others"] = max(0.0, others / seconds / os.cpu_count())
    if runs["others"] > DISTURBED:
        sys.stderr.write(f"{case.title}: others took {runs['others']:.0%} of the CPUs: "
                         "measure again on a quiet machine\n")
    return runs


def middle(runs, *fields):
    """The median of a figure over runs; None without runs."""
    values = []
    for value in runs:
        for field in fields:
            value = value[field]
        values.append(value)
    return median(values) if values else None


class Verdicts:
    """Cells of the tables that hold a figure against its target; counts what is not met."""

    def __init__(self):
        self.n_targets = self.n_missed = 0

    def cell(self, value, target, excuse=None):
        """@param excuse  why a value below the target counts as met; None: it does not"""
        if value is None or target is None:
            return f"{value:.2f}" if value is not None else ""
        self.n_targets += 1
        if value >= target:
            return f"{value:.2f} (>= {target:g}: met)"
        self.n_missed += excuse is None
        return f"{value:.2f} (>= {target:g}: {excuse or '**not met**'})"


def speed_row(case, runs, verdicts):
    """Figures beside the peer's and argosy's own limit."""
    mine, peers, cells = runs["argosy"], runs["peer"], [case.title]
    near_limit = middle(mine, "ratio", "decode") >= DECODE_NEAR_LIMIT
    for phase in ("prefill", "decode"):
        figure = middle(mine, f"{phase}_tokens_per_s")
        theirs = middle(peers, f"{phase}_tokens_per_s")
        excuse = "met, near the limit" if phase == "decode" and near_limit else None
        cells += [f"{figure:.1f}", f"{theirs:.1f}" if theirs else ""]
        ratio = figure / theirs if theirs else None
        cells.append(verdicts.cell(ratio, getattr(case, phase), excuse))
    for phase in ("prefill", "decode"):
        target = getattr(case, f"{phase}_limit")
        cells.append(verdicts.cell(middle(mine, "ratio", phase), target))
    return cells + [str(mine[-1].get("held_back_by", "")), f"{runs['others']:.0%}"]


def start_row(case, runs, verdicts):
    """Time to the first token."""
    mine, theirs = middle(runs["start_s"]), middle(runs["peer"], "first_token_s")
    ratio = theirs / mine if theirs else None
    return [case.title, f"{mine:.3f}", f"{theirs:.3f}" if theirs else "", verdicts.cell(ratio, 1.0),
            f"{middle(runs['argosy'], 'load_s'):.3f}"]


def thread_row(case, runs, verdicts, threads):
    """One thread beside all."""
    cells = [case.title]
    for phase in ("prefill", "decode"):
        one = middle(runs["one_thread"], f"{phase}_tokens_per_s")
        full = middle(runs["argosy"], f"{phase}_tokens_per_s")
        cells += [f"{one:.1f}", f"{full:.1f}", verdicts.cell(one / full, 1 / threads)]
    return cells


def print_table(title, heads, rows):
    """A table of Markdown."""
    if rows:
        print(f"\n{title}\n")
        for cells in [heads, ["---"] * len(heads)] + rows:
            print(f"| {' | '.join(cells)} |")


def name_machine(results, threads):
    """A line that says where and with what this was measured."""
    info = {}
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    runs = [run for result in results for run in result["argosy"]]
    reads = max(run["limits"]["read_bytes_per_s"] for run in runs) / 1e9
    versions = sorted({run["version"] for result in results for run in result["peer"]})
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                            capture_output=True, text=True).stdout.strip()
    return (f"{info.get('model name', 'unknown CPU')} (family {info.get('cpu family', '?')}, model "
            f"{info.get('model', '?')}), {len(os.sched_getaffinity(0))} cores, {threads} threads, "
            f"memory read at {reads:.1f} GB/s; argosy {commit or '?'}, "
            f"llama-cpp-python {', '.join(versions) or 'not run'}; {datetime.date.today()}, "
            f"rounds: {len(results[0]['argosy'])}")


def report(cases, results, threads):
    """Print the tables. @return the number of targets that are not met"""
    verdicts = Verdicts()
    pairs = list(zip(cases, results))
    print(name_machine(results, threads))
    print_table("Tokens/s:", ["model", "prefill", "llama.cpp", "ratio", "decode", "llama.cpp",
                              "ratio", "prefill / limit", "decode / limit", "held back by",
                              "others' CPU"],
                [speed_row(case, runs, verdicts) for case, runs in pairs])
    print_table("Seconds until the first token after a prompt of 16, from the program's start "
                "(argosy), from opening the model (llama.cpp):",
                ["model", "argosy", "llama.cpp", "ratio", "argosy's load"],
                [start_row(case, runs, verdicts) for case, runs in pairs if runs["start_s"]])
    print_table(f"Tokens/s, one thread and {threads}:",
                ["model", "prefill, 1", f"{threads}", "ratio", "decode, 1", f"{threads}", "ratio"],
                [thread_row(case, runs, verdicts, threads) for case, runs in pairs
                 if runs["one_thread"]])
    print(f"\n{verdicts.n_targets - verdicts.n_missed} of {verdicts.n_targets} targets met")
    return verdicts.n_missed


def parse():
    """@return the options and the cases to run"""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES]
    parser.add_argument("--only", action="append", choices=names, metavar="CASE",
                        help=f"this case; may be given again: {', '.join(names)}")
    parser.add_argument("--model", metavar="M", help="a model of your own, without targets")
    parser.add_argument("--pairs", type=int, metavar="N", help="rounds [5]")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
                        help="[all cores]")
    parser.add_argument("--prompt-tokens", type=int, metavar="N", help="instead of the case's")
    parser.add_argument("--gen-tokens", type=int, metavar="N", help="instead of the case's")
    for name, path in (("argosy", "build/release/argosy"), ("peer", "build/bench-venv/bin/python"),
                       ("peer-avx2", "build/bench-venv-avx2/bin/python")):
        parser.add_argument(f"--{name}", default=os.path.join(ROOT, path), metavar="PATH",
                            help=f"[{path}]")
    options = parser.parse_args()
    options.pairs = options.pairs if options.pairs is not None else 1 if options.quick else 5
    cases = [case for case in CASES if not options.only or case.name in options.only]
    if options.model:
        path = os.path.abspath(options.model)
        peer = None if os.path.isdir(path) else "native"
        cases = [Case("own", os.path.basename(path), path, peer=peer)]
    for field in ("prompt", "gen"):
        value = getattr(options, f"{field}_tokens")
        if value is not None:  # the targets are of the lengths they are given for
            cases = [dataclasses.replace(case, **{field: value}, prefill=None, decode=None,
                                         prefill_limit=None, decode_limit=None) for case in cases]
    if min([options.pairs, options.threads] + [min(case.prompt, case.gen) for case in cases]) < 1:
        parser.error("--pairs, --threads, --prompt-tokens and --gen-tokens are at least 1")
    return options, cases


def main():
    """Measure all cases, then say what came out."""
    options, cases = parse()
    bench, results = Bench(options, cases), []
    write_start_ids()
    for case in cases:
        results.append(measure(bench, case))
        with open(RAW, "w", encoding="utf-8") as file:
            json.dump({case.name: runs for case, runs in zip(cases, results)}, file, indent=1)
    return 1 if report(cases, results, options.threads) > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
