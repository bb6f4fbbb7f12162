"""What becomes of a training run that is stopped, killed or damaged: it goes on from its last complete checkpoint."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from harness import ARGOSY, DATA, TINY, command, expect, main, one_line, run

TOKENS = os.path.join(DATA, "tiny", "train_stream.npy")
TRAIN = ["train", "--model", TINY, "--tokens", TOKENS, "--global-batch-size", "4", "--seq-length", "16",
         "--lr", "1e-3"]
LAYOUTS = [(1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"]), (2, ["--dp", "2", "--zero-stage", "1"]),
           (3, ["--tp", "3", "--tensor-split", "2,1,1"]), (3, ["--dp", "3", "--micro-batches", "2,1,1"]),
           (4, ["--tp", "2", "--dp", "2", "--zero-stage", "1"])]


def train(out, steps, ranks=1, args=(), model=TINY, **options):
    words = [model if word == TINY else word for word in TRAIN]
    return run(words + ["--output", out, "--train-steps", steps] + list(args), ranks, **options)


def curve(out):
    """Loss and norm of each step, which come in order, each once."""
    with open(os.path.join(out, "metrics.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    expect([line["step"] for line in lines] == list(range(1, len(lines) + 1)), f"steps of {out}")
    return [(line["loss"], line["grad_norm"]) for line in lines]


def weights(out):
    with open(os.path.join(out, "model.safetensors"), "rb") as file:
        return file.read()


def checkpoints(out):
    return sorted(os.listdir(os.path.join(out, "checkpoints")), key=lambda name: int(name[5:]))


def same_layout():
    """To the bit, as if it had never stopped."""
    for ranks, layout in (LAYOUTS[0], LAYOUTS[2], LAYOUTS[3]):
        with tempfile.TemporaryDirectory() as folder:
            whole, parts = os.path.join(folder, "whole"), os.path.join(folder, "parts")
            train(whole, 6, ranks, layout)
            train(parts, 3, ranks, layout)
            train(parts, 6, ranks, layout + ["--resume"])
            expect(curve(whole) == curve(parts), f"{layout}: {curve(whole)} and {curve(parts)}")
            expect(weights(whole) == weights(parts), f"{layout}: the weights differ")
            # what was written while the next steps changed it
            beside = os.path.join(folder, "beside")
            train(beside, 6, ranks, layout + ["--save-steps", "4"])
            shutil.rmtree(os.path.join(beside, "checkpoints", "step-6"))
            train(beside, 6, ranks, layout + ["--resume"])
            expect(weights(whole) == weights(beside), f"{layout}: the weights from step 4 on differ")
            print(f"{layout} on {ranks}: the same bits")


def follow(layouts, model=TINY):
    """From each layout to the next, a step on each, and at last back to one rank."""
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = os.path.join(folder, "whole"), os.path.join(folder, "parts")
        chain = layouts + layouts[:1]
        train(whole, len(chain), model=model)
        for number, (ranks, layout) in enumerate(chain):
            train(parts, number + 1, ranks, layout + (["--resume"] if number else []), model)
        worst = max(abs(a - b) / abs(a) for a, b in zip(sum(curve(whole), ()), sum(curve(parts), ())))
        print(f"{len(chain)} layouts one after the other: largest relative difference {worst:.3g}, bound 1e-4")
        expect(len(curve(parts)) == len(chain) and worst <= 1e-4, f"{curve(whole)} and {curve(parts)}")


def other_layouts():
    follow(LAYOUTS)


def experts():
    """Those that ranks of a layer share out, and those that replicas do."""
    follow([(1, []), (2, ["--dp", "2", "--ep", "2"]), (2, ["--tp", "2", "--ep", "2"]), (2, ["--pp", "2"]),
            (4, ["--tp", "2", "--dp", "2", "--ep", "4"]), (4, ["--tp", "2", "--dp", "2", "--ep", "2", "--zero-stage", "1"]),
            (4, ["--pp", "2", "--ep", "2", "--expert-split", "1,4"])],
           os.path.join(DATA, "tiny", "mixtral"))


def killed():
    """A run that saves at every step is killed when it has saved some: nothing complete is lost."""
    steps = 100000
    for ranks, layout in LAYOUTS[:2]:
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out")
            line = command(ranks, [ARGOSY] + TRAIN + ["--output", out, "--train-steps", str(steps),
                                                      "--save-steps", "1"] + layout)
            told = open(os.path.join(folder, "told"), "wb+")
            job = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=told, start_new_session=True)
            while not os.path.isdir(os.path.join(out, "checkpoints", "step-7")):
                expect(job.poll() is None, "it ended by itself")
                time.sleep(0.01)
            if ranks > 1:  # one of them; mpirun ends the others
                pids = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, check=True).stdout.split()
            os.kill(int(pids[-1]) if ranks > 1 else job.pid, signal.SIGKILL)
            job.wait()
            if ranks > 1:  # mpirun says who, and where; the run itself what is left of it
                told.seek(0)
                text = told.read().decode()
                expect(f"rank {ranks - 1} " in text and "on node" in text and "signal 9" in text, text)
                expect(f"the last complete checkpoint is {out}/checkpoints/step-" in text, text)
            told.close()
            complete = [name for name in checkpoints(out)
                        if os.path.exists(os.path.join(out, "checkpoints", name, "manifest.json"))]
            last = int(complete[-1][5:])
            expect(last >= 6, f"{complete}")
            done = train(out, last + 2, 1, ["--resume"])
            expect(f"going on from {out}/checkpoints/step-{last}" in done.stderr.decode(), done.stderr.decode())
            expect(len(curve(out)) == last + 2, f"{len(curve(out))} steps")
            expect(checkpoints(out)[-1] == f"step-{last + 2}" and len(checkpoints(out)) == 2, f"{checkpoints(out)}")
            print(f"{layout} on {ranks}: killed after step {last}")


def full_disk():
    """Files may not become as large as a checkpoint's: training goes on, what was saved before is whole."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        small = ["bash", "-c", 'trap "" XFSZ; ulimit -f 1000; exec "$0" "$@"']
        train(out, 2, 2, ["--tp", "2"])
        done = train(out, 5, 2, ["--tp", "2", "--resume", "--save-steps", "1"], wrapper=small, check=False)
        text = done.stderr.decode()
        expect(done.returncode != 0, text)
        expect("no checkpoint was made: rank 0: making room for" in text and "File too large" in text, text)
        expect(text.count("argosy: the last complete checkpoint is of step 2") == 1, text)
        expect(len(curve(out)) == 5 and checkpoints(out) == ["step-2"], f"{checkpoints(out)}")
        train(out, 5, 1, ["--resume"])
        expect(len(curve(out)) == 5 and checkpoints(out) == ["step-2", "step-5"], f"{checkpoints(out)}")


def damaged():
    """Cut off or without a file: the one before it is taken; flipped, of another model, newer: one line each."""
    with tempfile.TemporaryDirectory() as folder:
        first, out = os.path.join(folder, "first"), os.path.join(folder, "out")
        resume = TRAIN + ["--output", out, "--train-steps", "5", "--resume"]
        one_line(resume, 1, ["there is no complete checkpoint in", "out/checkpoints"])
        train(first, 4, 2, ["--tp", "2", "--save-steps", "2"])
        shutil.copytree(first, out, dirs_exist_ok=True)
        last = os.path.join(out, "checkpoints", "step-4")
        data, manifest = os.path.join(last, "rank-1.bin"), os.path.join(last, "manifest.json")

        with open(data, "r+b") as file:
            file.seek(1000)
            byte = file.read(1)[0]
            file.seek(1000)
            file.write(bytes([byte ^ 4]))
        for ranks, layout in ((1, []), LAYOUTS[2]):
            one_line(resume + layout, 1, ["step-4/rank-1.bin is damaged in bytes", "(tensor "], ranks)
        beside = os.path.join(folder, "beside")
        for ranks in (1, 2):  # without a file, the one before it is taken
            shutil.copytree(out, beside)
            os.unlink(os.path.join(beside, "checkpoints", "step-4", "rank-1.bin"))
            text = train(beside, 5, ranks, ["--resume"] + (["--tp", "2"] if ranks > 1 else [])).stderr.decode()
            expect(text.count("step-4/rank-1.bin is missing; trying the checkpoint before it") == 1 and
                   f"going on from {beside}/checkpoints/step-2" in text, text)
            shutil.rmtree(beside)
        shutil.copytree(out, beside)
        shutil.rmtree(os.path.join(beside, "checkpoints", "step-2"))
        os.unlink(os.path.join(beside, "checkpoints", "step-4", "rank-1.bin"))
        done = run(TRAIN + ["--output", beside, "--train-steps", "5", "--resume"], check=False)
        expect(done.returncode == 1 and b"step-4 lacks a file, and there is no complete checkpoint before it: on several "
               b"hosts all must share the checkpoints' folder" in done.stderr, done.stderr.decode())
        os.unlink(data)
        with open(manifest, "r+b") as file:
            text = file.read()
            file.seek(0)
            file.write(text.replace(b'"argosy_checkpoint": 1', b'"argosy_checkpoint": 7'))
        one_line(resume, 1, ["manifest.json is of version 7, this argosy reads 1"])
        with open(manifest, "wb") as file:
            file.write(text[:len(text) // 2])
        done = train(out, 5, 1, ["--resume"])
        expect(b"going on from " + os.path.join(out, "checkpoints", "step-2").encode() in done.stderr,
               done.stderr.decode())
        expect(curve(out)[:4] == curve(first) or len(curve(out)) == 5, "the curve goes on from step 2")
        other = [TRAIN[0], "--model", os.path.join(DATA, "variants", "mqa")] + TRAIN[3:]
        one_line(other + ["--output", out, "--train-steps", "9", "--resume"], 2,
                 ["is a checkpoint of another model", "the model's is ("])


main({name: globals()[name] for name in ("same_layout", "other_layouts", "experts", "killed", "full_disk", "damaged")})
