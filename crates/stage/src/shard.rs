//! `Shard`: a contiguous part of a stage's requests; the parts joined are, byte for byte, what the whole would be.
//!
//! Which part is worked on is neither parameter nor input: it is in no key, and the joined result has the key, the
//! manifest and the content id of the unsharded one.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rote_artifact::Misfit;
use rote_store::{InputEntry, Manifest, digest_file};
use serde_json::Value;

/// Part `index` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// Its requests among `total`: parts differ in size by one at most.
    pub fn range(self, total: usize) -> Range<usize> {
        total * (self.index - 1) / self.count..total * self.index / self.count
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Shard> {
        let number = |text: &str| text.parse::<usize>().ok();
        let parts = text.split_once('/').and_then(|(index, count)| Some((number(index)?, number(count)?)));
        match parts {
            // So many that none of them overflows a range.
            Some((index, count)) if (1..=count).contains(&index) && count <= 1 << 20 => {
                Ok(Shard { index, count })
            }
            _ => bail!("`{text}` is not of the form I/N with I from 1 to N"),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// What is to be done of a stage's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// A part of the requests.
    Shard(Shard),
    /// All parts are done: the result is made of their artifacts, in order.
    Join(Vec<PathBuf>),
}

/// The flags of a stage whose work can be cut.
#[derive(Args)]
#[command(next_help_heading = "Parts")]
pub(crate) struct Cut {
    /// Work on part I of N of the requests only, I from 1; the parts are joined by --join
    #[arg(long, value_name = "I/N", conflicts_with = "join")]
    shard: Option<Shard>,
    /// Make the result of its parts, given once each (repeatable); the same bytes as without parts
    #[arg(long, value_name = "DIR")]
    join: Vec<PathBuf>,
    /// Say as a line of JSON how much there is to do and in how many parts that is best made, and stop
    #[arg(long, conflicts_with_all = ["shard", "join"])]
    work: bool,
}

impl Cut {
    pub(crate) fn asks_for_work(&self) -> bool {
        self.work
    }

    pub(crate) fn part(self) -> Part {
        match self.shard {
            Some(shard) => Part::Shard(shard),
            None if self.join.is_empty() => Part::Whole,
            None => Part::Join(self.join),
        }
    }
}

/// Whether the parts to be joined are those of this call, all of them, as they were written; in order then.
///
/// # Errors
/// A part that is missing, given twice, made with something else, or damaged.
pub(crate) fn check_shards(
    part: Part,
    stage: &str,
    parameters: &Value,
    inputs: &BTreeMap<String, Vec<InputEntry>>,
) -> Result<Part> {
    let Part::Join(places) = part else { return Ok(part) };
    let mut parts = BTreeMap::new();
    for place in places {
        let about = || format!("--join {}", place.display());
        let manifest = Manifest::read(&place).with_context(about)?;
        let misfit = |what: String| Err(anyhow::Error::new(Misfit(what)).context(about()));
        let Some(shard) = &manifest.shard else { return misfit("no part, but a whole result".to_string()) };
        let shard: Shard = shard.parse().with_context(about)?;
        let other = [
            (manifest.stage.name != stage, "stage"),
            (manifest.parameters != *parameters, "parameters"),
            (manifest.inputs != *inputs, "inputs"),
        ];
        if let Some((_, what)) = other.iter().find(|(differs, _)| *differs) {
            return misfit(format!("part {shard} was made with other {what}"));
        }
        for file in &manifest.files {
            let path = place.join(&file.path);
            if digest_file(&path).with_context(about)? != file.blake3 {
                return misfit(format!("{} is not what was written", path.display()));
            }
        }
        if parts.insert(shard, place.clone()).is_some() {
            return misfit(format!("part {shard} is given twice"));
        }
    }
    let count = parts.keys().next().map_or(0, |shard| shard.count);
    let missing = (1..=count).map(|index| Shard { index, count }).find(|shard| !parts.contains_key(shard));
    if let Some(missing) = missing {
        return Err(Misfit(format!("--join: part {missing} is missing")).into());
    }
    ensure!(parts.len() == count, Misfit("--join: parts of different counts".to_string()));
    Ok(Part::Join(parts.into_values().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for total in [0, 1, 2, 7, 1000] {
            for count in [1, 2, 3, 8] {
                let ranges = (1..=count).map(|index| Shard { index, count }.range(total));
                let all: Vec<_> = ranges.flatten().collect();
                assert_eq!(all, (0..total).collect::<Vec<_>>(), "{total} in {count}");
            }
        }
    }

    #[test]
    fn written_and_read() {
        assert_eq!("3/4".parse::<Shard>().unwrap().to_string(), "3/4");
        for text in ["0/4", "5/4", "1", "1/", "/1", "-1/4", "1/0", "1/99999999999", "a/b"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
