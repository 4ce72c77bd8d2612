//! Theorem E: how far a difference can grow through later blocks, along the model's own trajectory.
//!
//! `rho_i` bounds the difference of token `i` at a block's input. The block's norm turns it into a step `r_i`
//! (lemma L2), attention into at most theorem C of it, the MLP into at most theorem D; what a sublayer adds is
//! added to `rho`. Sequential blocks do so twice; in a parallel block both read the same input. Where a block
//! is itself changed, theorem H1 takes C's place. Started at the first changed block with `rho = 0` this is E;
//! started later, at differences that were measured, it is the look-ahead G.
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

/// `rho_i` at the output of blocks `from ..`, first to last, started with `rho` at the input of `from`.
pub(crate) fn propagate(
    constants: &Constants,
    points: &[BlockPoint],
    plan: &Plan,
    moves: &Moves,
    from: usize,
    mut rho: Vec<f64>,
) -> Vec<Vec<f64>> {
    // Theorem B1: no bypass changes token 0; what is left is the rounding of the runs, of all blocks so far, so
    // that it is the same for every bypass.
    let mut first: f64 = points[..from].iter().map(|point| margin(point, 0)).sum();
    if plan.only_identity && from > plan.first {
        rho[0] = first;
    }
    (from..points.len())
        .map(|block| {
            first += margin(&points[block], 0);
            rho = step(constants, block, &points[block], &plan.blocks[block], moves, &rho);
            if plan.only_identity {
                rho[0] = first;
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
    rho: &[f64],
) -> Vec<f64> {
    let spec = &constants.spec;
    let (attn, mlp) = (&constants.blocks[block].attn, &constants.blocks[block].mlp);
    let r = point.before_attn.steps(rho);
    let delta = moves.at(block).map(|moved| &moved.length[..]);
    let moved = changed_attention_step(spec, attn, &plan.attn, &point.attn, delta.unwrap_or_default(), &r);
    let middle: Vec<f64> = rho.iter().zip(&moved).map(|(rho, moved)| (rho + moved) * INFLATE).collect();
    // A parallel block's MLP reads the block's input.
    let r = point.before_mlp.steps(if constants.sequential() { &middle } else { rho });
    (0..rho.len())
        .map(|i| {
            let moved = if plan.mlp_zero {
                point.mlp.size(i)
            } else {
                mlp_step(mlp, &point.mlp, i, r[i], point.before_mlp.length[i])
            };
            (middle[i] + moved) * INFLATE + margin(point, i)
        })
        .collect()
}

/// What rounding of the two f64 runs can add at a block: three orders above what was seen against long
/// double; a stated margin, not a proof.
pub(crate) fn margin(point: &BlockPoint, i: usize) -> f64 {
    1e-12 * point.size[i]
}
