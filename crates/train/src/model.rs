//! The two architectures, as trained: variables under their Hugging Face names and a forward pass of fused
//! operations. Stages read models through `rote-model`; this one exists because it needs gradients.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use clap::ValueEnum;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::attention::{Attention, Fused};
use crate::numbers::Gelu;
use crate::operations::{LayerNorm, Linear};

/// Which of the paper's architectures to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Parallel residual, rotary positions in a quarter of each head, separate output matrix (Pythia).
    #[value(name = "gpt_neox")]
    GptNeox,
    /// Sequential residual, learned positions, every second attention local, unscaled scores, tied output matrix.
    #[value(name = "gpt_neo")]
    GptNeo,
}

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Architecture.
    pub family: Family,
    /// Number of blocks.
    pub blocks: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// Number of positions.
    pub context: usize,
}

/// Tokens that a local attention of GPT-Neo sees, itself included.
pub const WINDOW: usize = 32;
/// Share of a head that turns in GPT-NeoX.
pub const ROTARY_SHARE: f64 = 0.25;
/// Added to variances in layer norms.
pub const EPSILON: f64 = 1e-5;

impl Shape {
    /// Refuses sizes that do not go together.
    pub fn check(&self) -> Result<()> {
        let Shape { family, blocks, width, heads, .. } = *self;
        ensure!(
            blocks > 0 && width > 0 && heads > 0 && self.context > 0,
            "--blocks, --width, --heads and --context must be at least 1"
        );
        ensure!(width % heads == 0, "--width {width} is not a multiple of --heads {heads}");
        match family {
            Family::GptNeox if (width / heads) % 8 != 0 => {
                bail!(
                    "heads of {} dimensions: a quarter of them must be even; choose --width and --heads so that it is",
                    width / heads
                )
            }
            Family::GptNeo if blocks % 2 != 0 => {
                bail!(
                    "--blocks {blocks}: global and local attention alternate, so gpt_neo needs an even number"
                )
            }
            _ => Ok(()),
        }
    }
}

/// A model whose variables can be trained.
pub struct Model {
    shape: Shape,
    names: Vec<String>,
    variables: Vec<Var>,
    none: Tensor,
    threads: usize,
    /// What attention multiplies its scores by.
    scale: f32,
}

impl Model {
    /// A model with random weights: normal with deviation 0.02, less for what is added to the residual stream.
    pub fn new(shape: Shape, threads: usize, draw: &mut ChaCha8Rng) -> Result<Self> {
        shape.check()?;
        let none = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
        let scale = 1.0 / ((shape.width / shape.heads) as f32).sqrt();
        let mut model = Self { shape, names: Vec::new(), variables: Vec::new(), none, threads, scale };
        for (name, dims, start) in layout(&shape) {
            let data = match start {
                Start::Zero => vec![0.0; dims.iter().product()],
                Start::One => vec![1.0; dims.iter().product()],
                Start::Normal(deviation) => {
                    (0..dims.iter().product()).map(|_| deviation * normal(draw)).collect()
                }
            };
            model.names.push(name);
            model.variables.push(Var::from_tensor(&Tensor::from_vec(data, dims, &Device::Cpu)?)?);
        }
        Ok(model)
    }

    /// The sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Every variable under its name; GPT-Neo's query, key and value stand in one as `…attn.attention.qkv`.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.names.iter().map(String::as_str).zip(&self.variables)
    }

    /// Moves the scale of the scores into the query weights where the architecture has none of its own.
    ///
    /// GPT-Neo does not scale. Trained that way, its scores start several times too large for small heads, attention
    /// freezes early, and learning is slow; the same function with the scale apart learns as GPT-NeoX does.
    pub fn fold_scale(&mut self) -> Result<()> {
        let Shape { family: Family::GptNeo, width, .. } = self.shape else { return Ok(()) };
        for (name, variable) in self.names.iter().zip(&self.variables) {
            if name.ends_with("qkv.weight") {
                let query = (variable.narrow(0, 0, width)? * f64::from(self.scale))?;
                let rest = variable.narrow(0, width, 2 * width)?;
                variable.set(&Tensor::cat(&[query, rest], 0)?)?;
            }
        }
        self.scale = 1.0;
        Ok(())
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.variables.iter().map(|variable| variable.elem_count()).sum()
    }

    /// Logits `[B · context, V]` of windows of `context` tokens, laid one after another.
    pub fn logits(&self, tokens: &[u32], context: usize) -> Result<Tensor> {
        let Shape { family, blocks, width, .. } = self.shape;
        ensure!(
            context <= self.shape.context,
            "{context} tokens do not fit a context of {}",
            self.shape.context
        );
        ensure!(
            tokens.len().is_multiple_of(context),
            "{} tokens are not whole windows of {context}",
            tokens.len()
        );
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut variables = self.variables.iter().map(Var::as_tensor);
        let mut next = || variables.next().expect("layout lists every variable in the order of use");
        let norm = LayerNorm { epsilon: EPSILON as f32 };
        let normed = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
            x.apply_op3(weight, bias, LayerNorm { epsilon: norm.epsilon })
        };
        let linear = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
            x.apply_op3(weight, bias, Linear { threads: self.threads })
        };
        let embedding = next();
        let mut x = embedding.index_select(&ids, 0)?; // [B · T, D]
        if family == Family::GptNeo {
            let positions: Vec<u32> = (0..tokens.len()).map(|index| (index % context) as u32).collect();
            x = (x + next().index_select(&Tensor::new(positions, &Device::Cpu)?, 0)?)?;
        }
        for block in 0..blocks {
            let attention = self.attention(block, context);
            let (weight, bias) = (next(), next());
            let before = normed(&x, weight, bias)?;
            let (weight, bias) = match family {
                Family::GptNeox => (next(), next()),
                Family::GptNeo => (next(), &self.none),
            };
            let fused = linear(&before, weight, bias)?; // [B · T, 3 · D]
            let (weight, bias) = (next(), next());
            let attended = linear(&attention.apply(&fused)?, weight, bias)?;
            let middle = (&x + attended)?;
            let (weight, bias) = (next(), next());
            let before = match family {
                Family::GptNeox => normed(&x, weight, bias)?,
                Family::GptNeo => normed(&middle, weight, bias)?,
            };
            let (weight, bias) = (next(), next());
            let inner = linear(&before, weight, bias)?.apply_op1(self.gelu())?; // [B · T, 4 · D]
            let (weight, bias) = (next(), next());
            x = (middle + linear(&inner, weight, bias)?)?;
        }
        debug_assert_eq!(x.dims(), [tokens.len(), width]);
        let (weight, bias) = (next(), next());
        let x = normed(&x, weight, bias)?;
        let head = match family {
            Family::GptNeox => next(),
            Family::GptNeo => embedding,
        };
        Ok(linear(&x, head, &self.none)?)
    }

    fn gelu(&self) -> Gelu {
        match self.shape.family {
            Family::GptNeox => Gelu::Exact,
            Family::GptNeo => Gelu::Tanh,
        }
    }

    fn attention(&self, block: usize, context: usize) -> Attention {
        let Shape { family, width, heads, .. } = self.shape;
        let head_width = width / heads;
        let (fused, rotary, window) = match family {
            Family::GptNeox => (Fused::ByHead, (head_width as f64 * ROTARY_SHARE) as usize, None),
            Family::GptNeo => (Fused::ByKind, 0, (block % 2 == 1).then_some(WINDOW)),
        };
        let scale = self.scale;
        Attention { context, heads, head_width, fused, scale, rotary, window, threads: self.threads }
    }
}

enum Start {
    Zero,
    One,
    Normal(f32),
}

/// Names, sizes and starting values, in the order in which the forward pass takes them.
fn layout(shape: &Shape) -> Vec<(String, Vec<usize>, Start)> {
    let Shape { family, blocks, width, vocabulary, context, .. } = *shape;
    const DEVIATION: f32 = 0.02;
    // What is added to the residual stream 2 · blocks times starts so much smaller.
    let added = DEVIATION / (2.0 * blocks as f32).sqrt();
    let mut all = Vec::new();
    let mut matrix = |name: String, rows: usize, columns: usize, deviation: f32, bias: bool| {
        all.push((format!("{name}.weight"), vec![rows, columns], Start::Normal(deviation)));
        if bias {
            all.push((format!("{name}.bias"), vec![rows], Start::Zero));
        }
    };
    // A layer norm is a "matrix" of no columns until here, so that one list keeps the order.
    const NORM: usize = 0;
    match family {
        Family::GptNeox => {
            matrix("gpt_neox.embed_in".into(), vocabulary, width, DEVIATION, false);
            for block in 0..blocks {
                let name = |part: &str| format!("gpt_neox.layers.{block}.{part}");
                matrix(name("input_layernorm"), width, NORM, 0.0, true);
                matrix(name("attention.query_key_value"), 3 * width, width, DEVIATION, true);
                matrix(name("attention.dense"), width, width, added, true);
                matrix(name("post_attention_layernorm"), width, NORM, 0.0, true);
                matrix(name("mlp.dense_h_to_4h"), 4 * width, width, DEVIATION, true);
                matrix(name("mlp.dense_4h_to_h"), width, 4 * width, added, true);
            }
            matrix("gpt_neox.final_layer_norm".into(), width, NORM, 0.0, true);
            matrix("embed_out".into(), vocabulary, width, DEVIATION, false);
        }
        Family::GptNeo => {
            matrix("transformer.wte".into(), vocabulary, width, DEVIATION, false);
            matrix("transformer.wpe".into(), context, width, DEVIATION, false);
            for block in 0..blocks {
                let name = |part: &str| format!("transformer.h.{block}.{part}");
                matrix(name("ln_1"), width, NORM, 0.0, true);
                matrix(name("attn.attention.qkv"), 3 * width, width, DEVIATION, false);
                matrix(name("attn.attention.out_proj"), width, width, added, true);
                matrix(name("ln_2"), width, NORM, 0.0, true);
                matrix(name("mlp.c_fc"), 4 * width, width, DEVIATION, true);
                matrix(name("mlp.c_proj"), width, 4 * width, added, true);
            }
            matrix("transformer.ln_f".into(), width, NORM, 0.0, true);
        }
    }
    for (_, dims, start) in &mut all {
        if dims.last() == Some(&NORM) {
            dims.pop();
            *start = Start::One;
        }
    }
    all
}

/// A standard normal number (Box–Muller).
fn normal(draw: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - draw.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * draw.random::<f64>()).cos()) as f32
}
