//! Extraction strength: how little of the suffix has to be given before the model recites the rest.

use super::{Metric, Pool, Sample, Spread};

/// 1 − k/q, where k is the smallest start from which on every arg-max is right; 0 where even the last is
/// wrong. The last token counts like any other.
pub(super) const EXTRACTION_STRENGTH: Metric = Metric {
    name: "extraction_strength",
    kind: "sequence",
    sample: |answers, _| {
        let tokens = answers.first()?.tokens;
        if tokens.is_empty() {
            return None;
        }
        let right = tokens.iter().rev().take_while(|token| token.argmax == token.token).count();
        Sample::one(right as f64 / tokens.len() as f64)
    },
    pool: Pool::Mean,
    spread: Spread::Unit,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::{of_tokens, token};

    #[test]
    fn strength_is_the_share_recited_to_the_end() {
        let hit = token(7, 7, None);
        let miss = token(7, 8, None);
        let check =
            |tokens: &[_], expected| assert_eq!(of_tokens(&EXTRACTION_STRENGTH, tokens), Some(expected));
        check(&[hit, hit, hit, hit], 1.0);
        check(&[hit, miss, hit, hit], 0.5);
        check(&[miss, miss, miss, hit], 0.25);
    }

    #[test]
    fn a_wrong_last_token_is_no_strength_at_all() {
        let hit = token(7, 7, None);
        assert_eq!(of_tokens(&EXTRACTION_STRENGTH, &[hit, hit, token(7, 8, None)]), Some(0.0));
    }
}
