//! A first-order estimate of the final difference (not a bound): each changed module's displacement pushed
//! through the model's linearisation along its own trajectory. A bypass is no small change, so the estimate
//! may be above or below the truth; how far off it is says how non-linear the model's reaction is.

use rote_model::{Matrix, Spec};

use crate::activation::evaluate;
use crate::constants::{AttnConstants, Constants, Folded, centred};
use crate::linear::{accumulate, dot, product, row_norms, view};
use crate::local::displacement;
use crate::mlp_constants::{Form, MlpConstants};
use crate::plan::Plan;
use crate::point::{AttnPoint, BlockPoint, MlpPoint, Normed};
use crate::rotary::Turn;

/// `|J delta|` per token at the last block's output.
pub(crate) fn linear_estimate(constants: &Constants, points: &[BlockPoint], plan: &Plan) -> Vec<f64> {
    let spec = &constants.spec;
    let n = points[0].state.len();
    let turn = Turn::new(spec, n);
    let mut dx = Matrix::new(n, spec.d_model, vec![0.0; n * spec.d_model]);
    for (block, point) in points.iter().enumerate().skip(plan.first) {
        let (c, change) = (&constants.blocks[block], &plan.blocks[block]);
        let mut moved = displacement(spec, &c.attn, &change.attn, &point.attn);
        if block > plan.first {
            let du = normed(spec, &point.before_attn, &dx);
            add(&mut moved, &attention(spec, &c.attn, &point.attn, &turn, &point.before_attn.u, &du));
        }
        let mut middle = dx.clone();
        add(&mut middle, &moved);
        let du = normed(spec, &point.before_mlp, if constants.sequential() { &middle } else { &dx });
        add(&mut middle, &mlp(&c.mlp, &point.mlp, &du));
        if change.mlp_zero {
            middle.data.iter_mut().zip(&point.mlp.output.data).for_each(|(x, out)| *x -= out);
        }
        dx = middle;
    }
    row_norms(&dx)
}

fn add(to: &mut Matrix<f64>, what: &Matrix<f64>) {
    to.data.iter_mut().zip(&what.data).for_each(|(to, what)| *to += what);
}

/// `du = (dx C - u (u . dx C) / d) / s`.
fn normed(spec: &Spec, point: &Normed, dx: &Matrix<f64>) -> Matrix<f64> {
    let mut data = Vec::with_capacity(dx.data.len());
    for i in 0..dx.rows {
        let dx = centred(dx.row(i).to_vec(), spec.norm);
        let u = point.u.row(i);
        let along = dot(u, &dx) / spec.d_model as f64;
        data.extend(dx.iter().zip(u).map(|(dx, u)| (dx - u * along) / point.deviation[i]));
    }
    Matrix::new(dx.rows, dx.cols, data)
}

fn without_bias(folded: &Folded, du: &Matrix<f64>) -> Matrix<f64> {
    product(view(du), view(&folded.weight).transposed())
}

/// Queries or keys.
fn projected(
    spec: &Spec,
    folded: &Folded,
    gain: Option<&Vec<f64>>,
    turn: &Turn,
    u: &Matrix<f64>,
    du: &Matrix<f64>,
) -> Matrix<f64> {
    let mut out = without_bias(folded, du);
    let width = out.cols;
    let plain = gain.map(|gain| (gain, folded.apply(u)));
    for (position, row) in out.data.chunks_exact_mut(width).enumerate() {
        for (head, dy) in row.chunks_exact_mut(spec.d_head).enumerate() {
            if let Some((gain, y)) = &plain {
                let y = &y.row(position)[head * spec.d_head..][..spec.d_head];
                let square = dot(y, y) / spec.d_head as f64 + spec.eps;
                let along = dot(y, dy) / (spec.d_head as f64 * square);
                for ((dy, y), gain) in dy.iter_mut().zip(y).zip(*gain) {
                    *dy = (*dy - y * along) / square.sqrt() * gain;
                }
            }
            turn.forward(dy, position);
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
    du: &Matrix<f64>,
) -> Matrix<f64> {
    let (n, width) = (du.rows, spec.d_head);
    let gains = c.qk_norm.as_ref();
    let dq = projected(spec, &c.query, gains.map(|norms| &norms.query_gain), turn, u, du);
    let dk = projected(spec, &c.key, gains.map(|norms| &norms.key_gain), turn, u, du);
    let dv = without_bias(&c.value, du);
    let group = spec.n_heads / spec.n_kv_heads;
    let mut out = Matrix::new(n, spec.d_model, vec![0.0; n * spec.d_model]);
    for (head, point_of) in point.heads.iter().enumerate() {
        let kv = head / group;
        let cut = |m, at: usize| view(m).cols(at * width, width);
        let mut weights = product(cut(&dq, head), view(&point_of.k).transposed());
        accumulate(&mut weights.data, n, 1.0, view(&point_of.q), cut(&dk, kv).transposed());
        for i in 0..n {
            let p = point_of.weights.row(i);
            let scores = &mut weights.data[i * n..(i + 1) * n];
            scores[i + 1..].fill(0.0);
            let mean = dot(p, scores);
            scores.iter_mut().zip(p).for_each(|(s, p)| *s = p * (*s - mean) * spec.score_scale);
        }
        let mut mixed = product(view(&weights), view(&point_of.v));
        accumulate(&mut mixed.data, width, 1.0, view(&point_of.weights), cut(&dv, kv));
        accumulate(&mut out.data, spec.d_model, 1.0, view(&mixed), cut(&c.out, head).transposed());
    }
    out
}

fn mlp(c: &MlpConstants, point: &MlpPoint, du: &Matrix<f64>) -> Matrix<f64> {
    let mut hidden = without_bias(&c.first, du);
    hidden.data.iter_mut().zip(&point.a.data).for_each(|(da, a)| *da *= evaluate(c.act, *a).1);
    if let (Form::Gated { up, .. }, Some(v)) = (&c.form, &point.v) {
        let dv = without_bias(up, du);
        for (((d, v), dv), act) in hidden.data.iter_mut().zip(&v.data).zip(&dv.data).zip(&point.act.data) {
            *d = *d * v + act * dv;
        }
    }
    product(view(&hidden), view(&c.down).transposed())
}
