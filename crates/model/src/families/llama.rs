//! Llama (SmolLM2): the gated shape, with biases where the configuration asks for them.

use anyhow::Result;

use super::config::Config;
use super::gated::{self, Kin};
use super::reader::Reader;
use crate::{Real, Spec, Weights};

pub(super) const NAME: &str = "llama";
pub(super) const PREFIXES: &[&str] = gated::PREFIXES;

pub(super) fn spec(config: &Config) -> Result<Spec> {
    let spec = gated::spec(NAME, config, None)?;
    Ok(Spec { prefix_token: spec.prefix_token.or(Some(1)), ..spec })
}

pub(super) fn weights<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
    let attention_bias = config.truth("attention_bias", false)?;
    let kin = Kin {
        qkv_bias: attention_bias,
        o_bias: attention_bias,
        mlp_bias: config.truth("mlp_bias", false)?,
        head_norms: false,
        ggml_reorders: true,
    };
    gated::weights(&kin, spec, config, reader)
}
