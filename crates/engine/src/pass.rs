//! One teacher-forced pass of a batch: the trunk, or an intervention that restarts on it.
//!
//! Requests with a common context become leaves on one stem; a request alone is a leaf without a stem, whose
//! row is its whole sequence. The last token of a sequence predicts nothing that is asked, so it is not run.

use anyhow::{Context, Result, ensure};
use rote_artifact::tables::Request;
use rote_model::{Means, Model, NoTap, Readout, Real, Row, State, Workspace};
use rote_plan::BlockChange;

/// A batch as rows: which tokens stand where.
pub(crate) struct Layout<'a> {
    stems: Vec<&'a [u32]>,
    leaves: Vec<Leaf<'a>>,
}

struct Leaf<'a> {
    request: &'a Request,
    stem: Option<usize>,
    /// What the row adds to its stem; may be empty.
    tokens: Vec<u32>,
}

/// Tokens of a row, and how many of its last are read out.
#[derive(Clone, Copy)]
struct Size {
    new: usize,
    scored: usize,
}

/// Rows that ran together: states, and residual states at each block's input where they were asked for.
pub(crate) struct Rows<T> {
    pub(crate) states: Vec<State<T>>,
    /// `[n_blocks]`, packed `[N, d]`; empty where not asked for.
    inputs: Vec<Vec<T>>,
    /// Packed `[N, d]` after the last block.
    output: Vec<T>,
    /// First token of each row in the packed buffers.
    starts: Vec<usize>,
}

/// A finished pass.
pub(crate) struct Pass<T> {
    pub(crate) stems: Rows<T>,
    pub(crate) leaves: Rows<T>,
}

/// An intervention as a pass sees it.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a, T> {
    pub(crate) blocks: &'a [BlockChange],
    pub(crate) means: Option<&'a Means<T>>,
    /// First block that differs from the trunk; `n_blocks` where none does.
    pub(crate) first: usize,
}

impl<'a> Layout<'a> {
    /// # Errors
    /// A request without context or continuation.
    pub(crate) fn new(requests: &'a [Request]) -> Result<Self> {
        let mut stems: Vec<&[u32]> = Vec::new();
        let mut leaves: Vec<Leaf<'a>> = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            ensure!(!request.context.is_empty(), "request {} has no context", request.request);
            ensure!(!request.continuation.is_empty(), "request {} asks for no token", request.request);
            let shares =
                |other: Option<&Request>| other.is_some_and(|other| other.context == request.context);
            let with_last = index > 0 && shares(requests.get(index - 1));
            let stem = if with_last {
                Some(stems.len() - 1)
            } else if shares(requests.get(index + 1)) {
                stems.push(&request.context);
                Some(stems.len() - 1)
            } else {
                None
            };
            let mut tokens = if stem.is_none() { request.context.clone() } else { Vec::new() };
            tokens.extend_from_slice(&request.continuation[..request.continuation.len() - 1]);
            leaves.push(Leaf { request, stem, tokens });
        }
        Ok(Layout { stems, leaves })
    }

    /// Runs the model as it is; keeps the input of each block in `keep_inputs`, and keys and values where
    /// somebody goes on from them.
    pub(crate) fn trunk<T: Real>(
        &self,
        model: &Model<T>,
        keep_inputs: &[bool],
        generate: bool,
        work: &mut Workspace<T>,
    ) -> Result<Pass<T>> {
        let none = vec![BlockChange::default(); model.spec.n_blocks];
        let change = Change { blocks: &none, means: None, first: 0 };
        let states = self.stems.iter().map(|stem| State::new(&model.spec, stem.len(), true)).collect();
        let x = embed(model, &self.stem_rows())?;
        let stems = run(model, &self.stem_sizes(), states, x, 0, change, keep_inputs, work)?;
        let states = self.leaves.iter().map(|leaf| self.leaf_state(model, leaf, &stems, generate)).collect();
        let x = embed(model, &self.leaf_rows())
            .with_context(|| format!("requests from {} on", self.leaves[0].request.request))?;
        let leaves = run(model, &self.leaf_sizes(), states, x, 0, change, keep_inputs, work)?;
        Ok(Pass { stems, leaves })
    }

    /// Runs an intervention from its first changed block on, starting from the trunk's states there.
    pub(crate) fn restart<T: Real>(
        &self,
        model: &Model<T>,
        trunk: &Pass<T>,
        change: Change<'_, T>,
        generate: bool,
        work: &mut Workspace<T>,
    ) -> Result<Pass<T>> {
        let from = change.first;
        let states = trunk.stems.states.iter().map(|state| state.restarted(from, true)).collect();
        let x = trunk.stems.inputs[from].clone();
        let stems = run(model, &self.stem_sizes(), states, x, from, change, &[], work)?;
        let states = self
            .leaves
            .iter()
            .zip(&trunk.leaves.states)
            .map(|(leaf, state)| {
                let state = state.restarted(from, generate);
                match leaf.stem {
                    Some(stem) => state.moved_to(&stems.states[stem]),
                    None => state,
                }
            })
            .collect();
        let x = trunk.leaves.inputs[from].clone();
        let leaves = run(model, &self.leaf_sizes(), states, x, from, change, &[], work)?;
        Ok(Pass { stems, leaves })
    }

    /// Reads out every continuation token of every request.
    pub(crate) fn readouts<T: Real>(&self, model: &Model<T>, pass: &Pass<T>) -> Vec<Vec<Readout>> {
        let d = model.spec.d_model;
        let (mut states, mut targets) = (Vec::new(), Vec::new());
        for (index, leaf) in self.leaves.iter().enumerate() {
            let asked = &leaf.request.continuation;
            let from = pass.leaves.starts[index];
            let mut rows = from..from + leaf.tokens.len();
            match leaf.stem {
                // The stem's last token predicts the first that is asked.
                Some(stem) => {
                    let last = pass.stems.starts[stem] + self.stems[stem].len() - 1;
                    states.extend_from_slice(&pass.stems.output[last * d..(last + 1) * d]);
                }
                None => rows.start = rows.end - asked.len(),
            }
            states.extend_from_slice(&pass.leaves.output[rows.start * d..rows.end * d]);
            targets.extend_from_slice(asked);
        }
        let mut all = model.readout(&model.final_norm(&states), &targets).into_iter();
        self.leaves.iter().map(|leaf| all.by_ref().take(leaf.request.continuation.len()).collect()).collect()
    }

    fn leaf_state<T: Real>(
        &self,
        model: &Model<T>,
        leaf: &Leaf<'_>,
        stems: &Rows<T>,
        keep: bool,
    ) -> State<T> {
        match leaf.stem {
            Some(stem) => {
                stems.states[stem].continued(&model.spec, self.stems[stem].len(), leaf.tokens.len(), keep)
            }
            None => State::new(&model.spec, leaf.tokens.len(), keep),
        }
    }

    fn stem_rows(&self) -> Vec<(&[u32], usize)> {
        self.stems.iter().map(|stem| (*stem, 0)).collect()
    }

    fn leaf_rows(&self) -> Vec<(&[u32], usize)> {
        let first = |leaf: &Leaf<'_>| leaf.stem.map_or(0, |stem| self.stems[stem].len());
        self.leaves.iter().map(|leaf| (&leaf.tokens[..], first(leaf))).collect()
    }

    fn stem_sizes(&self) -> Vec<Size> {
        // The last token predicts the first that is asked.
        self.stems.iter().map(|stem| Size { new: stem.len(), scored: 1 }).collect()
    }

    fn leaf_sizes(&self) -> Vec<Size> {
        let size = |leaf: &Leaf<'_>| {
            let new = leaf.tokens.len();
            Size { new, scored: new.min(leaf.request.continuation.len()) }
        };
        self.leaves.iter().map(size).collect()
    }
}

fn embed<T: Real>(model: &Model<T>, rows: &[(&[u32], usize)]) -> Result<Vec<T>> {
    model.embed(rows)
}

#[expect(clippy::too_many_arguments, reason = "everything a pass is made of")]
fn run<T: Real>(
    model: &Model<T>,
    sizes: &[Size],
    mut states: Vec<State<T>>,
    mut x: Vec<T>,
    from: usize,
    change: Change<'_, T>,
    keep_inputs: &[bool],
    work: &mut Workspace<T>,
) -> Result<Rows<T>> {
    let n_blocks = model.spec.n_blocks;
    let mut rows: Vec<_> = states
        .iter_mut()
        .zip(sizes)
        .map(|(state, &Size { new, scored })| Row {
            new,
            scored,
            state,
            change: change.blocks,
            means: change.means,
        })
        .collect();
    let mut inputs = vec![Vec::new(); n_blocks];
    let keeps = |block: &usize| keep_inputs.get(*block) == Some(&true);
    let mut at = from;
    while at < n_blocks {
        if keeps(&at) {
            inputs[at] = x.clone();
        }
        // As many blocks at once as nobody looks between: threads wait for each other after each call.
        let end = (at + 1..n_blocks).find(keeps).unwrap_or(n_blocks);
        model.run(at..end, &mut x, &mut rows, work, &mut NoTap)?;
        at = end;
    }
    let starts = sizes
        .iter()
        .scan(0, |at, size| {
            let start = *at;
            *at += size.new;
            Some(start)
        })
        .collect();
    Ok(Rows { states, inputs, output: x, starts })
}
