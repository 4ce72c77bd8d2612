//! One transformer, stateless: a decoder skeleton whose differences between families are axes of [`Spec`].
//!
//! Shape letters: `B` rows of a batch, `T` positions, `N` tokens of all rows together, `d` width, `H` heads,
//! `V` vocabulary.

mod checkpoint;
mod families;
mod gguf;
mod load;
mod real;
mod source;
mod spec;
mod tokenizer;
mod weights;

pub use families::FAMILIES;
pub use load::{Identity, Loaded, load, load_spec, load_tokenizer};
pub use real::Real;
pub use source::Source;
pub use spec::{Activation, MlpKind, NormKind, NormPlace, Positions, Residual, Rotary, Spec};
pub use tokenizer::Tokenizer;
pub use weights::{Block, Linear, Matrix, Norm, Weights};

/// A model.
#[derive(Clone, Debug)]
pub struct Model<T> {
    /// What it is like.
    pub spec: Spec,
    /// Its tensors.
    pub weights: Weights<T>,
}
