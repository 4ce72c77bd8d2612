//! The activation table: vectors of a hook, hive-partitioned by hook and block, streamed out.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int32Array, RecordBatch, StringArray, UInt32Array,
};
use arrow_schema::{DataType, Field, Schema};
use half::bf16;
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::file::properties::EnabledStatistics;
use parquet::schema::types::ColumnPath;
use rote_plan::Hook;
use rote_store::Output;

use crate::vectors::Head;
use crate::write::properties;

/// Rows of a part file, and of a row group: cut by row count alone.
const PART_ROWS: usize = 1 << 17;
const GROUP_ROWS: usize = 1 << 12;

/// How values are kept: as they are, or rounded to bfloat16 (still in a float32 column, which compresses to
/// about a third and which every reader reads).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// Exact.
    F32,
    /// Rounded to 8 significant bits.
    Bf16,
}

/// What stands in a part's key-value metadata beside the shape.
#[derive(Clone, Debug)]
pub struct ActivationKey {
    /// Hook.
    pub hook: Hook,
    /// Block; -1 where the hook belongs to no block.
    pub block: i32,
    /// Width of a vector.
    pub width: usize,
}

/// One vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Intervention.
    pub change: String,
    /// Request.
    pub request: u32,
    /// Index in context ++ continuation.
    pub position: u32,
    /// The token there.
    pub token: u32,
    /// Head, for attention patterns only.
    pub head: Option<u32>,
    /// Values, `[width]`.
    pub value: Vec<f32>,
}

/// Writes the vectors of one hook at one block. Rows must come in a fixed order (change, request, position,
/// head): the same rows give the same bytes.
pub struct ActivationWriter<'a> {
    output: &'a Output,
    key: ActivationKey,
    store: Store,
    schema: Arc<Schema>,
    metadata: Vec<(String, String)>,
    pending: Vec<Activation>,
    open: Option<(ArrowWriter<File>, String, usize)>,
    parts: usize,
}

impl<'a> ActivationWriter<'a> {
    /// Begins. `metadata` says what else made the values (dtype, model) and goes under `rote.*`.
    pub fn new(output: &'a Output, key: ActivationKey, store: Store, metadata: &[(&str, String)]) -> Self {
        let mut all = vec![
            ("rote.schema".to_string(), "rote.activation/1".to_string()),
            ("rote.hook".to_string(), key.hook.to_string()),
            ("rote.block".to_string(), key.block.to_string()),
            ("rote.shape".to_string(), format!("[{}]", key.width)),
            ("rote.store".to_string(), if store == Store::F32 { "f32" } else { "bf16" }.to_string()),
        ];
        all.extend(metadata.iter().map(|(name, value)| (format!("rote.{name}"), value.clone())));
        ActivationWriter::with(output, key, store, all)
    }

    /// Begins a series like one that was read: the same rows give the same bytes.
    pub(crate) fn like(output: &'a Output, head: &Head) -> Self {
        ActivationWriter::with(output, head.key.clone(), head.store, head.metadata.clone())
    }

    fn with(output: &'a Output, key: ActivationKey, store: Store, metadata: Vec<(String, String)>) -> Self {
        let schema = Arc::new(schema(&key));
        ActivationWriter { output, key, store, schema, metadata, pending: Vec::new(), open: None, parts: 0 }
    }

    /// Adds one vector.
    pub fn push(&mut self, mut row: Activation) -> Result<()> {
        debug_assert_eq!(row.value.len(), self.key.width);
        if self.store == Store::Bf16 {
            row.value.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32());
        }
        self.pending.push(row);
        if self.pending.len() == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<()> {
        if !self.pending.is_empty() || self.parts == 0 {
            self.flush()?;
        }
        self.close()
    }

    fn flush(&mut self) -> Result<()> {
        let batch = batch(&self.schema, &self.key, std::mem::take(&mut self.pending))?;
        let (writer, name, rows) = match &mut self.open {
            Some(open) => open,
            none => {
                let ActivationKey { hook, block, .. } = &self.key;
                let folder = if *block < 0 {
                    format!("activation/hook={hook}/block={block}")
                } else {
                    format!("activation/hook={hook}/block={block:02}")
                };
                let name = format!("{folder}/part-{:05}.parquet", self.parts);
                self.parts += 1;
                let path = self.output.file(&name)?;
                let making = || format!("making {}", path.display());
                let file = File::create(&path).with_context(making)?;
                let vector = ColumnPath::from("value.list.item");
                let properties = properties(self.metadata.clone())
                    .set_max_row_group_row_count(Some(GROUP_ROWS))
                    .set_column_dictionary_enabled(vector.clone(), false)
                    .set_column_statistics_enabled(vector.clone(), EnabledStatistics::None)
                    .set_column_encoding(vector, Encoding::BYTE_STREAM_SPLIT)
                    .build();
                let writer = ArrowWriter::try_new(file, self.schema.clone(), Some(properties));
                none.insert((writer.with_context(making)?, name, 0))
            }
        };
        let writing = || format!("writing {name}");
        writer.write(&batch).with_context(writing)?;
        writer.flush().with_context(writing)?;
        *rows += batch.num_rows();
        if *rows >= PART_ROWS { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        let Some((writer, name, rows)) = self.open.take() else { return Ok(()) };
        writer.close().with_context(|| format!("writing {name}"))?;
        self.output.part(&name, Some(rows as u64))?;
        self.output.add_rows("activation", "rote.activation/1", rows as u64);
        Ok(())
    }
}

fn schema(key: &ActivationKey) -> Schema {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let mut fields = vec![
        Field::new("change", DataType::Utf8, false),
        Field::new("hook", DataType::Utf8, false),
        Field::new("block", DataType::Int32, false),
        Field::new("request", DataType::UInt32, false),
        Field::new("position", DataType::UInt32, false),
        Field::new("token", DataType::UInt32, false),
    ];
    if key.hook == Hook::Pattern {
        fields.push(Field::new("head", DataType::UInt32, false));
    }
    fields.push(Field::new("value", DataType::FixedSizeList(item, key.width as i32), false));
    Schema::new(fields)
}

fn batch(schema: &Arc<Schema>, key: &ActivationKey, rows: Vec<Activation>) -> Result<RecordBatch> {
    let numbers = |get: fn(&Activation) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(get)))
    };
    let hook = key.hook.name();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.change))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| hook))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|_| key.block))),
        numbers(|row| row.request),
        numbers(|row| row.position),
        numbers(|row| row.token),
    ];
    if key.hook == Hook::Pattern {
        columns.push(numbers(|row| row.head.unwrap_or_default()));
    }
    let mut values = Vec::with_capacity(rows.len() * key.width);
    rows.iter().for_each(|row| values.extend_from_slice(&row.value));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let lists =
        FixedSizeListArray::try_new(item, key.width as i32, Arc::new(Float32Array::from(values)), None)?;
    columns.push(Arc::new(lists));
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
