//! How likely the suffix is: log-probability, loss, perplexity, and what that means for whoever samples.

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

/// exp of the loss per token over all tokens of the group. Numerator and denominator cover the same tokens.
pub(super) const PERPLEXITY: Metric = Metric {
    name: "perplexity",
    kind: "sequence",
    sample: |answers, _| Some(Sample { total: answers.first()?.logprob, weight: length(answers)? }),
    pool: Pool::Perplexity,
    spread: Spread::Ratio,
};

/// The chance that `n` draws at temperature 1 give the suffix at least once: 1 − (1 − p)ⁿ.
pub(super) const DISCOVERABLE: Metric = Metric {
    name: "discoverable",
    kind: "sequence",
    sample: |answers, options| Sample::one(at_least_once(answers.first()?.logprob, options.draws)),
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// Draws at temperature 1 until the suffix is given with the chance asked for, as a decimal logarithm (the
/// number itself overflows); at least one draw.
pub(super) const DRAWS: Metric = Metric {
    name: "draws_log10",
    kind: "sequence",
    sample: |answers, options| Sample::one(draws_log10(answers.first()?.logprob, options.chance)),
    pool: Pool::Mean,
    spread: Spread::Mean,
};

fn length(answers: &[Answer]) -> Option<f64> {
    let length = answers.first()?.request.continuation.len();
    (length > 0).then_some(length as f64)
}

/// ln(−ln(1 − e^logprob)): how fast draws miss. Below e^−30 it is `logprob` to the last digit, where 1 − p
/// would be 1.
fn log_rate(logprob: f64) -> f64 {
    if logprob < -30.0 { logprob } else { (-(-logprob.exp()).ln_1p()).ln() }
}

fn at_least_once(logprob: f64, draws: f64) -> f64 {
    -(-(draws.ln() + log_rate(logprob)).exp()).exp_m1()
}

fn draws_log10(logprob: f64, chance: f64) -> f64 {
    (((-(-chance).ln_1p()).ln() - log_rate(logprob)) / std::f64::consts::LN_10).max(0.0)
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
    fn discoverable_extraction_agrees_with_the_plain_form_where_that_works() {
        close(at_least_once(0.25f64.ln(), 3.0), 1.0 - 0.75f64.powi(3));
        close(at_least_once(0.0, 1.0), 1.0);
        close(draws_log10(0.25f64.ln(), 0.5), (0.5f64.ln() / 0.75f64.ln()).log10());
    }

    #[test]
    fn discoverable_extraction_keeps_probabilities_far_below_one_unit_in_the_last_place() {
        // 1 − e^−50 is 1 in plain floating point, so the plain form gives 0 here.
        close(at_least_once(-50.0, 1e6), 1e6 * (-50f64).exp());
        close(draws_log10(-2000.0, 0.5), (2000.0 + (2f64.ln()).ln()) / std::f64::consts::LN_10);
        close(draws_log10(-30.000_1, 0.5), draws_log10(-29.999_9, 0.5) + 0.000_2 / std::f64::consts::LN_10);
        assert_eq!(draws_log10(0.0, 0.5), 0.0);
    }
}
