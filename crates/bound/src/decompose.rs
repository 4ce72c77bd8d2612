//! Theorem K: an exact decomposition of a measured final difference.
//!
//! `D_final = delta + sum over later sublayers of (F(x~) - F(x))`, the MLP of a sequential block itself among them.
//! Projected on `D_final / |D_final|` the parts sum to `|D_final|` exactly. The share of `delta` is what reaches the
//! output directly, the rest is what later attention modules and MLPs make of it.

use crate::intervened::Intervened;
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

/// Shares per token. `attn_first`: the first changed module of the run is an attention, not an MLP.
pub(crate) fn shares(plain: &Trace, run: &Intervened, attn_first: bool) -> Vec<Shares> {
    let (n, d) = (plain.last.rows, plain.last.cols);
    (0..n)
        .map(|i| {
            let pairs = run.last.row(i).iter().zip(plain.last.row(i));
            let total: Vec<f64> = pairs.map(|(after, before)| after - before).collect();
            let square = dot(&total, &total);
            let mut shares = Shares::default();
            if square == 0.0 {
                return shares;
            }
            let share = |moved: &[f64]| match moved {
                [] => 0.0,
                moved => dot(&moved[i * d..(i + 1) * d], &total) / square,
            };
            for (at, (attn, mlp)) in run.attn.iter().zip(&run.mlp).enumerate() {
                let (attn, mlp) = (share(attn), share(mlp));
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
