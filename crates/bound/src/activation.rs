//! What an MLP's activation can do on an interval (lemma L4): by how much it moves, and how steeply.
//!
//! gelu (both forms) and silu are `act(x) = x/2 + E(x)` with `E` even and `|E(x)| <= |x|/2`. Hence
//! `act'(x) + act'(-x) = 1`; `act` falls up to one lowest point `x0` and rises after it; `act'` falls up to
//! `-x*`, rises up to `x*`, falls after. So extremes over an interval are at its ends or at these points.

use std::sync::OnceLock;

use rote_model::{Activation, Real};

/// Constants of one activation, rounded outwards.
struct Shape {
    /// Largest slope, and where it is.
    steepest: f64,
    steepest_at: f64,
    /// Where it is lowest, and its value there (a magnitude).
    lowest_at: f64,
    depth: f64,
}

const GELU_ERF: Shape = Shape {
    steepest: 1.128_904_145_3,
    steepest_at: std::f64::consts::SQRT_2,
    lowest_at: -0.751_791_524_694_3,
    depth: 0.169_971_207_5,
};
const GELU_TANH: Shape = Shape {
    steepest: 1.128_993_068_8,
    steepest_at: 1.418_504_008_8,
    lowest_at: -0.752_461_422_071_0,
    depth: 0.170_040_750_6,
};
const SILU: Shape = Shape {
    steepest: 1.099_839_320_3,
    steepest_at: 2.399_357_280_5,
    lowest_at: -1.278_464_542_761_1,
    depth: 0.278_464_542_8,
};
/// `sqrt(2/pi)`.
const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// What an activation does on `[a - b, a + b]`.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// `max |act(a + t) - act(a)|`.
    pub range: f64,
    /// `max |act'|`.
    pub slope: f64,
    /// `max |act' - 1/2|`.
    pub tilt: f64,
}

fn shape(act: Activation) -> Option<&'static Shape> {
    match act {
        Activation::GeluErf => Some(&GELU_ERF),
        Activation::GeluTanh => Some(&GELU_TANH),
        Activation::Silu => Some(&SILU),
        Activation::Relu => None,
    }
}

/// Where an activation is steepest, how steep, and by how much `x` is above `act(x)` at most.
pub(crate) struct Steepness {
    pub at: f64,
    pub slope: f64,
    pub depth: f64,
}

/// Of a smooth activation.
pub(crate) fn steepness(act: Activation) -> Option<Steepness> {
    let shape = shape(act)?;
    Some(Steepness { at: shape.steepest_at, slope: shape.steepest, depth: shape.depth })
}

/// Value and slope at `x`; ReLU's slope at 0 is 0.
pub fn evaluate(act: Activation, x: f64) -> (f64, f64) {
    match act {
        Activation::GeluErf => {
            let below = 0.5 * (1.0 + Real::erf(x * std::f64::consts::FRAC_1_SQRT_2));
            let density = 0.5 * ROOT_2_OVER_PI * Real::exp(-0.5 * x * x);
            // Far left the sum 1 + erf cancels; the slope is then below 1e-15 and the value too.
            (x * below, below + x * density)
        }
        Activation::GeluTanh => {
            let inner = ROOT_2_OVER_PI * (x + 0.044_715 * x * x * x);
            let t = libm::tanh(inner);
            let rate = ROOT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
            let steep = (1.0 - t) * (1.0 + t) * rate;
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * if steep == 0.0 { 0.0 } else { x * steep })
        }
        Activation::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        Activation::Silu => {
            let gate = 1.0 / (1.0 + Real::exp(-x));
            (x * gate, gate * (1.0 + if gate == 0.0 { 0.0 } else { x * (1.0 - gate) }))
        }
    }
}

/// `sup |act'|`.
pub fn lipschitz(act: Activation) -> f64 {
    shape(act).map_or(1.0, |shape| shape.steepest)
}

/// `sup |act(x)|` over `|x| <= reach`.
pub fn largest(act: Activation, reach: f64) -> f64 {
    evaluate(act, reach).0.max(shape(act).map_or(0.0, |shape| shape.depth)).min(reach)
}

/// What `act` does on `[a - b, a + b]`, given its value at `a`; rounded upwards.
#[cfg(test)]
fn interval(act: Activation, a: f64, value: f64, b: f64) -> Interval {
    let [range, slope, tilt] = Curve::of(act).intervals([a; LANES], [value; LANES], [b; LANES]);
    Interval { range: range[LANES - 1], slope: slope[LANES - 1], tilt: tilt[LANES - 1] }
}

/// An activation with its table.
pub(crate) struct Curve {
    shape: Option<&'static Shape>,
    /// The table reaches from `-end` to `end`.
    end: f64,
    table: &'static [(f64, f64)],
}

impl Curve {
    pub(crate) fn of(act: Activation) -> Curve {
        static TABLES: [OnceLock<Vec<(f64, f64)>>; 3] = [const { OnceLock::new() }; 3];
        let table: &[(f64, f64)] = match act {
            Activation::GeluErf => TABLES[0].get_or_init(|| table(act)),
            Activation::GeluTanh => TABLES[1].get_or_init(|| table(act)),
            Activation::Silu => TABLES[2].get_or_init(|| table(act)),
            Activation::Relu => &[],
        };
        Curve { shape: shape(act), end: table_end(act), table }
    }

    /// Value and slope at `x`, off by at most [`VALUE_ERROR`] and [`SLOPE_ERROR`].
    #[inline]
    pub(crate) fn near(&self, x: f64) -> (f64, f64) {
        let place = (x + self.end) * TABLE_STEPS;
        let at = place as usize;
        if place.is_nan() || place < 0.0 || at + 1 >= self.table.len() {
            return far(x);
        }
        cubic(place - at as f64, self.table[at], self.table[at + 1])
    }

    /// [`Curve::near`] of several; loads apart from arithmetic, so that this becomes vector code.
    #[inline(always)]
    fn near_all(&self, x: [f64; LANES]) -> ([f64; LANES], [f64; LANES]) {
        let last = self.table.len() as f64 - 2.0;
        let (mut place, mut start) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            place[lane] = (x[lane] + self.end) * TABLE_STEPS;
            let inside = if place[lane] > 0.0 { place[lane] } else { 0.0 };
            start[lane] = if inside < last { inside } else { last };
        }
        let (mut v0, mut s0, mut v1, mut s1) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let at = start[lane] as usize;
            ((v0[lane], s0[lane]), (v1[lane], s1[lane])) = (self.table[at], self.table[at + 1]);
            start[lane] = at as f64;
        }
        let (mut value, mut slope) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (v0, s0, v1, s1) = (v0[lane], s0[lane], v1[lane], s1[lane]);
            let (near_value, near_slope) = cubic(place[lane] - start[lane], (v0, s0), (v1, s1));
            let known = place[lane] >= 0.0 && place[lane] < last + 1.0;
            let (far_value, far_slope) = far(x[lane]);
            value[lane] = if known { near_value } else { far_value };
            slope[lane] = if known { near_slope } else { far_slope };
        }
        (value, slope)
    }

    /// What the activation does on intervals `[a - b, a + b]`, given its values at `a`: ranges, slopes and tilts as
    /// in [`Interval`], rounded upwards.
    #[inline(always)]
    pub(crate) fn intervals(
        &self,
        a: [f64; LANES],
        value: [f64; LANES],
        b: [f64; LANES],
    ) -> [[f64; LANES]; 3] {
        let (mut low, mut high) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            (low[lane], high[lane]) = (a[lane] - b[lane], a[lane] + b[lane]);
        }
        let [mut ranges, mut slopes, mut tilts] = [[0.0; LANES]; 3];
        let Some(shape) = self.shape else {
            for lane in 0..LANES {
                let (left, right) = (low[lane].max(0.0), high[lane].max(0.0));
                let slope = if high[lane] > 0.0 { 1.0 } else { 0.0 };
                ranges[lane] = (right - value[lane]).max(value[lane] - left).min(b[lane] * slope);
                (slopes[lane], tilts[lane]) = (slope, 0.5);
            }
            return [ranges, slopes, tilts];
        };
        let ((left, left_slope), (right, right_slope)) = (self.near_all(low), self.near_all(high));
        for lane in 0..LANES {
            let (low, high, value) = (low[lane], high[lane], value[lane]);
            let (left, right) = (left[lane], right[lane]);
            let (left_slope, right_slope) = (left_slope[lane], right_slope[lane]);
            let ends = larger((left - value).abs(), (right - value).abs());
            let lowest = low <= shape.lowest_at && shape.lowest_at <= high;
            let range = if lowest { larger(ends, value + shape.depth) } else { ends };
            let inside = |x: f64| low <= x + 1e-9 && x - 1e-9 <= high;
            let (up, down) = (inside(shape.steepest_at), inside(-shape.steepest_at));
            let slope = larger(left_slope.abs(), right_slope.abs());
            let slope = if down { larger(slope, shape.steepest - 1.0) } else { slope };
            let slope = if up { shape.steepest } else { slope };
            let tilt = larger((left_slope - 0.5).abs(), (right_slope - 0.5).abs());
            let tilt = if up || down { shape.steepest - 0.5 } else { tilt };
            // A difference of nearly equal values keeps few digits: add what it can have lost, then cap.
            let lost = VALUE_ERROR + 8.0 * f64::EPSILON * (value.abs() + left.abs() + right.abs());
            let bent = SLOPE_ERROR + 8.0 * f64::EPSILON * a[lane].abs();
            slopes[lane] = smaller(slope + bent, shape.steepest);
            tilts[lane] = smaller(tilt + bent, shape.steepest - 0.5);
            ranges[lane] = smaller(range + lost, slopes[lane] * b[lane]);
        }
        [ranges, slopes, tilts]
    }
}

/// Intervals that are looked at together.
pub(crate) const LANES: usize = 8;

#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

#[inline(always)]
fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// Beyond the table: x, or 0, up to 1e-15; of ReLU exactly, which has none.
#[inline(always)]
fn far(x: f64) -> (f64, f64) {
    if x > 0.0 { (x, 1.0) } else { (0.0 * x, 0.0) }
}

/// Hermite's cubic at `t` between two entries of the table.
#[inline(always)]
fn cubic(t: f64, (v0, s0): (f64, f64), (v1, s1): (f64, f64)) -> (f64, f64) {
    let (h, rest) = (1.0 / TABLE_STEPS, 1.0 - t);
    let value = v0 + t * t * (3.0 - 2.0 * t) * (v1 - v0) + h * t * rest * (rest * s0 - t * s1);
    let slope =
        rest * (1.0 - 3.0 * t) * s0 + t * (3.0 * t - 2.0) * s1 + 6.0 * t * rest * TABLE_STEPS * (v1 - v0);
    (value, slope)
}

/// Beyond it the activation is `x` or 0, and its slope 1 or 0, up to 1e-15.
fn table_end(act: Activation) -> f64 {
    match act {
        Activation::GeluErf | Activation::GeluTanh => 12.0,
        Activation::Silu => 40.0,
        Activation::Relu => 0.0,
    }
}

/// Steps of the table per unit.
const TABLE_STEPS: f64 = 128.0;
/// Hermite's cubic through values and slopes at both ends of a step `h` is off by at most `h^4/384` times the
/// largest fourth derivative, which is below 2 for all three; twice that, for rounding.
const VALUE_ERROR: f64 = 2.0 * 2.0 / (384.0 * TABLE_STEPS * TABLE_STEPS * TABLE_STEPS * TABLE_STEPS);
/// Its derivative is off by at most `sqrt(3)/216 h^3` times the same; twice that.
const SLOPE_ERROR: f64 = 2.0 * 2.0 * 0.008_018_8 / (TABLE_STEPS * TABLE_STEPS * TABLE_STEPS);

fn table(act: Activation) -> Vec<(f64, f64)> {
    let end = table_end(act);
    let steps = (2.0 * end * TABLE_STEPS) as usize;
    (0..=steps).map(|step| evaluate(act, step as f64 / TABLE_STEPS - end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 4] =
        [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu];

    #[test]
    fn slopes_are_derivatives() {
        for act in ALL {
            for step in -800..800 {
                let x = f64::from(step) / 100.0 + 0.003;
                let h = 1e-5;
                let slope = (evaluate(act, x + h).0 - evaluate(act, x - h).0) / (2.0 * h);
                assert!((slope - evaluate(act, x).1).abs() < 1e-8, "{act:?} at {x}");
            }
            assert!(evaluate(act, -1e3).0.abs() < 1e-12 && evaluate(act, 1e3).0 == 1e3, "{act:?}");
        }
    }

    #[test]
    fn intervals_hold_every_sample_and_are_nearly_reached() {
        for act in ALL {
            for a in (-60..60).map(|step| f64::from(step) / 9.7) {
                for b in [0.0, 1e-9, 1e-3, 0.3, 1.0, 4.0, 30.0] {
                    let (value, _) = evaluate(act, a);
                    let bound = interval(act, a, value, b);
                    let mut seen = Interval { range: 0.0, slope: 0.0, tilt: 0.0 };
                    for step in -600..=600 {
                        let (moved, slope) = evaluate(act, a + b * f64::from(step) / 600.0);
                        seen.range = seen.range.max((moved - value).abs());
                        seen.slope = seen.slope.max(slope.abs());
                        seen.tilt = seen.tilt.max((slope - 0.5).abs());
                    }
                    let place = format!("{act:?} [{a} ± {b}]: {bound:?} {seen:?}");
                    assert!(seen.range <= bound.range + 1e-14, "{place}");
                    assert!(seen.slope <= bound.slope + 1e-14, "{place}");
                    assert!(seen.tilt <= bound.tilt + 1e-14, "{place}");
                    assert!(bound.range <= seen.range * 1.01 + 2e-3 * b + 1e-12, "{place}");
                    assert!(bound.slope <= seen.slope + 0.01, "{place}");
                }
            }
        }
    }

    #[test]
    fn the_table_is_within_its_error() {
        for act in [Activation::GeluErf, Activation::GeluTanh, Activation::Silu] {
            let curve = Curve::of(act);
            let (mut value_error, mut slope_error) = (0.0_f64, 0.0_f64);
            for step in -900_000..900_000 {
                let x = f64::from(step) / 20_011.0;
                let ((value, slope), (near, near_slope)) = (evaluate(act, x), curve.near(x));
                value_error = value_error.max((value - near).abs());
                slope_error = slope_error.max((slope - near_slope).abs());
            }
            assert!(value_error <= VALUE_ERROR / 2.0 + 1e-15, "{act:?}: {value_error:e}");
            assert!(slope_error <= SLOPE_ERROR / 2.0, "{act:?}: {slope_error:e}");
            // The stated error is of the right size, so that the bound loses nothing by it.
            assert!(value_error > VALUE_ERROR / 20.0 && slope_error > SLOPE_ERROR / 20.0);
        }
    }

    /// The largest fourth derivative, by differences of the slope, against what the table takes.
    #[test]
    fn the_fourth_derivative_is_below_two() {
        for act in [Activation::GeluErf, Activation::GeluTanh, Activation::Silu] {
            let mut fourth = 0.0_f64;
            for step in -12_000..12_000 {
                let (x, h) = (f64::from(step) / 1000.0, 1e-3);
                let slope = |k: f64| evaluate(act, x + k * h).1;
                let four = slope(2.0) - 2.0 * slope(1.0) + 2.0 * slope(-1.0) - slope(-2.0);
                fourth = fourth.max((four / (2.0 * h * h * h)).abs());
            }
            assert!(fourth < 2.0 && fourth > 0.4, "{act:?}: {fourth}");
        }
    }

    #[test]
    fn constants_are_suprema() {
        for act in ALL {
            let mut steepest = 0.0_f64;
            for step in -200_000..200_000 {
                let (value, slope) = evaluate(act, f64::from(step) / 20_000.0);
                steepest = steepest.max(slope);
                assert!(value >= -largest(act, 1.0).max(0.3));
            }
            assert!(steepest <= lipschitz(act) && steepest > lipschitz(act) - 1e-8, "{act:?} {steepest}");
        }
    }
}
