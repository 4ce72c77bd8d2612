//! Means of attention outputs over a reference artifact: what `attn.mean` puts in attention's place.

use std::path::Path;

use anyhow::{Context, Result};
use rote_artifact::{Misfit, read_activations};
use rote_model::{Real, Spec};
use rote_plan::Hook;

/// Mean of every block's `attn_out` at `none`, `[n_blocks][d_model]`, over all rows of the artifact of
/// activations at `folder`.
///
/// # Errors
/// A block that was not captured, or a width that is not the model's.
pub fn attention_means<T: Real>(folder: &Path, spec: &Spec) -> Result<Vec<Vec<T>>> {
    (0..spec.n_blocks)
        .map(|block| {
            let mut sum = vec![0.0_f64; spec.d_model];
            let mut count = 0_u64;
            read_activations(folder, Hook::AttnOut, block as i32, |row| {
                if row.value.len() != spec.d_model {
                    let width = row.value.len();
                    let what = format!("attn_out is {width} wide, this model {}", spec.d_model);
                    return Err(Misfit(what).into());
                }
                if row.change == "none" {
                    sum.iter_mut().zip(&row.value).for_each(|(sum, &value)| *sum += f64::from(value));
                    count += 1;
                }
                Ok(())
            })
            .with_context(|| format!("means for attn.mean: block {block}"))?;
            if count == 0 {
                return Err(Misfit(format!("block {block} was not captured at `none`")).into());
            }
            Ok(sum.into_iter().map(|sum| T::of(sum / count as f64)).collect())
        })
        .collect()
}
