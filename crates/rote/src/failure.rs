//! From an error to an exit code: 1 the work failed, 2 the call or the pipeline is wrong, 3 data do not fit.

use std::fmt;

use rote_store::Damaged;

/// What is wrong with a call or a pipeline; one line each.
#[derive(Debug)]
pub struct Wrong(pub Vec<String>);

impl Wrong {
    /// One fault.
    pub fn one(line: impl Into<String>) -> anyhow::Error {
        Wrong(vec![line.into()]).into()
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.join("\n"))
    }
}

impl std::error::Error for Wrong {}

/// What does not fit what was asked for; one line each.
#[derive(Debug)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// 2 where the call or the pipeline is wrong, 3 where data do not fit, 1 for everything else.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let is_wrong = error.chain().any(|cause| cause.is::<Wrong>());
    let is_refused = error.chain().any(|cause| cause.is::<Refused>() || cause.is::<Damaged>());
    if is_wrong {
        2
    } else if is_refused {
        3
    } else {
        1
    }
}

/// The name among `known` that `name` was most likely meant to be.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.chars().count() / 2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; nearest: …`, or all that is known where nothing is near.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("; nearest: `{near}`"),
        None => format!("; known: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// Fewest insertions, deletions and replacements between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_the_slip_not_the_stranger() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        let known = ["prefix", "suffix", "stride", "min-k"];
        assert_eq!(nearest("prefx", known), Some("prefix"));
        assert_eq!(nearest("mink", known), Some("min-k"));
        assert_eq!(nearest("temperature", known), None);
        assert_eq!(hint("zzzzzzzz", known), "; known: prefix, suffix, stride, min-k");
    }
}
