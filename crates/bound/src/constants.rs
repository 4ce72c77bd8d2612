//! What the bounds need of the weights alone: computed once per model.
//!
//! A matrix that follows a norm is folded with it: `W~ = C G W`, `b~ = beta W + b`, so that
//! `N(x) W + b = u(x) W~ + b~`. As in the model, weights lie `[out, in]`: a row of `W~` here is a column of
//! the row-vector convention in which the theorems are written.

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use rote_artifact::Misfit;
use rote_artifact::tables::Constant;
use rote_model::{
    Block, Linear, Matrix, Norm, NormKind, NormPlace, Panels, Positions, Residual, Spec, Weights,
};

use crate::head_sum::{HeadSum, operator_norm};
use crate::known::{Known, KnownBlock};
use crate::linear::{View, dot, norm, product, view};
use crate::mlp_constants::MlpConstants;
use crate::spectral::{covering_factor, spectral_norm};
use crate::unembedding::Unembedding;

/// A linear map folded with the norm before it.
#[derive(Clone, Debug)]
pub(crate) struct Folded {
    /// `[out, d]`.
    pub weight: Matrix<f64>,
    /// `[out]`.
    pub bias: Vec<f64>,
}

impl Folded {
    /// Rows `first .. first + count` of `linear`.
    pub(crate) fn new(
        linear: &Linear<f64>,
        first: usize,
        count: usize,
        norm: &Norm<f64>,
        kind: NormKind,
    ) -> Self {
        let d = linear.n_in();
        let mut data = Vec::with_capacity(count * d);
        let mut bias = Vec::with_capacity(count);
        for row in first..first + count {
            let weights = linear.weight.row(row);
            let own = linear.bias.as_ref().map_or(0.0, |bias| bias[row]);
            bias.push(own + norm.bias.as_ref().map_or(0.0, |beta| dot(beta, &weights)));
            let folded: Vec<f64> = weights.iter().zip(&norm.gain).map(|(w, gain)| w * gain).collect();
            data.extend(centred(folded, kind));
        }
        Folded { weight: Matrix::new(count, d, data), bias }
    }

    /// `u W~ + b~` for each row of `u`.
    pub(crate) fn apply(&self, u: &Matrix<f64>) -> Matrix<f64> {
        let mut out = product(view(u), view(&self.weight).transposed());
        for row in out.data.chunks_exact_mut(self.bias.len()) {
            row.iter_mut().zip(&self.bias).for_each(|(out, bias)| *out += bias);
        }
        out
    }
}

/// `x C`: less its mean, for LayerNorm.
pub(crate) fn centred(mut x: Vec<f64>, kind: NormKind) -> Vec<f64> {
    if kind == NormKind::Layer {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        x.iter_mut().for_each(|x| *x -= mean);
    }
    x
}

/// Query and key norms of Qwen3-like models.
#[derive(Clone, Debug)]
pub(crate) struct QueryKeyNorm {
    pub query_gain: Vec<f64>,
    pub key_gain: Vec<f64>,
    /// Largest magnitude of each gain.
    pub largest: (f64, f64),
}

/// One block's attention.
#[derive(Clone, Debug)]
pub(crate) struct AttnConstants {
    pub query: Folded,
    pub key: Folded,
    pub value: Folded,
    /// `[d, n_heads d_head]`.
    pub out: Matrix<f64>,
    pub qk_norm: Option<QueryKeyNorm>,
    /// Per query head: `L` with `|y L| >= |y W~_Q|` for rows `y` of a head's width.
    pub query_cover: Vec<Matrix<f64>>,
    /// Per key head.
    pub key_cover: Vec<Matrix<f64>>,
    /// Per query head: `|y L| >= |y W_O^h|`.
    pub out_cover: Vec<Matrix<f64>>,
    /// `b_O`, zeros where there is none.
    pub out_bias: Vec<f64>,
    /// Per query head: `|W~_Q^h|`.
    pub query_norm: Vec<f64>,
    /// Per key head: `|W~_K|`.
    pub key_norm: Vec<f64>,
    pub heads: HeadSum,
    /// `|sum_h OV_h|`.
    pub operator: f64,
    /// `a_0`: what is left of the output where `u = 0`.
    pub constant: Vec<f64>,
    /// `B_A >= |A - a_0|`.
    pub reach: f64,
    /// Per query head: `|W_O^h|_F`.
    pub out_frobenius: Vec<f64>,
    /// `Lam^A`: Lipschitz constant in `u`, on every input.
    pub lipschitz: f64,
}

/// One block.
#[derive(Clone, Debug)]
pub(crate) struct BlockConstants {
    pub attn: AttnConstants,
    pub mlp: MlpConstants,
    pub window: Option<usize>,
}

/// What the bounds need of a model's weights.
#[derive(Clone, Debug)]
pub struct Constants {
    pub(crate) spec: Spec,
    pub(crate) blocks: Vec<BlockConstants>,
    pub(crate) head: Unembedding,
    rows: Vec<Constant>,
}

impl Constants {
    /// Computes them; blocks side by side.
    ///
    /// # Errors
    /// A model outside the theorems, or one that breaks an assumption: each named.
    pub fn new(spec: &Spec, weights: &Weights<f64>) -> Result<Constants> {
        Constants::with(spec, weights, &Known::default())
    }

    /// The same; what is known of this very model is not computed again.
    ///
    /// # Errors
    /// As for [`Constants::new`].
    pub fn with(spec: &Spec, weights: &Weights<f64>, known: &Known) -> Result<Constants> {
        check(spec, weights)?;
        let final_norm = weights.final_norm.as_ref().context("the model has no final norm")?;
        let blocks: Vec<(BlockConstants, Vec<Constant>)> = weights
            .blocks
            .par_iter()
            .enumerate()
            .map(|(index, block)| {
                let mut known = known.block(index);
                let constants = BlockConstants {
                    attn: AttnConstants::new(spec, block, &mut known),
                    mlp: MlpConstants::new(spec, block, &mut known),
                    window: spec.windows.get(index).copied().flatten(),
                };
                (constants, known.rows())
            })
            .collect();
        let (blocks, rows): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
        let head = Unembedding::new(weights, final_norm, spec.norm, spec.eps);
        Ok(Constants { spec: spec.clone(), blocks, head, rows: rows.concat() })
    }

    /// The norms, for a table.
    pub fn rows(&self) -> &[Constant] {
        &self.rows
    }

    pub(crate) fn sequential(&self) -> bool {
        self.spec.residual == Residual::Sequential
    }
}

impl AttnConstants {
    fn new(spec: &Spec, block: &Block<f64>, known: &mut KnownBlock<'_>) -> AttnConstants {
        let (d_head, n_heads) = (spec.d_head, spec.n_heads);
        let fold = |first, count| Folded::new(&block.qkv, first, count, &block.attn_norm, spec.norm);
        let query = fold(0, spec.d_query());
        let key = fold(spec.d_query(), spec.d_kv());
        let value = fold(spec.d_query() + spec.d_kv(), spec.d_kv());
        let out = block.o.weight.to_matrix();
        let of_head = |folded: &Folded, head: usize| -> Matrix<f64> {
            view(&folded.weight).rows(head * d_head, d_head).to_matrix()
        };
        let covers = |folded: &Folded, count: usize| -> Vec<Matrix<f64>> {
            (0..count).map(|head| covering_factor(view(&of_head(folded, head)))).collect()
        };
        let norms = |folded: &Folded, count: usize| -> Vec<f64> {
            (0..count).map(|head| spectral_norm(view(&of_head(folded, head)), 0.0)).collect()
        };
        let query_norm = known.several("query", n_heads, || norms(&query, n_heads));
        let key_norm = known.several("key", spec.n_kv_heads, || norms(&key, spec.n_kv_heads));
        // |OV_h| of each head, of all stacked, and stacked with weights.
        let sums = known.several("value and output, heads", n_heads + 2, || {
            let sum = HeadSum::new(view(&value.weight), view(&out), n_heads, d_head);
            [sum.each, vec![sum.stacked, sum.weighted]].concat()
        });
        let heads =
            HeadSum { each: sums[..n_heads].to_vec(), stacked: sums[n_heads], weighted: sums[n_heads + 1] };
        let root = (spec.d_model as f64).sqrt();
        let reach = heads.uniform(root);
        let operator = known.one("value and output, sum", || {
            operator_norm(&value.weight, view(&out), d_head, &vec![true; n_heads])
        });
        let qk_norm = block.q_norm.as_ref().zip(block.k_norm.as_ref()).map(|(q, k)| QueryKeyNorm {
            query_gain: q.gain.clone(),
            key_gain: k.gain.clone(),
            largest: (largest(&q.gain), largest(&k.gain)),
        });
        let mut constants = AttnConstants {
            query_cover: covers(&query, n_heads),
            key_cover: covers(&key, spec.n_kv_heads),
            out_cover: (0..n_heads)
                .map(|head| covering_factor(view(&out).cols(head * d_head, d_head).transposed()))
                .collect(),
            constant: constant_row(&value.bias, view(&out), block.o.bias.as_deref(), n_heads, d_head),
            out_bias: block.o.bias.clone().unwrap_or_else(|| vec![0.0; spec.d_model]),
            out_frobenius: (0..n_heads)
                .map(|head| view(&out).cols(head * d_head, d_head).frobenius())
                .collect(),
            query_norm,
            key_norm,
            heads,
            operator,
            reach,
            lipschitz: 0.0,
            query,
            key,
            value,
            out,
            qk_norm,
        };
        constants.lipschitz = constants
            .score_slopes(spec)
            .iter()
            .zip(&constants.heads.each)
            .map(|(slope, n)| n * (1.0 + root * slope))
            .sum();
        constants
    }

    /// `ks_h`: by how much a head's scores move per unit of `u`, on every input (half of what two scores'
    /// difference moves).
    fn score_slopes(&self, spec: &Spec) -> Vec<f64> {
        let (root, d_head) = ((spec.d_model as f64).sqrt(), spec.d_head);
        let stretch = crate::rotary::Turn::new(spec, 0).stretch;
        let scale = spec.score_scale.abs() * stretch * stretch;
        let bias = |folded: &Folded, head: usize| norm(&folded.bias[head * d_head..][..d_head]);
        (0..spec.n_heads)
            .map(|head| {
                let kv = head * spec.n_kv_heads / spec.n_heads;
                let (query, key) = (self.query_norm[head], self.key_norm[kv]);
                let two = match &self.qk_norm {
                    None => {
                        query * (root * key + bias(&self.key, kv))
                            + key * (root * query + bias(&self.query, head))
                    }
                    Some(norms) => {
                        let gains = norms.largest.0 * norms.largest.1;
                        gains * (d_head as f64).sqrt() * (query + key) / spec.eps.sqrt()
                    }
                };
                scale * two
            })
            .collect()
    }
}

/// `concat_h(b~_V) W_O + b_O`.
fn constant_row(
    value_bias: &[f64],
    out: View<'_>,
    out_bias: Option<&[f64]>,
    n_heads: usize,
    d_head: usize,
) -> Vec<f64> {
    let group = n_heads * d_head / value_bias.len();
    let expanded: Vec<f64> =
        (0..n_heads).flat_map(|head| value_bias[head / group * d_head..][..d_head].to_vec()).collect();
    let row = Matrix::new(1, expanded.len(), expanded);
    let mut constant = product(view(&row), out.transposed()).data;
    if let Some(bias) = out_bias {
        constant.iter_mut().zip(bias).for_each(|(constant, bias)| *constant += bias);
    }
    constant
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Refuses what the theorems do not cover and what breaks their assumptions.
fn check(spec: &Spec, weights: &Weights<f64>) -> Result<()> {
    let refuse = |why: String| Err(Misfit(why).into());
    if spec.norm_place == NormPlace::Post {
        return refuse(format!(
            "the bounds are proved for pre-norm models; this one (`{}`) normalises after each module",
            spec.family
        ));
    }
    ensure!(spec.eps > 0.0 && spec.eps.is_finite(), "epsilon of the norms is {}: must be positive", spec.eps);
    ensure!(spec.score_scale.is_finite(), "the score scale is {}", spec.score_scale);
    if let Positions::Rotary(rotary) = &spec.positions {
        finite("rotary frequencies", &rotary.inv_freq)?;
    }
    for (index, block) in weights.blocks.iter().enumerate() {
        if spec.norm == NormKind::Layer && (block.q_norm.is_some() || block.k_norm.is_some()) {
            return refuse(format!("block {index}: query and key norms are covered as RMS norms only"));
        }
        if block.q_norm.is_some() != block.k_norm.is_some() {
            return refuse(format!("block {index}: queries and keys are normalised both or not at all"));
        }
        let named = |name: &str| format!("block {index}: {name}");
        for (name, norm) in
            [("norm before attention", &block.attn_norm), ("norm before the mlp", &block.mlp_norm)]
        {
            gains(&named(name), norm)?;
        }
        for (name, norm) in [("query norm", &block.q_norm), ("key norm", &block.k_norm)] {
            norm.as_ref().map_or(Ok(()), |norm| gains(&named(name), norm))?;
        }
        let linears = [
            ("query, key and value weights", Some(&block.qkv)),
            ("attention output weights", Some(&block.o)),
            ("mlp gate weights", block.gate.as_ref()),
            ("mlp up weights", Some(&block.up)),
            ("mlp down weights", Some(&block.down)),
        ];
        for (name, linear) in linears {
            linear.map_or(Ok(()), |linear| finite_linear(&named(name), linear))?;
        }
    }
    weights.final_norm.as_ref().map_or(Ok(()), |norm| gains("final norm", norm))?;
    finite_panels("embedding", &weights.embed)?;
    weights.positions.as_ref().map_or(Ok(()), |positions| finite("positions", &positions.data))?;
    for (name, linear) in [("projection in", &weights.project_in), ("projection out", &weights.project_out)] {
        linear.as_ref().map_or(Ok(()), |linear| finite_linear(name, linear))?;
    }
    finite_linear("unembedding", &weights.unembed)
}

fn gains(name: &str, norm: &Norm<f64>) -> Result<()> {
    finite(&format!("{name}: gain"), &norm.gain)?;
    norm.bias.as_ref().map_or(Ok(()), |bias| finite(&format!("{name}: bias"), bias))?;
    match norm.gain.iter().position(|&gain| gain == 0.0) {
        Some(index) => Err(Misfit(format!(
            "{name}: gain {index} is zero: that direction is lost, and no bound is stated for such a model"
        ))
        .into()),
        None => Ok(()),
    }
}

fn finite_linear(name: &str, linear: &Linear<f64>) -> Result<()> {
    finite_panels(name, &linear.weight)?;
    linear.bias.as_ref().map_or(Ok(()), |bias| finite(&format!("{name}, bias"), bias))
}

fn finite_panels(name: &str, panels: &Panels<f64>) -> Result<()> {
    for row in 0..panels.rows {
        let values = panels.row(row);
        if let Some(col) = values.iter().position(|value| !value.is_finite()) {
            bail!(Misfit(format!("{name}: value [{row}, {col}] is {}: no bound holds for it", values[col])));
        }
    }
    Ok(())
}

fn finite(name: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            Err(Misfit(format!("{name}: value {index} is {}: no bound holds for it", values[index])).into())
        }
        None => Ok(()),
    }
}
