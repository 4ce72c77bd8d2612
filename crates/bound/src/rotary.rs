//! Rotary positions and their adjoint: `q R_i` and `y R_i^T`.

use rote_model::{Positions, Spec};

/// Cosines and sines of every position, times the model's attention factor.
pub(crate) struct Turn {
    half: usize,
    /// `[position, half]` pairs.
    table: Vec<(f64, f64)>,
    /// Largest factor by which a rotation stretches.
    pub(crate) stretch: f64,
}

impl Turn {
    /// For positions `0 .. n`; a model without rotary positions turns nothing.
    pub(crate) fn new(spec: &Spec, n: usize) -> Turn {
        let Positions::Rotary(rotary) = &spec.positions else {
            return Turn { half: 0, table: Vec::new(), stretch: 1.0 };
        };
        let half = rotary.inv_freq.len();
        let factor = rotary.attention_factor;
        let table = (0..n)
            .flat_map(|position| {
                rotary.inv_freq.iter().map(move |rate| {
                    let angle = position as f64 * rate;
                    (angle.cos() * factor, angle.sin() * factor)
                })
            })
            .collect();
        // Coordinates that aren't turned aren't stretched either.
        let stretch = if 2 * half < spec.d_head { factor.abs().max(1.0) } else { factor.abs() };
        Turn { half, table, stretch }
    }

    /// How many dimensions of a head turn, from the first on.
    pub(crate) fn dimensions(&self) -> usize {
        2 * self.half
    }

    /// `row <- row R_position`.
    pub(crate) fn forward(&self, row: &mut [f64], position: usize) {
        self.turn(row, position, 1.0);
    }

    /// `m <- R_position^T m` for rows of `width`, one per dimension that turns.
    pub(crate) fn rows(&self, m: &mut [f64], width: usize, position: usize) {
        let (half, table) = (self.half, &self.table[position * self.half..]);
        for j in 0..half {
            let (cos, sin) = table[j];
            let (upper, lower) = m.split_at_mut((j + half) * width);
            for (a, b) in upper[j * width..][..width].iter_mut().zip(&mut lower[..width]) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }

    /// `row <- row R_position^T`.
    #[cfg(test)]
    pub(crate) fn adjoint(&self, row: &mut [f64], position: usize) {
        self.turn(row, position, -1.0);
    }

    fn turn(&self, row: &mut [f64], position: usize, sign: f64) {
        let (half, table) = (self.half, &self.table[position * self.half..]);
        for j in 0..half {
            let (cos, sin) = table[j];
            let (a, b) = (row[j], row[j + half]);
            row[j] = a * cos - sign * b * sin;
            row[j + half] = b * cos + sign * a * sin;
        }
    }
}
