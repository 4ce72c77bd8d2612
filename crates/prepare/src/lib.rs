//! prepare: text, token arrays and benchmark files become requests.
//!
//! A request is a context and a continuation in the model's tokens. Sequences (what may have been memorized)
//! are cut by [`sequences`], benchmark documents rendered by [`tasks`]; both end in the same table. Of the
//! model only the tokenizer is read, and two numbers: its vocabulary and the longest input.
//!
//! Deliberately absent: anything that asks the model, and any measure.

pub mod encode;
mod npy;
mod python;
mod records;
pub mod request;
pub mod sequences;
pub mod tasks;
mod tokenizer;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use rote_artifact::TableWriter;
use rote_artifact::tables::Request;
use rote_stage::{Context, Stage};
use rote_store::Output;

use crate::encode::Reader;
use crate::sequences::{Cut, Prepared};

/// The stage.
pub struct Prepare;

/// What is read.
#[derive(clap::Args)]
pub struct Inputs {
    /// Model whose tokens are used: a folder, a GGUF file or a hub id; only its tokenizer is read
    #[arg(long, value_name = "MODEL")]
    pub model: PathBuf,
    /// Sequences: `.npy` of token ids; JSON lines or Parquet with `tokens` or `text`, and perhaps `seen` and
    /// `role`; text files or a folder of these
    #[arg(long, value_name = "FILE")]
    pub sequences: Vec<PathBuf>,
    /// Sequences in two `.npy` files: the prefixes
    #[arg(long, value_name = "FILE", requires = "sequences_suffix")]
    pub sequences_prefix: Option<PathBuf>,
    /// Sequences in two `.npy` files: the suffixes
    #[arg(long, value_name = "FILE", requires = "sequences_prefix")]
    pub sequences_suffix: Option<PathBuf>,
    /// A benchmark and its file or folder: arc_easy, hellaswag, lambada_openai, piqa, wikitext or one declared
    #[arg(long, value_name = "NAME=FILE")]
    pub task: Vec<String>,
}

/// How it is cut.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct Params {
    /// Tokens given before a sequence's suffix; several lengths, joined by commas, ask for the same suffix
    #[arg(long, value_name = "N", default_value = "32", value_delimiter = ',')]
    pub prefix: Vec<usize>,
    /// Tokens asked about; a text that ends earlier is asked to its end
    #[arg(long, value_name = "N", default_value = "32")]
    pub suffix: usize,
    /// Tokens from one window of a text file to the next; prefix + suffix by default
    #[arg(long, value_name = "N")]
    pub stride: Option<usize>,
    /// Take only the first N documents of each task and the first N sequences of each file
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// A task of your own, declared with templates over the fields of its rows, as JSON:
    /// `{"name": "mine", "kind": "choice", "context": "Q: {q}\nA:", "choices": "{options}", "gold": "{answer}"}`;
    /// kind `word` asks for the last word of `text`, kind `page` for all of `page`
    #[arg(long, value_name = "JSON")]
    pub define: Vec<String>,
    /// Longest input of the model, in tokens; as its configuration says by default
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
}

impl Stage for Prepare {
    const NAME: &'static str = "prepare";
    const ABOUT: &'static str = "Turn sequences and benchmark files into requests in a model's tokens";
    const EXAMPLE: &'static str = "rote-prepare --model data/demo/gpt_neox --sequences data/demo/records.jsonl \
                                   --prefix 32 --suffix 32 --task lambada_openai=data/demo/lambada.jsonl \
                                   --out requests";
    type Inputs = Inputs;
    type Params = Params;

    fn run(inputs: &Inputs, params: &Params, output: &Output, _: &Context) -> Result<()> {
        check(inputs, params)?;
        let model = tokenizer::load(&inputs.model)?;
        let max_length = params.max_length.unwrap_or(model.max_length);
        let reader = Reader::new(&model.tokenizer, model.vocabulary, max_length)?;
        let requests = prepare(inputs, params, &reader, output)?;
        let mut writer = TableWriter::<Request>::new(output);
        writer.extend(requests)?;
        writer.finish()
    }
}

/// Tokens of a prefix or suffix that no model goes beyond; a pipeline may ask for any number.
const LONGEST: usize = 1 << 24;

/// Refuses what can be refused before a file is opened.
fn check(inputs: &Inputs, params: &Params) -> Result<()> {
    if inputs.sequences.is_empty() && inputs.sequences_prefix.is_none() && inputs.task.is_empty() {
        bail!("nothing to prepare; give --sequences, --sequences-prefix with --sequences-suffix, or --task");
    }
    ensure!(!params.prefix.contains(&0), "--prefix starts at 1");
    ensure!(params.suffix > 0, "--suffix starts at 1");
    let longest = params.prefix.iter().chain([&params.suffix]).max().copied().unwrap_or(0);
    ensure!(longest <= LONGEST, "--prefix and --suffix: {longest} tokens are more than any model reads");
    ensure!(params.stride != Some(0), "--stride starts at 1");
    ensure!(params.limit != Some(0), "--limit starts at 1");
    ensure!(params.max_length != Some(0), "--max-length starts at 1");
    let declared = tasks::declared(&params.define)?;
    for task in &inputs.task {
        tasks::find(split(task)?.0, &declared)?;
    }
    Ok(())
}

/// All requests, numbered in input order: sequences first, then the tasks.
pub fn prepare(inputs: &Inputs, params: &Params, reader: &Reader, output: &Output) -> Result<Vec<Request>> {
    let longest = params.prefix.iter().copied().max().unwrap_or(0);
    let cut = Cut {
        prefixes: params.prefix.clone(),
        suffix: params.suffix,
        stride: params.stride.unwrap_or(longest + params.suffix),
        limit: params.limit,
    };
    let mut requests = Vec::new();
    let mut take = |prepared: Prepared, source: &str| {
        let Prepared { requests: mut more, too_short, shortened } = prepared;
        if too_short > 0 {
            output.warn(format!("{source}: left out {too_short} texts of at most {longest} tokens"));
        }
        if shortened > 0 {
            let suffix = params.suffix;
            output.warn(format!("{source}: {shortened} texts end before {suffix} tokens of suffix"));
        }
        requests.append(&mut more);
    };
    for path in &inputs.sequences {
        take(sequences::from_files(path, &cut, reader)?, &name(path));
    }
    if let (Some(prefixes), Some(suffixes)) = (&inputs.sequences_prefix, &inputs.sequences_suffix) {
        take(sequences::from_pair(prefixes, suffixes, &cut, reader)?, &name(prefixes));
    }
    // Documents of one task are numbered on over all its files, so that task and document name one item.
    let declared = tasks::declared(&params.define)?;
    let mut documents = std::collections::BTreeMap::<&str, u32>::new();
    for task in &inputs.task {
        let (name_of_task, path) = split(task)?;
        let (task, path) = (tasks::find(name_of_task, &declared)?, PathBuf::from(path));
        let number = documents.entry(name_of_task).or_default();
        let mut cut_contexts = 0;
        let left = params.limit.map(|limit| limit.saturating_sub(*number as usize));
        if left == Some(0) {
            continue;
        }
        for item in task.documents(&path, left)? {
            let (mut more, cut) = request::of_document(&item.document, task.name(), reader)
                .with_context(|| format!("task {}: document {number} of {}", task.name(), path.display()))?;
            for request in &mut more {
                request.document = *number;
                request.doc_hash = item.hash.clone();
                request.source = name(&path);
            }
            cut_contexts += cut;
            *number += 1;
            requests.append(&mut more);
        }
        if cut_contexts > 0 {
            let length = reader.max_length;
            output.warn(format!(
                "task {}: {cut_contexts} contexts cut from the left to {length} tokens",
                task.name()
            ));
        }
    }
    for (number, request) in requests.iter_mut().enumerate() {
        request.request = u32::try_from(number).context("more requests than 32 bits can number")?;
    }
    Ok(requests)
}

fn split(task: &str) -> Result<(&str, &str)> {
    task.split_once('=').with_context(|| format!("--task {task} is not of the form NAME=FILE"))
}

fn name(path: &std::path::Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
