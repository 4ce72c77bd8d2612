"""The sweep of the paper in PyTorch and transformers: every block's attention weights replaced by the identity, one
block at a time; exact match, token accuracy and entropy of the continuation. One JSON line on standard output.

The published code replaced the weights inside the attention function and broke with a cache; here the module's
output at a token is the output projection of that token's own value, which is right with and without a cache.
"""

import argparse
import json
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--sequences", required=True, help=".npy, [n, prefix + suffix] tokens")
parser.add_argument("--prefix", type=int, default=50)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--forward-only", action="store_true", help="one teacher-forced pass without head, timed")
parser.add_argument("--out", required=True, help=".npz to write")
arguments = parser.parse_args()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

torch.set_num_threads(arguments.threads)
model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
layers = model.gpt_neox.layers
tokens = torch.from_numpy(np.load(arguments.sequences).astype(np.int64))
count, length = tokens.shape
prefix, suffix = arguments.prefix, length - arguments.prefix


def bypassed(attention):
    """The forward of an attention whose weights are the identity."""

    def forward(hidden_states, attention_mask=None, layer_past=None, position_embeddings=None, **_):
        batch, new, _ = hidden_states.shape
        qkv = attention.query_key_value(hidden_states).view(batch, new, -1, 3 * attention.head_size)
        _, key, value = qkv.transpose(1, 2).chunk(3, dim=-1)
        if layer_past is not None:
            # The cache counts the tokens it was given; nobody reads these.
            layer_past.update(key, value, attention.layer_idx)
        value = value.transpose(1, 2).reshape(batch, new, -1)
        return attention.dense(value), None

    return forward


@torch.inference_mode()
def answers():
    generated, entropy, logprob = [], [], []
    for start in range(0, count, arguments.batch):
        rows = tokens[start : start + arguments.batch]
        text = model.generate(
            rows[:, :prefix],
            attention_mask=torch.ones_like(rows[:, :prefix]),
            max_new_tokens=suffix,
            min_new_tokens=suffix,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
        generated.append(text[:, prefix:])
        logits = model(rows[:, :-1], use_cache=False, logits_to_keep=suffix).logits
        logp = torch.log_softmax(logits, -1)
        entropy.append(-(logp.exp() * logp).sum(-1))
        logprob.append(logp.gather(-1, rows[:, prefix:, None])[..., 0])
    return [torch.cat(part).numpy() for part in (generated, entropy, logprob)]


@torch.inference_mode()
def forward():
    for start in range(0, count, arguments.batch):
        model.gpt_neox(tokens[start : start + arguments.batch], use_cache=False)


if arguments.forward_only:
    forward()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        forward()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": sorted(seconds)[2], "tokens": int(tokens.numel())}))
else:
    began = time.perf_counter()
    rows = {"none": answers()}
    for block, layer in enumerate(layers):
        ordinary = layer.attention.forward
        layer.attention.forward = bypassed(layer.attention)
        rows[f"attn.identity@{block}"] = answers()
        layer.attention.forward = ordinary
    seconds = time.perf_counter() - began
    names = ("generated", "entropy", "logprob")
    np.savez(
        arguments.out,
        **{f"{change}/{name}": part for change, parts in rows.items() for name, part in zip(names, parts)},
    )
    print(json.dumps({"seconds": seconds, "changes": len(rows), "sequences": count}))
