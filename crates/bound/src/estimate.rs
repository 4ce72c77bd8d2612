//! A first-order estimate of the final difference (not a bound): each changed module's displacement pushed
//! through the model's linearisation along its own trajectory. A bypass is no small change, so the estimate
//! may be above or below the truth; how far off it is says how non-linear the model's reaction is.
//!
//! In f32, as nothing is proven with it, and for several interventions at once: their rows lie above each other
//! and go through a block's matrices together.

use rote_model::{Matrix, Spec};

use crate::constants::{AttnConstants, BlockConstants, Constants, Folded};
use crate::linear::{View, accumulate, product, view};
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
    let mut dx = zeros(plans.len() * n, d);
    let before = |block: usize| plans.iter().filter(|(plan, _)| plan.first < block).count();
    for (block, point) in points.iter().enumerate().skip(plans.first().map_or(0, |(plan, _)| plan.first)) {
        let BlockConstants { attn, mlp, .. } = &constants.blocks[block];
        let (older, active) = (before(block), before(block + 1));
        let differing = view(&dx).rows(0, older * n);
        let mut middle = view(&dx).rows(0, active * n).to_matrix();
        for (at, (_, moves)) in plans[..active].iter().enumerate() {
            if let Some(moved) = moves.at(block) {
                add(&mut middle, at * n, moved.delta.data.iter().map(|&x| x as f32));
            }
        }
        if older > 0 {
            let du = normed(&point.before_attn, differing, spec);
            add(&mut middle, 0, attention(spec, attn, &point.attn, &turn, &point.before_attn.u, &du).data);
        }
        // A parallel block's MLP reads the block's input, which does not differ where a plan begins.
        let read = if constants.sequential() { view(&middle) } else { differing };
        let reaction = through_mlp(mlp, &point.mlp, &normed(&point.before_mlp, read, spec));
        add(&mut middle, 0, reaction.data);
        for (at, (plan, _)) in plans[..active].iter().enumerate() {
            if plan.blocks[block].mlp_zero {
                add(&mut middle, at * n, point.mlp.output.data.iter().map(|&x| -x as f32));
            }
        }
        dx.data[..active * n * d].copy_from_slice(&middle.data);
    }
    let length = |row: &[f32]| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    dx.data.chunks_exact(n * d).map(|plan| plan.chunks_exact(d).map(length).collect()).collect()
}

/// In f32.
fn narrow(matrix: &Matrix<f64>) -> Matrix<f32> {
    Matrix::new(matrix.rows, matrix.cols, matrix.data.iter().map(|&x| x as f32).collect())
}

fn zeros(rows: usize, cols: usize) -> Matrix<f32> {
    Matrix::new(rows, cols, vec![0.0; rows * cols])
}

/// Adds `values` from row `first` on.
fn add(matrix: &mut Matrix<f32>, first: usize, values: impl IntoIterator<Item = f32>) {
    let place = &mut matrix.data[first * matrix.cols..];
    place.iter_mut().zip(values).for_each(|(place, value)| *place += value);
}

/// `x W^T`, `W` being `[out, in]`.
fn through(x: View<'_, f32>, weight: &Matrix<f64>) -> Matrix<f32> {
    product(x, view(&narrow(weight)).transposed())
}

/// `du = (dx C - u (u . dx C) / d) / s`, for one plan's rows after the other's.
fn normed(point: &Normed, dx: View<'_, f32>, spec: &Spec) -> Matrix<f32> {
    let (n, d) = (point.u.rows, spec.d_model);
    let mut out = dx.to_matrix();
    for (row, dx) in out.data.chunks_exact_mut(d).enumerate() {
        let (u, deviation) = (point.u.row(row % n), point.deviation[row % n]);
        let mean = match spec.norm {
            rote_model::NormKind::Layer => dx.iter().map(|&x| f64::from(x)).sum::<f64>() / d as f64,
            rote_model::NormKind::Rms => 0.0,
        };
        let along = dx.iter().zip(u).map(|(&x, u)| (f64::from(x) - mean) * u).sum::<f64>() / d as f64;
        for (x, u) in dx.iter_mut().zip(u) {
            *x = ((f64::from(*x) - mean - u * along) / deviation) as f32;
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
    du: &Matrix<f32>,
) -> Matrix<f32> {
    let mut out = through(view(du), &folded.weight);
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
    du: &Matrix<f32>,
) -> Matrix<f32> {
    let (n, width) = (u.rows, spec.d_head);
    let gains = c.qk_norm.as_ref();
    let dq = projected(spec, &c.query, gains.map(|norms| &norms.query_gain), turn, u, du);
    let dk = projected(spec, &c.key, gains.map(|norms| &norms.key_gain), turn, u, du);
    let dv = through(view(du), &c.value.weight);
    let group = spec.n_heads / spec.n_kv_heads;
    let mut mixed = zeros(du.rows, spec.n_heads * width);
    let step = mixed.cols;
    for (head, of_head) in point.heads.iter().enumerate() {
        let (q, k, v) = (narrow(&of_head.q), narrow(&of_head.k), narrow(&of_head.v));
        let p = narrow(&of_head.weights);
        let dq = view(&dq).cols(head * width, width);
        let (dk, dv) =
            (view(&dk).cols(head / group * width, width), view(&dv).cols(head / group * width, width));
        // All plans' scores and weights lie above each other.
        let mut weights = product(dq, view(&k).transposed());
        for (plan, scores) in weights.data.chunks_exact_mut(n * n).enumerate() {
            accumulate(scores, n, 1.0, view(&q), dk.rows(plan * n, n).transposed());
            for (scores, p) in scores.chunks_exact_mut(n).zip(p.data.chunks_exact(n)) {
                let mean: f32 = p.iter().zip(&*scores).map(|(p, s)| p * s).sum();
                scores.iter_mut().zip(p).for_each(|(s, p)| *s = p * (*s - mean) * spec.score_scale as f32);
            }
        }
        accumulate(&mut mixed.data[head * width..], step, 1.0, view(&weights), view(&v));
        for plan in 0..du.rows / n {
            let place = &mut mixed.data[plan * n * step + head * width..];
            accumulate(place, step, 1.0, view(&p), dv.rows(plan * n, n));
        }
    }
    through(view(&mixed), &c.out)
}

fn through_mlp(c: &MlpConstants, point: &MlpPoint, du: &Matrix<f32>) -> Matrix<f32> {
    let mut hidden = through(view(du), &c.first.weight);
    let slope = narrow(&point.slope);
    for hidden in hidden.data.chunks_mut(slope.data.len()) {
        hidden.iter_mut().zip(&slope.data).for_each(|(da, slope)| *da *= slope);
    }
    if let (Form::Gated { up, .. }, Some(v)) = (&c.form, &point.v) {
        let (dv, v, act) = (through(view(du), &up.weight), narrow(v), narrow(&point.act));
        for (hidden, dv) in hidden.data.chunks_mut(v.data.len()).zip(dv.data.chunks(v.data.len())) {
            for (((d, v), dv), act) in hidden.iter_mut().zip(&v.data).zip(dv).zip(&act.data) {
                *d = *d * v + act * dv;
            }
        }
    }
    through(view(&hidden), &c.down)
}
