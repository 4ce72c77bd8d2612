//! Means over a reference artifact of activations: what `attn.mean` puts in attention's place.

use std::path::Path;

use anyhow::{Context, Result};
use rote_artifact::{Misfit, read_activations};
use rote_model::{Means, Real, Spec};
use rote_plan::{Action, AttnChange, Hook, Intervention};

/// Means of what `changes` put in attention's place, over all rows at `none` of the activations at `reference`: of
/// `attn_out` in blocks where attention as a whole is replaced, of `z` where single heads are. `None` where nothing is
/// replaced by a mean.
///
/// # Errors
/// No reference where one is needed, a block that was not captured, a width that is not the model's, a mean that is no
/// number.
pub fn means<T: Real>(
    reference: Option<&Path>,
    spec: &Spec,
    changes: &[Intervention],
) -> Result<Option<Means<T>>> {
    let mut found = Means { attn_out: vec![Vec::new(); spec.n_blocks], z: vec![Vec::new(); spec.n_blocks] };
    let mut needed = false;
    for change in changes {
        for (block, resolved) in change.resolve(spec.n_blocks, spec.n_heads)?.iter().enumerate() {
            let (hook, width, mean) = match &resolved.attn {
                AttnChange::Mean => (Hook::AttnOut, spec.d_model, &mut found.attn_out[block]),
                AttnChange::Heads(heads) if heads.contains(&Some(Action::Mean)) => {
                    (Hook::Z, spec.d_query(), &mut found.z[block])
                }
                _ => continue,
            };
            needed = true;
            let Some(folder) = reference else {
                let what =
                    format!("`{change}` needs activations of {hook} to take means of: give --reference");
                return Err(Misfit(what).into());
            };
            if mean.is_empty() {
                *mean = one(folder, hook, block, width)
                    .with_context(|| format!("means for `{change}`: {hook} of block {block}"))?;
            }
        }
    }
    Ok(needed.then_some(found))
}

fn one<T: Real>(folder: &Path, hook: Hook, block: usize, width: usize) -> Result<Vec<T>> {
    let mut sum = vec![0.0_f64; width];
    let mut count = 0_u64;
    read_activations(folder, hook, block as i32, |row| {
        if row.value.len() != width {
            let found = row.value.len();
            return Err(Misfit(format!("vectors are {found} wide, this model's {width}")).into());
        }
        if row.change == "none" {
            sum.iter_mut().zip(&row.value).for_each(|(sum, &value)| *sum += f64::from(value));
            count += 1;
        }
        Ok(())
    })?;
    if count == 0 {
        return Err(Misfit("it was not captured at `none`".to_string()).into());
    }
    if let Some(at) = sum.iter().position(|sum| !sum.is_finite()) {
        return Err(Misfit(format!("value {at} is no number in some row")).into());
    }
    Ok(sum.into_iter().map(|sum| T::of(sum / count as f64)).collect())
}
