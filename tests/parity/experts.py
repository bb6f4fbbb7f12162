"""Models with experts: a tiny Mixtral in every form of its files and every split, against transformers."""
import json
import os
import tempfile

import numpy as np

import convert
from harness import DATA, EXACT, TINY, expect, expect_close, generate, logits, main, one_line, run

MIXTRAL = os.path.join(DATA, "tiny", "mixtral")
TOKENIZER = os.path.join(TINY, "tokenizer.json")


def case(n):
    return np.load(os.path.join(DATA, "tiny", f"seq{n}.npy")), np.load(os.path.join(MIXTRAL, f"logits{n}.npy"))


def lend(folder, config="config.json"):
    """The golden folder, with a tokenizer."""
    os.symlink(TOKENIZER, os.path.join(folder, "tokenizer.json"))
    os.symlink(os.path.join(MIXTRAL, config), os.path.join(folder, "config.json"))
    os.symlink(os.path.join(MIXTRAL, "model.safetensors"), os.path.join(folder, "model.safetensors"))
    return folder


def golden():
    with open(os.path.join(MIXTRAL, "config.json")) as file:
        return json.load(file), convert.read_safetensors(os.path.join(MIXTRAL, "model.safetensors"))


def logits_of(config="config.json"):
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as folder:
        lend(model, config)
        for n in (7, 33):
            ids, reference = case(n)
            expect_close(logits(model, ids, folder, EXACT), reference, 2e-5, f"{config}, {n} tokens")
            expect_close(logits(model, ids, folder, []), reference, 5e-3, f"{config}, {n} tokens, auto")


def one_rank():
    logits_of("config.json")
    logits_of("config.v4.json")


def files():
    """The same weights in the other forms that files have: the same bits."""
    config, tensors = golden()
    ids, reference = case(33)
    with tempfile.TemporaryDirectory() as folder:
        forms = {"fused": convert.fuse_experts(tensors, 5), "anew": convert.name_experts_anew(tensors)}
        for name, form in forms.items():
            os.mkdir(os.path.join(folder, name))
            convert.write_folder(os.path.join(folder, name), config, form, TOKENIZER)
        for name, stacked in (("stacked.gguf", True), ("old.gguf", False)):
            convert.mixtral_to_gguf(config, tensors, os.path.join(folder, name), "f32", stacked)
        for name in ("fused", "anew", "stacked.gguf", "old.gguf"):
            expect_close(logits(os.path.join(folder, name), ids, folder, EXACT), reference, 2e-5, name)
            done = run(["eval", "--model", os.path.join(folder, name), "--tokens", os.path.join(folder, "ids.npy")])
            expect("unused" not in done.stderr.decode(), f"{name}: {done.stderr.decode()}")


def bad_files():
    """Settings that make no sense are one line each."""
    config, tensors = golden()
    cases = [({"num_experts_per_tok": 6}, ["6 of 5 experts"]), ({"num_experts_per_tok": 0}, ["0 of 5"]),
             ({"num_local_experts": 0}, ["0 experts"]), ({"num_local_experts": 100000}, ["100000"]),
             ({"num_local_experts": 6}, ["(6, 48)", "gate.weight"]), ({"num_local_experts": None}, ["num_local_experts"])]
    for change, words in cases:
        with tempfile.TemporaryDirectory() as folder:
            convert.write_folder(folder, dict(config, **change), tensors, TOKENIZER)
            one_line(["generate", "--model", folder, "--prompt", "a"], 1, words)
    del tensors["model.layers.1.block_sparse_moe.experts.4.w2.weight"]
    with tempfile.TemporaryDirectory() as folder:
        convert.write_folder(folder, config, tensors, TOKENIZER)
        one_line(["generate", "--model", folder, "--prompt", "a"], 1, ["layers.1", "experts.4.w2"])


# a rank without experts among them, and more ranks than experts
SPLITS = [
    (2, "--ep 2"), (3, "--ep 3"), (5, "--ep 5"), (7, "--ep 7"), (2, "--expert-parallel-size 2 --tp 1"),
    (2, "--expert-split 3,2"), (2, "--expert-split 0,5"), (3, "--ep 3 --expert-split 1,0,4"), (2, "--pp 2"),
    (2, "--tp 2 --ep 2"), (2, "--tp 2"), (3, "--tp 3"), (2, "--tp 2 --expert-split 1,4 --tensor-split 2,1"),
    (4, "--pp 2 --ep 2"), (4, "--pp 2 --tp 2 --ep 2"), (3, "--ep 2,1"), (3, "--tp 1,2 --ep 1,2"),
    (4, "--ep 1,3 --expert-split 5;0,3,2"),
]


def splits():
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as folder:
        lend(model)
        for n in (7, 33):
            ids, reference = case(n)
            for ranks, split in SPLITS:
                expect_close(logits(model, ids, folder, EXACT + split.split(), ranks), reference, 2e-5,
                             f"{n} tokens, {ranks} ranks, {split}")


def expect_same_bits(model, ids, folder, args, plans, what):
    one = logits(model, ids, folder, args)
    for ranks, split in plans:
        same = np.array_equal(logits(model, ids, folder, args + split, ranks), one)
        expect(same, f"{what}, {ranks} ranks, {' '.join(split)}: other bits than on one rank")


def answers_alike(model, args, plans, what):
    """A prefill and steps of one row; the tokens and how likely they were."""
    args = ["--tokens", os.path.join(DATA, "tiny", "seq7.npy"), "--max-tokens", "12", "--ignore-eos"] + args
    one = generate(model, args)["tokens"]
    for ranks, split in plans:
        got = generate(model, args + split, ranks)["tokens"]
        expect(got == one, f"{what}, {ranks} ranks, {' '.join(split)}: {got}, not {one}")


def bits():
    """Ranks that are not tensor-parallel give the bits of one rank, whatever they hold."""
    plans = [(2, ["--ep", "2"]), (3, ["--ep", "3", "--threads", "3"]), (2, ["--expert-split", "0,5"]),
             (4, ["--pp", "2", "--ep", "2"])]
    ids, _ = case(33)
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as folder:
        lend(model)
        for compute in ("f32", "auto"):
            expect_same_bits(model, ids, folder, ["--compute", compute], plans, compute)
            answers_alike(model, ["--compute", compute], plans, compute)


def quantized():
    """Packed weights, in shapes of other models: as near to float32 as their type is, and the same bits by rank."""
    ids, _ = case(33)
    shapes = [(dict(hidden=64, ffn=96, heads=4, kv_heads=2, experts=8, used=2), ["q8_0", "q4_0"]),
              (dict(hidden=96, ffn=160, heads=6, kv_heads=1, experts=3, used=3, seed=2), ["q8_0", "q4_0"]),
              (dict(hidden=32, ffn=64, heads=2, kv_heads=2, experts=17, used=1, seed=3), ["q8_0"])]
    for shape, kinds in shapes:
        config, tensors = convert.random_mixtral(**shape)
        for kind in kinds:
            with tempfile.TemporaryDirectory() as folder:
                model = os.path.join(folder, "model.gguf")
                convert.mixtral_to_gguf(config, tensors, model, kind)
                plans = [(2, ["--ep", "2"]), (3, ["--ep", "3"])]
                what = f"{kind}, {shape['experts']} experts"
                expect_same_bits(model, ids, folder, [], plans, what)
                answers_alike(model, [], plans, what)
                exact = logits(model, ids, folder, EXACT)
                away = np.linalg.norm(logits(model, ids, folder, []) - exact, axis=1) / np.linalg.norm(exact, axis=1)
                print(f"{what}: auto is {np.round(np.quantile(away, (0.5, 1)), 4)} of the logits away from f32")
                sure = shape["used"] == shape["experts"]  # else rounding may change whom a row goes to
                expect(not sure or np.max(away) < 0.1, f"{what}: {away}")


def plan_of(model, args):
    return json.loads(run(["plan", "--model", model] + args).stdout)


def replicated():
    """A plan that holds experts more than once, in any order."""
    ids, reference = case(33)
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as folder:
        lend(model)
        plan = plan_of(model, ["--ep", "3"] + EXACT)
        path = os.path.join(folder, "plan.json")
        hashes = {plan["hash"]}
        for holders in ([[0, 1, 2]] * 5, [[2, 0], [1], [0, 1, 2], [1, 2], [0]], [[2], [1, 2], [2, 1], [2], [1]]):
            plan["experts"][0]["holders"] = holders
            with open(path, "w") as file:
                json.dump(plan, file)
            printed = plan_of(model, ["--plan", path])
            expect(printed["experts"] == plan["experts"], f"experts: {printed['experts']}")
            hashes.add(printed["hash"])
            expect_close(logits(model, ids, folder, ["--plan", path], 3), reference, 2e-5, f"{holders}")
        expect(len(hashes) == 4, f"who holds what is in the hash: {hashes}")


def bad_plans():
    """Experts that are held by nobody, do not add up, or are not there: one line each."""
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as folder:
        lend(model)
        options = [("--expert-split 3,1", ["4 experts", "has 5"]), ("--expert-split 3,3", ["6 experts"]),
                   ("--ep 2 --expert-split 5", ["1 count", "2 ranks"]), ("--tp 2 --ep 3", ["--ep", "3", "2"]),
                   ("--ep 0", ["--ep"]), ("--ep two", ["--ep"]), ("--ep 2,1 --pp 3", ["--ep", "--pp"])]
        for text, words in options:
            one_line(["plan", "--model", model] + text.split(), 2, words)
        one_line(["plan", "--model", TINY, "--ep", "2"], 2, ["no experts"])
        one_line(["plan", "--model", TINY, "--expert-split", "1,1"], 2, ["no experts"])
        good = plan_of(model, ["--ep", "2"])
        dense = plan_of(TINY, ["--tp", "2"])
        path = os.path.join(folder, "plan.json")
        holders = good["experts"][0]["holders"]
        cases = [(model, good, dict(experts=[{"holders": holders[:4] + [[]]}]), ["holders[4]", "nobody"]),
                 (model, good, dict(experts=[{"holders": holders[:4]}]), ["4 experts", "has 5"]),
                 (model, good, dict(experts=[{"holders": holders[:4] + [[2]]}]), ["holders[4][0]", "no rank"]),
                 (model, good, dict(experts=[{"holders": holders[:4] + [[1, 1]]}]), ["holders[4][1]", "twice"]),
                 (model, good, dict(experts=[{"holders": 5}]), ["holders", "list"]),
                 (model, good, dict(experts=[{"holders": holders, "spare": 1}]), ["spare"]),
                 (model, good, dict(experts=[{"holders": holders}] * 2), ["1 stage"]),
                 (model, good, dict(experts=[]), ["tensor_ranks", "no experts"]),
                 (TINY, dense, dict(experts=[{"holders": holders}]), ["5 experts", "has 0"])]
        for source, plan, change, words in cases:
            with open(path, "w") as file:
                json.dump(dict(plan, **change), file)
            one_line(["plan", "--model", source, "--plan", path], 2, words)


main({f.__name__: f for f in (one_rank, files, bad_files, splits, bits, quantized, replicated, bad_plans)})
