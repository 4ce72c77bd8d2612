"""Theorems A0 to A3 of a Llama-like GGUF model, computed by numpy alone in float64, beside what rote-bound wrote.
Needs numpy, gguf, pyarrow:

    python numpy_check.py MODEL.gguf BOUNDS REQUESTS

BOUNDS is the result of `rote-bound --model MODEL.gguf --requests REQUESTS --change attn.identity@each`. Every
request in it is compared at every block and position. A difference above 1e-6 of the value fails; of values below
0.1, above 1e-7: where nothing moves a bound is its allowance for rounding alone, some 1e-8, of which no share can be
asked.
"""
import sys

import gguf
import numpy as np
import pyarrow.dataset as dataset


def weights(path):
    reader = gguf.GGUFReader(path)
    field = lambda name: reader.fields[name].contents()
    config = {name: field(f"llama.{key}") for name, key in {
        "blocks": "block_count", "heads": "attention.head_count", "kv": "attention.head_count_kv",
        "eps": "attention.layer_norm_rms_epsilon", "base": "rope.freq_base"}.items()}
    read = lambda t: gguf.dequantize(t.data, t.tensor_type).astype(float)
    return config, {t.name: read(t) for t in reader.tensors}


def halves(w, heads):
    """Rows of queries or keys from pairs next to each other to halves."""
    return w.reshape(heads, -1, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain


def rotate(x, base):
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def local(config, t, tokens):
    """Per block, `[4, n]`: A0 to A3."""
    heads, kv, n = config["heads"], config["kv"], len(tokens)
    x = t["token_embd.weight"][tokens]
    for block in range(config["blocks"]):
        w = lambda name: t[f"blk.{block}.{name}.weight"]
        u = norm(x, w("attn_norm"), config["eps"])
        dh = w("attn_q").shape[0] // heads
        q = rotate((u @ halves(w("attn_q"), heads).T).reshape(n, heads, dh), config["base"])
        k = rotate((u @ halves(w("attn_k"), kv).T).reshape(n, kv, dh), config["base"])
        v = (u @ w("attn_v").T).reshape(n, kv, dh)
        k, v = (np.repeat(y, heads // kv, 1) for y in (k, v))
        s = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(dh)
        seen = np.tril(np.ones((n, n), bool))
        p = np.exp(s - np.where(seen, s, -np.inf).max(-1, keepdims=True)) * seen
        p /= p.sum(-1, keepdims=True)
        out = w("attn_output").reshape(-1, heads, dh)
        moved = np.einsum("ihd,ohd->hio", v - np.einsum("hij,jhd->ihd", p, v), out)
        bounds = np.zeros((4, n))
        bounds[0] = np.linalg.norm(moved.sum(0), axis=-1)
        bounds[1] = np.linalg.norm(moved, axis=-1).sum(0)
        for h in range(heads):
            of_values = v[:, h] @ out[:, h].T
            apart = np.linalg.norm(of_values[:, None] - of_values[None], axis=-1) * seen
            bounds[2] += (p[h] * apart).sum(-1)
            bounds[3] += (p[h] * ~np.eye(n, dtype=bool)).sum(-1) * apart.max(-1)
        yield bounds
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, -1) @ w("attn_output").T
        u = norm(x, w("ffn_norm"), config["eps"])
        a = u @ w("ffn_gate").T
        x = x + (a / (1 + np.exp(-a)) * (u @ w("ffn_up").T)) @ w("ffn_down").T


NAMES = ["local.exact", "local.heads", "local.spread", "local.farthest"]
model, bounds, requests = sys.argv[1:]
config, tensors = weights(model)
rows = dataset.dataset(f"{bounds}/bound", format="parquet").to_table(
    filter=dataset.field("bound").isin(NAMES)).to_pylist()
rows = {(r["request"], r["change"], r["position"], r["bound"]): r["value"] for r in rows}
worst, compared = 0.0, 0
for request in dataset.dataset(f"{requests}/request", format="parquet").to_table().to_pylist():
    own = [place for place in rows if place[0] == request["request"]]
    if not own:
        continue
    n = 1 + max(position for _, _, position, _ in own)
    tokens = (request["context"] + request["continuation"])[:n]
    for block, of_block in enumerate(local(config, tensors, tokens)):
        for name, values in zip(NAMES, of_block):
            for position, expected in enumerate(values):
                ours = rows[request["request"], f"attn.identity@{block}", position, name]
                # Where nothing moves (token 0, or tokens like it) the bound is its rounding alone, some 1e-8.
                difference = abs(ours - expected) / max(expected, 0.1)
                if difference > worst:
                    worst = difference
                    print(f"request {request['request']}, block {block}, position {position}, {name}: "
                          f"{ours} {expected}: {difference:.2e}")
                compared += 1
print(f"{compared} values, largest relative difference {worst:.2e}")
assert compared and worst < 1e-6
