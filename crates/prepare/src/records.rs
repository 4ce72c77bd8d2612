//! Files of records: JSON lines and Parquet, each row as a JSON object.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rote_artifact::{Misfit, read_records};
use serde_json::{Map, Value};

/// A row with named fields.
pub type Record = Map<String, Value>;

/// Whether `path` is named like a file of records.
pub fn is_records(path: &Path) -> bool {
    matches!(extension(path).as_str(), "jsonl" | "ndjson" | "json" | "parquet")
}

/// The extension, in small letters; empty where there is none.
pub fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// All rows of a JSON-lines or Parquet file.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let records = if extension(path) == "parquet" { read_records(path)? } else { lines(path)? };
    if records.is_empty() {
        return Err(Misfit(format!("{} holds no rows", path.display())).into());
    }
    Ok(records)
}

/// The text of a UTF-8 file.
pub fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Misfit(format!("{} is not UTF-8 text, from byte {at} on", path.display())).into()
    })
}

/// The files at `path`: itself, or all below it in the order of their names, but for hidden ones.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let reading = || format!("reading folder {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    if found.is_empty() {
        return Err(Misfit(format!("folder {} holds no files", path.display())).into());
    }
    found.sort();
    Ok(found)
}

fn lines(path: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    // Not `str::lines`: a bare carriage return inside a JSON text is no end of a line either way.
    for (number, line) in text(path)?.split('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(line)
            .map_err(|error| Misfit(format!("{}: line {}: {error}", path.display(), number + 1)))?;
        records.push(record);
    }
    Ok(records)
}

/// Field `name` as text.
pub fn string<'a>(record: &'a Record, name: &str) -> Result<&'a str> {
    let value = record.get(name).ok_or_else(|| anyhow!("no field `{name}`"))?;
    value.as_str().ok_or_else(|| anyhow!("field `{name}` is not text"))
}

/// Field `name` as a list.
pub fn list<'a>(record: &'a Record, name: &str) -> Result<&'a [Value]> {
    let value = record.get(name).ok_or_else(|| anyhow!("no field `{name}`"))?;
    value.as_array().map(Vec::as_slice).ok_or_else(|| anyhow!("field `{name}` is not a list"))
}

/// An index given as a number or, as some copies of the data sets have it, as text.
pub fn index(value: &Value) -> Result<usize> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| anyhow!("{value} is not an index"))
}

/// A list of texts.
pub fn strings(values: &[Value]) -> Result<Vec<String>> {
    values
        .iter()
        .map(|value| value.as_str().map(String::from).ok_or_else(|| anyhow!("{value} is not text")))
        .collect()
}
