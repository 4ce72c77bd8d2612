//! From the samples of a group to one row per metric and intervention: value, error, interval, difference
//! from the model as it is.

use rayon::prelude::*;
use rote_artifact::tables::Summary;

use crate::bootstrap::{Table, harness_stderr};
use crate::interval::mean_stderr;
use crate::metrics::{Metric, Spread};
use crate::paired::adjust;
use crate::resampled::Resampled;
use crate::subjects::Group;

/// How uncertainty is computed.
#[derive(Clone, Copy, Debug)]
pub struct Resampling {
    /// Resamples of the paired bootstrap, and swaps of items.
    pub replicates: usize,
    /// Seed of both.
    pub seed: u64,
    /// Replicates of the harness's bootstrap of a perplexity's error.
    pub harness_replicates: usize,
}

/// One metric's samples for all members of a group.
pub struct Column {
    /// The metric.
    pub metric: &'static Metric,
    /// `[change][member]`; 0 where the metric does not apply.
    pub totals: Vec<Vec<f64>>,
    /// `[member]`; 0 where the metric does not apply.
    pub weights: Vec<f64>,
}

impl Column {
    /// Totals of the members it applies to.
    fn values(&self, change: usize) -> Vec<f64> {
        let both = self.totals[change].iter().zip(&self.weights);
        both.filter(|(_, weight)| **weight > 0.0).map(|(total, _)| *total).collect()
    }

    /// The metric under a change.
    pub(crate) fn value(&self, change: usize) -> f64 {
        let total: f64 = self.totals[change].iter().sum();
        self.metric.pool.value(total / self.weights.iter().sum::<f64>())
    }
}

/// The rows of one group, metric by metric, each under every change in order.
pub fn summarise(
    group: &Group,
    columns: &[Column],
    changes: &[String],
    baseline: usize,
    resampling: Resampling,
) -> Vec<Summary> {
    let rows = columns.par_iter().map(|column| rows_of(group, column, changes, baseline, resampling));
    rows.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn rows_of(
    group: &Group,
    column: &Column,
    changes: &[String],
    baseline: usize,
    resampling: Resampling,
) -> Vec<Summary> {
    let n = column.weights.iter().filter(|weight| **weight > 0.0).count();
    let at_none = column.value(baseline);
    let errors = stderrs(column, changes.len(), n, resampling.harness_replicates);
    let resampled = Resampled::new(column, baseline, n, resampling);
    let mut rows: Vec<Summary> = (0..changes.len())
        .into_par_iter()
        .map(|change| {
            let value = column.value(change);
            let (interval, how) = resampled.interval(change);
            let difference = (change != baseline).then(|| resampled.difference(change));
            let (spread, p_value, how_different) = difference.unwrap_or((None, None, "none"));
            let ratio = (change != baseline).then(|| resampled.ratio(change)).flatten();
            Summary {
                change: changes[change].clone(),
                suite: group.suite.clone(),
                role: group.role.clone(),
                seen: group.seen,
                prefix: group.prefix,
                metric: column.metric.name.to_string(),
                value,
                stderr: errors[change],
                ci_low: interval.map(|(low, _)| low),
                ci_high: interval.map(|(_, high)| high),
                n: n as u32,
                baseline: at_none,
                relative_change: (at_none != 0.0).then(|| (value - at_none) / at_none.abs()),
                interval: how.to_string(),
                difference: if change == baseline { 0.0 } else { value - at_none },
                difference_low: spread.map(|(low, _)| low),
                difference_high: spread.map(|(_, high)| high),
                difference_interval: how_different.to_string(),
                ratio_low: ratio.map(|(low, _)| low),
                ratio_high: ratio.map(|(_, high)| high),
                p_value,
                p_adjusted: None,
            }
        })
        .collect();
    adjust(&mut rows);
    rows
}

/// Standard errors under every change, where the harness has them.
fn stderrs(column: &Column, changes: usize, n: usize, replicates: usize) -> Vec<Option<f64>> {
    match column.metric.spread {
        Spread::Share | Spread::Mean | Spread::Unit | Spread::Bounded => {
            (0..changes).map(|change| mean_stderr(&column.values(change))).collect()
        }
        Spread::Resampled if n > 1 && replicates > 0 => {
            let values: Vec<Vec<f64>> = (0..changes).map(|change| column.values(change)).collect();
            let pool = column.metric.pool;
            // A function pointer carries no state, so each pool has its own.
            let statistic: fn(f64) -> f64 = match pool {
                crate::metrics::Pool::Mean => |mean| mean,
                crate::metrics::Pool::Perplexity => |mean| (-mean).exp(),
                crate::metrics::Pool::Bits => |mean| -mean / std::f64::consts::LN_2,
            };
            harness_stderr(&Table::new(&values), replicates, statistic)
        }
        Spread::Resampled | Spread::Ratio => vec![None; changes],
    }
}

/// Holm's step-down correction: the smallest of m levels times m, the next times m − 1, and never less than
/// one before it.
pub(crate) fn holm(levels: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..levels.len()).collect();
    order.sort_by(|&a, &b| levels[a].total_cmp(&levels[b]));
    let mut adjusted = vec![0.0; levels.len()];
    let mut highest: f64 = 0.0;
    for (rank, &place) in order.iter().enumerate() {
        highest = highest.max(levels[place] * (levels.len() - rank) as f64).min(1.0);
        adjusted[place] = highest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holm_steps_down_and_keeps_the_order() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        let expected = [0.03, 0.06, 0.06, 0.02];
        assert!(adjusted.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{adjusted:?}");
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
