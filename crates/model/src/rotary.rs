//! Rotary positions: the first coordinates of each head turned by an angle per position, halves order.

use crate::{Real, Rotary};

/// Cosines and sines for positions `0..count`.
pub(crate) struct Turns<T> {
    half: usize,
    cos: Vec<T>,
    sin: Vec<T>,
}

impl<T: Real> Turns<T> {
    /// Angles are computed in f64: in f32 they lose three digits a thousand positions on.
    pub(crate) fn new(rotary: &Rotary, count: usize) -> Self {
        let half = rotary.inv_freq.len();
        let angles =
            || (0..count).flat_map(|position| rotary.inv_freq.iter().map(move |f| position as f64 * f));
        let factor = rotary.attention_factor;
        Turns {
            half,
            cos: angles().map(|angle| T::of(libm::cos(angle) * factor)).collect(),
            sin: angles().map(|angle| T::of(libm::sin(angle) * factor)).collect(),
        }
    }

    /// Turns one head's vector, which stands at `position`.
    #[inline(always)]
    pub(crate) fn turn(&self, head: &mut [T], position: usize) {
        let from = position * self.half;
        let (cos, sin) = (&self.cos[from..from + self.half], &self.sin[from..from + self.half]);
        let (low, high) = head[..2 * self.half].split_at_mut(self.half);
        for index in 0..self.half {
            let (a, b) = (low[index], high[index]);
            low[index] = a * cos[index] - b * sin[index];
            high[index] = b * cos[index] + a * sin[index];
        }
    }
}
