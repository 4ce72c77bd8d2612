//! `rote-bound`: proven bounds on what an intervention changes, each beside what was measured.

mod activation;
mod attention;
mod check;
mod constants;
mod decision;
mod decompose;
mod estimate;
mod head_sets;
mod head_sum;
mod hybrid;
mod linear;
mod local;
mod mlp;
mod mlp_constants;
mod norm_step;
mod plan;
mod point;
mod request;
mod rotary;
mod softmax;
mod spectral;
mod stage;
mod tightness;
mod trace;
mod trajectory;
mod unembedding;
mod weights_only;

pub use check::{Claim, Row, THEOREMS, claim};
pub use constants::Constants;
pub use request::{Bounds, Depth, Rows};
pub use stage::Bound;
pub use tightness::Summary;
