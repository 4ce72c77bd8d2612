//! One transformer, stateless: a decoder skeleton whose differences between families are axes of [`Spec`].
//!
//! Shape letters: `B` rows of a batch, `T` positions, `N` tokens of all rows together, `d` width, `H` heads,
//! `V` vocabulary.

mod attention;
mod checkpoint;
mod families;
mod forward;
mod gguf;
mod kernels;
mod load;
mod mlp;
mod norm;
mod readout;
mod real;
mod rotary;
mod source;
mod spec;
mod state;
mod tap;
mod tokenizer;
mod weights;

pub use families::FAMILIES;
pub use forward::{Model, Row, Workspace};
pub use load::{Identity, Loaded, load, load_spec, load_tokenizer};
pub use readout::Readout;
pub use real::Real;
pub use source::Source;
pub use spec::{Activation, MlpKind, NormKind, NormPlace, Positions, Residual, Rotary, Spec};
pub use state::{State, Stretch};
pub use tap::{NoTap, Tap};
pub use tokenizer::Tokenizer;
pub use weights::{Block, Linear, Matrix, Norm, Weights};
/// TEMP
pub struct Tokenizer(tokenizers::Tokenizer);
impl Tokenizer {
    /// TEMP
    pub fn encode(&self, text: &str, special: bool) -> anyhow::Result<Vec<u32>> {
        Ok(self.0.encode(text, special).map_err(|e| anyhow::anyhow!(e))?.get_ids().to_vec())
    }
    /// TEMP
    pub fn decode(&self, t: &[u32]) -> anyhow::Result<String> {
        self.0.decode(t, false).map_err(|e| anyhow::anyhow!(e))
    }
    /// TEMP
    pub fn prefix_token(&self) -> Option<u32> {
        Some(0)
    }
}
/// TEMP
pub fn load_tokenizer(s: &str) -> anyhow::Result<Tokenizer> {
    Ok(Tokenizer(
        tokenizers::Tokenizer::from_file(format!("{s}/tokenizer.json")).map_err(|e| anyhow::anyhow!(e))?,
    ))
}
/// TEMP
pub fn load_spec(_: &str) -> anyhow::Result<Spec> {
    anyhow::bail!("temp")
}
