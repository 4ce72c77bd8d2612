//! One transformer, stateless: a decoder skeleton whose differences between families are axes of [`Spec`].
//!
//! Shape letters: `B` rows of a batch, `T` positions, `N` tokens of all rows together, `d` width, `H` heads,
//! `V` vocabulary.

mod aligned;
mod attend;
mod attention;
mod checkpoint;
#[cfg(target_arch = "x86_64")]
mod digits;
mod families;
mod forward;
mod gguf;
mod groups;
mod kernels;
mod load;
mod mlp;
mod norm;
mod product;
mod readout;
mod real;
mod real64;
mod rotary;
mod sampler;
#[cfg(target_arch = "x86_64")]
mod screen;
mod source;
mod spec;
mod state;
#[cfg(target_arch = "x86_64")]
mod strip;
mod sums;
mod tap;
mod tokenizer;
mod weights;

pub use families::FAMILIES;
pub use forward::{Means, Model, Row, Workspace};
pub use load::{Identity, Loaded, load, load_size, load_spec, load_tokenizer};
pub use mlp::MlpOut;
pub use product::Panels;
pub use readout::{Likeliest, Readout};
pub use real::Real;
pub use sampler::Sampler;
pub use source::Source;
pub use spec::{Activation, MlpKind, NormKind, NormPlace, Positions, Residual, Rotary, Spec};
pub use state::{State, Stretch};
pub use tap::{NoTap, Tap};
pub use tokenizer::Tokenizer;
pub use weights::{Block, Linear, Matrix, Norm, Weights};
