//! report
mod change;
mod frames;
mod number;
mod scale;
pub struct Report;
