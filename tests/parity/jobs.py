"""What becomes of a job of several ranks: other commands, lost messages, signals."""
import os
import signal
import subprocess
import tempfile
import time

from harness import ARGOSY, DATA, TINY, command, expect, expect_one_line, main, run, smollm2


def together():
    """What one rank is told differently is one line for all of them, and no hang."""
    ask = ["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "2", "--tp", "2"]
    others = [(["eval", "--model", TINY, "--text", "/dev/null", "--tp", "2"], ["rank 1", "eval"]),
              (ask + ["--dry-run"], ["rank 1", "--dry-run"]), (["--help"], ["rank 1", "--help"]),
              (["tokenize", "--model", TINY, "--text", "a"], ["rank 1", "tokenize"]),
              (ask + ["--trace", "/dev/null"], ["rank 1", "--trace"]),
              (ask + ["--temprature", "1"], ["rank 1", "--temperature"]), ([], ["rank 1"]),
              (ask + ["--context", "100"], ["rank 1", "plan"]),
              (ask + ["--isa", "base"], ["rank 1", "--isa base", "no --isa"]),
              (ask[:1] + ["--model", "nothing"] + ask[3:], ["rank 1", "nothing"])]
    q4, q8 = (os.path.join(DATA, "variants", name, "model.gguf") for name in ("gguf_q4_0", "gguf_q8_0"))
    mixed = ["eval", "--tokens", os.path.join(DATA, "tiny", "seq7.npy"), "--tp", "2", "--model"]
    done = subprocess.run(command(1, [ARGOSY] + mixed + [q4], True) + [":", "-n", "1", ARGOSY] + mixed + [q8],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60, check=False)
    expect_one_line(done, "two encodings of a model", 2, ["rank 1", "plan"])
    for first, other, words in ((["--isa", "base"], ["--isa", "avx2"], ["rank 1", "--isa avx2", "--isa base"]),
                                (["--isa", "base"], [], ["rank 1", "no --isa", "--isa base"])):
        done = subprocess.run(command(1, [ARGOSY] + ask + first, True) + [":", "-n", "1", ARGOSY] + ask + other,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60, check=False)
        expect_one_line(done, f"{first} and {other}", 2, words)
    bench = ["bench", "limits"]
    done = subprocess.run(command(1, [ARGOSY] + bench, True) + [":", "-n", "1", ARGOSY] + bench + ["--dir", "."],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          check=False)
    expect_one_line(done, "another folder", 2, ["rank 1", "--dir .", "no --dir"])
    for other, words in others:
        done = subprocess.run(command(1, [ARGOSY] + ask, True) + [":", "-n", "1", ARGOSY] + other,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60, check=False)
        expect_one_line(done, f"{other} on rank 1", 1 if "nothing" in other else 2, words)


def broken():
    """A message that fails in the middle of a step ends the job at once, with a line that says so."""
    with tempfile.TemporaryDirectory() as folder:
        shim = os.path.join(folder, "broken_isend.so")
        subprocess.run(["mpicc", "-shared", "-fPIC", "-o", shim,
                        os.path.join(os.path.dirname(__file__), "broken_isend.c")], check=True)
        for rank in ("0", "1"):
            for split in (["--tp", "2"], ["--pp", "2"]):
                done = run(["generate", "--model", smollm2(), "--prompt", "a", "--ignore-eos",
                            "--max-tokens", "300"] + split, 2, check=False, timeout=60,
                           env={"LD_PRELOAD": shim, "BROKEN_RANK": rank})
                ours = [line for line in done.stderr.decode().split("\n")
                        if line.startswith("argosy: ")]
                expect(done.returncode == 4 and len(ours) >= 1 and f"rank {rank}" in ours[0],
                       f"{split}, rank {rank}: code {done.returncode}, {ours}")


def start(args, ranks):
    return subprocess.Popen(command(ranks, [ARGOSY] + args), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def interrupted():
    """Ctrl-C stops cleanly, with the figures; a closed standard output is an error, not a crash."""
    args = ["generate", "--model", smollm2(), "--prompt", "Count:", "--max-tokens", "4000",
            "--ignore-eos"]
    for ranks, split in ((1, []), (2, ["--tp", "2"])):
        job = start(args + split, ranks)
        expect(len(job.stdout.read(40)) == 40, "it answers")
        job.send_signal(signal.SIGINT)
        out, err = job.communicate(timeout=60)
        expect("held back by" in err.decode(), f"figures after Ctrl-C on {ranks}: {err.decode()}")
        expect(job.returncode == (130 if ranks == 1 else 1), f"exit code {job.returncode}")
        job = start(args + split, ranks)
        job.stdout.read(10)
        job.stdout.close()
        err = job.stderr.read().decode()
        expect(job.wait(timeout=60) != 0, "a closed standard output is a failure")
        ours = [line for line in err.split("\n") if line.startswith("argosy: ")]
        expect(ranks > 1 or (len(ours) == 1 and "standard output" in ours[0]), f"closed: {err}")
    job = start(args + ["--tp", "2"], 2)
    expect(len(job.stdout.read(40)) == 40, "it answers")
    for pid in os.listdir("/proc"):
        if pid.isdigit() and is_rank(pid, 1, job.pid):
            os.kill(int(pid), signal.SIGTERM)
    out, err = job.communicate(timeout=60)
    expect("held back by" in err.decode() and job.returncode == 130,
           f"figures after SIGTERM to rank 1 alone: {job.returncode}, {err.decode()}")


def interrupted_again():
    """A second Ctrl-C ends the process, whatever it is doing: here it waits for a child that rests."""
    job = start(["plan", "--model", TINY, "--renew-limits"], 1)
    while not catches(job.pid, signal.SIGINT) or (measuring := resting_child(job.pid)) is None:
        expect(job.poll() is None, "it is measuring the limits")
        time.sleep(0.001)
    try:
        job.send_signal(signal.SIGINT)
        while catches(job.pid, signal.SIGINT):
            expect(job.poll() is None, "it waits for its child")
            time.sleep(0.001)
        job.send_signal(signal.SIGINT)
        job.wait(timeout=60)
    finally:
        os.kill(measuring, signal.SIGKILL)
    job.communicate()
    expect(job.returncode == -signal.SIGINT, f"exit code {job.returncode}")


def interrupted_bench():
    """Ctrl-C in any part of bench limits is one line and 130."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        line = [ARGOSY, "bench", "limits", "--threads", "3", "--dir", folder]
        for shown in (None, "1 thread ", "3 threads"):  # what is on standard output by then
            job = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
            while shown is None and not (catches(job.pid, signal.SIGINT) and children(job.pid)):
                expect(job.poll() is None, "it is measuring")
                time.sleep(0.001)
            while shown is not None and shown not in (row := job.stdout.readline().decode()):
                expect(row, f"{shown} is shown")
            os.killpg(job.pid, signal.SIGINT)  # a terminal tells the children, too
            _, err = job.communicate(timeout=60)
            ours = [text for text in err.decode().split("\n") if text.startswith("argosy: ")]
            expect(job.returncode == 130 and len(ours) == 1 and "interrupted" in ours[0],
                   f"after {shown}: {job.returncode}, {err.decode()}")
    job = start(["bench", "limits", "--threads", "1"], 2)
    asked = False
    while not asked:  # rank 1, which rests until the links are measured
        expect(job.poll() is None, "it is measuring")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if is_rank(pid, 1, job.pid) and catches(pid, signal.SIGTERM):
                os.kill(int(pid), signal.SIGTERM)
                asked = True
    _, err = job.communicate(timeout=60)
    expect(job.returncode == 130 and "interrupted" in err.decode(), f"links: {job.returncode}, {err.decode()}")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def resting_child(pid):
    """Stop a child that runs a program of its own (before that, its parent waits for it in vfork)."""
    for child in map(int, children(pid)):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as parents, open(f"/proc/{child}/cmdline", "rb") as childs:
                if childs.read() in (b"", parents.read()):
                    continue
            os.kill(child, signal.SIGSTOP)
            while (state := state_of(child)) not in "TZX":
                time.sleep(0.001)
            if state == "T":
                return child
        except OSError:
            pass  # it has ended
    return None


def state_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def catches(pid, number):
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def is_rank(pid, rank, mpirun):
    """Is the process that rank of that job?"""
    try:
        with open(f"/proc/{pid}/stat") as file:
            parent = int(file.read().rsplit(")", 1)[1].split()[1])
        with open(f"/proc/{pid}/environ", "rb") as file:
            return parent == mpirun and f"OMPI_COMM_WORLD_RANK={rank}".encode() in file.read().split(b"\0")
    except OSError:
        return False


main({f.__name__: f for f in (together, broken, interrupted, interrupted_again, interrupted_bench)})
