//! Parquet files of others (data sets from the hub): each row as a JSON object, whatever its columns.

use std::path::Path;

use anyhow::{Result, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use serde_json::{Map, Value};

use crate::Misfit;
use crate::read::batches;

/// All rows of a Parquet file of any schema made of numbers, text, lists and structs.
pub fn read_records(path: &Path) -> Result<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    for batch in batches(path)? {
        let batch = batch?;
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let mut record = Map::new();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                record.insert(
                    field.name().clone(),
                    value(column, row).map_err(|error| {
                        Misfit(format!("{}: column `{}`: {error}", path.display(), field.name()))
                    })?,
                );
            }
            rows.push(record);
        }
    }
    Ok(rows)
}

fn value(array: &ArrayRef, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($kind:ty) => {
            Value::from(array.as_primitive::<$kind>().value(row))
        };
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::from(array.as_boolean().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Value::from(array.as_string_view().value(row)),
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(_, _) => list(&array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            let mut record = Map::new();
            for (field, column) in fields.iter().zip(columns.columns()) {
                record.insert(field.name().clone(), value(column, row)?);
            }
            Value::Object(record)
        }
        other => bail!("type {other} is not read here"),
    })
}

fn list(items: &ArrayRef) -> Result<Value> {
    (0..items.len()).map(|row| value(items, row)).collect::<Result<Vec<_>>>().map(Value::Array)
}
