//! `Weights`: a model's tensors under canonical names and one layout, whatever family they come from.

use std::sync::Arc;

use crate::{Panels, Real};

/// A matrix `[rows, cols]`, row-major.
#[derive(Clone, Debug)]
pub struct Matrix<T> {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// `rows * cols` values.
    pub data: Vec<T>,
}

/// `y = x W^T + b`, `W` is `[out, in]` as in `torch.nn.Linear`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out, in]`.
    pub weight: Arc<Panels<T>>,
    /// `[out]`.
    pub bias: Option<Vec<T>>,
}

/// A norm's gain and bias.
#[derive(Clone, Debug)]
pub struct Norm<T> {
    /// `[d]`.
    pub gain: Vec<T>,
    /// `[d]`; RMSNorm has none.
    pub bias: Option<Vec<T>>,
}

/// One block.
#[derive(Clone, Debug)]
pub struct Block<T> {
    /// Before (or, post-norm, after) attention. `None`: the module reads its input as it is.
    pub attn_norm: Norm<T>,
    /// Before (or after) the MLP; in a parallel block it reads the same input as `attn_norm`.
    pub mlp_norm: Norm<T>,
    /// `[n_heads * d_head + 2 * n_kv_heads * d_head, d_model]`: all queries, then all keys, then all values,
    /// head after head.
    pub qkv: Linear<T>,
    /// `[d_model, n_heads * d_head]`.
    pub o: Linear<T>,
    /// RMS norm over each query head (Qwen3), `[d_head]`.
    pub q_norm: Option<Norm<T>>,
    /// RMS norm over each key head.
    pub k_norm: Option<Norm<T>>,
    /// `[d_mlp, d_model]`, of gated MLPs only.
    pub gate: Option<Linear<T>>,
    /// `[d_mlp, d_model]`.
    pub up: Linear<T>,
    /// `[d_model, d_mlp]`.
    pub down: Linear<T>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Weights<T> {
    /// `[vocab, d_embed]`.
    pub embed: Arc<Panels<T>>,
    /// `[positions + offset, d_model]`, of learned positions only.
    pub positions: Option<Matrix<T>>,
    /// `[d_model, d_embed]`, where the embedding is projected.
    pub project_in: Option<Linear<T>>,
    /// The blocks.
    pub blocks: Vec<Block<T>>,
    /// Before the unembedding; post-norm models have none.
    pub final_norm: Option<Norm<T>>,
    /// `[d_embed, d_model]`, where the embedding is projected.
    pub project_out: Option<Linear<T>>,
    /// `[vocab, d_embed]`; tied heads share `embed`'s matrix.
    pub unembed: Linear<T>,
}

impl<T: Real> Matrix<T> {
    /// From its values, row by row.
    pub fn new(rows: usize, cols: usize, data: Vec<T>) -> Self {
        assert_eq!(data.len(), rows * cols, "a matrix has rows times columns values");
        Matrix { rows, cols, data }
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[T] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }
}

impl<T: Real> Linear<T> {
    /// Width of what comes out.
    pub fn n_out(&self) -> usize {
        self.weight.rows
    }

    /// Width of what goes in.
    pub fn n_in(&self) -> usize {
        self.weight.cols
    }
}
