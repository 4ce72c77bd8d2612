//! Theorems H2 and H3: bounds for whole families of changes at once.
//!
//! H2: every subset of the changed heads. `|sum over S of delta^h|` is convex on the cube, so its largest value
//! is at a corner: by enumeration for up to 12 heads, else the least of the sum of norms and the root of the
//! positive entries of the heads' Gram matrix. H3: every causal row-stochastic pattern in the given heads:
//! `sum_j P'_ij (v_j - o_i)` is a convex combination, at most the farthest value.

use rote_model::Matrix;

use crate::linear::dot;
use crate::plan::HeadPlan;
use crate::point::AttnPoint;

/// Heads up to which all subsets are tried.
const ENUMERATED: usize = 12;

/// H2 per token, from the heads' displacements, each `[n, d]`.
pub(crate) fn any_subset(heads: &[Matrix<f64>]) -> Vec<f64> {
    let n = heads.first().map_or(0, |head| head.rows);
    (0..n)
        .map(|i| {
            let rows: Vec<&[f64]> = heads.iter().map(|head| head.row(i)).collect();
            let gram: Vec<Vec<f64>> = rows.iter().map(|a| rows.iter().map(|b| dot(a, b)).collect()).collect();
            largest_subset(&gram)
        })
        .collect()
}

fn largest_subset(gram: &[Vec<f64>]) -> f64 {
    let count = gram.len();
    if count > ENUMERATED {
        let norms: f64 = (0..count).map(|h| gram[h][h].sqrt()).sum();
        let positive: f64 = gram.iter().flatten().filter(|&&entry| entry > 0.0).sum();
        return norms.min(positive.sqrt());
    }
    // Gray code: one head enters or leaves at a time; `with[h]` is the inner product with the sum.
    let (mut with, mut inside, mut square, mut best) =
        (vec![0.0; count], vec![false; count], 0.0_f64, 0.0_f64);
    for step in 1..1_u32 << count {
        let head = step.trailing_zeros() as usize;
        let sign = if inside[head] { -1.0 } else { 1.0 };
        square += 2.0 * sign * with[head] + gram[head][head];
        with.iter_mut().zip(&gram[head]).for_each(|(with, entry)| *with += sign * entry);
        inside[head] = !inside[head];
        best = best.max(square);
    }
    // 4096 updates, each off by at most a few units of the largest sum of squares.
    let size: f64 = (0..count).map(|h| gram[h][h].sqrt()).sum::<f64>().powi(2);
    (best + 1e-12 * size).sqrt()
}

/// H3 per token.
pub(crate) fn any_pattern(plan: &HeadPlan, point: &AttnPoint) -> Vec<f64> {
    (0..point.first.len())
        .map(|i| {
            let heads = point.heads.iter().zip(&plan.identity).filter(|(_, changed)| **changed);
            heads
                .map(|(head, _)| head.spread.row(i)[point.first[i]..=i].iter().copied().fold(0.0, f64::max))
                .sum()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_is_below_and_one_attains_it() {
        let heads: Vec<Matrix<f64>> = [[1.0, 0.0], [0.5, 1.0], [-2.0, 0.1], [0.3, -0.4]]
            .iter()
            .map(|row| Matrix::new(1, 2, row.to_vec()))
            .collect();
        let bound = any_subset(&heads)[0];
        let mut best = 0.0_f64;
        for set in 0..16_u32 {
            let mut sum = [0.0; 2];
            for (h, head) in heads.iter().enumerate().filter(|(h, _)| set >> h & 1 == 1) {
                let _ = h;
                sum[0] += head.data[0];
                sum[1] += head.data[1];
            }
            best = best.max(sum[0].hypot(sum[1]));
        }
        assert!((bound / best - 1.0).abs() < 1e-9, "{bound} {best}");
    }
}
