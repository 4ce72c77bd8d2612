//! Requests in batches: consecutive, as few as a budget of tokens allows, of about as many tokens each. Rows are packed,
//! not padded, so nothing is gained by sorting; and since no result depends on its batch, the budget is free to choose.

use std::ops::Range;

use rote_artifact::tables::Request;

/// Ranges of consecutive requests of at most `tokens` tokens and `count` requests each; at least one request.
pub fn batches(requests: &[Request], tokens: usize, count: usize) -> Vec<Range<usize>> {
    let size = |request: &Request| request.context.len() + request.continuation.len();
    let total: usize = requests.iter().map(size).sum();
    let even = total.div_ceil(total.div_ceil(tokens.max(1)).max(1));
    let mut ranges = Vec::new();
    let (mut from, mut held, mut done) = (0, 0, 0);
    for (index, request) in requests.iter().enumerate() {
        let size = size(request);
        let enough = done + size / 2 >= even * (ranges.len() + 1);
        if index > from && (held + size > tokens || enough || index - from == count) {
            ranges.push(from..index);
            (from, held) = (index, 0);
        }
        held += size;
        done += size;
    }
    if from < requests.len() {
        ranges.push(from..requests.len());
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(sizes: &[usize]) -> Vec<Request> {
        let request = |&size: &usize| Request { context: vec![0; size], ..Request::default() };
        sizes.iter().map(request).collect()
    }

    #[test]
    fn batches_keep_to_the_budget_and_are_even() {
        let same = requests(&[10; 64]);
        assert_eq!(batches(&same, 300, usize::MAX), [0..21, 21..43, 43..64]);
        assert_eq!(batches(&same, 1000, usize::MAX), std::slice::from_ref(&(0..64)));
        assert_eq!(batches(&same[..20], 1000, 7), [0..7, 7..14, 14..20]);
        let mixed = requests(&[5, 900, 3, 3, 3, 400, 400, 1]);
        for tokens in [1, 7, 500, 900, 1000, 5000] {
            let ranges = batches(&mixed, tokens, usize::MAX);
            assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
            for range in ranges {
                let held: usize = mixed[range.clone()].iter().map(|request| request.context.len()).sum();
                assert!(held <= tokens || range.len() == 1, "{tokens} tokens: {range:?} holds {held}");
            }
        }
    }
}
