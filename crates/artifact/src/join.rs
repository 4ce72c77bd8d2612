//! Joining: tables of parts, one after the other, become the bytes that one writer would have written.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rote_store::Output;

use crate::read::{batches, parts};
use crate::vectors::{Reader, heads_of};
use crate::{ActivationWriter, Misfit, Table, TableWriter};

/// Writes table `T` of `output`: the rows of every one of `shards`, in order.
pub fn join<T: Table>(shards: &[PathBuf], output: &Output) -> Result<()> {
    let mut writer = TableWriter::<T>::new(output);
    for shard in shards {
        for path in parts(shard, T::NAME)? {
            for batch in batches(&path)? {
                let rows = T::from_batch(&batch?)
                    .with_context(|| format!("reading table {} from {}", T::NAME, path.display()))?;
                writer.extend(rows)?;
            }
        }
    }
    writer.finish()
}

/// Writes the activations of every hook and block: the order is intervention first, so the parts are merged
/// intervention by intervention, and within one in order of the parts.
pub fn join_activations(shards: &[PathBuf], output: &Output) -> Result<()> {
    let first = shards.first().ok_or_else(|| Misfit("no parts to join".to_string()))?;
    for head in heads_of(first)? {
        let mut writer = ActivationWriter::like(output, &head);
        let mut readers =
            shards.iter().map(|shard| Reader::open(shard, &head)).collect::<Result<Vec<_>>>()?;
        while let Some(change) = next_change(&mut readers)? {
            for reader in &mut readers {
                while let Some(row) = reader.next_of(&change)? {
                    writer.push(row)?;
                }
            }
        }
        writer.finish()?;
    }
    Ok(())
}

/// The intervention that comes next in the first part that has one left; each part has them in the same order.
fn next_change(readers: &mut [Reader]) -> Result<Option<String>> {
    for reader in readers {
        if let Some(row) = reader.peek()? {
            return Ok(Some(row.change.clone()));
        }
    }
    Ok(None)
}
