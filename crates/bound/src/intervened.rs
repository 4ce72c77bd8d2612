//! Intervened runs in f64, several at once: their tokens lie above each other, so that a block's matrices are
//! read once for all.
//!
//! Each run begins at its first changed block, on the plain run's states there: below it nothing differs. In a
//! parallel block whose attention alone is changed the MLP reads what it read before, and a row's bits depend on
//! that row alone; so its output is taken from the plain run.
//!
//! What is kept of a run is what its rows need: by how much its modules' outputs moved, how far its states are
//! from the plain ones, and its last state.

use std::ops::Range;

use anyhow::Result;
use rote_model::{Matrix, Means, Model, Residual, Row, State, Tap, Workspace};
use rote_plan::{AttnChange, BlockChange, Hook, MlpChange};

use crate::linear::{distance, norm};
use crate::trace::Trace;

/// One intervention to be run.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// First changed block.
    pub first: usize,
    pub change: &'a [BlockChange],
}

/// What one intervened run shows, from its first changed block on.
pub(crate) struct Intervened {
    /// Per block: what attention gives more than in the plain run, `[n, d]`.
    pub attn: Vec<Vec<f64>>,
    /// The same of the MLP; empty where it gives the same.
    pub mlp: Vec<Vec<f64>>,
    /// Per block: `|D_i|` at its output.
    pub differ: Vec<Vec<f64>>,
    /// At the last block's output, `[n, d]`.
    pub last: Matrix<f64>,
}

/// Bytes that the runs of one group may keep.
const KEPT: usize = 128 << 20;
/// Tokens beyond which a product gains nothing from more.
const ABREAST: usize = 512;

/// How many runs of `n` tokens go together.
pub(crate) fn together(model: &Model<f64>, n: usize) -> usize {
    let per_token = 2 * model.spec.n_blocks * model.spec.d_model * size_of::<f64>();
    (ABREAST.min(KEPT / per_token) / n.max(1)).max(1)
}

/// Runs `wanted`, which stand in the order of their first blocks. `means` are for `attn.mean`.
///
/// # Errors
/// `attn.mean` without means.
pub(crate) fn run(
    model: &Model<f64>,
    plain: &Trace,
    wanted: &[Wanted<'_>],
    means: &Means<f64>,
) -> Result<Vec<Intervened>> {
    debug_assert!(wanted.is_sorted_by_key(|wanted| wanted.first));
    let (n, d) = (plain.last.rows, model.spec.d_model);
    let mut group = Group { model, plain, wanted, means, work: Workspace::default() };
    let mut states: Vec<State<f64>> = wanted.iter().map(|_| State::new(&model.spec, n, false)).collect();
    let mut seen: Vec<Intervened> = wanted
        .iter()
        .map(|_| Intervened {
            attn: Vec::new(),
            mlp: Vec::new(),
            differ: Vec::new(),
            last: Matrix::new(0, d, Vec::new()),
        })
        .collect();
    let mut x: Vec<f64> = Vec::new();
    let before = |block: usize| wanted.iter().filter(|wanted| wanted.first < block).count();
    for block in wanted.first().map_or(0, |wanted| wanted.first)..model.spec.n_blocks {
        let (older, active) = (before(block), before(block + 1));
        let begin = plain.input[block].data.repeat(active - older);
        // Those that begin here may know their MLP's output.
        let known = model.spec.residual == Residual::Parallel;
        let known = known && wanted[older..active].iter().all(|wanted| attention_alone(wanted, block));
        if known {
            group.block(block, 0..older, &mut x, &mut states, &mut seen, false)?;
            let mut begin = begin;
            group.block(block, older..active, &mut begin, &mut states, &mut seen, true)?;
            for x in begin.chunks_exact_mut(n * d) {
                x.iter_mut().zip(&plain.mlp[block].data).for_each(|(x, mlp)| *x += mlp);
            }
            x.extend(begin);
        } else {
            x.extend(begin);
            group.block(block, 0..active, &mut x, &mut states, &mut seen, false)?;
        }
        let output = plain.output(block);
        for (x, seen) in x.chunks_exact(n * d).zip(&mut seen) {
            let rows = x.chunks_exact(d).zip(output.data.chunks_exact(d));
            seen.differ.push(rows.map(|(after, before)| distance(after, before)).collect());
        }
    }
    for (x, seen) in x.chunks_exact(n * d).zip(&mut seen) {
        seen.last = Matrix::new(n, d, x.to_vec());
    }
    Ok(seen)
}

/// Whether `block` changes attention and nothing else.
fn attention_alone(wanted: &Wanted<'_>, block: usize) -> bool {
    let change = &wanted.change[block];
    change.attn != AttnChange::None && change.mlp == MlpChange::None
}

struct Group<'a> {
    model: &'a Model<f64>,
    plain: &'a Trace,
    wanted: &'a [Wanted<'a>],
    means: &'a Means<f64>,
    work: Workspace<f64>,
}

impl Group<'_> {
    /// Runs one block of the runs `range`, whose states are `x`; without their MLPs where these are known.
    fn block(
        &mut self,
        block: usize,
        range: Range<usize>,
        x: &mut [f64],
        states: &mut [State<f64>],
        seen: &mut [Intervened],
        mlp_known: bool,
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let n = self.plain.last.rows;
        let without_mlp: Vec<Vec<BlockChange>> = if mlp_known {
            let without = |wanted: &Wanted<'_>| {
                let mut change = vec![BlockChange::default(); wanted.change.len()];
                change[block] = BlockChange { mlp: MlpChange::Zero, ..wanted.change[block].clone() };
                change
            };
            self.wanted[range.clone()].iter().map(without).collect()
        } else {
            Vec::new()
        };
        let changes = self.wanted[range.clone()].iter().enumerate();
        let changes = changes.map(|(at, wanted)| without_mlp.get(at).map_or(wanted.change, Vec::as_slice));
        let states = states[range.clone()].iter_mut();
        let mut rows: Vec<Row<'_, f64>> =
            states.zip(changes).map(|(state, change)| Row::new(state, n, change, Some(self.means))).collect();
        let mut tap = Moved { plain: self.plain, seen: &mut seen[range], mlp_known };
        self.model.run(block..block + 1, x, &mut rows, &mut self.work, &mut tap)
    }
}

/// Keeps what modules give more than in the plain run.
struct Moved<'a> {
    plain: &'a Trace,
    seen: &'a mut [Intervened],
    mlp_known: bool,
}

impl Tap<f64> for Moved<'_> {
    fn wants(&self, hook: Hook, _: Option<usize>) -> bool {
        hook == Hook::AttnOut || hook == Hook::MlpOut && !self.mlp_known
    }

    fn see(&mut self, hook: Hook, block: Option<usize>, values: &[f64], width: usize) {
        let block = block.expect("both hooks belong to a block");
        let of_plain = if hook == Hook::AttnOut { &self.plain.attn[block] } else { &self.plain.mlp[block] };
        for (values, seen) in values.chunks_exact(of_plain.rows * width).zip(&mut *self.seen) {
            let moved = values.iter().zip(&of_plain.data).map(|(after, before)| after - before).collect();
            if hook == Hook::AttnOut {
                seen.attn.push(moved)
            } else {
                seen.mlp.push(moved)
            }
            if self.mlp_known {
                seen.mlp.push(Vec::new());
            }
        }
    }
}

/// `|row|` of each of the rows of width `d`.
pub(crate) fn lengths(rows: &[f64], d: usize) -> Vec<f64> {
    rows.chunks_exact(d).map(norm).collect()
}
