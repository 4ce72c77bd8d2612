//! BCa intervals: percentiles of the bootstrap, moved for its bias and for how the error grows with the value.
//!
//! With Φ the normal distribution, θ the number, θ* its resamples and θ₍ᵢ₎ the number without item i:
//! z₀ = Φ⁻¹(share of θ* below θ, equal ones half), the bias;
//! a = Σ uᵢ³ / 6 (Σ uᵢ²)^1.5 with uᵢ = mean of the θ₍ᵢ₎ − θ₍ᵢ₎, the acceleration;
//! an end at level α is the percentile Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z))) with z = Φ⁻¹(α).
//!
//! Source: Efron, "Better bootstrap confidence intervals", JASA 82 (1987); the jackknife's acceleration and that
//! of several sets: DiCiccio and Efron, "Bootstrap confidence intervals", Statistical Science 11 (1996), §2, 6.
//! The ends stay within the resamples, so those of a share or a chance stay within their bounds.

use crate::interval::{LEVEL, normal, normal_point, quantile};

/// What is known of a number: itself, its resamples and its acceleration.
pub struct Bca {
    value: f64,
    /// No NaN among them.
    replicates: Vec<f64>,
    acceleration: f64,
}

impl Bca {
    /// Of a value, its resamples (NaN are left out) and its [`acceleration`]; none without resamples.
    pub fn new(value: f64, replicates: impl Iterator<Item = f64>, acceleration: f64) -> Option<Self> {
        let replicates: Vec<f64> = replicates.filter(|value| !value.is_nan()).collect();
        (!replicates.is_empty()).then_some(Bca { value, replicates, acceleration })
    }

    /// The share of resamples below a number, equal ones half.
    fn below(&self, number: f64) -> f64 {
        let less = self.replicates.iter().filter(|other| **other < number).count();
        let equal = self.replicates.iter().filter(|other| **other == number).count();
        (less as f64 + 0.5 * equal as f64) / self.replicates.len() as f64
    }

    /// Kept from 0 and 1 by what R resamples can tell apart, so that it has a normal point.
    fn resolved(&self, share: f64) -> f64 {
        let least = 0.5 / (self.replicates.len() + 1) as f64;
        share.clamp(least, 1.0 - least)
    }

    fn bias(&self) -> f64 {
        normal_point(self.resolved(self.below(self.value)))
    }

    /// The 95 % interval.
    pub fn interval(&mut self) -> (f64, f64) {
        let bias = self.bias();
        let mut end = |level: f64| {
            let moved = bias + normal_point(level);
            let share = normal(bias + moved / room(1.0 - self.acceleration * moved));
            quantile(&mut self.replicates, share)
        };
        (end(LEVEL / 2.0), end(1.0 - LEVEL / 2.0))
    }
}

/// A divisor, kept above 0: it is, up to a bias of some four deviations, since no acceleration is above 1/6.
fn room(divisor: f64) -> f64 {
    divisor.max(1e-9)
}

/// The acceleration of a number of several sets of items that are resampled apart, from its values without one
/// item of a set: `[set][item]`. 0 where no item matters.
pub fn acceleration(without: &[Vec<f64>]) -> f64 {
    let (mut cubes, mut squares) = (0.0, 0.0);
    for values in without.iter().filter(|values| values.len() > 1) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        // An item's influence, n − 1 times what leaving it out changes, over the n that share in the mean.
        let influences = values.iter().map(|value| (n - 1.0) * (mean - value) / n);
        for influence in influences.filter(|influence| influence.is_finite()) {
            squares += influence * influence;
            cubes += influence.powi(3);
        }
    }
    if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_bias_and_acceleration_the_ends_are_percentiles() {
        let replicates = (0..=1000).map(f64::from);
        let (low, high) = Bca::new(500.0, replicates, 0.0).unwrap().interval();
        assert!((low - 25.0).abs() < 1e-6 && (high - 975.0).abs() < 1e-6, "{low} {high}");
        assert!(Bca::new(0.0, [f64::NAN].into_iter(), 0.0).is_none());
    }

    /// Numbers from `tests/intervals.py`: scipy's, of the same resamples, all that five items have.
    #[test]
    fn the_interval_is_scipys() {
        let items = [0.25, 0.5, 1.0, 1.125, 4.0];
        let sums = (0..3125usize)
            .map(|draw| (0..5).map(|place| items[draw / 5usize.pow(place) % 5]).sum::<f64>() / 5.0);
        let check = |number: fn(f64) -> f64, expected: (f64, f64)| {
            let without: Vec<f64> = items.iter().map(|item| number((6.875 - item) / 4.0)).collect();
            let mut bca =
                Bca::new(number(1.375), sums.clone().map(number), acceleration(&[without])).unwrap();
            let (low, high) = bca.interval();
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(near(low, expected.0) && near(high, expected.1), "{low} {high} {expected:?}");
        };
        check(|mean| mean, (0.575, 3.3));
        check(|mean| (-mean).exp(), (0.036_883_167_401_240_01, 0.548_811_636_094_026_4));
    }

    #[test]
    fn acceleration_is_a_sixth_of_the_skewness_of_a_mean() {
        let items = [0.0, 0.0, 0.0, 4.0];
        let without: Vec<f64> = items.iter().map(|item| (4.0 - item) / 3.0).collect();
        // Deviations −1, −1, −1, 3: Σ³ = 24, Σ² = 12.
        assert!((acceleration(&[without]) - 24.0 / (6.0 * 12f64.powf(1.5))).abs() < 1e-12);
        assert_eq!(acceleration(&[vec![2.0; 5]]), 0.0);
    }
}
