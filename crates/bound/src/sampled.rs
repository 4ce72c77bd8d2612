//! Tests of single theorems: sampled states around random ones never pass C and D, and the cases in which
//! each bound is attained (without them a halved bound would pass).

use std::sync::Arc;

use rote_model::{
    Activation, Block, Linear, Matrix, MlpKind, Model, Norm, NormKind, NormPlace, Panels, Positions,
    Residual, Spec, Weights,
};

use crate::attention::attention_step;
use crate::constants::Constants;
use crate::decision::{Decision, arg_max};
use crate::linear::{distance, dot, norm, product, view};
use crate::mlp::mlp_step;
use crate::point::{BlockPoint, Scores};
use crate::rotary::Turn;
use crate::softmax::Row;
use crate::trace::differences;

#[path = "../tests/bound/models.rs"]
#[expect(dead_code, reason = "shared with the tests of whole requests")]
mod models;

use models::{Noise, Scale};

const SCALES: [Scale; 4] = [Scale::Initial, Scale::Unit, Scale::Outliers, Scale::Hot];

fn below(what: &str, measured: f64, bound: f64, size: f64) {
    assert!(
        measured <= bound * (1.0 + 1e-9) + 1e-11 * size,
        "{what}: measured {measured:e}, bound {bound:e}"
    );
}

#[test]
fn no_sampled_state_passes_attention_or_mlp_bounds() {
    let mut noise = Noise(77);
    let mut checks = 0;
    for round in 0..48 {
        let model = noise.model(SCALES[round % 4]);
        let constants = Constants::new(&model.spec, &model.weights).unwrap();
        let (n, d) = (7, model.spec.d_model);
        let turn = Turn::new(&model.spec, n);
        let size = [0.3, 1.0, 10.0][noise.below(3)];
        let x = Matrix::new(n, d, noise.values(n * d, size));
        for block in 0..model.spec.n_blocks {
            let c = &constants.blocks[block];
            let point = BlockPoint::new(&constants, block, &turn, &x, None);
            for _ in 0..40 {
                let reach = 10f64.powf(2.0 * noise.unit() - 1.0);
                let mut moved = x.clone();
                for row in moved.data.chunks_exact_mut(d) {
                    match noise.below(4) {
                        0 => {}
                        // Turned round: the worst a norm can see.
                        1 => row.iter_mut().for_each(|x| *x *= -0.5),
                        _ => row.iter_mut().for_each(|x| *x += reach * size * noise.unit()),
                    }
                }
                let rho = differences(&x, &moved);
                let now = BlockPoint::new(&constants, block, &turn, &moved, None);
                let r = point.before_attn.steps(&rho);
                let steps = differences(&point.before_attn.u, &now.before_attn.u);
                let bounds = attention_step(&model.spec, &c.attn, &point.attn, &r);
                let seen = differences(&point.attn.output, &now.attn.output);
                let out = differences(&point.mlp.output, &now.mlp.output);
                for i in 0..n {
                    let place = |what: &str| format!("{what}, round {round}, block {block}, position {i}");
                    below(&place("L2"), steps[i], r[i], 1.0);
                    below(&place("C"), seen[i], bounds[i], norm(point.attn.output.row(i)) + c.attn.reach);
                    let slope = c.attn.lipschitz * steps.iter().copied().fold(0.0, f64::max);
                    below(&place("Lam^A"), seen[i], slope, norm(point.attn.output.row(i)) + c.attn.reach);
                    let size = point.mlp.size(i) + now.mlp.size(i);
                    let bound = mlp_step(&c.mlp, &point.mlp, i, r[i], point.before_mlp.length[i]);
                    below(&place("D"), out[i], bound, size);
                    below(&place("Lam^M"), out[i], c.mlp.lipschitz * steps[i], size);
                    below(&place("B_A"), now.attn.centred[i], c.attn.reach, 1.0);
                    below(&place("B_M"), now.mlp.centred[i], c.mlp.reach, 1.0);
                    checks += 7;
                    // L6 and L7: changed weights stay in their box.
                    let (mut eps, mut row) = (Vec::new(), Row::default());
                    for (before, after) in point.attn.heads.iter().zip(&now.attn.heads) {
                        let from = point.attn.first[i];
                        before.score_steps(i, from, &r, &mut eps);
                        row.fill(&before.weights.row(i)[from..=i], &eps);
                        for (at, j) in (from..=i).enumerate() {
                            below(&place("L7"), after.weights.row(i)[j], row.up[at], 1.0);
                            checks += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(checks > 300_000, "{checks}");
}

fn identity(n: usize) -> Matrix<f64> {
    Matrix::new(n, n, (0..n * n).map(|at| f64::from(u8::from(at % (n + 1) == 0))).collect())
}

fn plain(weight: Matrix<f64>) -> Linear<f64> {
    Linear { weight: Arc::new(Panels::from(&weight)), bias: None }
}

/// One head of width `d`, an MLP of `d` neurons; queries and keys zero, everything else the identity.
fn simplest(d: usize, mlp_bias: f64, unembed: Matrix<f64>) -> Model<f64> {
    let spec = Spec {
        family: "simplest".to_string(),
        n_blocks: 1,
        d_model: d,
        n_heads: 1,
        n_kv_heads: 1,
        d_head: d,
        d_mlp: d,
        vocab: unembed.rows,
        d_embed: d,
        max_positions: 8,
        positions: Positions::Learned { offset: 0 },
        norm: NormKind::Rms,
        eps: 1e-14,
        norm_place: NormPlace::Pre,
        residual: Residual::Parallel,
        mlp: MlpKind::Plain(Activation::GeluErf),
        score_scale: 1.0,
        windows: vec![None],
        prefix_token: None,
        eos_tokens: Vec::new(),
    };
    let gain = || Norm { gain: vec![1.0; d], bias: None };
    let mut qkv = vec![0.0; 2 * d * d];
    qkv.extend(identity(d).data);
    let block = Block {
        attn_norm: gain(),
        mlp_norm: gain(),
        qkv: plain(Matrix::new(3 * d, d, qkv)),
        o: plain(identity(d)),
        q_norm: None,
        k_norm: None,
        gate: None,
        up: Linear { weight: Arc::new(Panels::from(&identity(d))), bias: Some(vec![mlp_bias; d]) },
        down: plain(identity(d)),
    };
    let weights = Weights {
        embed: Arc::new(Panels::from(&unembed)),
        positions: None,
        project_in: None,
        blocks: vec![block],
        final_norm: Some(gain()),
        project_out: None,
        unembed: plain(unembed),
    };
    Model { spec, weights }
}

/// Cases (i) and (ii): equal tokens that all move alike; an MLP that is linear where it works.
#[test]
fn theorems_c_and_d_are_attained() {
    let mut noise = Noise(5);
    let (n, d) = (4, 6);
    let model = simplest(d, 60.0, Matrix::new(2, d, noise.values(2 * d, 1.0)));
    let constants = Constants::new(&model.spec, &model.weights).unwrap();
    let turn = Turn::new(&model.spec, n);
    let (state, step) = (noise.values(d, 1.0), noise.values(d, 0.2));
    let x = Matrix::new(n, d, state.repeat(n));
    let moved: Vec<f64> = state.iter().zip(&step).map(|(x, step)| x + step).collect();
    let before = BlockPoint::new(&constants, 0, &turn, &x, None);
    let after = BlockPoint::new(&constants, 0, &turn, &Matrix::new(n, d, moved.repeat(n)), None);
    let r = differences(&before.before_attn.u, &after.before_attn.u);
    let c = &constants.blocks[0];
    let bound = attention_step(&model.spec, &c.attn, &before.attn, &r);
    let measured = differences(&before.attn.output, &after.attn.output);
    let mlp = mlp_step(&c.mlp, &before.mlp, 2, r[2], before.before_mlp.length[2]);
    let mlp_measured = differences(&before.mlp.output, &after.mlp.output)[2];
    for (bound, measured) in [(bound[2], measured[2]), (mlp, mlp_measured)] {
        assert!(bound >= measured * (1.0 - 1e-12) && bound <= measured * (1.0 + 1e-6), "{measured} {bound}");
    }
}

/// Case (iv): a query that moves along the direction which a score reacts to most.
#[test]
fn lemma_l6_is_attained() {
    let mut noise = Noise(8);
    for _ in 0..40 {
        let mut model = noise.model(Scale::Unit);
        model.weights.blocks.iter_mut().for_each(|block| (block.q_norm, block.k_norm) = (None, None));
        let spec = &model.spec;
        let constants = Constants::new(spec, &model.weights).unwrap();
        let (n, i, j) = (5, 4, 3);
        let turn = Turn::new(spec, n);
        let x = Matrix::new(n, spec.d_model, noise.values(n * spec.d_model, 1.0));
        let point = BlockPoint::new(&constants, 0, &turn, &x, None);
        let head = &point.attn.heads[0];
        if point.attn.first[i] > j {
            continue;
        }
        let Scores::Linear { of_query, .. } = &head.scores else { panic!("no norms") };
        let weights = view(&head.weights).rows(i, 1);
        let mean = product(weights, view(&head.k)).data;
        let from_mean: Vec<f64> = head.k.row(j).iter().zip(&mean).map(|(k, mean)| k - mean).collect();
        let mut y = from_mean.clone();
        turn.adjoint(&mut y, i);
        let folded = view(&constants.blocks[0].attn.query.weight).rows(0, spec.d_head);
        let direction = product(view(&Matrix::new(1, spec.d_head, y)), folded).data;
        let length = norm(&direction);
        let step = Matrix::new(1, spec.d_model, direction.iter().map(|x| x / length).collect());
        let mut query = product(view(&step), folded.transposed()).data;
        turn.forward(&mut query, i);
        let measured = (spec.score_scale * dot(&query, &from_mean)).abs();
        let bound = of_query.row(i)[j];
        assert!(
            bound >= measured * (1.0 - 1e-9) && bound <= measured * (1.0 + 1e-5) + 1e-7,
            "{measured} {bound}"
        );
    }
}

/// Case (v): the state on the cap's edge that is worst for the greedy token; and the radius is where it loses.
#[test]
fn theorem_i2_is_attained_at_the_caps_edge() {
    let mut noise = Noise(21);
    for _ in 0..50 {
        let d = 6;
        let model = simplest(d, 0.0, Matrix::new(2, d, noise.values(2 * d, 1.0)));
        let constants = Constants::new(&model.spec, &model.weights).unwrap();
        let head = &constants.head;
        let x = Matrix::new(1, d, noise.values(d, 3.0));
        let logits_of = |x: &[f64]| -> Vec<f64> { model.logits(&model.final_norm(x)) };
        let normed = crate::point::Normed::new(&x, NormKind::Rms, model.spec.eps);
        let logits = logits_of(&x.data);
        let greedy = arg_max(&logits);
        let decision = Decision::of(head, &normed, 0, &[&logits], &[Some(0)]).remove(0);
        let (own, other) = (head.direction(greedy), head.direction(1 - greedy));
        let away: Vec<f64> = own.iter().zip(&other).map(|(a, b)| b - a).collect();
        let (length, along) = (norm(&x.data), dot(&away, &x.data) / dot(&x.data, &x.data));
        let across: Vec<f64> = away.iter().zip(&x.data).map(|(away, x)| away - along * x).collect();
        let across_length = norm(&across);
        // The ball of radius `rho` around x, touched by the ray at `angle` towards the other token.
        let touched = |angle: f64| -> Vec<f64> {
            let (sin, cos) = angle.sin_cos();
            let towards = across.iter().map(|a| a / across_length * length * sin * cos);
            x.data.iter().zip(towards).map(|(x, towards)| x * cos * cos + towards).collect()
        };
        for angle in [0.01, 0.3, 1.2] {
            let state = touched(angle);
            let rho = distance(&state, &x.data);
            assert!((rho / (length * f64::sin(angle)) - 1.0).abs() < 1e-12);
            let after = logits_of(&state);
            let (measured, bound) = (after[greedy] - after[1 - greedy], decision.bounds(rho).margin);
            assert!(bound <= measured + 1e-9 && bound >= measured - 1e-5, "{angle}: {measured} {bound}");
        }
        let radius = decision.radius;
        if radius < length * 0.999 && radius > 1e-3 * length {
            let angle = (radius / length).asin();
            assert_eq!(arg_max(&logits_of(&touched(angle - 1e-5))), greedy);
            assert_ne!(arg_max(&logits_of(&touched(angle + 1e-5))), greedy);
        }
    }
}
