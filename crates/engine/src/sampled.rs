//! `sampled`: how likely a sampler gives each token of a continuation, under every intervention.
//!
//! A pass of its own, since few studies ask for it: the model as it is once, keeping the residual states at
//! the blocks where interventions begin; each intervention from there on.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rote_artifact::tables::Request;
use rote_model::{Means, Model, NoTap, Real, Row, Sampler, State, Workspace};
use rote_plan::{BlockChange, Intervention};

use crate::batch::batches;
use crate::room::{Room, buffers, weights};

/// Tokens of a batch unless memory says less.
const TOKENS: usize = 2048;

/// Log-probabilities under `sampler` of every continuation token given the true past, nats:
/// `[request][change][token]`. `means` and `room` as in [`crate::Sweep::new`].
///
/// # Errors
/// An intervention or a request that does not fit the model.
pub fn sampled<T: Real>(
    model: &Model<T>,
    requests: &[Request],
    changes: &[Intervention],
    means: Option<&Means<T>>,
    sampler: &Sampler,
    room: Room,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let (n_blocks, n_heads) = (model.spec.n_blocks, model.spec.n_heads);
    let plans = changes
        .iter()
        .map(|change| {
            let first = change.first_block(n_blocks).unwrap_or(n_blocks);
            Ok((first, change.resolve(n_blocks, n_heads)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let tokens = budget(model, requests, &plans, room.memory);
    let mut work = Workspace::default();
    let mut all = Vec::with_capacity(requests.len());
    for range in batches(requests, tokens, room.batch.unwrap_or(usize::MAX)) {
        let requests = &requests[range];
        let found = one_batch(model, requests, &plans, means, sampler, &mut work).with_context(|| {
            format!("requests {}-{}", requests[0].request, requests[requests.len() - 1].request)
        })?;
        all.extend(found);
    }
    Ok(all)
}

/// First changed block, and the change block by block.
type Plan = (usize, Vec<BlockChange>);

/// Tokens of a batch for which `memory` has room beside weights and buffers: of each are held its states at blocks where
/// interventions begin and those being computed, and keys and values of one block.
fn budget<T: Real>(model: &Model<T>, requests: &[Request], plans: &[Plan], memory: u64) -> usize {
    let spec = &model.spec;
    let firsts: BTreeSet<usize> = plans.iter().map(|(first, _)| *first).collect();
    let each = ((firsts.len() + 3) * spec.d_model + 2 * spec.d_kv()) * size_of::<T>();
    let longest = requests.iter().map(|r| r.context.len() + r.continuation.len()).max().unwrap_or(0);
    let left = memory.saturating_sub(weights(model) + buffers::<T>(spec, longest));
    TOKENS.min((left / each as u64) as usize)
}

fn one_batch<T: Real>(
    model: &Model<T>,
    requests: &[Request],
    plans: &[Plan],
    means: Option<&Means<T>>,
    sampler: &Sampler,
    work: &mut Workspace<T>,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let n_blocks = model.spec.n_blocks;
    let mut tokens = Vec::with_capacity(requests.len());
    for request in requests {
        let (given, asked) = (&request.context, &request.continuation);
        ensure!(!given.is_empty(), "request {} has no context", request.request);
        ensure!(!asked.is_empty(), "request {} asks for no token", request.request);
        // The last token predicts nothing that is asked.
        tokens.push([&given[..], &asked[..asked.len() - 1]].concat());
    }
    let none = vec![BlockChange::default(); n_blocks];
    let mut run = |x: &mut Vec<T>, blocks: std::ops::Range<usize>, change: &[BlockChange]| {
        let mut states: Vec<_> =
            tokens.iter().map(|tokens| State::new(&model.spec, tokens.len(), false)).collect();
        let mut rows: Vec<_> = states
            .iter_mut()
            .zip(&tokens)
            .zip(requests)
            .map(|((state, tokens), request)| {
                let (new, scored) = (tokens.len(), request.continuation.len());
                Row { scored, ..Row::new(state, new, change, means) }
            })
            .collect();
        model.run(blocks, x, &mut rows, work, &mut NoTap)
    };

    let inputs: Vec<_> = tokens.iter().map(|tokens| (&tokens[..], 0)).collect();
    let mut x = model.embed(&inputs)?;
    let mut kept: Vec<Option<Vec<T>>> = vec![None; n_blocks + 1];
    let mut firsts: Vec<usize> = plans.iter().map(|(first, _)| *first).collect();
    firsts.sort_unstable();
    firsts.dedup();
    let mut from = 0;
    for first in firsts {
        run(&mut x, from..first, &none)?;
        kept[first] = Some(x.clone());
        from = first;
    }

    let mut all: Vec<Vec<Vec<f64>>> = requests.iter().map(|_| Vec::with_capacity(plans.len())).collect();
    for (first, change) in plans {
        let mut x = kept[*first].clone().expect("kept for every first block");
        run(&mut x, *first..n_blocks, change)?;
        let (mut states, mut targets) = (Vec::new(), Vec::new());
        let (d, mut end) = (model.spec.d_model, 0);
        for (request, tokens) in requests.iter().zip(&tokens) {
            end += tokens.len();
            states.extend_from_slice(&x[(end - request.continuation.len()) * d..end * d]);
            targets.extend_from_slice(&request.continuation);
        }
        let mut found = model.sampled(&model.final_norm(&states), &targets, sampler).into_iter();
        for (request, all) in requests.iter().zip(&mut all) {
            all.push(found.by_ref().take(request.continuation.len()).collect());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load_subject;

    #[test]
    fn memory_cuts_batches_and_changes_nothing() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tiny/neox-parallel");
        let model = load_subject::<f32>(&folder).unwrap().0.model;
        let ask =
            |number| Request { context: vec![number; 9], continuation: vec![1, 2, 3], ..Request::default() };
        let requests: Vec<_> = (0..8).map(ask).collect();
        let changes = [Intervention::NONE, "attn.identity@1".parse().unwrap()];
        let plan = |first: usize| (first, Vec::new());
        let least = weights(&model) + buffers::<f32>(&model.spec, 12);
        // Of each token five states and keys and values of a block.
        let each = 4 * (5 * model.spec.d_model + 2 * model.spec.d_kv()) as u64;
        for (memory, expected) in
            [(0, 0), (least + 30 * each, 30), (least + 30 * each - 1, 29), (u64::MAX, TOKENS)]
        {
            assert_eq!(budget(&model, &requests, &[plan(1), plan(2), plan(1)], memory), expected);
        }
        let sampler = Sampler::new(0.7, None, 0.9).unwrap();
        let run = |memory| {
            sampled(&model, &requests, &changes, None, &sampler, Room { batch: None, memory }).unwrap()
        };
        assert_eq!(run(0), run(u64::MAX));
    }
}
