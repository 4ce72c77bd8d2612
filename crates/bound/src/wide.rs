//! Loops that become vector code where the processor has wide vectors: exponentials, activations, sums over a
//! vocabulary. The bits are the same with and without them: sums run in eight lanes of their own everywhere.

use rote_model::{Activation, Real};

use crate::activation::{Curve, LANES};

/// Compiled thrice, for any processor and for vectors of 256 and of 512 bits with fused operations; the widest that
/// the processor has is taken.
macro_rules! wide {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        pub(crate) fn $name($($arg: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn body($($arg: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn fused($($arg: $kind),*) $(-> $result)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
                fn widest($($arg: $kind),*) $(-> $result)? {
                    body($($arg),*)
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
                {
                    // SAFETY: the processor has what it is compiled for.
                    return unsafe { widest($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has what it is compiled for.
                    return unsafe { fused($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

wide! {
/// `sum_v exp(z_v - top)`.
fn sum_exp(z: &[f64], top: f64) -> f64 {
    let mut sums = [0.0; LANES];
    let chunks = z.chunks_exact(LANES);
    let mut rest = 0.0;
    for &z in chunks.remainder() {
        rest += Real::exp(z - top);
    }
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += Real::exp(chunk[lane] - top);
        }
    }
    sums.iter().sum::<f64>() + rest
}
}

wide! {
/// `max_v z_v`; minus infinity of none.
fn largest(z: &[f64]) -> f64 {
    let mut tops = [f64::NEG_INFINITY; LANES];
    let chunks = z.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for chunk in chunks {
        for lane in 0..LANES {
            tops[lane] = if chunk[lane] > tops[lane] { chunk[lane] } else { tops[lane] };
        }
    }
    tops.into_iter().fold(rest, f64::max)
}
}

wide! {
/// `z := exp(z - top)`.
fn exp_all(z: &mut [f64], top: f64) {
    for z in z {
        *z = Real::exp(*z - top);
    }
}
}

wide! {
/// `e_v := exp(z_v - top)`; their sum.
fn exp_into(e: &mut [f64], z: &[f64], top: f64) -> f64 {
    let mut sums = [0.0; LANES];
    let whole = z.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let (e, z) = (&mut e[start..start + LANES], &z[start..start + LANES]);
        for lane in 0..LANES {
            e[lane] = Real::exp(z[lane] - top);
            sums[lane] += e[lane];
        }
    }
    for at in whole..z.len() {
        e[at] = Real::exp(z[at] - top);
        sums[at - whole] += e[at];
    }
    sums.iter().sum()
}
}

wide! {
/// `max |z~ - z|`, `KL(p || p~)` and the total variation, from logits before and after, probabilities before,
/// `p~ = e share`, and `shift`: how much more the logarithm of the sum is after.
fn compare_logits(
    before: &[f64],
    after: &[f64],
    p: &[f64],
    e: &[f64],
    share: f64,
    shift: f64,
) -> (f64, f64, f64) {
    let (mut most, mut divergence, mut variation) = ([0.0_f64; LANES], [0.0; LANES], [0.0; LANES]);
    let mut add = |lane: usize, before: f64, after: f64, p: f64, e: f64| {
        let fallen = before - after;
        most[lane] = if fallen.abs() > most[lane] { fallen.abs() } else { most[lane] };
        divergence[lane] += p * (fallen + shift);
        variation[lane] += (p - e * share).abs();
    };
    let whole = before.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let cut = start..start + LANES;
        let (before, after) = (&before[cut.clone()], &after[cut.clone()]);
        let (p, e) = (&p[cut.clone()], &e[cut]);
        for lane in 0..LANES {
            add(lane, before[lane], after[lane], p[lane], e[lane]);
        }
    }
    for at in whole..before.len() {
        add(at - whole, before[at], after[at], p[at], e[at]);
    }
    (most.into_iter().fold(0.0, f64::max), divergence.iter().sum(), variation.iter().sum::<f64>() / 2.0)
}
}

wide! {
/// For intervals `a_k ± w_k r`: `sum w_k^2` over those that hold `steepest`, and the sum of squares of
/// `a_k + w_k r - depth - act_k` where that is positive.
fn long_steps(a: &[f64], act: &[f64], w: &[f64], r: f64, steepest: f64, depth: f64) -> (f64, f64) {
    let (mut columns, mut ranges) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |lane: usize, a: f64, act: f64, w: f64| {
        let b = w * r;
        let holds = a - b <= steepest && steepest <= a + b;
        columns[lane] += if holds { w * w } else { 0.0 };
        let range = a + b - depth - act;
        ranges[lane] += if range > 0.0 { range * range } else { 0.0 };
    };
    let whole = a.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let cut = start..start + LANES;
        let (a, act, w) = (&a[cut.clone()], &act[cut.clone()], &w[cut]);
        for lane in 0..LANES {
            add(lane, a[lane], act[lane], w[lane]);
        }
    }
    for at in whole..a.len() {
        add(at - whole, a[at], act[at], w[at]);
    }
    (columns.iter().sum(), ranges.iter().sum())
}
}

wide! {
/// `|y m + still - centre|` for each row of `y` (`k` long) and of `still` (as wide as `centre`); `m` is
/// `[k, width]`.
fn lengths_from(out: &mut [f64], y: &[f64], m: &[f64], still: &[f64], centre: &[f64]) {
    const WIDE: usize = 32;
    let width = centre.len();
    let k = m.len() / width;
    let whole = width / WIDE * WIDE;
    for (at, out) in out.iter_mut().enumerate() {
        let (y, still) = (&y[at * k..(at + 1) * k], &still[at * width..(at + 1) * width]);
        let mut squares = [0.0; WIDE];
        for from in (0..whole).step_by(WIDE) {
            let mut sums = [0.0; WIDE];
            for lane in 0..WIDE {
                sums[lane] = still[from + lane] - centre[from + lane];
            }
            for (y, m) in y.iter().zip(m.chunks_exact(width)) {
                let m: &[f64; WIDE] = m[from..from + WIDE].try_into().expect("a cut of that width");
                for lane in 0..WIDE {
                    sums[lane] = y.mul_add(m[lane], sums[lane]);
                }
            }
            for lane in 0..WIDE {
                squares[lane] = sums[lane].mul_add(sums[lane], squares[lane]);
            }
        }
        for column in whole..width {
            let mut sum = still[column] - centre[column];
            for row in 0..k {
                sum = y[row].mul_add(m[row * width + column], sum);
            }
            squares[column - whole] += sum * sum;
        }
        // Halved until one is left: a chain of additions would take longer than all products.
        let mut half = WIDE / 2;
        while half > 0 {
            for lane in 0..half {
                squares[lane] += squares[lane + half];
            }
            half /= 2;
        }
        *out = squares[0].sqrt();
    }
}
}

wide! {
/// What an activation does on `[a_k - w_k r, a_k + w_k r]`, given its values `act_k`: ranges, slopes, tilts.
fn intervals(
    out: (&mut [f64], &mut [f64], &mut [f64]),
    curve: &Curve,
    a: &[f64],
    act: &[f64],
    w: &[f64],
    r: f64,
) {
    for start in (0..a.len()).step_by(LANES) {
        let count = LANES.min(a.len() - start);
        let cut = start..start + count;
        let [mut of_a, mut of_act, mut reach] = [[0.0; LANES]; 3];
        of_a[..count].copy_from_slice(&a[cut.clone()]);
        of_act[..count].copy_from_slice(&act[cut.clone()]);
        reach[..count].copy_from_slice(&w[cut.clone()]);
        reach.iter_mut().for_each(|w| *w *= r);
        let [ranges, slopes, tilts] = curve.intervals(of_a, of_act, reach);
        out.0[cut.clone()].copy_from_slice(&ranges[..count]);
        out.1[cut.clone()].copy_from_slice(&slopes[..count]);
        out.2[cut].copy_from_slice(&tilts[..count]);
    }
}
}

wide! {
/// `x := act(x)`.
fn activate(x: &mut [f64], act: Activation) {
    match act {
        Activation::GeluErf => {
            // Loops, not closures handed on: these would be compiled for themselves, without wide vectors.
            for x in x {
                *x = 0.5 * *x * (1.0 + Real::erf(*x * std::f64::consts::FRAC_1_SQRT_2));
            }
        }
        Activation::GeluTanh => {
            // (1 + tanh w) / 2 = 1 / (1 + e^-2w).
            let rate = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            for x in x {
                *x /= 1.0 + Real::exp(-rate * (*x + 0.044_715 * *x * *x * *x));
            }
        }
        Activation::Relu => {
            for x in x {
                *x = if *x > 0.0 { *x } else { 0.0 };
            }
        }
        Activation::Silu => {
            for x in x {
                *x /= 1.0 + Real::exp(-*x);
            }
        }
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_those_of_the_bounds() {
        for act in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
            let x: Vec<f64> = (-3000..3000).map(|step| f64::from(step) / 101.0).collect();
            let mut values = x.clone();
            activate(&mut values, act);
            for (x, value) in x.iter().zip(values) {
                let exact = crate::activation::evaluate(act, *x).0;
                assert!((value - exact).abs() <= 4e-16 * (1.0 + x.abs()), "{act:?} {x}: {value} {exact}");
            }
        }
    }

    #[test]
    fn comparisons_are_their_definitions() {
        for n in [1, 7, 8, 23, 64] {
            let before: Vec<f64> = (0..n).map(|v| f64::from(v * 7 % 11) / 3.0).collect();
            let after: Vec<f64> = (0..n).map(|v| f64::from(v * 5 % 13) / 4.0).collect();
            let log = |z: &[f64]| z.iter().map(|z| z.exp()).sum::<f64>().ln();
            assert!((sum_exp(&after, 1.0).ln() + 1.0 - log(&after)).abs() < 1e-13);
            let log_p: Vec<f64> = before.iter().map(|z| z - log(&before)).collect();
            let p: Vec<f64> = log_p.iter().map(|p| p.exp()).collect();
            let mut e = vec![0.0; after.len()];
            let sum = exp_into(&mut e, &after, 1.0);
            assert!((sum.ln() + 1.0 - log(&after)).abs() < 1e-13);
            let shift = log(&after) - log(&before);
            let (most, divergence, variation) = compare_logits(&before, &after, &p, &e, 1.0 / sum, shift);
            let pairs = || before.iter().zip(&after).zip(&log_p);
            let expected = pairs().map(|((b, a), _)| (a - b).abs()).fold(0.0, f64::max);
            let kl: f64 = pairs().map(|((_, a), p)| p.exp() * (p - (a - log(&after)))).sum();
            let tv: f64 =
                pairs().map(|((_, a), p)| (p.exp() - (a - log(&after)).exp()).abs()).sum::<f64>() / 2.0;
            assert_eq!(most, expected);
            assert!((divergence - kl).abs() < 1e-13 && (variation - tv).abs() < 1e-13, "{n}");
        }
    }
}
