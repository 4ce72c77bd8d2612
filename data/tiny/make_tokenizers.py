"""Makes tokenizers/<pre>.gguf, one for each way of cutting text that rote knows, and what Hugging Face's tokenizers
makes of some texts with the same tokens and merges (`expected.json`).

    python data/tiny/make_tokenizers.py    # tokenizers, transformers, gguf

The way of cutting is taken from transformers' own classes where it has one: GPT2Tokenizer, Qwen2Tokenizer, the
TikToken converter for Llama 3. SmolLM2's is the one its tokenizer.json holds: digits one by one, then as GPT-2.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent

import gguf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Tokenizer, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

OUT = HERE / "tokenizers"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = [
    "Hello world, it's the reader's 2nd try; they'll see.",
    "Call  12 34   5678, or   9",
    "x   2024\n\n  7\n\n\n",
    "  leading and trailing   ",
    "tabs\tand\r\nline ends\r\n \n",
    "WE'RE SHOUTING, DON'T",
    "caf\u00e9 cafe\u0301 \u00fcber na\u00efve \u65e5\u672c\u8a9e \u4f60\u597d",
    "\u0663\u0664 \u00bd \u2167 numbers of other kinds",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 here",
    "<|im_start|>user\nhi<|im_end|>\n",
    "snake_case(camelCase) == {a: [1, 2.50]} // 100,000",
    "a",
    "",
]


def train():
    """A few hundred byte-level tokens from this folder's own scripts and the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=CONTROL, initial_alphabet=alphabet, show_progress=False)
    # Runs of blanks before digits and long numbers, so that a wrong cut changes tokens.
    extra = ["  ", "   ", " 12", " 34", "123", "5678", "2024", "\n\n  ", "'re", "'RE", " DON'T"] * 30
    tokenizer.train_from_iterator([(HERE / "reference.py").read_text(), *TEXTS * 4, *extra], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def pipelines(vocab, merges):
    """By name of `pre`: a tokenizer that cuts as the published one does."""
    gpt2 = GPT2Tokenizer(vocab=vocab, merges=merges, add_prefix_space=False)._tokenizer
    qwen2 = Qwen2Tokenizer(vocab=vocab, merges=merges)._tokenizer
    smollm = Tokenizer(models.BPE(vocab, merges))
    smollm.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    llama = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    pattern = TikTokenConverter("").pattern
    llama.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(__import__("tokenizers").Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return {"gpt-2": gpt2, "smollm": smollm, "qwen2": qwen2, "llama-bpe": llama}


def main():
    OUT.mkdir(exist_ok=True)
    vocab, merges = train()
    tokens = sorted(vocab, key=vocab.get)
    expected = {}
    for pre, tokenizer in pipelines(vocab, merges).items():
        tokenizer.add_special_tokens(CONTROL)
        expected[pre] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        writer = gguf.GGUFWriter(OUT / f"{pre}.gguf", "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([gguf.TokenType.CONTROL if t in CONTROL else gguf.TokenType.NORMAL for t in tokens])
        writer.add_token_merges([" ".join(merge) for merge in merges])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(pre == "llama-bpe")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    names = list(expected)
    for a in names:
        for b in names:
            assert a >= b or expected[a] != expected[b], f"{a} and {b} cannot be told apart by these texts"
    text = json.dumps({"texts": TEXTS, "tokens": expected}, ensure_ascii=True)
    (OUT / "expected.json").write_text(text.replace("], [", "],\n[") + "\n")
    print({pre: sum(map(len, lists)) for pre, lists in expected.items()}, len(tokens))


main()
