"""Theorems A0 to A4, H2 and H3 of a Llama-like GGUF model, computed by numpy alone in float64, beside what rote-bound
wrote. Needs numpy, gguf, pyarrow:

    python numpy_check.py MODEL.gguf BOUNDS REQUESTS

BOUNDS is the result of `rote-bound --model MODEL.gguf --requests REQUESTS --change attn.identity@each`. Every
request in it is compared at every block and position. What is compared is the value without its slack, which the
table tells; a difference above 1e-6 of numpy's value fails. Where nothing moves (token 0, or a token like all before
it) both are rounding, and must be below the slack.
"""
import functools
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


@functools.cache
def norms(block):
    """Of one block: |OV_h| per head, of all stacked, and stacked with weights (lemma L3)."""
    t = tensors
    w = lambda name: t[f"blk.{block}.{name}.weight"]
    heads, group = config["heads"], config["heads"] // config["kv"]
    value = (w("attn_v") * w("attn_norm")).reshape(config["kv"], -1, len(w("attn_norm")))
    out = w("attn_output").reshape(len(w("attn_norm")), heads, -1)
    parts = [(value[h // group], out[:, h]) for h in range(heads)]
    each = np.array([np.linalg.norm(np.linalg.qr(v.T)[1] @ np.linalg.qr(o)[1].T, 2) for v, o in parts])
    gram = lambda scale: sum(o @ (v @ v.T) @ o.T / s for (v, o), s in zip(parts, scale))
    stacked = lambda scale: np.linalg.eigvalsh(gram(scale))[-1] ** 0.5
    return each, stacked(np.ones(heads)), stacked(each)


def local(config, t, tokens):
    """Per block, `[6, n]`: A0 to A4, H2, H3."""
    heads, kv, n = config["heads"], config["kv"], len(tokens)
    subsets = (np.arange(1 << heads)[:, None] >> np.arange(heads) & 1).astype(float)
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
        mixed = np.einsum("hij,jhd->ihd", p, v)
        moved = np.einsum("ihd,ohd->hio", v - mixed, out)
        bounds = np.zeros((7, n))
        bounds[0] = np.linalg.norm(moved.sum(0), axis=-1)
        bounds[1] = np.linalg.norm(moved, axis=-1).sum(0)
        away = np.zeros((heads, n))
        for h in range(heads):
            of_values = v[:, h] @ out[:, h].T
            apart = np.linalg.norm(of_values[:, None] - of_values[None], axis=-1) * seen
            others = (p[h] * ~np.eye(n, dtype=bool)).sum(-1)
            bounds[2] += (p[h] * apart).sum(-1)
            bounds[3] += others * apart.max(-1)
            away[h] = 2 * np.sqrt(len(out)) * others
            far = np.linalg.norm(of_values[None] - (mixed[:, h] @ out[:, h].T)[:, None], axis=-1) * seen
            bounds[6] += far.max(-1)
        each, stacked, weighted = norms(block)
        bounds[4] = np.minimum.reduce([each @ away, stacked * np.linalg.norm(away, axis=0),
                                       weighted * np.sqrt(each @ away ** 2)])
        # Summed before the norm: a Gram matrix would lose half of the digits of what cancels.
        for i in range(n):
            bounds[5, i] = np.linalg.norm(subsets @ moved[:, i], axis=-1).max()
        yield bounds
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, -1) @ w("attn_output").T
        u = norm(x, w("ffn_norm"), config["eps"])
        a = u @ w("ffn_gate").T
        x = x + (a / (1 + np.exp(-a)) * (u @ w("ffn_up").T)) @ w("ffn_down").T


NAMES = ["local.exact", "local.heads", "local.spread", "local.farthest", "local.row", "local.subset", "local.anypattern"]
model, bounds, requests = sys.argv[1:]
config, tensors = weights(model)
rows = dataset.dataset(f"{bounds}/bound", format="parquet").to_table(
    filter=dataset.field("bound").isin(NAMES)).to_pylist()
rows = {(r["request"], r["change"], r["position"], r["bound"]): (r["value"], r["slack"]) for r in rows}
worst, least, widest, compared, nothing = 0.0, np.inf, 0.0, 0, 0
for request in dataset.dataset(f"{requests}/request", format="parquet").to_table().to_pylist():
    own = [place for place in rows if place[0] == request["request"]]
    if not own:
        continue
    n = 1 + max(position for _, _, position, _ in own)
    tokens = (request["context"] + request["continuation"])[:n]
    for block, of_block in enumerate(local(config, tensors, tokens)):
        for name, values in zip(NAMES, of_block):
            for position, expected in enumerate(values):
                value, slack = rows[request["request"], f"attn.identity@{block}", position, name]
                place = f"request {request['request']}, block {block}, position {position}, {name}: " \
                        f"{value} with slack {slack}, numpy {expected}"
                if expected <= slack:
                    assert value <= 2 * slack, place
                    nothing += 1
                    continue
                difference = abs(value - slack - expected) / expected
                if difference > worst:
                    worst = difference
                    print(f"{place}: {difference:.2e}")
                least, widest = min(least, expected), max(widest, slack / expected)
                compared += 1
print(f"{compared} values from {least:.2e} up, largest relative difference {worst:.2e}, slack at most {widest:.2e} of the "
      f"value; {nothing} where nothing moves")
assert compared and worst < 1e-6
