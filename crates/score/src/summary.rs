//! From the samples of a group to one row per metric and intervention: value, error, interval, difference
//! from the model as it is.

use rayon::prelude::*;
use rote_artifact::tables::Summary;

use crate::bootstrap::{Table, harness_stderr, resample};
use crate::interval::{mean_stderr, quantile, student, wilson};
use crate::metrics::{Metric, Spread};
use crate::paired::adjust;
use crate::subjects::Group;

/// How uncertainty is computed.
#[derive(Clone, Copy, Debug)]
pub struct Resampling {
    /// Resamples of the paired bootstrap.
    pub replicates: usize,
    /// Its seed.
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

    fn value(&self, change: usize) -> f64 {
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
    let mut flat = Vec::new();
    for column in columns {
        flat.extend(column.totals.iter().cloned());
        flat.push(column.weights.clone());
    }
    let sums = resample(&Table::new(&flat), resampling.replicates, resampling.seed);
    let width = changes.len() + 1;
    let rows: Vec<Vec<Summary>> = columns
        .par_iter()
        .enumerate()
        .map(|(place, column)| {
            let replicate = |sums: &[f64], change: usize| {
                let of_metric = &sums[place * width..][..width];
                column.metric.pool.value(of_metric[change] / of_metric[width - 1])
            };
            let replicates = |change: usize| sums.iter().map(move |sums| replicate(sums, change));
            rows_of(group, column, changes, baseline, resampling, &replicates)
        })
        .collect();
    rows.into_iter().flatten().collect()
}

fn rows_of<I: Iterator<Item = f64>>(
    group: &Group,
    column: &Column,
    changes: &[String],
    baseline: usize,
    resampling: Resampling,
    replicates: &(impl Fn(usize) -> I + Sync),
) -> Vec<Summary> {
    let n = column.weights.iter().filter(|weight| **weight > 0.0).count();
    let at_none = column.value(baseline);
    let errors = stderrs(column, changes.len(), n, resampling.harness_replicates);
    let mut rows: Vec<Summary> = (0..changes.len())
        .into_par_iter()
        .map(|change| {
            let value = column.value(change);
            let interval = match column.metric.spread {
                Spread::Share => wilson(value, n),
                Spread::Mean => errors[change].and_then(|error| student(value, error, n)),
                Spread::Skewed | Spread::Resampled | Spread::Ratio => percentiles(replicates(change), n),
            };
            let differences: Vec<f64> = match change == baseline {
                true => Vec::new(),
                false => replicates(change).zip(replicates(baseline)).map(|(new, old)| new - old).collect(),
            };
            let p_value = p_value(&differences, n);
            let spread = percentiles(differences.into_iter(), n);
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
                interval: column.metric.spread.interval().to_string(),
                difference: if change == baseline { 0.0 } else { value - at_none },
                difference_low: spread.map(|(low, _)| low),
                difference_high: spread.map(|(_, high)| high),
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
        Spread::Share | Spread::Mean | Spread::Skewed => {
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

/// The 2.5 % and 97.5 % points of replicates; none of one item, whose resamples are all itself.
pub(crate) fn percentiles(replicates: impl Iterator<Item = f64>, n: usize) -> Option<(f64, f64)> {
    let mut sorted: Vec<f64> = replicates.filter(|value| !value.is_nan()).collect();
    if n < 2 || sorted.is_empty() {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    Some((quantile(&sorted, 0.025), quantile(&sorted, 0.975)))
}

/// The achieved two-sided level of no difference: twice the share of resampled differences beyond zero on
/// the rarer side. With R resamples it is at least 2 / (R + 1).
pub(crate) fn p_value(differences: &[f64], n: usize) -> Option<f64> {
    if n < 2 || differences.is_empty() {
        return None;
    }
    let below = differences.iter().filter(|difference| **difference <= 0.0).count();
    let above = differences.iter().filter(|difference| **difference >= 0.0).count();
    Some((2.0 * (1 + below.min(above)) as f64 / (differences.len() + 1) as f64).min(1.0))
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
    use crate::chacha::ChaCha8;
    use crate::metrics::METRICS;

    #[test]
    fn holm_steps_down_and_keeps_the_order() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        let expected = [0.03, 0.06, 0.06, 0.02];
        assert!(adjusted.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{adjusted:?}");
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn the_level_of_no_difference_is_one_and_of_a_sure_one_the_smallest_possible() {
        assert_eq!(p_value(&[0.0; 99], 10), Some(1.0));
        assert_eq!(p_value(&[-1.0; 99], 10), Some(0.02));
        assert_eq!(p_value(&[-1.0; 99], 1), None);
    }

    /// What [`summarise`] says of one simulated study of 150 paired items: recall that falls from 0.8 to about
    /// 0.5, and a perplexity over items of different lengths.
    fn study(number: u64) -> Vec<Summary> {
        let mut random = ChaCha8::new(29, number);
        let mut unit = || (f64::from(random.word()) + 0.5) / 4_294_967_296.0;
        let mut totals = [[vec![], vec![]], [vec![], vec![]]];
        let mut weights = vec![];
        for _ in 0..150 {
            let recited = unit() < 0.8;
            totals[0][0].push(f64::from(u8::from(recited)));
            totals[0][1].push(f64::from(u8::from(recited && unit() < 0.625)));
            // Losses per token are means of skewed ones; the same item's under the change is half the loss
            // before and another: means 1 and 1.5.
            let length = 10.0 + (unit() * 40.0).floor();
            let mut loss = || -(0..4).map(|_| unit().ln()).sum::<f64>() / 4.0;
            let before = loss();
            totals[1][0].push(-length * before);
            totals[1][1].push(-length * (0.5 * before + loss()));
            weights.push(length);
        }
        let metric = |name| METRICS.iter().find(|m| (m.kind, m.name) == ("sequence", name)).unwrap();
        let [recall, perplexity] = totals;
        let columns = [
            Column { metric: metric("exact_match"), totals: recall.to_vec(), weights: vec![1.0; 150] },
            Column { metric: metric("perplexity"), totals: perplexity.to_vec(), weights },
        ];
        let group = Group {
            suite: String::new(),
            kind: "sequence".to_string(),
            role: String::new(),
            seen: None,
            prefix: None,
            members: (0..150).collect(),
        };
        let changes = ["none".to_string(), "attn.identity@0".to_string()];
        let resampling = Resampling { replicates: 400, seed: number, harness_replicates: 0 };
        summarise(&group, &columns, &changes, 0, resampling)
    }

    /// 1000 studies; the 95 % intervals shall hold the truth in 93 to 97 % of them.
    #[test]
    fn intervals_of_values_and_of_paired_differences_cover_the_truth() {
        let studies: Vec<Vec<Summary>> = (0..1000).into_par_iter().map(study).collect();
        let (before, after) = (1f64.exp(), 1.5f64.exp());
        let truths = [(0, 0.8, 0.0), (1, 0.5, -0.3), (2, before, 0.0), (3, after, after - before)];
        for (row, value, difference) in truths {
            let hold = |pick: fn(&Summary) -> (Option<f64>, Option<f64>), truth: f64| {
                let ends = studies.iter().map(|study| pick(&study[row]));
                ends.filter(|(low, high)| low.unwrap() <= truth && truth <= high.unwrap()).count()
            };
            let values = hold(|row| (row.ci_low, row.ci_high), value);
            assert!((930..=970).contains(&values), "row {row}: {values} of 1000 intervals hold {value}");
            if row % 2 == 1 {
                let differences = hold(|row| (row.difference_low, row.difference_high), difference);
                assert!((930..=970).contains(&differences), "row {row}: {differences} of 1000 differences");
            }
        }
    }
}
