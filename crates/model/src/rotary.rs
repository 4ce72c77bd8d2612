//! Rotary positions: the first coordinates of each head turned by an angle per position, halves order.

use crate::{Real, Rotary};

/// Cosines and sines for positions from 0 on.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    rotary: Rotary,
    count: usize,
    half: usize,
    cos: Vec<T>,
    sin: Vec<T>,
}

impl<T: Real> Turns<T> {
    /// For positions `0..count`. An angle is rounded to `T`, as models are trained and run elsewhere: in f32 it is off
    /// by some 1e-5 a thousand positions on, which a page's log-likelihood feels.
    fn new(rotary: &Rotary, count: usize) -> Self {
        let half = rotary.inv_freq.len();
        let angle = |position: usize, frequency: f64| (T::of(position as f64) * T::of(frequency)).f64();
        let angles =
            || (0..count).flat_map(|position| rotary.inv_freq.iter().map(move |&f| angle(position, f)));
        let factor = rotary.attention_factor;
        Turns {
            rotary: rotary.clone(),
            count,
            half,
            cos: angles().map(|angle| T::of(libm::cos(angle) * factor)).collect(),
            sin: angles().map(|angle| T::of(libm::sin(angle) * factor)).collect(),
        }
    }

    /// What `kept` holds, made anew where it is another model's or too short.
    pub(crate) fn kept<'a>(kept: &'a mut Option<Self>, rotary: &Rotary, count: usize) -> &'a Self {
        if !kept.as_ref().is_some_and(|turns| turns.count >= count && turns.rotary == *rotary) {
            *kept = Some(Turns::new(rotary, count.next_power_of_two()));
        }
        kept.as_ref().expect("it was just made")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Cosines that PyTorch gives at position 2047 for the second and the fourth frequency of 32 at base 10 000, angles
    /// multiplied in float32 and in float64.
    #[test]
    fn angles_are_rounded_as_in_pytorch() {
        let inv_freq = vec![0.749_894_201_755_523_7, 0.421_696_513_891_220_1];
        let rotary = Rotary { inv_freq, attention_factor: 1.0 };
        let narrow = Turns::<f32>::new(&rotary, 2048);
        let wide = Turns::<f64>::new(&rotary, 2048);
        let expected =
            [(-0.357_356_518_5, -0.357_341_328_726_346_7), (-0.748_359_382_2, -0.748_356_298_672_621)];
        for (index, (in_f32, in_f64)) in expected.into_iter().enumerate() {
            assert!((f64::from(narrow.cos[2 * 2047 + index]) - in_f32).abs() < 1e-7);
            assert!((wide.cos[2 * 2047 + index] - in_f64).abs() < 1e-12);
        }
    }
}
