//! Min-K% and Min-K%++: how likely the least likely tokens are.

use super::{Metric, Options, Pool, Sample, Spread};

/// Mean log-probability of the least likely share of tokens, in nats.
pub(super) const MIN_K: Metric = Metric {
    name: "min_k",
    kind: "sequence",
    sample: |answers, options| {
        lowest(answers.first()?.tokens.iter().map(|token| token.logprob).collect(), options)
    },
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// The same after each log-probability was standardised by the mean (−entropy) and deviation of log p under
/// p at its position. A distribution on one token has no deviation; there the token is as expected: 0.
pub(super) const MIN_K_PLUS_PLUS: Metric = Metric {
    name: "min_k_plus_plus",
    kind: "sequence",
    sample: |answers, options| {
        let standard = answers.first()?.tokens.iter().map(|token| {
            if token.deviation > 0.0 { (token.logprob + token.entropy) / token.deviation } else { 0.0 }
        });
        lowest(standard.collect(), options)
    },
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// Mean of the lowest share of the values, at least one of them.
fn lowest(mut values: Vec<f64>, options: &Options) -> Option<Sample> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let n = ((values.len() as f64 * options.min_k) as usize).max(1);
    Sample::one(values[..n].iter().sum::<f64>() / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Token;
    use crate::metrics::tests::{of_tokens, token};

    #[test]
    fn the_lowest_fifth_is_averaged() {
        let of = |logprob| Token { logprob, ..token(7, 7, None) };
        let tokens: Vec<Token> = (0..10).map(|i| of(-f64::from(i))).collect();
        assert_eq!(of_tokens(&MIN_K, &tokens), Some(-8.5));
        assert_eq!(of_tokens(&MIN_K, &tokens[..3]), Some(-2.0));
        assert_eq!(of_tokens(&MIN_K, &[]), None);
    }

    #[test]
    fn plus_plus_standardises_by_the_distribution_at_each_position() {
        let of = |logprob, entropy, deviation| Token { logprob, entropy, deviation, ..token(7, 7, None) };
        // (−3 + 1) / 0.5 = −4 and (−4 + 3) / 2 = −0.5.
        assert_eq!(of_tokens(&MIN_K_PLUS_PLUS, &[of(-3.0, 1.0, 0.5), of(-4.0, 3.0, 2.0)]), Some(-4.0));
        assert_eq!(of_tokens(&MIN_K_PLUS_PLUS, &[of(0.0, 0.0, 0.0)]), Some(0.0));
    }
}
