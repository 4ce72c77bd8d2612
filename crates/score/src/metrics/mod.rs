//! Every metric, one file each, and the list that everything walks.
//!
//! A metric looks at the answers to one subject: a sequence's one answer, or all answers to one benchmark
//! document. It gives a [`Sample`]; a [`Pool`] makes one number of the samples of a group, and of a single
//! sample the value in the `score` table. So a document's perplexity is the perplexity of it alone.

mod choice;
mod entropy;
mod exact_match;
mod extraction_strength;
mod likelihood;
mod min_k;
mod near_verbatim;
mod pages;
mod sampling;
mod token_accuracy;
mod words;
mod zlib;

use crate::answers::Answer;

/// A metric's numbers.
pub struct Metric {
    /// Its name in the tables.
    pub name: &'static str,
    /// What it is asked about: the `kind` of its requests.
    pub kind: &'static str,
    /// From the answers to one subject; none where it does not apply.
    pub sample: fn(&[Answer], &Options) -> Option<Sample>,
    /// How samples become one number.
    pub pool: Pool,
    /// How sure that number is.
    pub spread: Spread,
}

/// What the user may set.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Share of the least likely tokens that Min-K% looks at.
    pub min_k: f64,
    /// Draws of (n, p)-discoverable extraction.
    pub draws: f64,
    /// Chance of (n, p)-discoverable extraction.
    pub chance: f64,
}

impl Default for Options {
    fn default() -> Self {
        Options { min_k: 0.2, draws: 100.0, chance: 0.5 }
    }
}

/// What one subject contributes: a total, and how much it weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Sum over the subject's parts.
    pub total: f64,
    /// How many parts these are: 1, or tokens, words, bytes.
    pub weight: f64,
}

impl Sample {
    /// A value that counts once.
    pub fn one(value: f64) -> Option<Sample> {
        Some(Sample { total: value, weight: 1.0 })
    }

    /// Yes or no.
    pub fn of(yes: bool) -> Option<Sample> {
        Sample::one(f64::from(u8::from(yes)))
    }
}

/// How totals over weights become a metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Σ total / Σ weight.
    Mean,
    /// exp(−Σ total / Σ weight): perplexity from log-probabilities.
    Perplexity,
    /// −Σ total / (Σ weight · ln 2): bits from log-probabilities.
    Bits,
}

impl Pool {
    /// Of a mean.
    pub fn value(self, mean: f64) -> f64 {
        match self {
            Pool::Mean => mean,
            Pool::Perplexity => (-mean).exp(),
            Pool::Bits => -mean / std::f64::consts::LN_2,
        }
    }
}

/// How the standard error and the intervals of a pooled value come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Values are 0 or 1: closed-form error, Wilson's interval; BCa of the difference.
    Share,
    /// Values are numbers between 0 and 1 that weigh the same, often piled up at one of them (accuracies, chances):
    /// closed-form error, BCa, which keeps within the bounds. Of items that are all alike every resample is the same
    /// and says nothing: at 0 or 1 Wilson's interval stands in, as no values have more spread than zeros and ones.
    Unit,
    /// The same between bounds that are no part of the metric (counts of tokens); no interval where all are alike.
    Bounded,
    /// Values are numbers without bounds that weigh the same: closed-form error, bootstrap-t.
    Mean,
    /// Perplexity of items that weigh the same: the harness's bootstrap error, bootstrap-t of the mean.
    Resampled,
    /// Items weigh differently: no error, as in the harness; bootstrap-t of the ratio.
    Ratio,
}

/// All metrics, in the order of the tables.
pub const METRICS: &[Metric] = &[
    exact_match::EXACT_MATCH,
    exact_match::MATCHED,
    token_accuracy::FREE,
    token_accuracy::FORCED,
    extraction_strength::EXTRACTION_STRENGTH,
    near_verbatim::EDIT_DISTANCE,
    near_verbatim::COMMON_SUBSEQUENCE,
    near_verbatim::ROUGE_L,
    entropy::MEAN,
    entropy::SUM,
    likelihood::LOGPROB,
    likelihood::LOSS,
    likelihood::LOSS_REF,
    likelihood::PERPLEXITY,
    zlib::ZLIB_RATIO,
    sampling::P_Z,
    sampling::REACHABLE,
    sampling::LOG10_P_Z,
    sampling::DISCOVERABLE,
    sampling::EXTRACTABLE,
    sampling::DRAWS,
    min_k::MIN_K,
    min_k::MIN_K_PLUS_PLUS,
    choice::ACC,
    choice::ACC_NORM,
    words::PERPLEXITY,
    words::ACC,
    pages::WORD_PERPLEXITY,
    pages::BYTE_PERPLEXITY,
    pages::BITS_PER_BYTE,
];

#[cfg(test)]
pub(crate) mod tests {
    use rote_artifact::tables::Request;

    use super::*;
    use crate::answers::Token;

    /// A request of `kind` for `continuation`.
    pub(crate) fn request(kind: &str, continuation: &[u32]) -> Request {
        Request {
            request: 0,
            source: String::new(),
            document: 0,
            choice: -1,
            kind: kind.to_string(),
            task: "task".to_string(),
            role: "candidate".to_string(),
            context: vec![1],
            continuation: continuation.to_vec(),
            gold: -1,
            ..Request::default()
        }
    }

    /// A token asked about, the arg-max and the generated one; probability one half each.
    pub(crate) fn token(token: u32, argmax: u32, generated: Option<u32>) -> Token {
        let half = -std::f64::consts::LN_2;
        let (logprob, argmax_logprob) = (half, half);
        Token {
            token,
            logprob,
            argmax,
            argmax_logprob,
            entropy: 0.5,
            deviation: 0.25,
            generated,
            sampled: None,
        }
    }

    /// Value of `metric` for a sequence with these tokens.
    pub(crate) fn of_tokens(metric: &Metric, tokens: &[Token]) -> Option<f64> {
        let asked: Vec<u32> = tokens.iter().map(|token| token.token).collect();
        let request = request("sequence", &asked);
        let matched = tokens.iter().take_while(|token| token.token == token.argmax).count();
        let answer = Answer {
            request: &request,
            logprob: tokens.iter().map(|token| token.logprob).sum(),
            matched: matched as u32,
            exact_match: matched == tokens.len(),
            reference: None,
            tokens,
        };
        let sample = (metric.sample)(&[answer], &Options::default())?;
        Some(metric.pool.value(sample.total / sample.weight))
    }

    #[test]
    fn names_are_unique_within_a_kind() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(METRICS.iter().all(|metric| seen.insert((metric.kind, metric.name))));
    }
}
