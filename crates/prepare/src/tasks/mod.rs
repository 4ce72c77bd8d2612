//! The benchmarks: from the files they are published as to documents, with the harness's prompts.
//!
//! A benchmark is one file here and one line in [`TASKS`].

mod arc_easy;
mod hellaswag;
mod lambada;
mod piqa;
mod wikitext;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rote_artifact::Misfit;

use crate::records::{self, Record};

/// One document of a benchmark, rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Which of several continuations is the likeliest?
    Choices {
        /// The prompt.
        context: String,
        /// The continuations, without the blank before them.
        choices: Vec<String>,
        /// Index of the right one.
        gold: usize,
    },
    /// How likely is the last word, and is it what greedy decoding gives?
    Word {
        /// The prompt.
        context: String,
        /// The word, with the blank before it.
        target: String,
    },
    /// How likely is a whole page?
    Page {
        /// As published; its words and bytes are what perplexities divide by.
        page: String,
        /// As the model reads it.
        text: String,
    },
}

/// A benchmark.
pub struct Task {
    /// Its name in the harness.
    pub name: &'static str,
    /// Renders one row of its data set.
    document: fn(&Record) -> Result<Document>,
    /// Cuts a raw text file into documents, where the data set is published as one.
    raw: Option<fn(&str) -> Vec<Document>>,
}

/// Every benchmark.
pub const TASKS: &[Task] = &[arc_easy::TASK, hellaswag::TASK, lambada::TASK, piqa::TASK, wikitext::TASK];

/// The benchmark called `name`.
pub fn find(name: &str) -> Result<&'static Task> {
    if let Some(task) = TASKS.iter().find(|task| task.name == name) {
        return Ok(task);
    }
    let known: Vec<_> = TASKS.iter().map(|task| task.name).collect();
    bail!("no task is called `{name}`; known are {}", known.join(", "))
}

impl Task {
    /// The first `limit` documents of a file, or of a folder's files in the order of their names.
    ///
    /// Labels kept in a file of their own (`….lst`, one per line) are taken from the same folder, which then
    /// has to be given as a whole.
    pub fn documents(&self, path: &Path, limit: Option<usize>) -> Result<Vec<Document>> {
        let limit = limit.unwrap_or(usize::MAX);
        let (labels, files): (Vec<PathBuf>, Vec<PathBuf>) =
            records::files(path)?.into_iter().partition(|file| records::extension(file) == "lst");
        let mut documents = Vec::new();
        let mut rows = Vec::new();
        for file in &files {
            match self.raw {
                Some(raw) if !records::is_records(file) => documents.extend(raw(&records::text(file)?)),
                _ => rows.extend(records::read(file)?.into_iter().map(|row| (file, row))),
            }
        }
        if let [labels] = &labels[..] {
            let labels = records::text(labels)?;
            let labels: Vec<&str> = labels.lines().collect();
            if labels.len() != rows.len() {
                let (n, rows) = (labels.len(), rows.len());
                return Err(Misfit(format!("{}: {n} labels for {rows} rows", path.display())).into());
            }
            for ((_, row), label) in rows.iter_mut().zip(labels) {
                row.insert("label".to_string(), label.into());
            }
        }
        for (index, (file, row)) in rows.iter().enumerate().take(limit) {
            let document = (self.document)(row).map_err(|error| {
                Misfit(format!("{}: row {index} is no item of {}: {error:#}", file.display(), self.name))
            })?;
            if let Document::Choices { choices, gold, .. } = &document
                && *gold >= choices.len()
            {
                let n = choices.len();
                return Err(Misfit(format!(
                    "{}: row {index}: the answer is number {gold} of {n} choices",
                    file.display()
                ))
                .into());
            }
            documents.push(document);
        }
        documents.truncate(limit);
        if documents.is_empty() {
            return Err(Misfit(format!("{} holds no items of {}", path.display(), self.name)).into());
        }
        Ok(documents)
    }
}

/// The index of the right choice in field `name`.
fn label(record: &Record, name: &str) -> Result<usize> {
    let value = record.get(name).with_context(|| {
        format!("no field `{name}`; where labels are a file of their own (`.lst`), give the folder of both")
    })?;
    records::index(value).with_context(|| format!("field `{name}`"))
}
