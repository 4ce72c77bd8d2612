//! Qwen2: the gated shape with biases on queries, keys and values.

use anyhow::Result;

use super::config::Config;
use super::gated::{self, Kin};
use super::reader::Reader;
use crate::{Real, Spec, Weights};

pub(super) const NAME: &str = "qwen2";
pub(super) const PREFIXES: &[&str] = gated::PREFIXES;

pub(super) fn spec(config: &Config) -> Result<Spec> {
    gated::refuse_windows(config)?;
    gated::spec(NAME, config, None)
}

pub(super) fn weights<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
    let kin =
        Kin { qkv_bias: true, o_bias: false, mlp_bias: false, head_norms: false, ggml_reorders: false };
    gated::weights(&kin, spec, config, reader)
}
