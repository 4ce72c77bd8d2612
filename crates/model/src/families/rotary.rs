//! Rotary frequencies from a configuration, in every spelling it has had, with the scalings folded in.

use std::f64::consts::PI;

use anyhow::{Result, bail, ensure};

use super::config::Config;
use crate::Rotary;

/// Where a family keeps the base and the rotated share of a head, beside the common `rope_parameters`.
pub(crate) struct Spelling {
    /// Key of the base.
    pub base: &'static str,
    /// Key of the rotated share.
    pub share: &'static str,
    /// The share where none is said.
    pub default_share: f64,
}

/// Reads base, share and scaling. What stands in `rope_parameters` (or, older, `rope_scaling`) goes before
/// what stands beside it.
pub(crate) fn rotary(config: &Config, d_head: usize, spelling: &Spelling) -> Result<Rotary> {
    let inner = match config.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => config.object("rope_parameters")?,
    };
    let number = |key: &str, beside: &str| -> Result<Option<f64>> {
        let within = inner.as_ref().map(|inner| inner.number(key)).transpose()?.flatten();
        match within {
            Some(value) => Ok(Some(value)),
            None => config.number(beside),
        }
    };
    let base = number("rope_theta", spelling.base)?.unwrap_or(10_000.0);
    let share = number("partial_rotary_factor", spelling.share)?.unwrap_or(spelling.default_share);
    ensure!(base.is_finite() && base > 0.0, "{}: rotary base {base} is not positive", config.place());
    ensure!(
        share > 0.0 && share <= 1.0,
        "{}: rotary share {share} of a head is not in (0, 1]",
        config.place()
    );
    let rotated = (d_head as f64 * share) as usize;
    ensure!(
        rotated >= 2 && rotated.is_multiple_of(2),
        "{}: {rotated} of {d_head} coordinates of a head are rotated, expected an even number",
        config.place()
    );
    let mut inv_freq = plain(base, rotated);
    if let Some(inner) = &inner {
        scale(&mut inv_freq, inner, config)?;
    }
    Ok(Rotary { inv_freq, attention_factor: 1.0 })
}

/// `base^(-2i/rotated)`, rounded at the same places as the published models were trained with (single
/// precision), so that angles agree far from the first position too.
fn plain(base: f64, rotated: usize) -> Vec<f64> {
    (0..rotated / 2)
        .map(|pair| {
            let exponent = (2 * pair) as f32 / rotated as f32;
            let power = f64::from(base as f32).powf(f64::from(exponent)) as f32;
            f64::from(1.0 / power)
        })
        .collect()
}

fn scale(inv_freq: &mut [f64], inner: &Config, config: &Config) -> Result<()> {
    let kind = match inner.text("rope_type")? {
        Some(kind) => kind,
        None => inner.text("type")?.unwrap_or("default"),
    };
    let need = |key: &str| -> Result<f64> {
        match inner.number(key)? {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            Some(value) => bail!("{}: `{key}` = {value} is not positive", inner.place()),
            None => bail!("{}: `{key}` is missing", inner.place()),
        }
    };
    match kind {
        "default" => Ok(()),
        "linear" => {
            let factor = need("factor")?;
            inv_freq.iter_mut().for_each(|freq| *freq = f64::from((*freq / factor) as f32));
            Ok(())
        }
        "llama3" => {
            let factor = need("factor")?;
            let (low, high) = (need("low_freq_factor")?, need("high_freq_factor")?);
            ensure!(high > low, "{}: `high_freq_factor` is not above `low_freq_factor`", inner.place());
            let key = "original_max_position_embeddings";
            let (within, beside) = (inner.number(key)?, config.number(key)?);
            ensure!(
                within.is_none() || beside.is_none() || within == beside,
                "{}: `{key}` stands twice, with different values",
                config.place()
            );
            let trained = match (within, beside) {
                (None, Some(beside)) => beside,
                (Some(_), _) => need(key)?,
                (None, None) => config.need("max_position_embeddings")? as f64,
            };
            for freq in inv_freq {
                // Turns that the pair makes over the trained length: many are kept, few are slowed by
                // `factor`, between them the two are blended.
                let turns = trained * *freq / (2.0 * PI);
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                *freq = f64::from(((1.0 - kept) * *freq / factor + kept * *freq) as f32);
            }
            Ok(())
        }
        _ => bail!(
            "{}: rope type \"{kind}\" is not supported; known are default, linear, llama3",
            inner.place()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SPELLING: Spelling =
        Spelling { base: "rope_theta", share: "partial_rotary_factor", default_share: 1.0 };

    fn read(value: Value) -> Result<Rotary> {
        let Value::Object(entries) = value else { panic!() };
        rotary(&Config::of(entries, "config.json".into()), 16, &SPELLING)
    }

    #[test]
    fn both_spellings_give_the_same_frequencies() {
        let old = read(json!({"rope_theta": 5e5, "partial_rotary_factor": 0.5})).unwrap();
        let new =
            read(json!({"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 0.5}})).unwrap();
        assert_eq!(old, new);
        assert_eq!(old.inv_freq.len(), 4);
        assert!((old.inv_freq[1] - 5e5_f64.powf(-0.25)).abs() < 1e-8);
    }

    #[test]
    fn slow_pairs_are_slowed_and_fast_ones_kept() {
        let plain = read(json!({"rope_theta": 10000.0})).unwrap().inv_freq;
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        let scaled = read(json!({"rope_theta": 10000.0, "rope_scaling": scaling})).unwrap().inv_freq;
        assert_eq!(scaled[0], plain[0]);
        assert!(scaled[1] < plain[1] && scaled[1] > plain[1] / 8.0);
        assert_eq!(scaled[7], f64::from((plain[7] / 8.0) as f32));
    }

    /// transformers looks for it in both places.
    #[test]
    fn the_trained_length_may_stand_beside_the_scaling() {
        let scaled = |within: Value, beside: Value| {
            let mut scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
            scaling["original_max_position_embeddings"] = within;
            let key = "original_max_position_embeddings";
            read(json!({"rope_scaling": scaling, key: beside, "max_position_embeddings": 512}))
        };
        let within = scaled(json!(64), Value::Null).unwrap();
        assert_eq!(scaled(Value::Null, json!(64)).unwrap(), within);
        assert_eq!(scaled(json!(64), json!(64)).unwrap(), within);
        assert_eq!(scaled(Value::Null, Value::Null).unwrap(), scaled(json!(512), Value::Null).unwrap());
        let error = scaled(json!(64), json!(128)).unwrap_err();
        assert!(format!("{error:#}").contains("original_max_position_embeddings"), "{error:#}");
    }

    #[test]
    fn unknown_scalings_are_refused_by_name() {
        for kind in ["yarn", "dynamic", "longrope"] {
            let error = read(json!({"rope_scaling": {"type": kind, "factor": 2.0}})).unwrap_err();
            assert!(format!("{error:#}").contains(&format!("rope type \"{kind}\"")), "{error:#}");
        }
    }
}
