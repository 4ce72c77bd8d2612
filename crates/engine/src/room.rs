//! `Room`: what a sweep may hold in memory, and what it will. Batches are as large as the room allows; no result
//! depends on them.

use std::fmt;

use rote_model::{MlpKind, Model, Real, Spec};

/// Tokens whose activations a thread holds at a time (a group of `Model::run`; a longer row is one by itself), and
/// columns and rows of a tile of logits.
const WORKING: (usize, usize) = (1024, 1024 * 256);

/// What limits a batch.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Requests that go together at most; `None` lets memory decide.
    pub batch: Option<usize>,
    /// Bytes that the process may hold.
    pub memory: u64,
}

impl Room {
    /// No limit but what is worth it.
    pub const PLENTY: Room = Room { batch: None, memory: u64::MAX };
}

/// What a sweep will hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The model's weights.
    pub weights: u64,
    /// Buffers of the threads, whatever the batch.
    pub buffers: u64,
    /// Each token of a batch.
    pub per_token: u64,
    /// Tokens of a batch.
    pub tokens: u64,
}

impl Need {
    /// At the peak.
    pub fn total(&self) -> u64 {
        self.weights + self.buffers + self.per_token * self.tokens
    }

    /// Tokens that fit into `memory`, at most `most`.
    pub(crate) fn fit(mut self, memory: u64, most: u64) -> Need {
        let left = memory.saturating_sub(self.weights + self.buffers);
        self.tokens = most.min(left / self.per_token);
        self
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: u64| match bytes as f64 / (1u64 << 20) as f64 {
            mega if mega < 1024.0 => format!("{mega:.0} MiB"),
            mega => format!("{:.1} GiB", mega / 1024.0),
        };
        let batch = text(self.buffers + self.per_token * self.tokens);
        write!(f, "about {} of memory: weights {}, ", text(self.total()), text(self.weights))?;
        write!(f, "batches of {} tokens {batch}", self.tokens)
    }
}

/// Bytes that all threads' buffers take where the longest row has so many tokens.
pub(crate) fn buffers<T>(spec: &Spec, longest: usize) -> u64 {
    let gates = if matches!(spec.mlp, MlpKind::Gated(_)) { 2 } else { 1 };
    let each = 3 * spec.d_model + 2 * spec.d_query() + 2 * spec.d_kv() + gates * spec.d_mlp;
    let working = WORKING.0.max(longest) * each + WORKING.1;
    (rayon::current_num_threads() * working * size_of::<T>()) as u64
}

/// Bytes of a model's weights as they are held; a tied head counts once.
pub(crate) fn weights<T: Real>(model: &Model<T>) -> u64 {
    let spec = &model.spec;
    let gates = if matches!(spec.mlp, MlpKind::Gated(_)) { 3 } else { 2 };
    let block = spec.d_model * (2 * spec.d_query() + 2 * spec.d_kv() + gates * spec.d_mlp);
    let weights = &model.weights;
    let tied = std::sync::Arc::ptr_eq(&weights.embed, &weights.unembed.weight);
    let ends = spec.vocab * weights.embed.cols * if tied { 1 } else { 2 };
    let positions = weights.positions.as_ref().map_or(0, |table| table.rows * table.cols);
    ((block * spec.n_blocks + ends + positions) * size_of::<T>()) as u64
}
