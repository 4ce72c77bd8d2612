"""Writes local.json: theorems A0 to A3 for a bypass of each block, computed in float64 from what Hugging Face
transformers shows (hidden states and attention weights) and numpy alone. Run from this folder:
python make.py
"""
import json
import numpy as np
import torch
from transformers import AutoModelForCausalLM

OUT = []
rng = np.random.default_rng(0)
for name in ["neox-parallel", "llama-gqa", "neo-local"]:
    model = AutoModelForCausalLM.from_pretrained(
        f"../../../../data/tiny/{name}", dtype=torch.float64, attn_implementation="eager").eval()
    c = model.config
    tokens = [int(t) for t in rng.integers(0, c.vocab_size, 9)]
    with torch.no_grad():
        out = model(torch.tensor([tokens]), output_hidden_states=True, output_attentions=True)
    heads, d = c.num_attention_heads, c.hidden_size
    blocks = []
    for l in range(c.num_hidden_layers):
        x = out.hidden_states[l][0]
        p = out.attentions[l][0].numpy()
        with torch.no_grad():
            if name.startswith("neox"):
                block = model.gpt_neox.layers[l]
                dh = d // heads
                qkv = block.attention.query_key_value(block.input_layernorm(x)).view(len(tokens), heads, 3 * dh)
                v, wo = qkv[..., 2 * dh:], block.attention.dense.weight
            elif name.startswith("llama"):
                block = model.model.layers[l]
                dh = block.self_attn.head_dim
                v = block.self_attn.v_proj(block.input_layernorm(x)).view(len(tokens), -1, dh)
                v = v.repeat_interleave(heads // v.shape[1], dim=1)
                wo = block.self_attn.o_proj.weight
            else:
                block = model.transformer.h[l]
                dh = d // heads
                v = block.attn.attention.v_proj(block.ln_1(x)).view(len(tokens), heads, dh)
                wo = block.attn.attention.out_proj.weight
        v, wo = v.numpy(), wo.detach().numpy()
        rows = []
        for i in range(len(tokens)):
            delta, a1, a2, a3 = np.zeros(d), 0.0, 0.0, 0.0
            for h in range(heads):
                w = wo[:, h * dh:(h + 1) * dh]
                part = w @ (v[i, h] - p[h, i] @ v[:, h])
                delta += part
                a1 += np.linalg.norm(part)
                # Outside the mask the weight is exactly zero.
                seen = [j for j in range(i + 1) if p[h, i, j] > 0]
                e = {j: np.linalg.norm(w @ (v[j, h] - v[i, h])) for j in seen}
                a2 += sum(p[h, i, j] * e[j] for j in seen)
                a3 += (1 - p[h, i, i]) * max(e.values())
            rows.append([np.linalg.norm(delta), a1, a2, a3])
        blocks.append(rows)
    OUT.append({"model": name, "tokens": tokens, "blocks": blocks})
json.dump(OUT, open("local.json", "w"))
