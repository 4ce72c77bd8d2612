"""Makes the tiny checkpoints of this folder and, beside each, what Hugging Face transformers computes with it.

    python data/tiny/make.py            # torch, transformers, safetensors, gguf, numpy

Every case is a random model of one family in one of the ways in which such models are stored. `expected.safetensors`
holds two sequences (`tokens` [2, T]) and, in float32,

- `hf/logits`, `hf/<intervention>/logits` [2, T, V]: transformers, eager attention, float32
- `hf/blocks.<i>.resid_pre|attn_out|mlp_out` [2, T, d], `hf/blocks.<i>.z` [2, T, heads * d_head]: read by hooks on
  its modules, no intervention
- `exact/…/logits`: the same from reference.py, computed in float64

Means are those over the tokens of both sequences, without intervention.

The script ends with an error where the two differ by 1e-4 or more. Random weights are wider than a trainer's would be,
gains and biases too, so that a mistake in any of them shows.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from reference import Model

HERE = Path(__file__).parent
T, VOCAB = 16, 64
INTERVENTIONS = (
    "attn.identity@1",
    "attn.identity@all",
    "attn.zero@0",
    "mlp.zero@1",
    "attn.identity@1:h1",
    "attn.zero@1:h0",
    "attn.mean@1",
    "attn.mean@1:h1",
)
TOKENS = dict(bos_token_id=1, eos_token_id=2)


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith("bias"):
                p.copy_(0.25 * noise)
            elif p.dim() == 1:
                p.copy_(1 + 0.3 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                p.copy_(0.5 * noise)
            elif "attention.q_proj" in name or "attention.k_proj" in name:
                # GPT-Neo does not scale scores; wider ones would make a softmax that float32 cannot follow.
                p.copy_(0.15 * noise)
            else:
                p.copy_(0.25 * noise)


def modules(model):
    """Blocks as (block, attention, mlp's last module)."""
    base = model.base_model
    if hasattr(base, "decoder"):
        return [(b, b.self_attn, b.fc2) for b in base.decoder.layers]
    blocks = base.h if hasattr(base, "h") else base.layers
    return [
        (b, getattr(b, "self_attn", None) or getattr(b, "attention", None) or b.attn, b.mlp) for b in blocks
    ]


@dataclass
class Change:
    """What an intervention does, block by block."""

    #: Heads whose attention weights are the identity.
    identity: dict = field(default_factory=dict)
    #: {head: row in the place of its weighted values}
    heads: dict = field(default_factory=dict)
    #: Row in the place of the attention module's output.
    attn: dict = field(default_factory=dict)
    mlp_zero: tuple = ()


def parse(text, n_heads, plain):
    """`plain`: what the blocks showed without intervention, [(input, attn_out, mlp_out, z)]."""
    if text is None:
        return Change()
    name, place = text.split("@")
    block, _, head = place.partition(":h")
    blocks = range(len(plain)) if block == "all" else [int(block)]
    heads = [int(head)] if head else range(n_heads)
    if name == "attn.identity":
        return Change(identity={b: list(heads) for b in blocks})
    if name == "mlp.zero":
        return Change(mlp_zero=tuple(blocks))
    share = 1 if name == "attn.mean" else 0
    mean = lambda values: share * values.reshape(-1, values.shape[-1]).mean(0)
    if not head:
        return Change(attn={b: mean(plain[b][1]) for b in blocks})
    rows = {b: mean(plain[b][3]).reshape(n_heads, -1) for b in blocks}
    return Change(heads={b: {h: rows[b][h] for h in heads} for b in blocks})


def eager(model, identity):
    """Replaces the family's eager attention by one whose weights are the identity in the given heads."""
    home = __import__(type(model).__module__, fromlist=["_"])
    if hasattr(home, "GPTNeoSelfAttention"):
        owner, name = home.GPTNeoSelfAttention, "_attn"
    else:
        owner, name = home, "eager_attention_forward"
    original = getattr(owner, name)

    def patched(module, query, key, value, *args, **kwargs):
        out, weights = original(module, query, key, value, *args, **kwargs)
        block = getattr(module, "layer_idx", None)
        block = module.layer_id if block is None else block
        if block in identity:
            weights = weights.clone()
            weights[:, identity[block]] = torch.eye(weights.shape[-1])
            values = value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)
            out = weights @ values
            out = out if name == "_attn" else out.transpose(1, 2).contiguous()
        return out, weights

    setattr(owner, name, patched)
    return lambda: setattr(owner, name, original)


def projection(attn):
    """The linear layer after the heads."""
    names = ("dense", "out_proj", "o_proj", "c_proj")
    (found,) = (module for name, module in attn.named_modules() if name.split(".")[-1] in names)
    return found


def run(model, tokens, change):
    """Logits and, per block, (input, attention's output, mlp's output, z) as transformers computes them."""
    blocks = modules(model)
    n_heads = getattr(model.config, "num_attention_heads")
    seen, handles = [[None] * 4 for _ in blocks], []
    for i, (block, attn, mlp) in enumerate(blocks):

        def before(module, args, kwargs, i=i):
            seen[i][0] = (args[0] if args else kwargs["hidden_states"]).clone()

        def after_attn(module, args, out, i=i):
            first = out[0] if isinstance(out, tuple) else out
            if i in change.attn:
                first = torch.as_tensor(change.attn[i], dtype=first.dtype).expand_as(first)
            seen[i][1] = first.clone()
            return (first, *out[1:]) if isinstance(out, tuple) else first

        def after_mlp(module, args, out, i=i):
            out = torch.zeros_like(out) if i in change.mlp_zero else out
            seen[i][2] = out.reshape(*tokens.shape, -1).clone()
            return out

        def before_projection(module, args, i=i):
            z = args[0].clone()
            by_head = z.view(*tokens.shape, n_heads, -1)
            for head, row in change.heads.get(i, {}).items():
                by_head[:, :, head] = torch.as_tensor(row, dtype=z.dtype)
            seen[i][3] = z.clone()
            return (z, *args[1:])

        handles.append(block.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(projection(attn).register_forward_pre_hook(before_projection))
        handles.append(attn.register_forward_hook(after_attn))
        handles.append(mlp.register_forward_hook(after_mlp))
    restore = eager(model, change.identity)
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
    restore()
    for handle in handles:
        handle.remove()
    return logits, seen


def expect(folder, model, exact):
    """Writes expected.safetensors; both sides must agree."""
    generator = torch.Generator().manual_seed(len(folder.name))
    tokens = torch.randint(0, VOCAB, (2, T), generator=generator)
    out, worst = {"tokens": tokens.to(torch.int32)}, 0.0
    n_heads = model.config.num_attention_heads
    theirs, mine = None, None
    for intervention in (None, *INTERVENTIONS):
        logits, seen = run(model, tokens, parse(intervention, n_heads, theirs))
        key = "" if intervention is None else f"{intervention}/"
        change = parse(intervention, n_heads, mine)
        ours = [exact(row, change) for row in tokens.tolist()]
        truth = np.stack([one[0] for one in ours])
        worst = max(worst, np.abs(truth - logits.numpy()).max())
        out[f"hf/{key}logits"] = logits
        out[f"exact/{key}logits"] = torch.tensor(truth, dtype=torch.float32)
        if intervention is None:
            plain, theirs = truth, [[part.numpy() for part in block] for block in seen]
            mine = [[np.stack(parts) for parts in zip(*block)] for block in zip(*(one[1] for one in ours))]
        else:
            assert np.abs(truth - plain).max() > 1e-2, f"{folder.name}: {intervention} changes nothing"
        for i, four in enumerate(seen):
            for j, name in enumerate(("resid_pre", "attn_out", "mlp_out", "z")):
                truth = np.stack([one[1][i][j] for one in ours])
                worst = max(worst, np.abs(truth - four[j].numpy()).max())
                if intervention is None:
                    out[f"hf/blocks.{i}.{name}"] = four[j]
    assert worst < 1e-4, f"{folder.name}: transformers and reference.py differ by {worst}"
    save_file({name: value.contiguous() for name, value in out.items()}, folder / "expected.safetensors")
    size = sum(f.stat().st_size for f in folder.iterdir()) / 1024
    print(f"{folder.name:24} largest difference {worst:.1e}, logits up to {np.abs(plain).max():.1f}, {size:.0f} KiB")


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def build(name, config, dtype=torch.float32):
    """A random model whose weights are exact in `dtype`, in float32."""
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).eval()
    randomise(model, sum(map(ord, name)))
    return model.to(dtype).float()


def tidy(folder, **changes):
    """The configuration without what only the maker's library cares for."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key in ("architectures", "transformers_version"):
        config.pop(key, None)
    for key, value in changes.items():
        config.pop(key, None) if value is None else config.__setitem__(key, value)
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / "generation_config.json").unlink(missing_ok=True)


def again(folder):
    """The model as transformers loads it from the folder, in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def exact_of(model):
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    return Model(model.config.to_dict(), state)


def case(name, config, dtype=torch.float32, shard="1GB"):
    folder = fresh(name)
    model = build(name, config, dtype)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    tidy(folder)
    model = again(folder)
    expect(folder, model, exact_of(model))


def old_neox(name, config):
    """As published before 2023: old spelling of the rotary, a pickled state dict with masks and frequencies."""
    folder = fresh(name)
    model = build(name, config)
    config.save_pretrained(folder)
    rope = config.rope_parameters
    tidy(
        folder,
        rope_parameters=None,
        rotary_pct=rope["partial_rotary_factor"],
        rotary_emb_base=rope["rope_theta"],
    )
    state = dict(model.state_dict())
    for i in range(config.num_hidden_layers):
        p = f"gpt_neox.layers.{i}.attention."
        size = config.max_position_embeddings
        state[p + "bias"] = torch.tril(torch.ones(size, size, dtype=torch.uint8))[None, None]
        state[p + "masked_bias"] = torch.tensor(-1e9)
        state[p + "rotary_emb.inv_freq"] = torch.ones(2)
    torch.save(state, folder / "pytorch_model.bin")
    loaded = again(folder)
    assert loaded.config.rope_parameters["partial_rotary_factor"] == rope["partial_rotary_factor"]
    assert loaded.config.rope_parameters["rope_theta"] == rope["rope_theta"]
    expect(folder, loaded, exact_of(loaded))


def bare_gpt2(name, config):
    """As the first GPT-2 files: names without `transformer.`, causal masks among the tensors."""
    folder = fresh(name)
    model = build(name, config)
    model.save_pretrained(folder)
    tidy(folder)
    path = folder / "model.safetensors"
    state = {key.removeprefix("transformer."): value for key, value in load_file(path).items()}
    for i in range(config.n_layer):
        state[f"h.{i}.attn.bias"] = torch.tril(torch.ones(T, T))[None, None]
    save_file(state, path, metadata={"format": "pt"})
    loaded = again(folder)
    expect(folder, loaded, exact_of(loaded))


NAMES = {
    "embed_tokens": "token_embd", "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm",
    "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm", "ln_1": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "ln_2": "ffn_norm", "q_proj": "attn_q", "k_proj": "attn_k",
    "v_proj": "attn_v", "o_proj": "attn_output", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down", "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    theirs = next(theirs for ours, theirs in NAMES.items() if stem.endswith(ours))
    block = next((part for part in stem.split(".") if part.isdigit()), None)
    return f"{theirs}.{kind}" if block is None else f"blk.{block}.{theirs}.{kind}"


def pairs(weight, n_heads):
    """Rows from halves order into that of ggml's rotary, as llama.cpp's converter does for Llama."""
    shape = weight.shape
    return weight.reshape(n_heads, 2, shape[0] // n_heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def as_gguf(name, config, kind):
    """One GGUF file; what is computed with it is computed with the dequantised weights."""
    folder = fresh(name)
    model = build(name, config)
    family = config.model_type
    writer = gguf.GGUFWriter(folder / "model.gguf", family)
    heads, width = config.num_attention_heads, config.hidden_size
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(width)
    writer.add_head_count(heads)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    if family == "gpt2":
        writer.add_feed_forward_length(config.n_inner)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        head = getattr(config, "head_dim", None) or width // heads
        writer.add_rope_dimension_count(head)
        if head * heads != width:
            writer.add_key_length(head)
            writer.add_value_length(head)
        if config.rope_parameters.get("rope_type") == "llama3":
            plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, head, 2) / head)
            factors = plain / model.model.rotary_emb.inv_freq
            writer.add_tensor("rope_freqs.weight", factors.numpy().astype(np.float32))
    state = dict(model.state_dict())
    if config.tie_word_embeddings:
        state.pop("lm_head.weight")
    dequantised = {}
    for key, value in state.items():
        data = value.numpy()
        conv = family == "gpt2" and key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        if conv:
            data = np.ascontiguousarray(data.T)
        n_rows = {"q_proj": heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
        moved = family == "llama" and next((n for part, n in n_rows.items() if part in key), None)
        if moved:
            data = np.ascontiguousarray(pairs(data, moved))
        quantised = kind if data.ndim == 2 else gguf.GGMLQuantizationType.F32
        packed = gguf.quants.quantize(data, quantised)
        writer.add_tensor(gguf_name(key), packed, raw_dtype=quantised)
        opened = gguf.quants.dequantize(packed, quantised).astype(np.float32).reshape(data.shape)
        if moved:
            n = moved
            opened = opened.reshape(n, data.shape[0] // n // 2, 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
        dequantised[key] = torch.tensor(np.ascontiguousarray(opened.T if conv else opened))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.load_state_dict(dequantised, strict=False)
    model.tie_weights()
    expect(folder, model, exact_of(model))


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    tf, q = transformers, gguf.GGMLQuantizationType
    common = dict(vocab_size=VOCAB, max_position_embeddings=32, **TOKENS)

    def neox(blocks=3, **more):
        return tf.GPTNeoXConfig(
            hidden_size=32, num_hidden_layers=blocks, num_attention_heads=2, intermediate_size=72,
            layer_norm_eps=1e-3, **{**common, **more},
        )  # fmt: skip

    def gated(cls, blocks=3, heads=4, kv=2, **more):
        return cls(
            hidden_size=32, num_hidden_layers=blocks, num_attention_heads=heads, num_key_value_heads=kv,
            intermediate_size=64, rms_norm_eps=1e-3, **{**common, **more},
        )  # fmt: skip

    def rope(theta, share=None, **more):
        share = {} if share is None else {"partial_rotary_factor": share}
        return {"rope_theta": theta, "rope_type": "default", **share, **more}

    llama3 = dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16,
    )  # fmt: skip

    case("neox-parallel", neox(rope_parameters=rope(10_000.0, 0.25)))
    case("neox-sequential", neox(rope_parameters=rope(10_000.0, 0.5), use_parallel_residual=False))
    case(
        "neox-sequential-tied",
        neox(
            rope_parameters=rope(500.0, 1.0), use_parallel_residual=False, tie_word_embeddings=True,
            hidden_act="gelu_new",
        ),
        torch.float16,
    )  # fmt: skip
    old_neox("neox-old", neox(blocks=2, rope_parameters=rope(5_000.0, 0.25), max_position_embeddings=24))
    case(
        "neo-local",
        tf.GPTNeoConfig(
            hidden_size=32, num_layers=4, num_heads=2, intermediate_size=72, window_size=5,
            attention_types=[[["global", "local"], 2]], layer_norm_epsilon=1e-3, **common,
        ),
    )  # fmt: skip
    case("llama-gqa", gated(tf.LlamaConfig, head_dim=12, rope_parameters=rope(10_000.0)))
    case(
        "llama-scaled",
        gated(
            tf.LlamaConfig, heads=2, kv=1, attention_bias=True, tie_word_embeddings=True,
            rope_parameters=rope(500_000.0, **llama3),
        ),
        shard="60KB",
    )  # fmt: skip
    case("llama-linear", gated(tf.LlamaConfig, blocks=2, rope_parameters=rope(10_000.0, rope_type="linear", factor=4.0)))
    gpt2 = dict(vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_inner=72, layer_norm_epsilon=1e-3, **TOKENS)
    case("gpt2", tf.GPT2Config(n_positions=32, **gpt2))
    bare_gpt2("gpt2-bare", tf.GPT2Config(n_positions=T, **{**gpt2, "n_layer": 2}))
    opt = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_dim=72, pad_token_id=1, **common)
    case("opt", tf.OPTConfig(**opt))
    case("opt-post", tf.OPTConfig(do_layer_norm_before=False, word_embed_proj_dim=20, **opt))
    case("qwen2", gated(tf.Qwen2Config, rope_parameters=rope(1_000_000.0)), torch.bfloat16)
    case("qwen3", gated(tf.Qwen3Config, head_dim=16, rope_parameters=rope(1_000_000.0), tie_word_embeddings=True))
    as_gguf("gguf-llama", gated(tf.LlamaConfig, blocks=2, rope_parameters=rope(10_000.0, **llama3), tie_word_embeddings=True), q.F32)
    as_gguf("gguf-llama-q8", gated(tf.LlamaConfig, blocks=2, rope_parameters=rope(10_000.0)), q.Q8_0)
    as_gguf("gguf-gpt2", tf.GPT2Config(n_positions=32, **{**gpt2, "n_layer": 2}), q.F16)
    as_gguf("gguf-qwen2", gated(tf.Qwen2Config, blocks=2, rope_parameters=rope(10_000.0)), q.F16)
    as_gguf("gguf-qwen3", gated(tf.Qwen3Config, blocks=2, head_dim=16, rope_parameters=rope(10_000.0)), q.F16)


main()
