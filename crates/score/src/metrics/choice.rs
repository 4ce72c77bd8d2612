//! Multiple choice: is the likeliest answer the right one?

use super::{Metric, Pool, Sample, Spread};
use crate::answers::Answer;

/// Likeliest by log-probability.
pub(super) const ACC: Metric = Metric {
    name: "acc",
    kind: "choice",
    sample: |answers, _| right(answers, |answer| answer.logprob),
    pool: Pool::Mean,
    spread: Spread::Share,
};

/// Likeliest by log-probability per character of the answer, the blank before it not counted.
pub(super) const ACC_NORM: Metric = Metric {
    name: "acc_norm",
    kind: "choice",
    sample: |answers, _| right(answers, |answer| answer.logprob / f64::from(answer.request.choice_chars)),
    pool: Pool::Mean,
    spread: Spread::Share,
};

/// Whether the highest measure is the gold answer's; ties go to the lowest index.
fn right(answers: &[Answer], measure: impl Fn(&Answer) -> f64) -> Option<Sample> {
    let mut best: Option<(f64, i32)> = None;
    for answer in answers {
        let value = measure(answer);
        if best.is_none_or(|(highest, _)| value > highest) {
            best = Some((value, answer.request.choice));
        }
    }
    let (_, choice) = best?;
    Sample::of(choice == answers.first()?.request.gold)
}

#[cfg(test)]
mod tests {
    use rote_artifact::tables::Request;

    use super::*;
    use crate::metrics::Options;
    use crate::metrics::tests::request;

    fn score(metric: &Metric, gold: i32, choices: &[(f64, u32)]) -> f64 {
        let requests: Vec<Request> = (0i32..)
            .zip(choices)
            .map(|(choice, (_, chars))| Request {
                choice,
                gold,
                choice_chars: *chars,
                ..request("choice", &[1])
            })
            .collect();
        let answers: Vec<Answer> = requests
            .iter()
            .zip(choices)
            .map(|(request, (logprob, _))| Answer {
                request,
                logprob: *logprob,
                matched: 0,
                exact_match: false,
                reference: None,
                tokens: &[],
            })
            .collect();
        (metric.sample)(&answers, &Options::default()).unwrap().total
    }

    #[test]
    fn the_normalised_choice_divides_by_characters() {
        let choices = [(-10.0, 20), (-6.0, 4)];
        assert_eq!(score(&ACC, 1, &choices), 1.0);
        assert_eq!(score(&ACC_NORM, 1, &choices), 0.0);
        assert_eq!(score(&ACC_NORM, 0, &choices), 1.0);
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(score(&ACC, 0, &[(-3.0, 1), (-3.0, 1)]), 1.0);
        assert_eq!(score(&ACC, 1, &[(-3.0, 1), (-3.0, 1)]), 0.0);
    }
}
