//! `rote-extract`: which continuations does a model know by heart?
//!
//! Greedy decoding reproduces a continuation exactly when, given the true past, the likeliest token is the
//! true one at every place (by induction over the places), so one teacher-forced pass decides it. With
//! `--draws` the question is another: which continuations would so many draws give? A second pass then takes
//! each token's chance under the sampler, see [`Criterion`]. Where a sequence is asked after several
//! prefixes, the longest decides for all.

mod controls;
mod criterion;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use rote_artifact::tables::{Extraction, Request};
use rote_artifact::{Misfit, TableWriter, deciding, read};
use rote_engine::{Room, Sweep, check_tokens, load_subject, multiply_adds, sampled, weight_bytes};
use rote_model::{Real, Sampler};
use rote_plan::Intervention;
use rote_stage::Output;
use rote_stage::{Compute, Context, Stage, Work};
use serde::Serialize;

pub use controls::pair;
pub use criterion::Criterion;

/// The stage.
pub struct Extract;

/// What it reads.
#[derive(Args)]
pub struct Inputs {
    /// Model: a folder in Hugging Face layout, a .gguf file, or a hub id with @revision
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// Requests to try, of kind sequence
    #[arg(long, value_name = "REQUEST")]
    pub requests: PathBuf,
}

/// What it can be told.
#[derive(Args, Serialize)]
pub struct Params {
    /// Keep as many requests that are not memorized, matched in length, as controls
    #[arg(long)]
    pub controls: bool,
    /// Keep every request, whatever became of it
    #[arg(long)]
    pub keep_all: bool,
    /// Count as memorized what N draws give at least once, rather than what greedy decoding gives
    #[arg(long, value_name = "N")]
    pub draws: Option<f64>,
    /// … with at least this chance
    #[arg(long, value_name = "SHARE", default_value = "0.5")]
    pub chance: f64,
    /// Temperature of the draws, 1 by default; also says how likely a draw gives each continuation
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Draw only from the K likeliest tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Draw only from the likeliest tokens that together hold this share
    #[arg(long, value_name = "SHARE")]
    pub top_p: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "clap takes a doc comment here for the command's own")]
    pub compute: Compute,
}

impl Stage for Extract {
    const NAME: &'static str = "extract";
    const ABOUT: &'static str = "Finds the requests whose continuation the model reproduces word for word";
    const EXAMPLE: &'static str =
        "rote-extract --model data/demo/gpt_neox --requests requests --controls --out memorized";
    const SHARDS: bool = true;
    type Inputs = Inputs;
    type Params = Params;

    fn work(inputs: &Inputs, _: &Params) -> Result<Option<Work>> {
        let requests: Vec<Request> = read(&inputs.requests)?;
        let multiply_adds = multiply_adds(&inputs.model, &requests, &[])?;
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

/// How continuations would be drawn, if that is asked for, and what counts as memorized.
fn asked(params: &Params) -> Result<(Option<Sampler>, Criterion)> {
    let draws = params.draws.unwrap_or(1.0);
    ensure!(draws >= 1.0 && draws.is_finite(), "--draws {draws}: starts at 1");
    ensure!(params.chance > 0.0 && params.chance < 1.0, "--chance {}: between 0 and 1", params.chance);
    let sampler = match (params.draws, params.temperature, params.top_k, params.top_p) {
        (None, None, None, None) => None,
        (_, temperature, top_k, top_p) => {
            Some(Sampler::new(temperature.unwrap_or(1.0), top_k, top_p.unwrap_or(1.0))?)
        }
    };
    let criterion = match params.draws {
        None => Criterion::Exact,
        Some(draws) => Criterion::Discoverable { draws, chance: params.chance },
    };
    Ok((sampler, criterion))
}

fn run<T: Real>(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
    let (sampler, criterion) = asked(params)?;
    let requests: Vec<Request> = read(&inputs.requests)?;
    ensure!(!requests.is_empty(), Misfit("there are no requests to try".to_string()));
    if let Some(other) = requests.iter().find(|request| request.kind != "sequence") {
        let what = format!("request {} is of kind `{}`, not a sequence", other.request, other.kind);
        return Err(Misfit(what).into());
    }
    let mut rows = match context.shards() {
        Some(shards) => read_shards(shards, &requests)?,
        None => ask::<T>(inputs, &requests, sampler.as_ref(), output, context)?,
    };
    // What counts as memorized, and who is a control of whom, is decided when all are known.
    if context.is_shard() {
        let mut writer = TableWriter::<Extraction>::new(output);
        writer.extend(rows)?;
        return writer.finish();
    }

    for row in &mut rows {
        if criterion.holds(row.exact_match, row.sampled.unwrap_or(row.logprob)) {
            row.role = "memorized".to_string();
        }
    }
    let deciding = deciding(&requests);
    let firsts: Vec<usize> = (0..rows.len()).filter(|&index| deciding[index] == index).collect();
    if params.controls {
        let asked: Vec<&Request> = firsts.iter().map(|&index| &requests[index]).collect();
        let told: Vec<&Extraction> = firsts.iter().map(|&index| &rows[index]).collect();
        for place in pair(&asked, &told) {
            rows[firsts[place]].role = "control".to_string();
        }
    }
    for index in 0..rows.len() {
        rows[index].role = rows[deciding[index]].role.clone();
    }
    let mut kept = Vec::new();
    for (request, row) in requests.into_iter().zip(&rows) {
        if row.role == "dropped" && !params.keep_all {
            continue;
        }
        let role = if row.role == "dropped" { request.role.clone() } else { row.role.clone() };
        kept.push(Request { request: kept.len() as u32, role, ..request });
    }
    if kept.is_empty() {
        output.warn("the model reproduces none of these sequences".to_string());
    }
    let mut writer = TableWriter::<Request>::new(output);
    writer.extend(kept)?;
    writer.finish()?;
    let mut writer = TableWriter::<Extraction>::new(output);
    writer.extend(rows)?;
    writer.finish()
}

/// What the model says of the requests that are to be asked.
fn ask<T: Real>(
    inputs: &Inputs,
    requests: &[Request],
    sampler: Option<&Sampler>,
    output: &Output,
    context: &Context,
) -> Result<Vec<Extraction>> {
    let (loaded, subject) = load_subject::<T>(&inputs.model)?;
    check_tokens(requests, loaded.model.spec.vocab)?;
    output.add_subject(subject);
    let requests = &requests[context.range(requests.len())];

    let meter = context.meter("extract", requests.len() as u64);
    let mut rows = Vec::with_capacity(requests.len());
    let room = Room { batch: context.batch, memory: context.memory };
    let sweep = Sweep::new(&loaded.model, &[Intervention::NONE], None, false, room)?;
    context.say(&format!("extract: {}", sweep.need(requests)));
    sweep.run(requests, &mut |request, answers| {
        let matched = answers[0].matched(&request.continuation);
        rows.push(Extraction {
            request: request.request,
            role: "dropped".to_string(),
            seen: request.seen,
            prefix: Some(request.context.len() as u32),
            matched: matched as u32,
            exact_match: matched == request.continuation.len(),
            logprob: answers[0].logprob(),
            sampled: None,
        });
        meter.add(1);
        Ok(())
    })?;
    if let Some(sampler) = sampler {
        let none = [Intervention::NONE];
        let chances = sampled(&loaded.model, requests, &none, None, sampler, room)?;
        for (row, chances) in rows.iter_mut().zip(chances) {
            row.sampled = Some(chances[0].iter().sum());
        }
    }
    Ok(rows)
}

/// What was said of them part by part.
fn read_shards(shards: &[PathBuf], requests: &[Request]) -> Result<Vec<Extraction>> {
    let mut rows: Vec<Extraction> = Vec::with_capacity(requests.len());
    for shard in shards {
        rows.append(&mut read(shard)?);
    }
    let same = rows.len() == requests.len()
        && rows.iter().zip(requests).all(|(row, request)| row.request == request.request);
    ensure!(same, Misfit("the parts do not hold every request once".to_string()));
    Ok(rows)
}
