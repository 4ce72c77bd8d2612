//! exp and erf in f64 without branches or calls, so that loops over them become vector code; equal bits on every
//! machine.

#![expect(clippy::excessive_precision, reason = "coefficients as they were fitted")]

/// e^x by range reduction and a polynomial; within 2 units in the last place.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    const LN2_HIGH: f64 = 6.931_471_803_691_238_164_90e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_700_02e-10;
    // Adding and taking away 1.5 * 2^52 rounds to the nearest integer.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LOWEST: f64 = -745.133_219_101_941_1;
    let clamped = x.clamp(LOWEST, 709.782_712_893_384);
    let rounded = clamped.mul_add(std::f64::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    // Taylor; |r| < 0.347, so the first term left out is below 1e-17.
    let mut p = 1.605_904_383_682_161_46e-10; // 1/13!
    p = r.mul_add(p, 2.087_675_698_786_809_90e-9);
    p = r.mul_add(p, 2.505_210_838_544_171_88e-8);
    p = r.mul_add(p, 2.755_731_922_398_589_07e-7);
    p = r.mul_add(p, 2.755_731_922_398_589_07e-6);
    p = r.mul_add(p, 2.480_158_730_158_730_16e-5);
    p = r.mul_add(p, 1.984_126_984_126_984_13e-4);
    p = r.mul_add(p, 1.388_888_888_888_888_89e-3);
    p = r.mul_add(p, 8.333_333_333_333_333_33e-3);
    p = r.mul_add(p, 4.166_666_666_666_666_67e-2);
    p = r.mul_add(p, 1.666_666_666_666_666_67e-1);
    p = r.mul_add(p, 0.5);
    p = (r * r).mul_add(p, r) + 1.0;
    // 2^n in two factors, so that neither leaves the range of normal numbers. The whole number stands in the last
    // bits of the rounded sum.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i64;
    let half = n >> 1;
    let power = |n: i64| f64::from_bits(((n + 1023) as u64) << 52);
    let value = p * power(half) * power(n - half);
    if x < LOWEST { 0.0 } else { value }
}

/// The error function, within 3e-16. Rational approximations: W. J. Cody, "Rational Chebyshev approximations for
/// the error function", Mathematics of Computation 23 (1969).
#[inline(always)]
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    // Beyond 6 it is 1 in f64.
    let y = if a > 6.0 { 6.0 } else { a };
    let mut top = 2.153_115_354_744_038_46e-8 * y;
    let mut bottom = y;
    const C: [f64; 8] = [
        5.641_884_969_886_700_89e-1,
        8.883_149_794_388_375_94,
        6.611_919_063_714_162_95e1,
        2.986_351_381_974_001_31e2,
        8.819_522_212_417_690_90e2,
        1.712_047_612_634_070_58e3,
        2.051_078_377_826_071_47e3,
        1.230_339_354_797_997_25e3,
    ];
    const D: [f64; 8] = [
        1.574_492_611_070_983_47e1,
        1.176_939_508_913_124_99e2,
        5.371_811_018_620_098_58e2,
        1.621_389_574_566_690_19e3,
        3.290_799_235_733_459_63e3,
        4.362_619_090_143_247_16e3,
        3.439_367_674_143_721_64e3,
        1.230_339_354_803_749_42e3,
    ];
    for term in 0..7 {
        top = (top + C[term]) * y;
        bottom = (bottom + D[term]) * y;
    }
    let large = 1.0 - exp(-y * y) * (top + C[7]) / (bottom + D[7]);

    let s = if a > 0.5 { 0.25 } else { a * a };
    let mut top = 1.857_777_061_846_031_53e-1 * s;
    let mut bottom = s;
    const A: [f64; 4] = [
        3.161_123_743_870_565_60,
        1.138_641_541_510_501_56e2,
        3.774_852_376_853_020_21e2,
        3.209_377_589_138_469_47e3,
    ];
    const B: [f64; 4] = [
        2.360_129_095_234_412_09e1,
        2.440_246_379_344_441_73e2,
        1.282_616_526_077_372_28e3,
        2.844_236_833_439_170_62e3,
    ];
    for term in 0..3 {
        top = (top + A[term]) * s;
        bottom = (bottom + B[term]) * s;
    }
    let small = a * (top + A[3]) / (bottom + B[3]);
    (if a < 0.468_75 { small } else { large }).copysign(x)
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_within_two_units() {
        let mut worst = 0.0_f64;
        for step in -1_480_000..1_419_000 {
            let x = f64::from(step) / 2003.0;
            let (own, exact) = (super::exp(x), libm::exp(x));
            if exact > 1e-300 {
                worst = worst.max((own / exact - 1.0).abs());
            } else {
                assert!((own - exact).abs() < 1e-310, "{x}: {own} {exact}");
            }
        }
        assert!(worst < 5e-16, "{worst:e}");
        assert_eq!([super::exp(0.0), super::exp(-1e9), super::exp(f64::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(super::exp(f64::NAN).is_nan() && super::exp(1e9) > 1e308);
    }

    #[test]
    fn erf_is_within_three_units_of_one() {
        let (mut worst, mut relative) = (0.0_f64, 0.0_f64);
        for step in -700_000..700_000 {
            let x = f64::from(step) / 100_003.0;
            let (own, exact) = (super::erf(x), libm::erf(x));
            worst = worst.max((own - exact).abs());
            if x != 0.0 {
                relative = relative.max((own / exact - 1.0).abs());
            }
        }
        assert!(worst < 3e-16, "{worst:e}");
        assert!(relative < 1e-15, "{relative:e}");
        assert_eq!([super::erf(0.0), super::erf(40.0), super::erf(f64::INFINITY)], [0.0, 1.0, 1.0]);
        assert!(super::erf(f64::NAN).is_nan());
    }
}
