//! `Spec`: the axes on which decoder families differ. No family is named outside `families/`.

use serde::Serialize;

/// Everything about a model but its weights. A difference between families is a field here, or it is
/// another skeleton.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spec {
    /// `model_type` of the configuration; for the record only, nothing branches on it.
    pub family: String,
    /// Number of blocks.
    pub n_blocks: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// Rows of the embedding; tokens are below it.
    pub vocab: usize,
    /// Width of the embedding, `d_model` unless it is projected (OPT-350m).
    pub d_embed: usize,
    /// Longest sequence the model was made for (HF `max_position_embeddings`, `n_positions`).
    pub max_positions: usize,
    /// How positions enter.
    pub positions: Positions,
    /// Kind of every norm.
    pub norm: NormKind,
    /// Epsilon under every norm's root.
    pub eps: f64,
    /// Where the norms of a block stand.
    pub norm_place: NormPlace,
    /// How a block's two modules are added.
    pub residual: Residual,
    /// The MLP's form.
    pub mlp: MlpKind,
    /// What scores are multiplied by before the softmax: `1/sqrt(d_head)`, or 1 (GPT-Neo).
    pub score_scale: f64,
    /// Per block: how many positions back a query sees, itself included; `None` is all.
    pub windows: Vec<Option<usize>>,
    /// First token given where a context is empty: BOS, else EOS.
    pub prefix_token: Option<u32>,
    /// Tokens that end a text.
    pub eos_tokens: Vec<u32>,
}

/// How positions enter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Positions {
    /// A learned vector per position is added to the embedding; row `position + offset`.
    Learned {
        /// Rows before the first position's (OPT: 2).
        offset: usize,
    },
    /// Queries and keys are rotated.
    Rotary(Rotary),
}

/// Rotary embedding of the first `2 * inv_freq.len()` coordinates of each head, halves order (HF
/// `rotate_half`): coordinate `j` is paired with `j + inv_freq.len()`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rotary {
    /// Angle per position, in radians; scaling ("llama3", "linear") is already in it.
    pub inv_freq: Vec<f64>,
    /// What cosines and sines are multiplied by; 1 unless a scaling says otherwise.
    pub attention_factor: f64,
}

/// Kind of norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormKind {
    /// `(x - mean) / sqrt(var + eps) * gain + bias`.
    Layer,
    /// `x / sqrt(mean(x^2) + eps) * gain`.
    Rms,
}

/// Where the norms of a block stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NormPlace {
    /// Before each module.
    Pre,
    /// After each module's output was added (OPT-350m).
    Post,
}

/// How a block's two modules are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Residual {
    /// `y = x + attn(x); x' = y + mlp(y)`.
    Sequential,
    /// `x' = x + attn(x) + mlp(x)`.
    Parallel,
}

/// The MLP's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum MlpKind {
    /// `down(act(up(x)))`.
    Plain(Activation),
    /// `down(act(gate(x)) * up(x))`.
    Gated(Activation),
}

/// The MLP's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Activation {
    /// `x * Phi(x)` (HF `gelu`).
    GeluErf,
    /// The tanh form (HF `gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)` (HF `silu`, `swish`).
    Silu,
}

impl Spec {
    /// Width of all query heads together.
    pub fn d_query(&self) -> usize {
        self.n_heads * self.d_head
    }

    /// Width of all key (or value) heads together.
    pub fn d_kv(&self) -> usize {
        self.n_kv_heads * self.d_head
    }
}
