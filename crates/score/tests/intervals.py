"""Intervals as scipy and plain numpy compute them from the very same resamples, for `crates/score/src/bca.rs` and
`studentised.rs`.

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
