//! Resampled differences of numbers that are no means: one draw of items, the number under every intervention.

use rayon::prelude::*;
use rote_artifact::tables::Summary;

use crate::bca::{Bca, acceleration};
use crate::chacha::ChaCha8;
use crate::summary::{Resampling, holm};

/// How often each of `n` items is drawn in resample `replicate`: stream `replicate` of ChaCha8 seeded with
/// `seed`, as in [`crate::bootstrap::resample`].
pub fn counts(random: &mut ChaCha8, n: usize) -> Vec<u32> {
    let mut counts = vec![0; n];
    for _ in 0..n {
        counts[random.index(n)] += 1;
    }
    counts
}

/// Gives `rows`, one per change, the BCa interval of their difference from the baseline, its level and that level
/// after Holm's correction; and the interval of the value itself where it has none. `sizes` are the sets that are
/// resampled apart; `number(change, counts)` is the number when the items of each set count so often, also where
/// they count less often in all (leaving out each item in turn gives the acceleration). Nothing is given where no
/// set has two items.
pub fn differences(
    rows: &mut [Summary],
    baseline: usize,
    sizes: &[usize],
    resampling: Resampling,
    number: &(impl Fn(usize, &[Vec<u32>]) -> f64 + Sync),
) {
    if sizes.iter().all(|size| *size < 2) {
        return;
    }
    let under_all = |drawn: &[Vec<u32>]| (0..rows.len()).map(|change| number(change, drawn)).collect();
    let replicates: Vec<Vec<f64>> = (0..resampling.replicates)
        .into_par_iter()
        .map(|replicate| {
            let mut random = ChaCha8::new(resampling.seed, replicate as u64);
            let drawn: Vec<Vec<u32>> = sizes.iter().map(|&size| counts(&mut random, size)).collect();
            under_all(&drawn)
        })
        .collect();
    let without: Vec<Vec<Vec<f64>>> = (0..sizes.len())
        .map(|set| {
            let leave_out = |item: usize| {
                let mut drawn: Vec<Vec<u32>> = sizes.iter().map(|&size| vec![1; size]).collect();
                drawn[set][item] = 0;
                under_all(&drawn)
            };
            // A set of one item has nothing left without it, and is the same in every resample.
            (0..sizes[set]).into_par_iter().filter(|_| sizes[set] > 1).map(leave_out).collect()
        })
        .collect();
    let bca = |value: f64, of: &dyn Fn(&[f64]) -> f64| {
        let without: Vec<Vec<f64>> =
            without.iter().map(|set| set.iter().map(|numbers| of(numbers)).collect()).collect();
        Bca::new(value, replicates.iter().map(|numbers| of(numbers)), acceleration(&without))
    };
    for (change, row) in rows.iter_mut().enumerate() {
        if row.interval == "none"
            && let Some((low, high)) =
                bca(row.value, &|numbers| numbers[change]).map(|mut bca| bca.interval())
        {
            (row.ci_low, row.ci_high) = (Some(low), Some(high));
            row.interval = "bca".to_string();
        }
        if change == baseline {
            continue;
        }
        let Some(mut bca) = bca(row.difference, &|numbers| numbers[change] - numbers[baseline]) else {
            continue;
        };
        let (low, high) = bca.interval();
        (row.difference_low, row.difference_high) = (Some(low), Some(high));
        row.difference_interval = "bca".to_string();
        row.p_value = Some(bca.level());
    }
    adjust(rows);
}

/// Holm's correction over all rows that have a level.
pub fn adjust(rows: &mut [Summary]) {
    let levels: Vec<f64> = rows.iter().filter_map(|row| row.p_value).collect();
    let mut adjusted = holm(&levels).into_iter();
    for row in rows.iter_mut().filter(|row| row.p_value.is_some()) {
        row.p_adjusted = adjusted.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(threads: usize) -> Vec<Summary> {
        let values = [[3.0, 1.0, 4.0, 1.0, 5.0], [2.0, 1.0, 1.0, 0.0, 3.0]];
        let row = || Summary { interval: "none".to_string(), ..Summary::default() };
        let mut rows = vec![row(), row()];
        (rows[0].value, rows[1].value, rows[1].difference) = (2.8, 1.4, -1.4);
        let resampling = Resampling { replicates: 2000, seed: 5, harness_replicates: 0 };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            differences(&mut rows, 0, &[5], resampling, &|change, drawn| {
                let counted = drawn[0].iter().zip(values[change]);
                counted.map(|(count, value)| f64::from(*count) * value).sum::<f64>() / 5.0
            });
        });
        rows
    }

    #[test]
    fn differences_are_paired_and_the_same_on_any_number_of_threads() {
        let rows = run(1);
        assert_eq!(rows, run(3));
        // Every item falls by at least 0, four of five by at least 1.
        assert!(rows[1].difference_high.unwrap() < 0.0 && rows[1].p_value.unwrap() < 0.01);
        assert!(rows[1].ci_high.unwrap() > rows[0].ci_low.unwrap(), "the values' intervals overlap");
        assert_eq!((rows[0].p_value, rows[1].p_value), (None, rows[1].p_adjusted));
        assert_eq!((rows[0].interval.as_str(), rows[1].difference_interval.as_str()), ("bca", "bca"));
    }
}
