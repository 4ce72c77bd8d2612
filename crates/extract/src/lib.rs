//! `rote-extract`: which continuations does a model know by heart?
//!
//! Greedy decoding reproduces a continuation exactly when, given the true past, the likeliest token is the
//! true one at every place (by induction over the places), so one teacher-forced pass decides it.

mod controls;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use rote_artifact::tables::{Extraction, Request};
use rote_artifact::{Misfit, TableWriter, read};
use rote_engine::{Sweep, check_tokens, load_subject};
use rote_model::Real;
use rote_plan::Intervention;
use rote_stage::Output;
use rote_stage::{Compute, Context, Stage};
use serde::Serialize;

pub use controls::pair;

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

    fn run(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
        match params.compute.dtype.as_str() {
            "f64" => run::<f64>(inputs, params, output, context),
            _ => run::<f32>(inputs, params, output, context),
        }
    }
}

fn run<T: Real>(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
    let requests: Vec<Request> = read(&inputs.requests)?;
    ensure!(!requests.is_empty(), Misfit("there are no requests to try".to_string()));
    if let Some(other) = requests.iter().find(|request| request.kind != "sequence") {
        let what = format!("request {} is of kind `{}`, not a sequence", other.request, other.kind);
        return Err(Misfit(what).into());
    }
    let mut rows = match context.shards() {
        Some(shards) => read_shards(shards, &requests)?,
        None => ask::<T>(inputs, &requests, output, context)?,
    };
    // Who is a control of whom is decided when all are known.
    if context.is_shard() {
        let mut writer = TableWriter::<Extraction>::new(output);
        writer.extend(rows)?;
        return writer.finish();
    }

    for row in rows.iter_mut().filter(|row| row.exact_match) {
        row.role = "memorized".to_string();
    }
    if params.controls {
        for index in pair(&requests, &rows) {
            rows[index].role = "control".to_string();
        }
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
    output: &Output,
    context: &Context,
) -> Result<Vec<Extraction>> {
    let (loaded, subject) = load_subject::<T>(&inputs.model)?;
    check_tokens(requests, loaded.model.spec.vocab)?;
    output.add_subject(subject);
    let requests = &requests[context.range(requests.len())];

    let meter = context.meter("extract", requests.len() as u64);
    let mut rows = Vec::with_capacity(requests.len());
    let sweep = Sweep::new(&loaded.model, &[Intervention::NONE], None, false, context.batch)?;
    sweep.run(requests, &mut |request, answers| {
        let matched = answers[0].matched(&request.continuation);
        rows.push(Extraction {
            request: request.request,
            role: "dropped".to_string(),
            seen: request.seen,
            matched: matched as u32,
            exact_match: matched == request.continuation.len(),
            logprob: answers[0].logprob(),
        });
        meter.add(1);
        Ok(())
    })?;
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
