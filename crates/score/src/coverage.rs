//! Tests: intervals hold the truth as often as they say, on 1000 simulated studies of 60 skewed items each, and levels
//! of no difference are as seldom small as they say where there is none.
//!
//! Asked is 93 to 97 % of the 95 % intervals. Percentiles of the bootstrap hold the truth in 90 to 93 % of such
//! studies where losses are lognormal, and BCa hardly more often; hence bootstrap-t and MOVER there.
//!
//! Elsewhere, in percent of 1000 studies (value unchanged, changed, their difference; where all are 1 unchanged, that is
//! certain by construction):
//!
//! | items | 10 | 20 | 60 | 200 |
//! |---|---|---|---|---|
//! | share 1.0, 5 % kept | – 92 99 | – 92 100 | – 97 99 | – 98 97 |
//! | share 1.0, half kept | – 99 99 | – 96 97 | – 94 96 | – 95 95 |
//! | share 0.5, 90 % kept | 98 95 100 | 98 97 100 | 96 95 99 | 95 95 97 |
//! | share 0.5, 5 % flip | 98 98 100 | 98 97 100 | 96 96 96 | 95 95 94 |
//! | share 0.02, half kept | 98 90 100 | 94 98 100 | 96 97 100 | 93 95 99 |
//! | accuracies, nine of ten whole | 94 95 93 | 93 95 94 | 94 96 95 | 96 94 94 |
//! | chances, nineteen of twenty zero | 98 97 96 | 98 95 93 | 96 90 89 | 96 95 94 |
//! | lognormal losses, deviation 0.3 | 95 94 97 | 94 95 95 | 94 95 95 | 95 95 95 |
//! | deviation 0.6 | 94 93 96 | 94 94 95 | 95 95 95 | 94 96 95 |
//! | deviation 1.0 | 91 91 94 | 92 92 94 | 93 94 95 | 94 95 96 |
//! | deviation 1.5 | 86 86 91 | 88 88 91 | 90 92 92 | 92 93 95 |
//! | their perplexities, deviation 0.6 | 92 93 93 | 94 93 93 | 94 94 94 | 95 95 96 |
//! | deviation 1.5 | 86 86 86 | 86 87 90 | 89 90 91 | 91 93 93 |
//!
//! So: with a few dozen items, what nearly all have alike (chances) and what a few items make (tails) is held less often
//! than said, as by any interval that knows the sample alone. Shares err on the wide side.

use rayon::prelude::*;
use rote_artifact::tables::Summary;

use crate::chacha::ChaCha8;
use crate::metrics::METRICS;
use crate::subjects::Group;
use crate::summary::{Column, Resampling, summarise};

const ITEMS: usize = 60;
const STUDIES: u64 = 1000;
/// Deviation of the logarithm of a loss: its skewness is then 2.3, its excess kurtosis 10. With 0.75 (3.3 and 23) 93 to
/// 94 % hold the truth over many seeds, with 1 (6 and 111) 92 to 95 %, with percentiles or BCa 90 to 92 %.
const SKEW: f64 = 0.6;

/// Uniform between 0 and 1, and lognormal with mean 1.
struct Random {
    chacha: ChaCha8,
    skew: f64,
}

impl Random {
    fn unit(&mut self) -> f64 {
        (f64::from(self.chacha.word()) + 0.5) / 4_294_967_296.0
    }

    fn loss(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), std::f64::consts::TAU * self.unit());
        (self.skew * radius * angle.cos() - self.skew * self.skew / 2.0).exp()
    }

    fn yes(&mut self, chance: f64) -> f64 {
        f64::from(u8::from(self.unit() < chance))
    }
}

/// What [`summarise`] says of metrics whose totals `item` gives, as (total unchanged, total changed, weight).
fn study(
    number: u64,
    (n, skew): (usize, f64),
    names: &[&str],
    item: fn(&mut Random) -> Vec<(f64, f64, f64)>,
) -> Vec<Summary> {
    let mut random = Random { chacha: ChaCha8::new(29, number), skew };
    let items: Vec<_> = (0..n).map(|_| item(&mut random)).collect();
    let column = |(place, name): (usize, &&str)| {
        let metric = METRICS.iter().find(|m| m.kind == "sequence" && m.name == *name).unwrap();
        let part = |part: fn((f64, f64, f64)) -> f64| items.iter().map(|item| part(item[place])).collect();
        Column {
            metric,
            totals: vec![part(|item| item.0), part(|item| item.1)],
            weights: part(|item| item.2),
        }
    };
    summary(names.iter().enumerate().map(column).collect(), n, number)
}

/// What [`summarise`] says of columns of `n` items, unchanged and changed.
fn summary(columns: Vec<Column>, n: usize, seed: u64) -> Vec<Summary> {
    let group = Group {
        suite: String::new(),
        kind: "sequence".to_string(),
        role: String::new(),
        seen: None,
        prefix: None,
        members: (0..n).collect(),
    };
    let changes = ["none".to_string(), "attn.identity@0".to_string()];
    let resampling = Resampling { replicates: 1000, seed, harness_replicates: 0 };
    summarise(&group, &columns, &changes, 0, resampling)
}

/// Of how many studies in 1000 the intervals hold the truth: per metric, of the value unchanged, of that changed, and
/// of the difference.
fn held(
    names: &[&str],
    truths: &[(f64, f64)],
    item: fn(&mut Random) -> Vec<(f64, f64, f64)>,
) -> Vec<[usize; 3]> {
    held_at((ITEMS, SKEW), names, truths, item)
}

/// The same of so many items with so skewed losses.
fn held_at(
    setting: (usize, f64),
    names: &[&str],
    truths: &[(f64, f64)],
    item: fn(&mut Random) -> Vec<(f64, f64, f64)>,
) -> Vec<[usize; 3]> {
    let studies: Vec<Vec<Summary>> =
        (0..STUDIES).into_par_iter().map(|number| study(number, setting, names, item)).collect();
    let hold = |row: usize, pick: fn(&Summary) -> (Option<f64>, Option<f64>), truth: f64| {
        let ends = studies.iter().map(|study| pick(&study[row]));
        ends.filter(|(low, high)| low.is_none_or(|low| low <= truth) && high.is_none_or(|high| truth <= high))
            .count()
    };
    let value = |row: &Summary| (row.ci_low, row.ci_high);
    let of = |(place, (before, after)): (usize, &(f64, f64))| {
        [
            hold(2 * place, value, *before),
            hold(2 * place + 1, value, *after),
            hold(2 * place + 1, |row| (row.difference_low, row.difference_high), after - before),
        ]
    };
    truths.iter().enumerate().map(of).collect()
}

fn check(names: &[&str], truths: &[(f64, f64)], item: fn(&mut Random) -> Vec<(f64, f64, f64)>) {
    for (name, held) in names.iter().zip(held(names, truths, item)) {
        let fits = |held: &usize| (930..=970).contains(held);
        assert!(held.iter().all(fits), "{name}: {held:?} of 1000");
    }
}

#[test]
fn shares_and_their_differences_cover() {
    check(&["exact_match"], &[(0.8, 0.5)], |random| {
        let recited = random.yes(0.8);
        vec![(recited, recited * random.yes(0.625), 1.0)]
    });
}

#[test]
fn accuracies_piled_up_at_their_bound_cover() {
    // Nine of ten are whole unchanged and half of them changed, the others uniform.
    let (before, after) = (0.9 + 0.1 * 0.5, 0.9 * (0.5 + 0.5 * 0.5) + 0.1 * 0.25);
    check(&["token_accuracy_free"], &[(before, after)], |random| {
        let before = if random.yes(0.9) > 0.0 { 1.0 } else { random.unit() };
        let kept = if before == 1.0 && random.yes(0.5) > 0.0 { 1.0 } else { random.unit() };
        vec![(before, before * kept, 1.0)]
    });
}

#[test]
fn skewed_losses_and_perplexities_and_their_differences_cover() {
    // A loss under the change is half of the one before and another: means 1 and 1.5.
    let truths = [(1.0, 1.5), (1f64.exp(), 1.5f64.exp())];
    check(&["loss", "perplexity"], &truths, |random| {
        let length = 10.0 + (random.unit() * 40.0).floor();
        let before = random.loss();
        let after = 0.5 * before + random.loss();
        vec![(before, after, 1.0), (-length * before, -length * after, length)]
    });
}

/// All recited unchanged, as memorized sequences are by choice: that has no spread, so only what changes is asked.
#[test]
fn a_loss_from_certainty_covers() {
    let held = held(&["exact_match"], &[(1.0, 0.5)], |random| vec![(1.0, random.yes(0.5), 1.0)]);
    assert!(held[0][0] == 1000 && held[0][1..].iter().all(|held| (930..=970).contains(held)), "{held:?}");
}

/// Where nearly all items stay as they are, many studies see none change, and every resample of these is the same.
#[test]
fn a_rare_loss_is_not_taken_for_none() {
    let held = held(&["exact_match"], &[(0.1, 0.08)], |random| {
        let recited = random.yes(0.1);
        vec![(recited, recited * random.yes(0.8), 1.0)]
    });
    assert!(held[0][2] >= 930, "{held:?}");
}

/// Few items and rare changes: no interval of a share or of its difference holds the truth much less often than said.
#[test]
fn few_items_are_not_made_more_of_than_they_tell() {
    let held = held_at((20, SKEW), &["exact_match"], &[(0.5, 0.45)], |random| {
        let recited = random.yes(0.5);
        vec![(recited, recited * random.yes(0.9), 1.0)]
    });
    assert!(held[0].iter().all(|held| *held >= 930), "{held:?}");
    let held =
        held_at((20, SKEW), &["exact_match"], &[(1.0, 0.05)], |random| vec![(1.0, random.yes(0.05), 1.0)]);
    assert!(held[0][1..].iter().all(|held| *held >= 915), "{held:?}");
}

/// Tails heavier than any loss of text here: what is lost then is no more than the table above says.
#[test]
fn heavy_tails_cost_no_more_than_is_said() {
    let truths = [(1.0, 1.5), (1f64.exp(), 1.5f64.exp())];
    let held = held_at((60, 1.5), &["loss", "perplexity"], &truths, |random| {
        let length = 10.0 + (random.unit() * 40.0).floor();
        let before = random.loss();
        let after = 0.5 * before + random.loss();
        vec![(before, after, 1.0), (-length * before, -length * after, length)]
    });
    assert!(held.iter().flatten().all(|held| *held >= 885), "{held:?}");
}

/// One of 42 recited sequences is kept: of the exact matches a coin would have to fall the same way 41 times (the split
/// seen counts half), of the accuracies no swap of the 1000 is as far from none.
#[test]
fn a_loss_of_nearly_all_is_beyond_doubt() {
    let mut items = vec![(1.0, 0.0); 41];
    items.push((1.0, 1.0));
    let level = |name: &str, items: &[(f64, f64)]| {
        let metric = METRICS.iter().find(|m| m.kind == "sequence" && m.name == name).unwrap();
        let totals =
            vec![items.iter().map(|item| item.0).collect(), items.iter().map(|item| item.1).collect()];
        let rows = summary(vec![Column { metric, totals, weights: vec![1.0; items.len()] }], items.len(), 7);
        rows[1].p_value.unwrap()
    };
    assert!((level("exact_match", &items) * 2f64.powi(41) - 1.0).abs() < 1e-9);
    assert_eq!(level("token_accuracy_free", &items), 1.0 / 1001.0);
    // The other way round as well, and none where nothing differs.
    let gained: Vec<_> = items.iter().map(|item| (item.1, item.0)).collect();
    assert_eq!(level("token_accuracy_free", &gained), 1.0 / 1001.0);
    for name in ["exact_match", "token_accuracy_free", "loss"] {
        assert_eq!(level(name, &[(0.5, 0.5); 42]), 1.0, "{name}");
    }
}

/// Answers that a change leaves as good as they were: 5 % of the levels are at most 5 %; fewer where few items differ,
/// as these have few levels.
#[test]
fn levels_are_small_as_seldom_as_they_say() {
    for (n, least) in [(8, 0), (20, 30), (60, 35)] {
        let names = ["exact_match", "token_accuracy_free"];
        let small = |row: usize| {
            let studies = (0..STUDIES).into_par_iter().map(|number| {
                study(number, (n, SKEW), &names, |random| {
                    // Two answers that are equally good, whichever comes first.
                    let answer = |random: &mut Random| random.yes(0.7).max(random.unit());
                    let (before, after) = (answer(random), answer(random));
                    let whole = |answer: f64| f64::from(u8::from(answer == 1.0));
                    vec![(whole(before), whole(after), 1.0), (before, after, 1.0)]
                })
            });
            studies.filter(|rows| rows[row].p_value.unwrap() <= 0.05).count()
        };
        let (shares, accuracies) = (small(1), small(3));
        assert!(
            shares <= 65 && (least..=65).contains(&accuracies),
            "{n} items: {shares}, {accuracies} of 1000"
        );
    }
}
