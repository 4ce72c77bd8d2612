//! How likely the suffix is: log-probability, loss, perplexity.

use super::{Metric, Pool, Sample, Spread};
use crate::answers::Answer;

/// Sum over the suffix, in nats.
pub(super) const LOGPROB: Metric = Metric {
    name: "logprob",
    kind: "sequence",
    sample: |answers, _| Sample::one(answers.first()?.logprob),
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// Mean negative log-probability per token of the item, in nats.
pub(super) const LOSS: Metric = Metric {
    name: "loss",
    kind: "sequence",
    sample: |answers, _| Sample::one(-answers.first()?.logprob / length(answers)?),
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// The loss less another model's on the same tokens: what a text loses by being hard for everyone cancels, in
/// nats per token.
pub(super) const LOSS_REF: Metric = Metric {
    name: "loss_ref",
    kind: "sequence",
    sample: |answers, _| {
        let answer = answers.first()?;
        Sample::one((answer.reference? - answer.logprob) / length(answers)?)
    },
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// exp of the loss per token over all tokens of the group. Numerator and denominator cover the same tokens.
pub(super) const PERPLEXITY: Metric = Metric {
    name: "perplexity",
    kind: "sequence",
    sample: |answers, _| Some(Sample { total: answers.first()?.logprob, weight: length(answers)? }),
    pool: Pool::Perplexity,
    spread: Spread::Ratio,
};

fn length(answers: &[Answer]) -> Option<f64> {
    let length = answers.first()?.request.continuation.len();
    (length > 0).then_some(length as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::{of_tokens, token};

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-12 * expected.abs(), "{value} is not {expected}");
    }

    #[test]
    fn loss_and_perplexity_are_per_token_of_the_suffix() {
        let tokens = [token(7, 7, None); 4];
        close(of_tokens(&LOGPROB, &tokens).unwrap(), 4.0 * 0.5f64.ln());
        close(of_tokens(&LOSS, &tokens).unwrap(), -(0.5f64.ln()));
        close(of_tokens(&PERPLEXITY, &tokens).unwrap(), 2.0);
        assert_eq!(of_tokens(&LOSS, &[]), None);
    }

    #[test]
    fn a_loss_is_compared_only_with_a_model_that_was_asked() {
        assert_eq!(of_tokens(&LOSS_REF, &[token(7, 7, None)]), None);
        let request = crate::metrics::tests::request("sequence", &[7, 8]);
        let (matched, exact_match, reference, tokens) = (0, false, Some(-5.0), &[][..]);
        let answer = Answer { request: &request, logprob: -2.0, matched, exact_match, reference, tokens };
        let sample = (LOSS_REF.sample)(&[answer], &crate::metrics::Options::default()).unwrap();
        assert_eq!(sample.total, -1.5);
    }
}
