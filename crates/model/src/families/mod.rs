//! The families: each turns its `config.json` into a [`Spec`] and its tensors into [`Weights`].
//!
//! A new family is a file with `NAME`, `PREFIXES`, `spec` and `weights`, and its name in the list below.

pub(crate) mod config;
mod gated;
pub(crate) mod ggml;
pub(crate) mod ggml_tokenizer;
pub(crate) mod reader;
mod rotary;

use anyhow::{Context, Result, bail};

use crate::checkpoint::Checkpoint;
use crate::{Real, Spec, Weights};
use config::Config;
use reader::Reader;

macro_rules! families {
    ($($family:ident)*) => {
        $(mod $family;)*

        /// Names (`model_type`) of all families.
        pub const FAMILIES: &[&str] = &[$($family::NAME),*];

        /// A configuration's specification.
        pub(crate) fn spec(config: &Config) -> Result<Spec> {
            let name = family(config)?;
            $(if name == $family::NAME {
                return $family::spec(config);
            })*
            bail!(
                "{}: `model_type` = \"{name}\" is an unknown family; known are {}",
                config.place(),
                FAMILIES.join(", ")
            )
        }

        fn prefixes(name: &str) -> &'static [&'static str] {
            $(if name == $family::NAME {
                return $family::PREFIXES;
            })*
            &[]
        }

        fn weights_of<T: Real>(spec: &Spec, config: &Config, reader: &mut Reader) -> Result<Weights<T>> {
            $(if spec.family == $family::NAME {
                return $family::weights(spec, config, reader);
            })*
            bail!("family `{}` has no weights", spec.family)
        }
    };
}

families!(gpt2 gpt_neo gpt_neox llama opt qwen2 qwen3);

fn family(config: &Config) -> Result<&str> {
    config.text("model_type")?.with_context(|| format!("{}: `model_type` is missing", config.place()))
}

/// How a checkpoint's names and layouts are to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As Hugging Face's transformers writes them.
    HuggingFace,
    /// As ggml's tools write them.
    Ggml,
}

/// A checkpoint's tensors under canonical names.
///
/// # Errors
/// A tensor that is missing, misshapen or left over, by name and with both shapes.
pub(crate) fn weights<T: Real>(
    spec: &Spec,
    config: &Config,
    checkpoint: &Checkpoint,
    layout: Layout,
) -> Result<Weights<T>> {
    let ggml = layout == Layout::Ggml;
    let rename = |name: &str| if ggml { ggml::rename(&spec.family, name) } else { name.to_string() };
    let mut reader = Reader::new(checkpoint, prefixes(&spec.family), rename, ggml)?;
    let weights = weights_of(spec, config, &mut reader)?;
    reader.finish()?;
    Ok(weights)
}
