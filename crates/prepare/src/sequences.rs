//! Sequences: a prefix of tokens and the suffix that followed it, from arrays, records and texts.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use rote_artifact::Misfit;
use rote_artifact::tables::Request;
use serde_json::Value;

use crate::encode::Reader;
use crate::records::{self, Record};
use crate::{npy, request};

/// How sequences are cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Tokens given, one request for each; the suffix is the same for all, after the longest. They are its last
    /// tokens, so shorter contexts begin later: no keys and values of one serve another, and what requests of
    /// one sequence share is its tokens and the batch.
    pub prefixes: Vec<usize>,
    /// Tokens asked about.
    pub suffix: usize,
    /// Tokens from one window of a text to the next.
    pub stride: usize,
    /// At most so many sequences of a file.
    pub limit: Option<usize>,
}

impl Cut {
    fn longest(&self) -> usize {
        self.prefixes.iter().copied().max().unwrap_or(0)
    }
}

/// One sequence, before it is cut.
struct Sequence {
    document: usize,
    tokens: Vec<u32>,
    seen: Option<u32>,
    role: Option<String>,
}

/// Requests, and what had to be left out.
#[derive(Default)]
pub struct Prepared {
    /// In input order; `request` is not yet numbered.
    pub requests: Vec<Request>,
    /// Texts left out because nothing follows the prefix.
    pub too_short: usize,
    /// Continuations shorter than the suffix asked for.
    pub shortened: usize,
}

/// Requests from one `--sequences` file or folder.
pub fn from_files(path: &Path, cut: &Cut, reader: &Reader) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    for file in records::files(path)? {
        let source = match file.strip_prefix(path) {
            Ok(below) if below.as_os_str().is_empty() => name(&file),
            Ok(below) => below.to_string_lossy().into_owned(),
            Err(_) => name(&file),
        };
        let sequences = if records::extension(&file) == "npy" {
            let rows = npy::read(&file)?;
            exact(rows.into_iter().enumerate(), cut, &file)?
        } else if records::is_records(&file) {
            from_records(&file, cut, reader)?
        } else {
            windows(&file, cut, reader)?
        };
        let limit = cut.limit.unwrap_or(usize::MAX);
        for sequence in sequences.into_iter().take(limit) {
            add(&mut prepared, sequence, &source, cut, reader)
                .with_context(|| format!("reading {}", file.display()))?;
        }
    }
    Ok(prepared)
}

/// Requests from two arrays of the same number of rows: the end of each prefix, the beginning of each suffix.
pub fn from_pair(prefixes: &Path, suffixes: &Path, cut: &Cut, reader: &Reader) -> Result<Prepared> {
    let (before, after) = (npy::read(prefixes)?, npy::read(suffixes)?);
    ensure!(
        before.len() == after.len(),
        Misfit(format!(
            "{} has {} rows, {} has {}",
            prefixes.display(),
            before.len(),
            suffixes.display(),
            after.len()
        ))
    );
    let longest = cut.longest();
    let mut prepared = Prepared::default();
    let limit = cut.limit.unwrap_or(usize::MAX);
    for (document, (before, after)) in before.into_iter().zip(after).enumerate().take(limit) {
        let enough = |tokens: &[u32], path: &Path, flag: &str, asked: usize| {
            let n = tokens.len();
            ensure!(
                n >= asked,
                Misfit(format!("{} has {n} tokens in a row, {flag} asks for {asked}", path.display()))
            );
            Ok(())
        };
        enough(&before, prefixes, "--prefix", longest)?;
        enough(&after, suffixes, "--suffix", cut.suffix)?;
        let tokens = before[before.len() - longest..].iter().chain(&after).copied().collect();
        let sequence = Sequence { document, tokens, seen: None, role: None };
        add(&mut prepared, sequence, &name(prefixes), cut, reader)
            .with_context(|| format!("reading {} and {}", prefixes.display(), suffixes.display()))?;
    }
    Ok(prepared)
}

/// Rows of given tokens: each must hold prefix and suffix.
fn exact(rows: impl Iterator<Item = (usize, Vec<u32>)>, cut: &Cut, path: &Path) -> Result<Vec<Sequence>> {
    let asked = cut.longest() + cut.suffix;
    rows.map(|(document, tokens)| {
        ensure!(
            tokens.len() >= asked,
            Misfit(format!(
                "{}: row {document} has {} tokens, --prefix and --suffix ask for {asked}",
                path.display(),
                tokens.len()
            ))
        );
        Ok(Sequence { document, tokens, seen: None, role: None })
    })
    .collect()
}

fn from_records(path: &Path, cut: &Cut, reader: &Reader) -> Result<Vec<Sequence>> {
    let misfit = |row: usize, error: anyhow::Error| {
        anyhow::Error::new(Misfit(format!("{}: row {row}: {error:#}", path.display())))
    };
    records::read(path)?
        .iter()
        .enumerate()
        .take(cut.limit.unwrap_or(usize::MAX))
        .map(|(document, record)| {
            let (tokens, given) = tokens(record, reader).map_err(|error| misfit(document, error))?;
            let seen = match record.get("seen") {
                None | Some(Value::Null) => None,
                Some(value) => Some(
                    value
                        .as_u64()
                        .and_then(|seen| u32::try_from(seen).ok())
                        .ok_or_else(|| misfit(document, anyhow!("`seen` is {value}, no count")))?,
                ),
            };
            let role = match record.get("role") {
                None | Some(Value::Null) => None,
                Some(_) => Some(
                    records::string(record, "role").map_err(|error| misfit(document, error))?.to_string(),
                ),
            };
            if given {
                exact(std::iter::once((document, tokens.clone())), cut, path)?;
            }
            Ok(Sequence { document, tokens, seen, role })
        })
        .collect()
}

/// The tokens of a record, and whether they were given as tokens.
fn tokens(record: &Record, reader: &Reader) -> Result<(Vec<u32>, bool)> {
    if !record.contains_key("tokens") {
        ensure!(record.contains_key("text"), "neither a field `tokens` nor `text`");
        return Ok((reader.excerpt(records::string(record, "text")?)?, false));
    }
    let tokens = records::list(record, "tokens")?.iter().enumerate().map(|(column, value)| {
        let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| anyhow!("column {column}: {value} is no token id"))
    });
    Ok((tokens.collect::<Result<_>>()?, true))
}

/// Windows of prefix + suffix over a text; a text shorter than one window is one sequence.
fn windows(path: &Path, cut: &Cut, reader: &Reader) -> Result<Vec<Sequence>> {
    let text = records::text(path)?;
    ensure!(!text.is_empty(), Misfit(format!("{} is empty", path.display())));
    let tokens = reader.excerpt(&text).with_context(|| format!("reading {}", path.display()))?;
    let width = cut.longest() + cut.suffix;
    let sequence =
        |document, tokens: &[u32]| Sequence { document, tokens: tokens.to_vec(), seen: None, role: None };
    if tokens.len() < width {
        return Ok(vec![sequence(0, &tokens)]);
    }
    Ok(tokens
        .windows(width)
        .step_by(cut.stride)
        .enumerate()
        .map(|(document, tokens)| sequence(document, tokens))
        .collect())
}

/// Cuts a sequence into one request per prefix length.
fn add(prepared: &mut Prepared, sequence: Sequence, source: &str, cut: &Cut, reader: &Reader) -> Result<()> {
    let Sequence { document, tokens, seen, role } = sequence;
    if let Some(column) = tokens.iter().position(|&token| token as usize >= reader.vocabulary) {
        let (token, vocabulary) = (tokens[column], reader.vocabulary);
        return Err(Misfit(format!(
            "row {document}, column {column}: token {token} is beyond the model's vocabulary of {vocabulary}"
        ))
        .into());
    }
    let longest = cut.longest();
    if tokens.len() <= longest {
        prepared.too_short += 1;
        return Ok(());
    }
    let ends = tokens.len().min(longest + cut.suffix);
    prepared.shortened += usize::from(ends < longest + cut.suffix);
    let input = ends - 1;
    ensure!(
        input <= reader.max_length,
        Misfit(format!("row {document}: {input} tokens of input; the model reads {}", reader.max_length))
    );
    let continuation = &tokens[longest..ends];
    let zlib_bytes = request::zlib_bytes(&reader.decode(continuation)?)?;
    for &prefix in &cut.prefixes {
        prepared.requests.push(Request {
            context: tokens[longest - prefix..longest].to_vec(),
            continuation: continuation.to_vec(),
            document: u32::try_from(document)?,
            source: source.to_string(),
            role: role.clone().unwrap_or_else(|| "candidate".to_string()),
            seen,
            zlib_bytes,
            ..request::blank("sequence", "memorization")
        });
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
