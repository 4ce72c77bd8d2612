//! One metric's resamples under every change, and the intervals and levels made of them.
//!
//! What is used where is chosen by coverage (`coverage`): BCa where values have bounds, since it keeps within them;
//! bootstrap-t where they have none and may be skewed; for a difference of perplexities, which no mean is, MOVER of
//! the two bootstrap-t intervals, for their ratio symmetric bootstrap-t of its logarithm, which is one; for a difference of shares that rests on few items, Tango's. Where all items
//! are alike every resample is the same and says nothing: shares of them have Wilson's interval, a difference that all
//! items have alike MOVER of the two (Newcombe's, for shares).
//!
//! The level of no difference is the exact one of pairs where values have bounds: McNemar's of shares, that of items
//! swapped at random ([`swap_level`]) of other values. Without bounds it is that of the symmetric bootstrap-t interval.

use crate::bca::{Bca, acceleration};
use crate::bootstrap::{Table, counts, resample, swap_level, swaps};
use crate::interval::{Estimate, correlation, difference, wilson};
use crate::metrics::{Pool, Spread};
use crate::studentised::{Studentised, Sums};
use crate::summary::{Column, Resampling};
use crate::tango::Discordant;

/// Differing items from which on resamples of a difference of shares are trusted.
const FEW: f64 = 10.0;

/// Both ends of an interval, where there is one.
type Ends = Option<(f64, f64)>;

/// A metric with its resamples.
pub struct Resampled<'a> {
    column: &'a Column,
    baseline: usize,
    n: usize,
    /// Σ total / Σ weight under every change.
    ratios: Vec<f64>,
    /// `[change][member]`: totals less the ratio times the weight.
    residuals: Vec<Vec<f64>>,
    /// Sums over the members, then over each resample of them; see [`Resampled::sums`].
    whole: Vec<f64>,
    replicates: Vec<Vec<f64>>,
    per_change: usize,
    /// Sums of every change's differences from the baseline over the swapped items, `[draw][change]`; where values have
    /// bounds.
    swapped: Vec<Vec<f64>>,
}

impl<'a> Resampled<'a> {
    /// Draws; the same items for all changes, hence paired.
    pub fn new(column: &'a Column, baseline: usize, n: usize, resampling: Resampling) -> Self {
        let weights = &column.weights;
        let all: f64 = weights.iter().sum();
        let ratios: Vec<f64> = column.totals.iter().map(|totals| totals.iter().sum::<f64>() / all).collect();
        let of = |(ratio, totals): (&f64, &Vec<f64>)| -> Vec<f64> {
            totals.iter().zip(weights).map(|(total, weight)| total - ratio * weight).collect()
        };
        let residuals: Vec<Vec<f64>> = ratios.iter().zip(&column.totals).map(of).collect();
        let times = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f64>>();
        let mut flat = vec![weights.clone()];
        let studentised = !matches!(column.metric.spread, Spread::Share | Spread::Unit | Spread::Bounded);
        if studentised {
            flat.push(times(weights, weights));
        }
        let shared = flat.len();
        for of_change in &residuals {
            flat.push(of_change.clone());
            if studentised {
                let paired = minus(of_change, &residuals[baseline]);
                flat.push(times(of_change, of_change));
                flat.push(times(of_change, weights));
                flat.push(times(&paired, &paired));
            }
        }
        let per_change = (flat.len() - shared) / residuals.len().max(1);
        let whole = flat.iter().map(|values| values.iter().sum()).collect();
        let replicates = resample(&Table::new(&flat), resampling.replicates, resampling.seed, counts);
        let swapped = match column.metric.spread {
            Spread::Unit | Spread::Bounded => {
                let old = &column.totals[baseline];
                let differences: Vec<Vec<f64>> = column.totals.iter().map(|new| minus(new, old)).collect();
                resample(&Table::new(&differences), resampling.replicates, resampling.seed, swaps)
            }
            Spread::Share | Spread::Mean | Spread::Resampled | Spread::Ratio => Vec::new(),
        };
        Resampled { column, baseline, n, ratios, residuals, whole, replicates, per_change, swapped }
    }

    fn value(&self, ratio: f64) -> f64 {
        self.column.metric.pool.value(ratio)
    }

    fn place(&self, change: usize) -> usize {
        self.whole.len() - (self.ratios.len() - change) * self.per_change
    }

    /// The number under a change, of one resample.
    fn replicate(&self, sums: &[f64], change: usize) -> f64 {
        self.value(self.ratios[change] + sums[self.place(change)] / sums[0])
    }

    /// The numbers under a change without each member.
    fn without(&self, change: usize) -> Vec<f64> {
        let (totals, weights) = (&self.column.totals[change], &self.column.weights);
        let (total, weight): (f64, f64) = (totals.iter().sum(), weights.iter().sum());
        let members = totals.iter().zip(weights).filter(|(_, weight)| **weight > 0.0);
        members.map(|(t, w)| self.value((total - t) / (weight - w))).collect()
    }

    fn bca(&self, value: f64, number: impl Fn(&[f64]) -> f64, without: Vec<f64>) -> Option<Bca> {
        let replicates = self.replicates.iter().map(|sums| number(sums));
        Bca::new(value, replicates, acceleration(&[without])).filter(|_| self.n > 1)
    }

    /// Sums of the residuals under a change.
    fn sums(&self, sums: &[f64], change: usize) -> Sums {
        let of = &sums[self.place(change)..][..self.per_change];
        let (weights, weight_squares) = (sums[0], sums[1]);
        Sums { residuals: of[0], squares: of[1], products: of[2], weights, weight_squares }
    }

    /// Sums of the residuals' differences from the baseline.
    fn paired(&self, sums: &[f64], change: usize) -> Sums {
        let (new, old) = (self.sums(sums, change), self.sums(sums, self.baseline));
        Sums {
            residuals: new.residuals - old.residuals,
            squares: sums[self.place(change) + 3],
            products: new.products - old.products,
            ..new
        }
    }

    fn student(&self, value: f64, of: impl Fn(&[f64]) -> Sums) -> Option<Studentised> {
        let replicates = self.replicates.iter().map(|sums| of(sums));
        Studentised::new(value, of(&self.whole), self.n, replicates)
    }

    /// The 95 % interval of the value under a change, and its name.
    pub fn interval(&self, change: usize) -> (Ends, &'static str) {
        let value = self.value(self.ratios[change]);
        let named = |ends: Ends, name: &'static str| (ends, if ends.is_some() { name } else { "none" });
        match self.column.metric.spread {
            Spread::Share => named(wilson(value, self.n), "wilson"),
            Spread::Unit | Spread::Bounded => {
                let of = |sums: &[f64]| self.replicate(sums, change);
                let ends = self.bca(value, of, self.without(change)).map(|mut bca| bca.interval());
                match ends.filter(|(low, high)| low < high) {
                    None if self.column.metric.spread == Spread::Unit && (value == 0.0 || value == 1.0) => {
                        named(wilson(value, self.n), "wilson")
                    }
                    ends => named(ends, "bca"),
                }
            }
            Spread::Mean | Spread::Resampled | Spread::Ratio => {
                let Some(mut student) = self.student(self.ratios[change], |sums| self.sums(sums, change))
                else {
                    return (None, "none");
                };
                named(student.interval().map(|ends| self.pooled(ends)), student.name())
            }
        }
    }

    /// The ends of a ratio as ends of the number made of it.
    fn pooled(&self, (low, high): (f64, f64)) -> (f64, f64) {
        let (one, other) = (self.value(low), self.value(high));
        (one.min(other), one.max(other))
    }

    /// The 95 % interval of the difference from the baseline, the level of no difference, and the interval's name.
    pub fn difference(&self, change: usize) -> (Ends, Option<f64>, &'static str) {
        let base = self.baseline;
        match self.column.metric.spread {
            _ if self.n < 2 => (None, None, "none"),
            Spread::Share if self.discordant(change).is_scarce(FEW) => {
                let found = self.discordant(change);
                (Some(found.interval()), Some(found.level()), "tango")
            }
            Spread::Share | Spread::Unit | Spread::Bounded => {
                let without = minus(&self.without(change), &self.without(base));
                let number = |sums: &[f64]| self.replicate(sums, change) - self.replicate(sums, base);
                let value = self.value(self.ratios[change]) - self.value(self.ratios[base]);
                let Some(mut bca) = self.bca(value, number, without) else { return (None, None, "none") };
                let (level, recovered_name) = match self.column.metric.spread {
                    Spread::Share => (self.discordant(change).level(), "newcombe"),
                    _ => (self.swap_level(change), "mover"),
                };
                let ends = bca.interval();
                if ends.0 < ends.1 {
                    return (Some(ends), Some(level), "bca");
                }
                let recovered = self.recovered(change).filter(|(low, high)| low < high);
                let name = if recovered.is_some() { recovered_name } else { "none" };
                (recovered, Some(level), name)
            }
            Spread::Mean | Spread::Resampled | Spread::Ratio => {
                let Some(student) = self.paired_student(change) else {
                    return (None, None, "none");
                };
                match self.column.metric.pool {
                    Pool::Perplexity => (self.recovered(change), Some(student.level()), "mover"),
                    // Both are linear, so the difference of the numbers is the number of the difference.
                    Pool::Mean | Pool::Bits => {
                        let ends = student.symmetric().map(|ends| self.pooled(ends));
                        (ends, Some(student.level()), student.name())
                    }
                }
            }
        }
    }

    fn paired_student(&self, change: usize) -> Option<Studentised> {
        let value = self.ratios[change] - self.ratios[self.baseline];
        self.student(value, |sums| self.paired(sums, change))
    }

    /// The 95 % interval of a perplexity's ratio to the baseline: its logarithm is a difference of means, so it has the
    /// interval of such, which holds 0 where the level of no difference is above 5 %.
    pub fn ratio(&self, change: usize) -> Ends {
        match self.column.metric.pool {
            Pool::Perplexity => {
                let ends = self.paired_student(change)?.symmetric()?;
                Some(self.pooled(ends)).filter(|(low, high)| low < high)
            }
            Pool::Mean | Pool::Bits => None,
        }
    }

    /// The level of no difference by swapping items between a change and the baseline.
    fn swap_level(&self, change: usize) -> f64 {
        let (new, old) = (&self.column.totals[change], &self.column.totals[self.baseline]);
        let seen: f64 = minus(new, old).iter().sum();
        // What is swapped counts against the rest.
        let swapped: Vec<f64> = self.swapped.iter().map(|sums| seen - 2.0 * sums[change]).collect();
        swap_level(seen, &swapped)
    }

    /// Of zeros and ones: who holds under the change alone, and unchanged alone.
    fn discordant(&self, change: usize) -> Discordant {
        let of = |change: usize| -> Vec<f64> {
            let members = self.column.totals[change].iter().zip(&self.column.weights);
            members.filter(|(_, weight)| **weight > 0.0).map(|(total, _)| *total).collect()
        };
        Discordant::of(&of(change), &of(self.baseline))
    }

    /// The difference's interval from those of both values.
    fn recovered(&self, change: usize) -> Ends {
        let estimate = |change: usize| {
            let (low, high) = self.interval(change).0?;
            Some(Estimate { value: self.value(self.ratios[change]), low, high })
        };
        let together = correlation(&self.residuals[change], &self.residuals[self.baseline]);
        Some(difference(estimate(change)?, estimate(self.baseline)?, together))
    }
}

fn minus(new: &[f64], old: &[f64]) -> Vec<f64> {
    new.iter().zip(old).map(|(new, old)| new - old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::METRICS;

    /// Pages that differ widely among each other and hardly from their changed selves: the perplexities' own intervals
    /// are wide, and so is MOVER's of their difference, but their ratio is known well.
    #[test]
    fn a_ratio_of_perplexities_is_that_of_pairs() {
        let metric = METRICS.iter().find(|metric| metric.name == "word_perplexity").unwrap();
        let weights: Vec<f64> = (0..12).map(|page| f64::from(100 + 17 * page % 60)).collect();
        let loss = |page: usize| 2.0 + 0.25 * (page % 7) as f64;
        let more = |page: usize| 0.02 + 0.001 * (page % 3) as f64;
        let old: Vec<f64> = weights.iter().enumerate().map(|(page, w)| -w * loss(page)).collect();
        let new: Vec<f64> =
            weights.iter().enumerate().map(|(page, w)| -w * (loss(page) + more(page))).collect();
        let alike: Vec<f64> = old.iter().zip(&weights).map(|(old, w)| old - 0.5 * w).collect();
        let column = Column { metric, totals: vec![old, new, alike], weights };
        let resampling = Resampling { replicates: 1000, seed: 3, harness_replicates: 0 };
        let resampled = Resampled::new(&column, 0, 12, resampling);
        let (low, high) = resampled.ratio(1).unwrap();
        let ratio = column.value(1) / column.value(0);
        assert!(low < ratio && ratio < high && low > 1.019 && high < 1.023, "{low} {ratio} {high}");
        let ((low, high), level, name) = (
            resampled.difference(1).0.unwrap(),
            resampled.difference(1).1.unwrap(),
            resampled.difference(1).2,
        );
        assert!(low < 0.0 && high > 0.0 && level < 0.05 && name == "mover", "{low} {high} {level}");
        // No interval without a width.
        assert_eq!(resampled.ratio(2), None);
    }
}
