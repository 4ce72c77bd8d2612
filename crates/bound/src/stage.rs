//! The stage: a model, requests and interventions in; bounds beside measured differences out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rayon::prelude::*;
use rote_artifact::tables::{Bound as BoundRow, Constant, Ratio, Reach, Request};
use rote_artifact::{Misfit, TableWriter, join, read};
use rote_engine::{check_tokens, load_subject, means, multiply_adds, weight_bytes};
use rote_plan::unfold;
use rote_stage::{Context, Output, Stage, Work};
use rote_store::{Manifest, Subject};
use serde::Serialize;

use crate::{Bounds, Constants, Depth, Known, Rows, Summary, judge};

/// A bound costs about as much as so many passes of the same length in 32 bits: two in 64 bits, and the norms of what lies
/// between.
const PASSES: f64 = 8.0;

/// The stage.
pub struct Bound;

/// What is read.
#[derive(Args)]
pub struct Inputs {
    /// Model: a folder in Hugging Face layout, a .gguf file, or a hub id with @revision
    #[arg(long, value_name = "MODEL", required = true)]
    model: PathBuf,
    /// What to run it on; without it, the norms of the model's weights alone are computed and kept
    #[arg(long, value_name = "REQUEST")]
    requests: Option<PathBuf>,
    /// Norms of this model's weights, from an earlier run without --requests
    #[arg(long, value_name = "CONSTANT")]
    constants: Option<PathBuf>,
    /// Activations whose means attn.mean puts in attention's place: attn_out of its blocks, z where it names heads
    #[arg(long, value_name = "ACTIVATION")]
    reference: Option<PathBuf>,
}

/// What can change a result.
#[derive(Args, Serialize)]
pub struct Params {
    /// Intervention to bound (repeatable); @each and @quarters unfold
    #[arg(long = "change", value_name = "CHANGE", default_value = "attn.identity@each")]
    change: Vec<String>,
    /// Bound the first N requests only; both runs of each are in f64
    #[arg(long, value_name = "N", default_value_t = 16)]
    limit: usize,
    /// Read at most N tokens of a request
    #[arg(long, value_name = "N", default_value_t = 128)]
    tokens: usize,
    /// Rows of out.* at every block from the first changed one on, not at the last alone
    #[arg(long)]
    every_block: bool,
    /// Rows of out.lookahead.1 to out.lookahead.N
    #[arg(long, value_name = "N", default_value_t = 1)]
    lookahead: usize,
}

impl Stage for Bound {
    const NAME: &'static str = "bound";
    const ABOUT: &'static str = "Prove how much an intervention can change, and measure how much it does";
    const EXAMPLE: &'static str = "rote-bound --model data/demo/gpt_neox --requests memorized \
                                   --change attn.identity@each --out bounds";
    const SHARDS: bool = true;
    type Inputs = Inputs;
    type Params = Params;

    fn work(inputs: &Inputs, params: &Params) -> Result<Option<Work>> {
        let Some(place) = &inputs.requests else { return Ok(None) };
        let mut requests: Vec<Request> = read(place)?;
        requests.truncate(params.limit);
        let multiply_adds = PASSES * multiply_adds(&inputs.model, &requests, &params.change)?;
        Ok(Some(Work { requests: requests.len(), multiply_adds, disk: None }))
    }

    fn weights(inputs: &Inputs, _: &Params) -> Result<Option<u64>> {
        weight_bytes(&inputs.model, "f64").map(Some)
    }

    fn run(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
        if let Some(shards) = context.shards() {
            return match inputs.requests {
                Some(_) => join_shards(shards, output),
                None => join::<Constant>(shards, output),
            };
        }
        let requests: Option<Vec<Request>> =
            inputs.requests.as_ref().map(|place| read(place).context("reading requests")).transpose()?;
        let (loaded, subject) = load_subject::<f64>(&inputs.model)?;
        let model = loaded.model;
        check_tokens(requests.as_deref().unwrap_or_default(), model.spec.vocab)?;
        let known = inputs.constants.as_ref().map(|place| known(place, &subject)).transpose()?;
        output.add_subject(subject);
        let constants = Constants::with(&model.spec, &model.weights, &known.unwrap_or_default())?;
        let Some(requests) = requests else {
            let mut rows = TableWriter::new(output);
            rows.extend(constants.rows()[context.range(constants.rows().len())].iter().cloned())?;
            return rows.finish();
        };
        let changes = unfold(&params.change, model.spec.n_blocks)?;
        let depth = Depth { every_block: params.every_block, lookahead: params.lookahead };
        let means = means::<f64>(inputs.reference.as_deref(), &model.spec, &changes)?;
        let bounds = Bounds::with(Arc::new(model), constants, &changes, means.unwrap_or_default(), depth)?;
        let names = bounds.changes();
        ensure!(!names.is_empty(), "no intervention to bound: --change names only `none`");

        if requests.len() > params.limit {
            output.warn(format!(
                "bounded the first {} of {} requests (--limit)",
                params.limit,
                requests.len()
            ));
        }
        let chosen = &requests[..requests.len().min(params.limit)];
        if chosen.is_empty() {
            return Err(Misfit("no request to bound".to_string()).into());
        }
        let chosen = &chosen[context.range(chosen.len())];
        let mut rows = TableWriter::<BoundRow>::new(output);
        let mut reach = TableWriter::<Reach>::new(output);
        let mut ratios = context.is_shard().then(|| TableWriter::<Ratio>::new(output));
        let mut summaries: Vec<Summary> = names.iter().map(|_| Summary::default()).collect();
        let meter = context.meter("requests", chosen.len() as u64);
        let tokens = |request: &Request| -> Vec<u32> {
            let tokens = request.context.iter().chain(&request.continuation);
            tokens.take(params.tokens.max(1)).copied().collect()
        };
        // As many requests at once as there are threads; their rows in order.
        for requests in chosen.chunks(rayon::current_num_threads()) {
            let found: Vec<Result<Vec<Rows>>> = requests
                .par_iter()
                .map(|request| match &tokens(request)[..] {
                    [] => Ok(Vec::new()),
                    tokens => bounds
                        .request(request.request, tokens)
                        .with_context(|| format!("bounding request {}", request.request)),
                })
                .collect();
            for (request, of_changes) in requests.iter().zip(found) {
                for ((name, summary), of_change) in names.iter().zip(&mut summaries).zip(of_changes?) {
                    for row in &of_change.bounds {
                        match &mut ratios {
                            Some(ratios) => ratios.extend([judge(name, row)])?,
                            None => summary.add_row(row),
                        }
                    }
                    rows.extend(of_change.bounds.into_iter().map(|row| BoundRow {
                        change: name.clone(),
                        block: row.block,
                        request: request.request,
                        position: row.position,
                        bound: row.bound.into_owned(),
                        value: row.value,
                        measured: row.measured,
                        slack: row.slack,
                    }))?;
                    reach.extend(of_change.reach)?;
                }
                meter.add(1);
            }
        }
        rows.finish()?;
        reach.finish()?;
        match ratios {
            Some(ratios) => ratios.finish(),
            None => write_tightness(names.iter().cloned().zip(summaries), output),
        }
    }
}

/// The tables of the whole from those of its parts.
fn join_shards(shards: &[PathBuf], output: &Output) -> Result<()> {
    join::<BoundRow>(shards, output)?;
    join::<Reach>(shards, output)?;
    // Interventions in the order in which the first request met them.
    let mut summaries: Vec<(String, Summary)> = Vec::new();
    for shard in shards {
        for ratio in read::<Ratio>(shard)? {
            let place = summaries.iter().position(|(change, _)| *change == ratio.change);
            let place = place.unwrap_or_else(|| {
                summaries.push((ratio.change.clone(), Summary::default()));
                summaries.len() - 1
            });
            summaries[place].1.add(&ratio);
        }
    }
    write_tightness(summaries.into_iter(), output)
}

fn write_tightness(summaries: impl Iterator<Item = (String, Summary)>, output: &Output) -> Result<()> {
    let mut tightness = TableWriter::new(output);
    for (change, summary) in summaries {
        tightness.extend(summary.finish(&change))?;
    }
    tightness.finish()
}

/// Norms kept in an artifact, if they are this model's.
fn known(place: &Path, subject: &Subject) -> Result<Known> {
    let manifest = Manifest::read(place).with_context(|| format!("--constants {}", place.display()))?;
    if manifest.subjects.first() != Some(subject) {
        let whose = manifest.subjects.first().map_or("no model".into(), |other| other.content_id.to_string());
        return Err(Misfit(format!(
            "--constants {}: norms of {whose}, but the model is {}; make them with `rote-bound --model` of it",
            place.display(),
            subject.content_id
        ))
        .into());
    }
    Known::new(read::<Constant>(place).context("reading constants")?)
}
