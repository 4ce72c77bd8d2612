//! One request: the model as it is, then every intervention, a group at a time.
//!
//! Kept in memory: the trajectory's constants of one request, and the runs of the interventions at hand.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use rote_artifact::tables::Reach;
use rote_model::{Matrix, Means, Model};
use rote_plan::{BlockChange, Intervention};

use crate::check::Row;
use crate::constants::Constants;
use crate::decision::Decision;
use crate::estimate::linear_estimates;
use crate::intervened::{Intervened, Wanted, run, together};
use crate::linear::norm;
use crate::local::Moves;
use crate::plan::Plan;
use crate::point::{BlockPoint, Normed};
use crate::readout::{Seen, readouts};
use crate::rotary::Turn;
use crate::trace::{Trace, differences};
use crate::weights_only::{WeightsOnly, weights_only};

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

/// Positions that go through the unembedding together.
const TOGETHER: usize = 16;

/// A model, its constants and the interventions, prepared once.
pub struct Bounds {
    pub(crate) model: Arc<Model<f64>>,
    pub(crate) constants: Constants,
    plans: Vec<Prepared>,
    /// For `attn.mean`.
    means: Means<f64>,
    pub(crate) depth: Depth,
}

/// One intervention, prepared.
pub(crate) struct Prepared {
    pub plan: Plan,
    change: Vec<BlockChange>,
    pub weights: WeightsOnly,
}

/// What is known of one intervention on one request.
pub(crate) struct Found<'a> {
    pub prepared: &'a Prepared,
    pub moves: Moves,
    pub run: Intervened,
    /// First-order estimate of `|D_i|` at the output.
    pub estimate: Vec<f64>,
    pub seen: Vec<Seen>,
    /// `|D_i|` behind the final norm.
    pub normed: Vec<f64>,
}

impl Bounds {
    /// # Errors
    /// A model or an intervention that no theorem covers.
    pub fn new(model: Arc<Model<f64>>, changes: &[Intervention], depth: Depth) -> Result<Bounds> {
        let constants = Constants::new(&model.spec, &model.weights)?;
        Bounds::with(model, constants, changes, Means::default(), depth)
    }

    /// The same, of the model's own constants; `means` for `attn.mean`.
    ///
    /// # Errors
    /// An intervention that no theorem covers, or that needs means.
    pub fn with(
        model: Arc<Model<f64>>,
        constants: Constants,
        changes: &[Intervention],
        means: Means<f64>,
        depth: Depth,
    ) -> Result<Bounds> {
        let plans = changes
            .iter()
            .filter(|change| !change.is_none())
            .map(|change| {
                let plan = Plan::new(&constants, change, &means)?;
                let weights = weights_only(&constants, &plan);
                let change = change.resolve(model.spec.n_blocks, model.spec.n_heads)?;
                Ok(Prepared { plan, change, weights })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Bounds { model, constants, plans, means, depth })
    }

    /// The interventions' names, in the order of [`Bounds::request`]'s rows.
    pub fn changes(&self) -> Vec<String> {
        self.plans.iter().map(|prepared| prepared.plan.name.clone()).collect()
    }

    /// All rows of one sequence, intervention by intervention, each compared with what was measured.
    ///
    /// # Errors
    /// Tokens or positions beyond the model; a bound that is exceeded.
    pub fn request(&self, request: u32, tokens: &[u32]) -> Result<Vec<Rows>> {
        let (model, constants) = (&*self.model, &self.constants);
        let spec = &model.spec;
        let plain = Trace::of(model, tokens)?;
        plain.check()?;
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
        // Neighbours in depth run together.
        let mut order: Vec<usize> = (0..self.plans.len()).collect();
        order.sort_by_key(|&at| self.plans[at].plan.first);
        let groups: Vec<Vec<Rows>> = order
            .par_chunks(together(model, tokens.len()))
            .map(|group| self.group(request, &base, group))
            .collect::<Result<_>>()?;
        let mut rows: Vec<(usize, Rows)> = order.into_iter().zip(groups.into_iter().flatten()).collect();
        rows.sort_by_key(|(at, _)| *at);
        Ok(rows.into_iter().map(|(_, rows)| rows).collect())
    }

    /// Rows of the interventions numbered `group`, which stand in the order of their first blocks.
    fn group(&self, request: u32, base: &Base<'_>, group: &[usize]) -> Result<Vec<Rows>> {
        let (model, constants) = (&*self.model, &self.constants);
        let prepared: Vec<&Prepared> = group.iter().map(|&at| &self.plans[at]).collect();
        let moves: Vec<Moves> =
            prepared.iter().map(|prepared| Moves::new(constants, &base.points, &prepared.plan)).collect();
        let plans: Vec<(&Plan, &Moves)> =
            prepared.iter().map(|prepared| &prepared.plan).zip(&moves).collect();
        let estimates = linear_estimates(constants, &base.points, &plans);
        let wanted: Vec<Wanted<'_>> = prepared
            .iter()
            .map(|prepared| Wanted { first: prepared.plan.first, change: &prepared.change })
            .collect();
        let runs = run(model, &base.plain, &wanted, &self.means)?;
        let seen = readouts(model, base, &runs);
        let found = prepared.into_iter().zip(moves).zip(runs).zip(estimates).zip(seen);
        found
            .map(|((((prepared, moves), run), estimate), (normed, seen))| {
                let found = Found { prepared, moves, run, estimate, seen, normed };
                let rows = self.rows(request, base, &found);
                self.check(request, &prepared.plan.name, &rows)?;
                Ok(rows)
            })
            .collect()
    }

    fn check(&self, request: u32, change: &str, rows: &Rows) -> Result<()> {
        for row in &rows.bounds {
            row.check(change, request)?;
        }
        for reach in rows.reach.iter().filter(|reach| reach.certified || reach.within) {
            ensure!(
                !reach.changed,
                "the greedy token of request {request}, position {} was certified and changed under `{change}`: \
                 this is a defect of the program",
                reach.position,
            );
        }
        Ok(())
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
    pub(crate) fn reach_of(&self, i: usize) -> f64 {
        self.last.deviation[i] * (self.last.u.cols as f64).sqrt()
    }

    /// The same at the input of `block`; of the final state behind the last.
    pub(crate) fn reach_at(&self, block: usize, i: usize) -> f64 {
        match self.points.get(block) {
            Some(point) => point.before_attn.deviation[i] * (self.last.u.cols as f64).sqrt(),
            None => self.reach_of(i),
        }
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
