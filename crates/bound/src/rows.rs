//! One intervention's rows: what each theorem says beside what was measured.

use std::borrow::Cow;

use rote_artifact::tables::Reach;

use crate::check::Row;
use crate::decision::DecisionBounds;
use crate::decompose::{Shares, shares};
use crate::head_sets::{any_pattern, any_subset};
use crate::intervened::lengths;
use crate::linear::{norm, row_norms};
use crate::local::{constant_by_heads, from_weights, head_displacements, local};
use crate::plan::{AttnPlan, HeadPlan};
use crate::readout::Seen;
use crate::request::{Base, Bounds, Found, Rows};
use crate::trajectory::{INFLATE, Rho, margin, propagate};
use crate::weights_only;

impl Bounds {
    /// All rows of one intervention on one request.
    pub(crate) fn rows(&self, request: u32, base: &Base<'_>, found: &Found<'_>) -> Rows {
        let (constants, plan) = (&self.constants, &found.prepared.plan);
        let (first, n_blocks, n) = (plan.first, constants.blocks.len(), base.tokens.len());
        let mut rows = Rows::default();
        let local = self.local(base, found, &mut rows.bounds);

        let differ = &found.run.differ;
        let propagate =
            |from: usize, rho: Rho| propagate(constants, &base.points, plan, &found.moves, from, rho);
        let rho = propagate(first, Rho::nothing(n));
        for block in first..n_blocks {
            if self.depth.every_block || block + 1 == n_blocks {
                outputs(base, found, block, &rho[block - first], &mut rows.bounds);
            }
        }
        let measured = &differ[n_blocks - 1 - first];
        for ahead in 1..=self.depth.lookahead.min(n_blocks - 1 - first) {
            let from = n_blocks - ahead;
            // What is measured is off by the rounding of the block that gave it.
            let (differ, point) = (&differ[from - 1 - first], &base.points[from - 1]);
            let slack = (0..n).map(|i| differ[i] * (INFLATE - 1.0) + margin(point, i)).collect();
            let bound = differ.iter().zip(&slack).map(|(differ, slack)| differ + slack).collect();
            let ends = propagate(from, Rho { bound, slack });
            let ends = ends.last().expect("at least one block is ahead");
            let name = format!("out.lookahead.{ahead}");
            for i in 0..n {
                let (value, slack) = (ends.bound[i], ends.slack[i]);
                let ahead = row(n_blocks - 1, i, name.clone(), value, slack, measured[i], base.reach_of(i));
                rows.bounds.push(ahead);
            }
        }
        let rho = &rho[n_blocks - 1 - first].bound;
        let shares = shares(&base.plain, &found.run, !matches!(plan.blocks[first].attn, AttnPlan::Keep));
        self.final_norm(base, &found.normed, rho, &mut rows.bounds);
        for i in 0..n {
            let estimate = found.estimate[i];
            let output = base.reach_of(i);
            rows.bounds.push(row(n_blocks - 1, i, "estimate.linear", estimate, 0.0, measured[i], output));
            let (decision, seen) = (base.decisions[i].bounds(rho[i]), &found.seen[i]);
            self.decision_rows(base, i, &decision, seen, &mut rows.bounds);
            let radius = base.decisions[i].radius;
            let Shares { direct, attn, mlp } = shares[i];
            rows.reach.push(Reach {
                change: plan.name.clone(),
                block: first as i32,
                request,
                position: i as u32,
                local: local[i],
                output: measured[i],
                state: norm(base.plain.last.row(i)),
                direct,
                later_attn: attn,
                later_mlp: mlp,
                estimate,
                bound: rho[i],
                radius,
                greedy: base.decisions[i].greedy as u32,
                changed: seen.changed,
                certified: rho[i] < radius,
                within: measured[i] * INFLATE + margin(&base.points[n_blocks - 1], i) < radius,
                logprob_change: seen.logp_change,
                logprob_fall: decision.fall_rise.map(|(fall, _)| fall),
                kl: seen.divergence,
            });
        }
        rows
    }

    /// Rows of theorems A and H2, H3; what was measured: `|delta|` of the first changed module.
    fn local(&self, base: &Base<'_>, found: &Found<'_>, rows: &mut Vec<Row>) -> Vec<f64> {
        let (spec, plan) = (&self.constants.spec, &found.prepared.plan);
        let block = plan.first;
        let c = &self.constants.blocks[block].attn;
        let point = &base.points[block].attn;
        let Some(moved) = found.moves.at(block) else {
            // The first change is that of an MLP.
            return lengths(&found.run.mlp[0], spec.d_model);
        };
        let measured = lengths(&found.run.attn[0], spec.d_model);
        let weights = from_weights(spec, c, &plan.blocks[block].attn, true);
        let mut named: Vec<(&'static str, Vec<f64>)> = Vec::new();
        let mut weights = vec![weights; measured.len()];
        match &plan.blocks[block].attn {
            AttnPlan::Heads(heads) => {
                named = self.of_heads(block, base, heads);
                if heads.only_identity() {
                    // Token 0 sees itself alone: no bypass changes it.
                    weights[0] = 0.0;
                }
            }
            AttnPlan::Constant(row) => named.push(("local.heads", constant_by_heads(spec, c, row, point))),
            AttnPlan::Keep => {}
        }
        named.push(("local.weights", weights));
        let exact = row_norms(&moved.delta);
        for (i, &measured) in measured.iter().enumerate() {
            let (slack, reach) = (moved.slack[i], base.reach_at(block, i));
            rows.push(allowing(block, i, "local.exact", exact[i], slack, measured, reach));
            for (name, values) in &named {
                rows.push(allowing(block, i, name, values[i], slack, measured, reach));
            }
        }
        measured
    }

    /// A1 to A4, H2 and H3 per token.
    fn of_heads(&self, block: usize, base: &Base<'_>, heads: &HeadPlan) -> Vec<(&'static str, Vec<f64>)> {
        let (spec, c, point) =
            (&self.constants.spec, &self.constants.blocks[block].attn, &base.points[block].attn);
        let each = head_displacements(spec, c, heads, point);
        let bounds = local(spec, c, heads, point, &each);
        let patterns = (heads.only_identity()).then(|| any_pattern(heads, point));
        let named = [
            ("local.heads", Some(bounds.heads)),
            ("local.spread", bounds.spread),
            ("local.farthest", bounds.farthest),
            ("local.row", bounds.row),
            ("local.subset", Some(any_subset(&each))),
            ("local.anypattern", patterns),
        ];
        named.into_iter().filter_map(|(name, values)| Some((name, values?))).collect()
    }

    /// E through the final norm.
    fn final_norm(&self, base: &Base<'_>, measured: &[f64], rho: &[f64], rows: &mut Vec<Row>) {
        let gain = self.constants.head.largest_gain;
        let steps = base.last.steps(rho);
        for (i, &measured) in measured.iter().enumerate() {
            let size = gain * base.last.length[i];
            let (value, slack) = (gain * steps[i], 1e-12 * size);
            let row = allowing(0, i, "norm.trajectory", value, slack, measured, 2.0 * size);
            rows.push(Row { block: -1, ..row });
        }
    }

    fn decision_rows(
        &self,
        base: &Base<'_>,
        i: usize,
        bounds: &DecisionBounds,
        seen: &Seen,
        rows: &mut Vec<Row>,
    ) {
        let rounding = 4.0 * self.constants.head.rounding;
        let (margin, span) = (base.decisions[i].margin, base.decisions[i].span);
        let uniform = (base.logits[i].len() as f64).ln();
        let mut push = |name: &'static str, value: f64, measured: f64, trivial: f64| {
            rows.push(Row { block: -2, ..allowing(0, i, name, value, rounding, measured, trivial) });
        };
        push("logit.max", bounds.logit, seen.logit, span);
        push("margin.loss", margin - bounds.margin, margin - seen.margin, margin);
        if let (Some((fall, rise)), Some(change)) = (bounds.fall_rise, seen.logp_change) {
            push("logp.fall", fall, -change, uniform);
            push("logp.rise", rise, change, uniform);
        }
        push("kl", bounds.divergence, seen.divergence, uniform);
        push("tv", bounds.variation, seen.variation, 1.0);
    }
}

/// Rows of theorems B1, E and F at one block's output.
fn outputs(base: &Base<'_>, found: &Found<'_>, block: usize, rho: &Rho, rows: &mut Vec<Row>) {
    let (plan, weights) = (&found.prepared.plan, &found.prepared.weights);
    let at = block - plan.first;
    let differ = &found.run.differ[at];
    if plan.only_identity {
        let slack: f64 = (plan.first..=block).map(|block| margin(&base.points[block], 0)).sum();
        rows.push(allowing(block, 0, "first.token", 0.0, slack, differ[0], base.reach_at(block + 1, 0)));
    }
    let log = |x: f64| x.max(f64::MIN_POSITIVE).log10();
    let product = weights.product_log10[at].max(-300.0);
    for (i, &measured) in differ.iter().enumerate() {
        let reach = base.reach_at(block + 1, i);
        let (additive, slack) = (weights.additive[at], margin(&base.points[block], i));
        rows.push(row(block, i, "out.trajectory", rho.bound[i], rho.slack[i], measured, reach));
        rows.push(allowing(block, i, "out.additive", additive, slack, measured, reach));
        let slack = weights_only::LOG10_SLACK;
        rows.push(row(block, i, "out.product", product + slack, slack, log(measured), log(reach)));
    }
}

/// A row whose `value` has its `slack` in it.
fn row(
    block: usize,
    position: usize,
    bound: impl Into<Cow<'static, str>>,
    value: f64,
    slack: f64,
    measured: f64,
    trivial: f64,
) -> Row {
    let (block, position) = (block as i32, position as u32);
    Row { block, position, bound: bound.into(), value, measured, slack, trivial }
}

/// A row that allows for rounding: the last step of `exact`, and `slack`.
fn allowing(
    block: usize,
    i: usize,
    bound: &'static str,
    exact: f64,
    slack: f64,
    measured: f64,
    trivial: f64,
) -> Row {
    let slack = slack + (INFLATE - 1.0) * exact.abs();
    row(block, i, bound, exact + slack, slack, measured, trivial)
}
