//! `Span`: a set of blocks or heads, written `5`, `18-23`, `0,2` or `all`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

/// A set of indices counted from 0; `All` stands for every one a model has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// Every index.
    All,
    /// These, in ascending order.
    Some(BTreeSet<u32>),
}

impl Span {
    /// The span of a single index.
    pub fn one(index: u32) -> Self {
        Span::Some(BTreeSet::from([index]))
    }

    /// The span `first..=last`.
    pub fn range(first: u32, last: u32) -> Self {
        Span::Some((first..=last).collect())
    }

    /// The indices of a model that has `count` of them; `what` ("block", "head") names them in errors.
    pub fn resolve(&self, count: usize, what: &str) -> Result<Vec<usize>> {
        match self {
            Span::All => Ok((0..count).collect()),
            Span::Some(set) => set
                .iter()
                .map(|&index| {
                    ensure!(
                        (index as usize) < count,
                        "{what} {index} does not exist: this model has {what}s 0-{}",
                        count.saturating_sub(1)
                    );
                    Ok(index as usize)
                })
                .collect(),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span::Some(set) = self else { return f.write_str("all") };
        let mut rest = set.iter().copied().peekable();
        let mut first = true;
        while let Some(low) = rest.next() {
            let mut high = low;
            while rest.next_if_eq(&(high + 1)).is_some() {
                high += 1;
            }
            if !first {
                f.write_str(",")?;
            }
            first = false;
            if low == high { write!(f, "{low}")? } else { write!(f, "{low}-{high}")? }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Span::All);
        }
        let number = |digits: &str| -> Result<u32> {
            let value: u32 =
                digits.parse().with_context(|| format!("`{digits}` in `{text}` is not a number"))?;
            // A span is unfolded in memory: a stranger's `0-4000000000` must not be.
            ensure!(value < 100_000, "`{digits}` in `{text}` is beyond any model");
            Ok(value)
        };
        let mut set = BTreeSet::new();
        for piece in text.split(',') {
            let (low, high) = match piece.split_once('-') {
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(piece)?, number(piece)?),
            };
            ensure!(low <= high, "range `{piece}` runs backwards");
            for index in low..=high {
                if !set.insert(index) {
                    bail!("`{text}` says {index} twice");
                }
            }
        }
        Ok(Span::Some(set))
    }
}
