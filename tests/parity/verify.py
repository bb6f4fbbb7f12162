"""argosy verify: plans beside one rank and beside each other, and faults that it must find."""
import json
import os
import struct
import tempfile

import numpy as np

import convert
from harness import ARGOSY, DATA, EXACT, TINY, expect, logits, main, one_line, run, smollm2

MIXTRAL = os.path.join(DATA, "tiny", "mixtral")


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


def other_weights(model, path, names):
    """The model with weights of these names changed where its hash, which samples them, does not look."""
    os.mkdir(path)
    for name in os.listdir(model):
        if name != "model.safetensors":
            os.symlink(os.path.realpath(os.path.join(model, name)), os.path.join(path, name))
    with open(os.path.join(model, "model.safetensors"), "rb") as file:
        data = bytearray(file.read())
    n = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8:8 + n]).items():
        if name in names:
            begin, end = entry["data_offsets"]
            for at in range(8 + n + begin + (end - begin) // 16 * 12, 8 + n + end, 4):
                data[at:at + 4] = struct.pack("<f", -struct.unpack("<f", data[at:at + 4])[0])
    with open(os.path.join(path, "model.safetensors"), "wb") as file:
        file.write(data)
    return path


def mixtral(folder, change=lambda tensors: None):
    """The tiny Mixtral with a tokenizer, and with its weights changed."""
    with open(os.path.join(MIXTRAL, "config.json")) as file:
        config = json.load(file)
    tensors = convert.read_safetensors(os.path.join(MIXTRAL, "model.safetensors"))
    tensors = {name: np.array(values) for name, values in tensors.items()}
    change(tensors)
    os.mkdir(folder)
    convert.write_folder(folder, config, tensors, os.path.join(TINY, "tokenizer.json"))
    return folder


def experts():
    """Ranks that share nothing but experts out give the same bits, also where some are held twice."""
    with tempfile.TemporaryDirectory() as folder:
        model = mixtral(os.path.join(folder, "model"))
        twice = os.path.join(folder, "twice.json")
        for compute in (EXACT, []):
            plan = json.loads(run(["plan", "--model", model, "--ep", "3"] + compute).stdout)
            plan["experts"][0]["holders"] = [[2, 0], [1], [0, 1, 2], [1, 2], [0]]
            with open(twice, "w") as file:
                json.dump(plan, file)
            for ranks, split in ((2, ["--ep", "2"]), (4, ["--pp", "2", "--ep", "2"]),
                                 (5, ["--expert-split", "3,0,2,0,0"]), (3, ["--plan", twice]),
                                 (2, ["--tp", "2", "--ep", "2"])):
                result = verify(split + ([] if "--plan" in split else compute), ranks, model)
                expect((result["bound"] == 0) == ("--tp" not in split), f"{split}: {result}")
                expect(0 < result["router_gap"] < 1 and not result["excused"], f"{result}")
        result = verify(["--tp", "2"], 2)
        expect("router_gap" not in result, f"no experts: {result}")


def tie(tensors):
    """Two experts of each layer whose scores are as good as equal: rounding decides which of them is used."""
    draws = np.random.default_rng(5)
    for name, values in tensors.items():
        if name.endswith("gate.weight"):
            values[1] = values[0] * (1 + draws.choice([-1e-7, 0, 1e-7], values[0].shape)).astype(values.dtype)


def ties():
    """What a router's tie does is excused and told, but for a fault that is in most rows."""
    with tempfile.TemporaryDirectory() as folder:
        model = mixtral(os.path.join(folder, "tied"), tie)
        result = verify(["--tp", "2"] + EXACT, 2, model)
        most = max(result[phase]["difference"] for phase in ("prefill", "decode"))
        expect(result["router_gap"] < 1e-5 and most > result["bound"], f"rounding has chosen another expert: {result}")
        expect(result["excused"], f"{result}")
        said = run(["verify", "--model", model, "--tp", "2"] + EXACT, 2).stdout.decode()
        expect("excused: experts' scores were as near as" in said, said)
        result = verify(["--ep", "2"] + EXACT, 2, model)
        expect(result["bound"] == 0 and not result["excused"], f"the same bits have the same experts: {result}")
        find_fault(model, other_experts(model, os.path.join(folder, "faulty")), ["--tp", "2"] + EXACT)


def other_experts(model, path):
    names = convert.read_safetensors(os.path.join(model, "model.safetensors"))
    return other_weights(model, path, [name for name in names if ".experts." in name])


def find_fault(model, other, split):
    """The second of two ranks has the other's weights."""
    args = ["verify", "--model", model] + split
    theirs = [other if word == model else word for word in args]
    done = run(args + [":", "-n", "1", ARGOSY] + theirs, 1, check=False, under_mpirun=True)
    said = done.stderr.decode()
    expect(done.returncode == 1 and "logits differ by" in said, f"{args}: {done.returncode}: {said}")
    expect(b"bound:" in done.stdout, "what was found is told all the same")


def faults():
    """A rank with other weights than the others' is found, whatever the kernels."""
    with tempfile.TemporaryDirectory() as folder:
        other = other_weights(TINY, os.path.join(folder, "other"), ["model.layers.2.mlp.up_proj.weight"])
        for compute in (EXACT, []):
            for split in (["--tp", "2"], ["--pp", "2"]):
                find_fault(TINY, other, split + compute)
        model = mixtral(os.path.join(folder, "mixtral"))
        other = other_experts(model, os.path.join(folder, "other_mixtral"))
        for split in (["--tp", "2", "--ep", "2"] + EXACT, ["--ep", "2"], ["--ep", "2"] + EXACT):
            find_fault(model, other, split)


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


main({f.__name__: f for f in (splits, told, against, experts, ties, faults, refused)})
