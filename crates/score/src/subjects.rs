//! What is scored as one: a sequence, or all requests of one benchmark document; and the groups of these.

use std::collections::HashMap;

use rote_artifact::deciding;
use rote_artifact::tables::Request;

/// A sequence or a document.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `memorization` or the task's name.
    pub suite: String,
    /// Kind of its requests.
    pub kind: String,
    /// Role of its requests.
    pub role: String,
    /// Times shown in training, where known.
    pub seen: Option<u32>,
    /// Tokens given, for a sequence.
    pub prefix: Option<u32>,
    /// Whether it stands for its sequence, where several prefixes of one are asked: it has the longest.
    pub decides: bool,
    /// Number of the request, for a sequence.
    pub request: Option<u32>,
    /// Number of the document, for a document.
    pub document: Option<u32>,
    /// Its requests, as rows of the table; choices in their order.
    pub rows: Vec<usize>,
}

/// The subjects in the order in which they are first met.
pub fn subjects(requests: &[Request]) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
    let mut documents: HashMap<(&str, u32), usize> = HashMap::new();
    let deciding = deciding(requests);
    for (row, request) in requests.iter().enumerate() {
        let sequence = request.kind == "sequence";
        if !sequence {
            let key = (request.task.as_str(), request.document);
            if let Some(&known) = documents.get(&key) {
                subjects[known].rows.push(row);
                continue;
            }
            documents.insert(key, subjects.len());
        }
        subjects.push(Subject {
            suite: request.task.clone(),
            kind: request.kind.clone(),
            role: request.role.clone(),
            seen: request.seen,
            prefix: sequence.then_some(request.context.len() as u32),
            decides: !sequence || request.context.len() == requests[deciding[row]].context.len(),
            request: sequence.then_some(request.request),
            document: (!sequence).then_some(request.document),
            rows: vec![row],
        });
    }
    for subject in &mut subjects {
        subject.rows.sort_by_key(|&row| requests[row].choice);
    }
    subjects
}

/// Subjects that are summed up together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Suite of all of them.
    pub suite: String,
    /// Kind of all of them.
    pub kind: String,
    /// Role of all of them.
    pub role: String,
    /// Times shown in training, if that is what they have in common.
    pub seen: Option<u32>,
    /// Tokens given, if that is what they have in common; none where each sequence has its longest prefix.
    pub prefix: Option<u32>,
    /// Places among the subjects, rising.
    pub members: Vec<usize>,
}

/// Every suite and role: all of it; then, where there is more than one, by times seen, by prefix, by both. Of a sequence
/// that is asked after several prefixes, all of it holds the longest alone: its requests are no independent items.
pub fn groups(subjects: &[Subject]) -> Vec<Group> {
    let mut wholes: Vec<Group> = Vec::new();
    for (place, subject) in subjects.iter().enumerate() {
        let same = |group: &&mut Group| {
            (&group.suite, &group.kind, &group.role) == (&subject.suite, &subject.kind, &subject.role)
        };
        match wholes.iter_mut().find(same) {
            Some(group) => group.members.push(place),
            None => wholes.push(Group {
                suite: subject.suite.clone(),
                kind: subject.kind.clone(),
                role: subject.role.clone(),
                seen: None,
                prefix: None,
                members: vec![place],
            }),
        }
    }
    let mut groups = Vec::new();
    for whole in wholes {
        let distinct = |of: fn(&Subject) -> Option<u32>| {
            let mut values: Vec<u32> =
                whole.members.iter().filter_map(|&place| of(&subjects[place])).collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        let mut seen: Vec<Option<u32>> = vec![None];
        seen.extend(distinct(|subject| subject.seen).into_iter().map(Some));
        let mut prefix: Vec<Option<u32>> = vec![None];
        let prefixes = distinct(|subject| subject.prefix);
        if prefixes.len() > 1 {
            prefix.extend(prefixes.into_iter().map(Some));
        }
        for &prefix in &prefix {
            for &seen in &seen {
                let belongs = |place: &usize| {
                    let subject = &subjects[*place];
                    seen.is_none_or(|_| subject.seen == seen)
                        && prefix.map_or(subject.decides, |_| subject.prefix == prefix)
                };
                let members: Vec<usize> = whole.members.iter().copied().filter(belongs).collect();
                if !members.is_empty() {
                    groups.push(Group { seen, prefix, members, ..whole.clone() });
                }
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::request;

    #[test]
    fn the_requests_of_a_document_are_one_subject_in_the_order_of_choices() {
        let ask = |document, choice| Request { document, choice, ..request("choice", &[1]) };
        let found = subjects(&[ask(0, 1), ask(1, 0), ask(0, 0), ask(1, 1)]);
        let rows: Vec<_> = found.iter().map(|subject| subject.rows.clone()).collect();
        assert_eq!(rows, [vec![2, 0], vec![1, 3]]);
    }

    #[test]
    fn sequences_are_grouped_by_count_and_prefix_and_stand_in_all_once() {
        let ask = |document, seen, context: &[u32]| Request {
            document,
            seen,
            context: context.to_vec(),
            task: "memorization".to_string(),
            ..request("sequence", &[1])
        };
        let found = subjects(&[
            ask(0, Some(4), &[1]),
            ask(0, Some(4), &[1, 2]),
            ask(1, Some(1), &[1]),
            ask(2, Some(4), &[1, 2]),
        ]);
        let groups: Vec<_> =
            groups(&found).into_iter().map(|group| (group.seen, group.prefix, group.members)).collect();
        assert_eq!(
            groups,
            [
                (None, None, vec![1, 2, 3]),
                (Some(1), None, vec![2]),
                (Some(4), None, vec![1, 3]),
                (None, Some(1), vec![0, 2]),
                (Some(1), Some(1), vec![2]),
                (Some(4), Some(1), vec![0]),
                (None, Some(2), vec![1, 3]),
                (Some(4), Some(2), vec![1, 3]),
            ]
        );
    }
}
