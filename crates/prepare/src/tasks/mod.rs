//! The benchmarks: from the files they are published as to documents, with the harness's prompts.
//!
//! A published benchmark is one file here and one line in [`TASKS`]; one's own is declared, see [`Own`].

mod arc_easy;
mod hellaswag;
mod lambada;
mod own;
mod piqa;
mod wikitext;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rote_artifact::Misfit;

use crate::records::{self, Record};
use crate::request;

pub use own::Own;

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

/// A document, and the SHA-256 that the harness gives it: of its row as JSON, indented by two blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The document.
    pub document: Document,
    /// In hexadecimal.
    pub hash: String,
}

impl Item {
    fn new(document: Document, row: &Record) -> Result<Item> {
        Ok(Item { document, hash: request::sha256(&serde_json::to_string_pretty(row)?) })
    }
}

/// A benchmark.
pub struct Task {
    /// Its name in the harness.
    pub name: &'static str,
    /// Renders one row of its data set.
    document: fn(&Record) -> Result<Document>,
    /// The row as the harness has it: the hub's form of it, with what the harness adds.
    row: fn(&Record) -> Record,
    /// Cuts a raw text file into documents, where the data set is published as one.
    raw: Option<fn(&str) -> Vec<Document>>,
}

/// Every benchmark.
pub const TASKS: &[Task] = &[arc_easy::TASK, hellaswag::TASK, lambada::TASK, piqa::TASK, wikitext::TASK];

/// Where the documents of a task come from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A published benchmark.
    Published(&'static Task),
    /// A declared one.
    Declared(&'a Own),
}

/// The task called `name`, among the published and the declared.
pub fn find<'a>(name: &str, declared: &'a [Own]) -> Result<Source<'a>> {
    if let Some(task) = TASKS.iter().find(|task| task.name == name) {
        return Ok(Source::Published(task));
    }
    if let Some(own) = declared.iter().find(|own| own.name() == name) {
        return Ok(Source::Declared(own));
    }
    let known: Vec<_> = TASKS.iter().map(|task| task.name).chain(declared.iter().map(Own::name)).collect();
    bail!("no task is called `{name}`; known are {}; declare others with --define", known.join(", "))
}

/// Reads declarations, each with a name of its own.
pub fn declared(declarations: &[String]) -> Result<Vec<Own>> {
    let declared = declarations.iter().map(|text| Own::parse(text)).collect::<Result<Vec<_>>>()?;
    for (place, own) in declared.iter().enumerate() {
        let name = own.name();
        let taken = TASKS.iter().any(|task| task.name == name)
            || declared[..place].iter().any(|other| other.name() == name);
        ensure!(!taken, "--define: there is a task called `{name}` already");
    }
    Ok(declared)
}

impl Source<'_> {
    /// The task's name.
    pub fn name(&self) -> &str {
        match self {
            Source::Published(task) => task.name,
            Source::Declared(own) => own.name(),
        }
    }

    fn document(&self, record: &Record) -> Result<Document> {
        match self {
            Source::Published(task) => (task.document)(record),
            Source::Declared(own) => own.document(record),
        }
    }

    fn row(&self, record: &Record) -> Record {
        match self {
            Source::Published(task) => (task.row)(record),
            Source::Declared(_) => record.clone(),
        }
    }

    /// The documents of a text file, where the task has such.
    fn raw(&self, text: &str) -> Option<Vec<Document>> {
        match self {
            Source::Published(task) => task.raw.map(|raw| raw(text)),
            Source::Declared(own) => own.raw(text).map(|document| vec![document]),
        }
    }

    /// The first `limit` documents of a file, or of a folder's files in the order of their names.
    ///
    /// Labels kept in a file of their own (`….lst`, one per line) are taken from the same folder, which then
    /// has to be given as a whole.
    pub fn documents(&self, path: &Path, limit: Option<usize>) -> Result<Vec<Item>> {
        let limit = limit.unwrap_or(usize::MAX);
        let (labels, files): (Vec<PathBuf>, Vec<PathBuf>) =
            records::files(path)?.into_iter().partition(|file| records::extension(file) == "lst");
        let mut documents = Vec::new();
        let mut rows = Vec::new();
        for file in &files {
            let raw = if records::is_records(file) { None } else { self.raw(&records::text(file)?) };
            match raw {
                Some(raw) => {
                    for document in raw {
                        let page = match &document {
                            Document::Page { page, .. } => page.as_str(),
                            Document::Choices { .. } | Document::Word { .. } => "",
                        };
                        let row = Record::from_iter([("page".to_string(), page.into())]);
                        documents.push(Item::new(document, &row)?);
                    }
                }
                None => rows.extend(records::read(file)?.into_iter().map(|row| (file, row))),
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
        let columns = columns(rows.iter().map(|(_, row)| row));
        for (index, (file, row)) in rows.iter().enumerate().take(limit) {
            let document = self.document(row).map_err(|error| {
                Misfit(format!("{}: row {index} is no item of {}: {error:#}", file.display(), self.name()))
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
            documents.push(Item::new(document, &self.row(&aligned(row, &columns)))?);
        }
        documents.truncate(limit);
        if documents.is_empty() {
            return Err(Misfit(format!("{} holds no items of {}", path.display(), self.name())).into());
        }
        Ok(documents)
    }
}

/// The fields of all rows, in the order in which they are first met: the columns of the table that the
/// harness's loader makes of a file.
fn columns<'a>(rows: impl Iterator<Item = &'a Record>) -> Vec<&'a str> {
    let (mut columns, mut known) = (Vec::new(), HashSet::new());
    for row in rows {
        columns.extend(row.keys().map(String::as_str).filter(|name| known.insert(*name)));
    }
    columns
}

/// A row of that table: fields in its order, null where there is none.
fn aligned(row: &Record, columns: &[&str]) -> Record {
    let field = |name: &&str| (name.to_string(), row.get(*name).cloned().unwrap_or_default());
    columns.iter().map(field).collect()
}

/// The index of the right choice in field `name`.
fn label(record: &Record, name: &str) -> Result<usize> {
    let value = record.get(name).with_context(|| {
        format!("no field `{name}`; where labels are a file of their own (`.lst`), give the folder of both")
    })?;
    records::index(value).with_context(|| format!("field `{name}`"))
}
