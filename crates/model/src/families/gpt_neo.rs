//! GPT-Neo: learned positions, scores that are not scaled, blocks with a local window among global ones.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::config::Config;
use super::reader::Reader;
use crate::{Block, MlpKind, NormKind, NormPlace, Positions, Real, Residual, Spec, Weights};

pub(super) const NAME: &str = "gpt_neo";
pub(super) const PREFIXES: &[&str] = &["transformer."];

pub(super) fn spec(config: &Config) -> Result<Spec> {
    let d_model = config.need("hidden_size")?;
    let n_heads = config.need("num_heads")?;
    let n_blocks = config.blocks("num_layers")?;
    Ok(Spec {
        family: NAME.into(),
        n_blocks,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head: config.even_heads(d_model, n_heads)?,
        d_mlp: config.size("intermediate_size")?.unwrap_or(4 * d_model),
        vocab: config.need("vocab_size")?,
        d_embed: d_model,
        max_positions: config.need("max_position_embeddings")?,
        positions: Positions::Learned { offset: 0 },
        norm: NormKind::Layer,
        eps: config.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        norm_place: NormPlace::Pre,
        residual: Residual::Sequential,
        mlp: MlpKind::Plain(config.activation("activation_function", "gelu_new")?),
        score_scale: 1.0,
        windows: windows(config, n_blocks)?,
        prefix_token: config.prefix_token(Some(50256))?,
        eos_tokens: config.tokens("eos_token_id")?,
    })
}

/// `[[["global", "local"], 12]]`: the kinds, in turn, that many times.
fn windows(config: &Config, n_blocks: usize) -> Result<Vec<Option<usize>>> {
    let window = config.size("window_size")?.unwrap_or(256);
    let expected = || format!("{}: `attention_types` should look like [[[\"global\", \"local\"], 12]]", config.place());
    let types = config.value("attention_types").with_context(expected)?;
    let mut windows = Vec::with_capacity(n_blocks);
    for group in types.as_array().with_context(expected)? {
        let kinds = group[0].as_array().with_context(expected)?;
        let times = group[1].as_u64().with_context(expected)?;
        // A group longer than the model is wrong whatever follows; stop before it is written out.
        ensure!(times <= n_blocks as u64, expected());
        for _ in 0..times {
            for kind in kinds {
                windows.push(match kind.as_str() {
                    Some("global") => None,
                    Some("local") => Some(window),
                    _ => bail!("{}: attention type {kind} is not supported; known are global, local", config.place()),
                });
            }
        }
    }
    ensure!(
        windows.len() == n_blocks,
        "{}: `attention_types` describes {} blocks, `num_layers` is {n_blocks}",
        config.place(),
        windows.len()
    );
    Ok(windows)
}

pub(super) fn weights<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
    let d = spec.d_model;
    let embed = Arc::new(reader.panels("wte.weight", spec.vocab, d)?);
    let positions = Some(reader.matrix("wpe.weight", spec.max_positions, d)?);
    let blocks = (0..spec.n_blocks)
        .map(|block| {
            let name = |part: &str| format!("h.{block}.{part}");
            let parts = ["q_proj", "k_proj", "v_proj"].map(|part| (name(&format!("attn.attention.{part}")), d));
            Ok(Block {
                attn_norm: reader.norm(&name("ln_1"), d, spec.norm)?,
                mlp_norm: reader.norm(&name("ln_2"), d, spec.norm)?,
                qkv: reader.stacked(&parts, d, false)?,
                o: reader.linear(&name("attn.attention.out_proj"), d, d, true)?,
                q_norm: None,
                k_norm: None,
                gate: None,
                up: reader.linear(&name("mlp.c_fc"), spec.d_mlp, d, true)?,
                down: reader.linear(&name("mlp.c_proj"), d, spec.d_mlp, true)?,
            })
        })
        .collect::<Result<_>>()?;
    let final_norm = Some(reader.norm("ln_f", d, spec.norm)?);
    let unembed = reader.head("lm_head", &embed, config.truth("tie_word_embeddings", true)?)?;
    Ok(Weights { embed, positions, project_in: None, blocks, final_norm, project_out: None, unembed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(types: Value, n_blocks: usize) -> Result<Vec<Option<usize>>> {
        let Value::Object(entries) = json!({"attention_types": types, "window_size": 8}) else { panic!() };
        windows(&Config::of(entries, "config.json".into()), n_blocks)
    }

    #[test]
    fn attention_types_are_written_out() {
        let mixed = read(json!([[["global", "local"], 2]]), 4).unwrap();
        assert_eq!(mixed, [None, Some(8), None, Some(8)]);
        assert_eq!(read(json!([[["global"], 3]]), 3).unwrap(), [None; 3]);
    }

    #[test]
    fn wrong_counts_and_unknown_kinds_are_refused() {
        let short = read(json!([[["global", "local"], 2]]), 5).unwrap_err();
        assert!(format!("{short:#}").contains("describes 4 blocks, `num_layers` is 5"));
        let strange = read(json!([[["lsh"], 1]]), 1).unwrap_err();
        assert!(format!("{strange:#}").contains("attention type \"lsh\""));
    }
}
