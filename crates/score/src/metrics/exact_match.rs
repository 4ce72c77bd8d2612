//! Verbatim recitation: does greedy decoding from the prefix give the suffix, and how far does it go?
//!
//! By induction greedy decoding gives b exactly if every b_j is the arg-max given the true past, so the
//! teacher-forced pass decides it.

use super::{Metric, Pool, Sample, Spread};

pub(super) const EXACT_MATCH: Metric = Metric {
    name: "exact_match",
    kind: "sequence",
    sample: |answers, _| Sample::of(answers.first()?.exact_match),
    pool: Pool::Mean,
    spread: Spread::Share,
};

/// Leading suffix tokens that greedy decoding gives, in tokens.
pub(super) const MATCHED: Metric = Metric {
    name: "matched",
    kind: "sequence",
    sample: |answers, _| Sample::one(f64::from(answers.first()?.matched)),
    pool: Pool::Mean,
    spread: Spread::Bounded,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::{of_tokens, token};

    #[test]
    fn a_match_is_all_or_nothing_and_the_length_counts_up_to_the_first_miss() {
        let hit = token(7, 7, None);
        let miss = token(7, 8, None);
        assert_eq!(of_tokens(&EXACT_MATCH, &[hit, hit, hit]), Some(1.0));
        assert_eq!(of_tokens(&EXACT_MATCH, &[hit, miss, hit]), Some(0.0));
        assert_eq!(of_tokens(&MATCHED, &[hit, miss, hit]), Some(1.0));
        assert_eq!(of_tokens(&MATCHED, &[hit, hit, hit]), Some(3.0));
    }
}
