//! Writing tables: the same rows give the same bytes, whatever the pieces in which they arrive.

use std::fs::File;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use rote_store::Output;

use crate::Table;

/// Rows of one part: parts and row groups are cut by row count alone.
const PART_ROWS: usize = 1 << 20;
const GROUP_ROWS: usize = 1 << 16;

/// The settings every part is written with; nothing here may depend on the run.
pub(crate) fn properties(metadata: Vec<(String, String)>) -> WriterPropertiesBuilder {
    let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    WriterProperties::builder()
        .set_created_by("rote".to_string())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a level zstd has")))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_key_value_metadata(Some(metadata))
}

/// Writes table `T` of an artifact, part by part.
pub struct TableWriter<'a, T: Table> {
    output: &'a Output,
    pending: Vec<T>,
    open: Option<(ArrowWriter<File>, String, usize)>,
    parts: usize,
    table: PhantomData<T>,
}

impl<'a, T: Table> TableWriter<'a, T> {
    /// Begins the table in `output`.
    pub fn new(output: &'a Output) -> Self {
        TableWriter { output, pending: Vec::new(), open: None, parts: 0, table: PhantomData }
    }

    /// Adds rows.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = T>) -> Result<()> {
        for row in rows {
            self.pending.push(row);
            if self.pending.len() == GROUP_ROWS {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is left; an empty table is one part without rows.
    pub fn finish(mut self) -> Result<()> {
        if !self.pending.is_empty() || self.parts == 0 {
            self.flush()?;
        }
        self.close()
    }

    fn flush(&mut self) -> Result<()> {
        let batch = T::to_batch(&self.pending)?;
        let (writer, name, rows) = match &mut self.open {
            Some(open) => open,
            none => {
                let name = format!("{}/part-{:05}.parquet", T::NAME, self.parts);
                self.parts += 1;
                let path = self.output.file(&name)?;
                let metadata = vec![("rote.schema".to_string(), T::schema_name())];
                none.insert((create::<T>(&path, metadata)?, name, 0))
            }
        };
        let writing = || format!("writing {name}");
        writer.write(&batch).with_context(writing)?;
        writer.flush().with_context(writing)?;
        *rows += self.pending.len();
        self.pending.clear();
        if *rows >= PART_ROWS { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        let Some((writer, name, rows)) = self.open.take() else { return Ok(()) };
        writer.close().with_context(|| format!("writing {name}"))?;
        self.output.part(&name, Some(rows as u64))?;
        self.output.add_rows(T::NAME, &T::schema_name(), rows as u64);
        Ok(())
    }
}

fn create<T: Table>(path: &Path, metadata: Vec<(String, String)>) -> Result<ArrowWriter<File>> {
    let making = || format!("making {}", path.display());
    let file = File::create(path).with_context(making)?;
    ArrowWriter::try_new(file, Arc::new(T::schema()), Some(properties(metadata).build())).with_context(making)
}
