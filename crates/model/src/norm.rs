//! LayerNorm and RMSNorm of one row, in two passes: one pass loses all digits where the mean is large.

use crate::kernels::{sum, wide_fn};
use crate::{Norm, NormKind};

wide_fn! {
/// `row := norm(x)`.
pub(crate) fn normalise<T>(row: &mut [T], x: &[T], kind: NormKind, eps: f64, norm: &Norm<T>) {
    let count = T::of(x.len() as f64);
    let mean = match kind {
        NormKind::Layer => sum(x, |value| value) / count,
        NormKind::Rms => T::ZERO,
    };
    let variance = sum(x, |value| (value - mean) * (value - mean)) / count;
    let scale = T::ONE / (variance + T::of(eps)).sqrt();
    match &norm.bias {
        Some(bias) => {
            for ((out, &value), (&gain, &bias)) in row.iter_mut().zip(x).zip(norm.gain.iter().zip(bias)) {
                *out = ((value - mean) * scale).fused(gain, bias);
            }
        }
        None => {
            for ((out, &value), &gain) in row.iter_mut().zip(x).zip(&norm.gain) {
                *out = (value - mean) * scale * gain;
            }
        }
    }
}
}
