//! One teacher-forced pass of a batch: the trunk, or an intervention that restarts on it.
//!
//! Requests with a common context become leaves on one stem; a request alone is a leaf without a stem, whose
//! row is its whole sequence. The last token of a sequence predicts nothing that is asked, so it is not run.

use anyhow::{Context, Result, ensure};
use rote_artifact::tables::Request;
use rote_model::{Means, MlpOut, Model, NoTap, Readout, Real, Residual, Row, State, Workspace};
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

/// Where rows begin.
struct Start<'a, T> {
    block: usize,
    /// Residual states at the block's input, packed `[N, d]`.
    input: Vec<T>,
    /// What the block's MLP gives, packed as well; empty where that is not known.
    mlp_out: &'a [T],
}

/// What passes that begin at a block have in common with the trunk: as in [`Start`].
#[derive(Clone, Default)]
struct Kept<T> {
    input: Vec<T>,
    mlp_out: Vec<T>,
}

/// Rows that ran together.
pub(crate) struct Rows<T> {
    pub(crate) states: Vec<State<T>>,
    /// `[n_blocks]`; empty where not asked for.
    kept: Vec<Kept<T>>,
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

/// Requests next to each other with one context.
fn alike(requests: &[Request]) -> impl Iterator<Item = &[Request]> {
    requests.chunk_by(|one, next| one.context == next.context)
}

/// Contexts that several of `requests`, next to each other, have in common.
pub(crate) fn common_contexts(requests: &[Request]) -> impl Iterator<Item = &[u32]> {
    alike(requests).filter(|alike| alike.len() > 1).map(|alike| &alike[0].context[..])
}

impl<'a> Layout<'a> {
    /// # Errors
    /// A request without context or continuation.
    pub(crate) fn new(requests: &'a [Request]) -> Result<Self> {
        let stems: Vec<&[u32]> = common_contexts(requests).collect();
        let mut leaves: Vec<Leaf<'a>> = Vec::with_capacity(requests.len());
        let mut met = 0;
        for alike in alike(requests) {
            let stem = (alike.len() > 1).then_some(met);
            met += usize::from(stem.is_some());
            for request in alike {
                ensure!(!request.context.is_empty(), "request {} has no context", request.request);
                ensure!(!request.continuation.is_empty(), "request {} asks for no token", request.request);
                let mut tokens = if stem.is_none() { request.context.clone() } else { Vec::new() };
                tokens.extend_from_slice(&request.continuation[..request.continuation.len() - 1]);
                leaves.push(Leaf { request, stem, tokens });
            }
        }
        Ok(Layout { stems, leaves })
    }

    /// Runs the model as it is; keeps what the blocks in `keep` have in common with passes that begin there, and keys
    /// and values where somebody goes on from them.
    pub(crate) fn trunk<T: Real>(
        &self,
        model: &Model<T>,
        keep: &[bool],
        generate: bool,
        work: &mut Workspace<T>,
    ) -> Result<Pass<T>> {
        let none = vec![BlockChange::default(); model.spec.n_blocks];
        let change = Change { blocks: &none, means: None, first: 0 };
        let states = self.stems.iter().map(|stem| State::new(&model.spec, stem.len(), true)).collect();
        let start = Start::at_embeddings(model.embed(&self.stem_rows())?);
        let stems = run(model, &self.stem_sizes(), states, start, change, keep, work)?;
        let states = self.leaves.iter().map(|leaf| self.leaf_state(model, leaf, &stems, generate)).collect();
        let embedded = model
            .embed(&self.leaf_rows())
            .with_context(|| format!("requests from {} on", self.leaves[0].request.request))?;
        let start = Start::at_embeddings(embedded);
        let leaves = run(model, &self.leaf_sizes(), states, start, change, keep, work)?;
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
        let start = trunk.stems.start(from);
        let stems = run(model, &self.stem_sizes(), states, start, change, &[], work)?;
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
        let start = trunk.leaves.start(from);
        let leaves = run(model, &self.leaf_sizes(), states, start, change, &[], work)?;
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

impl<T> Start<'_, T> {
    fn at_embeddings(input: Vec<T>) -> Self {
        Start { block: 0, input, mlp_out: &[] }
    }
}

impl<T: Real> Rows<T> {
    /// Where a pass begins that has all below this block in common with this one.
    fn start(&self, block: usize) -> Start<'_, T> {
        let Kept { input, mlp_out } = &self.kept[block];
        Start { block, input: input.clone(), mlp_out }
    }
}

fn run<T: Real>(
    model: &Model<T>,
    sizes: &[Size],
    mut states: Vec<State<T>>,
    start: Start<'_, T>,
    change: Change<'_, T>,
    keep: &[bool],
    work: &mut Workspace<T>,
) -> Result<Rows<T>> {
    let (n_blocks, d) = (model.spec.n_blocks, model.spec.d_model);
    let parallel = model.spec.residual == Residual::Parallel;
    let Start { block: mut at, input: mut x, mlp_out: mut known } = start;
    let mut kept = vec![Kept::default(); n_blocks];
    let keeps = |block: &usize| keep.get(*block) == Some(&true);
    while at < n_blocks {
        if keeps(&at) {
            let mlp_out = vec![T::ZERO; if parallel { x.len() } else { 0 }];
            kept[at] = Kept { input: x.clone(), mlp_out };
        }
        let mlp_outs = mlp_outs(known, &mut kept[at].mlp_out, sizes, d);
        let mut rows: Vec<_> = (states.iter_mut().zip(sizes).zip(mlp_outs))
            .map(|((state, &Size { new, scored }), mlp_out)| Row {
                scored,
                mlp_out,
                ..Row::new(state, new, change.blocks, change.means)
            })
            .collect();
        // As many blocks at once as nobody looks between: threads wait for each other after each call.
        let end = (at + 1..n_blocks).find(keeps).unwrap_or(n_blocks);
        model.run(at..end, &mut x, &mut rows, work, &mut NoTap)?;
        known = &[];
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
    Ok(Rows { states, kept, output: x, starts })
}

/// Each row's share of what is known of the first block's MLP, or of where it is kept; either may be empty.
fn mlp_outs<'a, T>(known: &'a [T], keep: &'a mut [T], sizes: &[Size], d: usize) -> Vec<MlpOut<'a, T>> {
    let (mut known, mut keep) = (known, keep);
    let each = |size: &Size| {
        let len = size.new * d;
        if let Some((here, rest)) = known.split_at_checked(len) {
            known = rest;
            MlpOut::Kept(here)
        } else if keep.len() >= len {
            let (here, rest) = std::mem::take(&mut keep).split_at_mut(len);
            keep = rest;
            MlpOut::Keep(here)
        } else {
            MlpOut::New
        }
    };
    sizes.iter().map(each).collect()
}
