//! Completion entropy: how undecided the model is over the suffix, each position given the true past.
//!
//! Only the q distributions that predict suffix tokens count (taken at positions p−1 … p+q−2); outcomes hold
//! exactly these.

use super::{Metric, Pool, Sample, Spread};
use crate::answers::Answer;

/// Mean over the suffix, in nats per token.
pub(super) const MEAN: Metric = Metric {
    name: "entropy",
    kind: "sequence",
    sample: |answers, _| Sample::one(sum(answers)? / answers.first()?.tokens.len() as f64),
    pool: Pool::Mean,
    spread: Spread::Mean,
};

/// Sum over the suffix, in nats.
pub(super) const SUM: Metric = Metric {
    name: "entropy_sum",
    kind: "sequence",
    sample: |answers, _| Sample::one(sum(answers)?),
    pool: Pool::Mean,
    spread: Spread::Mean,
};

fn sum(answers: &[Answer]) -> Option<f64> {
    let tokens = answers.first()?.tokens;
    (!tokens.is_empty()).then(|| tokens.iter().map(|token| token.entropy).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Token;
    use crate::metrics::tests::{of_tokens, token};

    #[test]
    fn entropy_is_averaged_over_the_suffix_and_summed_apart() {
        let tokens = [1.0, 2.0, 6.0].map(|entropy| Token { entropy, ..token(7, 7, None) });
        assert_eq!(of_tokens(&MEAN, &tokens), Some(3.0));
        assert_eq!(of_tokens(&SUM, &tokens), Some(9.0));
        assert_eq!(of_tokens(&MEAN, &[]), None);
    }
}
