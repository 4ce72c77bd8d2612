//! Bootstrap-t: percentiles not of a mean but of its distance from the sample's in standard errors, each resample
//! with its own.
//!
//! With r = Σ total / Σ weight, s its standard error and t* = (r* − r) / s*, the ends are r − s · t*₉₇.₅ and
//! r − s · t*₂.₅ (equal tails) or r ∓ s · |t*|₉₅ (symmetric). A skewed loss pulls r and s up together, which no
//! percentile of r* alone can tell: these cover to the second order where percentiles and BCa fall short on a few
//! dozen skewed items (`coverage` shows it).
//!
//! Source: Efron, "Nonparametric standard errors and confidence intervals", Canadian Journal of Statistics 9 (1981);
//! Hall, "Theoretical comparison of bootstrap confidence intervals", Annals of Statistics 16 (1988), also for
//! symmetric ones. The standard error is the linear one of a ratio: s² = n / (n − 1) · Σ (totalᵢ − r weightᵢ)² / (Σ weight)².

use crate::interval::{LEVEL, quantile, student};

/// Fewer items than this have too few different resamples; their mean has Student's interval.
pub const FEW: usize = 8;

/// Sums over one resample, or over the sample, of a ratio's residuals eᵢ = totalᵢ − r weightᵢ with the sample's r.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Σ e.
    pub residuals: f64,
    /// Σ e².
    pub squares: f64,
    /// Σ e · weight.
    pub products: f64,
    /// Σ weight.
    pub weights: f64,
    /// Σ weight².
    pub weight_squares: f64,
}

impl Sums {
    /// How far the resample's ratio is from the sample's.
    pub fn shift(&self) -> f64 {
        self.residuals / self.weights
    }

    /// The ratio's standard error over `n` items.
    pub fn error(&self, n: usize) -> f64 {
        let shift = self.shift();
        let sum = self.squares - 2.0 * shift * self.products + shift * shift * self.weight_squares;
        // Rounding may leave a little below zero.
        (sum.max(0.0) * n as f64 / (n - 1) as f64).sqrt() / self.weights
    }
}

/// A ratio of `n` items with its resamples in standard errors.
pub struct Studentised {
    value: f64,
    error: f64,
    n: usize,
    distances: Vec<f64>,
    /// Whether the distances can be trusted.
    resampled: bool,
}

impl Studentised {
    /// Of a ratio, the sums over its items and those over each resample; none of fewer than two items.
    ///
    /// A resample without an error (its items are all alike) has no distance. Where more than one in a thousand
    /// are such, or items are [`FEW`], Student's distribution stands in.
    pub fn new(value: f64, whole: Sums, n: usize, replicates: impl Iterator<Item = Sums>) -> Option<Self> {
        if n < 2 {
            return None;
        }
        let error = whole.error(n);
        let (mut distances, mut all) = (Vec::new(), 0);
        for sums in replicates {
            all += 1;
            let drawn = sums.error(n);
            let distance = sums.shift() / drawn;
            if distance.is_finite() && drawn > 1e-9 * error {
                distances.push(distance);
            }
        }
        let resampled = n >= FEW && !distances.is_empty() && (all - distances.len()) * 1000 <= all;
        Some(Studentised { value, error, n, distances, resampled })
    }

    /// The name of its intervals.
    pub fn name(&self) -> &'static str {
        if self.resampled { "bootstrap_t" } else { "student" }
    }

    /// The 95 % interval with 2.5 % beyond either end.
    pub fn interval(&mut self) -> Option<(f64, f64)> {
        if !self.resampled {
            return student(self.value, self.error, self.n);
        }
        let mut at = |share| self.value - self.error * quantile(&mut self.distances, share);
        Some((at(1.0 - LEVEL / 2.0), at(LEVEL / 2.0)))
    }

    /// The 95 % interval that reaches as far up as down: of differences, where neither side is the skewed one.
    pub fn symmetric(&self) -> Option<(f64, f64)> {
        if !self.resampled {
            return student(self.value, self.error, self.n);
        }
        let mut sizes: Vec<f64> = self.distances.iter().map(|distance| distance.abs()).collect();
        let half = self.error * quantile(&mut sizes, 1.0 - LEVEL);
        Some((self.value - half, self.value + half))
    }

    /// The two-sided level of zero: the share of resamples at least as far from the sample as it is from zero. Where all
    /// items are alike, of the 2ⁿ ways to turn their signs the two that lead as far.
    pub fn level(&self) -> f64 {
        let far = match (self.value == 0.0, self.error > 0.0) {
            (true, _) => 0.0,
            (false, true) => (self.value / self.error).abs(),
            (false, false) => return 0.5_f64.powi(self.n as i32 - 1),
        };
        if !self.resampled {
            return crate::interval::student_level(far, (self.n - 1) as f64);
        }
        let beyond = self.distances.iter().filter(|distance| distance.abs() >= far).count();
        (1 + beyond) as f64 / (self.distances.len() + 1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums over the items counted so often.
    fn sums(totals: &[f64], weights: &[f64], counts: &[f64]) -> Sums {
        let ratio = totals.iter().sum::<f64>() / weights.iter().sum::<f64>();
        let mut sums = Sums::default();
        for ((total, weight), count) in totals.iter().zip(weights).zip(counts) {
            let residual = total - ratio * weight;
            sums.residuals += count * residual;
            sums.squares += count * residual * residual;
            sums.products += count * residual * weight;
            sums.weights += count * weight;
            sums.weight_squares += count * weight * weight;
        }
        sums
    }

    #[test]
    fn the_error_is_that_of_a_mean_where_weights_are_equal() {
        let items = [1.0, 0.0, 0.0, 1.0, 5.0];
        let found = sums(&items, &[1.0; 5], &[1.0; 5]).error(5);
        assert!((found - crate::interval::mean_stderr(&items).unwrap()).abs() < 1e-12);
        // The same five drawn as 5, 5, 1, 0, 0.
        let drawn = sums(&items, &[1.0; 5], &[1.0, 2.0, 0.0, 0.0, 2.0]);
        let expected = crate::interval::mean_stderr(&[5.0, 5.0, 1.0, 0.0, 0.0]).unwrap();
        assert!((drawn.error(5) - expected).abs() < 1e-12);
        assert!((drawn.shift() - (11.0 / 5.0 - 7.0 / 5.0)).abs() < 1e-12);
    }

    /// Numbers from `tests/intervals.py`, of the same 200 resamples.
    #[test]
    fn the_intervals_are_those_of_plain_sums() {
        let items = [0.25, 0.5, 1.0, 1.125, 4.0, 0.75, 2.5, 0.125];
        let drawn = (0..200usize).map(|row| {
            let mut counts = [0.0; 8];
            (0..8).for_each(|place| counts[(31 * row + 17 * place).pow(2) / 23 % 8] += 1.0);
            sums(&items, &[1.0; 8], &counts)
        });
        let whole = sums(&items, &[1.0; 8], &[1.0; 8]);
        let mut found = Studentised::new(10.25 / 8.0, whole, 8, drawn).unwrap();
        assert_eq!(found.name(), "bootstrap_t");
        let near = |found: (f64, f64), low: f64, high: f64| {
            assert!((found.0 - low).abs() < 1e-9 && (found.1 - high).abs() < 1e-9, "{found:?}");
        };
        near(found.interval().unwrap(), 0.394_413_093_971_856_75, 4.443_348_169_105_679);
        near(found.symmetric().unwrap(), -1.706_414_031_251_901_6, 4.268_914_031_251_901);
    }

    #[test]
    fn few_or_equal_items_have_students_interval() {
        let whole = sums(&[1.0, 0.0, 0.0, 1.0], &[1.0; 4], &[1.0; 4]);
        let mut few = Studentised::new(0.5, whole, 4, [whole; 10].into_iter()).unwrap();
        assert_eq!((few.name(), few.interval()), ("student", student(0.5, whole.error(4), 4)));
        let whole = sums(&[2.0; 20], &[1.0; 20], &[1.0; 20]);
        let mut equal = Studentised::new(2.0, whole, 20, [whole; 10].into_iter()).unwrap();
        assert_eq!((equal.interval(), equal.level()), (Some((2.0, 2.0)), 0.5_f64.powi(19)));
        assert!(Studentised::new(2.0, whole, 1, [].into_iter()).is_none());
    }
}
