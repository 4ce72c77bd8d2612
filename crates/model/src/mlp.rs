//! The MLP of a block for a group of rows; its activations, with the bias in the same pass.

use rote_plan::MlpChange;

use crate::forward::{Buffers, Row, Way, add_bias, runs, sized};
use crate::kernels::{Threads, for_rows, for_rows2, wide_fn};
use crate::product::product;
use crate::{Activation, MlpKind, Model, Real, Spec};

/// A row's output of an MLP, `[new, d_model]`. Where the residual is parallel, it does not depend on the same block's
/// attention: passes that differ there and not before have it in common. Elsewhere it is always computed anew.
#[derive(Debug, Default)]
pub enum MlpOut<'a, T> {
    /// Computed.
    #[default]
    New,
    /// Computed and kept here, as far as the block computes it.
    Keep(&'a mut [T]),
    /// Kept by a pass that left this MLP as it is and scored as many tokens.
    Kept(&'a [T]),
}

impl<T> MlpOut<'_, T> {
    /// Without the first so many values.
    pub(crate) fn skip(self, values: usize) -> Self {
        match self {
            MlpOut::New => MlpOut::New,
            MlpOut::Keep(out) => MlpOut::Keep(&mut out[values..]),
            MlpOut::Kept(out) => MlpOut::Kept(&out[values..]),
        }
    }
}

impl<T: Real> Model<T> {
    /// Where the residual is parallel: the MLP's output for all rows, of the block's input `x`, into `work.mlp`, unless
    /// it is known of all. `normed` is overwritten.
    pub(crate) fn mlp_beside(
        &self,
        index: usize,
        x: &[T],
        normed: &mut [T],
        rows: &mut [Row<'_, T>],
        way: &mut Way<'_, T>,
    ) {
        let known = rows.iter().all(|row| matches!(row.mlp_out, MlpOut::Kept(_)));
        if !known {
            self.norm_rows(normed, x, &self.weights.blocks[index].mlp_norm, way.threads);
            self.mlp(index, normed, rows, way);
        }
        let mut rest = sized(&mut way.work.mlp, x.len());
        for row in rows {
            let (out, after) = rest.split_at_mut(row.new * self.spec.d_model);
            rest = after;
            match &mut row.mlp_out {
                MlpOut::Keep(kept) => kept.copy_from_slice(out),
                MlpOut::Kept(_) if row.change[index].mlp == MlpChange::Zero => out.fill(T::ZERO),
                MlpOut::Kept(kept) if known => out.copy_from_slice(kept),
                MlpOut::Kept(_) | MlpOut::New => {}
            }
        }
    }

    /// The MLP's output for all rows, into `work.mlp`.
    pub(crate) fn mlp(&self, index: usize, input: &[T], rows: &[Row<'_, T>], way: &mut Way<'_, T>) {
        let Spec { d_model: d, d_mlp: m, .. } = self.spec;
        let block = &self.weights.blocks[index];
        let threads = way.threads;
        let Buffers { hidden, gate, mlp, .. } = &mut *way.work;
        let count = input.len() / d;
        let out = sized(mlp, input.len());
        if rows.iter().any(|row| row.change[index].mlp == MlpChange::None) {
            let hidden = sized(hidden, count * m);
            product(hidden, input, &block.up.weight, 0..m, threads);
            match (self.spec.mlp, &block.gate) {
                (MlpKind::Gated(act), Some(gate_weight)) => {
                    let gate = sized(gate, count * m);
                    product(gate, input, &gate_weight.weight, 0..m, threads);
                    let (up_bias, gate_bias) = (block.up.bias.as_deref(), gate_weight.bias.as_deref());
                    activate_gated(hidden, gate, m, up_bias, gate_bias, act, threads);
                }
                (MlpKind::Plain(act) | MlpKind::Gated(act), _) => {
                    activate(hidden, m, block.up.bias.as_deref(), act, threads);
                }
            }
            product(out, hidden, &block.down.weight, 0..d, threads);
            add_bias(out, &block.down, threads);
        }
        for (_, run) in runs(rows, |row| row.change[index].mlp).iter().filter(|(c, _)| *c == MlpChange::Zero)
        {
            out[run.tokens.start * d..run.tokens.end * d].fill(T::ZERO);
        }
    }
}

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
