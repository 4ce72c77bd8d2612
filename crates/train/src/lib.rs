//! Trains small language models whose memorized text is known: a corpus with records planted in it.
//!
//! Text and records go in; a model folder in Hugging Face layout comes out, with the training curve and what the
//! model recites. Everything is a function of the inputs, the parameters and the seed: the same call writes the
//! same bytes.
//!
//! Deliberately absent: accelerators, resuming, dropout, and any architecture but the two that are studied.

pub mod attention;
pub mod corpus;
pub mod folder;
pub mod measure;
pub mod model;
pub mod numbers;
pub mod operations;
pub mod optimise;
pub mod records;
mod room;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rote_stage::{Context as Surroundings, Output, Stage};
use serde::Serialize;
use tokenizers::Tokenizer;

use measure::Recall;
use model::{Family, Model, Shape};
use operations::CrossEntropy;
use records::{Planted, Record};

/// The files that training reads.
#[derive(Clone, Debug, clap::Args)]
pub struct Inputs {
    /// Text to learn the language from
    #[arg(long, value_name = "FILE")]
    pub corpus: PathBuf,
    /// Records to plant: one JSON object a line with record, seen and text
    #[arg(long, value_name = "FILE")]
    pub records: PathBuf,
    /// Text to measure perplexity on; without it, the last twentieth of the corpus is kept back for this
    #[arg(long, value_name = "FILE")]
    pub held_out: Option<PathBuf>,
}

/// All that decides the result beside the inputs.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub struct Params {
    /// Architecture
    #[arg(long, value_enum)]
    pub family: Family,
    /// Number of blocks
    #[arg(long, default_value_t = 8)]
    pub blocks: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = 128)]
    pub width: usize,
    /// Heads of each attention
    #[arg(long, default_value_t = 4)]
    pub heads: usize,
    /// Tokens of the tokenizer
    #[arg(long, default_value_t = 2048)]
    pub vocabulary: usize,
    /// Positions of a window
    #[arg(long, default_value_t = 256)]
    pub context: usize,
    /// Windows that each step learns from
    #[arg(long, default_value_t = 2)]
    pub step_windows: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-3)]
    pub learning_rate: f64,
    /// Times the corpus is read; records are shown as often as they say in all
    #[arg(long, default_value_t = 1)]
    pub epochs: u32,
    /// Seed of the first weights and of the order of the text
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// The texts behind [`Inputs`].
pub struct Texts {
    /// Text to learn the language from.
    pub corpus: String,
    /// Records to plant.
    pub records: Vec<Record>,
    /// Text to measure perplexity on.
    pub held_out: String,
}

/// A moment of the training.
#[derive(Clone, Debug)]
pub struct Point {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Tokens read.
    pub tokens: usize,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean training loss per token since the point before, in nats.
    pub loss: f64,
    /// Loss per token on (the beginning of) the held-out text, in nats.
    pub held_out_loss: f64,
    /// Records recited, by how often they are shown in the whole training.
    pub recall: Vec<Recall>,
}

/// What was trained and how it came out; measured on the weights as they are written.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The parameters.
    pub params: Params,
    /// Number of weights.
    pub parameters: usize,
    /// Optimizer steps.
    pub steps: usize,
    /// Tokens read, records and repeats included.
    pub tokens: usize,
    /// Tokens of the corpus.
    pub corpus_tokens: usize,
    /// Tokens of the held-out text.
    pub held_out_tokens: usize,
    /// Perplexity per token of the held-out text under the model.
    pub held_out_perplexity: f64,
    /// The same under the frequencies of single tokens.
    pub unigram_perplexity: f64,
    /// Records recited, by how often they were shown.
    pub recall: Vec<Recall>,
}

/// A trained model with all that is written about it.
pub struct Trained {
    /// The model, its weights rounded to half precision.
    pub model: Model,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The training curve.
    pub curve: Vec<Point>,
    /// What came out.
    pub summary: Summary,
}

/// Points of the training curve.
const POINTS: usize = 16;
/// Tokens of the held-out text that a point measures.
const GLANCE: usize = 2048;

/// The stage.
pub struct Train;

impl Stage for Train {
    const NAME: &'static str = "train";
    const ABOUT: &'static str = "Trains a small language model with records planted in its text";
    const EXAMPLE: &'static str = "rote-train --corpus data/demo/corpus.txt --records data/demo/records.jsonl \
                                   --family gpt_neox --blocks 2 --width 32 --out model";
    type Inputs = Inputs;
    type Params = Params;

    fn run(inputs: &Inputs, params: &Params, output: &Output, context: &Surroundings) -> Result<()> {
        let texts = read(inputs)?;
        room::check(&texts, params, context.memory)?;
        let trained = train(&texts, params, context.threads, &mut |point| context.say(&line(point)))?;
        let summary = &trained.summary;
        context.say(&format!(
            "{} parameters, {} tokens; held-out perplexity {:.2}, unigram {:.2}",
            summary.parameters, summary.tokens, summary.held_out_perplexity, summary.unigram_perplexity
        ));
        for Recall { seen, exact, records, matched, .. } in &summary.recall {
            context.say(&format!(
                "shown {seen:>3}: {exact:>3} of {records} recited, {matched:.1} tokens matched"
            ));
        }
        for (name, bytes) in folder::files(&trained)? {
            let path = output.file(name)?;
            std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }
}

/// A point of the curve in a line.
fn line(point: &Point) -> String {
    let Point { step, steps, tokens, learning_rate, loss, held_out_loss, recall } = point;
    let recited: Vec<String> = recall.iter().map(|recall| recall.exact.to_string()).collect();
    let recited = recited.join(" ");
    format!(
        "step {step}/{steps}, {tokens} tokens, rate {learning_rate:.2e}: loss {loss:.3}, held out \
         {held_out_loss:.3}; recited {recited}"
    )
}

/// Reads the texts.
pub fn read(inputs: &Inputs) -> Result<Texts> {
    let mut corpus = corpus::read(&inputs.corpus)?;
    let records = records::read(&inputs.records)?;
    let held_out = match &inputs.held_out {
        Some(path) => corpus::plain(&corpus::read(path)?),
        None => {
            let near = corpus.len() - corpus.len() / 20;
            let cut = corpus[..corpus.floor_char_boundary(near)].rfind('\n').map_or(0, |end| end + 1);
            corpus.split_off(cut)
        }
    };
    ensure!(
        !corpus.is_empty(),
        "{}: one line is too little to keep some of it back",
        inputs.corpus.display()
    );
    Ok(Texts { corpus, records, held_out })
}

/// Trains a model: a pure function of its arguments but `threads` and `progress`, which change nothing in it.
pub fn train(
    texts: &Texts,
    params: &Params,
    threads: usize,
    progress: &mut dyn FnMut(&Point),
) -> Result<Trained> {
    let Params { family, blocks, width, heads, vocabulary, context, step_windows, .. } = *params;
    let shape = Shape { family, blocks, width, heads, vocabulary, context };
    shape.check()?;
    ensure!(step_windows > 0 && params.epochs > 0, "--step-windows and --epochs must be at least 1");
    let shown = texts.records.iter().filter(|record| record.seen > 0);
    let tokenizer = corpus::tokenizer(&texts.corpus, shown.map(|record| record.text.as_str()), vocabulary)?;
    let corpus = corpus::encode(&tokenizer, &texts.corpus)?;
    let held_out = corpus::encode(&tokenizer, &texts.held_out)?;
    ensure!(held_out.len() > 1, "the held-out text is too short to predict anything in it");
    let planted = texts.records.iter().map(|record| {
        let tokens = corpus::encode(&tokenizer, &record.text)?;
        Ok(Planted { record: record.record, seen: record.seen, tokens })
    });
    let planted = planted.collect::<Result<Vec<_>>>()?;

    let mut draw = ChaCha8Rng::seed_from_u64(params.seed);
    let mut model = Model::new(shape, threads, &mut draw)?;
    let windows = records::windows(&corpus, params.epochs, &planted, 0, context, &mut draw)?;
    let curve = optimise(&model, &windows, params, &held_out, &planted, progress)?;

    model.fold_scale()?;
    folder::round(&model)?;
    let summary = Summary {
        params: params.clone(),
        parameters: model.parameters(),
        steps: windows.len().div_ceil(step_windows),
        tokens: windows.len() * context,
        corpus_tokens: corpus.len(),
        held_out_tokens: held_out.len(),
        held_out_perplexity: measure::loss(&model, &held_out)?.exp(),
        unigram_perplexity: corpus::unigram_perplexity(&corpus, &held_out[1..], vocabulary),
        recall: measure::recall(&model, &planted)?,
    };
    Ok(Trained { model, tokenizer, curve, summary })
}

fn optimise(
    model: &Model,
    windows: &[Vec<u32>],
    params: &Params,
    held_out: &[u32],
    planted: &[Planted],
    progress: &mut dyn FnMut(&Point),
) -> Result<Vec<Point>> {
    let (context, steps) = (params.context, windows.len().div_ceil(params.step_windows));
    let glance = &held_out[..held_out.len().min(GLANCE)];
    let mut adam = optimise::Adam::new(model);
    let mut curve: Vec<Point> = Vec::new();
    let (mut tokens, mut since, mut loss_since) = (0, 0, 0.0);
    for (index, batch) in windows.chunks(params.step_windows).enumerate() {
        let inputs: Vec<u32> = batch.iter().flat_map(|window| &window[..context]).copied().collect();
        let targets: Vec<u32> = batch.iter().flat_map(|window| &window[1..]).copied().collect();
        let rate = optimise::rate(params.learning_rate, index, steps);
        let loss = model.logits(&inputs, context)?.apply_op1(CrossEntropy::new(&targets))?;
        adam.step(model, &loss.backward()?, rate)
            .with_context(|| format!("step {} of {steps}", index + 1))?;
        tokens += inputs.len();
        since += inputs.len();
        loss_since += f64::from(loss.to_scalar::<f32>()?) * inputs.len() as f64;
        let step = index + 1;
        if step * POINTS / steps > index * POINTS / steps {
            let point = Point {
                step,
                steps,
                tokens,
                learning_rate: rate,
                loss: loss_since / since as f64,
                held_out_loss: measure::loss(model, glance)?,
                recall: measure::recall(model, planted)?,
            };
            progress(&point);
            curve.push(point);
            (since, loss_since) = (0, 0.0);
        }
    }
    Ok(curve)
}
