"""`argosy convert`: files of either kind, read back by safetensors, gguf and tokenizers, and run."""
import json
import os
import shutil
import tempfile

import gguf
import numpy as np
from safetensors import deserialize
from tokenizers import Tokenizer

import convert
import expert_families
import families
from harness import DATA, EXACT, TINY, expect, expect_close, generate, logits, main, one_line, run, smollm2

VARIANTS = os.path.join(DATA, "variants")
IDS = np.load(os.path.join(VARIANTS, "seq100.npy"))
FOLDERS = ["rope_default", "rope_llama3", "rope_linear", "rope_yarn", "rope_yarn_factor", "bias", "head_dim", "mqa",
           "seven_heads", "bf16", "f16", "sharded"]
FILES = ["gguf_f32_bias", "gguf_f16_llama3", "gguf_f16_linear", "gguf_q8_0", "gguf_q4_0", "gguf_q4_1", "gguf_q5_0",
         "gguf_k"]
BLOCKS = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4"]


def to(form, source, target, *options):
    done = run(["convert", source, "--to", form, target] + list(options))
    expect(os.path.exists(target), f"{target} is not there")
    return done.stderr.decode()


def read_folder(folder):
    """Name to (type, shape, bytes), whatever files the tensors stand in."""
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with open(os.path.join(folder, name), "rb") as file:
                for key, tensor in deserialize(file.read()):
                    tensors[key] = (tensor["dtype"], tuple(tensor["shape"]), bytes(tensor["data"]))
    return tensors


def expect_same_tensors(got, wanted, what):
    expect(set(got) == set(wanted), f"{what}: {sorted(set(got) ^ set(wanted))} is in one of both alone")
    for name in wanted:
        expect(got[name][:2] == wanted[name][:2], f"{what}: {name} is {got[name][:2]}, not {wanted[name][:2]}")
        expect(got[name][2] == wanted[name][2], f"{what}: {name} has other bytes")


def there_and_back():
    """Folder to GGUF to folder: the same tensors to the byte, the same settings."""
    for name in ["llama", "mixtral"] + FOLDERS:
        with tempfile.TemporaryDirectory() as place:
            source = convert.lend(name, os.path.join(place, "source"))
            file, back = os.path.join(place, "there.gguf"), os.path.join(place, "back")
            wanted = read_folder(source)
            wide = any(kind != "F32" for kind, _, _ in wanted.values())
            to("gguf", source, file, *(["--type", "f32"] if not wide else []))
            to("hf", file, back, *(["--type", next(iter(wanted.values()))[0].lower()] if wide else []))
            expect_same_tensors(read_folder(back), wanted, name)
            folder = os.path.join(place, "folder")
            to("hf", source, folder)
            expect_same_tensors(read_folder(folder), wanted, f"{name}, folder to folder")
            for shared in ("tokenizer.json", "config.json"):
                with open(os.path.join(source, shared)) as a, open(os.path.join(folder, shared)) as b:
                    a, b = json.load(a), json.load(b)
                a, b = ({k: v for k, v in c.items() if k not in ("dtype", "torch_dtype")} for c in (a, b))
                expect(a == b, f"{name}, {shared}: folder to folder changed it")


def same_logits():
    """Files that hold the same values give the same logits; ropes and biases come through."""
    for name in ["llama", "mixtral"] + FOLDERS + FILES:
        with tempfile.TemporaryDirectory() as place:
            is_file = name in FILES
            source = (os.path.join(VARIANTS, name, "model.gguf") if is_file
                      else convert.lend(name, os.path.join(place, "source")))
            wanted = logits(source, IDS, place, EXACT)
            for form, target in (("gguf", "a.gguf"), ("hf", "b")):
                target = os.path.join(place, target)
                to(form, source, target, "--type", "f32")
                expect_close(logits(target, IDS, place, EXACT), wanted, 1e-5, f"{name} as {form}")
            kept = os.path.join(place, "kept.gguf")
            to("gguf", source, kept)
            expect_close(logits(kept, IDS, place, EXACT), wanted, 1e-5, f"{name} as gguf, types as they are")


def gguf_as_others_write_it():
    """Names, order of rows and settings are those of llama.cpp's converter, as convert.py does it."""
    for name in ("llama", "mixtral"):
        with tempfile.TemporaryDirectory() as place:
            source = convert.lend(name, os.path.join(place, "source"))
            file = os.path.join(place, "m.gguf")
            to("gguf", source, file, "--type", "f32")
            with open(os.path.join(source, "config.json")) as json_file:
                config = json.load(json_file)
            reader = gguf.GGUFReader(file)
            heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
            tensors = {t.name: np.array(t.data).reshape(t.shape[::-1]) for t in reader.tensors}
            for key, values in convert.read_safetensors(os.path.join(source, "model.safetensors")).items():
                if ".self_attn.q_proj." not in key and ".self_attn.k_proj." not in key:
                    continue
                which = key.split("self_attn.")[1][0]
                n = heads[which]
                wanted = values.reshape(n, 2, values.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(values.shape)
                got = tensors[f"blk.{key.split('.')[2]}.attn_{which}.weight"]
                expect(np.array_equal(got, wanted), f"{name}: {key} is in another order")
            if name == "mixtral":
                shape = (config["num_local_experts"], config["intermediate_size"], config["hidden_size"])
                expect(tensors["blk.0.ffn_gate_exps.weight"].shape == shape, "experts are one tensor")
            fields = {key: field.contents() for key, field in reader.fields.items()}
            for key, value in {"general.architecture": "llama", "general.file_type": 0,
                               "llama.block_count": config["num_hidden_layers"],
                               "llama.attention.head_count_kv": config["num_key_value_heads"],
                               "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2"}.items():
                expect(fields[key] == value, f"{name}: {key} is {fields[key]}, not {value}")
            expect(len(fields["tokenizer.ggml.tokens"]) == config["vocab_size"], "a token for each row")


def quantized():
    """Matrices have the bits of the gguf package; rows that blocks do not divide become what is said."""
    hidden, width = 256, 288
    config = dict(model_type="llama", num_hidden_layers=1, hidden_size=hidden, num_attention_heads=4,
                  num_key_value_heads=2, intermediate_size=width, vocab_size=307, max_position_embeddings=128,
                  rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, hidden_act="silu")
    random = np.random.default_rng(1)
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": (307, hidden), "lm_head.weight": (307, hidden),
              "model.norm.weight": (hidden,), layer + "input_layernorm.weight": (hidden,),
              layer + "post_attention_layernorm.weight": (hidden,), layer + "self_attn.q_proj.weight": (256, hidden),
              layer + "self_attn.k_proj.weight": (128, hidden), layer + "self_attn.v_proj.weight": (128, hidden),
              layer + "self_attn.o_proj.weight": (hidden, 256), layer + "mlp.gate_proj.weight": (width, hidden),
              layer + "mlp.up_proj.weight": (width, hidden), layer + "mlp.down_proj.weight": (hidden, width)}
    tensors = {name: (0.1 * random.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as place:
        source = os.path.join(place, "source")
        os.mkdir(source)
        convert.write_safetensors(os.path.join(source, "model.safetensors"), tensors)
        with open(os.path.join(source, "config.json"), "w") as file:
            json.dump(config, file)
        shutil.copy(os.path.join(TINY, "tokenizer.json"), source)
        for kind in BLOCKS + ["q4_k", "q6_k", "f16", "bf16"]:
            file = os.path.join(place, kind + ".gguf")
            said = to("gguf", source, file, "--type", kind)
            falls = {"q4_k": "q5_0", "q6_k": "q8_0"}.get(kind)
            expect((f"become {falls}" in said) == (falls is not None), f"{kind}: {said}")
            found = {t.name: t for t in gguf.GGUFReader(file).tensors}
            for theirs, ours in (("ffn_down", "mlp.down_proj"), ("ffn_up", "mlp.up_proj"),
                                 ("attn_v", "self_attn.v_proj")):
                tensor = found[f"blk.0.{theirs}.weight"]
                wanted = falls if falls and theirs == "ffn_down" else kind
                expect(tensor.tensor_type.name.lower() == wanted, f"{kind}: {theirs} is {tensor.tensor_type.name}")
                values = tensors[f"{layer}{ours}.weight"]
                if wanted in ("q4_k", "q6_k"):
                    back = gguf.dequantize(tensor.data, tensor.tensor_type)
                    error = float(np.sqrt(np.mean((back - values) ** 2)) / 0.1)
                    print(f"{kind}, {theirs}: relative error {error:.4f}")
                    expect(error < (0.073 if kind == "q4_k" else 0.018), f"{kind}: {error}")
                else:
                    packed = gguf.quantize(values, tensor.tensor_type)
                    expect(np.array_equal(tensor.data.view(np.uint8), packed.view(np.uint8)),
                           f"{kind}: {theirs} has other bits than gguf.quantize")
            expect(found["output_norm.weight"].tensor_type.name == "F32", "norms are float32")
            reference = logits(source, IDS[:20], place, EXACT)
            got = logits(file, IDS[:20], place, EXACT)
            bound = {"f16": 2e-3, "bf16": 2e-2}.get(kind, 0.5)
            expect_close(got, reference, bound * max(1, np.abs(reference).max()), f"{kind} logits")


def quantized_experts():
    """The experts of a layer are one tensor, each in turn; routers and norms stay float32."""
    with open(os.path.join(DATA, "tiny", "mixtral", "config.json")) as file:
        config = json.load(file)
    config.update(hidden_size=64, head_dim=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
                  num_hidden_layers=1)
    n, hidden, width = config["num_local_experts"], 64, 96
    layer, random = "model.layers.0.", np.random.default_rng(2)
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,),
              "lm_head.weight": (config["vocab_size"], hidden), layer + "input_layernorm.weight": (hidden,),
              layer + "post_attention_layernorm.weight": (hidden,), layer + "self_attn.q_proj.weight": (64, hidden),
              layer + "self_attn.k_proj.weight": (32, hidden), layer + "self_attn.v_proj.weight": (32, hidden),
              layer + "self_attn.o_proj.weight": (hidden, 64), layer + "block_sparse_moe.gate.weight": (n, hidden)}
    for expert in range(n):
        for name, shape in (("w1", (width, hidden)), ("w2", (hidden, width)), ("w3", (width, hidden))):
            shapes[f"{layer}block_sparse_moe.experts.{expert}.{name}.weight"] = shape
    tensors = {name: (0.2 * random.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as place:
        source, file = os.path.join(place, "source"), os.path.join(place, "m.gguf")
        os.mkdir(source)
        convert.write_folder(source, config, tensors, os.path.join(TINY, "tokenizer.json"))
        to("gguf", source, file, "--type", "q8_0")
        found = {t.name: t for t in gguf.GGUFReader(file).tensors}
        for theirs, ours in (("ffn_gate_exps", "w1"), ("ffn_down_exps", "w2"), ("ffn_up_exps", "w3")):
            tensor = found[f"blk.0.{theirs}.weight"]
            values = np.stack([tensors[f"{layer}block_sparse_moe.experts.{e}.{ours}.weight"] for e in range(n)])
            packed = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            expect(np.array_equal(tensor.data.reshape(packed.shape), packed), f"{theirs} has other bits")
        expect(found["blk.0.ffn_gate_inp.weight"].tensor_type.name == "F32", "the router is float32")
        back, again = os.path.join(place, "back"), os.path.join(place, "again.gguf")
        to("hf", file, back)
        to("gguf", back, again, "--type", "q8_0")
        wanted = logits(file, IDS[:30], place, EXACT)
        expect_close(logits(back, IDS[:30], place, EXACT), wanted, 1e-5, "q8_0 as a folder")
        expect_close(wanted, logits(source, IDS[:30], place, EXACT), 0.1 * np.abs(wanted).max(), "q8_0 beside float32")
        for a, b in zip(gguf.GGUFReader(file).tensors, gguf.GGUFReader(again).tensors):
            expect(np.array_equal(a.data, b.data), f"{a.name}: packed again it is another")


def smollm2_folder():
    """SmolLM2 as a folder: the same text, ids and chats, by us and by the tokenizers package."""
    with tempfile.TemporaryDirectory() as place:
        folder, file = os.path.join(place, "folder"), os.path.join(place, "again.gguf")
        to("hf", smollm2(), folder)
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        with open(os.path.join(DATA, "real", "ppl_text.txt")) as text_file:
            texts = [text_file.read()]
        texts += ["<|im_start|>user\nHi  there, 1234 ünïcödé 東京 \U0001f600\n\n\t<|im_end|>", " a", "x" * 300,
                  "\r\n \n"]
        for text in texts:
            ours = json.loads(run(["tokenize", "--model", smollm2(), "--text", text]).stdout)
            expect(tokenizer.encode(text).ids == ours, f"tokenizers has other ids of {text[:40]!r}")
            expect(json.loads(run(["tokenize", "--model", folder, "--text", text]).stdout) == ours, "folder's ids")
        to("gguf", folder, file)
        for ask in (["--prompt", "The capital of France is"], ["--chat", "--prompt", "Why is the sky blue?"]):
            answers = [generate(model, ask + ["--max-tokens", "24"] + EXACT) for model in (smollm2(), folder, file)]
            for answer in answers[1:]:
                for key in ("prompt_tokens", "tokens"):
                    expect(answer[key] == answers[0][key], f"{ask}: {answer[key]}, not {answers[0][key]}")


def ids_of(model, texts, *flags):
    stdin = "".join(json.dumps(text) + "\n" for text in texts).encode()
    done = run(["tokenize", "--model", model, "--jsonl"] + list(flags), stdin=stdin)
    return [json.loads(line) for line in done.stdout.decode().strip().split("\n")]


def tokenizers():
    """Ids stay what they were through GGUF and back; what GGUF files cannot say is told, or refused."""
    # added tokens that look at what stands beside them, or at normalized text; spaces that a user defined; what
    # Hugging Face's Unigram takes for a word
    told = {"gpt2": ["<keep>"], "smollm": ["<keep>"], "qwen2": ["<w>", "e\u0301x"], "llama": ["<w>", "the cat"],
            "gemma": ["<w>", "  ", " \u2581", "\u2581 ", "\u2581\u2581"], "unigram_bytes": ["<w>", "<0x41>", "<s>", "</s>", "<unk>"]}
    for name in ("gpt2", "llama3", "smollm", "qwen2", "llama", "gemma", "unigram_bytes", "prefix", "splits", "metaspace"):
        data = os.path.join(DATA, "tokenizer", name)
        with open(os.path.join(data, "cases.jsonl")) as file:
            lines = [json.loads(line) for line in file]
        with tempfile.TemporaryDirectory() as place:
            source, back = os.path.join(place, "source"), os.path.join(place, "back")
            file = os.path.join(place, "m.gguf")
            shutil.copytree(TINY, source)
            shutil.copy(os.path.join(data, "tokenizer.json"), source)
            with open(os.path.join(source, "config.json")) as json_file:
                config = json.load(json_file)
            tensors = convert.read_safetensors(os.path.join(source, "model.safetensors"))
            for key in ("model.embed_tokens.weight", "lm_head.weight"):
                tensors[key] = np.resize(tensors[key], (1000, tensors[key].shape[1]))
            convert.write_safetensors(os.path.join(source, "model.safetensors"), tensors)
            with open(os.path.join(source, "config.json"), "w") as json_file:
                json.dump(dict(config, vocab_size=1000), json_file)
            if name in ("prefix", "splits", "metaspace"):
                one_line(["convert", source, "--to", "gguf", file], 1, ["tokenizer.json", "pre-tokenizer"])
                continue
            said, words = to("gguf", source, file), told.get(name, [])
            expect(("added tokens, the first <" in said) == (name in told), f"{name}: {said!r}")
            lines = [line for line in lines if not any(word in line["text"] for word in words)]
            texts = [line["text"] for line in lines]
            to("hf", file, back)
            tokenizer = Tokenizer.from_file(os.path.join(back, "tokenizer.json"))
            for model in (file, back):
                for flags, key in (([], "ids"), (["--no-special"], "ids_plain")):
                    for line, got in zip(lines, ids_of(model, texts, *flags), strict=True):
                        wanted = line.get(key, line["ids"])
                        expect(got == wanted, f"{name}, {flags}, {line['text']!r}: {got}, not {wanted}")
            for line in lines:
                got = tokenizer.encode(line["text"], add_special_tokens=False).ids
                expect(got == line["ids"], f"{name}: tokenizers has {got} for {line['text']!r}, not {line['ids']}")


def same_gguf():
    """GGUF to GGUF with the types kept: the same tensors to the byte, and all that was said of them."""
    with tempfile.TemporaryDirectory() as place:
        file = os.path.join(place, "same.gguf")
        to("gguf", smollm2(), file)
        a, b = gguf.GGUFReader(smollm2()), gguf.GGUFReader(file)
        wanted = {t.name: t for t in a.tensors}
        expect(set(wanted) == {t.name for t in b.tensors}, "other tensors")
        for tensor in b.tensors:
            other = wanted[tensor.name]
            expect(tensor.tensor_type == other.tensor_type and np.array_equal(tensor.data, other.data), tensor.name)
        for key, field in a.fields.items():
            if key.startswith(("tokenizer.", "llama.", "general.name")):
                expect(key in b.fields and b.fields[key].contents() == field.contents(), f"{key} changed")


def template_bos():
    """A GGUF file whose tokenizer puts BOS before a text: so does the folder's, and the file of that."""
    with tempfile.TemporaryDirectory() as place:
        source = os.path.join(VARIANTS, "gguf_f32_bias", "model.gguf")
        folder, file = os.path.join(place, "folder"), os.path.join(place, "again.gguf")
        to("hf", source, folder)
        to("gguf", folder, file)
        text = "Once upon a time"
        ids = [generate(m, ["--prompt", text, "--max-tokens", "1"])["prompt_tokens"] for m in (source, folder, file)]
        expect(ids[0][0] == 1 and ids[1] == ids[0] and ids[2] == ids[0], f"{ids}")
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        expect(tokenizer.encode(text).ids == ids[0], f"tokenizers: {tokenizer.encode(text).ids}, not {ids[0]}")


def change(source, place, changes):
    """A folder like another, with other settings; None takes one out."""
    folder = os.path.join(place, "changed")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    with open(os.path.join(source, "config.json")) as file:
        config = json.load(file)
    for path, value in changes.items():
        *groups, last = path.split(".")
        inner = config
        for group in groups:
            inner = inner[group]
        inner[last] = value
        if value is None:
            del inner[last]
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file)
    return folder


def unsaid():
    """What GGUF files have no words for is refused, and what they have words for comes back."""
    rope = "rope_parameters."
    cases = [(expert_families.lend, "deepseek_v3", {"rope_interleave": False}, "turns other pairs"),
             (expert_families.lend, "deepseek_v3", {rope + "attention_factor": 0.7}, "multiplies by something else"),
             (expert_families.lend, "deepseek_v3", {rope + "mscale": None, rope + "mscale_all_dim": None},
              "multiplies by something else"),
             (expert_families.lend, "gpt_oss", {rope + "truncate": True}, "ramp of whole dimensions"),
             (convert.lend, "rope_yarn", {rope + "truncate": False}, "truncate is false")]
    for lend, name, changes, words in cases:
        with tempfile.TemporaryDirectory() as place:
            changed = change(lend(name, os.path.join(place, "source")), place, changes)
            one_line(["convert", changed, "--to", "gguf", os.path.join(place, "m.gguf")], 1, [words])
    for period in (1, 3, 8):  # of layers without a window; 6 is what a file without the key means
        with tempfile.TemporaryDirectory() as place:
            source, file = families.lend("gemma3", os.path.join(place, "source")), os.path.join(place, "m.gguf")
            kinds = ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(7)]
            changed = change(source, place, {"layer_types": kinds})
            to("gguf", changed, file)
            wanted = logits(changed, IDS, place, EXACT)
            expect(np.abs(wanted - logits(source, IDS, place, EXACT)).max() > 0.1, "windows make no difference")
            expect_close(logits(file, IDS, place, EXACT), wanted, 1e-5, f"every {period}th layer without a window")
    with tempfile.TemporaryDirectory() as place:
        source, file = convert.lend("rope_linear", os.path.join(place, "source")), os.path.join(place, "m.gguf")
        to("gguf", source, file)
        with open(file, "rb") as whole:
            data = whole.read()
        expect(data.count(b"llama.rope.scaling.type") == 1, "a linear rope has no name")
        with open(file, "wb") as whole:  # a factor by itself, as old files have it
            whole.write(data.replace(b"llama.rope.scaling.type", b"llama.rope.scaling.what"))
        expect_close(logits(file, IDS, place, EXACT), logits(source, IDS, place, EXACT), 1e-5, "a factor without a name")
        with open(file, "wb") as whole:
            at = data.index(b"llama.embedding_length") + 22 + 4  # behind the name and its kind
            renamed = data.replace(b"llama.embedding_length", b"llama.attention.causal", 1)
            whole.write(renamed[:at] + bytes(4) + renamed[at + 4:])
        one_line(["generate", "--model", file, "--prompt", "a"], 1, ["attention.causal"])


def errors():
    with tempfile.TemporaryDirectory() as place:
        file, folder, full = (os.path.join(place, name) for name in ("there.gguf", "folder", "full"))
        to("gguf", TINY, file)
        os.mkdir(full)
        shutil.copy(file, full)
        one_line(["convert", TINY, "--to", "gguf", file], 2, ["there.gguf", "exists"])
        one_line(["convert", file, "--to", "hf", full], 2, ["full", "not empty"])
        one_line(["convert", file, "--to", "hf", file], 2, ["exists"])
        one_line(["convert", file, "--to", "hf", "/proc/no/folder"], 1, ["/proc/no/folder"])
        one_line(["convert", TINY, "--to", "gguf", "/proc/no.gguf"], 1, ["/proc/no.gguf"])
        one_line(["convert", os.path.join(place, "none"), "--to", "hf", folder], 1, ["none"])
        one_line(["convert", TINY, "--to", "hf", folder, "--type", "q8_0"], 2, ["q8_0", "bf16"])
        one_line(["convert", TINY, "--to", "gguf"], 2, ["convert MODEL --to hf FOLDER"])
        for args in (["--to", "hf", folder], ["--to", "gguf", os.path.join(place, "large.gguf")]):
            limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "bash"]
            one_line(["convert", TINY] + args, 1, ["File too large"], wrapper=limited)
        said = run(["convert", TINY, "--to", "gguf", os.path.join(place, "dry.gguf"), "--dry-run", "--type", "q4_0"])
        expect(b"dry.gguf" in said.stdout and b"q4_0" in said.stdout and b"f16" in said.stdout, str(said.stdout))
        expect(sorted(os.listdir(place)) == ["full", "there.gguf"], f"left behind: {os.listdir(place)}")
        broken = os.path.join(place, "broken")
        shutil.copytree(TINY, broken)
        path = os.path.join(broken, "model.safetensors")
        tensors = convert.read_safetensors(path)
        name = "model.layers.1.mlp.up_proj.weight"
        tensors[name] = tensors[name].copy()
        tensors[name][3, 5] = 1e6
        convert.write_safetensors(path, tensors)
        one_line(["convert", broken, "--to", "gguf", folder, "--type", "f16"], 1, ["blk.1.ffn_up", "row 3", "1e+06"])
        del tensors[name]
        convert.write_safetensors(path, tensors)
        one_line(["convert", broken, "--to", "gguf", folder], 1, [name])
        expect(not os.path.exists(folder), "a file was left behind")


main({"there_and_back": there_and_back, "same_logits": same_logits, "gguf_as_others_write_it": gguf_as_others_write_it,
      "quantized": quantized, "quantized_experts": quantized_experts,
      "smollm2_folder": smollm2_folder, "tokenizers": tokenizers, "same_gguf": same_gguf, "template_bos": template_bos,
      "unsaid": unsaid, "errors": errors})
