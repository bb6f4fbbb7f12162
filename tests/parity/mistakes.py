"""What the commands make of damaged models and plans, and of odd input: one line for each mistake."""
import json
import os
import re
import shutil
import struct
import tempfile

import numpy as np

from harness import DATA, EXACT, TINY, expect, main, one_line, run, smollm2


def tiny_variant(folder, name, edit=None, config=None):
    """The tiny llama with its weights' bytes edited, or its settings."""
    path = os.path.join(folder, name)
    shutil.copytree(TINY, path)
    if config is not None:
        with open(os.path.join(path, "config.json")) as file:
            settings = json.load(file)
        config(settings)
        with open(os.path.join(path, "config.json"), "w") as file:
            json.dump(settings, file)
    if edit is not None:
        tensors = os.path.join(path, "model.safetensors")
        with open(tensors, "rb") as file:
            data = file.read()
        with open(tensors, "wb") as file:
            file.write(edit(data))
    return path


def damaged_models(folder):
    """Bad models by what the error must name."""
    def variant(name, edit=None, config=None):
        return tiny_variant(folder, name, edit, config)

    def without(name):
        def edit(data):
            n = struct.unpack("<Q", data[:8])[0]
            header, data = json.loads(data[8:8 + n]), data[8 + n:]
            begin, end = header.pop(name)["data_offsets"]  # no hole may stay
            for tensor in header.values():
                if "data_offsets" in tensor:
                    tensor["data_offsets"] = [at - (end - begin) * (at >= end) for at in tensor["data_offsets"]]
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + data[:begin] + data[end:]
        return edit

    def not_a_number(name):
        def edit(data):
            n = struct.unpack("<Q", data[:8])[0]
            at = 8 + n + json.loads(data[8:8 + n])[name]["data_offsets"][0]
            return data[:at] + struct.pack("<f", float("nan")) + data[at + 4:]
        return edit

    def quantized(name, tensor):
        """A GGUF file of 8 bits with one NaN among a norm's weights."""
        with open(os.path.join(DATA, "variants", "gguf_q8_0", "model.gguf"), "rb") as file:
            data = bytearray(file.read())
        info = re.compile(rb"(output_norm|token_embd|blk\.\d\.\w+)\.weight\x01?\x02?\0\0\0")
        for found in info.finditer(data):  # dimensions, each 8 bytes; the type, 4; the offset, 8
            end = found.end() + 8 * data[found.end() - 4] + 12
            if found.group().startswith(tensor.encode()):
                at = struct.unpack("<Q", data[end - 8:end])[0]
        at += (end + 31) // 32 * 32  # tensors begin behind the last one's description
        data[at:at + 4] = struct.pack("<f", float("nan"))
        path = os.path.join(folder, name + ".gguf")
        with open(path, "wb") as file:
            file.write(data)
        return path

    head = os.path.join(folder, "head.gguf")
    with open(smollm2(), "rb") as source, open(head, "wb") as target:
        target.write(source.read(3 << 20))
    noise = os.path.join(folder, "noise.gguf")
    with open(noise, "wb") as file:
        file.write(b"no model at all" * 100)
    return [
        (os.path.join(folder, "nothing"), 1, ["nothing", "check the path"]),
        (noise, 1, ["noise.gguf", "GGUF"]),
        (head, 1, ["head.gguf", "truncated", "get the file again"]),
        (variant("arch", config=lambda c: c.update(model_type="nonesuch")), 1,
         ["arch", "nonesuch", "llama"]),
        (variant("base", config=lambda c: c["rope_parameters"].update(rope_theta=0)), 1,
         ["base", "rope"]),
        (variant("eps", config=lambda c: c.update(rms_norm_eps=-1e-5)), 1, ["eps", "below zero"]),
        (variant("rope", config=lambda c: c.update(rope_parameters={"rope_type": "odd"})), 1,
         ["odd", "llama3"]),
        (variant("shape", config=lambda c: c.update(intermediate_size=188)), 1,
         ["shape", "mlp", "(187, 72)", "(188, 72)", "another model"]),
        (variant("missing", without("model.layers.1.mlp.up_proj.weight")), 1,
         ["missing", "model.layers.1.mlp.up_proj.weight", "get it again"]),
        (variant("short", lambda data: data[:-4]), 1, ["short", "get the file again"]),
        (variant("header", lambda data: data[:40] + b"?" + data[41:]), 1, ["header", "get the file again"]),
        (quantized("q_first", "blk.0.attn_norm"), 1, ["q_first", "not finite", "get them again"]),
        (quantized("q_last", "output_norm"), 1, ["q_last", "not finite", "get them again"]),
        (variant("nan", not_a_number("model.norm.weight")), 1, ["nan", "not finite", "get them again", "--compute f32"]),
    ]


def errors():
    """Each bad input is one line for the whole job that names what is wrong and what would do."""
    ask = ["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "2"]
    with tempfile.TemporaryDirectory() as folder:
        for path, code, words in damaged_models(folder):
            for ranks, split in ((1, []), (2, ["--tp", "2"])):
                one_line(["generate", "--model", path, "--prompt", "a"] + split, code, words, ranks)
        one_line(["eval", "--model", path, "--tokens", os.path.join(DATA, "tiny", "seq7.npy")], code,
                 words)  # the last: logits that are no numbers
        empty, large = os.path.join(folder, "empty.npy"), os.path.join(folder, "large.npy")
        np.save(empty, np.zeros(0, dtype=np.int32))
        np.save(large, np.full(3, 307, dtype=np.int32))
        one_line(["generate", "--model", TINY, "--tokens", empty], 2, ["empty"])
        one_line(["generate", "--model", TINY, "--tokens", large], 2, ["307", "306"])
        plan = json.loads(run(["plan", "--model", TINY, "--tp", "2"] + EXACT).stdout)
        plan["model"]["spec_hash"] = "0" * 16
        path = os.path.join(folder, "plan.json")
        with open(path, "w") as file:
            json.dump(plan, file)
        one_line(ask + ["--plan", path], 2, ["another model"], 2)
        one_line(ask + ["--plan", path, "--context", "45"], 2, ["--plan", "--context"])
    one_line(["generate", "--model", TINY, "--prompt", ""], 2, ["empty"])
    one_line(["generate", "--model", TINY, "--prompt", "ab " * 200], 2, ["128"])
    one_line(ask + ["--context", "129"], 2, ["--context", "128"])
    one_line(ask + ["--pp", "4"], 2, ["--pp", "3"], 4)
    one_line(ask + ["--tp", "2"], 2, ["2 ranks", "mpirun -n 2"], 1)
    one_line(ask + ["--tp", "2"], 2, ["2 ranks", "3", "mpirun -n 2"], 3)
    one_line(ask, 2, ["1 rank", "--tp 2"], 2)
    one_line(ask, 2, ["1 rank", "or give --tp 6,5"], 11)  # no prime number of ranks in one stage
    one_line(ask + ["--pipeline-split", "2,1"], 2, ["mpirun -n 2", "leave --pipeline-split out"])
    one_line(ask + ["--tensor-split", "1,0"], 2, ["--tensor-split 1,0", "rank 1", "nothing"], 2)
    one_line(ask + ["--tp", "11"], 2, ["--tp 11: ", "rank 9", "nothing"], 2)
    one_line(["plan", "--model", TINY, "--pp", "2", "--tp", "11"], 2, ["--tp 11 --pp 2: ", "rank 9"])
    one_line(ask + ["--tensor-split", "0,0"], 2, ["--tensor-split"], 2)
    one_line(ask + ["--pipeline-split", "1,1"], 2, ["--pipeline-split", "2", "3"], 2)
    one_line(["show", "--model", TINY, "--tp", "2", "--rank", "9"], 2, ["--rank 9", "0 to 1"], 2)
    one_line(["plan", "--model", TINY, "--tp", "300"], 2, ["--tp", "254"])
    one_line(ask + ["--max-memory", "4M"], 3, ["rank 0", "MiB", "--max-memory"])
    one_line(ask + ["--max-memory", "4M", "--tp", "2"], 3, ["MiB", "--max-memory"], 2)
    one_line(["generate", "--model", smollm2(), "--prompt", "a", "--context", "8192", "--max-memory", "200M"],
             3, ["kv cache 180.0 MiB", "--max-memory 3", "--context 3", "or less", "mpirun -n 3"])
    for ranks in (1, 2):
        one_line(ask + ["--temprature", "1"], 2, ["--temprature", "--temperature"], ranks)
    one_line(["generate", "--model", TINY], 2, ["--prompt"])
    one_line(["eval", "--model", TINY, "--text", "/nonexistent"], 1, ["/nonexistent", "check the path"])
    ids = ["eval", "--model", TINY, "--tokens", os.path.join(DATA, "tiny", "seq7.npy")]
    one_line(ids + ["--window", "129"], 2, ["--window 129", "128", "--window 128"])  # of 7 ids
    one_line(ids + ["--window", "12", "--context", "9"], 2, ["--window 12", "--context 9"])
    one_line(ids + ["--context", "129"], 2, ["--context 129", "128"])


def first_checked():
    """What is wrong with the input is told before anything is measured; a dry run measures nothing anew."""
    with tempfile.TemporaryDirectory() as folder:
        cache, a_file = os.path.join(folder, "cache"), os.path.join(folder, "file")
        os.mkdir(cache)
        with open(a_file, "w") as file:
            file.write("no folder")
        env = {"XDG_CACHE_HOME": cache}
        bench = ["bench", "model", "--model", TINY, "--gen-tokens", "4"]
        for args, code, words in (
                (["bench", "limits", "--dir", "/nonexistent"], 1, ["/nonexistent"]),
                (["bench", "limits", "--dir", a_file], 1, [a_file]),
                (["bench", "model", "--model", "/nonexistent"], 1, ["/nonexistent"]),
                (bench + ["--prompt-tokens", "900"], 2, ["900", "128"]),
                (bench + ["--isa", "avx1024"], 2, ["avx1024"]),
                (bench + ["--prompt-tokens", "4", "--tp", "2"], 2, ["mpirun -n 2"]),
                (["generate", "--model", TINY, "--prompt", "ab " * 200], 2, ["128"]),
                (["eval", "--model", TINY, "--tokens", os.path.join(DATA, "tiny", "seq7.npy"), "--logits",
                  "/nonexistent/out.npy"], 1, ["/nonexistent"]),
                (["generate", "--model", TINY, "--prompt-file", "/nonexistent"], 1, ["/nonexistent"])):
            one_line(args, code, words, env=env)
            expect(not os.listdir(cache), f"{args}: the limits were measured first")
        run(bench + ["--prompt-tokens", "4", "--dry-run"], env=env)
        kept = os.path.join(cache, "argosy", os.listdir(os.path.join(cache, "argosy"))[0])
        before = os.stat(kept).st_mtime_ns
        run(bench + ["--prompt-tokens", "4", "--dry-run"], env=env)
        expect(os.stat(kept).st_mtime_ns == before, "a dry run measures nothing anew")


def prompt_ids(lines):
    """The ids that lines of tokenize or generate --json tell of."""
    values = [json.loads(line) for line in lines.decode().strip().split("\n")]
    return [value["prompt_tokens"] if isinstance(value, dict) else value for value in values]


def plans():
    """A plan that was printed is one that can be looked at and run."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "plan.json")
        printed = run(["plan", "--model", TINY, "--context", "40", "--tp", "2"]).stdout
        with open(path, "wb") as file:
            file.write(printed)
        for command_name in ("plan", "show"):
            given = run([command_name, "--model", TINY, "--plan", path]).stdout
            expect(given == run([command_name, "--model", TINY, "--context", "40", "--tp", "2"]).stdout,
                   f"{command_name} --plan is as by the options: {given.decode()}")
        one_line(["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "60", "--plan", path], 2,
                 [path, "40", "--context"], 2)
        done = run(["generate", "--model", TINY, "--prompt", "a", "--ignore-eos", "--json", "--plan", path], 2)
        answer, said = json.loads(done.stdout), done.stderr.decode()
        expect(len(answer["prompt_tokens"]) + len(answer["tokens"]) == 41 and answer["stop"] == "length", f"{answer}")
        expect(path in said and "context of 40" in said and "--max-tokens" in said, said)
        bad_plans(json.loads(printed), path)


def without_tokenizer():
    """Ids are computed with, and plans made, where a model has no tokenizer, or one that is not understood."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ids.npy")
        np.save(path, np.arange(1, 9, dtype=np.int32))
        whole = run(["eval", "--model", TINY, "--tokens", path, "--json"] + EXACT).stdout
        for name, tokenizer in (("none", None), ("odd", '{"model": {"type": "Odd"}}')):
            model = os.path.join(folder, name)
            os.mkdir(model)
            for file in ("config.json", "model.safetensors"):
                os.symlink(os.path.join(TINY, file), os.path.join(model, file))
            if tokenizer is not None:
                with open(os.path.join(model, "tokenizer.json"), "w") as file:
                    file.write(tokenizer)
            found = run(["eval", "--model", model, "--tokens", path, "--json"] + EXACT).stdout
            expect(json.loads(found)["nll"] == json.loads(whole)["nll"], found)
            run(["plan", "--model", model] + EXACT)
            run(["show", "--model", model] + EXACT)
            out = os.path.join(folder, name + "-out")
            run(["train", "--model", model, "--tokens", path, "--seq-length", "4", "--train-steps", "1", "--output", out])
            expect(os.path.exists(os.path.join(out, "tokenizer.json")) == (tokenizer is not None), f"{os.listdir(out)}")
            one_line(["eval", "--model", model, "--text", __file__], 1, ["tokenizer"])
        gguf, out = os.path.join(folder, "none.gguf"), os.path.join(folder, "gguf-out")
        run(["convert", os.path.join(folder, "none"), "--to", "gguf", gguf])
        found = run(["eval", "--model", gguf, "--tokens", path, "--json"] + EXACT).stdout
        expect(json.loads(found)["nll"] == json.loads(whole)["nll"], found)
        run(["train", "--model", gguf, "--tokens", path, "--seq-length", "4", "--train-steps", "1", "--output", out])
        expect("model.safetensors" in os.listdir(out) and "tokenizer.json" not in os.listdir(out), f"{os.listdir(out)}")
        one_line(["eval", "--model", gguf, "--text", __file__], 1, ["none.gguf", "no tokenizer"])


def bad_plans(good, path):
    """What is no plan for this model and these ranks is one line with the file and what to do."""
    ask = ["generate", "--model", TINY, "--prompt", "a", "--max-tokens", "1", "--plan", path]

    def refused(change, words, ranks=2):
        plan = json.loads(json.dumps(good))
        change(plan)
        with open(path, "w") as file:
            json.dump(plan, file)
        one_line(ask, 2, [path] + words, ranks)

    def stage(plan):
        return plan["stages"][0]

    def replica(plan):
        return stage(plan)["replicas"][0]

    refused(lambda p: p.update(argosy_plan=2), ["argosy_plan must be 1", "make the plan anew"])
    refused(lambda p: p["model"].update(spec_hash="0" * 16), ["another model", "make the plan anew"])
    refused(lambda p: stage(p).update(layers=[0, 4]), ["another model", "4 layers"])
    refused(lambda p: p["stages"].append(p["stages"][0]), ["stages[1].layers", "overlap", "begin with 3"])
    refused(lambda p: stage(p).update(layers=[1, 3]), ["stages[0].layers", "gap", "begin with 0"])
    refused(lambda p: replica(p).update(shares=[1]), ["stages[0].replicas[0].shares", "each of 2 ranks"])
    refused(lambda p: replica(p).update(shares=[0, 0]), ["shares", "all 0", "one must be above"])
    refused(lambda p: replica(p).update(ranks=[0, 2]), ["ranks[1] is 2", "names 0 to 1, each once"])
    refused(lambda p: p.update(zero_stage=3), ['"zero_stage"', "known: argosy_plan, model", "take it out"])
    refused(lambda p: p.pop("stages"), ["stages must be a list"])
    refused(lambda p: p.update(context_tokens=4096), ["4096", "128", "make the plan anew"])
    with open(path, "w") as file:
        file.write('{"argosy_plan": 1,\n "model": }')
    one_line(ask, 2, [path, "line 2", "mend it there"], 2)
    one_line(ask[:-1] + [path + ".missing"], 1, [path + ".missing"], 2)
    with open(path, "w") as file:
        json.dump(good, file)
    for ranks in (1, 3):
        one_line(ask, 2, ["2 ranks", "--plan", "mpirun -n 2"], ranks)


def unused():
    """Tensors that a model is computed without are told of, once for the whole job."""
    def more(names):
        def edit(data):
            n = struct.unpack("<Q", data[:8])[0]
            header = json.loads(data[8:8 + n])
            for i, name in enumerate(names):
                at = len(data) - 8 - n + 4 * i
                header[name] = {"dtype": "F32", "shape": [1], "data_offsets": [at, at + 4]}
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + data[8 + n:] + bytes(4 * len(names))
        return edit

    def warnings(model, ranks, split):
        err = run(["generate", "--model", model, "--prompt", "a", "--max-tokens", "2"] + split, ranks).stderr
        return [line for line in err.decode().split("\n") if "warning" in line]

    norm, buffer = (f"model.layers.0.self_attn.{name}" for name in ("q_norm.weight", "rotary_emb.inv_freq"))
    with tempfile.TemporaryDirectory() as folder:
        for name, names, n_layers, words in (
                ("none", [buffer], 3, None), ("norm", [norm, buffer], 3, ["1 tensor is", norm]),
                ("layers", [norm], 2, ["10 tensors are", "model.layers.2."])):
            model = tiny_variant(folder, name, more(names), lambda c, n=n_layers: c.update(num_hidden_layers=n))
            for ranks, split in ((1, []), (2, ["--tp", "2"]), (2, ["--pp", "2"])):
                got = warnings(model, ranks, split)
                expect(len(got) == (1 if words else 0) and all(w in got[0] for w in words or []),
                       f"{name}, {split}: {got}")


def inputs():
    """What is read besides the model is bounded, named with its line, and never overwritten."""
    bad = b"a\xffb"
    with tempfile.TemporaryDirectory() as folder:
        def path(name, data):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
            return os.path.join(folder, name)

        ask = ["generate", "--model", TINY, "--max-tokens", "1"]
        for command_line in (ask + ["--prompt-file", "/dev/zero"],
                             ["eval", "--model", TINY, "--text", "/dev/zero"],
                             ["tokenize", "--model", TINY, "--file", "/dev/zero"],
                             ["tokenize", "--model", TINY, "--jsonl", "--file", "/dev/zero"]):
            one_line(command_line, 2, ["/dev/zero", "larger"])
        for data, words in ((b'"a"\n\n"b"\n', ["line 2", "empty"]), (b'"a"\n7\n', ["line 2", "string"]),
                            (b'"a"\n"\n', ["line 2: column", "one JSON value"])):
            lines = path("lines.jsonl", data)
            one_line(["tokenize", "--model", TINY, "--jsonl", "--file", lines], 1, [lines] + words)
            one_line(ask + ["--prompts", lines], 1, [lines] + words)
        lines = path("lines.jsonl", b'"a"\n""\n')
        one_line(ask + ["--prompts", lines], 2, [lines, "line 2", "empty"])
        text = path("text.txt", bad)
        for args in (ask + ["--prompt", bad.decode("utf-8", "surrogateescape")],
                     ask + ["--prompt-file", text], ["eval", "--model", TINY, "--text", text],
                     ["tokenize", "--model", TINY, "--file", text]):
            expect("UTF-8" in run(args).stderr.decode(), f"{args}: invalid UTF-8 is replaced, and said")
        mended, plain = path("mended.jsonl", b'\xef\xbb\xbf"first"\n"' + bad + b'"\n"x\\ud83cy"\n'), \
            path("plain.jsonl", '"first"\n"a\ufffdb"\n"x\ufffdy"\n'.encode())
        for args in (ask + ["--json", "--prompts"], ["tokenize", "--model", TINY, "--jsonl", "--file"]):
            got, wanted = run(args + [mended]), run(args + [plain])
            said = got.stderr.decode()
            expect(prompt_ids(got.stdout) == prompt_ids(wanted.stdout), f"{args}: {got.stdout}")
            expect(f"warning: {mended}, line 2 is not valid UTF-8" in said and
                   f"warning: {mended}, line 3 has half a surrogate pair" in said and
                   "line 1" not in said and "warning" not in wanted.stderr.decode(), f"{args}: {said}")
        ids = os.path.join(folder, "ids.npy")
        np.save(ids, np.arange(3, dtype=np.int32))
        before = open(ids, "rb").read()
        one_line(["eval", "--model", TINY, "--tokens", ids, "--logits", ids], 2, [ids, "overwrite"])
        expect(open(ids, "rb").read() == before, "the ids are as they were")
        model = tiny_variant(folder, "model")
        weights = os.path.join(model, "model.safetensors")
        before = open(weights, "rb").read()
        work = ["generate", "--model", model, "--prompt", "a", "--max-tokens", "2", "--trace"]
        for ranks, split in ((1, []), (2, ["--tp", "2"])):
            one_line(work + [weights] + split, 2, [weights, "overwrite", "the model"], ranks)
            one_line(work + ["/nonexistent/trace"] + split, 1, ["/nonexistent/trace"], ranks)
        expect(open(weights, "rb").read() == before, "the weights are as they were")
        trace_path = os.path.join(model, "trace")
        one_line(["eval", "--model", model, "--tokens", ids, "--window", "999", "--trace", trace_path], 2, ["999"])
        expect(sorted(os.listdir(model)) == sorted(os.listdir(TINY)), "nothing is left of a trace not written")
        run(work + [trace_path])
        one_line(work + [trace_path], 2, ["overwrite"])  # by now it lies in the model's folder
        alone = json.loads(run(["eval", "--model", TINY, "--tokens", ids, "--window", "1",
                                "--json"]).stdout)
        expect(alone == {"tokens": 3, "predicted": 0}, f"no token has one before it: {alone}")
    for args in (["plan"], ["generate", "--prompt", "a", "--dry-run"]):
        one_line(args + ["--model", TINY, "--max-memory", "4M,900M", "--tp", "2"], 3, ["rank 0", "MiB"])


main({f.__name__: f for f in (errors, inputs, plans, unused, without_tokenizer, first_checked)})
