"""Families with experts, against transformers (data/experts, made by make_experts.py): logits in the forms of their
files and in splits, gradients of a first batch on layouts of training."""
import json
import os
import shutil
import tempfile

import gguf
import numpy as np

import convert
from harness import DATA, EXACT, TINY, expect, expect_close, logits, main, one_line, run
from train import expect_gradients, options

EXPERTS = os.path.join(DATA, "experts")
TOKENIZER = os.path.join(TINY, "tokenizer.json")
SPLITS = [(1, []), (2, ["--ep", "2"]), (3, ["--tp", "2,1", "--pp", "2"]), (3, ["--tp", "3", "--expert-split", "0,2,"])]
LAYOUTS = [(1, []), (2, ["--tp", "2"]), (2, ["--dp", "2", "--ep", "2"]), (3, ["--tp", "2,1", "--pp", "2"])]


def lend(name, folder):
    os.makedirs(folder, exist_ok=True)
    for file in ("config.json", "model.safetensors"):
        os.symlink(os.path.join(EXPERTS, name, file), os.path.join(folder, file))
    os.symlink(TOKENIZER, os.path.join(folder, "tokenizer.json"))
    return folder


def compare(model, name, folder, args, ranks=1, bound=2e-5):
    ids, reference = np.load(os.path.join(DATA, "tiny", "seq33.npy")), np.load(os.path.join(EXPERTS, name, "logits33.npy"))
    got = logits(model, ids, folder, args, ranks)
    expect_close(got[-len(reference):], reference, bound, f"{name}, {' '.join(args)}, {ranks} ranks")


def config_of(name):
    with open(os.path.join(EXPERTS, name, "config.json")) as file:
        return json.load(file)


def n_experts(config):
    return config.get("num_experts") or config.get("num_local_experts") or config["n_routed_experts"]


def splits_of(config):
    n = n_experts(config)
    return [(ranks, [f"{part}{n - 2}" if part.endswith(",") else part for part in split]) for ranks, split in SPLITS]


def fuse(tensors):
    """One tensor for all experts of a layer, gate above up, as modules of transformers 5 have them."""
    fused, stacks = {}, {}
    for name, values in tensors.items():
        layer, experts, rest = name.partition(".mlp.experts.")
        if experts:
            stacks.setdefault((layer, rest.split(".")[1]), {})[int(rest.split(".")[0])] = values
        else:
            fused[name] = values
    for layer in {layer for layer, _ in stacks}:
        gate, up, down = (np.stack([values for _, values in sorted(stacks[layer, part].items())])
                          for part in ("gate_proj", "up_proj", "down_proj"))
        fused[f"{layer}.mlp.experts.gate_up_proj"] = np.concatenate([gate, up], 1)
        fused[f"{layer}.mlp.experts.down_proj"] = down
    return fused


LATENT_SETTINGS = {
    "attention.head_count_kv": lambda config: 1,
    "attention.key_length": lambda config: config["kv_lora_rank"] + config["qk_rope_head_dim"],
    "attention.value_length": "kv_lora_rank", "attention.value_length_mla": "v_head_dim",
    "attention.key_length_mla": lambda config: config["qk_nope_head_dim"] + config["qk_rope_head_dim"],
    "rope.dimension_count": "qk_rope_head_dim",
    "attention.kv_lora_rank": "kv_lora_rank", "leading_dense_block_count": "first_k_dense_replace",
    "expert_shared_count": "n_shared_experts", "expert_feed_forward_length": "moe_intermediate_size",
    "expert_weights_scale": "routed_scaling_factor", "rope.scaling.type": lambda config: "yarn",
    "rope.scaling.factor": lambda config: config["rope_parameters"]["factor"],
    "rope.scaling.original_context_length": lambda config: config["rope_parameters"]["original_max_position_embeddings"],
    "rope.scaling.yarn_log_multiplier": lambda config: 0.1 * config["rope_parameters"]["mscale_all_dim"],
}
# As older files have them, in which keys and values of a head are one tensor's.
OLD_LATENT_SETTINGS = {
    "attention.head_count_kv": "num_key_value_heads", "attention.key_length": LATENT_SETTINGS["attention.key_length_mla"],
    "attention.value_length": "v_head_dim",
}
LATENT_NAMES = {
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
# In GGUF files: the architecture, further settings, further names.
GGUF = {
    "qwen2_moe": ("qwen2moe", {"expert_feed_forward_length": "moe_intermediate_size",
                               "expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
                  {"mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
                   "mlp.shared_expert.down_proj": "ffn_down_shexp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp"}),
    "qwen3_moe": ("qwen3moe", {"expert_feed_forward_length": "moe_intermediate_size",
                               "attention.key_length": "head_dim", "attention.value_length": "head_dim"},
                  {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}),
    "olmoe": ("olmoe", {}, {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}),
    "deepseek_v2": ("deepseek2", LATENT_SETTINGS, LATENT_NAMES),
    "deepseek_v3": ("deepseek2", dict(LATENT_SETTINGS, **{
        "attention.q_lora_rank": "q_lora_rank", "expert_group_count": "n_group",
        "expert_group_used_count": "topk_group", "expert_weights_norm": lambda config: int(config["norm_topk_prob"]),
        "expert_gating_func": lambda config: 2}), LATENT_NAMES),
}
SETTINGS = {"block_count": "num_hidden_layers", "embedding_length": "hidden_size", "vocab_size": "vocab_size",
            "context_length": "max_position_embeddings", "attention.head_count": "num_attention_heads",
            "attention.head_count_kv": "num_key_value_heads", "feed_forward_length": "intermediate_size",
            "attention.layer_norm_rms_epsilon": "rms_norm_eps", "expert_used_count": "num_experts_per_tok"}


def halves_of_heads(layer, config, values):
    """What makes keys of latents, each head's transposed, and what makes values."""
    heads = values.reshape(config["num_attention_heads"], -1, config["kv_lora_rank"])
    keys, values = np.split(heads, [config["qk_nope_head_dim"]], axis=1)
    return {f"blk.{layer}.attn_k_b.weight": np.ascontiguousarray(keys.swapaxes(1, 2)),
            f"blk.{layer}.attn_v_b.weight": np.ascontiguousarray(values)}


def to_gguf(config, tensors, path, family, kind, is_old=False):
    """As llama.cpp's converter writes it: rows of q and k stay as they are, experts lie in one tensor."""
    arch, settings, names = GGUF[family]
    if is_old:
        settings = dict({key: value for key, value in settings.items() if not key.endswith("_mla")}, **OLD_LATENT_SETTINGS)
    names = dict(convert.GGUF_NAMES, **names, **{"mlp.gate": "ffn_gate_inp"})
    metadata = {"general.architecture": arch, f"{arch}.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
                f"{arch}.expert_count": n_experts(config)}
    for theirs, ours in dict(SETTINGS, **settings).items():
        metadata[f"{arch}.{theirs}"] = ours(config) if callable(ours) else config[ours]
    metadata.update({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.merges": ["a b"],
                     "tokenizer.ggml.tokens": [f"<{i}>" for i in range(config["vocab_size"])],
                     "tokenizer.ggml.token_type": [1] * config["vocab_size"]})
    out = {}
    for name, values in fuse(tensors).items():
        if name.startswith("model.layers."):
            layer, part = name.removeprefix("model.layers.").split(".", 1)
            if part == "mlp.experts.gate_up_proj":
                gate, up = np.split(values, 2, axis=1)
                out[f"blk.{layer}.ffn_gate_exps.weight"], out[f"blk.{layer}.ffn_up_exps.weight"] = gate, up
                continue
            if part == "self_attn.kv_b_proj.weight" and not is_old:
                out.update(halves_of_heads(layer, config, values))
                continue
            if part == "mlp.gate.e_score_correction_bias":
                out[f"blk.{layer}.exp_probs_b.bias"] = values
                continue
            stem, ending = (part + ".weight").rsplit(".", 1) if part == "mlp.experts.down_proj" else part.rsplit(".", 1)
            stem = "ffn_down_exps" if stem == "mlp.experts.down_proj" else names[stem]
            out[f"blk.{layer}.{stem}.{ending}"] = values.reshape(-1) if values.shape[0] == 1 else values
        else:
            out[names[name.removesuffix(".weight")] + ".weight"] = values
    convert.write_gguf(path, metadata, out, kind)


FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def unpack(tensors):
    """Floats as transformers' modules have them in the place of 4-bit ones: (experts, columns, rows)."""
    out = {name: values for name, values in tensors.items() if not name.endswith(("_blocks", "_scales"))}
    for name, blocks in tensors.items():
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            scales = np.exp2(tensors[stem + "_scales"].astype(np.float32) - 127)
            values = FP4[np.stack([blocks & 15, blocks >> 4], -1)] * scales[..., None, None]
            out[stem] = values.reshape(*blocks.shape[:2], -1).transpose(0, 2, 1).copy()
    return out


def blocks_forms(name, config, folder):
    """4-bit floats as they are in a GGUF file, the same as float32; in a folder again; as floats of modules."""
    model = lend(name, os.path.join(folder, "lent"))
    plain = os.path.join(folder, "plain")
    os.mkdir(plain)
    convert.write_folder(plain, config, unpack(convert.read_safetensors(os.path.join(model, "model.safetensors"))),
                         TOKENIZER)
    for ranks, split in splits_of(config)[::3]:
        compare(plain, name, folder, EXACT + split, ranks)
    trained(name, plain, folder, LAYOUTS[3:])
    plain_back, again = os.path.join(folder, "plain.gguf"), os.path.join(folder, "again")
    run(["convert", plain, "--to", "gguf", "--type", "f32", plain_back])
    run(["convert", plain, "--to", "hf", again])
    for path in (plain_back, again):
        compare(path, name, folder, EXACT)
    for kind in ("f32", None):
        ours, back = os.path.join(folder, f"{kind}.gguf"), os.path.join(folder, f"back-{kind}")
        run(["convert", model, "--to", "gguf", ours] + (["--type", kind] if kind else []))
        run(["convert", ours, "--to", "hf", back])
        for path in (ours, back):
            compare(path, name, folder, EXACT)


def expect_same_files(ours, theirs, what):
    """What another program is to load is what its own converter writes."""
    ours, theirs = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    skipped = ("tokenizer.", "GGUF.")
    for key in theirs.fields:
        if not key.startswith(skipped):
            expect(key in ours.fields, f"{what} lacks {key}")
            got, wanted = ours.fields[key].contents(), theirs.fields[key].contents()
            same = got == wanted or (isinstance(wanted, float) and abs(got - wanted) < 1e-6)
            expect(same, f"{what}: {key} is {got}, not {wanted}")
    got, wanted = ({tensor.name: tensor.data for tensor in file.tensors} for file in (ours, theirs))
    expect(set(got) == set(wanted), f"{what}: {sorted(set(got) ^ set(wanted))} is in one of both alone")
    for tensor, values in wanted.items():
        expect(np.array_equal(got[tensor], values), f"{what}: {tensor} differs")


def latent_forms(name, config, tensors, folder):
    """Files of before and of today; ours is today's."""
    old, plain = (os.path.join(folder, file) for file in ("old.gguf", "plain.gguf"))
    to_gguf(config, tensors, old, name, "f32", is_old=True)
    compare(old, name, folder, EXACT)
    expect_same_files(os.path.join(folder, "ours.gguf"), os.path.join(folder, "theirs.gguf"), name)
    trained(name, os.path.join(folder, "theirs.gguf"), folder, LAYOUTS[1:2])
    run(["convert", old, "--to", "gguf", plain])
    expect_same_files(plain, os.path.join(folder, "theirs.gguf"), f"{name}, from an old file")
    latents_quantized(name, config, tensors, folder)
    latents_cached(name, config, folder)


def widened(config, tensors):
    """The same model with latent vectors and heads in whole blocks of quantized types."""
    rng, config = np.random.default_rng(5), dict(config, kv_lora_rank=32, qk_nope_head_dim=32, v_head_dim=32)
    heads, rotary = config["num_attention_heads"], config["qk_rope_head_dim"]
    rows = {"q_proj": heads * (32 + rotary), "q_b_proj": heads * (32 + rotary), "kv_a_proj_with_mqa": 32 + rotary,
            "kv_b_proj": heads * 64}
    columns = {"kv_b_proj": 32, "o_proj": heads * 32}
    wide = {}
    for name, values in tensors.items():
        part = name.split(".")[-2]
        shape = (rows.get(part, values.shape[0]), columns.get(part, values.shape[-1]))[:values.ndim]
        shape = (32,) if part == "kv_a_layernorm" else shape
        wide[name] = values if shape == values.shape else rng.normal(values.ndim == 1, 0.2, shape).astype(np.float32)
    return dict(config, qk_head_dim=32 + rotary), wide


def latents_quantized(name, config, tensors, folder):
    """Keys' matrices in blocks along what is summed over, or across it: as the values that they decode to."""
    config, tensors = widened(config, tensors)
    ids = np.load(os.path.join(DATA, "tiny", "seq33.npy"))
    for is_old in (True, False):
        blocks, values = os.path.join(folder, f"blocks{is_old}.gguf"), os.path.join(folder, f"values{is_old}.gguf")
        to_gguf(config, tensors, blocks, name, "q8_0", is_old)
        kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(blocks).tensors}
        expect(kinds["blk.1.attn_kv_b.weight" if is_old else "blk.1.attn_k_b.weight"] == "Q8_0", f"{kinds}")
        run(["convert", blocks, "--to", "gguf", "--type", "f32", values])
        wanted = logits(values, ids, folder, EXACT)
        expect_close(logits(blocks, ids, folder, EXACT), wanted, 2e-5, f"{name} in q8_0, {is_old}")
        expect_close(logits(blocks, ids, folder, ["--tp", "2"], 2), wanted, 0.1, f"{name} in q8_0, {is_old}, auto")


def latents_cached(name, config, folder):
    """A row of the latent vector and what rotates on every rank, whatever heads it has."""
    model = os.path.join(folder, "theirs.gguf")
    for ranks, split in ((1, []), (2, ["--tp", "2"]), (2, ["--tp", "2", "--compute", "f32"])):
        plan = json.loads(run(["plan", "--model", model, "--context", "128"] + split).stdout)
        element = 4 if "f32" in split else 2
        wanted = config["num_hidden_layers"] * 128 * (config["kv_lora_rank"] + config["qk_rope_head_dim"]) * element
        held = [rank["parts"]["kv cache"] for rank in plan["predicted"]["memory"]]
        expect(held == [wanted] * ranks, f"{name}, {split}: caches of {held} bytes, not {wanted}")


def forms(name, folder):
    """The same weights in the other forms of files, and converted there and back."""
    config = config_of(name)
    if name.startswith("gpt_oss"):
        blocks_forms(name, config, folder)
        return
    tensors = convert.read_safetensors(os.path.join(EXPERTS, name, "model.safetensors"))
    fused = os.path.join(folder, "fused")
    os.mkdir(fused)
    convert.write_folder(fused, config, fuse(tensors), TOKENIZER)
    compare(fused, name, folder, EXACT)
    if name not in GGUF:
        return
    theirs, ours, back = (os.path.join(folder, file) for file in ("theirs.gguf", "ours.gguf", "back"))
    to_gguf(config, tensors, theirs, name, "f32")
    run(["convert", fused, "--to", "gguf", "--type", "f32", ours])
    run(["convert", ours, "--to", "hf", back])
    for model in (theirs, ours, back):
        compare(model, name, folder, EXACT)
    if "kv_lora_rank" in config:
        latent_forms(name, config, tensors, folder)


def trained(name, model, folder, layouts=LAYOUTS):
    """Gradients of the first batch, by the names of Hugging Face folders."""
    for ranks, split in layouts:
        out, grads, what = os.path.join(folder, "out"), os.path.join(folder, "grads"), f"{name}, {' '.join(split)}"
        run(options(out, 1, model) + split + ["--save-grads", grads], ranks)
        expect_gradients(grads, 1e-5, what, os.path.join(EXPERTS, name))
        shutil.rmtree(out)


def family(name):
    with tempfile.TemporaryDirectory() as model, tempfile.TemporaryDirectory() as folder:
        lend(name, model)
        for ranks, split in splits_of(config_of(name)):
            compare(model, name, folder, EXACT + split, ranks)
        compare(model, name, folder, [], bound=0.1)
        forms(name, folder)
        trained(name, model, folder)


def bad_files():
    """Settings that make no sense, or say what is not known, are one line each."""
    cases = [("qwen2_moe", {"num_experts": 0, "num_local_experts": 0}, ["0 experts"]),
             ("qwen2_moe", {"decoder_sparse_step": 0}, ["decoder_sparse_step"]),
             ("qwen2_moe", {"decoder_sparse_step": 9}, ["none of its layers"]),
             ("qwen2_moe", {"shared_expert_intermediate_size": 35}, ["shared_expert", "(36, 48)"]),
             ("olmoe", {"clip_qkv": 3.0}, ["clip_qkv"]),
             ("gpt_oss", {"swiglu_alpha": 2.0}, ["swiglu_alpha"]),
             ("gpt_oss", {"layer_types": ["full_attention"]}, ["layer_types"]),
             ("deepseek_v2", {"norm_topk_prob": True}, ["normalised"]),
             ("deepseek_v2", {"topk_method": "noaux_tc"}, ["noaux_tc"]),
             ("deepseek_v2", {"kv_lora_rank": 0}, ["values of 12"]),
             ("deepseek_v2", {"v_head_dim": 17}, ["values of 17"]),
             ("deepseek_v2", {"first_k_dense_replace": 3}, ["no layer with experts"]),
             ("deepseek_v3", {"n_group": 3}, ["3"]), ("deepseek_v3", {"topk_group": 0}, ["0 of 4 groups"]),
             ("deepseek_v3", {"num_experts_per_tok": 5}, ["5 of 8 experts", "2 of 4 groups"]),
             ("deepseek_v3", {"routed_scaling_factor": -1.0}, ["-1"])]
    for name, change, words in cases:
        with tempfile.TemporaryDirectory() as folder:
            lend(name, folder)
            os.remove(os.path.join(folder, "config.json"))
            with open(os.path.join(folder, "config.json"), "w") as file:
                json.dump(dict(config_of(name), **change), file)
            one_line(["generate", "--model", folder, "--prompt", "a"], 1, words)


if __name__ == "__main__":
    main(dict({name: lambda name=name: family(name) for name in sorted(os.listdir(EXPERTS))}, bad_files=bad_files))
