//! Token accuracy, a share and never rounded: of the free-running text, and of each step given the true past.

use super::{Metric, Pool, Sample, Spread};

/// Share of positions at which the free-running greedy text equals the suffix (the paper's; Pythia's).
pub(super) const FREE: Metric = Metric {
    name: "token_accuracy_free",
    kind: "sequence",
    sample: |answers, _| {
        let tokens = answers.first()?.tokens;
        let same = tokens.iter().map(|token| Some(token.generated? == token.token));
        share(same.collect::<Option<Vec<_>>>()?)
    },
    pool: Pool::Mean,
    spread: Spread::Unit,
};

/// Share of positions at which the arg-max given the true past is right.
pub(super) const FORCED: Metric = Metric {
    name: "token_accuracy_forced",
    kind: "sequence",
    sample: |answers, _| {
        share(answers.first()?.tokens.iter().map(|token| token.argmax == token.token).collect())
    },
    pool: Pool::Mean,
    spread: Spread::Unit,
};

fn share(right: Vec<bool>) -> Option<Sample> {
    if right.is_empty() {
        return None;
    }
    Sample::one(right.iter().filter(|right| **right).count() as f64 / right.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::{of_tokens, token};

    #[test]
    fn accuracy_is_a_share_and_not_rounded_down() {
        let tokens = [token(7, 7, Some(7)), token(8, 9, Some(9)), token(9, 9, Some(1)), token(5, 5, Some(5))];
        assert_eq!(of_tokens(&FREE, &tokens), Some(0.5));
        assert_eq!(of_tokens(&FORCED, &tokens), Some(0.75));
    }

    #[test]
    fn nothing_generated_is_no_accuracy_rather_than_zero() {
        assert_eq!(of_tokens(&FREE, &[token(7, 7, Some(7)), token(7, 7, None)]), None);
        assert_eq!(of_tokens(&FORCED, &[]), None);
    }
}
