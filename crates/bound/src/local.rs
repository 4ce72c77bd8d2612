//! Theorem A: the local displacement, what changed attention weights do to the block they are changed in.
//!
//! Per token `i`, at unchanged inputs (`[d]`); all biases cancel, and queries, keys, rotation, mask and scale of
//! bypassed heads do not enter (B2):
//!
//! A0 `delta_i = A^I_i - A_i = sum_h (v_i^h - o_i^h) W_O^h`, an equality.
//!
//! As `o_i - v_i = sum over j != i of P_ij (v_j - v_i)`, the triangle inequality gives, from tight to loose and with
//! `e_ij^h = |(v_j^h - v_i^h) W_O^h|` and `j` in the mask of `i`:
//!
//! A1 `|delta_i| <= sum_h |(v_i^h - o_i^h) W_O^h|`, A2 `<= sum_h sum_j P_ij^h e_ij^h`,
//! A3 `<= sum_h (1 - P_ii^h) max_j e_ij^h`.
//!
//! With `|u_j - u_i| <= 2 sqrt(d)` (L1) and the sum over heads `S` of lemma L3:
//!
//! A4 `|delta_i| <= S(2 sqrt(d) (1 - P_ii^h))`, which needs the weights and the diagonal of `P`;
//! A5 `|delta_i| <= min( S(sqrt d) + sqrt(d) |sum_h OV_h|, S(2 sqrt d) )`, and 0 for token 0: the weights alone. Its
//! first form bounds the mixed part by L3 and the identity part, which is one operator on `u_i`, by its norm.

use std::collections::BTreeMap;

use rote_model::{Matrix, Spec};

use crate::constants::{AttnConstants, Constants};
use crate::linear::{UNIT, accumulate, distance, norm, product, row_norms, view};
use crate::plan::{AttnPlan, HeadPlan, Plan};
use crate::point::{AttnPoint, BlockPoint};

/// Upper bounds on `|delta_i|`, each per token.
pub(crate) struct Local {
    /// A1.
    pub heads: Vec<f64>,
    /// A2; of bypasses only, like A3 and A4.
    pub spread: Option<Vec<f64>>,
    /// A3.
    pub farthest: Option<Vec<f64>>,
    /// A4.
    pub row: Option<Vec<f64>>,
}

/// One head's part of `delta`, `[n, d_head]` before `W_O`; `None` where it keeps its weights.
fn part(plan: &HeadPlan, point: &AttnPoint, head: usize) -> Option<Matrix<f64>> {
    let point = &point.heads[head];
    if plan.identity[head] {
        return Some(point.difference.clone());
    }
    let constant = plan.constant[head].as_ref()?;
    let mut rows = point.mixed.clone();
    for row in rows.data.chunks_exact_mut(constant.len()) {
        row.iter_mut().zip(constant).for_each(|(o, c)| *o = c - *o);
    }
    Some(rows)
}

/// Each changed head's vectors `[n, d]`: what they add to the attention output.
pub(crate) fn head_displacements(
    spec: &Spec,
    c: &AttnConstants,
    plan: &HeadPlan,
    point: &AttnPoint,
) -> Vec<Matrix<f64>> {
    (0..spec.n_heads)
        .filter_map(|head| {
            let rows = part(plan, point, head)?;
            let mut out = Matrix::new(rows.rows, spec.d_model, vec![0.0; rows.rows * spec.d_model]);
            let weights = view(&c.out).cols(head * spec.d_head, spec.d_head).transposed();
            accumulate(&mut out.data, spec.d_model, 1.0, view(&rows), weights);
            Some(out)
        })
        .collect()
}

/// `delta`, `[n, d]`, of any change of attention at unchanged inputs.
pub(crate) fn displacement(
    spec: &Spec,
    c: &AttnConstants,
    plan: &AttnPlan,
    point: &AttnPoint,
) -> Matrix<f64> {
    let n = point.output.rows;
    let mut sum = Matrix::new(n, spec.d_model, vec![0.0; n * spec.d_model]);
    match plan {
        AttnPlan::Keep => {}
        AttnPlan::Constant(row) => {
            let rows =
                sum.data.chunks_exact_mut(spec.d_model).zip(point.output.data.chunks_exact(spec.d_model));
            for (sum, output) in rows {
                sum.iter_mut().zip(output).zip(row).for_each(|((sum, output), row)| *sum = row - output);
            }
        }
        AttnPlan::Heads(plan) => {
            for part in head_displacements(spec, c, plan, point) {
                sum.data.iter_mut().zip(&part.data).for_each(|(sum, part)| *sum += part);
            }
        }
    }
    sum
}

/// What one intervention displaces where it changes attention, at unchanged inputs; worked out once for all that
/// asks for it.
pub(crate) struct Moves {
    blocks: BTreeMap<usize, Moved>,
}

/// One block's.
pub(crate) struct Moved {
    /// `delta`, `[n, d]`.
    pub delta: Matrix<f64>,
    /// `|delta_i|` with what it can be off by.
    pub length: Vec<f64>,
    /// What it can be off by.
    pub slack: Vec<f64>,
}

impl Moves {
    pub(crate) fn new(constants: &Constants, points: &[BlockPoint], plan: &Plan) -> Moves {
        let spec = &constants.spec;
        let changed = plan.blocks.iter().enumerate().filter(|(_, plan)| !matches!(plan.attn, AttnPlan::Keep));
        let blocks = changed.map(|(block, plan)| {
            let (c, point) = (&constants.blocks[block].attn, &points[block].attn);
            let delta = displacement(spec, c, &plan.attn, point);
            let slack = rounding(spec, c, point);
            let length = row_norms(&delta).iter().zip(&slack).map(|(delta, slack)| delta + slack).collect();
            (block, Moved { delta, length, slack })
        });
        Moves { blocks: blocks.collect() }
    }

    /// Of a block whose attention is changed.
    pub(crate) fn at(&self, block: usize) -> Option<&Moved> {
        self.blocks.get(&block)
    }
}

/// A1 where a constant row `c` takes the output's place: `delta_i = c - A_i`, and `A_i - a_0` is the sum of
/// `(o_i^h - b~_V^h) W_O^h`; so `|delta_i| <= |c - a_0| + sum_h |(o_i^h - b~_V^h) W_O^h|`.
pub(crate) fn constant_by_heads(spec: &Spec, c: &AttnConstants, row: &[f64], point: &AttnPoint) -> Vec<f64> {
    let n = point.output.rows;
    let mut sum = vec![distance(row, &c.constant); n];
    let group = spec.n_heads / spec.n_kv_heads;
    for (head, of_head) in point.heads.iter().enumerate() {
        let mut mixed = of_head.mixed.clone();
        let bias = &c.value.bias[head / group * spec.d_head..][..spec.d_head];
        for row in mixed.data.chunks_exact_mut(spec.d_head) {
            row.iter_mut().zip(bias).for_each(|(o, bias)| *o -= bias);
        }
        let weights = view(&c.out).cols(head * spec.d_head, spec.d_head).transposed();
        let lengths = row_norms(&product(view(&mixed), weights));
        sum.iter_mut().zip(lengths).for_each(|(sum, length)| *sum += length);
    }
    sum
}

/// What `delta_i` computed here, or from two runs of the model, can be off by (section 7 of the specification, token
/// by token): rounding of each head's value and mix, `|v_i^h| + sum_j P_ij |v_j^h|`, through `W_O^h`; and a margin for
/// the attention output that the model adds them to.
pub(crate) fn rounding(spec: &Spec, c: &AttnConstants, point: &AttnPoint) -> Vec<f64> {
    let n = point.output.rows;
    let terms = 8.0 * (n + spec.d_model + spec.d_query()) as f64 * UNIT;
    let mut slack: Vec<f64> = (0..n).map(|i| 1e-12 * norm(point.output.row(i))).collect();
    for (head, size) in point.heads.iter().zip(&c.out_frobenius) {
        let values = row_norms(&head.v);
        // Token 0 sees itself alone: no rounding moves it.
        for i in 1..n {
            let mixed: f64 = head.weights.row(i).iter().zip(&values).map(|(p, v)| p * v).sum();
            slack[i] += terms * (values[i] + mixed) * size;
        }
    }
    slack
}

/// A1 to A4 for a change of heads, from what each head displaces.
pub(crate) fn local(
    spec: &Spec,
    c: &AttnConstants,
    plan: &HeadPlan,
    point: &AttnPoint,
    heads: &[Matrix<f64>],
) -> Local {
    let n = point.output.rows;
    let mut sum = vec![0.0; n];
    for head in heads {
        sum.iter_mut().zip(row_norms(head)).for_each(|(sum, norm)| *sum += norm);
    }
    let mut bounds = Local { heads: sum, spread: None, farthest: None, row: None };
    if plan.only_identity() {
        let far = 2.0 * (spec.d_model as f64).sqrt();
        let (mut spread, mut farthest, mut row) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        for i in 0..n {
            let mut away = vec![0.0; spec.n_heads];
            for (head, point_of) in point.heads.iter().enumerate().filter(|(head, _)| plan.identity[*head]) {
                let seen = point.first[i]..i + 1;
                let (weights, apart) = (&point_of.weights.row(i)[seen.clone()], &point_of.apart.row(i)[seen]);
                spread[i] += weights.iter().zip(apart).map(|(p, e)| p * e).sum::<f64>();
                // Summed over the others: 1 - P_ii would lose its digits where P_ii is near 1.
                let others: f64 = weights[..weights.len() - 1].iter().sum();
                farthest[i] += others * apart.iter().copied().fold(0.0, f64::max);
                away[head] = far * others;
            }
            row[i] = c.heads.bound(&away);
        }
        (bounds.spread, bounds.farthest, bounds.row) = (Some(spread), Some(farthest), Some(row));
    }
    bounds
}

/// A5, and the same for heads and for modules whose output becomes a constant row `c`, where `|c - A_i| <=
/// |c - a_0| + B_A`: from the weights alone. `same_inputs`: nothing before this
/// block differs, so that heads that keep their weights keep their output.
pub(crate) fn from_weights(spec: &Spec, c: &AttnConstants, plan: &AttnPlan, same_inputs: bool) -> f64 {
    let root = (spec.d_model as f64).sqrt();
    match plan {
        AttnPlan::Keep => {
            if same_inputs {
                0.0
            } else {
                2.0 * c.reach
            }
        }
        AttnPlan::Constant(row) => distance(row, &c.constant) + c.reach,
        AttnPlan::Heads(plan) => {
            let kept = if same_inputs { 0.0 } else { 2.0 * root };
            let with = |identity: f64| -> f64 {
                let t: Vec<f64> = (0..spec.n_heads)
                    .map(|head| {
                        if plan.identity[head] {
                            identity
                        } else if plan.constant[head].is_some() {
                            root
                        } else {
                            kept
                        }
                    })
                    .collect();
                c.heads.bound(&t)
            };
            // The identity part as one operator, or each head's difference in its ball.
            (with(root) + root * plan.operator).min(with(2.0 * root)) + plan.from_bias
        }
    }
}
