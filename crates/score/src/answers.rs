//! Requests joined to their outcomes: one answer per request and intervention, checked for completeness.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rote_artifact::tables::{Item, Outcome, Request};
use rote_artifact::{Misfit, read};
use rote_plan::Intervention;

/// What a model gave for one token of a continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// The true token.
    pub token: u32,
    /// Its log-probability given the true past, in nats.
    pub logprob: f64,
    /// The likeliest token given the true past.
    pub argmax: u32,
    /// Its log-probability, in nats.
    pub argmax_logprob: f64,
    /// Entropy of the distribution that predicts it, in nats.
    pub entropy: f64,
    /// Standard deviation of log p under p, same distribution, in nats.
    pub deviation: f64,
    /// The free-running greedy token, where it was asked for.
    pub generated: Option<u32>,
    /// The true token's log-probability under a sampler, where one was asked for, in nats.
    pub sampled: Option<f64>,
}

/// One request under one intervention.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// What was asked.
    pub request: &'a Request,
    /// Log-probability of the continuation, in nats.
    pub logprob: f64,
    /// Leading tokens that greedy decoding gives.
    pub matched: u32,
    /// Whether these are all.
    pub exact_match: bool,
    /// Log-probability of the continuation in another model, where there is one, in nats.
    pub reference: Option<f64>,
    /// One per token of the continuation; empty where only the sum was kept.
    pub tokens: &'a [Token],
}

/// Everything a set of outcomes says, in the order of requests and of the interventions' first mention.
pub struct Answers {
    /// What was asked.
    pub requests: Vec<Request>,
    /// Interventions; `none` is among them.
    pub changes: Vec<String>,
    /// Place of `none` in `changes`.
    pub baseline: usize,
    /// `[change][request]`: log-probability, matched, exact match.
    items: Vec<Vec<(f64, u32, bool)>>,
    /// `[change][request]`: range in `tokens`.
    ranges: Vec<Vec<(usize, usize)>>,
    tokens: Vec<Token>,
    /// `[request]`: log-probability in another model; empty without one.
    reference: Vec<f64>,
}

impl Answers {
    /// Joins the tables of two artifacts.
    pub fn read(requests: &Path, outcomes: &Path) -> Result<Answers> {
        let asked = read::<Request>(requests).context("reading requests")?;
        let items = read::<Item>(outcomes).context("reading items")?;
        let rows = read::<Outcome>(outcomes).context("reading outcomes")?;
        Answers::join(asked, items, rows).map_err(|error| {
            let places = format!("{} does not answer {}", outcomes.display(), requests.display());
            Misfit(format!("{places}: {error:#}")).into()
        })
    }

    /// Joins requests, items and outcomes.
    pub fn join(requests: Vec<Request>, items: Vec<Item>, outcomes: Vec<Outcome>) -> Result<Answers> {
        let mut rows = HashMap::with_capacity(requests.len());
        for (row, request) in requests.iter().enumerate() {
            if rows.insert(request.request, row).is_some() {
                return Err(anyhow!("request {} stands twice", request.request));
            }
        }
        if requests.is_empty() {
            return Err(anyhow!("there are no requests"));
        }
        let row_of = |request: u32| {
            let n = requests.len();
            rows.get(&request).copied().with_context(|| format!("request {request} is none of the {n} asked"))
        };

        let mut changes = Changes::default();
        let mut sums: Vec<Vec<Option<(f64, u32, bool)>>> = Vec::new();
        for item in &items {
            let row = row_of(item.request)?;
            let change = changes.number(&item.change);
            if change == sums.len() {
                sums.push(vec![None; requests.len()]);
            }
            if item.logprob.is_nan() {
                return Err(anyhow!("request {} under `{}`: no number", item.request, item.change));
            }
            if sums[change][row].replace((item.logprob, item.matched, item.exact_match)).is_some() {
                return Err(anyhow!("request {} stands twice under `{}`", item.request, item.change));
            }
        }
        let items = sums
            .into_iter()
            .zip(&changes.names)
            .map(|(sums, change)| {
                let item = |(row, sum): (usize, Option<_>)| {
                    let request = requests[row].request;
                    sum.with_context(|| format!("request {request} has no answer under `{change}`"))
                };
                sums.into_iter().enumerate().map(item).collect()
            })
            .collect::<Result<Vec<_>>>()?;

        let (ranges, tokens) = tokens_of(&requests, outcomes, &mut changes, row_of)?;
        let none = Intervention::default().to_string();
        let baseline = changes.names.iter().position(|change| *change == none).with_context(|| {
            format!("nothing was answered under `{none}`, the model as it is; every sweep begins with it")
        })?;
        let reference = Vec::new();
        Ok(Answers { requests, changes: changes.names, baseline, items, ranges, tokens, reference })
    }

    /// With another model's answers to the same requests, as it is, to be compared with.
    pub fn with_reference(mut self, other: &Answers) -> Answers {
        self.reference = other.items[other.baseline].iter().map(|(logprob, _, _)| *logprob).collect();
        self
    }

    /// Request `row` under change number `change`.
    pub fn answer(&self, change: usize, row: usize) -> Answer<'_> {
        let (logprob, matched, exact_match) = self.items[change][row];
        let (from, to) = self.ranges[change][row];
        let (reference, tokens) = (self.reference.get(row).copied(), &self.tokens[from..to]);
        Answer { request: &self.requests[row], logprob, matched, exact_match, reference, tokens }
    }
}

/// Interventions in the order in which they are first met.
#[derive(Default)]
struct Changes {
    names: Vec<String>,
    last: usize,
}

impl Changes {
    fn number(&mut self, name: &str) -> usize {
        // Rows of one change come together, so the last one is nearly always right.
        if self.names.get(self.last).is_none_or(|last| last != name) {
            self.last = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
                self.names.push(name.to_string());
                self.names.len() - 1
            });
        }
        self.last
    }
}

type Ranges = Vec<Vec<(usize, usize)>>;

/// The outcomes by change and request, each continuation whole and in order.
fn tokens_of(
    requests: &[Request],
    outcomes: Vec<Outcome>,
    changes: &mut Changes,
    row_of: impl Fn(u32) -> Result<usize>,
) -> Result<(Ranges, Vec<Token>)> {
    let answered = changes.names.len();
    let mut keyed = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        let change = changes.number(&outcome.change);
        if change >= answered {
            return Err(anyhow!("`{}` has outcomes but no items", outcome.change));
        }
        let token = Token {
            token: outcome.token,
            logprob: outcome.logprob,
            argmax: outcome.argmax,
            argmax_logprob: outcome.argmax_logprob,
            entropy: outcome.entropy,
            deviation: outcome.deviation,
            generated: outcome.generated,
            sampled: outcome.sampled,
        };
        keyed.push(((change as u32, row_of(outcome.request)? as u32, outcome.position), token));
    }
    keyed.sort_by_key(|(key, _)| *key);

    let mut ranges = vec![vec![(0, 0); requests.len()]; answered];
    let mut from = 0;
    while from < keyed.len() {
        let (change, row, _) = keyed[from].0;
        let same = |((c, r, _), _): &&((u32, u32, u32), Token)| (*c, *r) == (change, row);
        let to = from + keyed[from..].iter().take_while(same).count();
        let (change, row) = (change as usize, row as usize);
        let asked = &requests[row];
        let place = || format!("request {} under `{}`", asked.request, changes.names[change]);
        let wanted = asked.continuation.len();
        if to - from != wanted {
            return Err(anyhow!("{}: {} outcomes for {wanted} tokens", place(), to - from));
        }
        for (position, ((_, _, at), token)) in keyed[from..to].iter().enumerate() {
            if *at as usize != position {
                return Err(anyhow!("{}: position {position} is missing", place()));
            }
            let expected = asked.continuation[position];
            if token.token != expected {
                let token = token.token;
                return Err(anyhow!("{}: token {token} at {position}, asked was {expected}", place()));
            }
        }
        ranges[change][row] = (from, to);
        from = to;
    }
    for (change, ranges) in ranges.iter().enumerate() {
        for (row, (from, to)) in ranges.iter().enumerate() {
            let asked = &requests[row];
            if asked.kind == "sequence" && from == to && !asked.continuation.is_empty() {
                let (request, change) = (asked.request, &changes.names[change]);
                return Err(anyhow!("request {request} has no outcomes under `{change}`"));
            }
        }
    }
    Ok((ranges, keyed.into_iter().map(|(_, token)| token).collect()))
}
