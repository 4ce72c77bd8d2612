//! Theorem C: attention on two inputs. How far the output moves when the normalised states step by `r_j`.
//!
//! `sum_j P~_ij v~_j - sum_j P_ij v_j = sum_j P~_ij (v~_j - v_j) + sum_j (P~_ij - P_ij)(v_j - o_i)`; the
//! centre `o_i` is free, as `P~ - P` sums to zero. Of each head, with the box `P~_ij <= up_ij`, `|P~_ij - P_ij| <=
//! dP_ij` and the total variation `TV_i` of lemma L7, `j` and `k` in the mask of `i`:
//!
//! `t_i = min( sum_j up_ij r_j, sum_j P_ij r_j + TV_i (max_j r_j - min_j r_j), max_j r_j )`, an average of the `r_j`;
//! `f_i = min( sum_j dP_ij |(v_j - o_i) W_O|, TV_i max_jk |(v_j - v_k) W_O| )`, what the weights alone do. Then
//!
//! `|A_i(x~) - A_i(x)| <= min( S(t_i) + sum_h f_i^h, |A_i - a_0| + B_A )`, `S` as in lemma L3: both outputs lie in a
//! ball of radius `B_A = S(sqrt d)` around `a_0`, which caps the sum.
//!
//! Theorem H1, where the heads of a set are themselves bypassed: `|delta_i^S| + nu r_i` for these, `nu =
//! |sum over the set of OV_h|`, and C of the other heads, at most `S(2 sqrt d)` of them. A bypassed head pays for no
//! softmax.

use std::sync::PoisonError;

use rote_model::Spec;

use crate::constants::AttnConstants;
use crate::plan::{AttnPlan, HeadPlan};
use crate::point::{AttnPoint, HeadPoint};
use crate::softmax::Row;

/// `|A_i(x~) - A_i(x)|` for every token, where `r_j` bounds the step of token `j` after the norm.
pub(crate) fn attention_step(spec: &Spec, c: &AttnConstants, point: &AttnPoint, r: &[f64]) -> Vec<f64> {
    let asked = || point.asked.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, answer)) = asked().iter().find(|(steps, _)| steps == r) {
        return answer.clone();
    }
    let kept = kept_heads(spec, c, point, r, |_| true);
    let answer: Vec<f64> =
        kept.into_iter().enumerate().map(|(i, kept)| kept.min(point.centred[i] + c.reach)).collect();
    let mut asked = asked();
    if asked.len() < REMEMBERED {
        asked.push((r.to_vec(), answer.clone()));
    }
    answer
}

/// Questions that are remembered per block.
const REMEMBERED: usize = 64;

/// Theorem H1: the same in a block whose attention is itself changed; `displacement` is its exact `|delta_i|`.
pub(crate) fn changed_attention_step(
    spec: &Spec,
    c: &AttnConstants,
    plan: &AttnPlan,
    point: &AttnPoint,
    displacement: &[f64],
    r: &[f64],
) -> Vec<f64> {
    let plan = match plan {
        AttnPlan::Keep => return attention_step(spec, c, point, r),
        // The changed output is the same whatever goes in.
        AttnPlan::Constant(_) => return displacement.to_vec(),
        AttnPlan::Heads(plan) => plan,
    };
    let kept = match plan.all {
        true => vec![0.0; r.len()],
        false => kept_heads(spec, c, point, r, |head| plan.keeps(head)),
    };
    let cap = kept_cap(spec, c, plan);
    (0..r.len())
        .map(|i| {
            let moved = displacement[i] + plan.operator * r[i] + kept[i].min(cap);
            // All heads bypassed: the new output is a_0 plus one operator on a bounded state.
            let ball = point.centred[i] + (spec.d_model as f64).sqrt() * plan.operator;
            if plan.all { moved.min(ball) } else { moved }
        })
        .collect()
}

/// Diameter of what the heads that keep their weights can give.
fn kept_cap(spec: &Spec, c: &AttnConstants, plan: &HeadPlan) -> f64 {
    let far = 2.0 * (spec.d_model as f64).sqrt();
    let t: Vec<f64> = (0..spec.n_heads).map(|head| if plan.keeps(head) { far } else { 0.0 }).collect();
    c.heads.bound(&t)
}

/// `S(t_i) + sum_h f_i^h` over the wanted heads.
fn kept_heads(
    spec: &Spec,
    c: &AttnConstants,
    point: &AttnPoint,
    r: &[f64],
    wanted: impl Fn(usize) -> bool,
) -> Vec<f64> {
    let n = r.len();
    let mut t = vec![vec![0.0; spec.n_heads]; n];
    let mut f = vec![0.0; n];
    let (mut row, mut eps) = (Row::default(), Vec::new());
    for (head, head_point) in point.heads.iter().enumerate().filter(|(head, _)| wanted(*head)) {
        for i in 0..n {
            let from = point.first[i];
            let seen = &r[from..=i];
            let most = seen.iter().copied().fold(0.0, f64::max);
            if most == 0.0 {
                continue;
            }
            let least = seen.iter().copied().fold(f64::INFINITY, f64::min);
            head_point.score_steps(i, from, r, &mut eps);
            let weights = &head_point.weights.row(i)[from..=i];
            row.fill(weights, &eps);
            t[i][head] = average(&row, weights, seen, most, least);
            f[i] += reweighting(head_point, &row, i, from);
        }
    }
    f.iter().zip(&t).map(|(f, t)| f + c.heads.bound(t)).collect()
}

/// An average of `r` under the changed weights.
fn average(row: &Row, weights: &[f64], r: &[f64], most: f64, least: f64) -> f64 {
    let upper: f64 = row.up.iter().zip(r).map(|(up, r)| up * r).sum();
    let moved: f64 = weights.iter().zip(r).map(|(p, r)| p * r).sum::<f64>() + row.variation * (most - least);
    upper.min(moved).min(most)
}

/// What changed weights alone do to the unchanged values.
fn reweighting(point: &HeadPoint, row: &Row, i: usize, from: usize) -> f64 {
    let spread = &point.spread.row(i)[from..=i];
    let entries: f64 = row.moved.iter().zip(spread).map(|(moved, spread)| moved * spread).sum();
    entries.min(row.variation * point.diameter[i])
}
