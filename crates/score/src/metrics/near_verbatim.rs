//! Near-verbatim recitation: how far the free-running text is from the suffix, token by token.

use super::{Metric, Pool, Sample, Spread};
use crate::answers::Answer;

/// Insertions, deletions and replacements from one to the other, in tokens.
pub(super) const EDIT_DISTANCE: Metric = Metric {
    name: "edit_distance",
    kind: "sequence",
    sample: |answers, _| {
        let (generated, truth) = texts(answers)?;
        Sample::one(f64::from(edit_distance(&generated, &truth)))
    },
    pool: Pool::Mean,
    spread: Spread::Bounded,
};

/// Longest common subsequence, in tokens.
pub(super) const COMMON_SUBSEQUENCE: Metric = Metric {
    name: "common_subsequence",
    kind: "sequence",
    sample: |answers, _| {
        let (generated, truth) = texts(answers)?;
        Sample::one(f64::from(common_subsequence(&generated, &truth)))
    },
    pool: Pool::Mean,
    spread: Spread::Bounded,
};

/// ROUGE-L over tokens. Both texts are as long, so precision, recall and F are one number.
pub(super) const ROUGE_L: Metric = Metric {
    name: "rouge_l",
    kind: "sequence",
    sample: |answers, _| {
        let (generated, truth) = texts(answers)?;
        Sample::one(f64::from(common_subsequence(&generated, &truth)) / truth.len() as f64)
    },
    pool: Pool::Mean,
    spread: Spread::Unit,
};

/// Generated and true suffix, where there is something of both.
fn texts(answers: &[Answer]) -> Option<(Vec<u32>, Vec<u32>)> {
    let tokens = answers.first()?.tokens;
    if tokens.is_empty() {
        return None;
    }
    let generated = tokens.iter().map(|token| token.generated).collect::<Option<_>>()?;
    Some((generated, tokens.iter().map(|token| token.token).collect()))
}

fn edit_distance(a: &[u32], b: &[u32]) -> u32 {
    let mut above: Vec<u32> = (0..=b.len() as u32).collect();
    let mut row = above.clone();
    for (i, x) in a.iter().enumerate() {
        row[0] = i as u32 + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = above[j] + u32::from(x != y);
            row[j + 1] = replaced.min(above[j + 1] + 1).min(row[j] + 1);
        }
        std::mem::swap(&mut above, &mut row);
    }
    above[b.len()]
}

fn common_subsequence(a: &[u32], b: &[u32]) -> u32 {
    let mut above = vec![0; b.len() + 1];
    let mut row = above.clone();
    for x in a {
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = if x == y { above[j] + 1 } else { above[j + 1].max(row[j]) };
        }
        std::mem::swap(&mut above, &mut row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::{of_tokens, token};

    #[test]
    fn a_shifted_text_is_near_though_no_position_is_right() {
        let tokens: Vec<_> = (0..5).map(|i| token(i, i, Some(i + 1))).collect();
        assert_eq!(of_tokens(&EDIT_DISTANCE, &tokens), Some(2.0));
        assert_eq!(of_tokens(&COMMON_SUBSEQUENCE, &tokens), Some(4.0));
        assert_eq!(of_tokens(&ROUGE_L, &tokens), Some(0.8));
        assert_eq!(of_tokens(&ROUGE_L, &[token(1, 1, None)]), None);
    }

    #[test]
    fn distances_of_unequal_texts() {
        assert_eq!(edit_distance(&[1, 2, 3], &[]), 3);
        assert_eq!(edit_distance(&[1, 2, 3], &[1, 3, 4, 5]), 3);
        assert_eq!(common_subsequence(&[1, 2, 3, 4], &[2, 9, 4, 1]), 2);
    }
}
