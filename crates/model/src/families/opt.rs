//! OPT: learned positions that begin at row 2; one size (350m) norms after its modules and projects its
//! embeddings.

use std::sync::Arc;

use anyhow::Result;

use super::config::Config;
use super::reader::Reader;
use crate::{Block, MlpKind, NormKind, NormPlace, Positions, Real, Residual, Spec, Weights};

pub(super) const NAME: &str = "opt";
pub(super) const PREFIXES: &[&str] = &["model.decoder.", "decoder."];

const OFFSET: usize = 2;

pub(super) fn spec(config: &Config) -> Result<Spec> {
    config.refuse_unless("layer_norm_elementwise_affine", true, true)?;
    let d_model = config.need("hidden_size")?;
    let n_heads = config.need("num_attention_heads")?;
    let n_blocks = config.blocks("num_hidden_layers")?;
    let d_head = config.even_heads(d_model, n_heads)?;
    let before = config.truth("do_layer_norm_before", true)?;
    Ok(Spec {
        family: NAME.into(),
        n_blocks,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: config.need("ffn_dim")?,
        vocab: config.need("vocab_size")?,
        d_embed: config.size("word_embed_proj_dim")?.unwrap_or(d_model),
        max_positions: config.need("max_position_embeddings")?,
        positions: Positions::Learned { offset: OFFSET },
        norm: NormKind::Layer,
        eps: 1e-5,
        norm_place: if before { NormPlace::Pre } else { NormPlace::Post },
        residual: Residual::Sequential,
        mlp: MlpKind::Plain(config.activation("activation_function", "relu")?),
        score_scale: (d_head as f64).sqrt().recip(),
        windows: vec![None; n_blocks],
        prefix_token: config.prefix_token(Some(2))?,
        eos_tokens: config.tokens("eos_token_id")?,
    })
}

pub(super) fn weights<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
    let d = spec.d_model;
    let bias = config.truth("enable_bias", true)?;
    let embed = Arc::new(reader.panels("embed_tokens.weight", spec.vocab, spec.d_embed)?);
    let positions = Some(reader.matrix("embed_positions.weight", spec.max_positions + OFFSET, d)?);
    let projected = spec.d_embed != d;
    let project_in = projected.then(|| reader.linear("project_in", d, spec.d_embed, false)).transpose()?;
    let project_out = projected.then(|| reader.linear("project_out", spec.d_embed, d, false)).transpose()?;
    let blocks = (0..spec.n_blocks)
        .map(|block| {
            let name = |part: &str| format!("layers.{block}.{part}");
            let parts = ["q_proj", "k_proj", "v_proj"].map(|part| (name(&format!("self_attn.{part}")), d));
            Ok(Block {
                attn_norm: reader.norm(&name("self_attn_layer_norm"), d, spec.norm)?,
                mlp_norm: reader.norm(&name("final_layer_norm"), d, spec.norm)?,
                qkv: reader.stacked(&parts, d, bias)?,
                o: reader.linear(&name("self_attn.out_proj"), d, d, bias)?,
                q_norm: None,
                k_norm: None,
                gate: None,
                up: reader.linear(&name("fc1"), spec.d_mlp, d, bias)?,
                down: reader.linear(&name("fc2"), d, spec.d_mlp, bias)?,
            })
        })
        .collect::<Result<_>>()?;
    let has_final = spec.norm_place == NormPlace::Pre && !config.truth("_remove_final_layer_norm", false)?;
    let final_norm = has_final.then(|| reader.norm("final_layer_norm", d, spec.norm)).transpose()?;
    let unembed = reader.head("lm_head", &embed, config.truth("tie_word_embeddings", true)?)?;
    Ok(Weights { embed, positions, project_in, blocks, final_norm, project_out, unembed })
}
