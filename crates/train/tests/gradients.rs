//! The backward passes of the fused operations against finite differences.

use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rote_train::attention::{Attention, Fused};
use rote_train::numbers::Gelu;
use rote_train::operations::{CrossEntropy, LayerNorm, Linear};

fn noise(rows: usize, columns: usize, draw: &mut ChaCha8Rng) -> Tensor {
    let data: Vec<f32> = (0..rows * columns).map(|_| draw.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(data, (rows, columns), &Device::Cpu).unwrap()
}

/// Compares the gradient of `f`, weighted at random, with a difference along a random direction, one argument at a
/// time.
fn check(name: &str, arguments: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let mut draw = ChaCha8Rng::seed_from_u64(7);
    let out = f(arguments).unwrap();
    let weights = match out.dims() {
        [] => Tensor::new(1.0f32, &Device::Cpu).unwrap(),
        _ => noise(out.dim(0).unwrap(), out.dim(1).unwrap(), &mut draw),
    };
    let value = |arguments: &[Tensor]| -> f64 {
        let out: Vec<f32> = f(arguments).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let weights: Vec<f32> = weights.flatten_all().unwrap().to_vec1().unwrap();
        out.iter().zip(weights).map(|(out, weight)| f64::from(*out) * f64::from(weight)).sum()
    };
    for index in 0..arguments.len() {
        let variable = Var::from_tensor(&arguments[index]).unwrap();
        let mut with_variable = arguments.to_vec();
        with_variable[index] = variable.as_tensor().clone();
        let loss = (f(&with_variable).unwrap() * &weights).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&variable).expect("a gradient").flatten_all().unwrap();
        let direction: Vec<f32> = (0..gradient.elem_count()).map(|_| draw.random_range(-1.0..1.0)).collect();
        let direction = Tensor::from_vec(direction, arguments[index].shape(), &Device::Cpu).unwrap();
        let along: f64 = {
            let product = (gradient * direction.flatten_all().unwrap()).unwrap();
            product.to_vec1::<f32>().unwrap().iter().map(|x| f64::from(*x)).sum()
        };
        let moved = |step: f64| {
            let mut moved = arguments.to_vec();
            moved[index] = (&arguments[index] + (&direction * step).unwrap()).unwrap();
            value(&moved)
        };
        let difference = (moved(2e-3) - moved(-2e-3)) / 4e-3;
        let error = (along - difference).abs();
        assert!(
            error < 2e-3 + 2e-3 * difference.abs(),
            "{name}, argument {index}: {along} is not {difference}"
        );
    }
}

#[test]
fn linear_has_its_gradient() {
    let mut draw = ChaCha8Rng::seed_from_u64(1);
    let bias = noise(1, 7, &mut draw).flatten_all().unwrap();
    let arguments = [noise(9, 5, &mut draw), noise(7, 5, &mut draw), bias];
    check("linear", &arguments, |a| a[0].apply_op3(&a[1], &a[2], Linear { threads: 1 }));
    check("linear without bias", &arguments[..2], |a| {
        a[0].apply_op3(&a[1], &Tensor::zeros(1, a[0].dtype(), &Device::Cpu)?, Linear { threads: 1 })
    });
}

#[test]
fn layer_norm_has_its_gradient() {
    let mut draw = ChaCha8Rng::seed_from_u64(2);
    let vector = |draw: &mut ChaCha8Rng| noise(1, 12, draw).flatten_all().unwrap();
    let arguments = [noise(9, 12, &mut draw), vector(&mut draw), vector(&mut draw)];
    check("layer norm", &arguments, |a| a[0].apply_op3(&a[1], &a[2], LayerNorm { epsilon: 1e-5 }));
}

#[test]
fn gelu_has_its_gradient() {
    let x = noise(6, 50, &mut ChaCha8Rng::seed_from_u64(3));
    for kind in [Gelu::Exact, Gelu::Tanh] {
        check("gelu", std::slice::from_ref(&x), |a| a[0].apply_op1(kind));
    }
}

#[test]
fn the_loss_has_its_gradient() {
    let logits = noise(5, 11, &mut ChaCha8Rng::seed_from_u64(4));
    check("loss", std::slice::from_ref(&logits), |a| a[0].apply_op1(CrossEntropy::new(&[3, 0, 10, 5, 5])));
    // equal logits: every token has one chance in eleven
    let level = logits.zeros_like().unwrap().apply_op1(CrossEntropy::new(&[3, 0, 10, 5, 5])).unwrap();
    assert!((level.to_scalar::<f32>().unwrap() - 11f32.ln()).abs() < 1e-5);
}

/// Contexts longer than a block of query rows; windows shorter and longer than one.
#[test]
fn attention_has_its_gradient() {
    let rules = |fused, rotary, window| Attention {
        context: 150,
        heads: 2,
        head_width: 8,
        fused,
        scale: 0.3,
        rotary,
        window,
        threads: 1,
    };
    let x = noise(300, 48, &mut ChaCha8Rng::seed_from_u64(5));
    for rules in [
        rules(Fused::ByHead, 4, None),
        rules(Fused::ByKind, 0, None),
        rules(Fused::ByKind, 0, Some(7)),
        rules(Fused::ByHead, 8, Some(80)),
    ] {
        check("attention", std::slice::from_ref(&x), |a| rules.apply(&a[0]));
    }
}

/// One head of width one, scores all zero: every query takes the mean of the values that it sees.
#[test]
fn attention_of_equal_scores_is_a_mean() {
    let rules = Attention {
        context: 4,
        heads: 1,
        head_width: 1,
        fused: Fused::ByKind,
        scale: 1.0,
        rotary: 0,
        window: Some(2),
        threads: 1,
    };
    let rows: Vec<f32> = [1.0, 3.0, 5.0, 9.0].into_iter().flat_map(|value| [0.0, 0.0, value]).collect();
    let out = rules.apply(&Tensor::from_vec(rows, (4, 3), &Device::Cpu).unwrap()).unwrap();
    assert_eq!(out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0, 4.0, 7.0]);
}
