//! One transformer, stateless: a decoder skeleton whose differences between families are axes of [`Spec`].
//!
//! Shape letters: `B` rows of a batch, `T` positions, `N` tokens of all rows together, `d` width, `H` heads,
//! `V` vocabulary.

mod attention;
mod forward;
mod kernels;
mod mlp;
mod norm;
mod readout;
mod real;
mod rotary;
mod spec;
mod state;
mod tap;
mod weights;

pub use forward::{Model, Row, Workspace};
pub use readout::Readout;
pub use real::Real;
pub use spec::{Activation, MlpKind, NormKind, NormPlace, Positions, Residual, Rotary, Spec};
pub use state::{State, Stretch};
pub use tap::{NoTap, Tap};
pub use weights::{Block, Linear, Matrix, Norm, Weights};
