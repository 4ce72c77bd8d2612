//! The shape that Llama and its kin share: rotary positions, RMS norms, gated MLP, grouped keys and values.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::config::Config;
use super::reader::Reader;
use super::rotary::{Spelling, rotary};
use crate::{Block, Linear, MlpKind, NormKind, NormPlace, Positions, Real, Residual, Spec, Weights};

pub(super) const PREFIXES: &[&str] = &["model."];

const SPELLING: Spelling =
    Spelling { base: "rope_theta", share: "partial_rotary_factor", default_share: 1.0 };

/// What differs between the kin's tensors.
pub(super) struct Kin {
    /// Queries, keys and values have biases.
    pub qkv_bias: bool,
    /// The attention's output has one.
    pub o_bias: bool,
    /// The MLP's three matrices have one.
    pub mlp_bias: bool,
    /// Queries and keys are normed head by head.
    pub head_norms: bool,
    /// In ggml's files the rows of queries and keys are in the order of its rotary.
    pub ggml_reorders: bool,
}

/// The common part of a specification. `d_head`: width of a head where the configuration says none.
pub(super) fn spec(name: &str, config: &Config, d_head: Option<usize>) -> Result<Spec> {
    let d_model = config.need("hidden_size")?;
    let n_heads = config.need("num_attention_heads")?;
    let n_kv_heads = config.size("num_key_value_heads")?.unwrap_or(n_heads);
    let n_blocks = config.blocks("num_hidden_layers")?;
    ensure!(
        n_heads.is_multiple_of(n_kv_heads),
        "{}: {n_heads} query heads do not divide among {n_kv_heads} key and value heads",
        config.place()
    );
    let d_head = match config.size("head_dim")?.or(d_head) {
        Some(width) => width,
        None => config.even_heads(d_model, n_heads)?,
    };
    let rotary = rotary(config, d_head, &SPELLING)?;
    // Releases of transformers differ in what they make of it here.
    ensure!(
        2 * rotary.inv_freq.len() == d_head,
        "{}: `{}` other than 1 is not supported for {name}",
        config.place(),
        SPELLING.share
    );
    Ok(Spec {
        family: name.into(),
        n_blocks,
        d_model,
        n_heads,
        n_kv_heads,
        d_head,
        d_mlp: config.need("intermediate_size")?,
        vocab: config.need("vocab_size")?,
        d_embed: d_model,
        max_positions: config.need("max_position_embeddings")?,
        positions: Positions::Rotary(rotary),
        norm: NormKind::Rms,
        eps: config.number("rms_norm_eps")?.unwrap_or(1e-6),
        norm_place: NormPlace::Pre,
        residual: Residual::Sequential,
        mlp: MlpKind::Gated(config.activation("hidden_act", "silu")?),
        score_scale: (d_head as f64).sqrt().recip(),
        windows: vec![None; n_blocks],
        prefix_token: config.prefix_token(None)?,
        eos_tokens: config.tokens("eos_token_id")?,
    })
}

/// Refuses a sliding window that is switched on.
pub(super) fn refuse_windows(config: &Config) -> Result<()> {
    config.refuse_unless("use_sliding_window", false, false)?;
    let types = config.value("layer_types").and_then(|types| types.as_array());
    if let Some(other) = types.into_iter().flatten().find(|kind| kind.as_str() != Some("full_attention")) {
        anyhow::bail!("{}: layer type {other} is not supported; known is full_attention", config.place());
    }
    Ok(())
}

/// The common tensors.
pub(super) fn weights<T: Real>(
    kin: &Kin,
    spec: &Spec,
    config: &Config,
    reader: &mut Reader,
) -> Result<Weights<T>> {
    let d = spec.d_model;
    let embed = Arc::new(reader.panels("embed_tokens.weight", spec.vocab, d)?);
    let blocks = (0..spec.n_blocks)
        .map(|block| {
            let name = |part: &str| format!("layers.{block}.{part}");
            let parts = [("q_proj", spec.d_query()), ("k_proj", spec.d_kv()), ("v_proj", spec.d_kv())]
                .map(|(part, width)| (name(&format!("self_attn.{part}")), width));
            let mut qkv = reader.stacked(&parts, d, kin.qkv_bias)?;
            if kin.ggml_reorders && reader.ggml {
                qkv = halves(&qkv, spec);
            }
            let mut head_norm = |part: &str| {
                kin.head_norms.then(|| reader.norm(&name(part), spec.d_head, spec.norm)).transpose()
            };
            Ok(Block {
                q_norm: head_norm("self_attn.q_norm")?,
                k_norm: head_norm("self_attn.k_norm")?,
                attn_norm: reader.norm(&name("input_layernorm"), d, spec.norm)?,
                mlp_norm: reader.norm(&name("post_attention_layernorm"), d, spec.norm)?,
                qkv,
                o: reader.linear(&name("self_attn.o_proj"), d, spec.d_query(), kin.o_bias)?,
                gate: Some(reader.linear(&name("mlp.gate_proj"), spec.d_mlp, d, kin.mlp_bias)?),
                up: reader.linear(&name("mlp.up_proj"), spec.d_mlp, d, kin.mlp_bias)?,
                down: reader.linear(&name("mlp.down_proj"), d, spec.d_mlp, kin.mlp_bias)?,
            })
        })
        .collect::<Result<_>>()?;
    let final_norm = Some(reader.norm("norm", d, spec.norm)?);
    let unembed = reader.head("lm_head", &embed, config.truth("tie_word_embeddings", false)?)?;
    Ok(Weights { embed, positions: None, project_in: None, blocks, final_norm, project_out: None, unembed })
}

/// Puts the rows of queries and keys back from ggml's rotary order (pairs side by side) into halves.
fn halves<T: Real>(qkv: &Linear<T>, spec: &Spec) -> Linear<T> {
    let (width, half) = (spec.d_head, spec.d_head / 2);
    let rotated = spec.d_query() + spec.d_kv();
    let source = |row: usize| {
        if row >= rotated {
            return row;
        }
        let (head, within) = (row / width, row % width);
        head * width + 2 * (within % half) + within / half
    };
    Linear {
        weight: Arc::new(qkv.weight.select(&(0..qkv.n_out()).map(source).collect::<Vec<_>>())),
        bias: qkv.bias.as_ref().map(|bias| (0..bias.len()).map(|row| bias[source(row)]).collect()),
    }
}
