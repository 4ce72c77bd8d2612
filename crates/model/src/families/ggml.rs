//! GGUF's metadata and tensor names in Hugging Face's spelling, so that a family is read by one adapter
//! whichever file it comes in.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::config::Config;
use super::{gpt2, llama, qwen2, qwen3};
use crate::gguf::Gguf;
use crate::{Positions, Spec};

/// Factors by which rotary frequencies are divided, where a file has them.
pub(crate) const ROTARY_FACTORS: &str = "rope_freqs.weight";

/// The configuration that a file's metadata amounts to.
pub(crate) fn config(gguf: &Gguf) -> Result<Config> {
    let place = gguf.path().display().to_string();
    let family = gguf
        .text("general.architecture")?
        .with_context(|| format!("{place}: metadata `general.architecture` is missing"))?
        .to_string();
    ensure!(
        [gpt2::NAME, llama::NAME, qwen2::NAME, qwen3::NAME].contains(&family.as_str()),
        "{place}: architecture `{family}` is not read from GGUF; known are {}, {}, {}, {}",
        gpt2::NAME,
        llama::NAME,
        qwen2::NAME,
        qwen3::NAME
    );
    for absent in ["attention.sliding_window", "expert_count"] {
        let key = format!("{family}.{absent}");
        let value = gguf.integer(&key)?;
        ensure!(value.unwrap_or(0) == 0, "{place}: metadata `{key}` is set, which is not supported");
    }
    let entries = Entries { gguf, family: &family };
    let mut map = if family == gpt2::NAME { entries.plain()? } else { entries.gated()? };
    map.insert("model_type".into(), json!(family));
    let head = gguf.tensors().any(|(name, _)| name == "output.weight");
    map.insert("tie_word_embeddings".into(), json!(!head));
    for (key, ours) in [("bos_token_id", "bos_token_id"), ("eos_token_id", "eos_token_id")] {
        if let Some(token) = gguf.integer(&format!("tokenizer.ggml.{key}"))? {
            map.insert(ours.into(), json!(token));
        }
    }
    Ok(Config::of(map, place))
}

struct Entries<'a> {
    gguf: &'a Gguf,
    family: &'a str,
}

impl Entries<'_> {
    fn integer(&self, key: &str) -> Result<Option<u64>> {
        self.gguf.integer(&format!("{}.{key}", self.family))
    }

    fn need(&self, key: &str) -> Result<u64> {
        self.integer(key)?.with_context(|| {
            format!("{}: metadata `{}.{key}` is missing", self.gguf.path().display(), self.family)
        })
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.gguf.number(&format!("{}.{key}", self.family))
    }

    /// Rows of the embedding: what is multiplied, not what is said.
    fn vocab(&self) -> Result<usize> {
        let place = || format!("{}: tensor `token_embd.weight` is missing", self.gguf.path().display());
        let (_, shape) =
            self.gguf.tensors().find(|(name, _)| *name == "token_embd.weight").with_context(place)?;
        shape.first().copied().with_context(place)
    }

    fn plain(&self) -> Result<Map<String, Value>> {
        let value = json!({
            "n_layer": self.need("block_count")?,
            "n_embd": self.need("embedding_length")?,
            "n_head": self.need("attention.head_count")?,
            "n_inner": self.need("feed_forward_length")?,
            "n_positions": self.need("context_length")?,
            "layer_norm_epsilon": self.number("attention.layer_norm_epsilon")?,
            "vocab_size": self.vocab()?,
        });
        Ok(object(value))
    }

    fn gated(&self) -> Result<Map<String, Value>> {
        let heads = self.need("attention.head_count")?;
        let width = self.need("embedding_length")?;
        let head = match self.integer("attention.key_length")? {
            Some(head) => head,
            None if heads > 0 => width / heads,
            None => 0,
        };
        let values = self.integer("attention.value_length")?.unwrap_or(head);
        let rotated = self.integer("rope.dimension_count")?.unwrap_or(head);
        let place = self.gguf.path().display();
        ensure!(
            values == head,
            "{place}: keys of width {head} with values of width {values} are not supported"
        );
        ensure!(rotated == head, "{place}: rotating {rotated} of {head} coordinates is not supported");
        let attention_bias = self.gguf.tensors().any(|(name, _)| name == "blk.0.attn_q.bias");
        let mut map = object(json!({
            "num_hidden_layers": self.need("block_count")?,
            "hidden_size": width,
            "num_attention_heads": heads,
            "num_key_value_heads": self.integer("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head,
            "intermediate_size": self.need("feed_forward_length")?,
            "max_position_embeddings": self.need("context_length")?,
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon")?,
            "rope_theta": self.number("rope.freq_base")?,
            "vocab_size": self.vocab()?,
            "attention_bias": attention_bias,
        }));
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // As older files call it.
            None => self.number("rope.scale_linear")?,
        };
        let kind = match self.gguf.text(&format!("{}.rope.scaling.type", self.family))? {
            // What llama.cpp takes a factor for that comes without a type; 0 stands for none.
            None if factor.is_some_and(|factor| factor != 0.0 && factor != 1.0) => Some("linear"),
            kind => kind.filter(|kind| *kind != "none"),
        };
        if let Some(kind) = kind {
            map.insert("rope_scaling".into(), json!({"rope_type": kind, "factor": factor}));
        }
        Ok(map)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Divides the rotary frequencies by the factors that a file carries (Llama 3's scaling, written out).
pub(crate) fn slow_down(gguf: &Gguf, spec: &mut Spec) -> Result<()> {
    if !gguf.tensors().any(|(name, _)| name == ROTARY_FACTORS) {
        return Ok(());
    }
    let factors = gguf.dequantise(ROTARY_FACTORS)?;
    let Positions::Rotary(rotary) = &mut spec.positions else {
        bail!("{}: `{ROTARY_FACTORS}` without rotary positions", gguf.path().display());
    };
    ensure!(
        factors.len() == rotary.inv_freq.len(),
        "{}: tensor `{ROTARY_FACTORS}` has shape [{}], expected [{}]",
        gguf.path().display(),
        factors.len(),
        rotary.inv_freq.len()
    );
    for (freq, factor) in rotary.inv_freq.iter_mut().zip(factors) {
        *freq = f64::from((*freq / f64::from(factor)) as f32);
    }
    Ok(())
}

/// A tensor's name as the family's own checkpoints spell it, without their prefix; unknown names stay.
pub(super) fn rename(family: &str, name: &str) -> String {
    let plain = family == gpt2::NAME;
    let (whole, blocks, parts): (&[_], _, &[_]) = if plain { PLAIN } else { GATED };
    if name == ROTARY_FACTORS {
        return "rotary_emb.inv_freq".into();
    }
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    if let Some((_, ours)) = whole.iter().find(|(theirs, _)| *theirs == stem) {
        return format!("{ours}.{kind}");
    }
    let within = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let known = within.and_then(|(block, part)| {
        let (_, ours) = parts.iter().find(|(theirs, _)| *theirs == part)?;
        Some(format!("{blocks}.{block}.{ours}.{kind}"))
    });
    known.unwrap_or_else(|| name.to_string())
}

type Names = (&'static [(&'static str, &'static str)], &'static str, &'static [(&'static str, &'static str)]);

const PLAIN: Names = (
    &[("token_embd", "wte"), ("position_embd", "wpe"), ("output_norm", "ln_f"), ("output", "lm_head")],
    "h",
    &[
        ("attn_norm", "ln_1"),
        ("attn_qkv", "attn.c_attn"),
        ("attn_output", "attn.c_proj"),
        ("ffn_norm", "ln_2"),
        ("ffn_up", "mlp.c_fc"),
        ("ffn_down", "mlp.c_proj"),
    ],
);

const GATED: Names = (
    &[("token_embd", "embed_tokens"), ("output_norm", "norm"), ("output", "lm_head")],
    "layers",
    &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
);
