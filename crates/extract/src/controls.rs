//! Matched controls: for every memorized request one that is not, as like it as can be had.

use rote_artifact::tables::{Extraction, Request};

/// Indices of the controls, at most one per memorized request. Candidates are the rows whose role isn't `memorized`;
/// first those known never to have been seen (`seen` 0, or role `control` from the start), then the rest.
/// Within a class the one nearest in length of context and continuation is taken, then the one from the same
/// source, then the first.
pub fn pair(requests: &[&Request], rows: &[&Extraction]) -> Vec<usize> {
    let mut free: Vec<usize> = (0..rows.len()).filter(|&index| rows[index].role != "memorized").collect();
    let mut taken = Vec::new();
    for memorized in (0..rows.len()).filter(|&index| rows[index].role == "memorized") {
        let wanted = requests[memorized];
        let distance = |&index: &usize| {
            let other = requests[index];
            let known = other.seen == Some(0) || other.role == "control";
            (
                !known,
                other.context.len().abs_diff(wanted.context.len())
                    + other.continuation.len().abs_diff(wanted.continuation.len()),
                other.source != wanted.source,
                index,
            )
        };
        let Some(best) = (0..free.len()).min_by_key(|&place| distance(&free[place])) else { break };
        taken.push(free.remove(best));
    }
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seen: u32, continuation: usize) -> Request {
        Request {
            request: 0,
            source: "s".into(),
            document: 0,
            choice: -1,
            kind: "sequence".into(),
            task: "memorization".into(),
            role: "candidate".into(),
            context: vec![1; 4],
            continuation: vec![1; continuation],
            gold: -1,
            seen: Some(seen),
            ..Request::default()
        }
    }

    fn row(exact_match: bool) -> Extraction {
        let role = if exact_match { "memorized" } else { "dropped" }.to_string();
        Extraction { role, exact_match, ..Extraction::default() }
    }

    #[test]
    fn never_seen_and_equally_long_goes_first_and_nobody_twice() {
        let requests = [request(8, 5), request(8, 9), request(1, 5), request(0, 9), request(0, 5)];
        let rows = [row(true), row(true), row(false), row(false), row(false)];
        let pair = |rows: &[Extraction]| {
            pair(&requests.iter().collect::<Vec<_>>(), &rows.iter().collect::<Vec<_>>())
        };
        assert_eq!(pair(&rows), [3, 4]);
        let rows = [row(true), row(true), row(true), row(true), row(false)];
        assert_eq!(pair(&rows), [4]);
    }
}
