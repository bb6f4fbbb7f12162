"""Hold the limits that argosy measures against an independent program: none may be low by over 5%.

    cmake --build build/release --target argosy check_limits
    python3 tests/bench/check_limits.py [--threads N]... [--pairs N]

Both run in turns; medians are compared. Exit code: 0 no limit is low, 1 one is, 2 it could not be
measured.
"""
import argparse
import json
import os
import subprocess
import sys
from statistics import median

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RATES = ("read_bytes_per_s", "f32_flops_per_s", "bf16_flops_per_s", "int8_ops_per_s")
LEAST = 0.95


def run(command, target):
    """@return the JSON object that a program prints"""
    hint = f"cmake --preset release && cmake --build build/release --target {target}"
    if not os.access(command[0], os.X_OK):
        sys.stderr.write(f"check_limits.py: {command[0]} is missing: {hint}\n")
        sys.exit(2)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        if done.returncode == 0:
            result = json.loads(done.stdout.strip().splitlines()[-1])
            if result.get("disturbed"):
                print("argosy was disturbed: measure on a quiet machine", file=sys.stderr)
            return {rate: float(result.get("limits", result)[rate]) for rate in RATES}
        why = (done.stderr.strip() or "nothing is said").splitlines()[-1]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        why = f"no limits in what it prints ({error!r}): {done.stdout.strip()}"
    sys.stderr.write(f"check_limits.py: {' '.join(command)}: {why}\nif this build is old: {hint}\n")
    sys.exit(2)


def compare(options, threads):
    """Print a table of this number of threads. @return how many limits are low"""
    mine, theirs, n_low = [], [], 0
    for i in range(options.pairs):
        sys.stderr.write(f"threads {threads}: round {i + 1} of {options.pairs}\n")
        mine.append(run([options.argosy, "bench", "limits", "--threads", str(threads), "--json"],
                        "argosy"))
        theirs.append(run([options.checker, "--threads", str(threads)], "check_limits"))
    print(f"\n| threads {threads}, 1e9/s | argosy | independent | ratio |")
    print("| --- | --- | --- | --- |")
    for rate in RATES:
        ours, other = (median(run[rate] for run in runs) for runs in (mine, theirs))
        ratio = ours / other if other > 0 else 1.0  # 0: this machine is not fast in that type
        n_low += ratio < LEAST
        verdict = "not low" if ratio >= LEAST else "**low**"
        print(f"| {rate} | {ours / 1e9:.1f} | {other / 1e9:.1f} | {ratio:.3f}, {verdict} |")
    return n_low


def main():
    """Read the command line; compare for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, action="append", metavar="N",
                        help="may be given again [1, and all cores]")
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="rounds [5]")
    for name, path in (("argosy", "argosy"), ("checker", "tests/check_limits")):
        parser.add_argument(f"--{name}", default=os.path.join(ROOT, "build", "release", path),
                            metavar="PATH", help=f"[build/release/{path}]")
    options = parser.parse_args()
    threads = options.threads or sorted({1, len(os.sched_getaffinity(0))})
    if min(threads + [options.pairs]) < 1:
        parser.error("--threads and --pairs are at least 1")
    return 1 if sum(compare(options, n) for n in threads) > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
