//! Many requests through one model under many interventions.
//!
//! [`Sweep`] answers every request under every intervention: the un-intervened trunk is run once, each
//! intervention restarts at its first changed block, contexts that requests share are read once, and
//! free-running text is decoded only from the first wrong token on, all interventions together.
//! [`capture`] shows hooks instead of answers; [`sampled`] says how likely a sampler gives them.
//!
//! Deliberately absent: files, tables beyond the request, anything that remembers between calls.

mod batch;
mod capture;
mod greedy;
mod means;
mod pass;
mod room;
mod sampled;
mod subject;
mod sweep;
mod work;

pub use batch::batches;
pub use capture::{Captured, capture};
pub use means::means;
pub use room::{Need, Room};
pub use sampled::sampled;
pub use subject::{check_tokens, load_subject, subject};
pub use sweep::{Answer, Sweep};
pub use work::{multiply_adds, weight_bytes};
