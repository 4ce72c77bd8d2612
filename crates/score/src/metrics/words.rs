//! Last words: perplexity of the word, and whether greedy decoding gives it.

use super::{Metric, Pool, Sample, Spread};

/// exp of the mean over documents of the negative log-probability of the whole word (not per token).
pub(super) const PERPLEXITY: Metric = Metric {
    name: "perplexity",
    kind: "word",
    sample: |answers, _| Sample::one(answers.first()?.logprob),
    pool: Pool::Perplexity,
    spread: Spread::Resampled,
};

/// Whether every token of the word is the arg-max.
pub(super) const ACC: Metric = Metric {
    name: "acc",
    kind: "word",
    sample: |answers, _| Sample::of(answers.first()?.exact_match),
    pool: Pool::Mean,
    spread: Spread::Share,
};
