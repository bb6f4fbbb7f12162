#!/usr/bin/env python3
"""Make data/dequant: random blocks of each type, what the gguf package decodes them to, and what it encodes.

pip install gguf==0.19.0 numpy==2.4.6; run without arguments. <type>.blocks holds raw blocks,
<type>.f32 as many little-endian floats as they decode to,
types.txt the number of each type and the elements and bytes of its blocks. <type>.packed are the blocks that it makes
of the floats in values; types that it cannot encode have none. Bytes are random, so every value of every
field occurs; scales are finite halves of all sizes, zeros, subnormals and the largest among them.
"""
import pathlib

import gguf
import numpy as np

# type: blocks, byte offsets of the halves that are scales
TYPES = {
    "F32": (512, []),
    "F16": (2048, []),
    "BF16": (2048, []),
    "Q8_0": (48, [0]),
    "Q4_0": (48, [0]),
    "Q4_1": (48, [0, 2]),
    "Q6_K": (16, [208]),
    "Q4_K": (16, [0, 2]),
    "Q5_0": (48, [0]),
    "Q5_1": (48, [0, 2]),
    "MXFP4": (48, []),
    "Q5_K": (16, [0, 2]),
    "Q2_K": (16, [80, 82]),
    "Q3_K": (16, [108]),
    "IQ4_NL": (48, [0]),
    "IQ4_XS": (16, [0]),
}
EXTREMES = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00], np.uint16)
FOLDER = pathlib.Path(__file__).parent / "data" / "dequant"


def make(name, n_blocks, scales, random):
    quant = gguf.GGMLQuantizationType[name]
    n_bytes = gguf.GGML_QUANT_SIZES[quant][1]
    blocks = random.integers(0, 256, (n_blocks, n_bytes), np.uint8)
    for i, at in enumerate(scales):
        halves = random.integers(0, 0x7C00, n_blocks, np.uint16)
        halves |= random.integers(0, 2, n_blocks, np.uint16) << 15
        # shifted by one for the second scale: extremes meet ordinary ones, and each other
        halves[i : i + len(EXTREMES)] = EXTREMES
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(n_blocks, 2)
    if name in ("F32", "F16", "BF16"):  # a NaN has many encodings: leave their comparison to tests of conversions
        values = gguf.dequantize(blocks, quant).reshape(n_blocks)
        blocks = blocks[np.isfinite(values)]
    with np.errstate(over="ignore"):
        values = gguf.dequantize(blocks, quant).astype("<f4")
    (FOLDER / f"{name.lower()}.blocks").write_bytes(blocks.tobytes())
    (FOLDER / f"{name.lower()}.f32").write_bytes(values.tobytes())


def make_values():
    """Blocks of 32: of all sizes, some of one sign, equal, zero, on the grid or halfway between its points."""
    random = np.random.default_rng(100)
    values = random.standard_normal((64, 32)).astype(np.float32)
    values *= np.float32(10.0) ** random.uniform(-6, 3, (64, 1)).astype(np.float32)
    values[0] = 0
    values[1] = 0.375
    values[2] = -2.5
    values[3, 1:] = 0
    values[4] = np.arange(32) - 16
    values[5] = (np.arange(32) - 15.5) / 2
    values[6] = np.abs(values[6])
    values[7] = -np.abs(values[7])
    values[8] = np.linspace(0, 7.5, 32)
    values[9, 5] = -values[9, 20]
    values[10] = 1e-30 * random.standard_normal(32)
    values[11] = 127 * np.sign(values[11])
    values[12] = np.arange(32) + 0.5
    return values.astype("<f4")


def pack(name, values):
    quant = gguf.GGMLQuantizationType[name]
    if name == "F32":
        return
    try:
        with np.errstate(over="ignore"):
            packed = gguf.quantize(values.reshape(8, 256), quant)
    except NotImplementedError:
        return
    (FOLDER / f"{name.lower()}.packed").write_bytes(np.ascontiguousarray(packed).tobytes())


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed, (name, (n_blocks, scales)) in enumerate(TYPES.items()):
        make(name, n_blocks, scales, np.random.default_rng(seed))
    values = make_values()
    (FOLDER / "values").write_bytes(values.tobytes())
    for name in TYPES:
        pack(name, values)
    with open(FOLDER / "types.txt", "w") as types:
        for name in TYPES:
            quant = gguf.GGMLQuantizationType[name]
            print(name.lower(), quant.value, *gguf.GGML_QUANT_SIZES[quant], file=types)


main()
