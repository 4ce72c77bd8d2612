//! One request: the model as it is, then every intervention, each with its rows.
//!
//! Kept in memory: the trajectory's constants of one request, and the states of the intervention at hand.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use rote_artifact::tables::Reach;
use rote_model::{Matrix, Model};
use rote_plan::{BlockChange, Intervention};

use crate::check::Row;
use crate::constants::Constants;
use crate::decision::{Decision, DecisionBounds, log_sum_exp, margin_of};
use crate::decompose::{Shares, shares};
use crate::estimate::linear_estimates;
use crate::head_sets::{any_pattern, any_subset};
use crate::linear::{norm, row_norms};
use crate::local::{displacement, from_weights, head_displacements, local, rounding};
use crate::plan::{AttnPlan, Plan};
use crate::point::{BlockPoint, Normed};
use crate::rotary::Turn;
use crate::trace::{Trace, differences};
use crate::trajectory::{INFLATE, margin, propagate};
use crate::weights_only::{WeightsOnly, weights_only};
use crate::wide::{compare_logits, largest};

/// What is asked for beside the local rows and the rows at the output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth {
    /// Rows of `out.*` at every block from the first changed one on.
    pub every_block: bool,
    /// Look-ahead: differences are exact up to this many blocks before the end.
    pub lookahead: usize,
}

/// All rows of one intervention on one request.
#[derive(Default)]
pub struct Rows {
    /// For the `bound` table.
    pub bounds: Vec<Row>,
    /// For the `reach` table.
    pub reach: Vec<Reach>,
}

/// Positions that go through the unembedding together, interventions that are estimated together.
const TOGETHER: usize = 16;

/// A model, its constants and the interventions, prepared once.
pub struct Bounds {
    model: Arc<Model<f64>>,
    constants: Constants,
    plans: Vec<(Plan, Vec<BlockChange>, WeightsOnly)>,
    depth: Depth,
}

/// What intervened logits say of one position.
struct Seen {
    logit: f64,
    margin: f64,
    logp_change: Option<f64>,
    divergence: f64,
    variation: f64,
    changed: bool,
}

impl Bounds {
    /// # Errors
    /// A model or an intervention that no theorem covers.
    pub fn new(model: Arc<Model<f64>>, changes: &[Intervention], depth: Depth) -> Result<Bounds> {
        let constants = Constants::new(&model.spec, &model.weights)?;
        Bounds::with(model, constants, changes, depth)
    }

    /// The same, of the model's own constants.
    ///
    /// # Errors
    /// An intervention that no theorem covers.
    pub fn with(
        model: Arc<Model<f64>>,
        constants: Constants,
        changes: &[Intervention],
        depth: Depth,
    ) -> Result<Bounds> {
        let plans = changes
            .iter()
            .filter(|change| !change.is_none())
            .map(|change| {
                let plan = Plan::new(&constants, change)?;
                let blocks = change.resolve(model.spec.n_blocks, model.spec.n_heads)?;
                let weights = weights_only(&constants, &plan);
                Ok((plan, blocks, weights))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Bounds { model, constants, plans, depth })
    }

    /// The interventions' names, in the order of [`Bounds::request`]'s rows.
    pub fn changes(&self) -> Vec<String> {
        self.plans.iter().map(|(plan, ..)| plan.name.clone()).collect()
    }

    /// All rows of one sequence, intervention by intervention; none is checked yet.
    ///
    /// # Errors
    /// Tokens or positions beyond the model.
    pub fn request(&self, request: u32, tokens: &[u32]) -> Result<Vec<Rows>> {
        let (model, constants) = (&*self.model, &self.constants);
        let spec = &model.spec;
        let none = vec![BlockChange::default(); spec.n_blocks];
        let plain = Trace::of(model, tokens, &none)?;
        let turn = Turn::new(spec, tokens.len());
        let points: Vec<BlockPoint> = (0..spec.n_blocks)
            .into_par_iter()
            .map(|block| {
                BlockPoint::new(constants, block, &turn, &plain.input[block], plain.middle.get(block))
            })
            .collect();
        for (block, point) in points.iter().enumerate() {
            same_module(&point.attn.output, &plain.attn[block], &point.state, "attention", block)?;
            same_module(&point.mlp.output, &plain.mlp[block], &point.state, "mlp", block)?;
        }
        let last = Normed::new(&plain.last, spec.norm, spec.eps);
        let final_norm = model.final_norm(&plain.last.data);
        let logits = model.logits(&final_norm);
        let logits: Vec<&[f64]> = logits.chunks_exact(spec.vocab.max(1)).collect();
        let next: Vec<Option<usize>> =
            (0..tokens.len()).map(|i| tokens.get(i + 1).map(|&token| token as usize)).collect();
        let starts: Vec<usize> = (0..tokens.len()).step_by(TOGETHER).collect();
        let decisions: Vec<Vec<Decision>> = starts
            .into_par_iter()
            .map(|start| {
                let end = (start + TOGETHER).min(tokens.len());
                Decision::of(&constants.head, &last, start, &logits[start..end], &next[start..end])
            })
            .collect();
        let decisions = decisions.into_iter().flatten().collect();
        let base = Base { tokens, plain, points, last, final_norm, logits, decisions };
        let estimates = self.estimates(&base);
        self.plans
            .par_iter()
            .zip(estimates)
            .map(|((plan, change, weights), estimate)| {
                self.change(request, &base, plan, change, weights, &estimate)
            })
            .collect()
    }

    /// First-order estimates, plan by plan.
    fn estimates(&self, base: &Base<'_>) -> Vec<Vec<f64>> {
        let mut order: Vec<usize> = (0..self.plans.len()).collect();
        order.sort_by_key(|&at| self.plans[at].0.first);
        let together: Vec<Vec<Vec<f64>>> = order
            .par_chunks(TOGETHER)
            .map(|order| {
                let plans: Vec<&Plan> = order.iter().map(|&at| &self.plans[at].0).collect();
                linear_estimates(&self.constants, &base.points, &plans)
            })
            .collect();
        let mut estimates = vec![Vec::new(); order.len()];
        order.into_iter().zip(together.into_iter().flatten()).for_each(|(at, one)| estimates[at] = one);
        estimates
    }

    fn change(
        &self,
        request: u32,
        base: &Base<'_>,
        plan: &Plan,
        change: &[BlockChange],
        weights: &WeightsOnly,
        estimate: &[f64],
    ) -> Result<Rows> {
        let (constants, first) = (&self.constants, plan.first);
        let changed = base.plain.changed(&self.model, first, change)?;
        let mut rows = Rows::default();
        let n_blocks = constants.blocks.len();
        let local = self.local(base, plan, &changed, &mut rows.bounds);

        let differ: Vec<Vec<f64>> = (first..n_blocks)
            .map(|block| differences(base.plain.output(block), changed.output(block)))
            .collect();
        let rho = propagate(constants, &base.points, plan, first, vec![0.0; base.tokens.len()]);
        for block in first..n_blocks {
            if self.depth.every_block || block + 1 == n_blocks {
                let at = block - first;
                self.outputs(base, plan, block, &differ[at], &rho[at], weights, &mut rows.bounds);
            }
        }
        for ahead in 1..=self.depth.lookahead.min(n_blocks - 1 - first) {
            let from = n_blocks - ahead;
            // What is measured is off by the rounding of the block that gave it.
            let start: Vec<f64> = (0..base.tokens.len())
                .map(|i| differ[from - 1 - first][i] * INFLATE + margin(&base.points[from - 1], i))
                .collect();
            let ends = propagate(constants, &base.points, plan, from, start);
            let ends = ends.last().expect("at least one block is ahead");
            let measured = &differ[n_blocks - 1 - first];
            let state = |i: usize| base.reach_of(i);
            for i in 0..base.tokens.len() {
                let name = format!("out.lookahead.{ahead}");
                rows.bounds.push(row(n_blocks - 1, i, name, ends[i], measured[i], state(i)));
            }
        }
        let (rho, measured) = (&rho[n_blocks - 1 - first], &differ[n_blocks - 1 - first]);
        let shares = shares(&base.plain, &changed, !matches!(plan.blocks[first].attn, AttnPlan::Keep));
        let seen = self.readout(base, &changed, rho, &mut rows.bounds);
        for i in 0..base.tokens.len() {
            let mut row = row(n_blocks - 1, i, "estimate.linear", estimate[i], measured[i], base.reach_of(i));
            row.value = estimate[i];
            rows.bounds.push(row);
            let decision = base.decisions[i].bounds(rho[i]);
            self.decision_rows(base, i, &decision, &seen[i], &mut rows.bounds);
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
                estimate: estimate[i],
                bound: rho[i],
                radius,
                greedy: base.decisions[i].greedy as u32,
                changed: seen[i].changed,
                certified: rho[i] < radius,
                within: measured[i] * INFLATE + margin(&base.points[n_blocks - 1], i) < radius,
                logprob_change: seen[i].logp_change,
                logprob_fall: decision.fall_rise.map(|(fall, _)| fall),
                kl: seen[i].divergence,
            });
        }
        for row in &rows.bounds {
            row.check(&plan.name, request)?;
        }
        for reach in rows.reach.iter().filter(|reach| reach.certified || reach.within) {
            ensure!(
                !reach.changed,
                "the greedy token of request {request}, position {} was certified and changed under `{}`: \
                 this is a defect of the program",
                reach.position,
                plan.name
            );
        }
        Ok(rows)
    }

    /// Rows of theorems A and H2, H3; what was measured: `|delta|` of the first changed module.
    fn local(&self, base: &Base<'_>, plan: &Plan, changed: &Trace, rows: &mut Vec<Row>) -> Vec<f64> {
        let (spec, block) = (&self.constants.spec, plan.first);
        let c = &self.constants.blocks[block].attn;
        let point = &base.points[block];
        let AttnPlan::Heads(heads) = &plan.blocks[block].attn else {
            let zeroed = matches!(plan.blocks[block].attn, AttnPlan::Zero);
            let (a, b) =
                if zeroed { (&base.plain.attn, &changed.attn) } else { (&base.plain.mlp, &changed.mlp) };
            let measured = differences(&a[block], &b[0]);
            if zeroed {
                let exact = row_norms(&displacement(spec, c, &plan.blocks[block].attn, &point.attn));
                let slack = rounding(spec, c, &point.attn);
                let weights = from_weights(spec, c, &AttnPlan::Zero, true);
                for (i, &measured) in measured.iter().enumerate() {
                    let reach = base.reach_at(block, i);
                    rows.push(equality(block, i, "local.exact", exact[i], slack[i], measured, reach));
                    rows.push(row(block, i, "local.weights", weights + slack[i], measured, reach));
                }
            }
            return measured;
        };
        let measured = differences(&base.plain.attn[block], &changed.attn[0]);
        let bounds = local(spec, c, heads, &point.attn);
        let weights = from_weights(spec, c, &plan.blocks[block].attn, true);
        let each = head_displacements(spec, c, heads, &point.attn);
        let subsets = any_subset(&each);
        let patterns = (!heads.zeroes_any()).then(|| any_pattern(heads, &point.attn));
        for (i, &measured) in measured.iter().enumerate() {
            let (slack, reach) = (bounds.slack[i], base.reach_at(block, i));
            rows.push(equality(block, i, "local.exact", bounds.exact[i], slack, measured, reach));
            let of_i = |bound: &Option<Vec<f64>>| bound.as_ref().map(|bound| bound[i]);
            // Token 0 sees itself alone: no bypass changes it.
            let weights = if i == 0 && !heads.zeroes_any() { 0.0 } else { weights };
            let named = [
                ("local.heads", Some(bounds.heads[i])),
                ("local.spread", of_i(&bounds.spread)),
                ("local.farthest", of_i(&bounds.farthest)),
                ("local.row", of_i(&bounds.row)),
                ("local.weights", Some(weights)),
                ("local.subset", Some(subsets[i])),
                ("local.anypattern", of_i(&patterns)),
            ];
            for (name, value) in named {
                if let Some(value) = value {
                    rows.push(row(block, i, name, value * INFLATE + slack, measured, reach));
                }
            }
        }
        measured
    }

    /// Rows of theorems B1, E and F at one block's output.
    #[expect(
        clippy::too_many_arguments,
        reason = "one place of one intervention, with all that is known of it"
    )]
    fn outputs(
        &self,
        base: &Base<'_>,
        plan: &Plan,
        block: usize,
        differ: &[f64],
        rho: &[f64],
        weights: &WeightsOnly,
        rows: &mut Vec<Row>,
    ) {
        let at = block - plan.first;
        if plan.only_identity {
            let slack: f64 = (plan.first..=block).map(|block| margin(&base.points[block], 0)).sum();
            rows.push(equality(block, 0, "first.token", 0.0, slack, differ[0], base.reach_at(block + 1, 0)));
        }
        for (i, &measured) in differ.iter().enumerate() {
            let reach = base.reach_at(block + 1, i);
            let slack: f64 = margin(&base.points[block], i);
            rows.push(row(block, i, "out.trajectory", rho[i], measured, reach));
            rows.push(row(block, i, "out.additive", weights.additive[at] + slack, measured, reach));
            let log = |x: f64| x.max(f64::MIN_POSITIVE).log10();
            rows.push(row(
                block,
                i,
                "out.product",
                weights.product_log10[at].max(-300.0),
                log(measured),
                log(reach),
            ));
        }
    }

    /// The intervened run's logits, compared; and the rows at the final norm.
    fn readout(&self, base: &Base<'_>, changed: &Trace, rho: &[f64], rows: &mut Vec<Row>) -> Vec<Seen> {
        let spec = &self.constants.spec;
        let final_norm = self.model.final_norm(&changed.last.data);
        if self.model.weights.project_out.is_none() {
            let gain = self.constants.head.largest_gain;
            let steps = base.last.steps(rho);
            for i in 0..base.tokens.len() {
                let cut = i * spec.d_model..(i + 1) * spec.d_model;
                let measured = crate::linear::distance(&base.final_norm[cut.clone()], &final_norm[cut]);
                let r = steps[i];
                let size = gain * base.last.length[i];
                let value = gain * r * INFLATE + 1e-12 * size;
                rows.push(Row { block: -1, ..row(0, i, "norm.trajectory", value, measured, 2.0 * size) });
            }
        }
        let logits = self.model.logits(&final_norm);
        logits
            .chunks_exact(spec.vocab.max(1))
            .enumerate()
            .map(|(i, after)| {
                compare(&base.decisions[i], base.logits[i], after, base.tokens.get(i + 1).copied())
            })
            .collect()
    }

    fn decision_rows(
        &self,
        base: &Base<'_>,
        i: usize,
        bounds: &DecisionBounds,
        seen: &Seen,
        rows: &mut Vec<Row>,
    ) {
        let before = base.logits[i];
        let rounding = 4.0 * self.constants.head.rounding;
        let margin = margin_of(before, base.decisions[i].greedy);
        let span = before.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            - before.iter().copied().fold(f64::INFINITY, f64::min);
        let uniform = (before.len() as f64).ln();
        let mut push = |name: &'static str, value: f64, measured: f64, trivial: f64| {
            let value = value * INFLATE + rounding;
            rows.push(Row { block: -2, ..row(0, i, name, value, measured, trivial) });
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

/// The model as it is, on one request.
pub(crate) struct Base<'a> {
    pub tokens: &'a [u32],
    pub plain: Trace,
    pub points: Vec<BlockPoint>,
    pub last: Normed,
    pub final_norm: Vec<f64>,
    pub logits: Vec<&'a [f64]>,
    pub decisions: Vec<Decision<'a>>,
}

impl Base<'_> {
    /// `sqrt(d) s` of the final state: a bound below it keeps the state's direction within a right angle.
    fn reach_of(&self, i: usize) -> f64 {
        self.last.deviation[i] * (self.last.u.cols as f64).sqrt()
    }

    /// The same at the input of `block`; of the final state behind the last.
    fn reach_at(&self, block: usize, i: usize) -> f64 {
        match self.points.get(block) {
            Some(point) => point.before_attn.deviation[i] * (self.last.u.cols as f64).sqrt(),
            None => self.reach_of(i),
        }
    }
}

fn row(
    block: usize,
    position: usize,
    bound: impl Into<Cow<'static, str>>,
    value: f64,
    measured: f64,
    trivial: f64,
) -> Row {
    let (block, position) = (block as i32, position as u32);
    Row { block, position, bound: bound.into(), value, measured, slack: 0.0, trivial }
}

fn equality(
    block: usize,
    i: usize,
    bound: &'static str,
    exact: f64,
    slack: f64,
    measured: f64,
    trivial: f64,
) -> Row {
    let slack = slack + (INFLATE - 1.0) * exact;
    Row { slack, ..row(block, i, bound, exact + slack, measured, trivial) }
}

fn compare(decision: &Decision, before: &[f64], after: &[f64], next: Option<u32>) -> Seen {
    let (greedy, p) = (decision.greedy, &decision.log_p);
    let (log_sum, top) = log_sum_exp(after);
    let (logit, divergence, variation) = compare_logits(before, after, p, log_sum);
    let others = largest(&after[..greedy]).max(largest(&after[greedy + 1..]));
    Seen {
        logit,
        margin: after[greedy] - others,
        logp_change: next.map(|next| after[next as usize] - log_sum - p[next as usize]),
        divergence: divergence.max(0.0),
        variation,
        // The first of the largest wins.
        changed: after[greedy] < top || after[..greedy].contains(&top),
    }
}

/// The block as it is computed here must be the block that the model runs.
fn same_module(
    own: &Matrix<f64>,
    model: &Matrix<f64>,
    state: &[f64],
    what: &str,
    block: usize,
) -> Result<()> {
    for (i, difference) in differences(own, model).into_iter().enumerate() {
        let size = norm(model.row(i)) + state[i];
        ensure!(
            difference <= 1e-9 * size,
            "block {block}, position {i}: {what} recomputed for the bounds is {difference:e} away from the \
             model's: this is a defect of the program"
        );
    }
    Ok(())
}
