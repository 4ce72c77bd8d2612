//! Every theorem against brute force on random models, against a second implementation, against mistakes made
//! on purpose, and against numpy.

#[path = "bound/algebra.rs"]
mod algebra;
#[path = "bound/ends.rs"]
mod ends;
#[path = "bound/models.rs"]
mod models;
#[path = "bound/plain.rs"]
mod plain;

use std::collections::BTreeSet;
use std::sync::Arc;

use models::{Noise, Scale};
use plain::{Mistake, Plain};
use rote_bound::{Bounds, Constants, Depth, Row};
use rote_model::{Activation, Block, Linear, MlpKind, Model, Panels};
use rote_plan::{Intervention, unfold};

const SCALES: [Scale; 4] = [Scale::Initial, Scale::Unit, Scale::Outliers, Scale::Hot];
const DEEP: Depth = Depth { every_block: true, lookahead: 3 };

fn bounds(model: &Model<f64>, changes: &[String]) -> Bounds {
    let changes: Vec<Intervention> = unfold(changes, model.spec.n_blocks).unwrap();
    let constants = Constants::new(&model.spec, &model.weights).unwrap();
    let means = models::means(model);
    Bounds::with(Arc::new(model.clone()), constants, &changes, means, DEEP).unwrap()
}

/// The rows of one bypass.
fn rows_of(model: &Model<f64>, tokens: &[u32], block: usize) -> Vec<Row> {
    let bounds = bounds(model, &[format!("attn.identity@{block}")]);
    bounds.request(0, tokens).unwrap().remove(0).bounds
}

/// Every row is compared with what was measured inside; one that is exceeded is an error.
#[test]
fn no_bound_is_exceeded_on_random_models() {
    let mut noise = Noise(11);
    let (mut rows, mut kinds, mut certified) = (0, BTreeSet::new(), 0);
    for round in 0..160 {
        let model = noise.model(SCALES[round % 4]);
        let changes = noise.changes(&model);
        let bounds = bounds(&model, &changes);
        for _ in 0..3 {
            let count = 1 + noise.below(14);
            let tokens = noise.tokens(&model, count);
            let of_changes = match bounds.request(round as u32, &tokens) {
                Ok(rows) => rows,
                Err(error) => panic!("round {round}, {:?}: {error:#}", model.spec),
            };
            for of_change in of_changes {
                rows += of_change.bounds.len();
                kinds.extend(of_change.bounds.iter().map(|row| row.bound.clone()));
                certified += of_change.reach.iter().filter(|reach| reach.within).count();
                for row in &of_change.bounds {
                    // What was added for rounding is little beside the states; a lead may be as small as it likes.
                    let size = row.value.abs().max(row.trivial.abs());
                    let little = row.slack <= 1e-7 * size || row.block == -2;
                    assert!(row.slack >= 0.0 && little, "round {round}: {row:?}");
                }
                for reach in &of_change.reach {
                    let sum = reach.direct + reach.later_attn + reach.later_mlp;
                    let nothing = reach.output == 0.0;
                    assert!(
                        nothing || (sum - 1.0).abs() < 1e-6 || reach.output < 1e-9 * reach.state,
                        "{reach:?}"
                    );
                }
            }
        }
    }
    assert!(rows > 400_000, "only {rows} rows");
    assert!(kinds.len() >= 21, "{kinds:?}");
    assert!(certified > 1000, "only {certified} decisions were certified");
}

fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs()) + 1e-9
}

fn row<'a>(rows: &'a [Row], bound: &str, block: i32, position: usize) -> &'a Row {
    let found =
        rows.iter().find(|row| row.bound == bound && row.block == block && row.position as usize == position);
    found.unwrap_or_else(|| panic!("no row {bound} at block {block}, position {position}"))
}

fn value(rows: &[Row], bound: &str, block: i32, position: usize) -> f64 {
    row(rows, bound, block, position).value
}

const LOCAL: [&str; 6] =
    ["local.exact", "local.heads", "local.spread", "local.farthest", "local.row", "local.weights"];

/// Largest relative difference between the crate and the plain implementation with a mistake.
fn worst_difference(mistake: Mistake, rounds: usize, seed: u64) -> (f64, String) {
    let mut noise = Noise(seed);
    let mut worst = (0.0, String::new());
    for round in 0..rounds {
        let mut model = noise.model(SCALES[round % 4]);
        // The plain theorem C knows no query norms.
        for block in &mut model.weights.blocks {
            (block.q_norm, block.k_norm) = (None, None);
        }
        let tokens = noise.tokens(&model, 6);
        let wrong = Plain { model: &model, mistake };
        let (blocks, _) = wrong.run(&tokens);
        let from = noise.below(model.spec.n_blocks);
        let rows = rows_of(&model, &tokens, from);
        let mut compare = |name: &str, ours: f64, plain: f64, tolerance: f64| {
            // Where nothing differs, the crate still adds its margin for rounding.
            let nothing = plain < 1e-9 && ours < 1e-4;
            if !nothing && !close(ours, plain, tolerance) {
                let difference = (ours - plain).abs() / ours.abs().max(plain.abs());
                if difference > worst.0 {
                    worst = (difference, format!("round {round} {name}: {ours} {plain}"));
                }
            }
        };
        for i in 0..tokens.len() {
            for (name, plain) in LOCAL.iter().zip(wrong.local(from, &blocks[from], i)) {
                compare(name, value(&rows, name, from as i32, i), plain, 1e-6);
            }
        }
        for (at, rho) in wrong.trajectory(&blocks, from).iter().enumerate() {
            for (i, &rho) in rho.iter().enumerate() {
                let ours = value(&rows, "out.trajectory", (from + at) as i32, i);
                compare(&format!("out.trajectory at {at}"), ours, rho, 2e-3);
            }
        }
    }
    worst
}

#[test]
fn a_second_implementation_agrees() {
    let (difference, place) = worst_difference(Mistake::None, 60, 3);
    assert!(difference == 0.0, "{difference} at {place}");
}

/// F2, H2, H3 and theorem I, each against its textbook form; I with the crate's own bound on the final state.
#[test]
fn weights_families_and_decisions_agree_with_a_second_implementation() {
    let mut noise = Noise(41);
    let mut compared = 0;
    for round in 0..60 {
        let mut model = noise.model(SCALES[round % 4]);
        for block in &mut model.weights.blocks {
            (block.q_norm, block.k_norm) = (None, None);
        }
        let tokens = noise.tokens(&model, 6);
        let plain = Plain { model: &model, mistake: Mistake::None };
        let (blocks, last) = plain.run(&tokens);
        let from = noise.below(model.spec.n_blocks);
        let product = plain.product(from, plain.local(from, &blocks[from], 1)[5]);
        let end = model.spec.n_blocks as i32 - 1;
        let of_change =
            bounds(&model, &[format!("attn.identity@{from}")]).request(0, &tokens).unwrap().remove(0);
        let rows = &of_change.bounds;
        for i in 1..tokens.len() {
            let mut same = |name: &str, block: i32, expected: f64, tolerance: f64| {
                let ours = value(rows, name, block, i);
                let place = format!("round {round}, {name}, position {i}: {ours} {expected}");
                assert!((ours - expected).abs() <= tolerance * expected.abs() + 1e-7, "{place}");
                compared += 1;
            };
            let (subset, pattern) = plain.families(from, &blocks[from], i);
            same("local.subset", from as i32, subset, 1e-6);
            same("local.anypattern", from as i32, pattern, 1e-6);
            same("out.additive", end, plain.additive(&blocks, from, i), 1e-4);
            same("out.product", end, product, 1e-4);
            let Some(&next) = tokens.get(i + 1) else { continue };
            let rho = value(rows, "out.trajectory", end, i);
            let decision = plain.decision(&last[i], rho, next as usize);
            // Rounded downwards, by an angle of 1e-7 and what logits can be off by.
            let (radius, state) = (of_change.reach[i].radius, of_change.reach[i].state);
            let (least, most) = (decision.radius - 1e-6 * (1.0 + state), decision.radius + 1e-9);
            assert!((least..=most).contains(&radius), "round {round}: {radius} {}", decision.radius);
            same("logit.max", -2, decision.logit, 1e-6);
            same("norm.trajectory", -1, decision.final_norm, 1e-6);
            same("logp.rise", -2, decision.rise, 1e-6);
            let before = lead(&model, &last[i]);
            same("margin.loss", -2, before - decision.margin, 1e-6);
            // One ball for all of I3, no smaller than half of the widest pair, no larger than around the mean.
            let width = 4.0 * value(rows, "tv", -2, i).min(1.0 - 1e-12).atanh();
            let radius = width / (2.0 * decision.step);
            // Above, tanh has no digits left; below, rounding has eaten them.
            if (1e-3..8.0).contains(&width) {
                let (least, most) = (decision.ball.0 * (1.0 - 1e-5), decision.ball.1 * (1.0 + 1e-5));
                assert!((least..=most).contains(&radius), "round {round}: {radius} not in {least} to {most}");
                same("kl", -2, (width * width / 8.0).min(width), 1e-5);
            }
        }
    }
    assert!(compared > 1500, "{compared}");
}

/// Not a bound, but a number that is reported: the difference quotient of the plain forward pass.
#[test]
fn the_estimate_is_the_models_derivative() {
    let mut noise = Noise(43);
    for round in 0..48 {
        let mut model = noise.model(SCALES[round % 3]);
        // A kink has no derivative.
        let smooth = |act| if act == Activation::Relu { Activation::Silu } else { act };
        model.spec.mlp = match model.spec.mlp {
            MlpKind::Plain(act) => MlpKind::Plain(smooth(act)),
            MlpKind::Gated(act) => MlpKind::Gated(smooth(act)),
        };
        let tokens = noise.tokens(&model, 6);
        let plain = Plain { model: &model, mistake: Mistake::None };
        let (blocks, _) = plain.run(&tokens);
        let each = bounds(&model, &["attn.identity@each".to_string()]).request(0, &tokens).unwrap();
        for (from, of_change) in each.iter().enumerate() {
            let expected = plain.estimate(&tokens, &blocks, from);
            for (reach, expected) in of_change.reach.iter().zip(expected) {
                let off = (reach.estimate - expected).abs();
                assert!(off <= 2e-3 * expected + 1e-5 * reach.state, "round {round}: {expected} {reach:?}");
            }
        }
    }
}

/// By how much the greedy token leads.
fn lead(model: &Model<f64>, x: &[f64]) -> f64 {
    let mut z = model.logits(&model.final_norm(x));
    z.sort_by(f64::total_cmp);
    z[z.len() - 1] - z[z.len() - 2]
}

#[test]
fn every_deliberate_mistake_is_seen() {
    let mistakes = [
        Mistake::HalfAttention,
        Mistake::HalfMlp,
        Mistake::NoEpsilon,
        Mistake::NoMean,
        Mistake::HeadsByMaximum,
        Mistake::QuarterBox,
        Mistake::FrobeniusForSpectral,
        Mistake::HalfDisplacement,
    ];
    for mistake in mistakes {
        let (difference, _) = worst_difference(mistake, 12, 7);
        assert!(difference > 0.01, "{mistake:?} makes no difference: {difference}");
    }
}

/// J1, the reason why a bound that falls with depth proves nothing: F2 does so for every model.
#[test]
fn the_additive_bound_falls_with_depth_for_every_model() {
    let mut noise = Noise(61);
    for round in 0..24 {
        let model = noise.model(SCALES[round % 4]);
        let tokens = noise.tokens(&model, 3);
        let last = model.spec.n_blocks as i32 - 1;
        let each = bounds(&model, &["attn.identity@each".to_string()]).request(0, &tokens).unwrap();
        let additive: Vec<f64> = each
            .iter()
            .map(|of_change| row(&of_change.bounds, "out.additive", last, 1))
            .map(|row| row.value - row.slack)
            .collect();
        assert!(additive.is_sorted_by(|early, late| late <= early), "round {round}: {additive:?}");
    }
}

/// What `attn.mean` and `attn.zero` displace, from the plain forward pass: the constant less the output; and the
/// looser forms are no less, and no more than what is known of the constant alone adds.
#[test]
fn constants_in_attentions_place_displace_by_their_distance() {
    let mut noise = Noise(59);
    for round in 0..24 {
        let mut model = noise.model(SCALES[round % 4]);
        for block in &mut model.weights.blocks {
            (block.q_norm, block.k_norm) = (None, None);
        }
        let tokens = noise.tokens(&model, 6);
        let plain = Plain { model: &model, mistake: Mistake::None };
        let (blocks, _) = plain.run(&tokens);
        let block = noise.below(model.spec.n_blocks);
        let zeros = vec![0.0; model.spec.d_model];
        let mean = &models::means(&model).attn_out[block];
        for (action, constant) in [("mean", mean), ("zero", &zeros)] {
            let found = bounds(&model, &[format!("attn.{action}@{block}")]).request(0, &tokens).unwrap();
            let rows = &found[0].bounds;
            for i in 0..tokens.len() {
                let moved: Vec<f64> =
                    constant.iter().zip(&blocks[block].attn[i]).map(|(c, a)| c - a).collect();
                let (ours, expected) = (value(rows, "local.exact", block as i32, i), algebra::norm(&moved));
                assert!(close(ours, expected, 1e-6), "round {round}, attn.{action}, {i}: {ours} {expected}");
                let (heads, weights) = (
                    value(rows, "local.heads", block as i32, i),
                    value(rows, "local.weights", block as i32, i),
                );
                assert!(ours <= heads * (1.0 + 1e-6) + 1e-9 && heads.is_finite(), "{ours} {heads}");
                assert!(ours <= weights * (1.0 + 1e-6) + 1e-9 && weights.is_finite(), "{ours} {weights}");
            }
        }
    }
}

#[test]
fn the_plain_forward_is_the_model() {
    let mut noise = Noise(23);
    for round in 0..24 {
        let model = noise.model(SCALES[round % 4]);
        let tokens = noise.tokens(&model, 7);
        let (blocks, last) = Plain { model: &model, mistake: Mistake::None }.run(&tokens);
        let bounds = bounds(&model, &["attn.identity@0".to_string()]);
        let reach = bounds.request(0, &tokens).unwrap().remove(0).reach;
        for (i, reach) in reach.iter().enumerate() {
            assert!(close(reach.state, algebra::norm(&last[i]), 1e-10), "round {round}, position {i}");
        }
        assert_eq!(blocks.len(), model.spec.n_blocks);
    }
}

#[test]
fn broken_models_get_an_error_and_no_number() {
    let mut noise = Noise(31);
    let model = noise.model(Scale::Unit);
    let told = |model: Model<f64>| -> String {
        let changes = unfold(&["attn.identity@0".to_string()], model.spec.n_blocks).unwrap();
        let bounds = Bounds::new(Arc::new(model), &changes, DEEP).map(|_| ());
        format!("{:#}", bounds.expect_err("a broken model is refused"))
    };
    let mut broken = model.clone();
    change(&mut broken.weights.blocks[1].qkv, |data| data[3] = f64::NAN);
    assert!(told(broken).contains("block 1: query, key and value weights: value [0, 3] is NaN"));
    let mut broken = model.clone();
    change(&mut broken.weights.blocks[0].down, |data| data[5] = f64::INFINITY);
    assert!(told(broken).contains("block 0: mlp down weights: value [0, 5] is inf"));
    let mut broken = model.clone();
    broken.weights.blocks[1].attn_norm.gain[2] = 0.0;
    assert!(told(broken).contains("block 1: norm before attention: gain 2 is zero"));
    let mut broken = model.clone();
    broken.spec.eps = 0.0;
    assert!(told(broken).contains("epsilon"));
    let mut broken = model.clone();
    broken.spec.norm_place = rote_model::NormPlace::Post;
    assert!(told(broken).contains("pre-norm"));
    // Means of activations that were no numbers.
    let mut means = models::means(&model);
    means.attn_out[1][4] = f64::NAN;
    let changes = unfold(&["attn.mean@1".to_string()], model.spec.n_blocks).unwrap();
    let constants = Constants::new(&model.spec, &model.weights).unwrap();
    let result = Bounds::with(Arc::new(model.clone()), constants, &changes, means, DEEP).map(|_| ());
    assert!(
        format!("{:#}", result.unwrap_err()).contains("`attn.mean@1`: the mean of block 1 is no finite row")
    );
    // Finite weights whose products are not: nothing is said of states that are no numbers.
    let large = |broken: &mut Model<f64>, what: fn(&mut Block<f64>) -> &mut Linear<f64>| {
        change(what(&mut broken.weights.blocks[1]), |data| data.iter_mut().for_each(|x| *x *= 1e200));
    };
    let number = |broken: Model<f64>| -> String {
        let changes = unfold(&["attn.identity@0".to_string()], broken.spec.n_blocks).unwrap();
        let bounds = Bounds::new(Arc::new(broken), &changes, DEEP);
        let result = bounds.and_then(|bounds| bounds.request(0, &[1, 2, 3]).map(|_| ()));
        format!("{:#}", result.expect_err("1e200 gave a number"))
    };
    let mut broken = model.clone();
    large(&mut broken, |block| &mut block.up);
    large(&mut broken, |block| &mut block.down);
    let told = number(broken);
    assert!(told.contains("block 1: mlp output at position 0 is"), "{told}");
    let mut broken = model;
    large(&mut broken, |block| &mut block.qkv);
    assert!(number(broken).contains("too large for f64"));
}

fn change(linear: &mut Linear<f64>, how: impl Fn(&mut [f64])) {
    let mut weight = linear.weight.to_matrix();
    how(&mut weight.data);
    linear.weight = Arc::new(Panels::from(&weight));
}

/// Local displacements of three checkpoints as transformers and numpy compute them (`tests/golden/make.py`).
#[test]
fn local_bounds_are_numpys() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/local.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(folder).unwrap()).unwrap();
    let mut compared = 0;
    for case in golden.as_array().unwrap() {
        let name = case["model"].as_str().unwrap();
        let tokens: Vec<u32> =
            case["tokens"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect();
        let place = format!("{}/../../data/tiny/{name}", env!("CARGO_MANIFEST_DIR"));
        let model = rote_model::load::<f64>(&place).unwrap().model;
        for (block, expected) in case["blocks"].as_array().unwrap().iter().enumerate() {
            let rows = rows_of(&model, &tokens, block);
            for (i, expected) in expected.as_array().unwrap().iter().enumerate() {
                for (name_of, expected) in LOCAL[..4].iter().zip(expected.as_array().unwrap()) {
                    let (row, expected) = (row(&rows, name_of, block as i32, i), expected.as_f64().unwrap());
                    // Where nothing moves both are rounding.
                    let close = match expected <= row.slack {
                        true => row.value <= 2.0 * row.slack,
                        false => (row.value - row.slack - expected).abs() <= 1e-6 * expected,
                    };
                    assert!(
                        close && row.slack <= 1e-8 * expected.max(1e-2),
                        "{name} block {block} position {i} {name_of}: {row:?} {expected}"
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 200, "{compared}");
}
