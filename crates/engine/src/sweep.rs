//! `Sweep`: every request under every intervention, in the order of work that costs least.

use anyhow::{Context, Result};
use rote_artifact::tables::Request;
use rote_model::{Model, Readout, Real, Workspace};
use rote_plan::{BlockChange, Intervention};

use crate::batch::batches;
use crate::greedy::{Text, decode};
use crate::pass::{Change, Layout, Pass};

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
/// Bytes that keys, values and block inputs of one batch may take.
const BYTES: usize = 2 << 30;

/// A plan of work.
pub struct Sweep<'a, T> {
    model: &'a Model<T>,
    changes: Vec<Vec<BlockChange>>,
    firsts: Vec<usize>,
    means: Option<&'a [Vec<T>]>,
    generate: bool,
    batch: Option<usize>,
}

impl<'a, T: Real> Sweep<'a, T> {
    /// Every one of `changes` on `model`. `means`, `[n_blocks][d_model]`, are what `attn.mean` puts in the
    /// place of attention; with `generate`, free-running text is decoded; `batch` limits the requests that go
    /// together.
    ///
    /// # Errors
    /// An intervention that does not fit the model.
    pub fn new(
        model: &'a Model<T>,
        changes: &[Intervention],
        means: Option<&'a [Vec<T>]>,
        generate: bool,
        batch: Option<usize>,
    ) -> Result<Self> {
        let (n_blocks, n_heads) = (model.spec.n_blocks, model.spec.n_heads);
        let resolved = changes.iter().map(|c| c.resolve(n_blocks, n_heads)).collect::<Result<Vec<_>>>()?;
        let firsts = changes.iter().map(|c| c.first_block(n_blocks).unwrap_or(n_blocks)).collect();
        Ok(Sweep { model, changes: resolved, firsts, means, generate, batch })
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
        let tokens = TOKENS.min(BYTES / self.bytes_per_token()).max(1);
        for range in batches(requests, tokens, self.batch.unwrap_or(usize::MAX)) {
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

    /// What a token costs while its batch is in work.
    fn bytes_per_token(&self) -> usize {
        let spec = &self.model.spec;
        let inputs = spec.n_blocks * spec.d_model;
        let kept: usize = self.firsts.iter().map(|first| spec.n_blocks - first).sum();
        let caches = if self.generate { (kept + spec.n_blocks) * 2 * spec.d_kv() } else { 0 };
        let working = 6 * spec.d_model + spec.d_query() + 2 * spec.d_kv() + 2 * spec.d_mlp;
        (inputs + caches + working) * size_of::<T>()
    }

    fn batch(&self, requests: &[Request], work: &mut Workspace<T>) -> Result<Vec<Vec<Answer>>> {
        let model = self.model;
        let n_blocks = model.spec.n_blocks;
        let layout = Layout::new(requests)?;
        let mut keep_inputs = vec![false; n_blocks];
        self.firsts.iter().filter(|first| **first < n_blocks).for_each(|&first| keep_inputs[first] = true);
        let trunk = layout.trunk(model, &keep_inputs, self.generate, work)?;
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
                pass = layout.restart(model, &trunk, change, self.generate, work)?;
                readouts = layout.readouts(model, &pass);
                (&pass, readouts)
            };
            for (index, (request, readouts)) in requests.iter().zip(readouts).enumerate() {
                let mut answer = Answer { readouts, generated: None };
                if self.generate {
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
        decode(model, &mut texts, work)?;
        for ((request, change), text) in places.into_iter().zip(texts) {
            answers[request][change].generated = Some(text.tokens);
        }
        Ok(answers)
    }
}
