//! A first-order estimate of the final difference (not a bound): each changed module's displacement pushed
//! through the model's linearisation along its own trajectory. A bypass is no small change, so the estimate
//! may be above or below the truth; how far off it is says how non-linear the model's reaction is.
//!
//! In f32, as nothing is proven with it, and for several interventions at once: their rows lie above each other
//! and go through a block's matrices together.

use rote_model::{Matrix, Spec};

use crate::constants::{AttnConstants, BlockConstants, Constants, Folded};
use crate::local::Moves;
use crate::mlp_constants::{Form, MlpConstants};
use crate::plan::Plan;
use crate::point::{AttnPoint, BlockPoint, MlpPoint, Normed};
use crate::rotary::Turn;

/// `|J delta|` per plan and token at the last block's output. Plans stand in the order of their first block.
pub(crate) fn linear_estimates(
    constants: &Constants,
    points: &[BlockPoint],
    plans: &[(&Plan, &Moves)],
) -> Vec<Vec<f64>> {
    debug_assert!(plans.is_sorted_by_key(|(plan, _)| plan.first));
    let spec = &constants.spec;
    let (n, d) = (points[0].state.len(), spec.d_model);
    let turn = Turn::new(spec, n);
    let mut dx = Rows::zeros(plans.len() * n, d);
    let before = |block: usize| plans.iter().filter(|(plan, _)| plan.first < block).count();
    for (block, point) in points.iter().enumerate().skip(plans.first().map_or(0, |(plan, _)| plan.first)) {
        let BlockConstants { attn, mlp, .. } = &constants.blocks[block];
        let (older, active) = (before(block), before(block + 1));
        let mut middle = dx.top(active * n);
        for (at, (_, moves)) in plans[..active].iter().enumerate() {
            if let Some(moved) = moves.at(block) {
                middle.add(at * n, moved.delta.data.iter().map(|&x| x as f32));
            }
        }
        if older > 0 {
            let du = normed(&point.before_attn, &dx.top(older * n), spec);
            let reaction = attention(spec, attn, &point.attn, &turn, &point.before_attn.u, &du);
            middle.add(0, reaction.data.into_iter());
        }
        // A parallel block's MLP reads the block's input, which does not differ where a plan begins.
        let read = if constants.sequential() { middle.top(active * n) } else { dx.top(older * n) };
        let reaction = through_mlp(mlp, &point.mlp, &normed(&point.before_mlp, &read, spec));
        middle.add(0, reaction.data.into_iter());
        for (at, (plan, _)) in plans[..active].iter().enumerate() {
            if plan.blocks[block].mlp_zero {
                middle.add(at * n, point.mlp.output.data.iter().map(|&x| -x as f32));
            }
        }
        dx.data[..active * n * d].copy_from_slice(&middle.data);
    }
    let length = |row: &[f32]| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    dx.data.chunks_exact(n * d).map(|plan| plan.chunks_exact(d).map(length).collect()).collect()
}

/// `[rows, cols]` in f32.
struct Rows {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Rows {
    fn zeros(rows: usize, cols: usize) -> Rows {
        Rows { rows, cols, data: vec![0.0; rows * cols] }
    }

    fn of(matrix: &Matrix<f64>) -> Rows {
        let data = matrix.data.iter().map(|&x| x as f32).collect();
        Rows { rows: matrix.rows, cols: matrix.cols, data }
    }

    fn top(&self, rows: usize) -> Rows {
        Rows { rows, cols: self.cols, data: self.data[..rows * self.cols].to_vec() }
    }

    /// Adds `values` from row `first` on.
    fn add(&mut self, first: usize, values: impl Iterator<Item = f32>) {
        let place = &mut self.data[first * self.cols..];
        place.iter_mut().zip(values).for_each(|(place, value)| *place += value);
    }

    /// `self W^T`, `W` being `[out, in]`.
    fn through(&self, weight: &Matrix<f64>) -> Rows {
        let weight = Rows::of(weight);
        let mut out = Rows::zeros(self.rows, weight.rows);
        multiply(
            &mut out.data,
            weight.rows,
            self.part(0),
            weight.part(0).transposed(),
            [self.rows, self.cols, weight.rows],
        );
        out
    }

    fn part(&self, first: usize) -> Part<'_> {
        Part { data: &self.data[first..], row: self.cols, col: 1 }
    }
}

/// Where a factor begins, and its steps.
#[derive(Clone, Copy)]
struct Part<'a> {
    data: &'a [f32],
    row: usize,
    col: usize,
}

impl Part<'_> {
    fn transposed(self) -> Self {
        Part { row: self.col, col: self.row, ..self }
    }

    fn holds(self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// `out += a b`, of shapes `[m, k]` and `[k, n]`; rows of `out` are `step` apart.
fn multiply(out: &mut [f32], step: usize, a: Part<'_>, b: Part<'_>, [m, k, n]: [usize; 3]) {
    let fits = m == 0 || n == 0 || (m - 1) * step + n <= out.len();
    assert!(a.holds(m, k) && b.holds(k, n) && fits, "shapes of a product");
    // SAFETY: the assertion above keeps every address the product touches inside the three slices, and
    // `out` is borrowed mutably, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            step as isize,
            true,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `du = (dx C - u (u . dx C) / d) / s`, for one plan's rows after the other's.
fn normed(point: &Normed, dx: &Rows, spec: &Spec) -> Rows {
    let (n, d) = (point.u.rows, spec.d_model);
    let mut out = Rows::zeros(dx.rows, d);
    for (row, (out, dx)) in out.data.chunks_exact_mut(d).zip(dx.data.chunks_exact(d)).enumerate() {
        let (u, deviation) = (point.u.row(row % n), point.deviation[row % n]);
        let mean = match spec.norm {
            rote_model::NormKind::Layer => dx.iter().map(|&x| f64::from(x)).sum::<f64>() / d as f64,
            rote_model::NormKind::Rms => 0.0,
        };
        let along = dx.iter().zip(u).map(|(&x, u)| (f64::from(x) - mean) * u).sum::<f64>() / d as f64;
        for ((out, &x), u) in out.iter_mut().zip(dx).zip(u) {
            *out = ((f64::from(x) - mean - u * along) / deviation) as f32;
        }
    }
    out
}

/// Queries or keys.
fn projected(
    spec: &Spec,
    folded: &Folded,
    gain: Option<&Vec<f64>>,
    turn: &Turn,
    u: &Matrix<f64>,
    du: &Rows,
) -> Rows {
    let mut out = du.through(&folded.weight);
    let (width, n) = (out.cols, u.rows);
    let plain = gain.map(|gain| (gain, folded.apply(u)));
    let mut wide = vec![0.0; spec.d_head];
    for (row, values) in out.data.chunks_exact_mut(width).enumerate() {
        let position = row % n;
        for (head, dy) in values.chunks_exact_mut(spec.d_head).enumerate() {
            wide.iter_mut().zip(&*dy).for_each(|(wide, &dy)| *wide = f64::from(dy));
            if let Some((gain, y)) = &plain {
                let y = &y.row(position)[head * spec.d_head..][..spec.d_head];
                let square = crate::linear::dot(y, y) / spec.d_head as f64 + spec.eps;
                let along = crate::linear::dot(y, &wide) / (spec.d_head as f64 * square);
                for ((dy, y), gain) in wide.iter_mut().zip(y).zip(*gain) {
                    *dy = (*dy - y * along) / square.sqrt() * gain;
                }
            }
            turn.forward(&mut wide, position);
            dy.iter_mut().zip(&wide).for_each(|(dy, &wide)| *dy = wide as f32);
        }
    }
    out
}

fn attention(
    spec: &Spec,
    c: &AttnConstants,
    point: &AttnPoint,
    turn: &Turn,
    u: &Matrix<f64>,
    du: &Rows,
) -> Rows {
    let (n, width) = (u.rows, spec.d_head);
    let gains = c.qk_norm.as_ref();
    let dq = projected(spec, &c.query, gains.map(|norms| &norms.query_gain), turn, u, du);
    let dk = projected(spec, &c.key, gains.map(|norms| &norms.key_gain), turn, u, du);
    let dv = du.through(&c.value.weight);
    let group = spec.n_heads / spec.n_kv_heads;
    let mut mixed = Rows::zeros(du.rows, spec.n_heads * width);
    for (head, of_head) in point.heads.iter().enumerate() {
        let kv = head / group;
        let (q, k, v) = (Rows::of(&of_head.q), Rows::of(&of_head.k), Rows::of(&of_head.v));
        let p = Rows::of(&of_head.weights);
        for plan in 0..du.rows / n {
            let cut = |rows: &'_ Rows, at: usize| plan * n * rows.cols + at * width;
            let mut weights = vec![0.0_f32; n * n];
            let (dq, dk, dv) = (dq.part(cut(&dq, head)), dk.part(cut(&dk, kv)), dv.part(cut(&dv, kv)));
            multiply(&mut weights, n, dq, k.part(0).transposed(), [n, width, n]);
            multiply(&mut weights, n, q.part(0), dk.transposed(), [n, width, n]);
            for (i, scores) in weights.chunks_exact_mut(n).enumerate() {
                let p = &p.data[i * n..(i + 1) * n];
                scores[i + 1..].fill(0.0);
                let mean: f32 = p.iter().zip(&*scores).map(|(p, s)| p * s).sum();
                scores.iter_mut().zip(p).for_each(|(s, p)| *s = p * (*s - mean) * spec.score_scale as f32);
            }
            let step = mixed.cols;
            let place = &mut mixed.data[plan * n * step + head * width..];
            let weights = Part { data: &weights, row: n, col: 1 };
            multiply(place, step, weights, v.part(0), [n, n, width]);
            multiply(place, step, p.part(0), dv, [n, n, width]);
        }
    }
    mixed.through(&c.out)
}

fn through_mlp(c: &MlpConstants, point: &MlpPoint, du: &Rows) -> Rows {
    let mut hidden = du.through(&c.first.weight);
    let slope = Rows::of(&point.slope);
    for hidden in hidden.data.chunks_mut(slope.data.len()) {
        hidden.iter_mut().zip(&slope.data).for_each(|(da, slope)| *da *= slope);
    }
    if let (Form::Gated { up, .. }, Some(v)) = (&c.form, &point.v) {
        let (dv, v, act) = (du.through(&up.weight), Rows::of(v), Rows::of(&point.act));
        for (hidden, dv) in hidden.data.chunks_mut(v.data.len()).zip(dv.data.chunks(v.data.len())) {
            for (((d, v), dv), act) in hidden.iter_mut().zip(&v.data).zip(dv).zip(&act.data) {
                *d = *d * v + act * dv;
            }
        }
    }
    hidden.through(&c.down)
}
