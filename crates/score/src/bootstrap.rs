//! Resampling: the paired bootstrap of every group, the swaps that make a level of no difference, and the harness's
//! bootstrap of a perplexity's error.

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

/// How often each of `n` items is drawn in a resample of as many: an item per 32 bits.
pub fn counts(random: &mut ChaCha8, n: usize) -> Vec<u32> {
    let mut counts = vec![0; n];
    for _ in 0..n {
        counts[random.index(n)] += 1;
    }
    counts
}

/// Which of `n` items are swapped, each by a throw of a coin: 32 of them per 32 bits, the lowest bit first.
pub fn swaps(random: &mut ChaCha8, n: usize) -> Vec<u32> {
    let mut swaps = Vec::with_capacity(n);
    while swaps.len() < n {
        let word = random.word();
        swaps.extend((0..32.min(n - swaps.len())).map(|bit| word >> bit & 1));
    }
    swaps
}

/// Sums of every column over the items as often as `draw` says, `replicates` times: `[replicate][column]`.
///
/// All columns see the same draw, so differences between columns are paired. Draw `r` is made from stream `r` of
/// ChaCha8 seeded with `seed`; it depends on nothing else, in particular not on threads.
pub fn resample(
    table: &Table,
    replicates: usize,
    seed: u64,
    draw: fn(&mut ChaCha8, usize) -> Vec<u32>,
) -> Vec<Vec<f64>> {
    (0..replicates)
        .into_par_iter()
        .map(|replicate| {
            let drawn = draw(&mut ChaCha8::new(seed, replicate as u64), table.items());
            let mut sums = vec![0.0; table.columns];
            for (item, &count) in drawn.iter().enumerate().filter(|(_, count)| **count > 0) {
                let count = f64::from(count);
                for (sum, value) in sums.iter_mut().zip(table.row(item)) {
                    *sum += count * value;
                }
            }
            sums
        })
        .collect()
}

/// The two-sided level of no difference, from what the difference would be had items been swapped: the share of
/// swaps that differ at least as far, the observed one among them; at least 1 / (R + 1).
///
/// Were there no difference, "changed" and "unchanged" would be mere labels of an item's two answers and each swap as
/// likely as what was seen: Fisher's randomisation test of pairs. It holds for few items and for any distribution,
/// where a level read off a BCa interval does not: where 41 of 42 items lose all no resample comes near zero, and the
/// acceleration makes 0.4 % of what is less than 1 in 10¹².
///
/// Source: Fisher, The Design of Experiments (1935), §21; with drawn swaps Phipson and Smyth, "Permutation P-values
/// should never be zero", Statistical Applications in Genetics and Molecular Biology 9 (2010) 39.
pub fn swap_level(seen: f64, swapped: &[f64]) -> f64 {
    // Equal sums, added up in another order, differ in their last digits.
    let rounding = 1e-12 * swapped.iter().fold(seen.abs(), |most, value| most.max(value.abs()));
    let far = swapped.iter().filter(|value| value.abs() >= seen.abs() - rounding).count();
    (1 + far) as f64 / (1 + swapped.len()) as f64
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
        let sums = resample(&both, 50, 1, counts);
        let alone = resample(&Table::new(&[b]), 50, 1, counts);
        assert!(sums.iter().zip(&alone).all(|(both, alone)| both[0] == alone[0]));
    }

    #[test]
    fn resamples_are_the_same_on_any_number_of_threads() {
        let table = Table::new(&[(0..37).map(|i| f64::from(i).sin()).collect()]);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (resample(&table, 100, 7, counts), harness_stderr(&table, 4000, perplexity)))
        };
        assert_eq!(on(1), on(3));
        assert_ne!(resample(&table, 1, 7, counts), resample(&table, 1, 8, counts));
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
                let sums = resample(&Table::new(&[items]), 400, study, counts);
                let mut means: Vec<f64> = sums.iter().map(|sums| sums[0] / 100.0).collect();
                (quantile(&mut means, 0.025)..=quantile(&mut means, 0.975)).contains(&0.5)
            })
            .count();
        assert!((930..=970).contains(&covered), "{covered} of 1000");
    }

    #[test]
    fn each_item_is_swapped_half_of_the_time_and_apart_from_the_others() {
        let swaps: Vec<Vec<u32>> =
            (0..4000).map(|replicate| swaps(&mut ChaCha8::new(3, replicate), 70)).collect();
        let share = |of: &dyn Fn(&Vec<u32>) -> u32| swaps.iter().map(of).sum::<u32>() as f64 / 4000.0;
        for item in 0..70 {
            assert!((share(&|swaps| swaps[item]) - 0.5).abs() < 0.04);
            let next = (item + 1) % 70;
            assert!((share(&|swaps| swaps[item] & swaps[next]) - 0.25).abs() < 0.04);
        }
        assert!(swaps.iter().all(|swaps| swaps.len() == 70));
    }

    #[test]
    fn a_level_is_the_share_of_swaps_that_differ_as_far() {
        let swapped = |items: &[f64], swaps: usize| {
            let signed = |(item, value): (usize, &f64)| if swaps >> item & 1 == 1 { -value } else { *value };
            items.iter().enumerate().rev().map(signed).sum::<f64>()
        };
        let level = |items: &[f64]| {
            let all: Vec<f64> = (0..1 << items.len()).map(|swaps| swapped(items, swaps)).collect();
            swap_level(items.iter().sum(), &all)
        };
        // Of eight swaps two differ by 0.6; that sum, added up the other way round, is no other number.
        assert_eq!(level(&[0.1, 0.2, 0.3]), 3.0 / 9.0);
        // From `tests/intervals.py`, scipy's: 168 of 256 swaps, and here the observed once more.
        let items = [-0.75, -0.5, 0.0, 0.125, 3.0, -0.25, 1.5, -0.875];
        assert_eq!(level(&items), (1.0 + 0.65625 * 256.0) / 257.0);
        assert_eq!(swap_level(0.0, &[0.0; 99]), 1.0);
        assert_eq!(swap_level(-41.0, &[7.0; 999]), 0.001);
    }

    #[test]
    fn resampled_means_center_on_the_mean() {
        let items: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17)).collect();
        let sums = resample(&Table::new(std::slice::from_ref(&items)), 4000, 3, counts);
        let means: Vec<f64> = sums.iter().map(|sums| sums[0] / 50.0).collect();
        let error = deviation(&items).unwrap() / 50f64.sqrt();
        assert!((mean(&means) - mean(&items)).abs() < 4.0 * error / 4000f64.sqrt());
        assert!((deviation(&means).unwrap() / error - 1.0).abs() < 0.05);
    }
}
