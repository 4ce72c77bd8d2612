//! A norm bound that mixes rows and spectrum (lemma L5), so that a few large neurons do not multiply the
//! whole spectral norm.
//!
//! For weights `v_k >= 0`, columns `w_k` of `W` and any set `T`: `|diag(v) W^T x|^2 <= |x|^2 (sum over T of
//! v_k^2 |w_k|^2 + max over the rest of v_k^2 |W|^2)`: bound the two parts separately. The best `T` is a
//! prefix of the `v_k` sorted downwards.

/// Up to so many neurons every prefix is tried; above, those that end between two classes of like `v_k^2`.
const SORTED: usize = 96;
/// Bits of the mantissa that tell classes apart: 32 to a doubling of `v_k^2`.
const FINE: u32 = 5;
/// Doublings that have classes of their own; what is smaller shares the last.
const DOUBLINGS: usize = 12;

/// The least of these bounds on `|diag(v) W^T|`, from `v_k`, `|w_k|` and `|W|`. Any `T` is valid, so classes
/// instead of an order cost at most the width of one (1.6 % of the bound) and spare the sorting.
pub fn hybrid(v: impl Iterator<Item = f64>, columns: &[f64], spectral: f64) -> f64 {
    let square = spectral * spectral;
    let mut pairs: Vec<(f64, f64)> = v.zip(columns).map(|(v, w)| (v * v, v * v * w * w)).collect();
    if pairs.len() > SORTED {
        return by_classes(&pairs, square);
    }
    pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut taken, mut best) = (0.0, f64::INFINITY);
    for (v, weighted) in pairs {
        best = f64::min(best, taken + v * square);
        taken += weighted;
    }
    best.min(taken).sqrt()
}

fn by_classes(pairs: &[(f64, f64)], square: f64) -> f64 {
    const CLASSES: usize = (DOUBLINGS << FINE) + 1;
    // The bits of a positive number grow with it: their head is its class.
    let class = |v: f64| (v.to_bits() >> (52 - FINE)) as usize;
    let most = pairs.iter().fold(0.0, |most, pair| f64::max(most, pair.0));
    if !most.is_finite() {
        return f64::INFINITY;
    }
    let top = class(most);
    let (mut sums, mut largest) = ([0.0; CLASSES], [0.0; CLASSES]);
    for &(v, weighted) in pairs {
        let at = (top - class(v)).min(CLASSES - 1);
        sums[at] += weighted;
        largest[at] = if v > largest[at] { v } else { largest[at] };
    }
    let (mut taken, mut best) = (0.0, f64::INFINITY);
    for (sum, largest) in sums.into_iter().zip(largest).filter(|class| class.1 > 0.0) {
        best = f64::min(best, taken + largest * square);
        taken += sum;
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

    #[test]
    fn classes_lose_little_and_never_undercut() {
        let mut seed = 3_u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 11) as f64 / (1u64 << 53) as f64
        };
        for round in 0..200 {
            let m = 97 + round;
            // Even, and with outliers.
            let power = [1.0, 4.0, 12.0][round % 3];
            let v: Vec<f64> = (0..m).map(|_| (3.0 * noise()).powf(power)).collect();
            let columns: Vec<f64> = (0..m).map(|_| 0.2 + noise()).collect();
            let spectral = 1.2 + 3.0 * noise();
            let fast = hybrid(v.iter().copied(), &columns, spectral);
            let mut pairs: Vec<(f64, f64)> =
                v.iter().map(|v| v * v).zip(columns.iter().map(|w| w * w)).collect();
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
            let exact = (0..=m)
                .map(|taken| {
                    let sum: f64 = pairs[..taken].iter().map(|(v, w)| v * w).sum();
                    sum + pairs.get(taken).map_or(0.0, |(v, _)| v * spectral * spectral)
                })
                .fold(f64::INFINITY, f64::min)
                .sqrt();
            assert!(fast >= exact * (1.0 - 1e-12) && fast <= exact * 1.016, "{round}: {fast} {exact}");
        }
        assert_eq!(hybrid([0.0; 200].into_iter(), &[1.0; 200], 1.0), 0.0);
    }
}
