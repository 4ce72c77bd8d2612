//! Resampled differences of numbers that are no means: one draw of items, the number under every intervention.

use rayon::prelude::*;
use rote_artifact::tables::Summary;

use crate::bca::{Bca, acceleration};
use crate::bootstrap::{counts, swap_level, swaps};
use crate::chacha::ChaCha8;
use crate::summary::{Resampling, holm};

/// The items a number is made of: how often each counts, and whose answer to it.
pub struct Draw {
    /// `[set][item]`.
    counts: Vec<Vec<u32>>,
    /// `[set][item]`: 1 where the unchanged model's answer stands in for the change's; empty where none does.
    unchanged: Vec<Vec<u32>>,
}

impl Draw {
    /// The change's own answers, so often.
    fn of(counts: Vec<Vec<u32>>) -> Draw {
        Draw { counts, unchanged: Vec::new() }
    }

    /// How often an item of a set counts with the answer given by the unchanged model, or by that under the change.
    pub fn count(&self, set: usize, item: usize, unchanged: bool) -> u32 {
        let stands_in = self.unchanged.get(set).is_some_and(|items| items[item] == 1);
        if stands_in == unchanged { self.counts[set][item] } else { 0 }
    }

    /// All items of a set.
    pub fn all(&self, set: usize) -> u32 {
        self.counts[set].iter().sum()
    }
}

/// Gives `rows`, one per change, the BCa interval of their difference from the baseline, the level of no difference
/// by swapping items ([`swap_level`]) and that level after Holm's correction; and the interval of the value itself where it
/// has none. `sizes` are the sets that are resampled apart; `number(change, draw)` is the number of a draw, also of one
/// with fewer items (leaving out each in turn gives the acceleration). Nothing is given where no set has two items.
pub fn differences(
    rows: &mut [Summary],
    baseline: usize,
    sizes: &[usize],
    resampling: Resampling,
    number: &(impl Fn(usize, &Draw) -> f64 + Sync),
) {
    if sizes.iter().all(|size| *size < 2) {
        return;
    }
    let changes = rows.len();
    let under_all = |draw: &Draw| (0..changes).map(|change| number(change, draw)).collect();
    let replicates: Vec<Vec<f64>> = (0..resampling.replicates)
        .into_par_iter()
        .map(|replicate| under_all(&Draw::of(drawn(sizes, resampling.seed, replicate, counts))))
        .collect();
    let once = || once(sizes);
    let swapped = swapped(changes, sizes, resampling, number);
    let without: Vec<Vec<Vec<f64>>> = (0..sizes.len())
        .map(|set| {
            let leave_out = |item: usize| {
                let mut counts = once();
                counts[set][item] = 0;
                under_all(&Draw::of(counts))
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
        row.p_value = Some(swap_level(row.difference, &column(&swapped, change)));
    }
    adjust(rows);
}

/// The levels of no difference by swapping items ([`swap_level`]), one per change, where a change differs by `seen`;
/// all else as in [`differences`].
pub fn swap_levels(
    seen: &[f64],
    sizes: &[usize],
    resampling: Resampling,
    number: &(impl Fn(usize, &Draw) -> f64 + Sync),
) -> Vec<f64> {
    let swapped = swapped(seen.len(), sizes, resampling, number);
    let levels = seen.iter().enumerate();
    levels.map(|(change, &seen)| swap_level(seen, &column(&swapped, change))).collect()
}

/// `[draw][change]`: what each change would differ by, had the swapped items been answered the other way round.
fn swapped(
    changes: usize,
    sizes: &[usize],
    resampling: Resampling,
    number: &(impl Fn(usize, &Draw) -> f64 + Sync),
) -> Vec<Vec<f64>> {
    let draw = |replicate| {
        let swaps = drawn(sizes, resampling.seed, replicate, swaps);
        let others = swaps.iter().map(|set| set.iter().map(|swap| 1 - swap).collect()).collect();
        let new = Draw { counts: once(sizes), unchanged: swaps };
        let old = Draw { counts: once(sizes), unchanged: others };
        (0..changes).map(|change| number(change, &new) - number(change, &old)).collect()
    };
    (0..resampling.replicates).into_par_iter().map(draw).collect()
}

/// One number for each item of each set.
fn drawn(
    sizes: &[usize],
    seed: u64,
    replicate: usize,
    draw: fn(&mut ChaCha8, usize) -> Vec<u32>,
) -> Vec<Vec<u32>> {
    let mut random = ChaCha8::new(seed, replicate as u64);
    sizes.iter().map(|&size| draw(&mut random, size)).collect()
}

/// Every item once.
fn once(sizes: &[usize]) -> Vec<Vec<u32>> {
    sizes.iter().map(|&size| vec![1; size]).collect()
}

fn column(rows: &[Vec<f64>], place: usize) -> Vec<f64> {
    rows.iter().map(|row| row[place]).collect()
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
            differences(&mut rows, 0, &[5], resampling, &|change, draw| {
                let of = |item: usize, unchanged: bool| {
                    f64::from(draw.count(0, item, unchanged))
                        * values[if unchanged { 0 } else { change }][item]
                };
                (0..5).map(|item| of(item, true) + of(item, false)).sum::<f64>() / 5.0
            });
        });
        rows
    }

    #[test]
    fn differences_are_paired_and_the_same_on_any_number_of_threads() {
        let rows = run(1);
        assert_eq!(rows, run(3));
        // Every item falls by at least 0, four of five by at least 1.
        assert!(rows[1].difference_high.unwrap() < 0.0);
        // Of the sixteen ways to swap these four, two differ as far.
        assert!((rows[1].p_value.unwrap() - 2.0 / 16.0).abs() < 0.02, "{:?}", rows[1].p_value);
        assert!(rows[1].ci_high.unwrap() > rows[0].ci_low.unwrap(), "the values' intervals overlap");
        assert_eq!((rows[0].p_value, rows[1].p_value), (None, rows[1].p_adjusted));
        assert_eq!((rows[0].interval.as_str(), rows[1].difference_interval.as_str()), ("bca", "bca"));
    }
}
