//! A bound on a sum over heads (lemma L3), and the constants of value and output matrices it needs.
//!
//! If `|y_h| <= t_h`, then `|sum_h y_h OV_h|` is at most the least of `sum_h n_h t_h` (triangle inequality),
//! `kappa (sum_h t_h^2)^(1/2)` and `kappa_w (sum_h n_h t_h^2)^(1/2)`: the sum is the row `(y_h)_h`, or
//! `(y_h sqrt(n_h))_h`, times the stacked matrices `OV_h`, or `OV_h / sqrt(n_h)`, of norms `kappa`, `kappa_w`.
//!
//! `OV_h = W_V^h W_O^h` is never formed: with `L_h L_h^T >= W_V^hT W_V^h` the matrix `W_O^hT L_h` is at
//! least as long in every direction.

use rote_model::Matrix;

use crate::linear::{View, accumulate, product, product_error, view};
use crate::spectral::{covering_factor, spectral_norm};

/// `n_h`, `kappa` and `kappa_w` of one block.
#[derive(Clone, Debug)]
pub struct HeadSum {
    /// `n_h >= |OV_h|`.
    pub each: Vec<f64>,
    /// Norm of all `OV_h` stacked.
    pub stacked: f64,
    /// Norm of all `OV_h / sqrt(n_h)` stacked.
    pub weighted: f64,
}

impl HeadSum {
    /// From folded values `[n_kv d_head, d]` and the output matrix `[d, n_heads d_head]`.
    pub(crate) fn new(value: View<'_>, out: View<'_>, n_heads: usize, d_head: usize) -> HeadSum {
        let (d, d_query) = out.shape();
        let group = n_heads * d_head / value.shape().0;
        let covers: Vec<_> =
            (0..n_heads / group).map(|kv| covering_factor(value.rows(kv * d_head, d_head))).collect();
        let mut all = Matrix::new(d, d_query, vec![0.0; d * d_query]);
        let mut errors = 0.0;
        let mut each = Vec::with_capacity(n_heads);
        for head in 0..n_heads {
            let (first, cover) = (head * d_head, view(&covers[head / group]));
            let slice = out.cols(first, d_head);
            accumulate(&mut all.data[first..], d_query, 1.0, slice, cover);
            let error = product_error(slice, cover);
            each.push(spectral_norm(view(&all).cols(first, d_head), error));
            errors += error;
        }
        let stacked = spectral_norm(view(&all), errors);
        let mut weighted_errors = 0.0;
        for head in 0..n_heads {
            if each[head] > 0.0 {
                let scale = 1.0 / each[head].sqrt();
                weighted_errors += errors * scale;
                for row in 0..d {
                    all.data[row * d_query + head * d_head..][..d_head].iter_mut().for_each(|x| *x *= scale);
                }
            }
        }
        let weighted = spectral_norm(view(&all), weighted_errors);
        HeadSum { each, stacked, weighted }
    }

    /// The bound for `|y_h| <= t_h`.
    pub fn bound(&self, t: &[f64]) -> f64 {
        let (mut plain, mut squares, mut weighted) = (0.0, 0.0, 0.0);
        for (n, t) in self.each.iter().zip(t) {
            plain += n * t;
            squares += t * t;
            weighted += n * t * t;
        }
        f64::min(plain, self.stacked * squares.sqrt()).min(self.weighted * weighted.sqrt())
    }

    /// The bound where every `|y_h| <= t`.
    pub fn uniform(&self, t: f64) -> f64 {
        self.bound(&vec![t; self.each.len()])
    }
}

/// Values `[n_kv d_head, d]` repeated for the query heads that `wanted` names, others zero:
/// `[n_heads d_head, d]`.
pub(crate) fn expanded(value: &Matrix<f64>, d_head: usize, wanted: &[bool]) -> Matrix<f64> {
    let group = wanted.len() * d_head / value.rows;
    let mut data = Vec::with_capacity(wanted.len() * d_head * value.cols);
    for (head, &wanted) in wanted.iter().enumerate() {
        let rows = &value.data[head / group * d_head * value.cols..][..d_head * value.cols];
        if wanted { data.extend_from_slice(rows) } else { data.resize(data.len() + rows.len(), 0.0) }
    }
    Matrix::new(wanted.len() * d_head, value.cols, data)
}

/// `|sum_{h in wanted} OV_h|`.
pub(crate) fn operator_norm(value: &Matrix<f64>, out: View<'_>, d_head: usize, wanted: &[bool]) -> f64 {
    let value = expanded(value, d_head, wanted);
    let sum = product(out, view(&value));
    spectral_norm(view(&sum), product_error(out, view(&value)))
}
