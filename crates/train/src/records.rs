//! Planted records: what they are, and how a stream of windows shows each of them exactly as often as it says.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// One line of the records file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Record {
    /// Its number.
    pub record: u32,
    /// How often training shows it; 0 for a record that is kept back.
    pub seen: u32,
    /// What is shown.
    pub text: String,
}

/// Reads a file with one JSON object a line.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading records from {}", path.display()))?;
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let record = serde_json::from_str(line).with_context(|| {
            format!("{}: line {}: expected record, seen and text", path.display(), number + 1)
        })?;
        records.push(record);
    }
    Ok(records)
}

/// A record as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Its number.
    pub record: u32,
    /// How often it is shown.
    pub seen: u32,
    /// Its tokens, without any mark around them.
    pub tokens: Vec<u32>,
}

/// Training windows of `context + 1` tokens in which every record stands whole, `seen` times in all.
///
/// The corpus runs through the windows once for each epoch. Records fall between its tokens at places drawn
/// uniformly, each set off by `mark` on both sides. One that no longer fits into a window waits for the next and
/// opens it, without a mark before it: there it stands as it will when it is tested, at position 0. The windows are
/// shuffled in the end, so that neither the corpus nor the records come in an order.
pub fn windows(
    corpus: &[u32],
    epochs: u32,
    records: &[Planted],
    mark: u32,
    context: usize,
    draw: &mut ChaCha8Rng,
) -> Result<Vec<Vec<u32>>> {
    let size = context + 1;
    for planted in records.iter().filter(|planted| planted.seen > 0) {
        ensure!(
            planted.tokens.len() + 2 <= size,
            "record {} has {} tokens and does not fit a context of {context}: raise --context or shorten its text",
            planted.record,
            planted.tokens.len()
        );
    }
    if corpus.is_empty() {
        bail!("the corpus is empty");
    }
    let mut shown: Vec<usize> =
        records.iter().enumerate().flat_map(|(index, planted)| vec![index; planted.seen as usize]).collect();
    shuffle(&mut shown, draw);
    let length = corpus.len() * epochs as usize;
    let mut places: Vec<usize> = shown.iter().map(|_| draw.random_range(0..=length)).collect();
    places.sort_unstable();

    let mut stream = Stream { size, mark, done: Vec::new(), window: Vec::new() };
    let mut text = corpus.iter().copied().cycle();
    let mut read = 0;
    for (&place, &index) in places.iter().zip(&shown) {
        while read < place || stream.lacks_room(records[index].tokens.len()) {
            stream.push(text.next().expect("the corpus is not empty and repeats"));
            read += 1;
        }
        stream.plant(&records[index].tokens);
    }
    while read < length || !stream.window.is_empty() {
        stream.push(text.next().expect("the corpus is not empty and repeats"));
        read += 1;
    }
    let mut windows = stream.done;
    shuffle(&mut windows, draw);
    Ok(windows)
}

struct Stream {
    size: usize,
    mark: u32,
    done: Vec<Vec<u32>>,
    window: Vec<u32>,
}

impl Stream {
    fn push(&mut self, token: u32) {
        self.window.push(token);
        if self.window.len() == self.size {
            self.done.push(std::mem::take(&mut self.window));
        }
    }

    fn needs_mark(&self) -> bool {
        self.window.last().is_some_and(|&last| last != self.mark)
    }

    /// Whether a record of `length` tokens would be cut.
    fn lacks_room(&self, length: usize) -> bool {
        self.window.len() + usize::from(self.needs_mark()) + length > self.size
    }

    fn plant(&mut self, tokens: &[u32]) {
        if self.needs_mark() {
            self.push(self.mark);
        }
        tokens.iter().for_each(|&token| self.push(token));
        if !self.window.is_empty() {
            self.push(self.mark);
        }
    }
}

/// Fisher–Yates.
fn shuffle<T>(items: &mut [T], draw: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, draw.random_range(0..=last));
    }
}

/// How often each record stands whole in the windows; what [`windows`] promises, counted afresh.
pub fn count(windows: &[Vec<u32>], records: &[Planted]) -> BTreeMap<u32, u32> {
    records
        .iter()
        .map(|planted| {
            let length = planted.tokens.len().max(1);
            let in_window =
                |window: &Vec<u32>| window.windows(length).filter(|part| *part == planted.tokens).count();
            (planted.record, windows.iter().map(in_window).sum::<usize>() as u32)
        })
        .collect()
}
