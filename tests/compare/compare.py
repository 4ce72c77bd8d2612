"""rote's sweep beside the same sweep in PyTorch: same checkpoint, same sequences, same threads, alternating.

    python3 tests/compare/compare.py --size 70m --sequences random

Writes a GPT-NeoX of the size asked for with random weights (seeded), runs both programs in turn, checks that every
row agrees, and prints the ratios of their medians. Needs torch, transformers, numpy, polars (see
tests/compare/requirements.txt).
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

SIZES = {"tiny": (64, 4, 3, 512), "70m": (512, 8, 6, 50304), "160m": (768, 12, 12, 50304)}
HERE = Path(__file__).parent


def checkpoint(folder, size, seed=0):
    if (folder / "config.json").exists():
        return
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    d, heads, blocks, vocabulary = SIZES[size]
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=d,
        num_attention_heads=heads,
        num_hidden_layers=blocks,
        intermediate_size=4 * d,
        max_position_embeddings=2048,
        rotary_pct=0.25,
        use_parallel_residual=True,
        # Wide enough that no two tokens are nearly as likely.
        initializer_range=0.06,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    # A tokenizer is part of a model folder; sequences come as tokens, so its text is never used.
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({str(token): token for token in range(vocabulary)}, "0")).save(
        str(folder / "tokenizer.json")
    )


def sequences(folder, kind, size, count, prefix, suffix, seed=1):
    path = folder / f"{kind}-{count}.npy"
    if path.exists():
        return path
    vocabulary = SIZES[size][3]
    tokens = np.random.default_rng(seed).integers(0, vocabulary, (count, prefix + suffix)).astype(np.uint16)
    if kind == "own":
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        start = torch.from_numpy(tokens[:, :prefix].astype(np.int64))
        with torch.inference_mode():
            text = model.generate(
                start,
                attention_mask=torch.ones_like(start),
                max_new_tokens=suffix,
                min_new_tokens=suffix,
                do_sample=False,
                pad_token_id=0,
            )
        tokens = text.numpy().astype(np.uint16)
    np.save(path, tokens)
    return path


def timed(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "inside": json.loads(done.stdout.splitlines()[-1])["seconds"]}


def agree(ours, theirs, tokens, prefix):
    """The largest difference, and how many generated tokens differ."""
    outcome = pl.read_parquet(ours / "outcome" / "*.parquet")
    rows = np.load(theirs)
    worst, differ, asked = 0.0, 0, 0
    for change in outcome["change"].unique().to_list():
        part = outcome.filter(pl.col("change") == change).sort("request", "position")
        shape = tokens[:, prefix:].shape
        column = lambda name: part[name].to_numpy().reshape(shape)  # noqa: E731
        for name in ("entropy", "logprob"):
            worst = max(worst, float(np.abs(column(name) - rows[f"{change}/{name}"]).max()))
        differ += int((column("generated") != rows[f"{change}/generated"]).sum())
        asked += part.height
    return worst, differ, asked


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="70m")
    parser.add_argument("--sequences", choices=["random", "own"], default="random")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=50)
    parser.add_argument("--suffix", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bin", type=Path, default=Path("target/debug"))
    parser.add_argument("--work", type=Path, default=Path("data/external/compare"))
    arguments = parser.parse_args()

    folder = arguments.work / arguments.size
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint(folder, arguments.size)
    path = sequences(
        folder, arguments.sequences, arguments.size, arguments.count, arguments.prefix, arguments.suffix
    )
    requests, ours, theirs = folder / "requests", folder / "outcomes", folder / "reference.npz"
    shutil.rmtree(requests, ignore_errors=True)
    prepare = ["rote-prepare", "--model", folder, "--sequences", path, "--prefix", arguments.prefix]
    timed([arguments.bin / prepare[0], *prepare[1:], "--suffix", arguments.suffix, "--out", requests, "--json"])
    threads = ["--threads", arguments.threads]
    sweep = [arguments.bin / "rote-intervene", "--model", folder, "--requests", requests]
    sweep += ["--change", "attn.identity@each", "--generate", "--out", ours, "--json", *threads]
    reference = [sys.executable, HERE / "reference.py", "--model", folder, "--sequences", path]
    reference += ["--prefix", arguments.prefix, "--out", theirs, *threads]

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    times = {"rote": [], "PyTorch": []}
    for _ in range(arguments.rounds):
        shutil.rmtree(ours, ignore_errors=True)
        times["rote"].append(timed(sweep))
        times["PyTorch"].append(timed(reference))

    worst, differ, asked = agree(ours, theirs, np.load(path), arguments.prefix)
    print(f"{arguments.size}, {arguments.count} {arguments.sequences} sequences, {arguments.threads} threads")
    print(f"largest difference of entropy or log-probability: {worst:.2e}")
    print(f"generated tokens that differ: {differ} of {asked}")
    median = lambda name, what: statistics.median(run[what] for run in times[name])  # noqa: E731
    for what, meaning in [("wall", "whole command"), ("inside", "without starting up"), ("cpu", "processor time")]:
        mine, other = median("rote", what), median("PyTorch", what)
        print(f"{meaning:>20}: rote {mine:7.2f} s, PyTorch {other:7.2f} s, ratio {other / mine:.2f}")
    if worst > 1e-4 or differ > asked // 1000:
        sys.exit("the two do not agree")


if __name__ == "__main__":
    main()
