//! zlib ratio: how likely the suffix is for a text that compresses so well.

use super::{Metric, Pool, Sample, Spread};

/// Negative log-probability of the suffix per byte of its text after zlib, in nats.
pub(super) const ZLIB_RATIO: Metric = Metric {
    name: "zlib_ratio",
    kind: "sequence",
    sample: |answers, _| {
        let answer = answers.first()?;
        let bytes = answer.request.zlib_bytes;
        if bytes == 0 {
            return None;
        }
        Sample::one(-answer.logprob / f64::from(bytes))
    },
    pool: Pool::Mean,
    spread: Spread::Mean,
};

#[cfg(test)]
mod tests {
    use rote_artifact::tables::Request;

    use super::*;
    use crate::answers::Answer;
    use crate::metrics::Options;
    use crate::metrics::tests::request;

    #[test]
    fn the_loss_is_divided_by_the_compressed_length() {
        let of = |zlib_bytes| {
            let request = Request { zlib_bytes, ..request("sequence", &[1, 2]) };
            let answer = Answer {
                request: &request,
                logprob: -30.0,
                matched: 0,
                exact_match: false,
                reference: None,
                tokens: &[],
            };
            (ZLIB_RATIO.sample)(&[answer], &Options::default()).map(|sample| sample.total)
        };
        assert_eq!((of(20), of(0)), (Some(1.5), None));
    }
}
