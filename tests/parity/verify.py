"""argosy verify: plans beside one rank and beside each other, and faults that it must find."""
import json
import os
import struct
import tempfile

import numpy as np

from harness import ARGOSY, DATA, TINY, expect, logits, main, one_line, run, smollm2

EXACT = ["--compute", "f32"]


def verify(args, ranks, model=TINY, code=0):
    done = run(["verify", "--model", model, "--json"] + args, ranks, check=False)
    expect(done.returncode == code, f"{args} on {ranks}: code {done.returncode}: {done.stderr.decode()}")
    result = json.loads(done.stdout)
    print(f"{args} on {ranks}: {max(result[p]['difference'] or 0 for p in ('prefill', 'decode')):.3g} "
          f"of {result['bound']:.3g}")
    expect(result["within"] == (code == 0), f"{result}")
    return result


def write_plan(folder, name, args, change=lambda plan: None):
    path = os.path.join(folder, name)
    plan = json.loads(run(["plan", "--model", TINY] + args).stdout)
    change(plan)
    with open(path, "w") as file:
        json.dump(plan, file)
    return path


def splits():
    """Every kind of split against one rank; stages alone give the same bits, with any kernels."""
    for ranks, split in ((2, ["--tp", "2"]), (3, ["--tp", "3", "--tensor-split", "7,1,1"]),
                         (3, ["--tp", "2,1"]), (2, ["--pp", "2"]), (1, [])):
        for compute in (EXACT, []):
            result = verify(split + compute, ranks)
            shares = "--tp" in split
            expect((result["bound_relative"] > 0) == shares, f"{split}: {result}")
            expect(result["ranks"] == ranks and result["reference_ranks"] == 1, f"{result}")
            expect(result["prefill"]["rows"] + result["decode"]["rows"] == result["tokens"] == 112, f"{result}")
            expect(result["decode"]["rows"] > 3 and result["prefill"]["rows"] % 32 != 0, f"{result}")
    for split in (["--tp", "2"], ["--pp", "2"]):
        result = verify(split, 2, smollm2())
        expect((result["bound"] == 0) == ("--pp" in split), f"{result}")


def told():
    """The difference that is told is the one between what eval writes for the two plans."""
    ids = np.load(os.path.join(DATA, "tiny", "seq33.npy"))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "verified.npy")
        np.save(path, ids)
        one, two = logits(TINY, ids, folder, EXACT), logits(TINY, ids, folder, EXACT + ["--tp", "2"], 2)
        result = verify(EXACT + ["--tp", "2", "--tokens", path], 2)
        expect(result["tokens"] == 33 and result["decode"]["rows"] == 11, f"{result}")
        for phase, rows in (("prefill", slice(0, 22)), ("decode", slice(22, 33))):
            most = float(np.max(np.abs(one[rows].astype(np.float64) - two[rows])))
            expect(abs(most - result[phase]["difference"]) < 4e-6, f"{phase}: {most}, {result}")
            at = result[phase]
            expect(abs(one[at["token"]][at["entry"]] - at["reference_logit"]) < 4e-6, f"{result}")
        expect(verify(["--tokens", path, "--bound", "1e-9", "--tp", "2"], 2, code=1)["bound"] > 0, "a bound")
    said = run(["verify", "--model", TINY, "--pp", "2", "--prompt", "a b c"], 2).stdout.decode()
    expect("same bits" in said and "decode" in said and "the likeliest tokens are the same" in said, said)


def against():
    """A plan beside another one, of fewer or of more ranks; ranks that neither needs do nothing."""
    with tempfile.TemporaryDirectory() as folder:
        tp2 = write_plan(folder, "tp2", EXACT + ["--tp", "2", "--context", "64"])
        tp3 = write_plan(folder, "tp3", EXACT + ["--tp", "3", "--context", "96"],
                         lambda plan: plan.update(batch_tokens=7))
        fast = write_plan(folder, "fast", ["--context", "128"])
        for ranks in (3, 4):
            result = verify(["--plan", tp2, "--against", tp3], ranks)
            expect((result["ranks"], result["reference_ranks"], result["tokens"]) == (2, 3, 64), f"{result}")
        result = verify(["--plan", tp3, "--against", tp2], 3)
        expect((result["ranks"], result["reference_ranks"], result["tokens"]) == (3, 2, 64), f"{result}")
        expect(verify(["--plan", fast, "--against", tp2], 2)["bound_relative"] == 0.1, "the looser bound")
        expect(verify(["--plan", fast, "--against", tp2, "--bound", "2e-5"], 2, code=1), "rounded otherwise")
        expect(verify(["--tp", "2", "--context", "20"], 3)["tokens"] == 20, "as many as --context holds")


def other_weights(folder):
    """The tiny llama with weights changed where its hash, which samples them, does not look."""
    path = os.path.join(folder, "other")
    os.mkdir(path)
    for name in os.listdir(TINY):
        if name != "model.safetensors":
            os.symlink(os.path.join(TINY, name), os.path.join(path, name))
    with open(os.path.join(TINY, "model.safetensors"), "rb") as file:
        data = bytearray(file.read())
    n = struct.unpack("<Q", data[:8])[0]
    begin, end = json.loads(data[8:8 + n])["model.layers.2.mlp.up_proj.weight"]["data_offsets"]
    for at in range(8 + n + begin + (end - begin) // 16 * 12, 8 + n + end, 4):
        data[at:at + 4] = struct.pack("<f", -struct.unpack("<f", data[at:at + 4])[0])
    with open(os.path.join(path, "model.safetensors"), "wb") as file:
        file.write(data)
    return path


def faults():
    """A rank with other weights than the others' is found, whatever the kernels."""
    with tempfile.TemporaryDirectory() as folder:
        other = other_weights(folder)
        for compute in (EXACT, []):
            for split in (["--tp", "2"], ["--pp", "2"]):
                args = ["verify", "--model", TINY] + split + compute
                theirs = [other if word == TINY else word for word in args]
                done = run(args + [":", "-n", "1", ARGOSY] + theirs, 1, check=False, under_mpirun=True)
                said = done.stderr.decode()
                expect(done.returncode == 1 and "logits differ by" in said, f"{args}: {done.returncode}: {said}")
                expect(b"bound:" in done.stdout, "what was found is told all the same")


def refused():
    """What cannot be compared is told in a line, before anything is run."""
    with tempfile.TemporaryDirectory() as folder:
        ask = ["verify", "--model", TINY]
        tp2 = write_plan(folder, "tp2", ["--tp", "2", "--context", "64"])
        tp3 = write_plan(folder, "tp3", ["--tp", "3", "--context", "32"])
        alien = write_plan(folder, "alien", ["--tp", "2"], lambda p: p["model"].update(spec_hash="0" * 16))
        one_line(ask + ["--plan", tp2], 2, ["2 ranks", "mpirun -n 2"])
        one_line(ask + ["--tp", "3"], 2, ["3 ranks", "mpirun -n 3"], 2)
        one_line(ask + ["--plan", tp2, "--against", tp3], 2, ["3 ranks", "mpirun -n 3"], 2)
        one_line(ask + ["--tp", "2", "--against", alien], 2, [alien, "another model"], 2)
        one_line(ask + ["--against", tp2 + ".missing"], 1, [".missing"])
        ids = os.path.join(folder, "ids.npy")
        np.save(ids, (np.arange(50) % 300).astype(np.int32))
        one_line(ask + ["--plan", tp2, "--against", tp3, "--tokens", ids], 2, [ids, "50 tokens", tp3, "32"], 3)
        one_line(ask + ["--tokens", ids, "--prompt", "a"], 2, ["--prompt", "--tokens"])
        large = ["verify", "--model", smollm2(), "--pp", "2", "--compute", "f32"]
        needed = [entry["peak_bytes"] >> 20 for entry in
                  json.loads(run(large + ["--dry-run"], 2).stdout)["predicted"]["memory"]]
        one_line(large + ["--max-memory", f"{max(needed) + 2}M"], 3, ["reference", "--against", "MiB"], 2)


main({f.__name__: f for f in (splits, told, against, faults, refused)})
