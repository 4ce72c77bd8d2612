//! Which artifacts are asked, what their tables are called in SQL, and what there is in them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rote_artifact::{Misfit, columns_of};
use rote_store::Manifest;

use crate::Wrong;

/// A table that can be asked.
pub struct Source {
    /// What it is called in SQL.
    pub name: String,
    /// Folder of its artifact.
    pub folder: PathBuf,
    /// What it is called there.
    pub table: String,
    /// Rows, as the manifest counts them.
    pub rows: u64,
}

/// The tables of the artifacts that are named, and the SQL, if there is some: the last word with a space in it that is
/// no folder.
pub fn split(words: &[String]) -> Result<(Vec<Source>, Option<&str>)> {
    let (places, sql) = match words.split_last() {
        Some((last, places)) if last.contains(char::is_whitespace) && !Path::new(last).exists() => {
            (places, Some(last.as_str()))
        }
        _ => (words, None),
    };
    if places.is_empty() {
        return Err(Wrong::error("no artifact is named before the SQL"));
    }
    let mut sources: Vec<Source> = Vec::new();
    for place in places {
        let (name, folder) = match place.split_once('=') {
            Some((name, folder)) if is_word(name) => (Some(name), Path::new(folder)),
            _ => (None, Path::new(place)),
        };
        let manifest = Manifest::read(folder).map_err(|_| {
            let what = "is no artifact: there is no artifact.json; `rote query` takes PIPELINE/NODE too";
            Misfit(format!("{} {what}", folder.display()))
        })?;
        for (table, entry) in &manifest.tables {
            let called = name.map_or_else(|| table.clone(), |name| format!("{name}_{table}"));
            if sources.iter().any(|source| source.name == called) {
                let what = "is in more than one of the artifacts; give them names: NAME=ARTIFACT";
                return Err(Wrong::error(format!("table `{called}` {what}")));
            }
            let (folder, table) = (folder.to_path_buf(), table.clone());
            sources.push(Source { name: called, folder, table, rows: entry.rows });
        }
    }
    Ok((sources, sql))
}

fn is_word(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Every table with its rows and columns.
pub fn listing(sources: &[Source]) -> Result<String> {
    let mut text = String::new();
    for source in sources {
        let columns = columns_of(&source.folder, &source.table)?;
        text += &format!("{}: {} rows\n", source.name, source.rows);
        let width = columns.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        columns.iter().for_each(|(name, kind)| text += &format!("  {name:width$}  {kind}\n"));
    }
    Ok(text)
}
