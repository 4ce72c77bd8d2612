//! GPT-NeoX (Pythia): parallel or sequential residual, rotary on a share of each head, queries, keys and values
//! interleaved head by head.

use std::sync::Arc;

use anyhow::Result;

use super::config::Config;
use super::reader::Reader;
use super::rotary::{Spelling, rotary};
use crate::{
    Block, Linear, MlpKind, NormKind, NormPlace, Positions, Real, Residual, Spec, Weights,
};

pub(super) const NAME: &str = "gpt_neox";
pub(super) const PREFIXES: &[&str] = &["gpt_neox."];

const SPELLING: Spelling = Spelling { base: "rotary_emb_base", share: "rotary_pct", default_share: 0.25 };

pub(super) fn spec(config: &Config) -> Result<Spec> {
    let d_model = config.need("hidden_size")?;
    let n_heads = config.need("num_attention_heads")?;
    let n_blocks = config.blocks("num_hidden_layers")?;
    let d_head = config.even_heads(d_model, n_heads)?;
    let parallel = config.truth("use_parallel_residual", true)?;
    Ok(Spec {
        family: NAME.into(),
        n_blocks,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: config.need("intermediate_size")?,
        vocab: config.need("vocab_size")?,
        d_embed: d_model,
        max_positions: config.need("max_position_embeddings")?,
        positions: Positions::Rotary(rotary(config, d_head, &SPELLING)?),
        norm: NormKind::Layer,
        eps: config.number("layer_norm_eps")?.unwrap_or(1e-5),
        norm_place: NormPlace::Pre,
        residual: if parallel { Residual::Parallel } else { Residual::Sequential },
        mlp: MlpKind::Plain(config.activation("hidden_act", "gelu")?),
        score_scale: (d_head as f64).sqrt().recip(),
        windows: vec![None; n_blocks],
        prefix_token: config.prefix_token(Some(0))?,
        eos_tokens: config.tokens("eos_token_id")?,
    })
}

pub(super) fn weights<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
    let d = spec.d_model;
    let bias = config.truth("attention_bias", true)?;
    let embed = Arc::new(reader.panels("embed_in.weight", spec.vocab, d)?);
    let blocks = (0..spec.n_blocks)
        .map(|block| {
            let name = |part: &str| format!("layers.{block}.{part}");
            let fused = reader.linear(&name("attention.query_key_value"), 3 * d, d, bias)?;
            Ok(Block {
                attn_norm: reader.norm(&name("input_layernorm"), d, spec.norm)?,
                mlp_norm: reader.norm(&name("post_attention_layernorm"), d, spec.norm)?,
                qkv: by_kind(&fused, spec.n_heads, spec.d_head),
                o: reader.linear(&name("attention.dense"), d, d, bias)?,
                q_norm: None,
                k_norm: None,
                gate: None,
                up: reader.linear(&name("mlp.dense_h_to_4h"), spec.d_mlp, d, true)?,
                down: reader.linear(&name("mlp.dense_4h_to_h"), d, spec.d_mlp, true)?,
            })
        })
        .collect::<Result<_>>()?;
    let final_norm = Some(reader.norm("final_layer_norm", d, spec.norm)?);
    // The checkpoints' name, then the one that transformers 5 uses in memory.
    let head = if reader.has("lm_head.weight") { "lm_head" } else { "embed_out" };
    let unembed = reader.head(head, &embed, config.truth("tie_word_embeddings", false)?)?;
    Ok(Weights { embed, positions: None, project_in: None, blocks, final_norm, project_out: None, unembed })
}

/// From `[q of head 0, k of head 0, v of head 0, q of head 1, …]` to all queries, all keys, all values.
fn by_kind<T: Real>(fused: &Linear<T>, n_heads: usize, d_head: usize) -> Linear<T> {
    let rows = || {
        (0..3 * n_heads).flat_map(move |part| {
            let (kind, head) = (part / n_heads, part % n_heads);
            let first = (3 * head + kind) * d_head;
            first..first + d_head
        })
    };
    Linear {
        weight: Arc::new(fused.weight.select(&rows().collect::<Vec<_>>())),
        bias: fused.bias.as_ref().map(|bias| rows().map(|row| bias[row]).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Panels;

    #[test]
    fn queries_keys_and_values_are_sorted_out_of_each_head() {
        // Two heads of width 1, rows numbered: q0 k0 v0 q1 k1 v1.
        let fused = Linear {
            weight: Arc::new(Panels::new(6, 1, &[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0])),
            bias: Some(vec![10.0, 11.0, 12.0, 13.0, 14.0, 15.0]),
        };
        let sorted = by_kind(&fused, 2, 1);
        assert_eq!(sorted.weight.to_matrix().data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(sorted.bias.unwrap(), [10.0, 13.0, 11.0, 14.0, 12.0, 15.0]);
    }
}
