//! `capture`: what hooks show while requests run, request by request in order.

use anyhow::{Context, Result, ensure};
use rote_artifact::tables::Request;
use rote_model::{Means, Model, Real, Row, State, Tap, Workspace};
use rote_plan::{BlockChange, Hook};

use crate::batch::batches;

/// What a hook showed at one token.
#[derive(Clone, Debug)]
pub struct Captured<'a, T> {
    /// Hook.
    pub hook: Hook,
    /// Block, for hooks that belong to one.
    pub block: Option<usize>,
    /// The request.
    pub request: &'a Request,
    /// Index in context ++ continuation.
    pub position: usize,
    /// The token there.
    pub token: u32,
    /// Head, for attention patterns.
    pub head: Option<usize>,
    /// Values; of a pattern, the weights over positions `0..=position` and zeros to the sequence's end.
    pub values: &'a [T],
}

/// Runs `requests` (whole: context ++ continuation) under `change` and shows `each` what the hooks `wanted`
/// show. Per hook and block the order is request, position, head; `each` is called batch by batch.
///
/// # Errors
/// A request that does not fit the model, or what `each` says.
pub fn capture<T: Real>(
    model: &Model<T>,
    requests: &[Request],
    change: &[BlockChange],
    means: Option<&Means<T>>,
    wanted: &[(Hook, Option<usize>)],
    batch: Option<usize>,
    each: &mut dyn FnMut(Captured<'_, T>) -> Result<()>,
) -> Result<()> {
    let mut work = Workspace::default();
    for range in batches(requests, 2048, batch.unwrap_or(usize::MAX)) {
        let requests = &requests[range];
        one_batch(model, requests, change, means, wanted, &mut work, each).with_context(|| {
            format!("requests {}-{}", requests[0].request, requests[requests.len() - 1].request)
        })?;
    }
    Ok(())
}

fn one_batch<T: Real>(
    model: &Model<T>,
    requests: &[Request],
    change: &[BlockChange],
    means: Option<&Means<T>>,
    wanted: &[(Hook, Option<usize>)],
    work: &mut Workspace<T>,
    each: &mut dyn FnMut(Captured<'_, T>) -> Result<()>,
) -> Result<()> {
    let spec = &model.spec;
    let tokens: Vec<Vec<u32>> =
        requests.iter().map(|request| [&request.context[..], &request.continuation].concat()).collect();
    for (tokens, request) in tokens.iter().zip(requests) {
        ensure!(!tokens.is_empty(), "request {} is empty", request.request);
    }
    let inputs: Vec<_> = tokens.iter().map(|tokens| (&tokens[..], 0)).collect();
    let mut x = model.embed(&inputs)?;
    let mut states: Vec<_> = tokens.iter().map(|tokens| State::new(spec, tokens.len(), false)).collect();
    let mut rows: Vec<_> = states
        .iter_mut()
        .zip(&tokens)
        .map(|(state, tokens)| Row::new(state, tokens.len(), change, means))
        .collect();
    let mut tap = Show { requests, tokens: &tokens, wanted, each, failed: None };
    if wanted.contains(&(Hook::Embed, None)) {
        tap.see(Hook::Embed, None, &x, spec.d_model);
    }
    model.run(0..spec.n_blocks, &mut x, &mut rows, work, &mut tap)?;
    if wanted.contains(&(Hook::FinalNorm, None)) || wanted.contains(&(Hook::Logits, None)) {
        let normed = model.final_norm(&x);
        let width = normed.len() / tokens.iter().map(Vec::len).sum::<usize>();
        if wanted.contains(&(Hook::FinalNorm, None)) {
            tap.see(Hook::FinalNorm, None, &normed, width);
        }
        if wanted.contains(&(Hook::Logits, None)) {
            // A few positions at a time: all of them would not fit.
            let mut first = 0;
            for chunk in normed.chunks(64 * width) {
                let logits = model.logits(chunk);
                tap.show(Hook::Logits, None, &logits, spec.vocab, first);
                first += chunk.len() / width;
            }
        }
    }
    match tap.failed {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

struct Show<'a, 'b, T> {
    requests: &'a [Request],
    tokens: &'a [Vec<u32>],
    wanted: &'a [(Hook, Option<usize>)],
    each: &'b mut dyn FnMut(Captured<'_, T>) -> Result<()>,
    failed: Option<anyhow::Error>,
}

impl<T: Real> Show<'_, '_, T> {
    /// Packed rows of which the first is number `first` of the batch.
    fn show(&mut self, hook: Hook, block: Option<usize>, values: &[T], width: usize, first: usize) {
        let places = self.tokens.iter().enumerate().flat_map(|(row, tokens)| {
            tokens.iter().enumerate().map(move |(position, &token)| (row, position, token))
        });
        for ((row, position, token), values) in places.skip(first).zip(values.chunks_exact(width)) {
            let request = &self.requests[row];
            self.tell(Captured { hook, block, request, position, token, head: None, values });
        }
    }

    fn tell(&mut self, captured: Captured<'_, T>) {
        if self.failed.is_none()
            && let Err(error) = (self.each)(captured)
        {
            self.failed = Some(error);
        }
    }
}

impl<T: Real> Tap<T> for Show<'_, '_, T> {
    fn wants(&self, hook: Hook, block: Option<usize>) -> bool {
        self.wanted.contains(&(hook, block))
    }

    fn see(&mut self, hook: Hook, block: Option<usize>, values: &[T], width: usize) {
        self.show(hook, block, values, width, 0);
    }

    fn see_pattern(&mut self, block: usize, row: usize, weights: &[T], keys: usize) {
        let (requests, tokens) = (self.requests, self.tokens);
        let heads = weights.len() / (keys * tokens[row].len());
        for (position, &token) in tokens[row].iter().enumerate() {
            for head in 0..heads {
                let values = &weights[(head * tokens[row].len() + position) * keys..][..keys];
                let (hook, block, head) = (Hook::Pattern, Some(block), Some(head));
                self.tell(Captured { hook, block, request: &requests[row], position, token, head, values });
            }
        }
    }
}
