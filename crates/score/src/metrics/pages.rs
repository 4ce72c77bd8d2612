//! Whole pages: perplexity per word and per byte, and bits per byte, of the page as published.

use super::{Metric, Pool, Sample, Spread};
use crate::answers::Answer;

/// exp(−Σ log p / Σ words).
pub(super) const WORD_PERPLEXITY: Metric = Metric {
    name: "word_perplexity",
    kind: "rolling",
    sample: |answers, _| page(answers, answers.first()?.request.document_words),
    pool: Pool::Perplexity,
    spread: Spread::Ratio,
};

/// exp(−Σ log p / Σ bytes).
pub(super) const BYTE_PERPLEXITY: Metric = Metric {
    name: "byte_perplexity",
    kind: "rolling",
    sample: |answers, _| page(answers, answers.first()?.request.document_bytes),
    pool: Pool::Perplexity,
    spread: Spread::Ratio,
};

/// −Σ log p / (Σ bytes · ln 2).
pub(super) const BITS_PER_BYTE: Metric = Metric {
    name: "bits_per_byte",
    kind: "rolling",
    sample: |answers, _| page(answers, answers.first()?.request.document_bytes),
    pool: Pool::Bits,
    spread: Spread::Ratio,
};

/// A page's windows add up; its length counts once.
fn page(answers: &[Answer], length: u32) -> Option<Sample> {
    let total = answers.iter().map(|answer| answer.logprob).sum();
    Some(Sample { total, weight: f64::from(length) })
}

#[cfg(test)]
mod tests {
    use rote_artifact::tables::Request;

    use super::*;
    use crate::metrics::Options;
    use crate::metrics::tests::request;

    #[test]
    fn windows_of_a_page_add_up_and_its_length_counts_once() {
        let request = Request { document_words: 10, document_bytes: 50, ..request("rolling", &[1]) };
        let answer = |logprob| Answer {
            request: &request,
            logprob,
            matched: 0,
            exact_match: false,
            reference: None,
            tokens: &[],
        };
        let answers = [answer(-20.0), answer(-10.0)];
        let sample = (WORD_PERPLEXITY.sample)(&answers, &Options::default());
        assert_eq!(sample, Some(Sample { total: -30.0, weight: 10.0 }));
        assert_eq!(WORD_PERPLEXITY.pool.value(-3.0), 3f64.exp());
        assert_eq!(BITS_PER_BYTE.pool.value(-2f64.ln()), 1.0);
    }
}
