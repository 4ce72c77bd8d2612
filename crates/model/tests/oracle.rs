//! The tiny checkpoints of `data/tiny` against what Hugging Face transformers and a float64 reference compute
//! with them; and a list of deliberate mistakes, each of which must show.

#![expect(clippy::print_stdout, reason = "a test of numbers says how far off they are")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rote_model::{
    Activation, Linear, Means, MlpKind, Model, NormKind, NormPlace, Panels, Positions, Real, Residual, Row,
    Spec, State, Tap, Workspace, load,
};
use rote_plan::{Hook, Intervention};
use safetensors::SafeTensors;
use serde_json::Value;

const TOLERANCE: f64 = 1e-4;

struct Case {
    name: String,
    folder: PathBuf,
    /// What `--model` would say.
    source: String,
    tokens: Vec<Vec<u32>>,
    expected: BTreeMap<String, Vec<f32>>,
}

fn cases() -> Vec<Case> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tiny");
    let mut folders: Vec<_> = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("expected.safetensors").is_file());
    folders.sort();
    assert!(folders.len() >= 19, "only {} checkpoints", folders.len());
    folders.into_iter().map(case).collect()
}

fn case(folder: PathBuf) -> Case {
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words =
        |name: &str| -> Vec<[u8; 4]> { file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec() };
    let tokens: Vec<u32> = words("tokens").into_iter().map(u32::from_le_bytes).collect();
    let length = file.tensor("tokens").unwrap().shape()[1];
    let expected = file
        .names()
        .into_iter()
        .filter(|name| *name != "tokens")
        .map(|name| (name.to_string(), words(name).into_iter().map(f32::from_le_bytes).collect()))
        .collect();
    let gguf = folder.join("model.gguf");
    let source = if gguf.is_file() { gguf } else { folder.clone() };
    Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        source: source.to_string_lossy().into_owned(),
        folder,
        tokens: tokens.chunks(length).map(<[u32]>::to_vec).collect(),
        expected,
    }
}

/// Everything a pass shows, by the names of `expected.safetensors`.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<f64>>);

impl<T: Real> Tap<T> for Seen {
    fn wants(&self, hook: Hook, _: Option<usize>) -> bool {
        matches!(hook, Hook::ResidPre | Hook::AttnOut | Hook::MlpOut | Hook::Z)
    }

    fn see(&mut self, hook: Hook, block: Option<usize>, values: &[T], _: usize) {
        let name = format!("blocks.{}.{}", block.unwrap(), hook.name());
        self.0.insert(name, values.iter().map(|value| value.f64()).collect());
    }
}

impl Seen {
    /// Means of both sequences' tokens, block by block.
    fn means<T: Real>(&self, spec: &Spec) -> Means<T> {
        let of = |hook: Hook, width: usize| {
            let mean = |block: usize| -> Vec<T> {
                let values = &self.0[&format!("blocks.{block}.{}", hook.name())];
                let rows = values.len() / width;
                let sum = |at: usize| values.iter().skip(at).step_by(width).sum::<f64>();
                (0..width).map(|at| T::of(sum(at) / rows as f64)).collect()
            };
            (0..spec.n_blocks).map(mean).collect()
        };
        Means { attn_out: of(Hook::AttnOut, spec.d_model), z: of(Hook::Z, spec.d_query()) }
    }
}

/// Both sequences in one batch; `none` is no intervention.
fn run<T: Real>(
    model: &Model<T>,
    case: &Case,
    intervention: &str,
    means: Option<&Means<T>>,
) -> anyhow::Result<Seen> {
    let Spec { n_blocks, n_heads, .. } = model.spec;
    let change = intervention.parse::<Intervention>()?.resolve(n_blocks, n_heads)?;
    let starts: Vec<_> = case.tokens.iter().map(|tokens| (tokens.as_slice(), 0)).collect();
    let mut x = model.embed(&starts)?;
    let mut states: Vec<_> =
        case.tokens.iter().map(|tokens| State::new(&model.spec, tokens.len(), false)).collect();
    let mut rows: Vec<_> = states
        .iter_mut()
        .zip(&case.tokens)
        .map(|(state, tokens)| Row::new(state, tokens.len(), &change, means))
        .collect();
    let mut seen = Seen::default();
    model.run(0..n_blocks, &mut x, &mut rows, &mut Workspace::default(), &mut seen)?;
    let logits = model.logits(&model.final_norm(&x));
    seen.0.insert("logits".into(), logits.iter().map(|value| value.f64()).collect());
    Ok(seen)
}

/// Largest difference, and where it is. What is not a number is infinitely far off.
fn distance(ours: &[f64], theirs: &[f32]) -> (f64, usize) {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(&a, &b)| (a - f64::from(b)).abs());
    differences
        .map(|difference| if difference.is_nan() { f64::INFINITY } else { difference })
        .enumerate()
        .map(|(place, difference)| (difference, place))
        .fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a })
}

fn split(name: &str) -> (&str, &str, &str) {
    let (by, rest) = name.split_once('/').unwrap();
    let (intervention, tensor) = rest.split_once('/').unwrap_or(("none", rest));
    (by, intervention, tensor)
}

fn agree<T: Real>(case: &Case, by: &str, tolerance: f64) -> f64 {
    let model = load::<T>(&case.source).unwrap_or_else(|error| panic!("{}: {error:#}", case.name)).model;
    let plain = run(&model, case, "none", None).unwrap();
    let means = plain.means(&model.spec);
    let mut passes = BTreeMap::from([("none".to_string(), plain)]);
    let mut worst: f64 = 0.0;
    let mut compared = 0;
    for (name, expected) in case.expected.iter().filter(|(name, _)| split(name).0 == by) {
        let (_, intervention, tensor) = split(name);
        let pass = passes
            .entry(intervention.to_string())
            .or_insert_with(|| run(&model, case, intervention, Some(&means)).unwrap());
        let (off, place) = distance(&pass.0[tensor], expected);
        assert!(
            off < tolerance,
            "{}: {name} is {off:.2e} off at value {place}: {} where {} is expected",
            case.name,
            pass.0[tensor][place],
            expected[place]
        );
        worst = worst.max(off);
        compared += 1;
    }
    assert!(compared >= 6, "{}: only {compared} tensors compared with {by}", case.name);
    worst
}

#[test]
fn every_checkpoint_computes_what_transformers_computes() {
    for case in cases() {
        let worst = agree::<f32>(&case, "hf", TOLERANCE);
        println!("{:24} at most {worst:.1e} from transformers", case.name);
    }
}

#[test]
fn every_checkpoint_computes_what_the_reference_computes() {
    for case in cases() {
        let single = agree::<f32>(&case, "exact", TOLERANCE);
        // The reference is stored in single precision, and its rotary angles are not rounded as models' are.
        let double = agree::<f64>(&case, "exact", 1e-5);
        println!("{:24} at most {single:.1e} (f32), {double:.1e} (f64) from the reference", case.name);
    }
}

/// A way to get a model wrong. `false`: it does not apply to this one.
type Mistake = fn(&mut Model<f32>, &Case) -> bool;

const MISTAKES: &[(&str, Mistake)] = &[
    ("gelu for gelu_new", |m, _| activation(m, Activation::GeluTanh, Activation::GeluErf)),
    ("gelu_new for gelu", |m, _| activation(m, Activation::GeluErf, Activation::GeluTanh)),
    ("gelu for silu", |m, _| activation(m, Activation::Silu, Activation::GeluErf)),
    ("gelu for relu", |m, _| activation(m, Activation::Relu, Activation::GeluErf)),
    ("scores not scaled", |m, _| m.spec.score_scale != 1.0 && set(&mut m.spec.score_scale, 1.0)),
    ("scores scaled", |m, _| {
        m.spec.score_scale == 1.0 && set(&mut m.spec.score_scale, (m.spec.d_head as f64).sqrt().recip())
    }),
    ("queries, keys, values not sorted out of each head", |m, _| {
        let Spec { n_heads: n, d_head: d, n_kv_heads, .. } = m.spec;
        n > 1 && n == n_kv_heads && rows(m, |row| (row / d % 3 * n + row / d / 3) * d + row % d)
    }),
    ("keys and values exchanged", |m, _| {
        let (query, kv) = (m.spec.d_query(), m.spec.d_kv());
        rows(m, |row| if row < query { row } else { query + (row - query + kv) % (2 * kv) })
    }),
    ("rotary on pairs", |m, _| {
        let Positions::Rotary(rotary) = &m.spec.positions else { return false };
        let (half, d, end) = (rotary.inv_freq.len(), m.spec.d_head, m.spec.d_query() + m.spec.d_kv());
        let within = |j: usize| if j < 2 * half { 2 * (j % half) + j / half } else { j };
        half > 1 && rows(m, |row| if row < end { row / d * d + within(row % d) } else { row })
    }),
    ("rotary on half the share", |m, _| {
        let Positions::Rotary(rotary) = &mut m.spec.positions else { return false };
        let kept = rotary.inv_freq.len() / 2;
        kept > 0 && {
            rotary.inv_freq.truncate(kept);
            true
        }
    }),
    ("rotary scaling left out", |m, case| {
        let Ok(bytes) = fs::read(case.folder.join("config.json")) else { return false };
        let config: Value = serde_json::from_slice(&bytes).unwrap();
        let parameters = &config["rope_parameters"];
        let Positions::Rotary(rotary) = &mut m.spec.positions else { return false };
        let (theta, n) = (parameters["rope_theta"].as_f64(), rotary.inv_freq.len() as f64);
        parameters["factor"].is_number() && {
            let plain = |(i, freq): (usize, &mut f64)| *freq = theta.unwrap().powf(-(i as f64) / n);
            rotary.inv_freq.iter_mut().enumerate().for_each(plain);
            true
        }
    }),
    ("window one too long", |m, _| windows(m, |window| window + 1)),
    ("window one too short", |m, _| windows(m, |window| window - 1)),
    // OPT's 1e-5 is below what single precision shows beside variances of 1.
    ("eps ten times off", |m, _| {
        let eps = m.spec.eps;
        eps >= 1e-3 && set(&mut m.spec.eps, 10.0 * eps)
    }),
    ("kv heads taken in turn", |m, _| {
        let Spec { n_heads, n_kv_heads: kv, d_head: d, .. } = m.spec;
        let query = m.spec.d_query();
        // What sits in a slot, where head h has to share a slot's group with key h % kv.
        let head = move |slot: usize| slot % (n_heads / kv) * kv + slot / (n_heads / kv);
        let source = move |place: usize| head(place / d) * d + place % d;
        n_heads > kv && kv > 1 && {
            m.weights.blocks.iter_mut().for_each(|block| columns(&mut block.o, source));
            rows(m, |row| if row < query { source(row) } else { row })
        }
    }),
    ("positions one off", |m, _| match &mut m.spec.positions {
        Positions::Learned { offset } => set(offset, *offset + 1),
        Positions::Rotary(_) => false,
    }),
    ("positions from row 0", |m, _| match &mut m.spec.positions {
        Positions::Learned { offset } if *offset > 0 => set(offset, 0),
        _ => false,
    }),
    ("norms on the other side", |m, _| {
        let other = if m.spec.norm_place == NormPlace::Pre { NormPlace::Post } else { NormPlace::Pre };
        m.spec.residual == Residual::Sequential && set(&mut m.spec.norm_place, other)
    }),
    ("parallel for sequential", |m, _| {
        m.spec.residual == Residual::Sequential
            && m.spec.norm_place == NormPlace::Pre
            && set(&mut m.spec.residual, Residual::Parallel)
    }),
    ("sequential for parallel", |m, _| {
        m.spec.residual == Residual::Parallel && set(&mut m.spec.residual, Residual::Sequential)
    }),
    ("RMS for layer norm", |m, _| m.spec.norm == NormKind::Layer && set(&mut m.spec.norm, NormKind::Rms)),
    ("norms exchanged", |m, _| {
        m.weights.blocks.iter_mut().for_each(|b| std::mem::swap(&mut b.attn_norm, &mut b.mlp_norm));
        true
    }),
    ("norm's bias forgotten", |m, _| m.weights.blocks[0].attn_norm.bias.take().is_some()),
    ("final norm forgotten", |m, _| m.weights.final_norm.take().is_some()),
    ("query norm forgotten", |m, _| m.weights.blocks[0].q_norm.take().is_some()),
    ("key norm forgotten", |m, _| m.weights.blocks[0].k_norm.take().is_some()),
    ("bias of queries, keys, values forgotten", |m, _| m.weights.blocks[0].qkv.bias.take().is_some()),
    ("bias of attention's output forgotten", |m, _| m.weights.blocks[0].o.bias.take().is_some()),
    ("bias of the MLP's first map forgotten", |m, _| m.weights.blocks[0].up.bias.take().is_some()),
    ("bias of the MLP's second map forgotten", |m, _| m.weights.blocks[0].down.bias.take().is_some()),
    ("gate and up exchanged", |m, _| {
        let exchange = |b: &mut rote_model::Block<f32>| {
            b.gate.as_mut().map(|gate| std::mem::swap(gate, &mut b.up)).is_some()
        };
        m.weights.blocks.iter_mut().map(exchange).fold(false, |a, b| a | b)
    }),
    ("attention's output map not transposed", |m, _| {
        let o = &mut m.weights.blocks[0].o;
        let n = o.n_out();
        n == o.n_in() && {
            let stored = o.weight.to_matrix().data;
            let data: Vec<_> = (0..n * n).map(|i| stored[i % n * n + i / n]).collect();
            set(&mut o.weight, Arc::new(Panels::new(n, n, &data)));
            true
        }
    }),
    ("head tied", |m, _| {
        !Arc::ptr_eq(&m.weights.embed, &m.weights.unembed.weight)
            && set(&mut m.weights.unembed.weight, m.weights.embed.clone())
    }),
];

fn set<V>(place: &mut V, value: V) -> bool {
    *place = value;
    true
}

fn activation(model: &mut Model<f32>, right: Activation, wrong: Activation) -> bool {
    match &mut model.spec.mlp {
        MlpKind::Plain(act) | MlpKind::Gated(act) if *act == right => set(act, wrong),
        _ => false,
    }
}

fn windows(model: &mut Model<f32>, wrong: fn(usize) -> usize) -> bool {
    let mut windows = model.spec.windows.iter_mut().flatten().peekable();
    let some = windows.peek().is_some();
    windows.for_each(|window| *window = wrong(*window));
    some
}

/// Row `r` of every block's queries, keys and values is taken from row `source(r)`.
fn rows(model: &mut Model<f32>, source: impl Fn(usize) -> usize) -> bool {
    for qkv in model.weights.blocks.iter_mut().map(|block| &mut block.qkv) {
        let order: Vec<_> = (0..qkv.n_out()).map(&source).collect();
        if let Some(bias) = &mut qkv.bias {
            *bias = (0..bias.len()).map(|row| bias[source(row)]).collect();
        }
        qkv.weight = Arc::new(qkv.weight.select(&order));
    }
    true
}

fn columns(linear: &mut Linear<f32>, source: impl Fn(usize) -> usize) {
    let weight = linear.weight.to_matrix();
    let data: Vec<_> = (0..weight.data.len())
        .map(|i| weight.data[i / weight.cols * weight.cols + source(i % weight.cols)])
        .collect();
    linear.weight = Arc::new(Panels::new(weight.rows, weight.cols, &data));
}

#[test]
fn every_deliberate_mistake_shows() {
    let cases = cases();
    let models: Vec<_> = cases.iter().map(|case| load::<f32>(&case.source).unwrap().model).collect();
    for (name, mistake) in MISTAKES {
        let mut closest: Option<(f64, &str)> = None;
        for (case, model) in cases.iter().zip(&models) {
            let mut wrong = model.clone();
            if !mistake(&mut wrong, case) {
                continue;
            }
            // A pass that refuses (a position beyond the table) has shown the mistake too.
            let off = run(&wrong, case, "none", None)
                .map_or(f64::INFINITY, |seen| distance(&seen.0["logits"], &case.expected["hf/logits"]).0);
            assert!(off > 2.0 * TOLERANCE, "{name} does not show on {}: {off:.1e}", case.name);
            if closest.is_none_or(|(least, _)| off < least) {
                closest = Some((off, &case.name));
            }
        }
        let (off, at) = closest.unwrap_or_else(|| panic!("{name} applies to no checkpoint"));
        println!("{name:52} at least {off:.1e} off ({at})");
    }
}
