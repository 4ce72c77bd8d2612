"""Intervals and levels as scipy and plain numpy compute them, those of resamples from the very same ones, for `bca.rs`,
`studentised.rs`, `tango.rs` and `bootstrap.rs` in `crates/score/src`.

    pip install numpy scipy
    python3 crates/score/tests/intervals.py

Every resample of five items is drawn once (5⁵ = 3125, all equally likely), so nothing is left to chance. The printed
numbers stand in the tests `the_interval_is_scipys` and `the_intervals_are_those_of_plain_sums`.
"""

import itertools

import numpy as np
from scipy import stats
from scipy.stats import _resampling

ITEMS = np.array([0.25, 0.5, 1.0, 1.125, 4.0])
DRAWS = np.array(list(itertools.product(range(5), repeat=5)))


def every(sample, **_):
    """In place of scipy's draws: all there are."""
    return sample[..., DRAWS]


_resampling._bootstrap_resample = every
for name, statistic in (("mean", np.mean), ("exp(-mean)", lambda x, axis: np.exp(-np.mean(x, axis=axis)))):
    found = stats.bootstrap((ITEMS,), statistic, n_resamples=len(DRAWS), batch=len(DRAWS), method="BCa", vectorized=True)
    print("BCa of", name, *(repr(float(end)) for end in found.confidence_interval))

# Bootstrap-t from its definition; eight items are drawn as the rows of a fixed list.
eight = np.array([0.25, 0.5, 1.0, 1.125, 4.0, 0.75, 2.5, 0.125])
row, place = np.arange(200)[:, None], np.arange(8)[None, :]
drawn = eight[((31 * row + 17 * place) ** 2 // 23) % 8]
error = drawn.std(axis=1, ddof=1) / np.sqrt(8)
distance = (drawn.mean(axis=1) - eight.mean()) / error
whole = eight.std(ddof=1) / np.sqrt(8)
low, high, size = *np.quantile(distance, [0.025, 0.975]), np.quantile(abs(distance), 0.95)
assert error.min() > 0
print("bootstrap-t", repr(float(eight.mean() - whole * high)), repr(float(eight.mean() - whole * low)))
print("symmetric", repr(float(eight.mean() - whole * size)), repr(float(eight.mean() + whole * size)))

# Tango's interval with the likeliest chances found by a search instead of the closed form: of b items that changed one
# way, c the other, n - b - c that did not, under a difference of delta.
from scipy.optimize import brentq, minimize_scalar


def likeliest(b, c, n, delta):
    def loss(q):
        p, rest = q + delta, 1 - 2 * q - delta
        parts = [(b, p), (c, q), (n - b - c, rest)]
        return -sum(k * np.log(max(share, 1e-300)) for k, share in parts if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-14}).x
    return min([low, found, high], key=loss)


def tango(b, c, n):
    def far(delta):
        q = likeliest(b, c, n, delta)
        return (b - c - n * delta) / np.sqrt(max(n * (2 * q + delta * (1 - delta)), 1e-300))

    z, value, edge = stats.norm.ppf(0.975), (b - c) / n, 1 - 1e-9
    low = -1.0 if far(-edge) <= z else brentq(lambda d: far(d) - z, -edge, value - 1e-9, xtol=1e-12)
    high = 1.0 if far(edge) >= -z else brentq(lambda d: far(d) + z, value + 1e-9, edge, xtol=1e-12)
    return low, high


for counts in [(1, 7, 21), (0, 3, 50), (0, 0, 50), (0, 40, 40), (9, 4, 200)]:
    print("Tango", counts, *(f"{end:.8f}" for end in tango(*counts)))
print("mid-p of 4 in 13", 2 * stats.binom.cdf(4, 13, 0.5) - stats.binom.pmf(4, 13, 0.5))

# The level of no difference of the eight less 1: all 256 ways to swap them.
swapped = stats.permutation_test(
    (eight, np.ones(8)), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
)
print("level of swaps", swapped.pvalue, len(swapped.null_distribution))
