//! What to change in a model and what to read from it: plain data, no tensors, no files.
//!
//! ```
//! use rote_plan::{Intervention, unfold};
//! let change: Intervention = "attn.identity@18-23".parse().unwrap();
//! assert_eq!(change.to_string(), "attn.identity@18-23");
//! let sweep = unfold(&["attn.identity@each".to_string()], 4).unwrap();
//! assert_eq!(sweep[0].to_string(), "none");
//! assert_eq!(sweep.len(), 5);
//! ```
//!
//! Words of the study: a *block* is one transformer layer; a *bypass* (`attn.identity`) replaces a block's
//! attention weights by the identity, so that a token attends to itself alone (Menta, Agrawal, Agarwal,
//! NAACL 2025); a *hook* is a place whose values can be read.
//!
//! Deliberately absent: tensors, files, models. `Intervention` says what; the model crate says how.

mod heads;
mod hook;
mod intervention;
mod span;

pub use heads::Heads;
pub use hook::Hook;
pub use intervention::{Action, AttnChange, BlockChange, Intervention, MlpChange, Module, Part, unfold};
pub use span::Span;
