//! Every table that touches the disk: declared once, written so that the same rows give the same bytes.
//!
//! The tables are in [`tables`]; [`read`] and [`TableWriter`] move rows; [`ActivationWriter`] and
//! [`read_activations`] move vectors. Only this crate knows Arrow and Parquet.
//!
//! Deliberately absent: anything that computes.

#[macro_use]
mod table;
mod activation;
mod column;
mod foreign;
mod read;
pub mod tables;
mod write;

pub use activation::{Activation, ActivationKey, ActivationWriter, Store, read_activations};
pub use column::Column;
pub use foreign::read_records;
pub use read::{Misfit, read, read_file};
pub use table::{ColumnInfo, Table};
pub use write::TableWriter;
