//! The trajectory a bound stands on: one block of the model as it is, at its stored inputs.
//!
//! Everything is computed here, in f64, from the residual states that the model's own run shows; so a state
//! that is off by a rounding is the state the theorems speak of (theorem R: each block starts anew from the
//! stored state, and what the model's rounding adds is a margin per block).

use std::sync::{Mutex, OnceLock};

use rote_model::{Matrix, NormKind, Spec};

use crate::activation::Curve;
use crate::constants::{AttnConstants, BlockConstants, Constants, Folded, centred};
use crate::linear::{accumulate, distance, norm, product, row_norms, view};
use crate::mlp_constants::{Form, MlpConstants};
use crate::rotary::Turn;

/// States after a norm, before gain and bias.
pub(crate) struct Normed {
    /// `s(x_i)`.
    pub deviation: Vec<f64>,
    /// `[n, d]`.
    pub u: Matrix<f64>,
    /// `|u_i|`.
    pub length: Vec<f64>,
}

impl Normed {
    pub(crate) fn new(x: &Matrix<f64>, kind: NormKind, eps: f64) -> Normed {
        let d = x.cols as f64;
        let mut deviation = Vec::with_capacity(x.rows);
        let mut data = Vec::with_capacity(x.data.len());
        for row in 0..x.rows {
            let centred = centred(x.row(row).to_vec(), kind);
            let s = (centred.iter().map(|x| x * x).sum::<f64>() / d + eps).sqrt();
            deviation.push(s);
            data.extend(centred.iter().map(|x| x / s));
        }
        let u = Matrix::new(x.rows, x.cols, data);
        let length = row_norms(&u);
        Normed { deviation, u, length }
    }

    /// Lemma L2 for every token.
    pub(crate) fn steps(&self, rho: &[f64]) -> Vec<f64> {
        rho.iter()
            .enumerate()
            .map(|(i, &rho)| crate::norm_step::norm_step(rho, self.u.cols, self.deviation[i], self.length[i]))
            .collect()
    }
}

/// How a head's scores react (lemma L6); all `[n, n]`, rows are queries.
pub(crate) enum Scores {
    /// Projections of `u` alone.
    Linear {
        /// Per unit of the query's step.
        of_query: Matrix<f64>,
        /// Per unit of the key's step.
        of_key: Matrix<f64>,
        /// Per unit of both.
        of_both: f64,
    },
    /// Queries and keys are normalised themselves.
    Normed {
        /// `scale |k_j - kap_i|`.
        keys: Matrix<f64>,
        /// `scale |q_i|`.
        queries: Vec<f64>,
        scale: f64,
        query_deviation: Vec<f64>,
        key_deviation: Vec<f64>,
        /// `(|W~|, largest gain times rotary stretch)` of queries, of keys.
        steps: [(f64, f64); 2],
        d_head: usize,
    },
}

/// One head on one sequence.
pub(crate) struct HeadPoint {
    /// Queries, keys (after rotation) and values, `[n, d_head]`.
    pub q: Matrix<f64>,
    pub k: Matrix<f64>,
    pub v: Matrix<f64>,
    /// `[n, n]`.
    pub weights: Matrix<f64>,
    pub scores: Scores,
    /// `|(v_j - o_i) W_O|`, `[n, n]`.
    pub spread: Matrix<f64>,
    /// `|(v_j - v_i) W_O|`, `[n, n]`.
    pub apart: Matrix<f64>,
    /// Largest `|(v_j - v_k) W_O|` in the mask of `i`.
    pub diameter: Vec<f64>,
    /// `v_i - o_i`, `[n, d_head]`: what a bypass of this head adds, before `W_O`.
    pub difference: Matrix<f64>,
    /// `o_i`, `[n, d_head]`.
    pub mixed: Matrix<f64>,
}

/// One block's attention on one sequence.
pub(crate) struct AttnPoint {
    pub heads: Vec<HeadPoint>,
    /// `A_i`, `[n, d]`.
    pub output: Matrix<f64>,
    /// `|A_i - a_0|`.
    pub centred: Vec<f64>,
    /// First position of each query's mask.
    pub first: Vec<usize>,
    /// Steps that theorem C was asked for, with its answers: once their bounds have outgrown the state, all
    /// interventions ask for the same. What is reused is what would be computed.
    pub asked: Mutex<Vec<(Vec<f64>, Vec<f64>)>>,
}

/// One block's MLP on one sequence.
pub(crate) struct MlpPoint {
    /// What the activation reads, `[n, m]`.
    pub a: Matrix<f64>,
    /// `act(a)`, `[n, m]`.
    pub act: Matrix<f64>,
    /// The factor of a gated MLP, `[n, m]`.
    pub v: Option<Matrix<f64>>,
    /// `M_i`, `[n, d]`.
    pub output: Matrix<f64>,
    /// `|M_i - c_2|`.
    pub centred: Vec<f64>,
    /// `act'(a)`, `[n, m]`, near enough for an estimate.
    pub slope: Matrix<f64>,
    /// Theorem D for the longest step a norm allows, per token; filled where it is asked for.
    pub farthest: Vec<OnceLock<f64>>,
}

/// One block on one sequence.
pub(crate) struct BlockPoint {
    /// `|x_i|` at its input.
    pub state: Vec<f64>,
    /// `|x_i| + |A_i| + |M_i|`.
    pub size: Vec<f64>,
    pub before_attn: Normed,
    pub before_mlp: Normed,
    pub attn: AttnPoint,
    pub mlp: MlpPoint,
}

impl BlockPoint {
    /// `input` and (sequential blocks) `middle`: residual states `[n, d]` before attention and MLP.
    pub(crate) fn new(
        constants: &Constants,
        block: usize,
        turn: &Turn,
        input: &Matrix<f64>,
        middle: Option<&Matrix<f64>>,
    ) -> BlockPoint {
        let spec = &constants.spec;
        let BlockConstants { attn, mlp, window } = &constants.blocks[block];
        let before_attn = Normed::new(input, spec.norm, spec.eps);
        let before_mlp = Normed::new(middle.unwrap_or(input), spec.norm, spec.eps);
        let attn = AttnPoint::new(spec, attn, *window, turn, &before_attn);
        let mlp = MlpPoint::new(mlp, &before_mlp);
        let state = row_norms(input);
        let modules = |i: usize| norm(attn.output.row(i)) + mlp.size(i);
        BlockPoint {
            size: state.iter().enumerate().map(|(i, state)| state + modules(i)).collect(),
            state,
            attn,
            mlp,
            before_attn,
            before_mlp,
        }
    }
}

impl AttnPoint {
    fn new(spec: &Spec, c: &AttnConstants, window: Option<usize>, turn: &Turn, input: &Normed) -> AttnPoint {
        let (n, d_head) = (input.u.rows, spec.d_head);
        let group = spec.n_heads / spec.n_kv_heads;
        let gains = |gain: fn(&crate::constants::QueryKeyNorm) -> &Vec<f64>| c.qk_norm.as_ref().map(gain);
        let (query, query_deviation) =
            project(&c.query, spec, turn, &input.u, gains(|norms| &norms.query_gain));
        let (key, key_deviation) = project(&c.key, spec, turn, &input.u, gains(|norms| &norms.key_gain));
        let value = c.value.apply(&input.u);
        let first: Vec<usize> =
            (0..n).map(|i| window.map_or(0, |window| (i + 1).saturating_sub(window))).collect();
        let mut output = Matrix::new(n, spec.d_model, c.out_bias.repeat(n));
        let heads: Vec<HeadPoint> = (0..spec.n_heads)
            .map(|head| {
                let kv = head / group;
                let cut = |m: &Matrix<f64>, head: usize| view(m).cols(head * d_head, d_head).to_matrix();
                let part = Part { q: cut(&query, head), k: cut(&key, kv), v: cut(&value, kv), first: &first };
                let deviation = |all: &[f64], count: usize, head: usize| -> Vec<f64> {
                    all.iter().skip(head).step_by(count).copied().collect()
                };
                let weights = part.weights(spec.score_scale);
                let scores = match &c.qk_norm {
                    None => part.linear_scores(spec.score_scale, turn, &weights, c, head, kv),
                    Some(norms) => part.normed_scores(
                        spec.score_scale,
                        &weights,
                        [
                            deviation(&query_deviation, spec.n_heads, head),
                            deviation(&key_deviation, spec.n_kv_heads, kv),
                        ],
                        [
                            (c.query_norm[head], norms.largest.0 * turn.stretch),
                            (c.key_norm[kv], norms.largest.1 * turn.stretch),
                        ],
                    ),
                };
                let point = part.finish(weights, scores, &c.out_cover[head]);
                let out = view(&c.out).cols(head * d_head, d_head).transposed();
                accumulate(&mut output.data, spec.d_model, 1.0, view(&point.mixed), out);
                point
            })
            .collect();
        let centred = (0..n).map(|i| distance(output.row(i), &c.constant)).collect();
        AttnPoint { heads, output, centred, first, asked: Mutex::default() }
    }
}

/// Queries or keys `[n, heads d_head]` after norm and rotation, with the deviations the norm divided by.
fn project(
    folded: &Folded,
    spec: &Spec,
    turn: &Turn,
    u: &Matrix<f64>,
    gain: Option<&Vec<f64>>,
) -> (Matrix<f64>, Vec<f64>) {
    let mut out = folded.apply(u);
    let width = out.cols;
    let mut deviations = Vec::new();
    for (position, row) in out.data.chunks_exact_mut(width).enumerate() {
        for head in row.chunks_exact_mut(spec.d_head) {
            if let Some(gain) = gain {
                let square = head.iter().map(|x| x * x).sum::<f64>();
                let s = (square / spec.d_head as f64 + spec.eps).sqrt();
                head.iter_mut().zip(gain).for_each(|(x, gain)| *x = *x / s * gain);
                deviations.push(s);
            }
            turn.forward(head, position);
        }
    }
    (out, deviations)
}

/// One head's queries, keys and values, `[n, d_head]`.
struct Part<'a> {
    q: Matrix<f64>,
    k: Matrix<f64>,
    v: Matrix<f64>,
    first: &'a [usize],
}

impl Part<'_> {
    fn n(&self) -> usize {
        self.q.rows
    }

    fn weights(&self, scale: f64) -> Matrix<f64> {
        let n = self.n();
        let mut weights = product(view(&self.q), view(&self.k).transposed());
        for i in 0..n {
            let row = &mut weights.data[i * n..(i + 1) * n];
            row[..self.first[i]].fill(0.0);
            row[i + 1..].fill(0.0);
            let seen = &mut row[self.first[i]..=i];
            let top = seen.iter().fold(f64::NEG_INFINITY, |top, score| top.max(score * scale));
            seen.iter_mut().for_each(|score| *score *= scale);
            crate::wide::exp_all(seen, top);
            let sum: f64 = seen.iter().sum();
            seen.iter_mut().for_each(|weight| *weight /= sum);
        }
        weights
    }

    /// `k_j - kap_i` for `j` in the mask of `i`, `kap_i` the mean key.
    fn keys_from_mean(&self, weights: &Matrix<f64>, i: usize) -> Matrix<f64> {
        let (from, count) = (self.first[i], i + 1 - self.first[i]);
        let seen = view(&self.k).rows(from, count);
        let row = Matrix::new(1, count, weights.row(i)[from..=i].to_vec());
        let mean = product(view(&row), seen).data;
        let mut keys = seen.to_matrix();
        for key in keys.data.chunks_exact_mut(mean.len()) {
            key.iter_mut().zip(&mean).for_each(|(k, mean)| *k -= mean);
        }
        keys
    }

    fn linear_scores(
        &self,
        scale: f64,
        turn: &Turn,
        weights: &Matrix<f64>,
        c: &AttnConstants,
        head: usize,
        kv: usize,
    ) -> Scores {
        let (n, scale) = (self.n(), scale.abs());
        let mut of_query = Matrix::new(n, n, vec![0.0; n * n]);
        let mut of_key = of_query.clone();
        let keys = Turned::new(&self.k, &c.query_cover[head], turn);
        let queries = Turned::new(&self.q, &c.key_cover[kv], turn);
        let means = product(view(weights), view(&self.k));
        let means = Turned::new(&means, &c.query_cover[head], turn);
        for i in 0..n {
            // (k_j - kap_i) R_i^T L for all j that i sees.
            let from = self.first[i];
            let mean = means.row(i);
            keys.lengths(i, from, &mean, &mut of_query.data[i * n + from..=i * n + i]);
        }
        let none = vec![0.0; queries.cover.cols];
        let mut lengths = vec![0.0; n];
        for j in 0..n {
            // q_i R_j^T L for all i that see j.
            let end = (j..n).find(|&i| self.first[i] > j).unwrap_or(n);
            queries.lengths(j, j, &none, &mut lengths[j..end]);
            (j..end).for_each(|i| of_key.data[i * n + j] = lengths[i]);
        }
        of_query.data.iter_mut().chain(&mut of_key.data).for_each(|x| *x *= scale);
        let of_both = scale * c.query_norm[head] * c.key_norm[kv] * turn.stretch * turn.stretch;
        Scores::Linear { of_query, of_key, of_both }
    }

    fn normed_scores(
        &self,
        scale: f64,
        weights: &Matrix<f64>,
        [query_deviation, key_deviation]: [Vec<f64>; 2],
        steps: [(f64, f64); 2],
    ) -> Scores {
        let (n, scale) = (self.n(), scale.abs());
        let mut keys = Matrix::new(n, n, vec![0.0; n * n]);
        for i in 0..n {
            let lengths = row_norms(&self.keys_from_mean(weights, i));
            keys.data[i * n + self.first[i]..=i * n + i]
                .iter_mut()
                .zip(lengths)
                .for_each(|(out, x)| *out = scale * x);
        }
        let queries = row_norms(&self.q).into_iter().map(|x| scale * x).collect();
        Scores::Normed { keys, queries, scale, query_deviation, key_deviation, steps, d_head: self.q.cols }
    }

    fn finish(self, weights: Matrix<f64>, scores: Scores, out_cover: &Matrix<f64>) -> HeadPoint {
        let n = self.n();
        let mixed = product(view(&weights), view(&self.v));
        let mut difference = self.v.clone();
        difference.data.iter_mut().zip(&mixed.data).for_each(|(v, o)| *v -= o);
        // Token 0 attends to itself alone, exactly.
        difference.data[..self.v.cols].fill(0.0);
        let long_values = product(view(&self.v), view(out_cover));
        let long_mixed = product(view(&mixed), view(out_cover));
        let mut spread = Matrix::new(n, n, vec![0.0; n * n]);
        let mut apart = spread.clone();
        let mut diameter = vec![0.0_f64; n];
        let width = long_values.cols;
        for i in 0..n {
            let (from, cells) = (self.first[i], i * n + self.first[i]..i * n + i + 1);
            let rows = &long_values.data[from * width..(i + 1) * width];
            crate::wide::lengths_from(&mut spread.data[cells.clone()], &[], &[], rows, long_mixed.row(i));
            crate::wide::lengths_from(&mut apart.data[cells], &[], &[], rows, long_values.row(i));
            let largest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
            diameter[i] = if from == 0 {
                largest(&apart.data[i * n..=i * n + i]).max(if i > 0 { diameter[i - 1] } else { 0.0 })
            } else {
                // Of two tokens that `i` sees the later one sees the earlier.
                (from..=i).map(|j| largest(&apart.data[j * n + from..=j * n + j])).fold(0.0, f64::max)
            };
        }
        HeadPoint {
            q: self.q,
            k: self.k,
            v: self.v,
            weights,
            scores,
            spread,
            apart,
            diameter,
            difference,
            mixed,
        }
    }
}

/// Rows `y` of a head and what makes `y R_p^T L` of them at any position `p`: only the dimensions that turn
/// depend on it.
struct Turned<'a> {
    /// `[n, 2 half]`.
    turning: Matrix<f64>,
    /// What the others give, `[n, width]`.
    still: Matrix<f64>,
    cover: &'a Matrix<f64>,
    turn: &'a Turn,
}

impl<'a> Turned<'a> {
    fn new(y: &Matrix<f64>, cover: &'a Matrix<f64>, turn: &'a Turn) -> Turned<'a> {
        let (width, turns) = (y.cols, turn.dimensions());
        let turning = view(y).cols(0, turns).to_matrix();
        let still = product(view(y).cols(turns, width - turns), view(cover).rows(turns, width - turns));
        Turned { turning, still, cover, turn }
    }

    /// `R_p^T L` of the dimensions that turn: its rows turn into each other.
    fn cover_at(&self, position: usize) -> Vec<f64> {
        let width = self.cover.cols;
        let mut cover = self.cover.data[..self.turning.cols * width].to_vec();
        self.turn.rows(&mut cover, width, position);
        cover
    }

    /// `y R_p^T L` of the row at `position`.
    fn row(&self, position: usize) -> Vec<f64> {
        let (width, cover) = (self.cover.cols, self.cover_at(position));
        let mut row = self.still.row(position).to_vec();
        for (y, cover) in self.turning.row(position).iter().zip(cover.chunks_exact(width)) {
            row.iter_mut().zip(cover).for_each(|(row, cover)| *row += y * cover);
        }
        row
    }

    /// `|y R_p^T L - centre|` of the rows from `from` on, as many as there is place for.
    fn lengths(&self, position: usize, from: usize, centre: &[f64], out: &mut [f64]) {
        let (width, turns, end) = (self.cover.cols, self.turning.cols, from + out.len());
        let turning = &self.turning.data[from * turns..end * turns];
        let still = &self.still.data[from * width..end * width];
        crate::wide::lengths_from(out, turning, &self.cover_at(position), still, centre);
    }
}

impl HeadPoint {
    /// `eps_ij` for `j` in `from ..= i`, appended to `eps` (lemma L6), when inputs step by `r` after the norm.
    pub(crate) fn score_steps(&self, i: usize, from: usize, r: &[f64], eps: &mut Vec<f64>) {
        eps.clear();
        match &self.scores {
            Scores::Linear { of_query, of_key, of_both } => {
                let (of_query, of_key) = (of_query.row(i), of_key.row(i));
                eps.extend((from..=i).map(|j| of_query[j] * r[i] + of_key[j] * r[j] + of_both * r[i] * r[j]));
            }
            Scores::Normed { keys, queries, scale, query_deviation, key_deviation, steps, d_head } => {
                let step = |(size, gain): (f64, f64), r: f64, deviation: f64| {
                    let root = (*d_head as f64).sqrt();
                    gain * root * crate::norm_step::chord(size * r / (root * deviation))
                };
                let query = step(steps[0], r[i], query_deviation[i]);
                eps.extend((from..=i).map(|j| {
                    let key = step(steps[1], r[j], key_deviation[j]);
                    query * keys.row(i)[j] + queries[i] * key + scale * query * key
                }));
            }
        }
    }
}

impl MlpPoint {
    fn new(c: &MlpConstants, input: &Normed) -> MlpPoint {
        let a = c.first.apply(&input.u);
        let (mut act, mut slope) = (a.clone(), a.clone());
        crate::wide::activate(&mut act.data, c.act);
        let curve = Curve::of(c.act);
        slope.data.iter_mut().for_each(|x| *x = curve.near(*x).1);
        let (hidden, v) = match &c.form {
            Form::Plain { .. } => (act.clone(), None),
            Form::Gated { up, .. } => {
                let v = up.apply(&input.u);
                let mut hidden = act.clone();
                hidden.data.iter_mut().zip(&v.data).for_each(|(act, v)| *act *= v);
                (hidden, Some(v))
            }
        };
        let mut output = product(view(&hidden), view(&c.down).transposed());
        let centred = row_norms(&output);
        for row in output.data.chunks_exact_mut(c.down_bias.len()) {
            row.iter_mut().zip(&c.down_bias).for_each(|(out, bias)| *out += bias);
        }
        let farthest = vec![OnceLock::new(); a.rows];
        MlpPoint { a, act, v, output, centred, slope, farthest }
    }

    /// `|M_i|`.
    pub(crate) fn size(&self, i: usize) -> f64 {
        norm(self.output.row(i))
    }
}
