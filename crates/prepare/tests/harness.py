"""Compares the requests of the five benchmarks with what lm-evaluation-harness makes of the same files.

    pip install --no-deps lm-eval && pip install jinja2 polars transformers
    rote-prepare --model MODEL --max-length 512 --task arc_easy=DATA/ARC-Easy-Test.with-para.jsonl \
        --task hellaswag=DATA/hellaswag_val_1000.jsonl --task lambada_openai=DATA/lambada_openai.jsonl \
        --task piqa=PIQA --task wikitext=DATA/wikitext2_test.raw --out REQUESTS
    python3 crates/prepare/tests/harness.py MODEL 512 REQUESTS DATA

MODEL is a folder with `tokenizer.json`; PIQA is a folder of `piqa_valid.jsonl` and `piqa_valid-labels.lst`. The
HellaSwag and WikiText code and the windows are the harness's own functions; the token boundary, the truncation
and the templates are its rules, written out. Every context, continuation, length and hash must be equal.
"""

import ast
import hashlib
import importlib.util
import json
import pathlib
import sys
import types

import polars
from jinja2 import Environment, StrictUndefined
from transformers import AutoTokenizer


def harness(relative):
    """One file of the harness as a module, without the packages that the whole of it needs."""
    sys.modules.setdefault("datasets", types.SimpleNamespace(Dataset=object))
    root = pathlib.Path(importlib.util.find_spec("lm_eval").submodule_search_locations[0])
    path = root / relative
    if relative == "utils.py":
        # Its head imports much; the two functions on windows stand alone.
        wanted = ("get_rolling_token_windows", "make_disjoint_window")
        tree = ast.parse(path.read_text())
        tree.body = [node for node in tree.body if getattr(node, "name", None) in wanted]
        names = {}
        exec("from collections.abc import *\nfrom typing import *", names)
        exec(compile(tree, path, "exec"), names)
        return types.SimpleNamespace(**{name: names[name] for name in wanted})
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Rows(list):
    def map(self, change):
        return [{**row, **change(row)} for row in self]


def main(model, length, requests, data):
    length, data = int(length), pathlib.Path(data)
    tokenizer = AutoTokenizer.from_pretrained(model)
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    templates = Environment(undefined=StrictUndefined, keep_trailing_newline=True)

    def fill(template, row):
        return templates.from_string(template).render(**row)

    def pair(context, continuation):
        if not context:
            tokens = tokenizer.encode(continuation, add_special_tokens=False)
            return (tokens[:1], tokens[1:]) if tokens[0] == prefix else ([prefix], tokens)
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, continuation = context[:-blanks], context[-blanks:] + continuation
        given = tokenizer.encode(context)
        return given, tokenizer.encode(context + continuation)[len(given) :]

    def fit(context, continuation):
        return (context + continuation)[-(length + 1) :][: -len(continuation)], continuation

    def digest(text):
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(name):
        return [json.loads(line) for line in open(data / name, encoding="utf-8") if line.strip()]

    expected = []

    def choices(task, number, context, texts, gold):
        for choice, text in enumerate(texts):
            tokens = fit(*pair(context, " " + text))
            hashes = digest(context), digest(str(gold))
            expected.append((task, number, choice, *tokens, gold, len(text), 0, 0, *hashes))

    for number, row in enumerate(rows("ARC-Easy-Test.with-para.jsonl")):
        found = row["question"]["choices"]
        table = {"text": [choice["text"] for choice in found], "label": [choice["label"] for choice in found]}
        row = {"question": row["question"]["stem"], "choices": table, "answerKey": row["answerKey"]}
        gold = int(fill("{{choices.label.index(answerKey)}}", row))
        choices("arc_easy", number, fill("Question: {{question}}\nAnswer:", row), table["text"], gold)
    hellaswag = harness("tasks/hellaswag/utils.py")
    for number, row in enumerate(hellaswag.process_docs(Rows(rows("hellaswag_val_1000.jsonl")))):
        choices("hellaswag", number, row["query"], row["choices"], row["gold"])
    for number, row in enumerate(rows("lambada_openai.jsonl")):
        row = {"text": row["context"] + " " + row["continuation"]}
        context = fill("{{text.split(' ')[:-1]|join(' ')}}", row)
        target = fill("{{' '+text.split(' ')[-1]}}", row)
        tokens = fit(*pair(context, target))
        hashes = digest(context), digest(target)
        expected.append(("lambada_openai", number, -1, *tokens, -1, 0, 0, 0, *hashes))
    labels = [int(line) for line in open(data / "piqa_valid-labels.lst")]
    for number, (row, gold) in enumerate(zip(rows("piqa_valid.jsonl"), labels, strict=True)):
        context = fill("Question: {{goal}}\nAnswer:", row)
        choices("piqa", number, context, (row["sol1"], row["sol2"]), gold)

    wikitext, windows = harness("tasks/wikitext/preprocess_wikitext.py"), harness("utils.py")
    pages, page = [], []
    for line in open(data / "wikitext2_test.raw", encoding="utf-8", newline="").read().split("\n"):
        bare = line.replace("= = =", "===").replace("= =", "==").strip()
        if bare.startswith("= ") and bare.endswith(" ="):
            pages.append("\n".join(page))
            page = []
        page.append(line)
    pages.append("\n".join(page))
    for number, page in enumerate(page for page in pages if page.strip()):
        text = wikitext.wikitext_detokenizer({"page": page})
        sizes = wikitext.process_results({"page": page}, (0.0,))
        words, size = sizes["word_perplexity"][1], sizes["byte_perplexity"][1]
        rolling = windows.get_rolling_token_windows(
            token_list=tokenizer.encode(text), prefix_token=prefix, max_seq_len=length, context_len=1
        )
        for context, scored in map(windows.make_disjoint_window, rolling):
            hashes = digest(text), digest(text)
            expected.append(("wikitext", number, -1, context, scored, -1, 0, words, size, *hashes))

    columns = "task document choice context continuation gold choice_chars document_words document_bytes"
    table = polars.read_parquet(f"{requests}/request/*.parquet")
    found = list(table.select(*columns.split(), "prompt_hash", "target_hash").iter_rows())
    different = [(a, b) for a, b in zip(found, expected) if a != b]
    for a, b in different[:3]:
        print("here:   ", a, "\nharness:", b)
    print(f"{len(found)} requests here, {len(expected)} there, {len(different)} different")
    return 0 if not different and len(found) == len(expected) else 1


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
