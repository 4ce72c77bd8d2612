//! score: outcomes become metrics, per item and per group, with their uncertainty.
//!
//! [`answers`] joins requests and outcomes and refuses what does not fit together; [`metrics`] is the list of
//! what is computed of each answer; [`subjects`] says what is one item and which items are summed up
//! together; [`summary`] adds errors, intervals and paired differences from the model as it is.
//!
//! How sure a number is ([`resampled`]; which interval covers what is tried in `coverage`):
//! - a share has Wilson's interval; a number within bounds (accuracies, chances) BCa's ([`bca`]); a number without
//!   bounds (losses, entropies, perplexities) bootstrap-t's ([`studentised`]), and of fewer than eight items Student's.
//!   Where no resample differs from another, a share, an accuracy or a chance has Wilson's, an area under a ROC curve
//!   Newcombe's, and a count of tokens none: an interval without a width is never given for one;
//! - standard errors are the sample's deviation (n − 1) over √n, as in lm-evaluation-harness; a last word's
//!   perplexity has the harness's bootstrap error, digit for digit; perplexities of pages and of suffixes have none
//!   (the harness reports none);
//! - the area under a ROC curve has DeLong's error, which also pairs its difference from the baseline ([`area`]);
//! - every other difference from `none` has an interval from a bootstrap over items that is paired (the same items
//!   are drawn under both): BCa where values have bounds, symmetric bootstrap-t where they have none, MOVER of two
//!   bootstrap-t intervals between perplexities. A difference of shares that rests on fewer than ten differing items
//!   has Tango's ([`tango`]): resamples of so few tell too little; a ratio of perplexities, whose logarithm is a
//!   difference of means, has symmetric bootstrap-t's;
//! - with it goes the two-sided level of no difference: McNemar's mid-p of shares, that of items swapped at random
//!   ([`bootstrap::swap_level`]) where other values have bounds, DeLong's of areas (of items swapped where that has no
//!   error), else that at which the interval would end at zero (where all items differ alike, that of their signs turned);
//!   and that level after Holm's correction over all interventions compared.
//!
//! The table names each row's method (`interval`, `difference_interval`).
//!
//! Deliberately absent: the model, its tokenizer, and anything that knows one benchmark from another.

pub mod answers;
pub mod area;
pub mod bca;
pub mod bootstrap;
pub mod chacha;
#[cfg(test)]
mod coverage;
pub mod interval;
pub mod mersenne;
pub mod metrics;
pub mod paired;
pub mod ranking;
pub mod resampled;
pub mod studentised;
pub mod subjects;
pub mod summary;
pub mod tango;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use rote_artifact::TableWriter;
use rote_artifact::tables;
use rote_stage::{Context, Stage};
use rote_store::Output;

use crate::answers::{Answer, Answers};
use crate::metrics::{METRICS, Metric, Options, Sample};
use crate::ranking::{Guess, MEASURES, Measured, challenge, membership};
use crate::subjects::Group;
use crate::subjects::Subject;
use crate::summary::{Column, Resampling, summarise};

/// The stage.
pub struct Score;

/// What is read.
#[derive(clap::Args)]
pub struct Inputs {
    /// What was asked
    #[arg(long, value_name = "REQUEST")]
    pub requests: PathBuf,
    /// What the model answered, under every intervention
    #[arg(long, value_name = "OUTCOME|ITEM")]
    pub outcomes: PathBuf,
    /// What another model answered to the same requests, for the loss less that model's
    #[arg(long, value_name = "OUTCOME|ITEM")]
    pub reference: Option<PathBuf>,
}

/// What may be chosen.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct Params {
    /// Share of the least likely tokens that Min-K% and Min-K%++ look at
    #[arg(long, value_name = "SHARE", default_value = "0.2")]
    pub min_k: f64,
    /// Draws, as the outcomes' sampler makes them, for the chance that a suffix is discovered
    #[arg(long, value_name = "N", default_value = "100")]
    pub draws: u64,
    /// Chance from which on a suffix counts as discoverable, and for the number of draws that it takes
    #[arg(long, value_name = "SHARE", default_value = "0.5")]
    pub chance: f64,
    /// False-positive rate at which members found are counted
    #[arg(long, value_name = "SHARE", default_value = "0.01")]
    pub fpr: f64,
    /// Resamples of the paired bootstrap, and swaps of items for a level of no difference
    #[arg(long, value_name = "N", default_value = "5000")]
    pub resamples: usize,
    /// Seed of resamples and swaps
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Replicates of lm-evaluation-harness's bootstrap of a last-word perplexity's standard error
    #[arg(long, value_name = "N", default_value = "100000")]
    pub bootstrap_iters: usize,
}

/// The least level that resamples can tell apart and that is left after correction, where it is above 0.05.
fn least_level(compared: usize, resamples: usize) -> Option<f64> {
    Some(compared as f64 / (resamples + 1) as f64).filter(|least| *least > 0.05)
}

impl Stage for Score {
    const NAME: &'static str = "score";
    const ABOUT: &'static str = "Compute metrics per item and per group, with their uncertainty";
    const EXAMPLE: &'static str = "rote-score --requests memorized --outcomes outcomes --out scores";
    type Inputs = Inputs;
    type Params = Params;

    fn run(inputs: &Inputs, params: &Params, output: &Output, context: &Context) -> Result<()> {
        ensure!(params.min_k > 0.0 && params.min_k <= 1.0, "--min-k is a share above 0");
        ensure!(params.chance > 0.0 && params.chance < 1.0, "--chance lies between 0 and 1");
        ensure!(params.fpr >= 0.0 && params.fpr < 1.0, "--fpr is a share below 1");
        ensure!(params.draws > 0, "--draws starts at 1");
        ensure!(params.resamples > 0, "--resamples starts at 1");
        // Every resample is kept, for all interventions at once: no more than memory surely has.
        ensure!(params.resamples <= 1 << 20, "--resamples: at most {}", 1 << 20);
        let mut answers = Answers::read(&inputs.requests, &inputs.outcomes)?;
        if let Some(reference) = &inputs.reference {
            answers = answers.with_reference(&Answers::read(&inputs.requests, reference)?);
        }
        let compared = answers.changes.len() - 1;
        if let Some(least) = least_level(compared, params.resamples) {
            context.say(&format!(
                "score: {compared} interventions are compared; with --resamples {} a level corrected for that is \
                 at least {least:.2} (except of shares and areas): at least --resamples {} is needed for 0.05",
                params.resamples,
                20 * compared
            ));
        }
        let subjects = subjects::subjects(&answers.requests);
        let options = Options { min_k: params.min_k, draws: params.draws as f64, chance: params.chance };
        let samples = samples(&answers, &subjects, &options);

        let mut scores = TableWriter::<tables::Score>::new(output);
        for (change, name) in answers.changes.iter().enumerate() {
            for (subject, samples) in subjects.iter().zip(&samples) {
                scores.extend(rows(name, subject, &samples[change]))?;
            }
        }
        scores.finish()?;

        let resampling = Resampling {
            replicates: params.resamples,
            seed: params.seed,
            harness_replicates: params.bootstrap_iters,
        };
        let groups = subjects::groups(&subjects);
        let meter = context.meter("groups", groups.len() as u64);
        let mut summaries = TableWriter::<tables::Summary>::new(output);
        for group in &groups {
            let columns = columns(&group.kind, &group.members, &samples, answers.changes.len());
            summaries.extend(summarise(group, &columns, &answers.changes, answers.baseline, resampling))?;
            meter.add(1);
        }
        let rankings = Rankings { answers: &answers, subjects: &subjects, samples: &samples };
        summaries.extend(rankings.rows(&groups, params.fpr, resampling))?;
        summaries.finish()
    }
}

/// `[subject][change][metric of the subject's kind]`.
type Samples = Vec<Vec<Vec<Option<Sample>>>>;

/// The metrics of a kind of request.
fn metrics_of(kind: &str) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(move |metric| metric.kind == kind)
}

fn samples(answers: &Answers, subjects: &[Subject], options: &Options) -> Samples {
    subjects
        .par_iter()
        .map(|subject| {
            let under = |change| {
                let given: Vec<Answer> =
                    subject.rows.iter().map(|&row| answers.answer(change, row)).collect();
                metrics_of(&subject.kind).map(|metric| (metric.sample)(&given, options)).collect()
            };
            (0..answers.changes.len()).map(under).collect()
        })
        .collect()
}

fn rows<'a>(
    change: &'a str,
    subject: &'a Subject,
    samples: &'a [Option<Sample>],
) -> impl Iterator<Item = tables::Score> + 'a {
    metrics_of(&subject.kind).zip(samples).filter_map(move |(metric, sample)| {
        let sample = (*sample)?;
        Some(tables::Score {
            change: change.to_string(),
            suite: subject.suite.clone(),
            metric: metric.name.to_string(),
            request: subject.request,
            document: subject.document,
            role: subject.role.clone(),
            seen: subject.seen,
            prefix: subject.prefix,
            value: metric.pool.value(sample.total / sample.weight),
        })
    })
}

/// The samples of a group, metric by metric. A member counts for a metric that applies to it under every
/// change; a metric that applies to no member is left out.
fn columns(kind: &str, members: &[usize], samples: &Samples, changes: usize) -> Vec<Column> {
    metrics_of(kind)
        .enumerate()
        .filter_map(|(place, metric)| {
            let of = |member: usize, change: usize| samples[member][change][place];
            let applies: Vec<bool> = members
                .iter()
                .map(|&member| (0..changes).all(|change| of(member, change).is_some()))
                .collect();
            let pick = |change: usize, part: fn(Sample) -> f64| -> Vec<f64> {
                let both = members.iter().zip(&applies);
                both.map(|(&member, &applies)| match of(member, change) {
                    Some(sample) if applies => part(sample),
                    _ => 0.0,
                })
                .collect()
            };
            applies.contains(&true).then(|| Column {
                metric,
                totals: (0..changes).map(|change| pick(change, |sample| sample.total)).collect(),
                weights: pick(0, |sample| sample.weight),
            })
        })
        .collect()
}

/// Metrics of sets of sequences rather than of one.
struct Rankings<'a> {
    answers: &'a Answers,
    subjects: &'a [Subject],
    samples: &'a Samples,
}

impl Rankings<'_> {
    /// For all sequences, and for those of each prefix where there are several: the challenge's recall over
    /// all of them, membership between memorized ones and controls.
    fn rows(&self, groups: &[Group], fpr: f64, resampling: Resampling) -> Vec<tables::Summary> {
        let whole = |group: &&Group| group.kind == "sequence" && group.seen.is_none();
        let mut rows = Vec::new();
        let mut prefixes: Vec<Option<u32>> = groups.iter().filter(whole).map(|group| group.prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        for prefix in prefixes {
            let same: Vec<&Group> =
                groups.iter().filter(whole).filter(|group| group.prefix == prefix).collect();
            let role = |name: &str| same.iter().find(|group| group.role == name);
            let like = |roles: &[&str]| tables::Summary {
                suite: same[0].suite.clone(),
                role: roles.join("+"),
                prefix,
                ..tables::Summary::default()
            };
            if let (Some(members), Some(outsiders)) = (role("memorized"), role("control")) {
                let like = like(&["memorized", "control"]);
                for &(name, sign) in MEASURES {
                    let of = |group: &Group| self.measures(group, name, sign);
                    let (Some(members), Some(outsiders)) = (of(members), of(outsiders)) else { continue };
                    let measured = Measured { name, members, outsiders };
                    let (changes, baseline) = (&self.answers.changes, self.answers.baseline);
                    rows.extend(membership(&measured, fpr, resampling, changes, baseline, &like));
                }
            }
            let roles: Vec<&str> = same.iter().map(|group| group.role.as_str()).collect();
            let members: Vec<usize> = same.iter().flat_map(|group| group.members.iter().copied()).collect();
            let guesses: Vec<Vec<Guess>> = (0..self.answers.changes.len())
                .map(|change| members.iter().map(|&member| self.guess(change, member)).collect())
                .collect();
            let (changes, baseline) = (&self.answers.changes, self.answers.baseline);
            rows.extend(challenge(&guesses, resampling, changes, baseline, &like(&roles)));
        }
        rows
    }

    /// `[change][member]` of a measure, if it applies to all of them.
    fn measures(&self, group: &Group, name: &str, sign: f64) -> Option<Vec<Vec<f64>>> {
        let place = metrics_of(&group.kind).position(|metric| metric.name == name)?;
        let of = |change: usize, member: &usize| {
            let sample = self.samples[*member][change][place]?;
            Some(sign * sample.total / sample.weight)
        };
        (0..self.answers.changes.len())
            .map(|change| group.members.iter().map(|member| of(change, member)).collect())
            .collect()
    }

    /// The greedy guess for a sequence. How sure the model is of it is the mean log-probability of its tokens up to and
    /// with the first wrong one; of a right guess these are all, and no token of the prefix. What a wrong guess goes on
    /// with stands under no true past: its log-probabilities are not among the outcomes, so it is judged without.
    fn guess(&self, change: usize, member: usize) -> Guess {
        let answer = self.answers.answer(change, self.subjects[member].rows[0]);
        let known = answer.tokens.len().min(answer.matched as usize + 1);
        let total: f64 = answer.tokens[..known].iter().map(|token| token.argmax_logprob).sum();
        Guess { confidence: total / known.max(1) as f64, right: answer.exact_match }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_resamples_for_so_many_comparisons_are_pointed_out() {
        assert_eq!(least_level(250, 5000), None);
        assert_eq!(least_level(300, 5999), None);
        assert_eq!(least_level(300, 4999), Some(0.06));
        // What is then asked for is enough.
        assert_eq!(least_level(1024, 20 * 1024), None);
    }
}
