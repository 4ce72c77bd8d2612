//! GPT-2: learned positions, weights stored input by output, queries, keys and values side by side.

use std::sync::Arc;

use anyhow::Result;

use super::config::Config;
use super::reader::Reader;
use crate::{Block, MlpKind, NormKind, NormPlace, Positions, Real, Residual, Spec, Weights};

pub(super) const NAME: &str = "gpt2";
pub(super) const PREFIXES: &[&str] = &["transformer."];

pub(super) fn spec(config: &Config) -> Result<Spec> {
    config.refuse_unless("scale_attn_weights", true, true)?;
    config.refuse_unless("scale_attn_by_inverse_layer_idx", false, false)?;
    config.refuse_unless("add_cross_attention", false, false)?;
    let d_model = config.need("n_embd")?;
    let n_heads = config.need("n_head")?;
    let n_blocks = config.blocks("n_layer")?;
    let d_head = config.even_heads(d_model, n_heads)?;
    Ok(Spec {
        family: NAME.into(),
        n_blocks,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: config.size("n_inner")?.unwrap_or(4 * d_model),
        vocab: config.need("vocab_size")?,
        d_embed: d_model,
        max_positions: config.need("n_positions")?,
        positions: Positions::Learned { offset: 0 },
        norm: NormKind::Layer,
        eps: config.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        norm_place: NormPlace::Pre,
        residual: Residual::Sequential,
        mlp: MlpKind::Plain(config.activation("activation_function", "gelu_new")?),
        score_scale: (d_head as f64).sqrt().recip(),
        windows: vec![None; n_blocks],
        prefix_token: config.prefix_token(Some(50256))?,
        eos_tokens: config.tokens("eos_token_id")?,
    })
}

pub(super) fn weights<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
    let d = spec.d_model;
    let embed = Arc::new(reader.panels("wte.weight", spec.vocab, d)?);
    let positions = Some(reader.matrix("wpe.weight", spec.max_positions, d)?);
    let blocks = (0..spec.n_blocks)
        .map(|block| {
            let name = |part: &str| format!("h.{block}.{part}");
            Ok(Block {
                attn_norm: reader.norm(&name("ln_1"), d, spec.norm)?,
                mlp_norm: reader.norm(&name("ln_2"), d, spec.norm)?,
                qkv: reader.transposed(&name("attn.c_attn"), 3 * d, d)?,
                o: reader.transposed(&name("attn.c_proj"), d, d)?,
                q_norm: None,
                k_norm: None,
                gate: None,
                up: reader.transposed(&name("mlp.c_fc"), spec.d_mlp, d)?,
                down: reader.transposed(&name("mlp.c_proj"), d, spec.d_mlp)?,
            })
        })
        .collect::<Result<_>>()?;
    let final_norm = Some(reader.norm("ln_f", d, spec.norm)?);
    let unembed = reader.head("lm_head", &embed, config.truth("tie_word_embeddings", true)?)?;
    Ok(Weights { embed, positions, project_in: None, blocks, final_norm, project_out: None, unembed })
}
