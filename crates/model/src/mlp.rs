//! Activations of the MLP, with the bias in the same pass.

use crate::kernels::{for_rows, for_rows2};
use crate::{Activation, Real};

impl Activation {
    /// Of one value.
    #[inline(always)]
    pub fn apply<T: Real>(self, x: T) -> T {
        match self {
            Activation::GeluErf => {
                T::of(0.5) * x * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
            }
            Activation::GeluTanh => {
                let cube = x * x * x;
                let inner = T::of((2.0 / std::f64::consts::PI).sqrt()) * cube.fused(T::of(0.044715), x);
                T::of(0.5) * x * (T::ONE + inner.tanh())
            }
            Activation::Relu => T::ZERO.larger(x),
            Activation::Silu => x / (T::ONE + (-x).exp()),
        }
    }
}

/// `hidden := act(hidden + bias)`, rows of `width`.
pub(crate) fn activate<T: Real>(hidden: &mut [T], width: usize, bias: Option<&[T]>, act: Activation) {
    // One loop per activation: a choice inside it would keep it from becoming vector code.
    match act {
        Activation::GeluErf => plain(hidden, width, bias, |x| Activation::GeluErf.apply(x)),
        Activation::GeluTanh => plain(hidden, width, bias, |x| Activation::GeluTanh.apply(x)),
        Activation::Relu => plain(hidden, width, bias, |x| Activation::Relu.apply(x)),
        Activation::Silu => plain(hidden, width, bias, |x| Activation::Silu.apply(x)),
    }
}

#[inline(always)]
fn plain<T: Real>(hidden: &mut [T], width: usize, bias: Option<&[T]>, act: impl Fn(T) -> T + Sync + Copy) {
    for_rows(hidden, width, |_, row| match bias {
        Some(bias) => row.iter_mut().zip(bias).for_each(|(value, &bias)| *value = act(*value + bias)),
        None => row.iter_mut().for_each(|value| *value = act(*value)),
    });
}

/// `up := act(gate + gate_bias) * (up + up_bias)`, rows of `width`.
pub(crate) fn activate_gated<T: Real>(
    up: &mut [T],
    gate: &mut [T],
    width: usize,
    up_bias: Option<&[T]>,
    gate_bias: Option<&[T]>,
    act: Activation,
) {
    match act {
        Activation::Silu => gated(up, gate, width, up_bias, gate_bias, |x| Activation::Silu.apply(x)),
        Activation::GeluErf => gated(up, gate, width, up_bias, gate_bias, |x| Activation::GeluErf.apply(x)),
        Activation::GeluTanh => gated(up, gate, width, up_bias, gate_bias, |x| Activation::GeluTanh.apply(x)),
        Activation::Relu => gated(up, gate, width, up_bias, gate_bias, |x| Activation::Relu.apply(x)),
    }
}

#[inline(always)]
fn gated<T: Real>(
    up: &mut [T],
    gate: &mut [T],
    width: usize,
    up_bias: Option<&[T]>,
    gate_bias: Option<&[T]>,
    act: impl Fn(T) -> T + Sync + Copy,
) {
    for_rows2((up, width), (gate, width), |_, up, gate| {
        if let Some(bias) = up_bias {
            up.iter_mut().zip(bias).for_each(|(value, &bias)| *value += bias);
        }
        if let Some(bias) = gate_bias {
            gate.iter_mut().zip(bias).for_each(|(value, &bias)| *value += bias);
        }
        up.iter_mut().zip(gate.iter()).for_each(|(up, &gate)| *up *= act(gate));
    });
}
