//! score: outcomes become metrics, per item and per group, with their uncertainty.
//!
//! [`answers`] joins requests and outcomes and refuses what does not fit together; [`metrics`] is the list of
//! what is computed of each answer; [`subjects`] says what is one item and which items are summed up
//! together; [`summary`] adds errors, intervals and paired differences from the model as it is.
//!
//! How sure a number is:
//! - a share has Wilson's interval, a mean Student's, both with the sample's standard deviation (n − 1) over
//!   √n as standard error, as in lm-evaluation-harness;
//! - a last word's perplexity has the harness's bootstrap error, digit for digit;
//! - perplexities of pages and of suffixes have no standard error (the harness reports none) and the
//!   percentile interval of our bootstrap;
//! - every difference from `none` has a percentile interval from a bootstrap over items that is paired (the
//!   same items are drawn under both), a two-sided level from the same resamples, and that level after
//!   Holm's correction over all interventions compared.
//!
//! Deliberately absent: the model, its tokenizer, and anything that knows one benchmark from another.

pub mod answers;
pub mod bootstrap;
pub mod interval;
pub mod mersenne;
pub mod metrics;
pub mod subjects;
pub mod summary;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use rote_artifact::TableWriter;
use rote_artifact::tables;
use rote_stage::{Context, Stage};
use rote_store::Output;

use crate::answers::{Answer, Answers};
use crate::metrics::{METRICS, Metric, Options, Sample};
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
}

/// What may be chosen.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct Params {
    /// Share of the least likely tokens that Min-K% and Min-K%++ look at
    #[arg(long, value_name = "SHARE", default_value = "0.2")]
    pub min_k: f64,
    /// Draws at temperature 1 for the chance that a suffix is discovered
    #[arg(long, value_name = "N", default_value = "100")]
    pub draws: u64,
    /// Chance for the number of draws that discover a suffix
    #[arg(long, value_name = "SHARE", default_value = "0.5")]
    pub chance: f64,
    /// Resamples of the paired bootstrap
    #[arg(long, value_name = "N", default_value = "5000")]
    pub resamples: usize,
    /// Seed of the paired bootstrap
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Replicates of lm-evaluation-harness's bootstrap of a last-word perplexity's standard error
    #[arg(long, value_name = "N", default_value = "100000")]
    pub bootstrap_iters: usize,
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
        ensure!(params.draws > 0, "--draws starts at 1");
        ensure!(params.resamples > 0, "--resamples starts at 1");
        let answers = Answers::read(&inputs.requests, &inputs.outcomes)?;
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
