//! `Reader`: takes tensors out of a checkpoint by a family's names, holds each against the shape it must have,
//! and at the end tells what nobody asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use crate::checkpoint::Checkpoint;
use crate::{Linear, Matrix, Norm, NormKind, Panels, Real};

/// Buffers that old checkpoints carry: masks and constants that follow from the configuration.
const BUFFERS: [&str; 6] = [
    "attn.bias",
    "attn.masked_bias",
    "attention.bias",
    "attention.masked_bias",
    "rotary_emb.inv_freq",
    "attention.rotary_emb.inv_freq",
];

/// Tensors of a checkpoint under a family's own names.
pub(crate) struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    /// Name without the prefix → name in the file; what was read is taken out.
    left: BTreeMap<String, String>,
    /// The prefix the file uses, for messages about what is missing.
    prefix: &'static str,
    /// Whether the file is in the layout of ggml: queries and keys in another order, no transposed weights.
    pub ggml: bool,
}

impl<'a> Reader<'a> {
    /// `prefixes`: what may stand before every name but the head's, in the order in which they are tried.
    /// `rename` gives a file's name in Hugging Face's spelling.
    pub fn new(
        checkpoint: &'a Checkpoint,
        prefixes: &'static [&'static str],
        rename: impl Fn(&str) -> String,
        ggml: bool,
    ) -> Result<Self> {
        let mut left = BTreeMap::new();
        let mut seen = "";
        for (name, _) in checkpoint.tensors() {
            let renamed = rename(name);
            let prefix = prefixes.iter().find(|prefix| renamed.starts_with(*prefix)).copied().unwrap_or("");
            if !prefix.is_empty() {
                seen = prefix;
            }
            let short = renamed[prefix.len()..].to_string();
            if let Some(other) = left.insert(short, name.to_string()) {
                bail!("{}: `{other}` and `{name}` are the same tensor", checkpoint.place());
            }
        }
        Ok(Reader { checkpoint, left, prefix: seen, ggml })
    }

    /// Whether a tensor is there and was not read yet.
    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Appends a tensor that must have `shape`.
    fn append<T: Real>(&mut self, name: &str, shape: &[usize], out: &mut Vec<T>) -> Result<()> {
        let Some(stored) = self.left.remove(name) else {
            bail!(
                "{}: tensor `{}{name}` is missing, expected one of shape {shape:?}",
                self.checkpoint.place(),
                self.prefix
            );
        };
        let found = self.checkpoint.shape(&stored).unwrap_or_default();
        ensure!(
            found == shape,
            "{}: tensor `{stored}` has shape {found:?}, expected {shape:?}",
            self.checkpoint.place()
        );
        self.checkpoint.read_into(&stored, out)
    }

    /// A vector.
    pub fn vector<T: Real>(&mut self, name: &str, len: usize) -> Result<Vec<T>> {
        let mut data = Vec::with_capacity(len);
        self.append(name, &[len], &mut data)?;
        Ok(data)
    }

    /// A matrix `[rows, cols]`, stored so.
    pub fn matrix<T: Real>(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix<T>> {
        let mut data = Vec::new();
        self.append(name, &[rows, cols], &mut data)?;
        Ok(Matrix::new(rows, cols, data))
    }

    /// A matrix `[rows, cols]`, stored so, for products.
    pub fn panels<T: Real>(&mut self, name: &str, rows: usize, cols: usize) -> Result<Panels<T>> {
        Ok(Panels::new(rows, cols, &self.matrix(name, rows, cols)?.data))
    }

    /// `name.weight` `[out, in]` and, where `bias` says so, `name.bias` `[out]`.
    pub fn linear<T: Real>(
        &mut self,
        name: &str,
        n_out: usize,
        n_in: usize,
        bias: bool,
    ) -> Result<Linear<T>> {
        let weight = Arc::new(self.panels(&format!("{name}.weight"), n_out, n_in)?);
        let bias = if bias { Some(self.vector(&format!("{name}.bias"), n_out)?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// As [`Reader::linear`], stored `[in, out]` (but not in ggml's layout).
    pub fn transposed<T: Real>(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<Linear<T>> {
        if self.ggml {
            return self.linear(name, n_out, n_in, true);
        }
        let stored = self.matrix::<T>(&format!("{name}.weight"), n_in, n_out)?;
        let mut data = vec![T::ZERO; n_out * n_in];
        for (row, values) in stored.data.chunks_exact(n_out).enumerate() {
            for (col, value) in values.iter().enumerate() {
                data[col * n_in + row] = *value;
            }
        }
        let bias = Some(self.vector(&format!("{name}.bias"), n_out)?);
        Ok(Linear { weight: Arc::new(Panels::new(n_out, n_in, &data)), bias })
    }

    /// Several linear maps of one input as one, rows below rows. `parts`: name and width.
    pub fn stacked<T: Real>(
        &mut self,
        parts: &[(String, usize)],
        n_in: usize,
        bias: bool,
    ) -> Result<Linear<T>> {
        let n_out = parts.iter().map(|(_, width)| width).sum();
        let mut data = Vec::new();
        for (name, width) in parts {
            self.append(&format!("{name}.weight"), &[*width, n_in], &mut data)?;
        }
        let mut biases = Vec::new();
        for (name, width) in parts.iter().filter(|_| bias) {
            self.append(&format!("{name}.bias"), &[*width], &mut biases)?;
        }
        let weight = Arc::new(Panels::new(n_out, n_in, &data));
        Ok(Linear { weight, bias: bias.then_some(biases) })
    }

    /// `name.weight` and, of a layer norm, `name.bias`.
    pub fn norm<T: Real>(&mut self, name: &str, width: usize, kind: NormKind) -> Result<Norm<T>> {
        let gain = self.vector(&format!("{name}.weight"), width)?;
        let bias = match kind {
            NormKind::Layer => Some(self.vector(&format!("{name}.bias"), width)?),
            NormKind::Rms => None,
        };
        Ok(Norm { gain, bias })
    }

    /// The unembedding: `name.weight`, or the embedding's matrix where the two are `tied`.
    ///
    /// PyTorch files name a tied matrix twice; a second one that differs is refused.
    pub fn head<T: Real>(&mut self, name: &str, embed: &Arc<Panels<T>>, tied: bool) -> Result<Linear<T>> {
        let weight = format!("{name}.weight");
        if tied && !self.has(&weight) {
            return Ok(Linear { weight: embed.clone(), bias: None });
        }
        let own = self.panels(&weight, embed.rows, embed.cols)?;
        if !tied {
            return Ok(Linear { weight: Arc::new(own), bias: None });
        }
        ensure!(
            own == **embed,
            "{}: tensor `{weight}` differs from the embedding, to which the configuration ties it; set \
             `tie_word_embeddings` to what the model was trained with",
            self.checkpoint.place()
        );
        Ok(Linear { weight: embed.clone(), bias: None })
    }

    /// Refuses what is left over, but for known buffers.
    pub fn finish(self) -> Result<()> {
        let strange: Vec<_> = self
            .left
            .iter()
            .filter(|(short, _)| !is_buffer(short))
            .map(|(_, stored)| format!("`{stored}` {:?}", self.checkpoint.shape(stored).unwrap_or_default()))
            .collect();
        if strange.is_empty() {
            return Ok(());
        }
        let first = strange.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if strange.len() > 5 { format!(" and {} more", strange.len() - 5) } else { String::new() };
        bail!(
            "{}: the configuration has no place for tensor {first}{more}; expected none",
            self.checkpoint.place()
        )
    }
}

/// Whether a tensor is a buffer that no weight is made of.
pub(crate) fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|buffer| ends_with_path(name, buffer))
}

/// Whether a dotted name is `end` or ends with it as whole words.
fn ends_with_path(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}
