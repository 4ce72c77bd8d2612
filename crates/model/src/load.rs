//! From a model's name to a model: files, configuration, weights, tokenizer.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::checkpoint::Checkpoint;
use crate::families::config::Config;
use crate::families::reader::is_buffer;
use crate::families::{self, Layout, ggml};
use crate::gguf::Gguf;
use crate::source::{Source, weight_files};
use crate::{Linear, Model, Norm, Real, Spec, Tokenizer, Weights};

/// A model and what came with it.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The model.
    pub model: Model<T>,
    /// Its tokenizer; `None` where the folder has no `tokenizer.json`.
    pub tokenizer: Option<Tokenizer>,
    /// What it is.
    pub identity: Identity,
}

/// What a model is, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `model_type` of its configuration.
    pub family: String,
    /// Number of parameters; tied matrices count once.
    pub parameters: u64,
    /// Number of blocks.
    pub n_blocks: u32,
    /// Query heads per block.
    pub n_heads: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Every file it was made of.
    pub files: Vec<PathBuf>,
}

/// Loads a model with its tokenizer, where it has one.
///
/// # Errors
/// Nothing of that name; a file that is damaged; a family, activation or rotary scaling that is not known; a
/// tensor that is missing, misshapen or left over.
pub fn load<T: Real>(name: &str) -> Result<Loaded<T>> {
    let source = Source::find(name)?;
    let Opened { files, config, spec, tokenizer } = Opened::open(&source)?;
    let (checkpoint, layout) = files.checkpoint()?;
    let weights = families::weights::<T>(&spec, &config, &checkpoint, layout)?;
    let identity = Identity {
        family: spec.family.clone(),
        parameters: n_parameters(&weights),
        n_blocks: spec.n_blocks as u32,
        n_heads: spec.n_heads as u32,
        d_model: spec.d_model as u32,
        files: source.files()?,
    };
    Ok(Loaded { model: Model { spec, weights }, tokenizer, identity })
}

/// Reads what a model is like, without its weights.
pub fn load_spec(name: &str) -> Result<Spec> {
    Ok(Opened::open(&Source::find(name)?)?.spec)
}

/// How many numbers a model's weights are, told from its files' headers.
///
/// # Errors
/// Nothing of that name; a file that is damaged.
pub fn load_size(name: &str) -> Result<u64> {
    let files = match Source::find(name)? {
        Source::Folder(folder) => Files::Folder(folder),
        Source::Gguf(path) => Files::Gguf(Box::new(Gguf::open(&path)?)),
    };
    let (checkpoint, _) = files.checkpoint()?;
    let weights = checkpoint.tensors().filter(|(name, _)| !is_buffer(name) && *name != ggml::ROTARY_FACTORS);
    Ok(weights.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum())
}

/// Loads a model's tokenizer alone.
pub fn load_tokenizer(name: &str) -> Result<Tokenizer> {
    match Source::find(name)? {
        Source::Folder(folder) => {
            Tokenizer::from_folder(&folder).with_context(|| format!("tokenizer of model `{name}`"))
        }
        Source::Gguf(path) => Tokenizer::from_gguf(&Gguf::open(&path)?),
    }
}

/// A model before its weights are read.
struct Opened {
    files: Files,
    config: Config,
    spec: Spec,
    tokenizer: Option<Tokenizer>,
}

enum Files {
    Folder(PathBuf),
    Gguf(Box<Gguf>),
}

impl Files {
    /// Where the weights are, and how they are named and laid out.
    fn checkpoint(self) -> Result<(Checkpoint, Layout)> {
        Ok(match self {
            Files::Folder(folder) => (Checkpoint::open(&weight_files(&folder)?)?, Layout::HuggingFace),
            Files::Gguf(gguf) => (Checkpoint::of_gguf(*gguf), Layout::Ggml),
        })
    }
}

impl Opened {
    fn open(source: &Source) -> Result<Self> {
        let (files, config, mut spec, tokenizer) = match source {
            Source::Folder(folder) => {
                let config = Config::read(&folder.join("config.json"))?;
                let mut spec = families::spec(&config)?;
                let generation = folder.join("generation_config.json");
                if generation.is_file() {
                    // What ends a generated text goes before what the architecture says.
                    let tokens = Config::read(&generation)?.tokens("eos_token_id")?;
                    if !tokens.is_empty() {
                        spec.eos_tokens = tokens;
                    }
                }
                let has_tokenizer = folder.join("tokenizer.json").is_file();
                let tokenizer = has_tokenizer.then(|| Tokenizer::from_folder(folder)).transpose()?;
                (Files::Folder(folder.clone()), config, spec, tokenizer)
            }
            Source::Gguf(path) => {
                let gguf = Gguf::open(path)?;
                let config = ggml::config(&gguf)?;
                let mut spec = families::spec(&config)?;
                ggml::slow_down(&gguf, &mut spec)?;
                let has_tokenizer = gguf.has("tokenizer.ggml.model");
                let tokenizer = has_tokenizer.then(|| Tokenizer::from_gguf(&gguf)).transpose()?;
                (Files::Gguf(Box::new(gguf)), config, spec, tokenizer)
            }
        };
        // Benchmarks begin with what the tokenizer calls its first token; a token beyond the embedding
        // (a family's default in a model of few tokens) is none.
        let prefix = tokenizer.as_ref().and_then(Tokenizer::prefix_token).or(spec.prefix_token);
        spec.prefix_token = prefix.filter(|&token| (token as usize) < spec.vocab);
        Ok(Opened { files, config, spec, tokenizer })
    }
}

/// Values in all tensors; a tied matrix counts once.
fn n_parameters<T: Real>(weights: &Weights<T>) -> u64 {
    let linear = |linear: &Linear<T>| {
        linear.weight.rows * linear.weight.cols + linear.bias.as_ref().map_or(0, Vec::len)
    };
    let norm = |norm: &Norm<T>| norm.gain.len() + norm.bias.as_ref().map_or(0, Vec::len);
    let blocks = weights.blocks.iter().map(|block| {
        let norms =
            [Some(&block.attn_norm), Some(&block.mlp_norm), block.q_norm.as_ref(), block.k_norm.as_ref()];
        let maps =
            [Some(&block.qkv), Some(&block.o), block.gate.as_ref(), Some(&block.up), Some(&block.down)];
        norms.into_iter().flatten().map(norm).sum::<usize>()
            + maps.into_iter().flatten().map(linear).sum::<usize>()
    });
    let head =
        if Arc::ptr_eq(&weights.embed, &weights.unembed.weight) { 0 } else { linear(&weights.unembed) };
    let around = weights.embed.rows * weights.embed.cols
        + weights.positions.as_ref().map_or(0, |positions| positions.data.len())
        + [&weights.project_in, &weights.project_out].into_iter().flatten().map(linear).sum::<usize>()
        + weights.final_norm.as_ref().map_or(0, norm);
    (around + head + blocks.sum::<usize>()) as u64
}
