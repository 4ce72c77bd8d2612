//! Activations of the MLP, with the bias in the same pass.

use crate::kernels::{Threads, for_rows, for_rows2, wide_fn};
use crate::{Activation, Real};

/// A function of one value. A type, so that a loop over it is compiled for it alone.
pub(crate) trait Act {
    fn apply<T: Real>(x: T) -> T;
}

struct GeluErf;
struct GeluTanh;
struct Relu;
struct Silu;

impl Act for GeluErf {
    #[inline(always)]
    fn apply<T: Real>(x: T) -> T {
        T::of(0.5) * x * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
    }
}

impl Act for GeluTanh {
    #[inline(always)]
    fn apply<T: Real>(x: T) -> T {
        // (1 + tanh u) / 2 = 1 / (1 + e^-2u), with u = sqrt(2 / pi) (x + 0.044715 x^3).
        let inner = T::of(-1.595_769_121_605_730_8) * (x * x * x).fused(T::of(0.044715), x);
        x / (T::ONE + inner.exp())
    }
}

impl Act for Relu {
    #[inline(always)]
    fn apply<T: Real>(x: T) -> T {
        T::ZERO.larger(x)
    }
}

impl Act for Silu {
    #[inline(always)]
    fn apply<T: Real>(x: T) -> T {
        x / (T::ONE + (-x).exp())
    }
}

impl Activation {
    /// Of one value.
    pub fn apply<T: Real>(self, x: T) -> T {
        match self {
            Activation::GeluErf => GeluErf::apply(x),
            Activation::GeluTanh => GeluTanh::apply(x),
            Activation::Relu => Relu::apply(x),
            Activation::Silu => Silu::apply(x),
        }
    }
}

/// `hidden := act(hidden + bias)`, rows of `width`.
pub(crate) fn activate<T: Real>(
    hidden: &mut [T],
    width: usize,
    bias: Option<&[T]>,
    act: Activation,
    threads: Threads,
) {
    let row: fn(&mut [T], Option<&[T]>) = match act {
        Activation::GeluErf => plain::<T, GeluErf>,
        Activation::GeluTanh => plain::<T, GeluTanh>,
        Activation::Relu => plain::<T, Relu>,
        Activation::Silu => plain::<T, Silu>,
    };
    for_rows(hidden, width, threads, |_, hidden| row(hidden, bias));
}

/// One row of a gated MLP: up, gate, and their biases.
type GatedRow<T> = fn(&mut [T], &mut [T], Option<&[T]>, Option<&[T]>);

/// `up := act(gate + gate_bias) * (up + up_bias)`, rows of `width`.
pub(crate) fn activate_gated<T: Real>(
    up: &mut [T],
    gate: &mut [T],
    width: usize,
    up_bias: Option<&[T]>,
    gate_bias: Option<&[T]>,
    act: Activation,
    threads: Threads,
) {
    let row: GatedRow<T> = match act {
        Activation::GeluErf => gated::<T, GeluErf>,
        Activation::GeluTanh => gated::<T, GeluTanh>,
        Activation::Relu => gated::<T, Relu>,
        Activation::Silu => gated::<T, Silu>,
    };
    for_rows2((up, width), (gate, width), threads, |_, up, gate| row(up, gate, up_bias, gate_bias));
}

wide_fn! {
fn plain<T, A: Act>(row: &mut [T], bias: Option<&[T]>) {
    if let Some(bias) = bias {
        for (value, &bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
    for value in row {
        *value = A::apply(*value);
    }
}
}

wide_fn! {
fn gated<T, A: Act>(up: &mut [T], gate: &mut [T], up_bias: Option<&[T]>, gate_bias: Option<&[T]>) {
    for (values, bias) in [(&mut *up, up_bias), (&mut *gate, gate_bias)] {
        if let Some(bias) = bias {
            for (value, &bias) in values.iter_mut().zip(bias) {
                *value += bias;
            }
        }
    }
    for (up, &gate) in up.iter_mut().zip(&*gate) {
        *up *= A::apply(gate);
    }
}
}
