//! Qwen3: the gated shape with a norm over each head's query and key.

use anyhow::Result;

use super::config::Config;
use super::gated::{self, Kin};
use super::reader::Reader;
use crate::{Real, Spec, Weights};

pub(super) const NAME: &str = "qwen3";
pub(super) const PREFIXES: &[&str] = gated::PREFIXES;

pub(super) fn spec(config: &Config) -> Result<Spec> {
    gated::refuse_windows(config)?;
    gated::spec(NAME, config, Some(128))
}

pub(super) fn weights<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
    let attention_bias = config.truth("attention_bias", false)?;
    let kin = Kin {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: false,
        head_norms: true,
        ggml_reorders: false,
    };
    gated::weights(&kin, spec, config, reader)
}
