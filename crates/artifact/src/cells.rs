//! Tables as columns of whatever type, for those who ask freely: parts put together, and written again.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::builder::{Float32Builder, ListBuilder, UInt32Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Misfit;
use crate::read::{batches, parts};
use crate::write::properties;

macro_rules! cells {
    ($($kind:ident($value:ty), $meaning:literal;)*) => {
        /// The values of one column; any may be null.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Cells { $(#[doc = $meaning] $kind(Vec<Option<$value>>),)* }

        impl Cells {
            /// How many.
            pub fn len(&self) -> usize {
                match self { $(Cells::$kind(values) => values.len(),)* }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Nulls at the end, until there are `rows`.
            fn pad(&mut self, rows: usize) {
                match self { $(Cells::$kind(values) => values.resize(rows, None),)* }
            }

            /// Values of the same kind at the end; whether they are.
            fn append(&mut self, more: Cells) -> bool {
                match (self, more) {
                    $((Cells::$kind(values), Cells::$kind(mut more)) => { values.append(&mut more); true })*
                    _ => false,
                }
            }
        }
    };
}

cells! {
    Bool(bool), "Truth values.";
    I32(i32), "Whole numbers.";
    I64(i64), "Whole numbers.";
    U32(u32), "Whole numbers from 0.";
    U64(u64), "Whole numbers from 0.";
    F32(f32), "Numbers.";
    F64(f64), "Numbers.";
    Text(String), "Text.";
    Tokens(Vec<u32>), "Lists of whole numbers.";
    Vector(Vec<f32>), "Lists of numbers.";
}

/// A column with its name.
pub type NamedCells = (String, Cells);

/// All columns of `table` in the artifact at `folder`. Parts may have other columns than the first (hooks have);
/// what a part lacks is null there.
pub fn read_cells(folder: &Path, table: &str) -> Result<Vec<NamedCells>> {
    let mut columns: Vec<NamedCells> = Vec::new();
    let mut rows = 0;
    for path in parts(folder, table)? {
        let reading = |name: &str| format!("reading column `{name}` of {}", path.display());
        // A part without rows still has columns.
        let empty = RecordBatch::new_empty(schema(&path)?);
        for batch in std::iter::once(Ok(empty)).chain(batches(&path)?) {
            let batch = batch?;
            for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
                let name = field.name();
                let cells = cells(array).with_context(|| reading(name))?;
                match columns.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => {
                        if !known.append(cells) {
                            let what = "it is of another type than in the parts before";
                            return Err(Misfit(what.to_string())).with_context(|| reading(name));
                        }
                    }
                    None => {
                        let mut all = cells.clone();
                        all.pad(0);
                        all.pad(rows);
                        all.append(cells);
                        columns.push((name.clone(), all));
                    }
                }
            }
            rows += batch.num_rows();
            columns.iter_mut().for_each(|(_, cells)| cells.pad(rows));
        }
    }
    Ok(columns)
}

/// Names and types of the columns of `table`, as its first part has them.
pub fn columns_of(folder: &Path, table: &str) -> Result<Vec<(String, String)>> {
    let first = parts(folder, table)?.remove(0);
    let fields = schema(&first)?;
    Ok(fields.fields().iter().map(|field| (field.name().clone(), kind(field.data_type()))).collect())
}

fn kind(found: &DataType) -> String {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_string(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("list<{}>", kind(item.data_type()))
        }
        DataType::UInt32 => "u32".to_string(),
        DataType::Int32 => "i32".to_string(),
        DataType::Float32 => "f32".to_string(),
        DataType::Float64 => "f64".to_string(),
        DataType::Boolean => "bool".to_string(),
        other => other.to_string().to_lowercase(),
    }
}

fn schema(path: &Path) -> Result<Arc<Schema>> {
    let reading = || format!("reading {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| Misfit(format!("not a readable Parquet file: {error}")))
        .with_context(reading)?;
    Ok(builder.schema().clone())
}

fn cells(array: &ArrayRef) -> Result<Cells> {
    let text = |text: Option<&str>| text.map(str::to_string);
    Ok(match array.data_type() {
        DataType::Boolean => Cells::Bool(array.as_boolean().iter().collect()),
        DataType::Int32 => Cells::I32(array.as_primitive::<Int32Type>().iter().collect()),
        DataType::Int64 => Cells::I64(array.as_primitive::<Int64Type>().iter().collect()),
        DataType::UInt32 => Cells::U32(array.as_primitive::<UInt32Type>().iter().collect()),
        DataType::UInt64 => Cells::U64(array.as_primitive::<UInt64Type>().iter().collect()),
        DataType::Float32 => Cells::F32(array.as_primitive::<Float32Type>().iter().collect()),
        DataType::Float64 => Cells::F64(array.as_primitive::<Float64Type>().iter().collect()),
        DataType::Utf8 => Cells::Text(array.as_string::<i32>().iter().map(text).collect()),
        DataType::LargeUtf8 => Cells::Text(array.as_string::<i64>().iter().map(text).collect()),
        DataType::Utf8View => Cells::Text(array.as_string_view().iter().map(text).collect()),
        DataType::List(_) => lists(array.as_list::<i32>().iter(), array.data_type())?,
        DataType::LargeList(_) => lists(array.as_list::<i64>().iter(), array.data_type())?,
        DataType::FixedSizeList(_, _) => lists(array.as_fixed_size_list().iter(), array.data_type())?,
        other => bail!(Misfit(format!("type {other} is not read here"))),
    })
}

fn lists(items: impl Iterator<Item = Option<ArrayRef>>, of: &DataType) -> Result<Cells> {
    let item = match of {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type()
        }
        other => other,
    };
    let tokens = |list: ArrayRef| list.as_primitive::<UInt32Type>().values().to_vec();
    let vector = |list: ArrayRef| list.as_primitive::<Float32Type>().values().to_vec();
    Ok(match item {
        DataType::UInt32 => Cells::Tokens(items.map(|list| list.map(tokens)).collect()),
        DataType::Float32 => Cells::Vector(items.map(|list| list.map(vector)).collect()),
        _ => bail!(Misfit(format!("type {of} is not read here"))),
    })
}

/// Writes columns of equal length as one Parquet file; every column may be null there.
pub fn write_cells(path: &Path, columns: &[NamedCells]) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let arrays: Vec<(&String, ArrayRef)> = columns.iter().map(|(name, cells)| (name, array(cells))).collect();
    let fields: Vec<Field> =
        arrays.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = arrays.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).with_context(writing)?;
    let file = File::create(path).with_context(writing)?;
    let settings = Some(properties(Vec::new()).build());
    let mut writer = ArrowWriter::try_new(file, schema, settings).with_context(writing)?;
    writer.write(&batch).with_context(writing)?;
    writer.close().with_context(writing)?;
    Ok(())
}

fn array(cells: &Cells) -> ArrayRef {
    match cells {
        Cells::Bool(values) => Arc::new(BooleanArray::from(values.clone())),
        Cells::I32(values) => Arc::new(Int32Array::from(values.clone())),
        Cells::I64(values) => Arc::new(Int64Array::from(values.clone())),
        Cells::U32(values) => Arc::new(UInt32Array::from(values.clone())),
        Cells::U64(values) => Arc::new(UInt64Array::from(values.clone())),
        Cells::F32(values) => Arc::new(Float32Array::from(values.clone())),
        Cells::F64(values) => Arc::new(Float64Array::from(values.clone())),
        Cells::Text(values) => Arc::new(StringArray::from_iter(values.iter().map(Option::as_deref))),
        Cells::Tokens(values) => {
            let mut lists = ListBuilder::new(UInt32Builder::new());
            for list in values {
                lists.values().append_slice(list.as_deref().unwrap_or_default());
                lists.append(list.is_some());
            }
            Arc::new(lists.finish())
        }
        Cells::Vector(values) => {
            let mut lists = ListBuilder::new(Float32Builder::new());
            for list in values {
                lists.values().append_slice(list.as_deref().unwrap_or_default());
                lists.append(list.is_some());
            }
            Arc::new(lists.finish())
        }
    }
}
