//! Theorem K: an exact decomposition of a measured final difference.
//!
//! `D_final = delta + sum over later sublayers of (F(x~) - F(x))`. Projected on `D_final / |D_final|` the parts
//! sum to `|D_final|` exactly. The share of `delta` is what reaches the output directly, the rest is what
//! later attention modules and MLPs make of it.

use rote_model::Matrix;

use crate::linear::dot;
use crate::trace::Trace;

/// Shares of `|D_final|` of one token; they sum to one, or are all zero where nothing differs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    /// The first changed module's own displacement.
    pub direct: f64,
    /// All other attention modules.
    pub attn: f64,
    /// All other MLPs.
    pub mlp: f64,
}

/// Shares per token. `attn_first`: the first changed module of `changed.from` is its attention, not its MLP.
pub(crate) fn shares(plain: &Trace, changed: &Trace, attn_first: bool) -> Vec<Shares> {
    let n = plain.last.rows;
    (0..n)
        .map(|i| {
            let row = |a: &Matrix<f64>, b: &Matrix<f64>| -> Vec<f64> {
                a.row(i).iter().zip(b.row(i)).map(|(a, b)| b - a).collect()
            };
            let total = row(&plain.last, &changed.last);
            let square = dot(&total, &total);
            let mut shares = Shares::default();
            if square == 0.0 {
                return shares;
            }
            for at in 0..changed.attn.len() {
                let block = at + changed.from - plain.from;
                let attn = dot(&row(&plain.attn[block], &changed.attn[at]), &total) / square;
                let mlp = dot(&row(&plain.mlp[block], &changed.mlp[at]), &total) / square;
                match (at, attn_first) {
                    (0, true) => (shares.direct, shares.mlp) = (attn, mlp),
                    (0, false) => (shares.attn, shares.direct) = (attn, mlp),
                    _ => {
                        shares.attn += attn;
                        shares.mlp += mlp;
                    }
                }
            }
            shares
        })
        .collect()
}
