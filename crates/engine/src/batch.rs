//! Requests in batches: consecutive, as many as fit a budget of tokens. Rows are packed, not padded, so
//! nothing is gained by sorting; and since no result depends on its batch, the budget is free to choose.

use std::ops::Range;

use rote_artifact::tables::Request;

/// Ranges of consecutive requests of at most `tokens` tokens and `count` requests each; at least one request.
pub fn batches(requests: &[Request], tokens: usize, count: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut from, mut held) = (0, 0);
    for (index, request) in requests.iter().enumerate() {
        let size = request.context.len() + request.continuation.len();
        if index > from && (held + size > tokens || index - from == count) {
            ranges.push(from..index);
            (from, held) = (index, 0);
        }
        held += size;
    }
    if from < requests.len() {
        ranges.push(from..requests.len());
    }
    ranges
}
