//! One transformer, stateless: a decoder skeleton whose differences between families are axes of [`Spec`].
//!
//! Shape letters: `B` rows of a batch, `T` positions, `N` tokens of all rows together, `d` width, `H` heads,
//! `V` vocabulary.

mod real;
mod spec;
mod weights;

pub use real::Real;
pub use spec::{Activation, MlpKind, NormKind, NormPlace, Positions, Residual, Rotary, Spec};
pub use weights::{Block, Linear, Matrix, Norm, Weights};
