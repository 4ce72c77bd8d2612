"""Metrics as other implementations compute them, for the test `other_implementations_agree` of `tests/score/oracles.rs`.

    pip install numpy mpmath scikit-learn rouge-score
    python3 crates/score/tests/oracles.py > crates/score/tests/golden/oracles.json

150 sequences of 6 tokens from a made-up model over 30 tokens, 40 of them memorized. From the full distributions:
entropy, deviation, Min-K% and Min-K%++ in numpy; temperature, top-k and top-p in numpy, p_z and the (n, p) numbers with
50 digits in mpmath; ROUGE-L by rouge-score, edit distance and longest common subsequence by plain recursion; area under
the ROC curve and true positives at 5 % false ones by scikit-learn; recall at 100 errors by going down the list.
"""

import functools
import json
import zlib

import mpmath
import numpy as np
from rouge_score import rouge_scorer, tokenizers
from sklearn.metrics import roc_auc_score, roc_curve

mpmath.mp.dps = 50
rng = np.random.default_rng(20)
MEMBERS, ALL, Q, V = 40, 150, 6, 30
TEMPERATURE, TOP_K, TOP_P = 0.8, 12, 0.9
MIN_K, DRAWS, CHANCE, FPR = 0.4, 100, 0.5, 0.05


class Numbers(tokenizers.Tokenizer):
    def tokenize(self, text):
        return text.split()


rouge = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Numbers())


def sampler(logits):
    """Log-probabilities after temperature, then top-k, then top-p of what is left (the token that crosses p stays)."""
    scaled = logits / TEMPERATURE
    order = np.argsort(-scaled, kind="stable")[:TOP_K]
    p = np.exp(scaled[order] - scaled[order].max())
    p /= p.sum()
    keep = np.cumsum(p) - p < TOP_P
    out = np.full(len(logits), -np.inf)
    out[order[keep]] = np.log(p[keep] / p[keep].sum())
    return out


def levenshtein(a, b):
    @functools.lru_cache(None)
    def at(i, j):
        if not i or not j:
            return i + j
        return min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return at(len(a), len(b))


def subsequence(a, b):
    @functools.lru_cache(None)
    def at(i, j):
        if not i or not j:
            return 0
        return at(i - 1, j - 1) + 1 if a[i - 1] == b[j - 1] else max(at(i - 1, j), at(i, j - 1))

    return at(len(a), len(b))


sequences = []
for number in range(ALL):
    member = number < MEMBERS
    truth = rng.integers(0, V, Q)
    logits = rng.normal(0, 1.5, (Q, V))
    # Memorized: most tokens are likely, some not; of the others a few are.
    logits[np.arange(Q), truth] += np.where(rng.random(Q) < (0.85 if member else 0.3), 6.0, 0.5)
    logp = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1, keepdims=True)
    p = np.exp(logp)
    mean = (p * logp).sum(1)
    deviation = np.sqrt((p * logp**2).sum(1) - mean**2)
    own = logp[np.arange(Q), truth]
    argmax = logp.argmax(1)
    wrong = np.flatnonzero(argmax != truth)
    matched = int(wrong[0]) if len(wrong) else Q
    # After the first wrong token the free text goes its own way: perhaps the truth, shifted by one.
    generated = np.concatenate([argmax[: matched + 1], rng.integers(0, V, Q)])[:Q]
    if matched < Q and rng.random() < 0.5:
        generated[matched + 1 :] = truth[matched : Q - 1]
    sampled = np.array([sampler(row)[token] for row, token in zip(logits, truth)])
    log_p_z = mpmath.fsum(mpmath.mpf(float(value)) for value in sampled) if np.isfinite(sampled).all() else None
    k = int(MIN_K * Q)
    texts = [" ".join(map(str, tokens)) for tokens in (truth, generated)]
    expected = {
        "exact_match": float(matched == Q),
        "matched": matched,
        "token_accuracy_free": float((generated == truth).mean()),
        "token_accuracy_forced": float((argmax == truth).mean()),
        "logprob": float(own.sum()),
        "loss": float(-own.mean()),
        "perplexity": float(np.exp(-own.mean())),
        "entropy": float(-mean.mean()),
        "entropy_sum": float(-mean.sum()),
        "extraction_strength": 1 - next((i for i in range(Q + 1) if (argmax[i:] == truth[i:]).all()), Q) / Q,
        "min_k": float(np.sort(own)[:k].mean()),
        "min_k_plus_plus": float(np.sort((own - mean) / deviation)[:k].mean()),
        "edit_distance": levenshtein(tuple(generated), tuple(truth)),
        "common_subsequence": subsequence(tuple(generated), tuple(truth)),
        "rouge_l": rouge.score(*texts)["rougeL"].fmeasure,
        "reachable": float(log_p_z is not None),
        "p_z": 0.0,
        "discoverable": 0.0,
        "np_discoverable": 0.0,
    }
    if log_p_z is not None:
        p_z = mpmath.exp(log_p_z)
        once = 1 - (1 - p_z) ** DRAWS
        expected |= {
            "p_z": float(p_z),
            "log10_p_z": float(log_p_z / mpmath.log(10)),
            "discoverable": float(once),
            "np_discoverable": float(once >= CHANCE),
            "draws_log10": max(0.0, float(mpmath.log10(mpmath.log(1 - mpmath.mpf(CHANCE)) / mpmath.log(1 - p_z)))),
        }
    compressed = len(zlib.compress(texts[0].encode()))
    expected["zlib_ratio"] = float(-own.sum() / compressed)
    expected = {name: float(value) for name, value in expected.items()}
    sequences.append(
        {
            "member": member,
            "zlib_bytes": compressed,
            "token": truth.tolist(),
            "logprob": own.tolist(),
            "argmax": argmax.tolist(),
            "argmax_logprob": logp.max(1).tolist(),
            "entropy": (-mean).tolist(),
            "deviation": deviation.tolist(),
            "generated": generated.tolist(),
            "sampled": [value if np.isfinite(value) else None for value in sampled.tolist()],
            "expected": expected,
        }
    )

label = np.array([s["member"] for s in sequences])
summary = {}
for name, sign in (("loss", -1), ("zlib_ratio", -1), ("min_k", 1), ("min_k_plus_plus", 1)):
    scores = sign * np.array([s["expected"][name] for s in sequences])
    false, true, _ = roc_curve(label, scores, drop_intermediate=False)
    summary[f"{name}_auc"] = roc_auc_score(label, scores)
    summary[f"{name}_tpr"] = true[false <= FPR].max()

# Confidence: the mean log-probability of the guess up to and with its first wrong token.
guesses = []
for s in sequences:
    known = min(Q, int(s["expected"]["matched"]) + 1)
    guesses.append((np.mean(s["argmax_logprob"][:known]), s["expected"]["exact_match"]))
wrong = right = 0
for _, hit in sorted(guesses, key=lambda guess: (-guess[0], guess[1])):
    right, wrong = right + hit, wrong + (1 - hit)
    if wrong == 100:
        break
assert wrong == 100
summary["recall_at_100_errors"] = right / ALL

settings = {"min_k": MIN_K, "draws": DRAWS, "chance": CHANCE, "fpr": FPR}
print(json.dumps({"settings": settings, "sequences": sequences, "summary": {k: float(v) for k, v in summary.items()}}))
