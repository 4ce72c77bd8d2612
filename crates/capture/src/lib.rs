//! `rote-capture`: the values of any hook, in any blocks, under any intervention, streamed to Parquet.
//!
//! One file series per hook and block, in order of intervention, request, position (and head).

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rote_artifact::tables::Request;
use rote_artifact::{Activation, ActivationKey, ActivationWriter, Misfit, Store, join_activations, read};
use rote_engine::{capture, check_tokens, load_subject, means, multiply_adds, weight_bytes};
use rote_model::{Real, Residual, Spec, load_spec};
use rote_plan::{Hook, Span, unfold};
use rote_stage::Output;
use rote_stage::{Compute, Context, Stage, Work};
use serde::Serialize;

/// The stage.
pub struct Capture;

/// What it reads.
#[derive(Args)]
pub struct Inputs {
    /// Model: a folder in Hugging Face layout, a .gguf file, or a hub id with @revision
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// Requests to run; context and continuation both
    #[arg(long, value_name = "REQUEST")]
    pub requests: PathBuf,
    /// Activations whose means attn.mean puts in attention's place: attn_out of its blocks, z where it names heads
    #[arg(long, value_name = "ACTIVATION")]
    pub reference: Option<PathBuf>,
}

/// What it can be told.
#[derive(Args, Serialize)]
pub struct Params {
    /// Hook: embed, resid_pre, pattern, z, attn_out, resid_mid, mlp_out, resid_post, final_norm, logits
    /// (repeatable)
    #[arg(long, value_name = "HOOK", default_value = "resid_post")]
    pub hook: Vec<Hook>,
    /// Blocks, such as 5, 0-3 or 2,4 (repeatable); all by default
    #[arg(long, value_name = "BLOCKS")]
    pub block: Vec<String>,
    /// Intervention (repeatable); only `none` by default
    #[arg(long, value_name = "CHANGE")]
    pub change: Vec<String>,
    /// Positions to keep, such as 0-31; all by default
    #[arg(long, value_name = "POSITIONS")]
    pub positions: Option<String>,
    /// Keep values exactly, or rounded to bfloat16 (in float32 columns all the same)
    #[arg(long, value_name = "HOW", default_value = "f32", value_parser = ["f32", "bf16"])]
    pub store: String,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "clap takes a doc comment here for the command's own")]
    pub compute: Compute,
}

impl Stage for Capture {
    const NAME: &'static str = "capture";
    const ABOUT: &'static str = "Writes activations of hooks to Parquet";
    const EXAMPLE: &'static str = "rote-capture --model data/demo/gpt_neox --requests memorized \
                                   --hook resid_post --block 0-3 --out activations";
    const SHARDS: bool = true;
    type Inputs = Inputs;
    type Params = Params;

    fn work(inputs: &Inputs, params: &Params) -> Result<Option<Work>> {
        let requests: Vec<Request> = read(&inputs.requests)?;
        let multiply_adds = multiply_adds(&inputs.model, &requests, &params.change)?;
        let spec = load_spec(inputs.model.to_str().context("--model is not UTF-8")?)?;
        let disk = Some(bytes(&spec, &requests, params)?);
        Ok(Some(Work { requests: requests.len(), multiply_adds, disk }))
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

/// Blocks that are asked for.
fn blocks(params: &Params, n_blocks: usize) -> Result<Vec<usize>> {
    match params.block.is_empty() {
        true => Ok((0..n_blocks).collect()),
        false => params.block.join(",").parse::<Span>().and_then(|span| span.resolve(n_blocks, "block")),
    }
}

/// Tokens of the longest request.
fn longest(requests: &[Request]) -> usize {
    requests.iter().map(length).max().unwrap_or(0)
}

fn length(request: &Request) -> usize {
    request.context.len() + request.continuation.len()
}

/// Numbers of a vector.
fn width(hook: Hook, spec: &Spec, longest: usize) -> usize {
    match hook {
        Hook::Logits => spec.vocab,
        Hook::Pattern => longest,
        Hook::Z => spec.d_query(),
        Hook::FinalNorm => spec.d_embed,
        _ => spec.d_model,
    }
}

/// Bytes of all vectors in 32 bits, before anything is left out or made smaller.
fn bytes(spec: &Spec, requests: &[Request], params: &Params) -> Result<f64> {
    let (blocks, longest) = (blocks(params, spec.n_blocks)?.len(), longest(requests));
    let of_token = |hook: &Hook| {
        let rows = if *hook == Hook::Pattern { spec.n_heads } else { 1 };
        let places = if hook.is_per_block() { blocks } else { 1 };
        (rows * places) as f64 * width(*hook, spec, longest) as f64
    };
    let tokens: usize = requests.iter().map(length).sum();
    let changes = unfold(&params.change, spec.n_blocks).context("--change")?.len();
    Ok(4.0 * (changes * tokens) as f64 * params.hook.iter().map(of_token).sum::<f64>())
}

fn run<T: Real>(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
    if let Some(shards) = context.shards() {
        return join_activations(shards, output);
    }
    let requests: Vec<Request> = read(&inputs.requests)?;
    ensure!(!requests.is_empty(), Misfit("there are no requests to run".to_string()));
    let (loaded, subject) = load_subject::<T>(&inputs.model)?;
    let model = &loaded.model;
    let spec = &model.spec;
    let changes = unfold(&params.change, spec.n_blocks).context("--change")?;
    check_tokens(&requests, spec.vocab)?;
    let positions = params.positions.as_deref().map(str::parse::<Span>).transpose().context("--positions")?;

    let blocks = blocks(params, spec.n_blocks)?;
    let longest = longest(&requests);
    // Widths are those of all requests, so that a part's vectors are as wide as the whole's.
    let requests = &requests[context.range(requests.len())];
    let mut writers = BTreeMap::new();
    let store = if params.store == "bf16" { Store::Bf16 } else { Store::F32 };
    let metadata = [("dtype", T::NAME.to_string()), ("model", subject.content_id.to_string())];
    for &hook in &params.hook {
        ensure!(
            hook != Hook::ResidMid || spec.residual == Residual::Sequential,
            Misfit("this model's blocks are parallel: they have no resid_mid".to_string())
        );
        let width = width(hook, spec, longest);
        let places: Vec<Option<usize>> =
            if hook.is_per_block() { blocks.iter().copied().map(Some).collect() } else { vec![None] };
        for block in places {
            let key = ActivationKey { hook, block: block.map_or(-1, |block| block as i32), width };
            writers.insert((hook, block), (ActivationWriter::new(output, key, store, &metadata), width));
        }
    }
    output.add_subject(subject);
    let wanted: Vec<_> = writers.keys().copied().collect();
    let means = means::<T>(inputs.reference.as_deref(), spec, &changes)?;

    let meter = context.meter("capture", (requests.len() * changes.len()) as u64);
    for change in &changes {
        let name = change.to_string();
        let resolved = change.resolve(spec.n_blocks, spec.n_heads)?;
        let mut last = None;
        let mut each = |captured: rote_engine::Captured<'_, T>| {
            // Every hook shows every request: one of them is counted by.
            let counted = (captured.hook, captured.block) == wanted[0];
            if counted && last != Some(captured.request.request) {
                last = Some(captured.request.request);
                meter.add(1);
            }
            if let Some(Span::Some(positions)) = &positions
                && !positions.contains(&(captured.position as u32))
            {
                return Ok(());
            }
            let (writer, width) =
                writers.get_mut(&(captured.hook, captured.block)).expect("only what is wanted is shown");
            let mut value: Vec<f32> = captured.values.iter().map(|value| value.f64() as f32).collect();
            value.resize(*width, 0.0);
            writer.push(Activation {
                change: name.clone(),
                request: captured.request.request,
                position: captured.position as u32,
                token: captured.token,
                head: captured.head.map(|head| head as u32),
                value,
            })
        };
        capture(model, requests, &resolved, means.as_ref(), &wanted, context.batch, &mut each)?;
    }
    writers.into_values().try_for_each(|(writer, _)| writer.finish())
}
