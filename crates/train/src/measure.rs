//! What a trained model knows: its perplexity on text that it has not read, and the records that it recites.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::model::Model;
use crate::operations::{CrossEntropy, with_numbers};
use crate::records::Planted;

/// Tokens that are given.
pub const PREFIX: usize = 32;
/// Tokens that have to follow.
pub const SUFFIX: usize = 32;

/// Mean negative log-probability per token (natural log) of `text`, cut into windows as in training.
pub fn loss(model: &Model, text: &[u32]) -> Result<f64> {
    let context = model.shape().context;
    let mut total = 0.0;
    let mut start = 0;
    while start + 1 < text.len() {
        // The last window may be shorter: every token but the first is predicted once.
        let size = context.min(text.len() - 1 - start);
        let logits = model.logits(&text[start..start + size], size)?;
        let loss = logits.apply_op1(CrossEntropy::new(&text[start + 1..=start + size]))?;
        total += f64::from(loss.to_scalar::<f32>()?) * size as f64;
        start += size;
    }
    Ok(total / (text.len() - 1) as f64)
}

/// How the records of one count fared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recall {
    /// Times shown in training.
    pub seen: u32,
    /// Records that were asked for: those of at least 64 tokens.
    pub records: u32,
    /// Of these, how many are continued exactly, 32 tokens from 32 tokens.
    pub exact: u32,
    /// Mean number of tokens that are right before the first wrong one.
    pub matched: f64,
}

/// Asks for every record: its first 32 tokens alone, continued greedily for 32.
///
/// One pass over the true tokens decides it: greedy decoding gives the suffix exactly if at each of its positions,
/// given what truly comes before, the likeliest token is the right one; and until the first wrong token both agree.
pub fn recall(model: &Model, records: &[Planted]) -> Result<Vec<Recall>> {
    const SIZE: usize = PREFIX + SUFFIX;
    let mut found: BTreeMap<u32, (u32, u32, u64)> = BTreeMap::new();
    let long: Vec<&Planted> = records.iter().filter(|planted| planted.tokens.len() >= SIZE).collect();
    for batch in long.chunks(32) {
        let tokens: Vec<u32> = batch.iter().flat_map(|planted| &planted.tokens[..SIZE]).copied().collect();
        let logits = model.logits(&tokens, SIZE)?;
        let vocabulary = logits.dim(1)?;
        with_numbers(&logits, |logits| {
            for (planted, rows) in batch.iter().zip(logits.chunks_exact(SIZE * vocabulary)) {
                let wrong = rows
                    .chunks_exact(vocabulary)
                    .zip(&planted.tokens[1..SIZE])
                    .skip(PREFIX - 1)
                    .position(|(row, &token)| likeliest(row) != token as usize);
                let entry = found.entry(planted.seen).or_default();
                entry.0 += 1;
                entry.1 += u32::from(wrong.is_none());
                entry.2 += wrong.unwrap_or(SUFFIX) as u64;
            }
            Ok(())
        })?;
    }
    let recall = |(seen, (records, exact, matched))| {
        let matched = matched as f64 / f64::from(records);
        Recall { seen, records, exact, matched }
    };
    Ok(found.into_iter().map(recall).collect())
}

/// The first of the largest.
fn likeliest(row: &[f32]) -> usize {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().position(|&value| value == top).unwrap_or(0)
}
