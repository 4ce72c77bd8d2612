//! Causal attention in one operation with a backward pass: rotary positions, scores, softmax and the weighted sum,
//! read in place from the fused `q · k · v` rows.
//!
//! Query rows are taken in blocks, and a block touches only the keys that it can see: about half of them, and far
//! fewer under a local window.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::numbers::{Into, View, product, softmax};
use crate::operations::{numbers, with_numbers};

/// Query rows that are handled together.
const ROWS: usize = 64;

/// Where the query, key and value of a head stand in a fused row of `3 · width` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fused {
    /// `q k v` of head 0, `q k v` of head 1, … (GPT-NeoX).
    ByHead,
    /// All queries, all keys, all values.
    ByKind,
}

/// The shape and the rules of one attention.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Tokens of a window.
    pub context: usize,
    /// Number of heads.
    pub heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Order of the fused rows.
    pub fused: Fused,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// Leading dimensions of a head that turn with the position; 0 for none.
    pub rotary: usize,
    /// A query sees itself and this many tokens less one before it; `None` for all.
    pub window: Option<usize>,
    /// Threads over the windows of a batch.
    pub threads: usize,
}

impl Attention {
    /// The operation on rows `[B · context, 3 · width]`, giving `[B · context, width]`.
    pub fn apply(&self, fused: &Tensor) -> Result<Tensor> {
        fused.apply_op1(Operation { rules: self.clone(), kept: Mutex::new(Vec::new()) })
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Offsets of the query, key and value of `head` in a fused row.
    fn offsets(&self, head: usize) -> [usize; 3] {
        let (width, all) = (self.head_width, self.width());
        match self.fused {
            Fused::ByHead => [0, 1, 2].map(|kind| (3 * head + kind) * width),
            Fused::ByKind => [0, 1, 2].map(|kind| kind * all + head * width),
        }
    }

    /// The first key that the query at `position` sees.
    fn first_key(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Cosine and sine of every position and turning pair.
    fn turns(&self) -> Vec<(f32, f32)> {
        let half = self.rotary / 2;
        let angle = |position: usize, pair: usize| {
            position as f64 / 10_000f64.powf(2.0 * pair as f64 / self.rotary as f64)
        };
        (0..self.context)
            .flat_map(|position| (0..half).map(move |pair| angle(position, pair)))
            .map(|angle| (angle.cos() as f32, angle.sin() as f32))
            .collect()
    }

    /// Turns the rows of `x [context, head_width]` by their positions, or back.
    fn turn(&self, x: &mut [f32], turns: &[(f32, f32)], direction: f32) {
        let half = self.rotary / 2;
        if half == 0 {
            return;
        }
        for (row, turns) in x.chunks_exact_mut(self.head_width).zip(turns.chunks_exact(half)) {
            for (pair, &(cos, sin)) in turns.iter().enumerate() {
                let (a, b, sin) = (row[pair], row[pair + half], sin * direction);
                row[pair] = a * cos - b * sin;
                row[pair + half] = b * cos + a * sin;
            }
        }
    }

    /// Query, key and value `[context, head_width]` of one head, turned.
    fn gather(&self, window: &[f32], head: usize, turns: &[(f32, f32)]) -> [Vec<f32>; 3] {
        let (width, row) = (self.head_width, 3 * self.width());
        let mut parts = self.offsets(head).map(|offset| {
            window
                .chunks_exact(row)
                .flat_map(|row| &row[offset..offset + width])
                .copied()
                .collect::<Vec<f32>>()
        });
        self.turn(&mut parts[0], turns, 1.0);
        self.turn(&mut parts[1], turns, 1.0);
        parts
    }

    /// Blocks of query rows, each with the keys that it can see.
    fn blocks(&self) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> + '_ {
        (0..self.context).step_by(ROWS).map(|start| {
            let end = (start + ROWS).min(self.context);
            (start..end, self.first_key(start)..end)
        })
    }

    /// One window: weights `[heads, context, context]` and output `[context, width]`.
    fn forward(&self, fused: &[f32], weights: &mut [f32], out: &mut [f32], turns: &[(f32, f32)]) {
        let (t, dh, width) = (self.context, self.head_width, self.width());
        for (head, weights) in weights.chunks_exact_mut(t * t).enumerate() {
            let [q, k, v] = self.gather(fused, head, turns);
            for (rows, keys) in self.blocks() {
                let (n, seen) = (rows.len(), keys.len());
                let scores = &mut weights[rows.start * t + keys.start..];
                let key = View::new(&k[keys.start * dh..], dh).transposed();
                product(
                    scores,
                    t,
                    Into::Replace,
                    (n, dh, seen),
                    View::new(&q[rows.start * dh..], dh),
                    key,
                    self.scale,
                    1,
                );
                for row in rows.clone() {
                    let line = &mut weights[row * t..][keys.start..keys.end];
                    let first = self.first_key(row) - keys.start;
                    let last = row + 1 - keys.start;
                    line[..first].fill(0.0);
                    line[last..].fill(0.0);
                    softmax(&mut line[first..last]);
                }
                let weight = View::new(&weights[rows.start * t + keys.start..], t);
                let value = View::new(&v[keys.start * dh..], dh);
                let to = &mut out[rows.start * width + head * dh..];
                product(to, width, Into::Replace, (n, seen, dh), weight, value, 1.0, 1);
            }
        }
    }

    /// One window: the gradient of the fused rows from that of the output.
    fn backward(&self, fused: &[f32], weights: &[f32], grad: &[f32], to: &mut [f32], turns: &[(f32, f32)]) {
        let (t, dh, width) = (self.context, self.head_width, self.width());
        let mut slope = vec![0.0; ROWS * t];
        for (head, weights) in weights.chunks_exact(t * t).enumerate() {
            let [q, k, v] = self.gather(fused, head, turns);
            let mut grads = [vec![0.0; t * dh], vec![0.0; t * dh], vec![0.0; t * dh]];
            let [grad_q, grad_k, grad_v] = &mut grads;
            for (rows, keys) in self.blocks() {
                let (n, seen) = (rows.len(), keys.len());
                let weight = View::new(&weights[rows.start * t + keys.start..], t);
                let grad = View::new(&grad[rows.start * width + head * dh..], width);
                let value = View::new(&v[keys.start * dh..], dh).transposed();
                product(&mut slope, t, Into::Replace, (n, dh, seen), grad, value, 1.0, 1);
                for (row, line) in rows.clone().zip(slope.chunks_exact_mut(t)) {
                    let line = &mut line[..seen];
                    let weights = &weights[row * t..][keys.start..keys.end];
                    let mean: f32 = line.iter().zip(weights).map(|(slope, weight)| slope * weight).sum();
                    line.iter_mut()
                        .zip(weights)
                        .for_each(|(slope, weight)| *slope = weight * (*slope - mean));
                }
                let scores = View::new(&slope, t);
                let (query, key) =
                    (View::new(&q[rows.start * dh..], dh), View::new(&k[keys.start * dh..], dh));
                product(
                    &mut grad_q[rows.start * dh..],
                    dh,
                    Into::Replace,
                    (n, seen, dh),
                    scores,
                    key,
                    self.scale,
                    1,
                );
                let scores = scores.transposed();
                product(
                    &mut grad_k[keys.start * dh..],
                    dh,
                    Into::Add,
                    (seen, n, dh),
                    scores,
                    query,
                    self.scale,
                    1,
                );
                let to = &mut grad_v[keys.start * dh..];
                product(to, dh, Into::Add, (seen, n, dh), weight.transposed(), grad, 1.0, 1);
            }
            self.turn(grad_q, turns, -1.0);
            self.turn(grad_k, turns, -1.0);
            for (offset, grad) in self.offsets(head).into_iter().zip(&grads) {
                for (row, grad) in to.chunks_exact_mut(3 * width).zip(grad.chunks_exact(dh)) {
                    row[offset..offset + dh].copy_from_slice(grad);
                }
            }
        }
    }
}

struct Operation {
    rules: Attention,
    /// The forward pass leaves the attention weights here for the backward pass.
    kept: Mutex<Vec<f32>>,
}

impl Operation {
    fn kept(&self) -> Result<std::sync::MutexGuard<'_, Vec<f32>>> {
        self.kept.lock().map_err(|_| candle_core::Error::Msg("attention: a thread failed".into()))
    }
}

impl CustomOp1 for Operation {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, fused: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let rules = &self.rules;
        let (rows, columns) = layout.shape().dims2()?;
        let (context, width) = (rules.context, rules.width());
        if rows % context != 0 || columns != 3 * width {
            bail!("attention: [{rows}, {columns}] is not a number of windows of [{context}, {}]", 3 * width);
        }
        let fused = numbers(fused, layout)?;
        let turns = rules.turns();
        let square = rules.heads * context * context;
        let mut weights = vec![0.0; rows / context * square];
        let mut out = vec![0.0; rows * width];
        let one = |((fused, weights), out): ((&[f32], &mut [f32]), &mut [f32])| {
            rules.forward(fused, weights, out, &turns);
        };
        if rules.threads > 1 {
            let windows = fused.par_chunks_exact(context * columns).zip(weights.par_chunks_exact_mut(square));
            windows.zip(out.par_chunks_exact_mut(context * width)).for_each(one);
        } else {
            let windows = fused.chunks_exact(context * columns).zip(weights.chunks_exact_mut(square));
            windows.zip(out.chunks_exact_mut(context * width)).for_each(one);
        }
        *self.kept()? = weights;
        Ok((CpuStorage::F32(out), Shape::from((rows, width))))
    }

    fn bwd(&self, fused: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let rules = &self.rules;
        let (context, width) = (rules.context, rules.width());
        let weights = std::mem::take(&mut *self.kept()?);
        if weights.is_empty() {
            bail!("attention: the backward pass can run once");
        }
        let turns = rules.turns();
        let square = rules.heads * context * context;
        let mut through = vec![0.0; fused.elem_count()];
        with_numbers(fused, |fused| {
            with_numbers(grad, |grad| {
                let one = |(((fused, weights), grad), to): (((&[f32], &[f32]), &[f32]), &mut [f32])| {
                    rules.backward(fused, weights, grad, to, &turns);
                };
                let (row, out) = (context * 3 * width, context * width);
                if rules.threads > 1 {
                    let windows = fused.par_chunks_exact(row).zip(weights.par_chunks_exact(square));
                    windows
                        .zip(grad.par_chunks_exact(out))
                        .zip(through.par_chunks_exact_mut(row))
                        .for_each(one);
                } else {
                    let windows = fused.chunks_exact(row).zip(weights.chunks_exact(square));
                    windows.zip(grad.chunks_exact(out)).zip(through.chunks_exact_mut(row)).for_each(one);
                }
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(through, fused.shape(), fused.device())?))
    }
}
