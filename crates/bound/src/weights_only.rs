//! Theorem F: bounds from the weights alone, for every input.
//!
//! F1 `max_i |D_i| <= A5 prod(1 + Lam/sqrt(eps))` multiplies Lipschitz constants: a norm's slope is at most
//! `1/sqrt(eps)`, a sublayer's in the normalised state at most `Lam`: of attention `sum_h n_h (1 + sqrt(d) ks_h)` with
//! `n_h = |OV_h|` and `ks_h = c (|W~_Q|(sqrt(d)|W~_K| + |b~_K|) + |W~_K|(sqrt(d)|W~_Q| + |b~_Q|))` (L1, L7 with
//! `tanh x <= x`), of a plain MLP `|W_2| sup|act'| |W~_1|`, of a gated one
//! `|W_2| (sup|act'| max_k(sqrt(d)|w'_k| + |b~_3k|) |W~_1| + max_k sup|act| |W~_3|)`. The difference after the
//! bypassed block's attention is at most `A5`; each later sublayer multiplies it by `1 + Lam/sqrt(eps)`, a parallel
//! block by `1 + (Lam^A + Lam^M)/sqrt(eps)`. It overflows any number and is kept as a logarithm, as the reason for the
//! others.
//!
//! F2 `max_i |D_i| <= A5_l + [2 B_M,l if sequential] + sum over k > l of 2 (B_A,k + B_M,k)` adds diameters: whatever
//! happened before, a later sublayer's output moves by at most the diameter of its range. At an earlier block's output
//! both stop there. For sets of blocks each changed block adds its own displacement on the way.

use crate::constants::Constants;
use crate::linear::norm;
use crate::local::from_weights;
use crate::plan::{AttnPlan, Plan};

/// At the output of blocks `plan.first ..`: F2, and the base-10 logarithm of F1; the same for all tokens.
pub(crate) struct WeightsOnly {
    pub additive: Vec<f64>,
    pub product_log10: Vec<f64>,
}

/// What the logarithm of F1 can be off by: a relative 1e-9 of F1 is less than half of it.
pub(crate) const LOG10_SLACK: f64 = 1e-9;

/// F1 and F2 of one intervention; without slack.
pub(crate) fn weights_only(constants: &Constants, plan: &Plan) -> WeightsOnly {
    let spec = &constants.spec;
    let slope = 1.0 / spec.eps.sqrt();
    let (mut sum, mut log) = (0.0, f64::NEG_INFINITY);
    let mut bounds = WeightsOnly { additive: Vec::new(), product_log10: Vec::new() };
    for (index, block) in plan.blocks.iter().enumerate().skip(plan.first) {
        let c = &constants.blocks[index];
        let first = index == plan.first;
        let attn = from_weights(spec, &c.attn, &block.attn, first);
        let mlp_out = block.mlp_zero.then(|| c.mlp.reach + norm(&c.mlp.down_bias));
        // Nothing differs before the first changed module, so what reads that input does not move.
        let attn_changed = !matches!(block.attn, AttnPlan::Keep);
        let mlp_reads_difference = !first || (constants.sequential() && attn_changed);
        sum += attn + mlp_out.unwrap_or(if mlp_reads_difference { 2.0 * c.mlp.reach } else { 0.0 });
        let attn_slope = match (first, attn_changed) {
            (false, false) => c.attn.lipschitz * slope,
            _ => 0.0,
        };
        let mlp_slope =
            if mlp_out.is_some() || !mlp_reads_difference { 0.0 } else { c.mlp.lipschitz * slope };
        let added = if attn_changed { attn } else { 0.0 };
        if constants.sequential() {
            log = add(log + attn_slope.ln_1p(), added.ln());
            log = add(log + mlp_slope.ln_1p(), mlp_out.unwrap_or(0.0).ln());
        } else {
            log = add(log + (attn_slope + mlp_slope).ln_1p(), (added + mlp_out.unwrap_or(0.0)).ln());
        }
        bounds.additive.push(sum);
        bounds.product_log10.push(log / std::f64::consts::LN_10);
    }
    bounds
}

/// `ln(e^a + e^b)`.
fn add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}
