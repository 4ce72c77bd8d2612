//! Several prefixes of one sequence: what becomes of the sequence is decided where most is given, so that
//! recall at shorter prefixes is recall of the same sequences.

use std::collections::HashMap;

use crate::tables::Request;

/// For each request the one that decides: of those that ask for the same continuation of the same document,
/// the one with the longest context, the first of equals.
pub fn deciding(requests: &[Request]) -> Vec<usize> {
    let key = |request: &Request| {
        let Request { source, document, continuation, .. } = request;
        (source.clone(), *document, continuation.clone())
    };
    let mut longest = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        let best = longest.entry(key(request)).or_insert(index);
        if request.context.len() > requests[*best].context.len() {
            *best = index;
        }
    }
    requests.iter().map(|request| longest[&key(request)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_for_all_of_its_sequence() {
        let ask = |document, given: usize, continuation: &[u32]| Request {
            document,
            context: vec![1; given],
            continuation: continuation.to_vec(),
            ..Request::default()
        };
        let requests = [
            ask(0, 2, &[7]),
            ask(0, 8, &[7]),
            ask(0, 4, &[7]),
            ask(1, 2, &[7]),
            ask(0, 9, &[8]),
            ask(1, 2, &[7]),
        ];
        assert_eq!(deciding(&requests), [1, 1, 1, 3, 4, 3]);
    }
}
