"""A decoder's forward pass in float64 numpy: the yardstick against which both transformers and rote are held.

Plain on purpose: one loop over heads, one over queries, no cache, no batching. Reads a Hugging Face folder
(config.json and a dict of arrays under the checkpoint's own names).
"""

import math

import numpy as np

ERF = np.vectorize(math.erf)


def gelu(x):
    return x * 0.5 * (1 + ERF(x / math.sqrt(2)))


def gelu_new(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACT = {
    "gelu": gelu,
    "gelu_new": gelu_new,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def layer_norm(x, gain, bias, eps):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * gain + bias


def rms_norm(x, gain, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * gain


def frequencies(rope, n_rotated):
    theta = rope["rope_theta"]
    freq = theta ** (-np.arange(0, n_rotated, 2) / n_rotated)
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        return freq / rope["factor"]
    if kind == "llama3":
        trained, low, high = (
            rope[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
        )
        out = []
        for f in freq:
            wavelength = 2 * math.pi / f
            if wavelength < trained / high:
                out.append(f)
            elif wavelength > trained / low:
                out.append(f / rope["factor"])
            else:
                smooth = (trained / wavelength - low) / (high - low)
                out.append((1 - smooth) * f / rope["factor"] + smooth * f)
        return np.array(out)
    assert kind == "default", kind
    return freq


def rotate(x, freq):
    """x [T, D]; the first 2 * len(freq) coordinates are rotated, j with j + len(freq)."""
    n = len(freq)
    angle = np.arange(len(x))[:, None] * freq[None]
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[:, :n], x[:, n : 2 * n]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[:, 2 * n :]], axis=1)


def attend(q, k, v, scale, window, identity):
    """One head: q, k, v [T, D]."""
    if identity:
        return v.copy()
    out = np.zeros_like(v)
    for i in range(len(q)):
        first = 0 if window is None else max(0, i - window + 1)
        scores = k[first : i + 1] @ q[i] * scale
        weights = np.exp(scores - scores.max())
        out[i] = (weights / weights.sum()) @ v[first : i + 1]
    return out


class Attention:
    """Projects, attends head by head, projects back."""

    def __init__(self, q, k, v, o, n_heads, n_kv, scale, window=None, freq=None, q_norm=None, k_norm=None):
        self.q, self.k, self.v, self.o = q, k, v, o
        self.n_heads, self.n_kv, self.scale, self.window = n_heads, n_kv, scale, window
        self.freq, self.q_norm, self.k_norm = freq, q_norm, k_norm

    def __call__(self, x, identity_heads, constant_heads):
        """What the module says, and its heads' weighted values before the output projection."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        width = q.shape[1] // self.n_heads
        out = []
        for head in range(self.n_heads):
            kv = head // (self.n_heads // self.n_kv)
            qh = q[:, head * width : (head + 1) * width]
            kh = k[:, kv * width : (kv + 1) * width]
            vh = v[:, kv * width : (kv + 1) * width]
            if self.q_norm:
                qh, kh = self.q_norm(qh), self.k_norm(kh)
            if self.freq is not None:
                qh, kh = rotate(qh, self.freq), rotate(kh, self.freq)
            mixed = attend(qh, kh, vh, self.scale, self.window, head in identity_heads)
            if head in constant_heads:
                mixed[:] = constant_heads[head]
            out.append(mixed)
        z = np.concatenate(out, axis=1)
        return self.o(z), z


class Model:
    """Blocks as (attention, mlp, norm before or after each), and what stands around them."""

    def __init__(self, config, tensors):
        self.t = {name: np.asarray(value, dtype=np.float64) for name, value in tensors.items()}
        self.c = config
        getattr(self, config["model_type"])()

    # Small makers, by the checkpoint's own names.

    def linear(self, name, bias=True):
        w = self.t[f"{name}.weight"]
        b = self.t[f"{name}.bias"] if bias else 0
        return lambda x: x @ w.T + b

    def conv(self, name):
        w, b = self.t[f"{name}.weight"], self.t[f"{name}.bias"]
        return lambda x: x @ w + b

    def layer(self, name, eps):
        g, b = self.t[f"{name}.weight"], self.t[f"{name}.bias"]
        return lambda x: layer_norm(x, g, b, eps)

    def rms(self, name):
        g, eps = self.t[f"{name}.weight"], self.c["rms_norm_eps"]
        return lambda x: rms_norm(x, g, eps)

    def head(self, embed):
        tied = self.c["tie_word_embeddings"]
        return self.t[embed if tied else "lm_head.weight"]

    # Families.

    def gpt_neox(self):
        c, eps = self.c, self.c["layer_norm_eps"]
        n, d = c["num_attention_heads"], c["hidden_size"]
        width = d // n
        rope = c["rope_parameters"]
        freq = frequencies(rope, int(width * rope["partial_rotary_factor"]))
        act = ACT[c["hidden_act"]]
        self.embed = lambda tokens: self.t["gpt_neox.embed_in.weight"][tokens]
        self.blocks = []
        for i in range(c["num_hidden_layers"]):
            p = f"gpt_neox.layers.{i}."
            w = self.t[p + "attention.query_key_value.weight"].reshape(n, 3, width, d)
            b = self.t[p + "attention.query_key_value.bias"].reshape(n, 3, width)
            q, k, v = (
                (lambda x, w=w[:, j].reshape(d, d), b=b[:, j].reshape(d): x @ w.T + b) for j in range(3)
            )
            attn = Attention(q, k, v, self.linear(p + "attention.dense"), n, n, width**-0.5, freq=freq)
            up, down = self.linear(p + "mlp.dense_h_to_4h"), self.linear(p + "mlp.dense_4h_to_h")
            mlp = lambda x, up=up, down=down: down(act(up(x)))
            norms = self.layer(p + "input_layernorm", eps), self.layer(p + "post_attention_layernorm", eps)
            self.blocks.append((attn, mlp, *norms))
        self.parallel = c["use_parallel_residual"]
        self.final = self.layer("gpt_neox.final_layer_norm", eps)
        self.unembed = self.head("gpt_neox.embed_in.weight")

    def gpt_neo(self):
        c, eps, d = self.c, self.c["layer_norm_epsilon"], self.c["hidden_size"]
        act = ACT[c["activation_function"]]
        wte, wpe = self.t["transformer.wte.weight"], self.t["transformer.wpe.weight"]
        self.embed = lambda tokens: wte[tokens] + wpe[: len(tokens)]
        kinds = [kind for names, times in c["attention_types"] for _ in range(times) for kind in names]
        self.blocks = []
        for i, kind in enumerate(kinds):
            p = f"transformer.h.{i}."
            a = p + "attn.attention."
            q, k, v = (self.linear(a + part, bias=False) for part in ("q_proj", "k_proj", "v_proj"))
            window = c["window_size"] if kind == "local" else None
            attn = Attention(q, k, v, self.linear(a + "out_proj"), c["num_heads"], c["num_heads"], 1.0, window)
            up, down = self.linear(p + "mlp.c_fc"), self.linear(p + "mlp.c_proj")
            mlp = lambda x, up=up, down=down: down(act(up(x)))
            self.blocks.append((attn, mlp, self.layer(p + "ln_1", eps), self.layer(p + "ln_2", eps)))
        self.final = self.layer("transformer.ln_f", eps)
        self.unembed = self.head("transformer.wte.weight")

    def gpt2(self):
        c, eps, d = self.c, self.c["layer_norm_epsilon"], self.c["n_embd"]
        act, n = ACT[c["activation_function"]], self.c["n_head"]
        wte, wpe = self.t["transformer.wte.weight"], self.t["transformer.wpe.weight"]
        self.embed = lambda tokens: wte[tokens] + wpe[: len(tokens)]
        self.blocks = []
        for i in range(c["n_layer"]):
            p = f"transformer.h.{i}."
            fused = self.conv(p + "attn.c_attn")
            q, k, v = (lambda x, j=j, f=fused: f(x)[:, j * d : (j + 1) * d] for j in range(3))
            attn = Attention(q, k, v, self.conv(p + "attn.c_proj"), n, n, (d // n) ** -0.5)
            up, down = self.conv(p + "mlp.c_fc"), self.conv(p + "mlp.c_proj")
            mlp = lambda x, up=up, down=down: down(act(up(x)))
            self.blocks.append((attn, mlp, self.layer(p + "ln_1", eps), self.layer(p + "ln_2", eps)))
        self.final = self.layer("transformer.ln_f", eps)
        self.unembed = self.head("transformer.wte.weight")

    def opt(self):
        c, d, n = self.c, self.c["hidden_size"], self.c["num_attention_heads"]
        act, root = ACT[c["activation_function"]], "model.decoder."
        wte, wpe = self.t[root + "embed_tokens.weight"], self.t[root + "embed_positions.weight"]
        into = self.linear(root + "project_in", False) if c["word_embed_proj_dim"] != d else lambda x: x
        self.embed = lambda tokens: into(wte[tokens]) + wpe[2 : 2 + len(tokens)]
        self.blocks = []
        for i in range(c["num_hidden_layers"]):
            p = f"{root}layers.{i}."
            q, k, v = (self.linear(f"{p}self_attn.{part}_proj") for part in "qkv")
            attn = Attention(q, k, v, self.linear(p + "self_attn.out_proj"), n, n, (d // n) ** -0.5)
            up, down = self.linear(p + "fc1"), self.linear(p + "fc2")
            mlp = lambda x, up=up, down=down: down(act(up(x)))
            norms = self.layer(p + "self_attn_layer_norm", 1e-5), self.layer(p + "final_layer_norm", 1e-5)
            self.blocks.append((attn, mlp, *norms))
        self.post = not c["do_layer_norm_before"]
        self.final = (lambda x: x) if self.post else self.layer(root + "final_layer_norm", 1e-5)
        if c["word_embed_proj_dim"] != d:
            before, out = self.final, self.linear(root + "project_out", False)
            self.final = lambda x: out(before(x))
        self.unembed = self.head(root + "embed_tokens.weight")

    def gated(self, qkv_bias, o_bias, head_norms):
        c, act = self.c, ACT[self.c["hidden_act"]]
        n, n_kv = c["num_attention_heads"], c["num_key_value_heads"]
        width = c.get("head_dim") or c["hidden_size"] // n
        freq = frequencies(c["rope_parameters"], width)
        self.embed = lambda tokens: self.t["model.embed_tokens.weight"][tokens]
        self.blocks = []
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            a = p + "self_attn."
            q, k, v = (self.linear(f"{a}{part}_proj", qkv_bias) for part in "qkv")
            q_norm, k_norm = (self.rms(a + "q_norm"), self.rms(a + "k_norm")) if head_norms else (None, None)
            o = self.linear(a + "o_proj", o_bias)
            attn = Attention(q, k, v, o, n, n_kv, width**-0.5, None, freq, q_norm, k_norm)
            gate, up, down = (self.linear(f"{p}mlp.{part}_proj", False) for part in ("gate", "up", "down"))
            mlp = lambda x, gate=gate, up=up, down=down: down(act(gate(x)) * up(x))
            norms = self.rms(p + "input_layernorm"), self.rms(p + "post_attention_layernorm")
            self.blocks.append((attn, mlp, *norms))
        self.final = self.rms("model.norm")
        self.unembed = self.head("model.embed_tokens.weight")

    def llama(self):
        bias = self.c.get("attention_bias", False)
        self.gated(bias, bias, False)

    def qwen2(self):
        self.gated(True, False, False)

    def qwen3(self):
        self.gated(False, False, True)

    parallel = False
    post = False

    def __call__(self, tokens, change):
        """tokens [T] → logits [T, V] and, per block, (input, attention's output, mlp's output, heads' values)."""
        x = self.embed(np.asarray(tokens))
        seen = []
        for i, (attn, mlp, norm1, norm2) in enumerate(self.blocks):
            before = x
            heads = change.identity.get(i, ()), change.heads.get(i, {})
            a, z = attn(x if self.post else norm1(x), *heads)
            if i in change.attn:
                a = np.broadcast_to(change.attn[i], a.shape)
            middle = norm1(x + a) if self.post else x + a
            m = mlp(middle if self.post else norm2(x if self.parallel else middle))
            if i in change.mlp_zero:
                m = np.zeros_like(m)
            x = norm2(middle + m) if self.post else middle + m
            seen.append((before, a, m, z))
        return self.final(x) @ self.unembed.T, seen
