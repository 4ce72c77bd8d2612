//! `table!`: from one declaration the row, the columns, the Arrow schema and both conversions.

use anyhow::Result;
use arrow_array::RecordBatch;
use arrow_schema::Schema;

/// A row type with its table.
pub trait Table: Sized + Send {
    /// The table's name, also its folder in an artifact.
    const NAME: &'static str;
    /// Version of its columns; raised when one is renamed or dropped.
    const VERSION: u32;
    /// The columns in order.
    fn columns() -> Vec<ColumnInfo>;
    /// The Arrow schema.
    fn schema() -> Schema;
    /// Rows as a batch of that schema.
    fn to_batch(rows: &[Self]) -> Result<RecordBatch>;
    /// The rows of a batch; columns are found by name, more than these are welcome.
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>>;

    /// Name and version, such as `rote.outcome/1`.
    fn schema_name() -> String {
        format!("rote.{}/{}", Self::NAME, Self::VERSION)
    }
}

/// A column as declared.
#[derive(Clone, Debug)]
pub struct ColumnInfo {
    /// Its name.
    pub name: &'static str,
    /// Its type as in the contract, such as `list<u32>`.
    pub kind: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

/// Declares a table: `table! { "name", version 1, /// doc Row { column: Type, "meaning"; … } }`.
macro_rules! table {
    ($name:literal, version $version:literal, $(#[$doc:meta])* $row:ident {
        $($column:ident: $kind:ty, $meaning:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $row { $(#[doc = $meaning] pub $column: $kind,)* }

        impl $crate::Table for $row {
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;

            fn columns() -> Vec<$crate::ColumnInfo> {
                vec![$($crate::ColumnInfo {
                    name: stringify!($column),
                    kind: <$kind as $crate::Column>::KIND,
                    meaning: $meaning,
                },)*]
            }

            fn schema() -> arrow_schema::Schema {
                arrow_schema::Schema::new(vec![
                    $(<$kind as $crate::Column>::field(stringify!($column)),)*
                ])
            }

            fn to_batch(rows: &[Self]) -> anyhow::Result<arrow_array::RecordBatch> {
                let columns: Vec<arrow_array::ArrayRef> = vec![
                    $(<$kind as $crate::Column>::to_array(rows.iter().map(|row| &row.$column)),)*
                ];
                Ok(arrow_array::RecordBatch::try_new(std::sync::Arc::new(Self::schema()), columns)?)
            }

            fn from_batch(batch: &arrow_array::RecordBatch) -> anyhow::Result<Vec<Self>> {
                $(let mut $column =
                    $crate::column::read_column::<$kind>(batch, stringify!($column))?.into_iter();)*
                Ok((0..batch.num_rows())
                    .map(|_| $row { $($column: $column.next().expect("as many as rows"),)* })
                    .collect())
            }
        }
    };
}
