//! What attention weights can become when scores move by at most `eps_j` (lemma L7).
//!
//! If `P~_j` is proportional to `P_j e^(e_j)` with `|e_j| <= eps_j`, then `P~_j` lies in a box whose upper
//! end has its own score raised and all others lowered, and the total variation is at most
//! `tanh((max e - min e)/4)`: the ratio `P~/P` lies in an interval whose ends are `e^w` apart and has mean 1,
//! and the expected excess over 1 is largest for a ratio of two values, at the geometric middle.

/// Largest exponent that is computed with; beyond it a weight may be anything in `[0, 1]`.
const CAP: f64 = 300.0;

/// What one row of weights can become.
#[derive(Default)]
pub(crate) struct Row {
    /// `up_j >= P~_j`.
    pub up: Vec<f64>,
    /// `>= |P~_j - P_j|`.
    pub moved: Vec<f64>,
    /// `>=` total variation.
    pub variation: f64,
}

impl Row {
    /// From weights `p` (summing to one) and `eps`.
    pub(crate) fn fill(&mut self, p: &[f64], eps: &[f64]) {
        self.up.clear();
        self.moved.clear();
        let largest = eps.iter().copied().fold(0.0, f64::max);
        if largest == 0.0 {
            self.up.extend_from_slice(p);
            self.moved.resize(p.len(), 0.0);
            self.variation = 0.0;
            return;
        }
        let wild = largest > CAP;
        let (mut raised, mut lowered) = (0.0, 0.0);
        if !wild {
            self.up.extend_from_slice(eps);
            crate::wide::exp_all(&mut self.up, 0.0);
            for (p, grow) in p.iter().zip(&self.up) {
                raised += p * grow;
                lowered += p / grow;
            }
        }
        let rounding = (p.len() + 16) as f64 * 4.0 * f64::EPSILON;
        for (j, &p) in p.iter().enumerate() {
            if wild {
                self.up.push(1.0);
                self.moved.push(p.max(1.0 - p));
                continue;
            }
            let grow = self.up[j];
            let (most, least) = (p * grow, p / grow);
            // The others' sums by difference; never below zero, and rounded so that the box only widens.
            let others_low = ((lowered - least) - rounding * lowered).max(0.0);
            let others_high = (raised - most) + rounding * raised;
            let up = if most > 0.0 { (most / (most + others_low) * (1.0 + rounding)).min(1.0) } else { 0.0 };
            let down = if least > 0.0 { least / (least + others_high) } else { 0.0 };
            self.up[j] = up;
            self.moved.push((up - p).max(p - down) + rounding * up);
        }
        let half: f64 = self.moved.iter().sum::<f64>() / 2.0;
        self.variation = (largest / 2.0).tanh().min(half).min(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_attain_the_box_and_two_values_the_variation() {
        let p = [0.2, 0.3, 0.5];
        let eps = [0.4, 0.4, 0.4];
        let mut row = Row::default();
        row.fill(&p, &eps);
        for j in 0..3 {
            let weight = |k: usize| p[k] * if k == j { eps[k] } else { -eps[k] }.exp();
            let up = weight(j) / (0..3).map(weight).sum::<f64>();
            assert!((row.up[j] / up - 1.0).abs() < 1e-12);
        }
        // Mass 1/(1 + sqrt(K)) raised by e, the rest lowered: K = e^{2 * 0.4 * 2 / 2}.
        let share = 1.0 / (1.0 + (0.4_f64).exp());
        let two = [share, 1.0 - share];
        row.fill(&two, &[0.4, 0.4]);
        let moved = two[0] * 0.4_f64.exp();
        let moved = moved / (moved + two[1] * (-0.4_f64).exp()) - two[0];
        assert!((row.variation / moved - 1.0).abs() < 1e-9, "{} {moved}", row.variation);
    }

    #[test]
    fn nothing_moved_is_nothing_and_wild_is_everything() {
        let mut row = Row::default();
        row.fill(&[0.25, 0.75], &[0.0, 0.0]);
        assert_eq!((row.variation, row.moved[1]), (0.0, 0.0));
        row.fill(&[0.25, 0.75], &[1.0, 1e9]);
        assert_eq!((row.variation, row.up[0]), (0.75, 1.0));
    }
}
