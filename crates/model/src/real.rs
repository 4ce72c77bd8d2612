//! `Real`: the two number types a model computes in, f32 for runs and f64 for bounds and yardsticks.

#![expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

/// f32 or f64.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + MulAssign
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// A register of them, as products use it.
    #[cfg(target_arch = "x86_64")]
    type Vector: crate::strip::Vector<Self>;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// Name used in flags and metadata.
    const NAME: &'static str;
    /// Nearest value.
    fn of(value: f64) -> Self;
    /// Exact.
    fn f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// `self * a + b`, rounded once.
    fn fused(self, a: Self, b: Self) -> Self;
    /// e to the power of self; equal bits on every machine.
    fn exp(self) -> Self;
    /// Error function; equal bits on every machine.
    fn erf(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// The larger.
    fn larger(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

impl Real for f64 {
    #[cfg(target_arch = "x86_64")]
    type Vector = std::arch::x86_64::__m256d;
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    const NAME: &'static str = "f64";
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn fused(self, a: f64, b: f64) -> f64 {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        // The system's own differs between versions; this one is the same code everywhere.
        crate::real64::exp(self)
    }
    #[inline(always)]
    fn erf(self) -> f64 {
        crate::real64::erf(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
}

impl Real for f32 {
    #[cfg(target_arch = "x86_64")]
    type Vector = std::arch::x86_64::__m256;
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    const NAME: &'static str = "f32";
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn fused(self, a: f32, b: f32) -> f32 {
        self.mul_add(a, b)
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        exp(self)
    }
    #[inline(always)]
    fn erf(self) -> f32 {
        erf(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }
}

/// e^x by range reduction and a polynomial of degree 6; within 2 units in the last place, without branches,
/// so that loops over it become vector code.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.336_54, 88.722_83);
    let rounded = clamped.mul_add(LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    p = p.mul_add(r * r, r) + 1.0;
    // Times 2^n, by adding n to the exponent: the whole number stands in the last bits of the rounded sum, and all
    // others are shifted out.
    let value = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < -87.336_54 { 0.0 } else { value }
}

/// erf(x): Taylor below 1, beyond it one minus the complementary function's rational fit (relative error of
/// that fit below 1.2e-7). Without branches.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / 0.5_f32.mul_add(a, 1.0);
    let mut q = 0.170_872_77_f32;
    q = q.mul_add(t, -0.822_152_23);
    q = q.mul_add(t, 1.488_515_87);
    q = q.mul_add(t, -1.135_203_98);
    q = q.mul_add(t, 0.278_868_07);
    q = q.mul_add(t, -0.186_288_06);
    q = q.mul_add(t, 0.096_784_18);
    q = q.mul_add(t, 0.374_091_96);
    q = q.mul_add(t, 1.000_023_68);
    q = q.mul_add(t, -1.265_512_23);
    let large = 1.0 - t * exp((-a).mul_add(a, q));
    // |x| < 1: Taylor, whose first left-out term is below 1.5e-8 of the value.
    let s = x * x;
    let small = a * taylor_erf(s);
    (if a < 1.0 { small } else { large }).copysign(x)
}

/// `erf(a) / a` as a polynomial in `a * a` for `a < 1`.
#[inline(always)]
fn taylor_erf(s: f32) -> f32 {
    // 2/sqrt(pi) * (-1)^n / (n! (2n + 1)), n = 9 … 0.
    let mut p = -1.636_584_5e-7_f32;
    p = p.mul_add(s, 1.646_211_4e-6);
    p = p.mul_add(s, -1.492_565_0e-5);
    p = p.mul_add(s, 1.205_533_3e-4);
    p = p.mul_add(s, -8.548_327e-4);
    p = p.mul_add(s, 5.223_977_6e-3);
    p = p.mul_add(s, -2.686_617_1e-2);
    p = p.mul_add(s, 1.128_379_2e-1);
    p = p.mul_add(s, -3.761_263_9e-1);
    p.mul_add(s, std::f32::consts::FRAC_2_SQRT_PI)
}

#[cfg(test)]
mod tests {
    use super::Real;

    /// Largest difference between an f32 function and its f64 twin over a fine grid, in units of `scale`.
    fn worst(f: fn(f32) -> f32, truth: fn(f64) -> f64, low: f32, high: f32, relative: bool) -> (f64, f32) {
        (0..200_000)
            .map(|step| low + (high - low) * step as f32 / 200_000.0)
            .map(|x| {
                let (value, truth) = (f64::from(f(x)), truth(f64::from(x)));
                let scale = if relative { truth.abs().max(1e-30) } else { 1.0 };
                ((value - truth).abs() / scale, x)
            })
            .fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
    }

    #[test]
    fn single_precision_functions_are_close_to_double() {
        let exp = worst(Real::exp, Real::exp, -87.0, 88.0, true);
        assert!(exp.0 < 2.5e-7, "exp is {} off at {}", exp.0, exp.1);
        let erf = worst(Real::erf, Real::erf, -6.0, 6.0, false);
        assert!(erf.0 < 3e-7, "erf is {} off at {}", erf.0, erf.1);
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(0.0_f32), 1.0);
    }
}
