//! Means over interventions: all are measured on the same sequences, so that their errors go together, and only the
//! sequences themselves say how far such a mean may be off.
//!
//! Where exact match was given sequence by sequence, a mean loss and a difference of two are ratios of sums over
//! sequences: lost over recited unchanged, with the error of their residuals. Few sequences, or all alike, would give
//! too narrow an interval; so a mean has four sequences more, two of which are lost (Agresti and Coull, The American
//! Statistician 52, 1998), a difference of two means half a one in each cell of kept and lost (Agresti and Min,
//! Statistics in Medicine 24, 2005).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use rote_artifact::tables::Score;
use rote_store::Digest;

use crate::change::Change;
use crate::interval::Interval;
use crate::study::{Loss, Model, Z};

/// Exact match of every sequence of a role, by intervention; of one that is asked after several prefixes, after the
/// longest, as in the sums over all.
#[derive(Clone, Debug, Default)]
pub struct Items {
    /// The requests they are numbered by, where the artifact names them: equal numbers of others are other sequences.
    asked: Vec<Digest>,
    role: String,
    prefix: Option<u32>,
    values: BTreeMap<String, BTreeMap<u32, f64>>,
}

impl Items {
    /// Puts the rows of one artifact to those known of the same requests.
    pub fn add(known: &mut Vec<Items>, asked: &[Digest], rows: &[Score]) {
        for row in rows.iter().filter(|row| row.suite == "memorization" && row.metric == "exact_match") {
            let Some(request) = row.request else { continue };
            let same = |items: &Items| items.asked == asked && items.role == row.role;
            let place = known.iter().position(same).unwrap_or_else(|| {
                known.push(Items { asked: asked.to_vec(), role: row.role.clone(), ..Items::default() });
                known.len() - 1
            });
            let items = &mut known[place];
            match row.prefix.cmp(&items.prefix) {
                Ordering::Less => continue,
                Ordering::Equal => {}
                Ordering::Greater => (items.prefix, items.values) = (row.prefix, BTreeMap::new()),
            }
            // Of two artifacts that hold a row both hold the same, or their sums would have been refused.
            items.values.entry(row.change.clone()).or_default().insert(request, row.value);
        }
    }

    /// Values under each of `changes`, of the same sequences in the same order; none where one lacks some of them.
    fn under(&self, changes: &[&str]) -> Option<Vec<Vec<f64>>> {
        let first = self.values.get(*changes.first()?)?;
        let one = |change: &&str| {
            let values = self.values.get(*change)?;
            values.keys().eq(first.keys()).then(|| values.values().copied().collect())
        };
        changes.iter().map(one).collect()
    }
}

/// Items whose sums make a ratio: numerator, denominator, and how often each counts.
type Weighted = (f64, f64, f64);

/// A ratio of sums over items and its 95 % interval, which holds it. Items that are nothing to either sum, such as
/// sequences never recited, count for nothing.
fn ratio(items: &[(f64, f64)], added: &[Weighted]) -> Option<(f64, Interval)> {
    let all: Vec<Weighted> = items
        .iter()
        .filter(|item| **item != (0.0, 0.0))
        .map(|(part, whole)| (*part, *whole, 1.0))
        .chain(added.iter().copied())
        .collect();
    let sum = |of: &dyn Fn(&Weighted) -> f64| all.iter().map(|item| item.2 * of(item)).sum::<f64>();
    let (n, whole) = (sum(&|_| 1.0), sum(&|item| item.1));
    let middle = sum(&|item| item.0) / whole;
    let error = (sum(&|item| (item.0 - middle * item.1).powi(2)) * n / (n - 1.0)).sqrt() / whole;
    let half = student(n - 1.0) * error;
    let value = items.iter().map(|item| item.0).sum::<f64>() / items.iter().map(|item| item.1).sum::<f64>();
    let interval = Interval::between((middle - half).min(value), (middle + half).max(value).min(1.0));
    value.is_finite().then_some((value, interval))
}

/// 97.5 % quantile of Student's distribution, within 0.03 from three degrees of freedom on (Abramowitz and Stegun,
/// 26.7.5).
fn student(freedom: f64) -> f64 {
    let z = |power: i32| Z.powi(power);
    Z + (z(3) + Z) / (4.0 * freedom)
        + (5.0 * z(5) + 16.0 * z(3) + 3.0 * Z) / (96.0 * freedom.powi(2))
        + (3.0 * z(7) + 19.0 * z(5) + 17.0 * z(3) - 15.0 * Z) / (384.0 * freedom.powi(3))
}

/// Two sequences kept and two lost.
const FOUR: [Weighted; 2] = [(0.0, 1.0, 2.0), (1.0, 1.0, 2.0)];
/// Half a sequence kept by both, half a one lost by both; half a one lost by the one, half a one by the other.
const HALVES: [Weighted; 3] = [(0.0, 1.0, 1.0), (1.0, 1.0, 0.5), (-1.0, 1.0, 0.5)];

impl Model {
    /// Exact match of the studied sequences, unchanged and then under each of `changes`; none where it was not given
    /// sequence by sequence, or of other sequences than the sums are of.
    fn by_item(&self, changes: &[&Change]) -> Option<Vec<Vec<f64>>> {
        let role = self.role()?;
        let n = self.recall("none")?.n as usize;
        let texts: Vec<&str> =
            std::iter::once("none").chain(changes.iter().map(|change| change.text.as_str())).collect();
        let of_role = self.items.iter().filter(|items| items.role == role);
        of_role.filter_map(|items| items.under(&texts)).find(|values| values[0].len() == n)
    }

    /// Sequences studied, and those of them that a change loses.
    pub fn fallen(&self, change: &Change) -> Option<(usize, usize)> {
        let values = self.by_item(&[change])?;
        let fallen = values[0].iter().zip(&values[1]).filter(|(old, new)| new < old).count();
        Some((fallen, values[0].len()))
    }

    /// Mean loss of recall over interventions.
    pub fn mean_recall_loss(&self, changes: &[&Change]) -> Option<Loss> {
        let losses =
            changes.iter().map(|change| self.recall_loss(&change.text)).collect::<Option<Vec<_>>>()?;
        let average = average(&losses)?;
        let Some(values) = self.by_item(changes).filter(|_| changes.len() > 1) else { return Some(average) };
        let (old, new) = (&values[0], &values[1..]);
        let items: Vec<_> = (0..old.len()).map(|item| (old[item] - mean_of(new, item), old[item])).collect();
        let interval = ratio(&items, &FOUR).map_or(average.interval, |(_, interval)| interval);
        Some(Loss { interval, ..average })
    }

    /// By how much more recall `some` cost than `others`, on average; none where that is not known by sequence.
    pub fn recall_gap(&self, some: &[&Change], others: &[&Change]) -> Option<(f64, Interval)> {
        let texts: BTreeSet<&str> = some.iter().chain(others).map(|change| change.text.as_str()).collect();
        debug_assert_eq!(texts.len(), some.len() + others.len(), "halves share no intervention");
        let values = self.by_item(&[some, others].concat())?;
        let (old, some, others) = (&values[0], &values[1..=some.len()], &values[1 + some.len()..]);
        let gap = |item: usize| (mean_of(others, item) - mean_of(some, item), old[item]);
        ratio(&(0..old.len()).map(gap).collect::<Vec<_>>(), &HALVES)
    }
}

/// The mean over interventions of an item's values.
fn mean_of(values: &[Vec<f64>], item: usize) -> f64 {
    values.iter().map(|of_change| of_change[item]).sum::<f64>() / values.len() as f64
}

/// Mean of losses that may go together in any way: its interval is no narrower than their mean one.
pub fn average(losses: &[Loss]) -> Option<Loss> {
    let count = losses.len() as f64;
    let end = |of: fn(&Loss) -> Option<f64>| -> Option<f64> {
        Some(losses.iter().map(of).sum::<Option<f64>>()? / count)
    };
    (!losses.is_empty()).then(|| Loss {
        value: losses.iter().map(|loss| loss.value).sum::<f64>() / count,
        interval: Interval::new(end(|loss| loss.interval.low), end(|loss| loss.interval.high)),
        n: losses.iter().map(|loss| loss.n).min().unwrap_or(0),
        origin: losses.iter().fold(0, |all, loss| all | loss.origin),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::tests::loss;

    /// Items of a difference: so many lost by the one alone, by the other alone, by both or none.
    fn gap(one: usize, other: usize, same: usize) -> Interval {
        let items = [vec![(1.0, 1.0); one], vec![(-1.0, 1.0); other], vec![(0.0, 1.0); same]].concat();
        ratio(&items, &HALVES).unwrap().1
    }

    #[test]
    fn a_sequence_counts_once_after_its_longest_prefix() {
        let row = |request: u32, prefix: u32, value: f64| Score {
            change: "none".into(),
            suite: "memorization".into(),
            metric: "exact_match".into(),
            role: "memorized".into(),
            request: Some(request),
            prefix: Some(prefix),
            value,
            ..Score::default()
        };
        let rows = [row(0, 8, 0.0), row(1, 16, 1.0), row(2, 8, 0.0), row(3, 16, 0.5)];
        let mut known = Vec::new();
        Items::add(&mut known, &[], &rows);
        assert_eq!(known[0].under(&["none"]), Some(vec![vec![1.0, 0.5]]));
    }

    #[test]
    fn thirteen_against_seven_are_no_difference() {
        let interval = gap(13, 7, 0);
        // (13 − 7) / 22 ± 2.080 · √((21 / 22 − (6 / 22)²) / 21)
        assert!((interval.low.unwrap() + 0.1530).abs() < 1e-3, "{interval:?}");
        assert!((interval.high.unwrap() - 0.6985).abs() < 1e-3, "{interval:?}");
        assert!(gap(17, 3, 0).is_above(0.0));
    }

    #[test]
    fn where_all_are_lost_the_interval_has_a_width() {
        let (value, interval) = ratio(&[(1.0, 1.0); 20], &FOUR).unwrap();
        assert_eq!((value, interval.high), (1.0, Some(1.0)));
        // 22 / 24 − 2.069 · √(22 · 2 / 24² / 23)
        assert!((interval.low.unwrap() - 0.7974).abs() < 1e-3, "{interval:?}");
        let none = gap(0, 0, 20);
        assert!(!none.is_above(0.0) && !none.is_below(0.0) && none.is_above(-0.2), "{none:?}");
    }

    #[test]
    fn what_was_not_recited_before_does_not_widen_the_share_that_is_lost() {
        let recited = [vec![(1.0, 1.0); 10], vec![(0.0, 1.0); 10]].concat();
        let all = [recited.clone(), vec![(0.0, 0.0); 80]].concat();
        assert_eq!(ratio(&recited, &FOUR), ratio(&all, &FOUR));
    }

    /// Chance that so many of `n` fall in each of three cells.
    fn chance(counts: [usize; 3], shares: [f64; 3]) -> f64 {
        let factorial = |n: usize| (1..=n).map(|k| (k as f64).ln()).sum::<f64>();
        let parts = counts.iter().zip(shares).map(|(count, share)| *count as f64 * share.ln());
        let ways = factorial(counts.iter().sum()) - counts.iter().map(|count| factorial(*count)).sum::<f64>();
        (ways + parts.sum::<f64>()).exp()
    }

    #[test]
    fn intervals_cover_what_they_are_of() {
        let holds = |interval: Interval, truth: f64| !interval.is_above(truth) && !interval.is_below(truth);
        let cells = [[0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8], [0.05, 0.02, 0.93], [0.6, 0.1, 0.3]];
        for n in [5, 10, 20, 60] {
            for shares in cells {
                let (mut of_gap, mut of_mean) = (0.0, 0.0);
                for one in 0..=n {
                    for other in 0..=n - one {
                        let counts = [one, other, n - one - other];
                        if holds(gap(one, other, counts[2]), shares[0] - shares[1]) {
                            of_gap += chance(counts, shares);
                        }
                        let items = [vec![(1.0, 1.0); one], vec![(0.0, 1.0); n - one]].concat();
                        if holds(ratio(&items, &FOUR).unwrap().1, shares[0]) {
                            of_mean += chance(counts, shares);
                        }
                    }
                }
                assert!(of_gap.min(of_mean) > 0.945, "{n} items, {shares:?}: {of_gap} {of_mean}");
            }
        }
    }

    #[test]
    fn students_quantiles() {
        for (freedom, known) in [(3.0, 3.1824), (5.0, 2.5706), (21.0, 2.0796), (200.0, 1.9719)] {
            assert!((student(freedom) - known).abs() < 0.03, "{freedom}: {}", student(freedom));
        }
        assert!((student(10.0) - 2.2281).abs() < 1e-3);
    }

    #[test]
    fn losses_that_go_together_have_no_narrower_mean() {
        let loss = |value: f64, low: Option<f64>| loss(value, low, value + 0.1);
        let mean = average(&[loss(0.2, Some(0.1)), loss(0.4, Some(0.1))]).unwrap();
        assert!((mean.value - 0.3).abs() < 1e-12);
        assert!((mean.interval.low.unwrap() - 0.1).abs() < 1e-12);
        assert!((mean.interval.high.unwrap() - 0.4).abs() < 1e-12);
        let open = average(&[loss(0.2, Some(0.1)), loss(0.4, None)]).unwrap();
        assert_eq!((open.interval.low, open.interval.high.is_some()), (None, true));
        assert_eq!(average(&[]), None);
    }
}
