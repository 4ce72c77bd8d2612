//! Every table that touches the disk: declared once, written so that the same rows give the same bytes.
//!
//! The tables are in [`tables`]; [`read`] and [`TableWriter`] move rows; [`ActivationWriter`] and
//! [`read_activations`] move vectors; [`read_cells`] gives columns of whatever table; [`join`] puts
//! parts together; [`deciding`] says which requests are about one sequence. Only this crate knows Arrow and Parquet.
//!
//! Deliberately absent: anything that computes.

#[macro_use]
mod table;
mod activation;
mod cells;
mod column;
mod foreign;
mod join;
mod prefixes;
mod read;
pub mod tables;
mod vectors;
mod write;

pub use activation::{Activation, ActivationKey, ActivationWriter, Store};
pub use cells::{Cells, NamedCells, columns_of, read_cells, write_cells};
pub use column::Column;
pub use foreign::read_records;
pub use join::{join, join_activations};
pub use prefixes::deciding;
pub use read::{Misfit, parts, read, read_file};
pub use table::{ColumnInfo, Table};
pub use vectors::read_activations;
pub use write::TableWriter;
