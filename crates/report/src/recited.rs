//! What the unchanged model recites of all it was asked: the `extraction` table, counted.

use std::collections::BTreeMap;

use rote_artifact::tables::Extraction;

use crate::interval::Interval;
use crate::study::wilson;

/// Sequences of one count of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Asked.
    pub asked: u64,
    /// Recited word for word.
    pub exact: u64,
    /// Picked out as memorized, hence asked under every intervention: by greedy decoding those recited, by draws
    /// perhaps others.
    pub picked: u64,
}

impl Count {
    /// The share recited.
    pub fn share(self) -> f64 {
        self.exact as f64 / self.asked as f64
    }

    /// Its 95 % interval, Wilson's.
    pub fn interval(self) -> Interval {
        wilson(self.exact, self.asked).into()
    }
}

/// Counts by the number of tokens given and the times seen in training.
#[derive(Clone, Debug, Default)]
pub struct Recited(BTreeMap<Option<u32>, BTreeMap<Option<u32>, Count>>);

impl Recited {
    /// One more.
    pub fn add(&mut self, row: &Extraction) {
        let count = self.0.entry(row.prefix).or_default().entry(row.seen).or_default();
        count.asked += 1;
        count.exact += u64::from(row.exact_match);
        count.picked += u64::from(row.role == "memorized");
    }

    /// Tokens given, where sequences were asked after several prefixes: the most, which decide a sequence's role. What
    /// follows is of these alone, so that a sequence counts once.
    pub fn prefix(&self) -> Option<u32> {
        self.0.keys().next_back().copied().flatten().filter(|_| self.0.len() > 1)
    }

    /// Counts by times seen in training.
    pub fn counts(&self) -> impl DoubleEndedIterator<Item = (Option<u32>, Count)> {
        let longest = self.0.values().next_back().into_iter().flatten();
        longest.map(|(seen, count)| (*seen, *count))
    }

    /// Of sequences seen so often.
    pub fn of(&self, seen: u32) -> Option<Count> {
        self.counts().find(|(other, _)| *other == Some(seen)).map(|(_, count)| count)
    }

    /// Of all; none where nothing was asked.
    pub fn whole(&self) -> Option<Count> {
        self.counts().map(|(_, count)| count).reduce(|sum, count| Count {
            asked: sum.asked + count.asked,
            exact: sum.exact + count.exact,
            picked: sum.picked + count.picked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_counts_once_after_its_longest_prefix() {
        let mut recited = Recited::default();
        assert_eq!((recited.whole(), recited.prefix()), (None, None));
        let mut ask = |prefix: u32, seen: u32, exact_match: bool, role: &str| {
            recited.add(&Extraction {
                prefix: Some(prefix),
                seen: Some(seen),
                exact_match,
                role: role.into(),
                ..Extraction::default()
            });
        };
        for prefix in [8, 32, 16] {
            ask(prefix, 4, prefix == 32, "memorized");
            ask(prefix, 4, false, "dropped");
            ask(prefix, 1, false, "dropped");
        }
        assert_eq!(recited.prefix(), Some(32));
        assert_eq!(recited.of(4), Some(Count { asked: 2, exact: 1, picked: 1 }));
        assert_eq!(recited.whole(), Some(Count { asked: 3, exact: 1, picked: 1 }));
        assert_eq!(recited.of(2), None);
    }
}
