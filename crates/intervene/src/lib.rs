//! `rote-intervene`: every request under every intervention of the plan.
//!
//! Writes `outcome` (one row per scored token) and `item` (one per request), both in order of request, then
//! intervention, then position, whatever the batches. `none` is always among the interventions.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rote_artifact::tables::{Item, Outcome, Request};
use rote_artifact::{Misfit, TableWriter, join, read};
use rote_engine::{Room, Sweep, check_tokens, load_subject, means, multiply_adds, sampled, weight_bytes};
use rote_model::{Real, Sampler};
use rote_plan::unfold;
use rote_stage::Output;
use rote_stage::{Compute, Context, Stage, Work};
use serde::Serialize;

/// Requests whose chances under a sampler are held until their answers are written.
const CHUNK: usize = 4096;

/// The stage.
pub struct Intervene;

/// What it reads.
#[derive(Args)]
pub struct Inputs {
    /// Model: a folder in Hugging Face layout, a .gguf file, or a hub id with @revision
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// Requests to answer
    #[arg(long, value_name = "REQUEST")]
    pub requests: PathBuf,
    /// Activations whose means attn.mean puts in attention's place: attn_out of its blocks, z where it names heads
    #[arg(long, value_name = "ACTIVATION")]
    pub reference: Option<PathBuf>,
}

/// What it can be told.
#[derive(Args, Serialize)]
pub struct Params {
    /// Intervention, such as attn.identity@5, attn.identity@each, attn.zero@18-23 (repeatable); `none` is
    /// always included
    #[arg(long, value_name = "CHANGE", default_value = "attn.identity@each")]
    pub change: Vec<String>,
    /// Decode the free-running greedy continuation as well
    #[arg(long)]
    pub generate: bool,
    /// Also say how likely each token of a sequence is when drawn at this temperature
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// … and only from the K likeliest tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// … and only from the likeliest tokens that together hold this share
    #[arg(long, value_name = "SHARE")]
    pub top_p: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "clap takes a doc comment here for the command's own")]
    pub compute: Compute,
}

impl Stage for Intervene {
    const NAME: &'static str = "intervene";
    const ABOUT: &'static str = "Answers every request under every intervention";
    const EXAMPLE: &'static str = "rote-intervene --model data/demo/gpt_neox --requests memorized \
                                   --change attn.identity@each --generate --out outcomes";
    const SHARDS: bool = true;
    type Inputs = Inputs;
    type Params = Params;

    fn work(inputs: &Inputs, params: &Params) -> Result<Option<Work>> {
        let requests: Vec<Request> = read(&inputs.requests)?;
        // Decoding goes over the continuation once more, a token at a time: about as long again.
        let times = if params.generate { 2.0 } else { 1.0 };
        let multiply_adds = times * multiply_adds(&inputs.model, &requests, &params.change)?;
        Ok(Some(Work { requests: requests.len(), multiply_adds, disk: None }))
    }

    fn weights(inputs: &Inputs, params: &Params) -> Result<Option<u64>> {
        weight_bytes(&inputs.model, &params.compute.dtype).map(Some)
    }

    fn run(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
        match params.compute.dtype.as_str() {
            "f64" => run::<f64>(inputs, params, output, context),
            _ => run::<f32>(inputs, params, output, context),
        }
    }
}

fn run<T: Real>(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
    if let Some(shards) = context.shards() {
        join::<Outcome>(shards, output)?;
        return join::<Item>(shards, output);
    }
    let sampler = match (params.temperature, params.top_k, params.top_p) {
        (None, None, None) => None,
        (temperature, top_k, top_p) => {
            Some(Sampler::new(temperature.unwrap_or(1.0), top_k, top_p.unwrap_or(1.0))?)
        }
    };
    let requests: Vec<Request> = read(&inputs.requests)?;
    ensure!(!requests.is_empty(), Misfit("there are no requests to answer".to_string()));
    let (loaded, subject) = load_subject::<T>(&inputs.model)?;
    let model = &loaded.model;
    let changes = unfold(&params.change, model.spec.n_blocks).context("--change")?;
    check_tokens(&requests, model.spec.vocab)?;
    output.add_subject(subject);
    let means = means::<T>(inputs.reference.as_deref(), &model.spec, &changes)?;

    let requests = &requests[context.range(requests.len())];
    let names: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let mut outcomes = TableWriter::<Outcome>::new(output);
    let mut items = TableWriter::<Item>::new(output);
    let meter = context.meter("intervene", requests.len() as u64);
    let room = Room { batch: context.batch, memory: context.memory };
    let sweep = Sweep::new(model, &changes, means.as_ref(), params.generate, room)?;
    context.say(&format!("intervene: {}", sweep.need(requests)));
    for requests in requests.chunks(if sampler.is_some() { CHUNK } else { requests.len().max(1) }) {
        // Only a sequence is ever drawn.
        let drawn: Vec<Request> = requests
            .iter()
            .filter(|request| sampler.is_some() && request.kind == "sequence")
            .cloned()
            .collect();
        let mut drawn = match &sampler {
            Some(sampler) => {
                let means = means.as_ref();
                let chances = sampled(model, &drawn, &changes, means, sampler, room)?;
                drawn.into_iter().map(|request| request.request).zip(chances).collect()
            }
            None => std::collections::HashMap::new(),
        };
        sweep.run(requests, &mut |request, answers| {
            let chances = drawn.remove(&request.request);
            for (change, answer) in answers.into_iter().enumerate() {
                let name = &names[change];
                let matched = answer.matched(&request.continuation);
                items.extend([Item {
                    change: name.clone(),
                    request: request.request,
                    logprob: answer.logprob(),
                    matched: matched as u32,
                    exact_match: matched == request.continuation.len(),
                }])?;
                let tokens = request.continuation.iter().zip(&answer.readouts).enumerate();
                outcomes.extend(tokens.map(|(position, (&token, out))| Outcome {
                    change: name.clone(),
                    request: request.request,
                    position: position as u32,
                    token,
                    logprob: out.logprob,
                    argmax: out.argmax,
                    argmax_logprob: out.argmax_logprob,
                    entropy: out.entropy,
                    deviation: out.deviation,
                    generated: answer.generated.as_ref().map(|tokens| tokens[position]),
                    sampled: chances.as_ref().map(|chances| chances[change][position]),
                }))?;
            }
            meter.add(1);
            Ok(())
        })?;
    }
    outcomes.finish()?;
    items.finish()
}
