//! `Sweep`: every request under every intervention, in the order of work that costs least.

use anyhow::{Context, Result, ensure};
use rote_artifact::tables::Request;
use rote_model::{Likeliest, Means, Model, Readout, Real, Residual, Workspace};
use rote_plan::{BlockChange, Intervention};

use crate::batch::batches;
use crate::greedy::{Text, decode};
use crate::pass::{Change, Layout, Pass, common_contexts};
use crate::room::{Need, Room, buffers, weights};

/// What one request got under one intervention.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One per continuation token, given the true past.
    pub readouts: Vec<Readout>,
    /// The free-running greedy continuation, where it was asked for.
    pub generated: Option<Vec<u32>>,
}

impl Answer {
    /// Leading continuation tokens that greedy decoding gives: as long as all before were right, the true
    /// past and the free-running one are the same.
    pub fn matched(&self, continuation: &[u32]) -> usize {
        self.readouts.iter().zip(continuation).take_while(|(out, token)| out.argmax == **token).count()
    }

    /// Log-probability of the continuation, nats.
    pub fn logprob(&self) -> f64 {
        self.readouts.iter().map(|out| out.logprob).sum()
    }
}

/// Tokens of a batch unless memory says less: enough to keep matrix products at full speed.
const TOKENS: usize = 8192;
/// Bytes that a batch may take unless it has to take more: beyond it nothing is gained.
const BYTES: u64 = 2 << 30;

/// A plan of work.
pub struct Sweep<'a, T> {
    model: &'a Model<T>,
    changes: Vec<Vec<BlockChange>>,
    firsts: Vec<usize>,
    means: Option<&'a Means<T>>,
    /// Where free-running text is asked for.
    likeliest: Option<Likeliest<'a, T>>,
    room: Room,
}

impl<'a, T: Real> Sweep<'a, T> {
    /// Every one of `changes` on `model`. `means` are what `attn.mean` puts in attention's place; with `generate`,
    /// free-running text is decoded; `room` limits the requests that go together.
    ///
    /// # Errors
    /// An intervention that does not fit the model.
    pub fn new(
        model: &'a Model<T>,
        changes: &[Intervention],
        means: Option<&'a Means<T>>,
        generate: bool,
        room: Room,
    ) -> Result<Self> {
        let (n_blocks, n_heads) = (model.spec.n_blocks, model.spec.n_heads);
        let resolved = changes.iter().map(|c| c.resolve(n_blocks, n_heads)).collect::<Result<Vec<_>>>()?;
        let firsts = changes.iter().map(|c| c.first_block(n_blocks).unwrap_or(n_blocks)).collect();
        let likeliest = generate.then(|| Likeliest::new(model));
        Ok(Sweep { model, changes: resolved, firsts, means, likeliest, room })
    }

    /// Answers `requests`; `each` gets every request in order with one answer per intervention.
    ///
    /// # Errors
    /// A request that does not fit the model, or what `each` says.
    pub fn run(
        &self,
        requests: &[Request],
        each: &mut dyn FnMut(&Request, Vec<Answer>) -> Result<()>,
    ) -> Result<()> {
        let mut work = Workspace::default();
        let need = self.need(requests);
        let longest =
            requests.iter().max_by_key(|request| request.context.len() + request.continuation.len());
        if let Some(request) = longest {
            let tokens = (request.context.len() + request.continuation.len()) as u64;
            let least = Need { tokens, ..need };
            ensure!(
                need.tokens >= tokens,
                "request {} alone takes {least}, and --memory allows {:.1} GiB",
                request.request,
                self.room.memory as f64 / (1u64 << 30) as f64
            );
        }
        for range in batches(requests, need.tokens as usize, self.room.batch.unwrap_or(usize::MAX)) {
            let requests = &requests[range];
            let answers = self.batch(requests, &mut work).with_context(|| {
                format!("requests {}-{}", requests[0].request, requests[requests.len() - 1].request)
            })?;
            for (request, answers) in requests.iter().zip(answers) {
                each(request, answers)?;
            }
        }
        Ok(())
    }

    /// What answering `requests` holds in memory at its peak.
    pub fn need(&self, requests: &[Request]) -> Need {
        let spec = &self.model.spec;
        let kept: usize = self.firsts.iter().map(|first| spec.n_blocks - first).sum();
        let mut distinct = self.firsts.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let sizes = || requests.iter().map(|r| (r.context.len(), r.continuation.len()));
        let held: usize = sizes().map(|(given, asked)| given + asked).sum::<usize>().max(1);
        let longest = sizes().map(|(given, asked)| given + asked).max().unwrap_or(1);
        // Keys and values take whole panels.
        let share = |tokens: usize| tokens as f64 / held as f64;
        let read = share(sizes().map(|(given, asked)| (given + asked).next_multiple_of(64)).sum());
        let written = share(sizes().map(|(_, asked)| asked.next_multiple_of(64)).sum());
        let common = share(common_contexts(requests).map(|context| context.len().next_multiple_of(64)).sum());
        // States at blocks where interventions begin, with what the MLPs there give if it is kept, the states being
        // computed and those read out; keys and values of all passes where text goes on from them, and those of the text;
        // else of one block in two passes, and of all blocks for contexts that requests have in common.
        let begun = if spec.residual == Residual::Parallel { 2 } else { 1 };
        let states = (distinct.len() * begun + 3) * spec.d_model;
        let caches = if self.likeliest.is_some() {
            read * (kept + 2 * spec.n_blocks) as f64 + written * (self.changes.len() * spec.n_blocks) as f64
        } else {
            let restarted = self.firsts.iter().map(|first| spec.n_blocks - first).max().unwrap_or(0);
            read * 2.0 + common * (spec.n_blocks + restarted) as f64
        };
        let numbers = states + (caches * 2.0 * spec.d_kv() as f64) as usize;
        let answers = self.changes.len() * size_of::<Readout>();
        let likeliest = if self.likeliest.is_some() { Likeliest::<T>::bytes(spec) } else { 0 };
        let need = Need {
            weights: weights(self.model) + likeliest,
            buffers: buffers::<T>(spec, longest),
            per_token: (numbers * size_of::<T>() + answers) as u64,
            tokens: 0,
        };
        let worth = need.weights + need.buffers + BYTES.max(longest as u64 * need.per_token);
        need.fit(self.room.memory.min(worth), TOKENS.max(longest).min(held) as u64)
    }

    fn batch(&self, requests: &[Request], work: &mut Workspace<T>) -> Result<Vec<Vec<Answer>>> {
        let model = self.model;
        let n_blocks = model.spec.n_blocks;
        let layout = Layout::new(requests)?;
        let mut keep = vec![false; n_blocks];
        self.firsts.iter().filter(|first| **first < n_blocks).for_each(|&first| keep[first] = true);
        let generate = self.likeliest.is_some();
        let trunk = layout.trunk(model, &keep, generate, work)?;
        let base = layout.readouts(model, &trunk);

        let mut answers: Vec<Vec<Answer>> =
            requests.iter().map(|_| Vec::with_capacity(self.changes.len())).collect();
        let mut texts = Vec::new();
        for (blocks, &first) in self.changes.iter().zip(&self.firsts) {
            let (pass, readouts);
            let (pass, readouts): (&Pass<T>, Vec<Vec<Readout>>) = if first == n_blocks {
                (&trunk, base.clone())
            } else {
                let change = Change { blocks, means: self.means, first };
                pass = layout.restart(model, &trunk, change, generate, work)?;
                readouts = layout.readouts(model, &pass);
                (&pass, readouts)
            };
            for (index, (request, readouts)) in requests.iter().zip(readouts).enumerate() {
                let mut answer = Answer { readouts, generated: None };
                if generate {
                    let asked = &request.continuation;
                    let matched = answer.matched(asked);
                    let mut tokens = asked[..matched].to_vec();
                    if matched < asked.len() {
                        tokens.push(answer.readouts[matched].argmax);
                        let take = request.context.len() + matched;
                        let capacity = asked.len() - tokens.len();
                        if capacity > 0 {
                            let state =
                                pass.leaves.states[index].continued(&model.spec, take, capacity, true);
                            let (means, wanted) = (self.means, asked.len());
                            let text = Text { state, blocks, means, tokens: tokens.clone(), wanted };
                            texts.push(((index, answers[index].len()), text));
                        }
                    }
                    answer.generated = Some(tokens);
                }
                answers[index].push(answer);
            }
        }

        // A request's texts share keys and values below their changes: side by side they are read once.
        texts.sort_by_key(|(place, _)| *place);
        let (places, mut texts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        if let Some(likeliest) = &self.likeliest {
            decode(model, likeliest, &mut texts, work)?;
        }
        for ((request, change), text) in places.into_iter().zip(texts) {
            answers[request][change].generated = Some(text.tokens);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::load_subject;

    /// What requests have in common is kept at every block, of the trunk and of the longest restart; what they have not
    /// at one.
    #[test]
    fn keys_and_values_of_shared_contexts_count() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tiny/neox-parallel");
        let model = load_subject::<f32>(&folder).unwrap().0.model;
        let (n_blocks, width) = (model.spec.n_blocks, 2 * model.spec.d_kv() * size_of::<f32>());
        let change = ["attn.identity@1".parse().unwrap()];
        let sweep = Sweep::new(&model, &change, None, false, Room::PLENTY).unwrap();
        let need = |context: fn(u32) -> Vec<u32>| {
            let ask =
                |number| Request { context: context(number), continuation: vec![1, 2], ..Request::default() };
            sweep.need(&(0..8).map(ask).collect::<Vec<_>>()).per_token
        };
        let (shared, apart) = (need(|_| vec![7; 30]), need(|number| vec![number; 30]));
        // 64 places for one context, spread over 8 times 32 tokens.
        let expected = 64 * (n_blocks + n_blocks - 1) * width / (8 * 32);
        assert_eq!(shared - apart, expected as u64);
    }
}
