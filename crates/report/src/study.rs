//! `Study`: everything the inputs say, by model, with the derived numbers that figures and prose share.

use std::collections::{BTreeMap, BTreeSet};

use rote_artifact::tables::{Summary, Tightness};
use rote_store::{Ancestor, Digest, InputEntry, Subject};
use serde_json::Value;

use crate::change::{Change, Sort};
use crate::frames::Spread;
use crate::interval::Interval;
use crate::items::{Items, average};
use crate::reach::Reached;
use crate::recited::Recited;
use crate::suite::{Class, Suite, falls_with_skill};

/// 97.5 % quantile of the normal distribution: half of a 95 % interval, in standard errors.
pub(crate) const Z: f64 = 1.959963984540054;

/// Change, suite, role, times seen, prefix, metric.
pub type RowKey = (String, String, String, Option<u32>, Option<u32>, String);

/// A set of a model's sources: bit i is the i-th. None beyond the 128th is told apart.
pub type Origin = u128;

/// The key of a row.
pub fn key(row: &Summary) -> RowKey {
    (row.change.clone(), row.suite.clone(), row.role.clone(), row.seen, row.prefix, row.metric.clone())
}

/// An input artifact: what it is and what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Flag it was given with.
    pub flag: &'static str,
    /// Stage that made it and its version.
    pub stage: String,
    /// Content id.
    pub content_id: Digest,
    /// Its parameters in full.
    pub parameters: Value,
    /// Its own inputs, by flag.
    pub inputs: BTreeMap<String, Vec<InputEntry>>,
    /// Every artifact it was made of.
    pub lineage: Vec<Ancestor>,
    /// Rows by table.
    pub rows: Vec<(String, u64)>,
    /// Notes it carries.
    pub warnings: Vec<String>,
}

/// One model with all that was measured on it.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Family, size and depth; two alike are told apart by content.
    pub label: String,
    /// Its identity, where the inputs name it.
    pub subject: Option<Subject>,
    /// Interventions in table order.
    pub changes: Vec<Change>,
    /// Rows of the summaries.
    pub rows: BTreeMap<RowKey, Summary>,
    /// The artifact each row is from.
    pub origins: BTreeMap<RowKey, Origin>,
    /// Exact match sequence by sequence.
    pub items: Vec<Items>,
    /// Sequences asked of the unchanged model and recited.
    pub recited: Recited,
    /// Bounds by theorem, intervention and block.
    pub bounds: Vec<Spread>,
    /// How near they come, by theorem, intervention and block.
    pub tightness: Vec<Tightness>,
    /// What each intervention does to the states.
    pub reached: BTreeMap<String, Reached>,
    /// Artifacts it comes from.
    pub sources: Vec<Source>,
}

/// All models side by side.
pub struct Study {
    /// Heading of the page.
    pub title: String,
    /// Models by family, size and content.
    pub models: Vec<Model>,
}

/// A relative loss: (baseline − value) / baseline; of perplexities 1 − baseline / value. Negative is a gain.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Loss {
    /// Estimate.
    pub value: f64,
    /// Its 95 % interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// Items (the fewest, for a mean over suites).
    pub n: u32,
    /// The artifacts it is from.
    #[serde(skip)]
    pub origin: Origin,
}

impl Model {
    /// A row of the summaries, over all prefixes.
    pub fn row(
        &self,
        change: &str,
        suite: &str,
        role: &str,
        seen: Option<u32>,
        metric: &str,
    ) -> Option<&Summary> {
        self.rows.get(&(change.into(), suite.into(), role.into(), seen, None, metric.into()))
    }

    /// The artifact a row is from.
    pub fn origin(&self, row: &Summary) -> Origin {
        self.origins.get(&key(row)).copied().unwrap_or(0)
    }

    /// The artifacts given with a flag.
    pub fn origin_of(&self, flag: &str) -> Origin {
        let given = self.sources.iter().enumerate().filter(|(_, source)| source.flag == flag);
        given.fold(0, |all, (place, _)| all | bit(place))
    }

    /// Artifacts by the first digits of their content.
    pub fn named(&self, origin: Origin) -> Vec<String> {
        let named = self.sources.iter().enumerate().filter(|(place, _)| origin & bit(*place) != 0);
        named.map(|(_, source)| source.content_id.short()).collect()
    }

    /// Number of blocks: the subject's, or one more than the highest that was changed.
    pub fn n_blocks(&self) -> u32 {
        let seen = self.blocks().map(|(block, _)| block + 1).max().unwrap_or(0);
        self.subject.as_ref().map_or(seen, |subject| subject.n_blocks)
    }

    /// Blocks bypassed one at a time.
    pub fn blocks(&self) -> impl Iterator<Item = (u32, &Change)> {
        self.changes.iter().filter_map(|change| match change.sort {
            Sort::Block(block) => Some((block, change)),
            _ => None,
        })
    }

    /// Blocks whose attention output was set to zero, one at a time.
    pub fn zeros(&self) -> impl Iterator<Item = (u32, &Change)> {
        self.changes.iter().filter_map(|change| match change.sort {
            Sort::Zero(block) => Some((block, change)),
            _ => None,
        })
    }

    /// Draws of so many heads by lot, bypassed.
    pub fn lots(&self, count: u32) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.sort == Sort::Random && change.lot == Some(count))
    }

    /// Heads of a block; of a model not named, as many as were drawn by lot.
    fn n_heads(&self) -> u32 {
        let drawn = || self.changes.iter().find_map(|change| change.lot).unwrap_or(0);
        self.subject.as_ref().map_or_else(drawn, |subject| subject.n_heads)
    }

    /// Draws of as many heads as a block has, bypassed: the control of equal size.
    pub fn randoms(&self) -> impl Iterator<Item = &Change> {
        self.lots(self.n_heads())
    }

    /// The first of these draws.
    pub fn random(&self) -> Option<&Change> {
        self.randoms().next()
    }

    /// The role whose recall is studied: the memorized, or all candidates where none were picked.
    pub fn role(&self) -> Option<&'static str> {
        ["memorized", "candidate"].into_iter().find(|role| self.has_role(role))
    }

    /// Role, times seen and name of the sequences that the model should not know.
    pub fn control(&self) -> Option<(&'static str, Option<u32>, &'static str)> {
        let unseen = ("candidate", Some(0), "never seen");
        let never = self.recall_of("none", unseen.0, unseen.1).is_some();
        let control = self.has_role("control").then_some(("control", None, "control sequences"));
        control.or(never.then_some(unseen))
    }

    fn has_role(&self, role: &str) -> bool {
        self.recall_of("none", role, None).is_some()
    }

    fn recall_of(&self, change: &str, role: &str, seen: Option<u32>) -> Option<&Summary> {
        self.row(change, "memorization", role, seen, "exact_match")
    }

    /// Exact match of the studied sequences.
    pub fn recall(&self, change: &str) -> Option<&Summary> {
        self.recall_of(change, self.role()?, None)
    }

    /// Any metric of the studied sequences.
    pub fn memory(&self, change: &str, metric: &str) -> Option<&Summary> {
        self.row(change, "memorization", self.role()?, None, metric)
    }

    /// Token accuracy: free-running where it was generated, else teacher-forced; with its metric.
    pub fn token_metric(&self) -> Option<&'static str> {
        ["token_accuracy_free", "token_accuracy_forced"]
            .into_iter()
            .find(|metric| self.memory("none", metric).is_some())
    }

    /// Benchmarks measured at `none`, the expected ones first.
    pub fn suites(&self) -> Vec<Suite> {
        let mut metrics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (change, suite, role, seen, _, metric) in self.rows.keys() {
            if change == "none" && suite != "memorization" && role == "benchmark" && seen.is_none() {
                metrics.entry(suite).or_default().push(metric.clone());
            }
        }
        let mut suites: Vec<_> =
            metrics.iter().filter_map(|(name, metrics)| Suite::new(name, metrics)).collect();
        suites.sort_by_key(Suite::rank);
        suites
    }

    /// The headline of a suite under a change.
    pub fn score(&self, change: &str, suite: &Suite) -> Option<&Summary> {
        self.row(change, &suite.name, "benchmark", None, &suite.metric)
    }

    /// Whether the unchanged model is not above guessing at a suite: what it then loses says nothing.
    pub fn guesses(&self, suite: &Suite) -> bool {
        let row = self.score("none", suite);
        suite.guessing.zip(row.and_then(|row| row.ci_low)).is_some_and(|(guessing, low)| low <= guessing)
    }

    /// Relative loss of recall.
    pub fn recall_loss(&self, change: &str) -> Option<Loss> {
        self.loss(self.recall(change)?)
    }

    /// Relative loss of a suite.
    pub fn suite_loss(&self, change: &str, suite: &Suite) -> Option<Loss> {
        self.loss(self.score(change, suite)?)
    }

    /// Mean relative loss over the suites of a class, or of all, but those at guessing; `None` where one of them was not measured.
    pub fn general_loss(&self, change: &str, class: Option<Class>) -> Option<Loss> {
        let suites = self.suites();
        let losses = suites
            .iter()
            .filter(|suite| class.is_none_or(|class| suite.class == class) && !self.guesses(suite))
            .map(|suite| self.suite_loss(change, suite))
            .collect::<Option<Vec<_>>>()?;
        mean(&losses)
    }

    /// A loss from a row. Its interval is that of a perplexity's ratio to the unchanged model's, paired by item, else that
    /// of the difference, paired too, with the unchanged value as divisor; where the summary has neither that of the value
    /// itself, where that is missing too none.
    fn loss(&self, row: &Summary) -> Option<Loss> {
        let base = row.baseline;
        if !(base > 0.0 && base.is_finite()) {
            return None;
        }
        let perplexity = falls_with_skill(&row.metric);
        let at = |value: f64| match perplexity {
            // 1 / perplexity is the geometric mean of the probability given to the true text. There is no perplexity
            // of zero or less: an interval that reaches so far says nothing of how much may be gained.
            true if value > 0.0 => 1.0 - base / value,
            true => f64::NAN,
            false => 1.0 - value / base,
        };
        let paired = row.difference_low.zip(row.difference_high).filter(|(low, high)| high > low);
        let ratio = row.ratio_low.zip(row.ratio_high).map(|(low, high)| (base * low, base * high));
        let difference = paired.map(|(low, high)| (base + low, base + high));
        let ends = ratio.or(difference).or(row.ci_low.zip(row.ci_high));
        let interval = ends.map_or(Interval::default(), |(low, high)| {
            let (least, most) = if perplexity { (low, high) } else { (high, low) };
            Interval::between(at(least), at(most).min(1.0))
        });
        Some(Loss { value: at(row.value), interval, n: row.n, origin: self.origin(row) })
    }

    /// Changes with both losses: the points of the trade-off.
    pub fn trade_off(&self) -> Vec<(&Change, Loss, Loss)> {
        self.changes
            .iter()
            .filter(|change| change.sort != Sort::None)
            .filter_map(|change| {
                let recall = self.recall_loss(&change.text)?;
                Some((change, recall, self.general_loss(&change.text, None)?))
            })
            .collect()
    }

    /// The bypass with the largest (loss of recall − mean loss on the benchmarks).
    pub fn best(&self) -> Option<(&Change, Loss, Loss)> {
        self.trade_off()
            .into_iter()
            .filter(|(change, recall, general)| {
                change.is_bypass() && (recall.value - general.value).is_finite()
            })
            .max_by(|a, b| {
                let gain = |point: &(&Change, Loss, Loss)| point.1.value - point.2.value;
                // Of equals the first in table order.
                gain(a).total_cmp(&gain(b)).then(b.0.cmp(a.0))
            })
    }

    /// Recall of sequences with a prefix of so many tokens, of all or of those shown so often.
    pub fn recall_at_prefix(
        &self,
        change: &str,
        role: &str,
        seen: Option<u32>,
        prefix: u32,
    ) -> Option<&Summary> {
        let key = (
            change.into(),
            "memorization".into(),
            role.into(),
            seen,
            Some(prefix),
            "exact_match".to_string(),
        );
        self.rows.get(&key)
    }

    /// Role and lengths of prefixes for which recall was measured: of all candidates where these were scored, as
    /// those that were picked are recited with their prefix by choice.
    pub fn prefixes(&self) -> Option<(&'static str, BTreeSet<u32>)> {
        let of = |role: &'static str| Some((role, self.prefixes_of(role))).filter(|(_, all)| all.len() > 1);
        of("candidate").or_else(|| of(self.role()?))
    }

    /// Those of a role; none where all have the same.
    pub fn prefixes_of(&self, role: &str) -> BTreeSet<u32> {
        let recalls = self.rows.keys().filter(|key| {
            key.0 == "none" && key.1 == "memorization" && key.2 == role && key.5 == "exact_match"
        });
        recalls.filter_map(|key| key.4).collect()
    }

    /// Counts of training for which recall was measured.
    pub fn seen_counts(&self) -> BTreeSet<u32> {
        let Some(role) = self.role() else { return BTreeSet::new() };
        self.rows
            .keys()
            .filter(|key| {
                key.0 == "none" && key.1 == "memorization" && key.2 == role && key.5 == "exact_match"
            })
            .filter_map(|key| key.3)
            .chain(self.recited.counts().filter_map(|(seen, _)| seen))
            .collect()
    }
}

/// The set of one source.
pub fn bit(place: usize) -> Origin {
    u32::try_from(place).ok().and_then(|place| 1u128.checked_shl(place)).unwrap_or(0)
}

/// Mean of losses on different items, hence independent.
pub fn mean(losses: &[Loss]) -> Option<Loss> {
    let average = average(losses)?;
    let half = |end: fn(&Loss) -> Option<f64>| -> Option<f64> {
        let squares = losses.iter().map(|loss| Some((end(loss)? - loss.value).powi(2)));
        Some(squares.sum::<Option<f64>>()?.sqrt() / losses.len() as f64)
    };
    let low = half(|loss| loss.interval.low).map(|half| average.value - half);
    let high = half(|loss| loss.interval.high).map(|half| average.value + half);
    Some(Loss { interval: Interval::new(low, high), ..average })
}

/// 95 % Wilson interval of `hits` in `n`.
pub fn wilson(hits: u64, n: u64) -> (f64, f64) {
    let (n, share) = (n as f64, hits as f64 / n as f64);
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Rounding must not leave out what was seen.
    ((middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn wilson_of_known_cases() {
        let (low, high) = wilson(8, 10);
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4, "{low} {high}");
        let (low, high) = wilson(0, 20);
        assert!(low == 0.0 && (high - 0.1611).abs() < 1e-4, "{low} {high}");
        for n in 1..200 {
            assert_eq!((wilson(0, n).0, wilson(n, n).1), (0.0, 1.0), "of {n}");
        }
    }

    pub(crate) fn loss(value: f64, low: Option<f64>, high: f64) -> Loss {
        Loss { value, interval: Interval::new(low, Some(high)), n: 10, origin: 0 }
    }

    #[test]
    fn means_of_independent_losses_tighten() {
        let loss = |value: f64, low: Option<f64>| loss(value, low, value + 0.2);
        let mean = mean(&[loss(0.0, Some(-0.1)), loss(0.4, Some(0.3))]).unwrap();
        assert!((mean.value - 0.2).abs() < 1e-12);
        assert!((mean.interval.low.unwrap() - (0.2 - 0.02f64.sqrt() / 2.0)).abs() < 1e-12);
        assert!((mean.interval.high.unwrap() - (0.2 + 0.08f64.sqrt() / 2.0)).abs() < 1e-12);
        let open = super::mean(&[loss(0.0, None), loss(0.4, Some(0.3))]).unwrap();
        assert_eq!((open.interval.low, open.interval.high), (None, mean.interval.high));
        assert_eq!(super::mean(&[]), None);
    }

    #[test]
    fn an_end_that_no_perplexity_has_is_no_end() {
        let loss = |change: f64, ends: Option<(f64, f64)>| {
            let row = Summary {
                metric: "word_perplexity".into(),
                baseline: 20.09,
                value: 20.09 + change,
                difference_low: ends.map(|ends| ends.0),
                difference_high: ends.map(|ends| ends.1),
                ..Summary::default()
            };
            Model::default().loss(&row).unwrap()
        };
        let wide = loss(0.4, Some((-34.5, 36.6)));
        assert_eq!(wide.interval.low, None);
        assert!((wide.interval.high.unwrap() - 0.6456).abs() < 1e-4, "{wide:?}");
        assert!(wide.interval.high > Some(wide.value));
        let near = loss(0.4, Some((-0.1, 0.9)));
        assert!(near.interval.low < Some(near.value) && near.interval.low.is_some(), "{near:?}");
        // A single page has no interval; nothing is certain of it.
        assert_eq!(loss(0.4, None).interval, Interval::default());
    }

    #[test]
    fn a_loss_of_probability_is_read_off_the_ratio_of_perplexities() {
        let row = Summary {
            metric: "word_perplexity".into(),
            baseline: 20.0,
            value: 25.0,
            difference_low: Some(-34.5),
            difference_high: Some(36.6),
            ratio_low: Some(1.0),
            ratio_high: Some(2.0),
            ..Summary::default()
        };
        let loss = Model::default().loss(&row).unwrap();
        assert!((loss.value - 0.2).abs() < 1e-12 && loss.interval == Interval::between(0.0, 0.5), "{loss:?}");
    }
}
