//! `Hook`: the places of a model whose values can be read, under TransformerLens's names.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// A place that can be read. Shapes: `T` positions, `d` width, `V` vocabulary, `H` heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Token embedding (plus learned positions, where the model adds them), `[T, d]`; no block.
    Embed,
    /// Residual stream at a block's input, `[T, d]`.
    ResidPre,
    /// Attention weights after softmax, as they are used, one row per head and query position, `[H, T, T]`: of a
    /// bypassed head the identity, zeros where a head or the whole is zeroed or replaced by a mean.
    Pattern,
    /// What each head makes of the values by its weights, before the output projection, head after head,
    /// `[T, n_heads * d_head]`; zeros where attention as a whole is replaced.
    Z,
    /// Attention module's output before it is added, `[T, d]`.
    AttnOut,
    /// Residual stream between attention and MLP, `[T, d]`; sequential blocks only.
    ResidMid,
    /// MLP's output before it is added, `[T, d]`.
    MlpOut,
    /// Residual stream at a block's output, `[T, d]`.
    ResidPost,
    /// After the final norm, `[T, d]`; no block.
    FinalNorm,
    /// Unembedding, `[T, V]`; no block.
    Logits,
}

impl Hook {
    /// All of them, in the order in which a forward pass meets them.
    pub const ALL: [Hook; 10] = [
        Hook::Embed,
        Hook::ResidPre,
        Hook::Pattern,
        Hook::Z,
        Hook::AttnOut,
        Hook::ResidMid,
        Hook::MlpOut,
        Hook::ResidPost,
        Hook::FinalNorm,
        Hook::Logits,
    ];

    /// The name used in flags, columns and file names.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Embed => "embed",
            Hook::ResidPre => "resid_pre",
            Hook::Pattern => "pattern",
            Hook::Z => "z",
            Hook::AttnOut => "attn_out",
            Hook::ResidMid => "resid_mid",
            Hook::MlpOut => "mlp_out",
            Hook::ResidPost => "resid_post",
            Hook::FinalNorm => "final_norm",
            Hook::Logits => "logits",
        }
    }

    /// Whether each block has one of its own.
    pub fn is_per_block(self) -> bool {
        !matches!(self, Hook::Embed | Hook::FinalNorm | Hook::Logits)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hook {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Hook::ALL.iter().find(|hook| hook.name() == text) {
            Some(hook) => Ok(*hook),
            None => {
                let known: Vec<_> = Hook::ALL.iter().map(|hook| hook.name()).collect();
                bail!("unknown hook `{text}`: expected one of {}", known.join(", "))
            }
        }
    }
}

impl serde::Serialize for Hook {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
