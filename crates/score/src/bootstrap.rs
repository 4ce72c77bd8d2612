//! Resampling: the paired bootstrap of every group, and the harness's bootstrap of a perplexity's error.

use rayon::prelude::*;

use crate::chacha::ChaCha8;
use crate::interval::deviation;
use crate::mersenne::Mersenne;

/// Values of many columns for the same items, so that one draw of items serves them all.
pub struct Table {
    /// `[item][column]`, item after item.
    values: Vec<f64>,
    columns: usize,
}

impl Table {
    /// Of columns of equal length.
    pub fn new(columns: &[Vec<f64>]) -> Table {
        let items = columns.first().map_or(0, Vec::len);
        let mut values = Vec::with_capacity(items * columns.len());
        for item in 0..items {
            values.extend(columns.iter().map(|column| column[item]));
        }
        Table { values, columns: columns.len() }
    }

    fn items(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    fn row(&self, item: usize) -> &[f64] {
        &self.values[item * self.columns..][..self.columns]
    }
}

/// Sums of every column over `replicates` resamples of the items: `[replicate][column]`.
///
/// All columns see the same resample, so differences between columns are paired. Resample `r` draws from
/// stream `r` of ChaCha8 seeded with `seed`, an item per 32 bits; it depends on nothing else, in particular
/// not on threads.
pub fn resample(table: &Table, replicates: usize, seed: u64) -> Vec<Vec<f64>> {
    let n = table.items();
    (0..replicates)
        .into_par_iter()
        .map(|replicate| {
            let mut random = ChaCha8::new(seed, replicate as u64);
            let mut counts = vec![0u32; n];
            for _ in 0..n {
                counts[random.index(n)] += 1;
            }
            let mut sums = vec![0.0; table.columns];
            for (item, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let count = f64::from(count);
                for (sum, value) in sums.iter_mut().zip(table.row(item)) {
                    *sum += count * value;
                }
            }
            sums
        })
        .collect()
}

/// How many replicates the harness draws from one seed.
const CHUNK: usize = 1000;

/// For each column, the replicates of `statistic` of its mean as lm-evaluation-harness draws them: chunk `i`
/// of at most 1000 from `random.Random(i).choices`, the values added in the order drawn.
pub fn harness_replicates(table: &Table, replicates: usize, statistic: fn(f64) -> f64) -> Vec<Vec<f64>> {
    let n = table.items();
    if n == 0 || replicates == 0 {
        return vec![Vec::new(); table.columns];
    }
    let chunk = replicates.min(CHUNK);
    let chunks: Vec<Vec<f64>> = (0..replicates / chunk)
        .into_par_iter()
        .map(|seed| {
            let mut random = Mersenne::new(seed as u32);
            let mut means = Vec::with_capacity(chunk * table.columns);
            let mut sums = vec![0.0; table.columns];
            for _ in 0..chunk {
                sums.fill(0.0);
                for _ in 0..n {
                    for (sum, value) in sums.iter_mut().zip(table.row(random.choice(n))) {
                        *sum += value;
                    }
                }
                means.extend(sums.iter().map(|sum| statistic(sum / n as f64)));
            }
            means
        })
        .collect();
    (0..table.columns)
        .map(|column| chunks.iter().flatten().skip(column).step_by(table.columns).copied().collect())
        .collect()
}

/// The harness's standard error: the sample standard deviation of all replicates.
pub fn harness_stderr(table: &Table, replicates: usize, statistic: fn(f64) -> f64) -> Vec<Option<f64>> {
    let found = harness_replicates(table, replicates, statistic);
    found.iter().map(|replicates| deviation(replicates)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::{mean, quantile};

    fn perplexity(mean: f64) -> f64 {
        (-mean).exp()
    }

    #[test]
    fn the_harness_bootstrap_is_matched_to_the_last_digit() {
        let table = Table::new(&[vec![-1.0, -2.0, -3.0, -0.5]]);
        let first = &harness_replicates(&table, 1000, perplexity)[0][..3];
        assert_eq!(first, [3.490_342_957_461_841_4, 6.520_819_120_330_112_5, 8.372_897_488_127_265]);
        assert_eq!(harness_stderr(&table, 1000, perplexity), [Some(2.883_890_057_240_552_4)]);
        assert_eq!(harness_stderr(&table, 3000, perplexity), [Some(2.869_113_897_034_852)]);
    }

    #[test]
    fn columns_do_not_disturb_each_other() {
        let (a, b) = (vec![-1.0, -2.0, -3.0, -0.5], vec![5.0, 1.0, 0.0, 2.0]);
        let both = Table::new(&[b.clone(), a.clone()]);
        assert_eq!(
            harness_stderr(&both, 1000, perplexity)[1],
            harness_stderr(&Table::new(std::slice::from_ref(&a)), 1000, perplexity)[0]
        );
        let sums = resample(&both, 50, 1);
        let alone = resample(&Table::new(&[b]), 50, 1);
        assert!(sums.iter().zip(&alone).all(|(both, alone)| both[0] == alone[0]));
    }

    #[test]
    fn resamples_are_the_same_on_any_number_of_threads() {
        let table = Table::new(&[(0..37).map(|i| f64::from(i).sin()).collect()]);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (resample(&table, 100, 7), harness_stderr(&table, 4000, perplexity)))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(resample(&table, 1, 7), resample(&table, 1, 8));
    }

    /// 1000 studies of 100 items each; the interval from the resamples shall hold the truth in 93 to 97 %.
    #[test]
    fn bootstrap_intervals_cover_the_truth() {
        let covered = (0..1000)
            .into_par_iter()
            .filter(|&study| {
                let mut random = ChaCha8::new(17, study);
                let mut unit = || (f64::from(random.word()) + 0.5) / 4_294_967_296.0;
                // Differences of paired items, skewed: an exponential less a uniform; the truth is 1 − 1/2.
                let items: Vec<f64> = (0..100).map(|_| -unit().ln() - unit()).collect();
                let sums = resample(&Table::new(&[items]), 400, study);
                let mut means: Vec<f64> = sums.iter().map(|sums| sums[0] / 100.0).collect();
                (quantile(&mut means, 0.025)..=quantile(&mut means, 0.975)).contains(&0.5)
            })
            .count();
        assert!((930..=970).contains(&covered), "{covered} of 1000");
    }

    #[test]
    fn resampled_means_center_on_the_mean() {
        let items: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17)).collect();
        let sums = resample(&Table::new(std::slice::from_ref(&items)), 4000, 3);
        let means: Vec<f64> = sums.iter().map(|sums| sums[0] / 50.0).collect();
        let error = deviation(&items).unwrap() / 50f64.sqrt();
        assert!((mean(&means) - mean(&items)).abs() < 4.0 * error / 4000f64.sqrt());
        assert!((deviation(&means).unwrap() / error - 1.0).abs() < 0.05);
    }
}
