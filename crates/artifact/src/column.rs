//! How one column type goes to Arrow and back.

use std::sync::Arc;

use anyhow::Result;
use arrow_array::builder::{ListBuilder, UInt32Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, UInt32Array,
    new_null_array,
};
use arrow_schema::{DataType, Field};

use crate::Misfit;

/// A Rust type that a column can hold.
pub trait Column: Sized {
    /// Its name in the contract.
    const KIND: &'static str;
    /// Its Arrow type.
    fn data_type() -> DataType;
    /// Whether a file may hold it as `found`; writers of others choose other widths of the same thing.
    fn reads(found: &DataType) -> bool {
        *found == Self::data_type()
    }
    /// Whether it may be null.
    const NULLABLE: bool = false;
    /// All values as an array.
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef
    where
        Self: 'a;
    /// All values of an array of a type that it [`Column::reads`].
    fn from_array(array: &dyn Array) -> Vec<Self>;

    /// The Arrow field of a column called `name`.
    fn field(name: &str) -> Field {
        Field::new(name, Self::data_type(), Self::NULLABLE)
    }
}

macro_rules! primitive {
    ($rust:ty, $kind:literal, $optional:literal, $data:expr, $array:ty, $arrow:ty) => {
        impl Column for $rust {
            const KIND: &'static str = $kind;
            fn data_type() -> DataType {
                $data
            }
            fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
                Arc::new(<$array>::from_iter_values(values.copied()))
            }
            fn from_array(array: &dyn Array) -> Vec<Self> {
                array.as_primitive::<$arrow>().values().to_vec()
            }
        }

        impl Column for Option<$rust> {
            const KIND: &'static str = $optional;
            const NULLABLE: bool = true;
            fn data_type() -> DataType {
                $data
            }
            fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
                Arc::new(<$array>::from_iter(values.copied()))
            }
            fn from_array(array: &dyn Array) -> Vec<Self> {
                array.as_primitive::<$arrow>().iter().collect()
            }
        }
    };
}

primitive!(u32, "u32", "u32?", DataType::UInt32, UInt32Array, UInt32Type);
primitive!(i32, "i32", "i32?", DataType::Int32, Int32Array, Int32Type);
primitive!(f64, "f64", "f64?", DataType::Float64, Float64Array, Float64Type);

impl Column for bool {
    const KIND: &'static str = "bool";
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        Arc::new(values.copied().map(Some).collect::<BooleanArray>())
    }
    fn from_array(array: &dyn Array) -> Vec<Self> {
        array.as_boolean().iter().map(|value| value.unwrap_or_default()).collect()
    }
}

impl Column for String {
    const KIND: &'static str = "string";
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(values))
    }
    // polars writes 64-bit offsets or views.
    fn reads(found: &DataType) -> bool {
        matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    }
    fn from_array(array: &dyn Array) -> Vec<Self> {
        let own = |text: Option<&str>| text.unwrap_or_default().to_string();
        match array.data_type() {
            DataType::LargeUtf8 => array.as_string::<i64>().iter().map(own).collect(),
            DataType::Utf8View => array.as_string_view().iter().map(own).collect(),
            _ => array.as_string::<i32>().iter().map(own).collect(),
        }
    }
}

impl Column for Vec<u32> {
    const KIND: &'static str = "list<u32>";
    fn data_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::UInt32, false)))
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        let field = Field::new("item", DataType::UInt32, false);
        let mut builder = ListBuilder::new(UInt32Builder::new()).with_field(field);
        for list in values {
            builder.values().append_slice(list);
            builder.append(true);
        }
        Arc::new(builder.finish())
    }
    fn reads(found: &DataType) -> bool {
        match found {
            DataType::List(item) | DataType::LargeList(item) => *item.data_type() == DataType::UInt32,
            _ => false,
        }
    }
    fn from_array(array: &dyn Array) -> Vec<Self> {
        let own = |list: ArrayRef| list.as_primitive::<UInt32Type>().values().to_vec();
        match array.data_type() {
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                (0..lists.len()).map(|row| own(lists.value(row))).collect()
            }
            _ => {
                let lists = array.as_list::<i32>();
                (0..lists.len()).map(|row| own(lists.value(row))).collect()
            }
        }
    }
}

/// The values of the column `name`; a missing or misshapen column is told by name. A column that may be null
/// may be missing: files written before there was one stay readable.
pub fn read_column<C: Column>(batch: &RecordBatch, name: &str) -> Result<Vec<C>> {
    let Some(array) = batch.column_by_name(name) else {
        if C::NULLABLE {
            return Ok(C::from_array(&new_null_array(&C::data_type(), batch.num_rows())));
        }
        let present: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        return Err(Misfit(format!("column `{name}` is missing; there are {}", present.join(", "))).into());
    };
    if !C::reads(array.data_type()) {
        let found = array.data_type();
        return Err(Misfit(format!("column `{name}` is {found}, expected {}", C::data_type())).into());
    }
    if !C::NULLABLE && array.null_count() > 0 {
        return Err(Misfit(format!("column `{name}` has {} empty values", array.null_count())).into());
    }
    Ok(C::from_array(array.as_ref()))
}
