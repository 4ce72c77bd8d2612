//! `Tap`: a read-only visitor of a model's hooks.

use rote_plan::Hook;

use crate::Real;

/// Looks at values while a batch runs. It cannot change them.
pub trait Tap<T: Real> {
    /// Whether this hook is to be shown; `block` is `None` for hooks that belong to none.
    fn wants(&self, hook: Hook, block: Option<usize>) -> bool;

    /// Values `[N, width]` of a hook, all rows of the batch after one another.
    fn see(&mut self, hook: Hook, block: Option<usize>, values: &[T], width: usize);

    /// Attention weights of one row of the batch at one block, `[H, new tokens, keys]`.
    fn see_pattern(&mut self, block: usize, row: usize, weights: &[T], keys: usize) {
        let _ = (block, row, weights, keys);
    }
}

/// Looks at nothing.
pub struct NoTap;

impl<T: Real> Tap<T> for NoTap {
    fn wants(&self, _: Hook, _: Option<usize>) -> bool {
        false
    }

    fn see(&mut self, _: Hook, _: Option<usize>, _: &[T], _: usize) {}
}
