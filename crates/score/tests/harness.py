"""Compares scores with lm-evaluation-harness, item by item, on one model and the same documents.

    pip install "lm-eval[hf]==0.4.13" gguf polars
    cargo build
    python3 crates/score/tests/harness.py --model MODEL --data DATA [--limit 200] [--max-length 2048]

MODEL is a `.gguf` file (which `transformers` turns into float32 weights first) or a folder in Hugging Face
layout. DATA holds the files the five tasks are published as: `ARC-Easy-Test.with-para.jsonl` (AI2's own fields),
`hellaswag_val_1000.jsonl`, `lambada_openai.jsonl`, `piqa_valid.jsonl` with `piqa_valid-labels.lst`, and
`wikitext2_test.raw`.

Both sides get two threads (`--threads`). The harness runs whole (its tasks, its requests, its model class, its
metrics), on float32 weights and in batches of one, its default; only where its documents come from is changed, to
files on disk. Its option `softmax_dtype` is float64: in float32, its default, the logarithm of a sum over 49 152 logits
comes out some 7e-6 nats too high at every token, which adds up to 1e-3 over a hundred tokens and to 7e-2 over a page
(`--softmax float32` shows it). That costs it time, so `--speed` compares nothing and leaves it as it comes. Asked of
ours:

- every log-likelihood within 1e-3 nats (where it is not, within 1e-3 of what the same harness says with
  everything in float64), every greedy flag, every hash of document, prompt and target equal;
- every accuracy and its standard error equal;
- every perplexity within 1e-4, relatively, and its standard error too.

Exit code 1 where one of these fails. The lines at the end say how long each side took.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

LOGLIKELIHOOD = 1e-3
RELATIVE = 1e-4
TASKS = {
    "arc_easy": ("test", "arc/arc_easy.yaml"),
    "hellaswag": ("validation", "hellaswag/hellaswag.yaml"),
    "lambada_openai": ("test", "lambada/lambada_openai.yaml"),
    "piqa": ("validation", "piqa/piqa.yaml"),
    "wikitext": ("test", "wikitext/wikitext.yaml"),
}


def documents(data):
    """The documents of each task as the hub's data sets hold them."""

    def rows(name):
        with open(data / name, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]

    arc = []
    for row in rows("ARC-Easy-Test.with-para.jsonl"):
        choices = row["question"]["choices"]
        table = {
            "text": [choice["text"] for choice in choices],
            "label": [choice["label"] for choice in choices],
        }
        arc.append(
            {
                "id": row["id"],
                "question": row["question"]["stem"],
                "choices": table,
                "answerKey": row["answerKey"],
            }
        )
    lambada = [{"text": row["context"] + " " + row["continuation"]} for row in rows("lambada_openai.jsonl")]
    labels = [int(line) for line in open(data / "piqa_valid-labels.lst")]
    piqa = [
        {"goal": row["goal"], "sol1": row["sol1"], "sol2": row["sol2"], "label": label}
        for row, label in zip(rows("piqa_valid.jsonl"), labels, strict=True)
    ]
    pages, page = [], []
    for line in open(data / "wikitext2_test.raw", encoding="utf-8", newline="").read().split("\n"):
        bare = line.replace("= = =", "===").replace("= =", "==").strip()
        if bare.startswith("= ") and bare.endswith(" ="):
            pages.append("\n".join(page))
            page = []
        page.append(line)
    pages.append("\n".join(page))
    return {
        "arc_easy": arc,
        "hellaswag": rows("hellaswag_val_1000.jsonl"),
        "lambada_openai": lambada,
        "piqa": piqa,
        "wikitext": [{"page": page} for page in pages if page.strip()],
    }


def ours(model, data, work, options):
    """Runs the three stages; processor and wall seconds of each."""
    piqa = work / "piqa"
    piqa.mkdir()
    for name in ("piqa_valid.jsonl", "piqa_valid-labels.lst"):
        os.symlink((data / name).resolve(), piqa / name)
    files = {
        "arc_easy": data / "ARC-Easy-Test.with-para.jsonl",
        "hellaswag": data / "hellaswag_val_1000.jsonl",
        "lambada_openai": data / "lambada_openai.jsonl",
        "piqa": piqa,
        "wikitext": data / "wikitext2_test.raw",
    }
    seconds, wall = {}, {}

    def stage(name, *arguments):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        binary = pathlib.Path(options.bin) / f"rote-{name}"
        command = [binary, *arguments, "--threads", str(options.threads), "--out", work / name]
        subprocess.run([str(part) for part in command], check=True)
        after, wall[name] = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
        seconds[name] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    tasks = [part for task in options.task for part in ("--task", f"{task}={files[task]}")]
    limit = ["--limit", options.limit] if options.limit else []
    stage("prepare", "--model", model, "--max-length", options.max_length, *limit, *tasks)
    stage("intervene", "--model", model, "--requests", work / "prepare", "--change", "none")
    stage("score", "--requests", work / "prepare", "--outcomes", work / "intervene")
    return seconds, wall


def cut_digits(model, folder):
    """Puts back how SmolLM's text is cut before merging, which `transformers` drops when it reads a GGUF file.

    The file only names it (`tokenizer.ggml.pre`); without it two blanks before a digit become other tokens.
    """
    from gguf import GGUFReader

    if GGUFReader(model).fields["tokenizer.ggml.pre"].contents() != "smollm":
        return
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    digits = {"type": "Digits", "individual_digits": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, bytes_]}
    path.write_text(json.dumps(tokenizer, ensure_ascii=False))


def float32(model, work):
    """A folder of float32 weights that `transformers` reads."""
    if model.is_dir():
        return model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    import torch

    folder = work / "float32"
    given = {"pretrained_model_name_or_path": str(model.parent), "gguf_file": model.name}
    read = AutoModelForCausalLM.from_pretrained(**given, dtype=torch.float32)
    # What was read counts as quantised and can't be written; its weights in a model of the same form can.
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    plain = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**given).save_pretrained(folder)
    cut_digits(model, folder)
    return folder


def harness(folder, data, work, options):
    """Runs lm-evaluation-harness; what it says of each item, and the seconds that took."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HOME", str(work / "hub"))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(options.threads)
    tasks = []
    for task, rows in documents(data).items():
        if task not in options.task:
            continue
        path = work / f"{task}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        # The harness's own definition of the task, told only where its documents are.
        split, definition = TASKS[task]
        source = {
            "include": str(pathlib.Path(lm_eval.__file__).parent / "tasks" / definition),
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(path)}},
            **{f"{other}_split": None for other in ("training", "validation", "test") if other != split},
        }
        declared = work / f"{task}.yaml"
        declared.write_text(json.dumps(source))
        tasks.append(str(declared))
    lm = HFLM(
        pretrained=str(folder),
        device="cpu",
        dtype="float32",
        softmax_dtype=options.softmax,
        batch_size=options.batch,
        max_length=options.max_length,
    )
    spent = {"model": 0.0}

    def timed(call):
        def run(*arguments, **named):
            began = time.process_time()
            answers = call(*arguments, **named)
            spent["model"] += time.process_time() - began
            return answers

        return run

    lm.loglikelihood, lm.loglikelihood_rolling = timed(lm.loglikelihood), timed(lm.loglikelihood_rolling)
    began, clock = time.process_time(), time.monotonic()
    found = lm_eval.simple_evaluate(lm, tasks=tasks, limit=options.limit, log_samples=True)
    spent["all"], spent["wall"] = time.process_time() - began, time.monotonic() - clock
    wanted = ("doc_id", "doc_hash", "prompt_hash", "target_hash", "arguments", "filtered_resps")
    samples = {
        task: [{name: sample[name] for name in wanted} for sample in rows]
        for task, rows in found["samples"].items()
    }
    return {"samples": samples, "results": found["results"], "spent": spent}


class Check:
    """Counts what fails."""

    def __init__(self):
        self.failed = 0

    def __call__(self, fits, what):
        if not fits:
            self.failed += 1
            if self.failed <= 20:
                print("differs:", what)


def judge(far, folder, options, check):
    """Where the two differ by more than is allowed: which of them is right, says the harness in float64."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=str(folder), device="cpu", dtype="float64", batch_size=1, max_length=options.max_length)
    for place, arguments, logprob, theirs in far:
        kind = "loglikelihood_rolling" if len(arguments) == 1 else "loglikelihood"
        asked = Instance(request_type=kind, doc={}, arguments=tuple(arguments), idx=0)
        answer = getattr(lm, kind)([asked], disable_tqdm=True)[0]
        exact = float(answer if kind == "loglikelihood_rolling" else answer[0])
        print(f"{place}: from float64 here {logprob - exact:.1e}, the harness in float32 {theirs - exact:.1e}")
        check(abs(logprob - exact) <= LOGLIKELIHOOD, f"{place}: {logprob}, {theirs}, in float64 {exact}")


def compare(found, work, check):
    """Item by item, then summary by summary; what is too far from each other to say so yet."""
    import polars

    far = []
    items = polars.read_parquet(work / "intervene/item/*.parquet")
    requests = polars.read_parquet(work / "prepare/request/*.parquet").join(items, on="request")
    summary = polars.read_parquet(work / "score/summary/*.parquet")
    print(f"{'task':15} {'documents':>9} {'requests':>8} {'largest difference of a log-likelihood':>40}")
    for task, samples in sorted(found["samples"].items()):
        mine = requests.filter(polars.col("task") == task).sort("document", "choice", "request")
        by_document = {key[0]: rows for key, rows in mine.group_by("document", maintain_order=True)}
        check(len(by_document) == len(samples), f"{task}: {len(by_document)} documents, {len(samples)} there")
        largest, answers = 0.0, 0
        for sample in samples:
            rows = by_document[sample["doc_id"]]
            for name in ("doc_hash", "prompt_hash", "target_hash"):
                if name in rows.columns:
                    place = f"{task}: document {sample['doc_id']}: {name}"
                    check(set(rows[name]) == {sample[name]}, place)
            given = sample["filtered_resps"]
            if task == "wikitext":
                pairs = [((rows["logprob"].sum(), None), (given[0], None))]
            else:
                check(len(rows) == len(given), f"{task}: document {sample['doc_id']}: {len(rows)} answers")
                pairs = zip(rows.select("logprob", "exact_match").iter_rows(), given)
            for ((logprob, exact), (theirs, greedy)), arguments in zip(pairs, sample["arguments"], strict=True):
                answers += 1
                largest = max(largest, abs(logprob - float(theirs)))
                place = f"{task}: document {sample['doc_id']}"
                if abs(logprob - float(theirs)) > LOGLIKELIHOOD:
                    far.append((place, arguments, logprob, float(theirs)))
                check(exact is None or exact == bool(greedy), f"{place}: greedy {exact} and {greedy}")
        print(f"{task:15} {len(samples):9} {answers:8} {largest:40.2e}")

    print(f"\n{'task':15} {'metric':16} {'here':>14} {'harness':>14} {'differ':>8} {'error here':>14} {'harness':>14} {'differ':>8}")
    for task, metrics in sorted(found["results"].items()):
        for name, theirs in sorted(metrics.items()):
            metric = name.removesuffix(",none")
            if metric == name or metric.endswith("_stderr") or metric == "sample_len":
                continue
            row = summary.filter((polars.col("suite") == task) & (polars.col("metric") == metric))
            check(len(row) == 1, f"{task}: {metric} stands {len(row)} times")
            if len(row) != 1:
                continue
            value, error = row["value"][0], row["stderr"][0]
            their_error = metrics.get(f"{metric}_stderr,none")
            their_error = their_error if isinstance(their_error, float) else None
            shown = [f"{number:14.8g}" if number is not None else " " * 11 + "N/A" for number in (error, their_error)]
            apart = f"{abs(error - their_error):8.1e}" if error is not None and their_error is not None else "     N/A"
            print(f"{task:15} {metric:16} {value:14.8g} {theirs:14.8g} {abs(value - theirs):8.1e} {shown[0]} {shown[1]} {apart}")
            # A share is a count over n, so only the last rounding may differ.
            allowed = 1e-12 if metric.startswith("acc") else RELATIVE
            check(abs(value - theirs) <= allowed * abs(theirs), f"{task}: {metric} {value} and {theirs}")
            check((error is None) == (their_error is None), f"{task}: {metric} error {error} and {their_error}")
            if error is not None and their_error is not None:
                fits = abs(error - their_error) <= allowed * abs(their_error)
                check(fits, f"{task}: {metric} error {error} and {their_error}")
    return far


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2, help="of both sides; the log-likelihoods hardly depend on it")
    parser.add_argument("--softmax", choices=["float32", "float64"], default="float64", help="of the harness")
    parser.add_argument("--batch", type=int, default=1, help="the harness's batch size")
    parser.add_argument("--speed", action="store_true", help="nothing but how fast: the harness with its own defaults")
    parser.add_argument("--task", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--bin", default="target/debug", help="folder of the stages")
    parser.add_argument("--float32", type=pathlib.Path, help="the same model as a folder, if there is one")
    parser.add_argument(
        "--there",
        type=pathlib.Path,
        help="what the harness said: read from this file, or written to it where there is none",
    )
    parser.add_argument("--work", type=pathlib.Path, help="keep everything in this folder, which must be new")
    options = parser.parse_args()
    if options.speed:
        options.softmax = "float32"
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or pathlib.Path(temporary)
        work.mkdir(exist_ok=options.work is None)
        seconds, wall = ours(options.model, options.data, work, options)
        if options.there and options.there.exists():
            found = json.loads(options.there.read_text())
        else:
            folder = options.float32 = options.float32 or float32(options.model, work)
            found = harness(folder, options.data, work, options)
            if options.there:
                options.there.write_text(json.dumps(found))
        check = Check()
        far = [] if options.speed else compare(found, work, check)
        if far:
            judge(far, options.float32 or float32(options.model, work), options, check)
    total, spent = sum(seconds.values()), found["spent"]
    each = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    print(f"\nprocessor seconds here: {total:.1f} ({each}), loading included")
    print(f"processor seconds of the harness: {spent['all']:.1f} ({spent['model']:.1f} in the model), loading not")
    print(f"wall seconds: {sum(wall.values()):.1f} here, {spent['wall']:.1f} the harness, {options.threads} threads each")
    print(f"ratio of the whole evaluations: {spent['wall'] / sum(wall.values()):.2f} in wall time, "
          f"{spent['all'] / total:.2f} in processor time; model to intervene: {spent['model'] / seconds['intervene']:.2f}")
    if not options.speed:
        print(f"{check.failed} differences")
    return int(check.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
