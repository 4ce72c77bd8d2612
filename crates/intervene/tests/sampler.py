"""Compares the column `sampled` with what the `transformers` library's own samplers make of its own logits.

    pip install transformers torch polars
    rote-prepare --model data/demo/gpt_neox --sequences data/demo/records.jsonl --out REQUESTS
    rote-intervene --model data/demo/gpt_neox --requests REQUESTS --change none \
        --temperature 0.8 --top-k 40 --top-p 0.9 --out OUTCOMES
    python3 crates/intervene/tests/sampler.py data/demo/gpt_neox REQUESTS OUTCOMES 0.8 40 0.9

Log-probabilities must agree within 1e-4 nats, and the same tokens must be out of reach.
"""

import math
import sys

import polars
import torch
from transformers import AutoModelForCausalLM, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


def main(model, requests, outcomes, temperature, top_k, top_p):
    model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    samplers = [
        TemperatureLogitsWarper(float(temperature)),
        TopKLogitsWarper(int(top_k)),
        TopPLogitsWarper(float(top_p)),
    ]
    told = polars.read_parquet(f"{outcomes}/outcome/*.parquet").filter(polars.col("change") == "none")
    told = {key[0]: rows.sort("position")["sampled"].to_list() for key, rows in told.group_by("request")}
    tokens, largest, out_of_reach, different = 0, 0.0, 0, 0
    for row in polars.read_parquet(f"{requests}/request/*.parquet").head(100).iter_rows(named=True):
        asked = row["continuation"]
        with torch.no_grad():
            logits = model(torch.tensor([(row["context"] + asked)[:-1]])).logits[0][-len(asked) :]
        for sampler in samplers:
            logits = sampler(None, logits)
        chances = torch.log_softmax(logits, -1).gather(1, torch.tensor(asked)[:, None])[:, 0].tolist()
        for here, there in zip(told[row["request"]], chances, strict=True):
            tokens += 1
            if math.isinf(here) or math.isinf(there):
                out_of_reach += 1
                different += here != there
            else:
                largest = max(largest, abs(here - there))
    print(f"{tokens} tokens, {out_of_reach} out of reach, {different} of these for one side only")
    print(f"largest difference of a log-probability: {largest:.2e}")
    return int(different > 0 or largest > 1e-4)


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
