//! Reading tables: part by part, a misfit told file by file and column by column.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Table;

/// Data that do not fit what is asked of them; exit code 3.
#[derive(Debug)]
pub struct Misfit(pub String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

/// All rows of table `T` in the artifact at `folder` (a Parquet file of that table does as well).
pub fn read<T: Table>(folder: &Path) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for path in parts(folder, T::NAME)? {
        rows.append(&mut read_file(&path)?);
    }
    Ok(rows)
}

/// All rows of table `T` in one Parquet file.
pub fn read_file<T: Table>(path: &Path) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for batch in batches(path)? {
        let mut batch = T::from_batch(&batch?)
            .with_context(|| format!("reading table {} from {}", T::NAME, path.display()))?;
        rows.append(&mut batch);
    }
    Ok(rows)
}

/// The parts of a table below an artifact, in order; a file is its own part.
pub fn parts(folder: &Path, table: &str) -> Result<Vec<PathBuf>> {
    if folder.is_file() {
        return Ok(vec![folder.to_path_buf()]);
    }
    let inside = folder.join(table);
    if !inside.is_dir() {
        let there = match fs::metadata(folder) {
            Ok(_) => "it holds no such table",
            Err(_) => "there is no such folder",
        };
        return Err(Misfit(format!("no table `{table}` in {}: {there}", folder.display())).into());
    }
    let mut found = files(&inside)?;
    found.sort();
    if found.is_empty() {
        return Err(Misfit(format!("table `{table}` in {} has no parts", folder.display())).into());
    }
    Ok(found)
}

/// The Parquet files below a folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let reading = || format!("reading folder {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(())
}

/// The record batches of one Parquet file.
pub(crate) fn batches(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let reading = format!("reading {}", path.display());
    let file = File::open(path).with_context(|| reading.clone())?;
    let misfit = |error: &dyn fmt::Display| Misfit(format!("not a readable Parquet file: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| anyhow::Error::new(misfit(&error)).context(reading.clone()))?;
    let batches = builder
        .with_batch_size(8192)
        .build()
        .map_err(|error| anyhow::Error::new(misfit(&error)).context(reading.clone()))?;
    Ok(batches
        .map(move |batch| batch.map_err(|error| anyhow::Error::new(misfit(&error)).context(reading.clone()))))
}
