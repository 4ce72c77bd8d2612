//! Numbers that no single item has: how well a measure tells memorized sequences from controls, and how many
//! guesses are right before the hundredth wrong one.

use std::cmp::Ordering;

use rayon::prelude::*;
use rote_artifact::tables::Summary;

use crate::area::Area;
use crate::interval::wilson;
use crate::paired::{Draw, adjust, differences, swap_levels};
use crate::summary::Resampling;

/// Measures by which membership is guessed, with the direction that speaks for it.
pub const MEASURES: &[(&str, f64)] =
    &[("loss", -1.0), ("loss_ref", -1.0), ("zlib_ratio", -1.0), ("min_k", 1.0), ("min_k_plus_plus", 1.0)];

/// Wrong guesses at which the extraction challenge stops counting.
pub const ERRORS: u32 = 100;

/// One measure of members (here: memorized sequences) and of outsiders (controls), `[change][item]`, higher
/// speaking for membership.
pub struct Measured {
    /// Name of the measure.
    pub name: &'static str,
    /// Of members.
    pub members: Vec<Vec<f64>>,
    /// Of outsiders.
    pub outsiders: Vec<Vec<f64>>,
}

/// Rows `<measure>_auc` and `<measure>_tpr` (share of members found at a false-positive rate of at most
/// `fpr`), under every change; `like` says whose rows these are.
///
/// The area's error, and that of its difference from the baseline, are DeLong's, which pairs the items; intervals are
/// those of [`crate::area`]. Where that error is zero, the level of no difference is that of items swapped. The share of members has Wilson's interval for the threshold as it is; its difference BCa's, of a paired bootstrap
/// of members and of outsiders, which moves the threshold too.
pub fn membership(
    measured: &Measured,
    fpr: f64,
    resampling: Resampling,
    changes: &[String],
    baseline: usize,
    like: &Summary,
) -> Vec<Summary> {
    let n = measured.members[baseline].len() + measured.outsiders[baseline].len();
    let areas: Vec<Area> = measured
        .members
        .par_iter()
        .zip(&measured.outsiders)
        .map(|(members, outsiders)| Area::of(members, outsiders))
        .collect();
    let at_none = &areas[baseline];
    let mut rows: Vec<Summary> = areas
        .iter()
        .zip(changes)
        .enumerate()
        .map(|(change, (area, name))| {
            let mut row = row(name, like, &format!("{}_auc", measured.name), area.value, at_none.value, n);
            row.stderr = area.error();
            let (ends, how) = area.interval();
            (row.ci_low, row.ci_high) = (ends.map(|ends| ends.0), ends.map(|ends| ends.1));
            row.interval = how.to_string();
            if change != baseline
                && let Some((low, high, level)) = area.less(at_none)
            {
                (row.difference_low, row.difference_high) = (Some(low), Some(high));
                row.difference_interval = "mover".to_string();
                row.p_value = level;
            }
            row
        })
        .collect();
    let sizes = [measured.members[baseline].len(), measured.outsiders[baseline].len()];
    let left_open = |(change, row): (usize, &Summary)| {
        (row.difference_low.is_some() && row.p_value.is_none()).then_some(change)
    };
    let open: Vec<usize> = rows.iter().enumerate().filter_map(left_open).collect();
    if !open.is_empty() {
        let seen: Vec<f64> = open.iter().map(|&change| rows[change].difference).collect();
        let levels = swap_levels(&seen, &sizes, resampling, &|place, draw| {
            let of = |set: usize, answers: &[Vec<f64>]| -> Vec<f64> {
                let both = answers[open[place]].iter().zip(&answers[baseline]).enumerate();
                both.map(|(item, (&new, &old))| if draw.count(set, item, true) > 0 { old } else { new })
                    .collect()
            };
            Area::of(&of(0, &measured.members), &of(1, &measured.outsiders)).value
        });
        for (change, level) in open.into_iter().zip(levels) {
            rows[change].p_value = Some(level);
        }
    }
    adjust(&mut rows);

    let found: Vec<f64> = measured
        .members
        .iter()
        .zip(&measured.outsiders)
        .map(|(members, outsiders)| found_at(members, outsiders, fpr))
        .collect();
    let mut shares: Vec<Summary> = found
        .iter()
        .zip(changes)
        .map(|(&value, name)| {
            let members = measured.members[baseline].len();
            let interval = wilson(value, members);
            let mut row = row(name, like, &format!("{}_tpr", measured.name), value, found[baseline], members);
            row.ci_low = interval.map(|(low, _)| low);
            row.ci_high = interval.map(|(_, high)| high);
            row.interval = "wilson".to_string();
            row
        })
        .collect();
    let ranked = |of: &[Vec<f64>]| -> Vec<Vec<Place<f64>>> {
        let ranked = |values: &Vec<f64>| places(values, &of[baseline], |a, b| b.total_cmp(a));
        of.iter().map(ranked).collect()
    };
    let (members, outsiders) = (ranked(&measured.members), ranked(&measured.outsiders));
    differences(&mut shares, baseline, &sizes, resampling, &|change, draw| {
        let allowed = (fpr * f64::from(draw.all(1))) as u32;
        let mut passed = 0;
        let threshold = outsiders[change].iter().find(|place| {
            passed += place.count(draw, 1);
            passed > allowed
        });
        let threshold = threshold.map_or(f64::NEG_INFINITY, |place| place.answer);
        let above = members[change].iter().take_while(|place| place.answer > threshold);
        f64::from(above.map(|place| place.count(draw, 0)).sum::<u32>()) / f64::from(draw.all(0))
    });
    rows.extend(shares);
    rows
}

/// An item's answer among those under a change and unchanged, in one order.
struct Place<T> {
    item: usize,
    unchanged: bool,
    answer: T,
}

impl<T> Place<T> {
    fn count(&self, draw: &Draw, set: usize) -> u32 {
        draw.count(set, self.item, self.unchanged)
    }
}

/// The answers of one set under a change and unchanged, sorted; equal ones in the order of the items.
fn places<T: Copy>(new: &[T], old: &[T], order: impl Fn(&T, &T) -> Ordering) -> Vec<Place<T>> {
    let of = |(answers, unchanged)| -> Vec<Place<T>> {
        let answers: &[T] = answers;
        answers.iter().enumerate().map(|(item, &answer)| Place { item, unchanged, answer }).collect()
    };
    let mut places: Vec<Place<T>> = [(new, false), (old, true)].into_iter().flat_map(of).collect();
    places.sort_by(|a, b| order(&a.answer, &b.answer).then(a.item.cmp(&b.item)));
    places
}

/// The share of members above the threshold that at most `fpr` of the outsiders exceed.
fn found_at(members: &[f64], outsiders: &[f64], fpr: f64) -> f64 {
    let mut sorted = outsiders.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let allowed = (fpr * outsiders.len() as f64) as usize;
    let threshold = sorted.get(allowed).copied().unwrap_or(f64::NEG_INFINITY);
    members.iter().filter(|value| **value > threshold).count() as f64 / members.len() as f64
}

/// One guess of the extraction challenge.
#[derive(Clone, Copy, Debug)]
pub struct Guess {
    /// How sure the model was.
    pub confidence: f64,
    /// Whether the guess is the true suffix.
    pub right: bool,
}

/// The surest first; of equally sure ones the wrong first, so that chance cannot flatter.
fn surest(a: &Guess, b: &Guess) -> Ordering {
    b.confidence.total_cmp(&a.confidence).then(a.right.cmp(&b.right))
}

/// The share of `all` guesses that are right before the hundredth wrong one; each counts so often.
fn recall_at_errors(guesses: impl Iterator<Item = (bool, u32)>, all: u32) -> f64 {
    let (mut wrong, mut found) = (0, 0);
    for (right, count) in guesses {
        if right {
            found += count;
        } else {
            wrong += count;
            if wrong >= ERRORS {
                break;
            }
        }
    }
    f64::from(found) / f64::from(all)
}

/// Rows `recall_at_100_errors` under every change, from `[change][item]`. Fewer than a hundred wrong guesses
/// in all count all right ones. Intervals are BCa's, of a paired bootstrap over sequences.
pub fn challenge(
    guesses: &[Vec<Guess>],
    resampling: Resampling,
    changes: &[String],
    baseline: usize,
    like: &Summary,
) -> Vec<Summary> {
    let n = guesses[baseline].len();
    let ranked: Vec<Vec<Place<Guess>>> =
        guesses.iter().map(|of| places(of, &guesses[baseline], surest)).collect();
    let under = |change: usize, count: &dyn Fn(&Place<Guess>) -> u32, all: u32| {
        recall_at_errors(ranked[change].iter().map(|place| (place.answer.right, count(place))), all)
    };
    let own = |place: &Place<Guess>| u32::from(!place.unchanged);
    let values: Vec<f64> = (0..changes.len()).map(|change| under(change, &own, n as u32)).collect();
    let rows = values.iter().zip(changes);
    let mut rows: Vec<Summary> = rows
        .map(|(&value, name)| row(name, like, "recall_at_100_errors", value, values[baseline], n))
        .collect();
    differences(&mut rows, baseline, &[n], resampling, &|change, draw| {
        under(change, &|place| place.count(draw, 0), draw.all(0))
    });
    // Nothing right, or nothing wrong: every resample says the same. It is a share of sequences still.
    for row in rows.iter_mut().filter(|row| row.ci_low == row.ci_high) {
        if let Some((low, high)) = wilson(row.value, n) {
            (row.ci_low, row.ci_high, row.interval) = (Some(low), Some(high), "wilson".to_string());
        }
    }
    rows
}

fn row(change: &str, like: &Summary, metric: &str, value: f64, baseline: f64, n: usize) -> Summary {
    Summary {
        change: change.to_string(),
        metric: metric.to_string(),
        value,
        n: n as u32,
        baseline,
        difference: value - baseline,
        relative_change: (baseline != 0.0).then(|| (value - baseline) / baseline.abs()),
        interval: "none".to_string(),
        difference_interval: "none".to_string(),
        ..like.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_found_at_a_false_positive_rate() {
        let outsiders: Vec<f64> = (0..100).map(f64::from).collect();
        // One outsider of a hundred may pass: the threshold is 98.
        assert_eq!(found_at(&[97.0, 98.0, 98.5, 200.0], &outsiders, 0.01), 0.5);
        assert_eq!(found_at(&[97.0, 98.0, 98.5, 200.0], &outsiders, 0.0), 0.25);
    }

    #[test]
    fn the_challenge_stops_at_the_hundredth_wrong_guess() {
        let guess = |confidence, right| Guess { confidence, right };
        let mut guesses: Vec<Guess> = (0..50).map(|i| guess(1000.0 - f64::from(i), true)).collect();
        guesses.extend((0..120).map(|i| guess(500.0 - f64::from(i), false)));
        // Two right ones between the wrong: after 98 of them, and after 110.
        guesses.push(guess(500.0 - 97.5, true));
        guesses.push(guess(500.0 - 109.5, true));
        let recall = |guesses: &[Guess]| {
            let resampling = Resampling { replicates: 1, seed: 1, harness_replicates: 0 };
            challenge(&[guesses.to_vec()], resampling, &["none".to_string()], 0, &Summary::default())[0].value
        };
        assert_eq!(recall(&guesses), 51.0 / 172.0);
        assert_eq!(recall(&guesses[..60]), 50.0 / 60.0);
    }

    #[test]
    fn recall_under_a_change_has_an_interval_and_a_paired_difference() {
        let guess = |i: u32, right| Guess { confidence: -f64::from(i), right };
        let guesses = |right: u32| (0..200).map(|i| guess(i, i % 10 < right)).collect::<Vec<_>>();
        let changes = ["none".to_string(), "attn.zero@0".to_string()];
        let resampling = Resampling { replicates: 500, seed: 1, harness_replicates: 0 };
        let rows = challenge(&[guesses(9), guesses(6)], resampling, &changes, 0, &Summary::default());
        assert_eq!((rows[0].value, rows[1].value), (0.9, 0.6));
        assert!(rows[1].difference_high.unwrap() < -0.2 && rows[1].p_value.unwrap() < 0.01);
        assert!(rows[0].ci_low.unwrap() < 0.9 && rows[0].ci_high.unwrap() > 0.9);
        assert_eq!((rows[0].interval.as_str(), rows[0].difference_low), ("bca", None));
    }

    #[test]
    fn a_recall_lost_but_for_one_sequence_is_beyond_doubt() {
        let guesses = |kept: u32| {
            let guess = |i: u32| Guess { confidence: -f64::from(i), right: i < kept };
            (0..42).map(guess).collect::<Vec<_>>()
        };
        let changes = ["none".to_string(), "attn.identity@16".to_string(), "attn.zero@0".to_string()];
        let resampling = Resampling { replicates: 999, seed: 1, harness_replicates: 0 };
        let rows =
            challenge(&[guesses(42), guesses(1), guesses(42)], resampling, &changes, 0, &Summary::default());
        assert_eq!((rows[1].p_value, rows[1].p_adjusted), (Some(0.001), Some(0.002)));
        assert_eq!(rows[2].p_value, Some(1.0));
    }

    /// DeLong's error of it is zero, but of the four ways to swap two members two lead as far.
    #[test]
    fn an_area_that_all_members_lose_alike_is_not_beyond_doubt() {
        let measured = Measured {
            name: "loss",
            members: vec![vec![3.0, 4.0], vec![-1.0, -2.0], vec![3.0, 4.0]],
            outsiders: vec![vec![1.0, 2.0]; 3],
        };
        let changes = ["none", "attn.zero@0", "attn.zero@1"].map(String::from);
        let resampling = Resampling { replicates: 2000, seed: 1, harness_replicates: 0 };
        let rows = membership(&measured, 0.01, resampling, &changes, 0, &Summary::default());
        assert_eq!((rows[0].value, rows[1].value), (1.0, 0.0));
        assert!((rows[1].p_value.unwrap() - 0.5).abs() < 0.04, "{:?}", rows[1].p_value);
        assert_eq!((rows[2].p_value, rows[2].p_adjusted), (Some(1.0), Some(1.0)));
        assert_eq!((rows[0].n, rows[3].n), (4, 2));
    }

    #[test]
    fn a_difference_of_areas_is_paired() {
        let measured = Measured {
            name: "loss",
            members: vec![vec![3.0, 4.0, 5.0], vec![3.0, 4.0, 0.0]],
            outsiders: vec![vec![1.0, 2.0, 3.5], vec![1.0, 2.0, 3.5]],
        };
        let changes = ["none".to_string(), "attn.zero@0".to_string()];
        let resampling = Resampling { replicates: 200, seed: 1, harness_replicates: 0 };
        let rows = membership(&measured, 0.01, resampling, &changes, 0, &Summary::default());
        assert_eq!(
            rows.iter().map(|row| row.metric.as_str()).collect::<Vec<_>>(),
            ["loss_auc", "loss_auc", "loss_tpr", "loss_tpr"]
        );
        assert!((rows[1].difference + 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((rows[0].p_value, rows[1].p_value == rows[1].p_adjusted), (None, true));
        assert!(rows[1].difference_low.unwrap() < rows[1].difference);
        assert_eq!((rows[2].value, rows[3].value), (2.0 / 3.0, 1.0 / 3.0));
        assert!(rows[3].difference_low.unwrap() < rows[3].difference);
        // One member alone differs: swapped or not, by as much.
        assert_eq!(rows[3].p_value, Some(1.0));
    }
}
