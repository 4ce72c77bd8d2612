//! A norm bound that mixes rows and spectrum (lemma L5), so that a few large neurons do not multiply the
//! whole spectral norm.
//!
//! For weights `v_k >= 0`, columns `w_k` of `W` and any set `T`: `|diag(v) W^T x|^2 <= |x|^2 (sum over T of
//! v_k^2 |w_k|^2 + max over the rest of v_k^2 |W|^2)`: bound the two parts separately. The best `T` is a
//! prefix of the `v_k` sorted downwards.

/// The least of these bounds on `|diag(v) W^T|`, from `v_k`, `|w_k|` and `|W|`.
pub fn hybrid(v: impl Iterator<Item = f64>, columns: &[f64], spectral: f64) -> f64 {
    let mut pairs: Vec<(f64, f64)> = v.zip(columns).map(|(v, w)| (v * v, v * v * w * w)).collect();
    pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let square = spectral * spectral;
    let (mut taken, mut best) = (0.0, f64::INFINITY);
    for (v, weighted) in pairs {
        best = f64::min(best, taken + v * square);
        taken += weighted;
    }
    best.min(taken).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_better_of_rows_and_spectrum() {
        let columns = [1.0, 1.0, 1.0];
        // Orthonormal columns: the spectrum alone.
        assert!((hybrid([2.0, 2.0, 2.0].into_iter(), &columns, 1.0) - 2.0).abs() < 1e-15);
        // One outlier: its row, and the spectrum of the rest.
        let mixed = hybrid([10.0, 1.0, 1.0].into_iter(), &columns, 1.0);
        assert!((mixed - 10.0).abs() < 1e-12, "{mixed}");
        let mixed = hybrid([10.0, 1.0, 1.0].into_iter(), &columns, 3f64.sqrt());
        assert!((mixed - 102f64.sqrt()).abs() < 1e-12, "{mixed}");
        // All rows at once are never worse than the Frobenius norm.
        assert!((hybrid([1.0, 1.0, 1.0].into_iter(), &columns, 9.0) - 3f64.sqrt()).abs() < 1e-12);
    }
}
