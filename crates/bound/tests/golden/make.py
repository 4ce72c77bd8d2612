"""Writes local.json: theorems A0 to A3 for a bypass of each block of three tiny checkpoints, in float64 by numpy
alone (transformers computes rotations, softmax and norms of some families in float32). Run from this folder:
python make.py
"""
import json
import math
import struct

import numpy as np


def tensors(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + size])
    out = {}
    for name, t in head.items():
        if name != "__metadata__":
            assert t["dtype"] == "F32", t
            a, b = t["data_offsets"]
            out[name] = np.frombuffer(raw[8 + size + a:8 + size + b], "<f4").reshape(t["shape"]).astype(float)
    return out


def layer_norm(x, w, b, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w + b


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def rotate(x, width, base):
    """[n, H, dh]; the first `width` coordinates, halves order."""
    half = width // 2
    angle = np.arange(len(x))[:, None] * base ** (-np.arange(half) * 2 / width)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:width]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., width:]], -1)


erf = np.vectorize(math.erf)
ACT = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def weights(q, k, scale, window):
    n = len(q)
    s = np.einsum("ihd,jhd->hij", q, k) * scale
    i, j = np.arange(n)[:, None], np.arange(n)[None]
    seen = (j <= i) & (j > i - window)
    s = np.where(seen, s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True), seen


def local(v, p, seen, wo):
    """v [n, H, dh], p [H, n, n], wo [d, H dh] -> per token A0 to A3."""
    n, heads, dh = v.shape
    rows = []
    for i in range(n):
        delta, a1, a2, a3 = np.zeros(len(wo)), 0.0, 0.0, 0.0
        for h in range(heads):
            w = wo[:, h * dh:(h + 1) * dh]
            part = w @ (v[i, h] - p[h, i] @ v[:, h])
            e = np.array([np.linalg.norm(w @ (v[j, h] - v[i, h])) for j in range(n)])
            delta += part
            a1 += np.linalg.norm(part)
            a2 += p[h, i] @ e
            a3 += (p[h, i].sum() - p[h, i, i]) * e[seen[i]].max()
        rows.append([np.linalg.norm(delta), a1, a2, a3])
    return rows


def neox(t, c, tokens):
    heads, n = c["num_attention_heads"], len(tokens)
    dh = c["hidden_size"] // heads
    rotary = c.get("rope_parameters") or {}
    share = rotary.get("partial_rotary_factor", c.get("rotary_pct"))
    base = rotary.get("rope_theta", c.get("rotary_emb_base"))
    x = t["gpt_neox.embed_in.weight"][tokens]
    for l in range(c["num_hidden_layers"]):
        g = lambda name: t[f"gpt_neox.layers.{l}.{name}"]
        norm = lambda name: layer_norm(x, g(name + ".weight"), g(name + ".bias"), c["layer_norm_eps"])
        qkv = norm("input_layernorm") @ g("attention.query_key_value.weight").T + g("attention.query_key_value.bias")
        qkv = qkv.reshape(n, heads, 3 * dh)
        q, k, v = qkv[..., :dh], qkv[..., dh:2 * dh], qkv[..., 2 * dh:]
        width = int(dh * share)
        p, seen = weights(rotate(q, width, base), rotate(k, width, base), dh ** -0.5, n)
        wo = g("attention.dense.weight")
        yield local(v, p, seen, wo)
        attn = np.einsum("hij,jhd->ihd", p, v).reshape(n, -1) @ wo.T + g("attention.dense.bias")
        assert c["use_parallel_residual"]
        hidden = norm("post_attention_layernorm") @ g("mlp.dense_h_to_4h.weight").T + g("mlp.dense_h_to_4h.bias")
        mlp = ACT[c["hidden_act"]](hidden) @ g("mlp.dense_4h_to_h.weight").T + g("mlp.dense_4h_to_h.bias")
        x = x + attn + mlp


def llama(t, c, tokens):
    heads, kv, n = c["num_attention_heads"], c["num_key_value_heads"], len(tokens)
    dh = c.get("head_dim") or c["hidden_size"] // heads
    base = (c.get("rope_parameters") or {}).get("rope_theta") or c["rope_theta"]
    x = t["model.embed_tokens.weight"][tokens]
    for l in range(c["num_hidden_layers"]):
        g = lambda name: t[f"model.layers.{l}.{name}.weight"]
        u = rms_norm(x, g("input_layernorm"), c["rms_norm_eps"])
        q, k, v = ((u @ g(f"self_attn.{m}_proj").T).reshape(n, -1, dh) for m in "qkv")
        k, v = np.repeat(rotate(k, dh, base), heads // kv, 1), np.repeat(v, heads // kv, 1)
        p, seen = weights(rotate(q, dh, base), k, dh ** -0.5, n)
        wo = g("self_attn.o_proj")
        yield local(v, p, seen, wo)
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, -1) @ wo.T
        u = rms_norm(x, g("post_attention_layernorm"), c["rms_norm_eps"])
        x = x + (ACT[c["hidden_act"]](u @ g("mlp.gate_proj").T) * (u @ g("mlp.up_proj").T)) @ g("mlp.down_proj").T


def neo(t, c, tokens):
    heads, n = c["num_heads"], len(tokens)
    dh = c["hidden_size"] // heads
    kinds = [kind for (pair, times) in c["attention_types"] for _ in range(times) for kind in pair]
    x = t["transformer.wte.weight"][tokens] + t["transformer.wpe.weight"][:n]
    for l in range(c["num_layers"]):
        g = lambda name: t[f"transformer.h.{l}.{name}"]
        norm = lambda name: layer_norm(x, g(name + ".weight"), g(name + ".bias"), c["layer_norm_epsilon"])
        u = norm("ln_1")
        q, k, v = ((u @ g(f"attn.attention.{m}_proj.weight").T).reshape(n, heads, dh) for m in "qkv")
        p, seen = weights(q, k, 1.0, c["window_size"] if kinds[l] == "local" else n)
        wo = g("attn.attention.out_proj.weight")
        yield local(v, p, seen, wo)
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, -1) @ wo.T + g("attn.attention.out_proj.bias")
        hidden = norm("ln_2") @ g("mlp.c_fc.weight").T + g("mlp.c_fc.bias")
        x = x + ACT[c["activation_function"]](hidden) @ g("mlp.c_proj.weight").T + g("mlp.c_proj.bias")


OUT = []
rng = np.random.default_rng(0)
for name, run in [("neox-parallel", neox), ("llama-gqa", llama), ("neo-local", neo)]:
    folder = f"../../../../data/tiny/{name}"
    config = json.load(open(f"{folder}/config.json"))
    tokens = [int(token) for token in rng.integers(0, config["vocab_size"], 9)]
    blocks = list(run(tensors(f"{folder}/model.safetensors"), config, tokens))
    OUT.append({"model": name, "tokens": tokens, "blocks": blocks})
json.dump(OUT, open("local.json", "w"))
