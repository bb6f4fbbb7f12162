"""Encodings and forms of files that the references lack: held to the same values as float32, in one file."""
import json
import os
import struct
import tempfile

import gguf
import numpy as np

import convert
from harness import EXACT, TINY, expect, expect_close, logits, main, one_line, run

IDS = np.arange(3, 303, 7)
SHAPE = dict(hidden=256, ffn=256, heads=4, kv_heads=2, experts=3, used=3, layers=2)  # all used: none is chosen by a hair
# where a block has its halves, and how large they are for values below 1 / 8; an exponent of MXFP4
SCALES = {"Q5_K": ([0, 2], 1 / 16384), "Q2_K": ([80, 82], 1 / 360), "Q3_K": ([108], 1 / 1024),
          "IQ4_NL": ([0], 1 / 1024), "IQ4_XS": ([0], 1 / 32768), "MXFP4": ([], 124 - 4)}


def random_blocks(shape, kind, random):
    quant = gguf.GGMLQuantizationType[kind]
    elements, n_bytes = gguf.GGML_QUANT_SIZES[quant]
    blocks = random.integers(0, 256, (int(np.prod(shape)) // elements, n_bytes), np.uint8)
    places, size = SCALES[kind]
    for at in places:
        halves = (random.uniform(0.5, 1, len(blocks)) * size).astype(np.float16)
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(-1, 2)
    if kind == "MXFP4":
        blocks[:, 0] = size + random.integers(0, 2, len(blocks))
    return blocks.reshape(*shape[:-1], -1)


def rewrite(source, target, change, **options):
    """A GGUF file once more, by the gguf package. @param change  name, float32 -> data, its type or None"""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama", **options)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        data, kind = change(tensor.name, tensor.data)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types():
    """Weights of types that transformers does not write: their values are the gguf package's."""
    config, tensors = convert.random_mixtral(**SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        base, plain, packed = (os.path.join(folder, name + ".gguf") for name in ("base", "plain", "packed"))
        convert.mixtral_to_gguf(config, tensors, base, "f32")
        for kind in SCALES:
            quant, random, values = gguf.GGMLQuantizationType[kind], np.random.default_rng(1), {}

            def encode(name, data):
                if data.ndim < 2 or "ffn_gate_inp" in name:
                    return data, None
                blocks = random_blocks(data.shape, kind, random)
                values[name] = gguf.dequantize(blocks, quant)
                return blocks, quant

            rewrite(base, packed, encode)
            rewrite(base, plain, lambda name, data: (values.get(name, data), None))
            wanted = logits(plain, IDS, folder, EXACT)
            expect(wanted.std() > 0.02, f"{kind}: logits are all alike: {wanted.std()}")
            expect_close(logits(packed, IDS, folder, EXACT), wanted, 0, f"{kind}, exact")
            expect_close(logits(packed, IDS, folder, []), wanted, 0.1 * wanted.std(), f"{kind}, auto")


def f8_values(values):
    """By definition: a sign, four bits of exponent, three of mantissa."""
    exponent, mantissa = (values >> 3) & 15, (values & 7).astype(np.float32)
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent.astype(float) - 7))
    return np.where(values & 128, -size, size).astype(np.float32)


def write_tensors(path, tensors):
    """Safetensors of name -> (dtype, array)."""
    header, end = {}, 0
    for name, (dtype, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for _, v in tensors.values()))


def f8():
    """Scales for blocks of 128 x 128 in files of their own, as DeepSeek's are."""
    config, tensors = convert.random_mixtral(**SHAPE)
    random, scaled, scales = np.random.default_rng(2), {}, {}
    for name, values in tensors.items():
        if values.ndim < 2 or "embed" in name or "lm_head" in name or "moe.gate" in name:
            scaled[name] = ("F32", values)
            continue
        bytes_ = random.integers(0, 0x50, values.shape).astype(np.uint8)
        bytes_ |= random.integers(0, 2, values.shape).astype(np.uint8) << 7
        scale = random.uniform(0.01, 0.03, [n // 128 for n in values.shape]).astype(np.float32)
        scaled[name], scales[name + "_scale_inv"] = ("F8_E4M3", bytes_), ("F32", scale)
        tensors[name] = f8_values(bytes_) * scale.repeat(128, 0).repeat(128, 1)
    quantization = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    with tempfile.TemporaryDirectory() as place:
        plain, folder = os.path.join(place, "plain"), os.path.join(place, "f8")
        for path in (plain, folder):
            os.mkdir(path)
            convert.write_folder(path, config, tensors, os.path.join(TINY, "tokenizer.json"))
        os.remove(os.path.join(folder, "model.safetensors"))
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(dict(config, quantization_config=quantization), file)
        shards = {"model-00001-of-00002.safetensors": scaled, "model-00002-of-00002.safetensors": scales}
        for shard, held in shards.items():
            write_tensors(os.path.join(folder, shard), held)
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
            json.dump({"weight_map": {name: shard for shard, held in shards.items() for name in held}}, file)
        wanted = logits(plain, IDS, place, EXACT)
        expect(wanted.std() > 0.1, f"logits are all alike: {wanted.std()}")
        for ranks, split in ((1, []), (2, ["--tp", "2"]), (3, ["--ep", "3"])):
            same = logits(plain, IDS, place, EXACT + split, ranks)
            expect_close(logits(folder, IDS, place, EXACT + split, ranks), same, 0, f"exact, {split}")
        expect_close(logits(folder, IDS, place, []), wanted, 0.1 * wanted.std(), "auto")
        run(["convert", folder, "--to", "hf", os.path.join(place, "back")])
        expect_close(logits(os.path.join(place, "back"), IDS, place, EXACT), wanted, 0, "written as float32")
        with open(os.path.join(place, "back", "config.json")) as file:
            expect("quantization_config" not in json.load(file), "no type of the folder is quantized")
        run(["convert", folder, "--to", "gguf", os.path.join(place, "back.gguf")])
        back = {t.name: t for t in gguf.GGUFReader(os.path.join(place, "back.gguf")).tensors}
        expect(back["blk.0.attn_q.weight"].tensor_type == gguf.GGMLQuantizationType.BF16, "GGUF has no such type")
        expect_close(logits(os.path.join(place, "back.gguf"), IDS, place, EXACT), wanted, 0.05 * wanted.std(), "bf16")


def split():
    """Parts as the gguf package writes them."""
    config, tensors = convert.random_mixtral(**SHAPE)
    with tempfile.TemporaryDirectory() as place:
        parts, plain = os.path.join(place, "m"), os.path.join(place, "plain.gguf")
        convert.mixtral_to_gguf(config, tensors, plain, "f32")
        rewrite(plain, parts + ".gguf", lambda name, data: (data, None), split_max_tensors=7)
        names = sorted(name for name in os.listdir(place) if name.startswith("m-"))
        expect(len(names) > 2 and names[0] == f"m-00001-of-{len(names):05}.gguf", str(names))
        wanted = logits(plain, IDS, place, EXACT)
        for name in (names[0], names[-1]):
            expect_close(logits(os.path.join(place, name), IDS, place, EXACT), wanted, 0, name)
        os.remove(os.path.join(place, names[1]))
        one_line(["eval", "--model", os.path.join(place, names[0]), "--text", "/dev/null"], 1,
                 [names[1], f"part 2 of {len(names)}"])


main(dict(types=types, f8=f8, split=split))
