#!/usr/bin/env python3
"""Make what torch makes of 8-bit floats: data/dequant/f8_e4m3*, and data/f8, a folder of tensors with scales.

pip install torch==2.15.0 safetensors==0.8.0; run without arguments. data/f8/model.safetensors has scales as DeepSeek's
files have them (weight_scale_inv, a float32 for 128 x 128), one for each row, and one for all; expected.f32 has the
values of its weights, one tensor after the other, as torch multiplies them out.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file

DATA = pathlib.Path(__file__).parent / "data"


def random_f8(shape, random):
    """Every value but NaN occurs."""
    bytes_ = torch.randint(0, 254, shape, dtype=torch.int32, generator=random)
    return (bytes_ + (bytes_ >= 127)).to(torch.uint8).view(torch.float8_e4m3fn)


def write(name, blocks, values):
    (DATA / "dequant" / f"{name}.blocks").write_bytes(blocks.contiguous().view(torch.uint8).numpy().tobytes())
    (DATA / "dequant" / f"{name}.f32").write_bytes(values.to(torch.float32).numpy().astype("<f4").tobytes())


def multiply(weight, scale):
    """As torch has it: the scale of the rows and columns that an element lies in."""
    rows = 1 if scale.shape[0] == weight.shape[0] else 128
    columns = 128 if scale.shape[1] > 1 else weight.shape[1]
    scales = scale.repeat_interleave(rows, 0)[: weight.shape[0]].repeat_interleave(columns, 1)
    return weight.to(torch.float32) * scales.to(torch.float32)


def main():
    random = torch.Generator().manual_seed(8)
    every = torch.arange(256, dtype=torch.int32)
    every = every[(every & 127) != 127].to(torch.uint8).view(torch.float8_e4m3fn)
    write("f8_e4m3", every, every)
    scales = torch.rand((24, 1), generator=random) * torch.logspace(-30, 3, 24)[:, None] + 1e-40
    values = random_f8((24, 128), random)
    blocks = torch.cat([scales.to(torch.float32).view(torch.uint8), values.view(torch.uint8)], 1)
    write("f8_e4m3_128", blocks, values.to(torch.float32) * scales)

    tensors = {
        "blocks.weight": random_f8((130, 256), random),
        "blocks.weight_scale_inv": torch.rand((2, 2), generator=random),
        "rows.weight": random_f8((5, 256), random),
        "rows.weight_scale": torch.rand((5, 1), generator=random).to(torch.bfloat16),
        "one.weight": random_f8((3, 128), random),
        "one.weight_scale": torch.rand((), generator=random),
    }
    (DATA / "f8").mkdir(exist_ok=True)
    save_file(tensors, DATA / "f8" / "model.safetensors")
    (DATA / "f8" / "config.json").write_text(json.dumps({"model_type": "llama"}) + "\n")
    expected = [
        multiply(tensors["blocks.weight"], tensors["blocks.weight_scale_inv"]),
        multiply(tensors["rows.weight"], tensors["rows.weight_scale"]),
        multiply(tensors["one.weight"], tensors["one.weight_scale"].reshape(1, 1)),
    ]
    (DATA / "f8" / "expected.f32").write_bytes(b"".join(e.numpy().astype("<f4").tobytes() for e in expected))


main()
