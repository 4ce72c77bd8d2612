//! Theorem E: how far a difference can grow through later blocks, along the model's own trajectory.
//!
//! `rho_i` bounds `|D_i|` at a block's input. The block's norm turns it into a step `r(rho)` (lemma L2 with the
//! trajectory's own `s(x_i)`), attention into at most theorem C of it, the MLP into at most theorem D:
//!
//! sequential `rho' = rho + C(r(rho))`, then `rho' + D(r(rho'))`; parallel `rho + C(r(rho)) + D(r(rho))`.
//!
//! By induction and the triangle inequality `|D_i| <= rho_i` at every block's output. Where a block is itself changed,
//! theorem H1 takes C's place, `|c - A_i|` where its output is a constant, and `|M_i|` D's place where the MLP is set to
//! zero. Started at the first changed block with `rho = 0` this is E; started `m` blocks before the end, at
//! differences that were measured, it is the look-ahead G, of which `m = 0` is the exact value.
//!
//! The caps inside C and D make the growth additive: products of slopes would overflow.

use crate::attention::changed_attention_step;
use crate::constants::Constants;
use crate::local::Moves;
use crate::mlp::mlp_step;
use crate::plan::{BlockPlan, Plan};
use crate::point::BlockPoint;

/// Factor by which each step is enlarged: its terms are non-negative sums of fewer than a million operations.
pub(crate) const INFLATE: f64 = 1.0 + 1e-9;

/// A running bound per token.
#[derive(Clone)]
pub(crate) struct Rho {
    /// `rho_i`, with the slack of all steps so far and what later steps made of it.
    pub bound: Vec<f64>,
    /// What was added to it for rounding, step by step.
    pub slack: Vec<f64>,
}

impl Rho {
    /// Nothing differs.
    pub(crate) fn nothing(n: usize) -> Rho {
        Rho { bound: vec![0.0; n], slack: vec![0.0; n] }
    }
}

/// `rho_i` at the output of blocks `from ..`, first to last, started with `rho` at the input of `from`.
pub(crate) fn propagate(
    constants: &Constants,
    points: &[BlockPoint],
    plan: &Plan,
    moves: &Moves,
    from: usize,
    mut rho: Rho,
) -> Vec<Rho> {
    // Theorem B1: no bypass changes token 0; what is left is the rounding of the runs, of all blocks so far, so
    // that it is the same for every bypass.
    let mut first: f64 = points[..from].iter().map(|point| margin(point, 0)).sum();
    let unchanged = |rho: &mut Rho, first: f64| (rho.bound[0], rho.slack[0]) = (first, first);
    if plan.only_identity && from > plan.first {
        unchanged(&mut rho, first);
    }
    (from..points.len())
        .map(|block| {
            first += margin(&points[block], 0);
            rho = step(constants, block, &points[block], &plan.blocks[block], moves, &rho);
            if plan.only_identity {
                unchanged(&mut rho, first);
            }
            rho.clone()
        })
        .collect()
}

fn step(
    constants: &Constants,
    block: usize,
    point: &BlockPoint,
    plan: &BlockPlan,
    moves: &Moves,
    Rho { bound: rho, slack }: &Rho,
) -> Rho {
    let spec = &constants.spec;
    let (attn, mlp) = (&constants.blocks[block].attn, &constants.blocks[block].mlp);
    let r = point.before_attn.steps(rho);
    let changed = moves.at(block);
    let delta = changed.map_or(&[][..], |moved| &moved.length);
    let moved = changed_attention_step(spec, attn, &plan.attn, &point.attn, delta, &r);
    let middle: Vec<f64> = rho.iter().zip(&moved).map(|(rho, moved)| (rho + moved) * INFLATE).collect();
    // A parallel block's MLP reads the block's input.
    let r = point.before_mlp.steps(if constants.sequential() { &middle } else { rho });
    let mut next = Rho { bound: middle, slack: slack.clone() };
    for (i, (bound, slack)) in next.bound.iter_mut().zip(&mut next.slack).enumerate() {
        let moved = if plan.mlp_zero {
            point.mlp.size(i)
        } else {
            mlp_step(mlp, &point.mlp, i, r[i], point.before_mlp.length[i])
        };
        let sum = *bound + moved;
        *slack += changed.map_or(0.0, |moved| moved.slack[i]) + margin(point, i);
        *slack += (INFLATE - 1.0) * (*bound + sum);
        *bound = sum * INFLATE + margin(point, i);
    }
    next
}

/// What rounding of the two f64 runs can add at a block: three orders above what was seen against long
/// double; a stated margin, not a proof.
pub(crate) fn margin(point: &BlockPoint, i: usize) -> f64 {
    1e-12 * point.size[i]
}
