//! Closed forms: standard error of a mean, Wilson's interval of a share, Student's interval of a mean, the interval of
//! a difference from those of its parts; and the distributions that these and the bootstrap need.

/// The normal distribution's 97.5 % point.
pub const Z: f64 = 1.959_963_984_540_054;

/// What is left outside of an interval.
pub const LEVEL: f64 = 0.05;

/// Φ, the normal distribution.
pub fn normal(point: f64) -> f64 {
    0.5 * libm::erfc(-point / std::f64::consts::SQRT_2)
}

/// Φ⁻¹ of a share between 0 and 1.
pub fn normal_point(share: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if normal(middle) < share { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The mean of values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sample standard deviation (n − 1); none of fewer than two values.
pub fn deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The standard error of a mean, as lm-evaluation-harness computes it; none of fewer than two values.
pub fn mean_stderr(values: &[f64]) -> Option<f64> {
    Some(deviation(values)? / (values.len() as f64).sqrt())
}

/// Wilson's 95 % score interval of a share seen in `n` items.
pub fn wilson(share: f64, n: usize) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    let n = n as f64;
    let shrink = 1.0 + Z * Z / n;
    let center = (share + Z * Z / (2.0 * n)) / shrink;
    let half = Z / shrink * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // At the ends the interval reaches 0 and 1 exactly; rounding shall not move it inside.
    let low = if share == 0.0 { 0.0 } else { center - half };
    let high = if share == 1.0 { 1.0 } else { center + half };
    Some((low, high))
}

/// Student's 95 % interval of a mean with its standard error, over `n` items.
pub fn student(mean: f64, stderr: f64, n: usize) -> Option<(f64, f64)> {
    if n < 2 {
        return None;
    }
    let half = stderr * student_point((n - 1) as f64);
    Some((mean - half, mean + half))
}

/// The 97.5 % point of Student's distribution.
fn student_point(freedom: f64) -> f64 {
    let (mut low, mut high) = (Z, 13.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if student_level(middle, freedom) > LEVEL { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// P(|T| > t) of Student's distribution: I_x(freedom/2, 1/2) with x = freedom / (freedom + t²).
pub fn student_level(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// A number with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The interval of `new` − `old` from theirs and the correlation of the two: MOVER, of Zou and Donner, "Construction
/// of confidence limits about effect measures", Statistics in Medicine 27 (2008). From Wilson's intervals of two
/// shares of the same items it is Newcombe's (Statistics in Medicine 17 (1998) 2635, method 8). It takes over that
/// each reaches further on one side, as a perplexity's does.
pub fn difference(new: Estimate, old: Estimate, correlation: f64) -> (f64, f64) {
    let reach = |new: f64, old: f64| (new * new - 2.0 * correlation * new * old + old * old).max(0.0).sqrt();
    let value = new.value - old.value;
    (
        value - reach(new.value - new.low, old.high - old.value),
        value + reach(new.high - new.value, old.value - old.low),
    )
}

/// The correlation of two lists of deviations; 0 where one of them has none.
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let size = (dot(a, a) * dot(b, b)).sqrt();
    if size > 0.0 { (dot(a, b) / size).clamp(-1.0, 1.0) } else { 0.0 }
}

/// The regularised incomplete beta function, by its continued fraction.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (-x).ln_1p();
    // Lentz's method from the bottom-free side; `tiny` stands for 0 where a quotient would fail.
    let tiny = 1e-300;
    let guard = |value: f64| if value.abs() < tiny { tiny } else { value };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction - before).abs() <= 1e-16 * fraction.abs() {
            break;
        }
    }
    front.exp() * fraction / a
}

/// The `share` quantile of values, linear between neighbours; reorders them, as far as it must.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    let place = share * (values.len() - 1) as f64;
    let below = place.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    // Equal neighbours first: two infinities have no difference.
    if low == high { low } else { low + (place - below as f64) * (high - low) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    #[test]
    fn students_point_is_the_tables() {
        for (freedom, expected) in [
            (1.0, 12.706_204_736_174_7),
            (2.0, 4.302_652_729_749_46),
            (9.0, 2.262_157_162_798_2),
            (47.0, 2.011_740_513_729_77),
            (999.0, 1.962_341_461_133_45),
        ] {
            close(student_point(freedom), expected);
        }
    }

    #[test]
    fn wilson_is_the_textbooks() {
        let (low, high) = wilson(0.1, 50).unwrap();
        close(low, 0.043_475_764_931_890);
        close(high, 0.213_602_314_374_797);
        assert_eq!(wilson(0.0, 20).unwrap().0, 0.0);
        assert_eq!(wilson(1.0, 20).unwrap().1, 1.0);
        assert!(wilson(1.0, 20).unwrap().0 < 0.9);
        assert_eq!(wilson(0.0, 0), None);
    }

    #[test]
    fn normal_points_are_the_tables() {
        close(normal_point(0.975), Z);
        close(normal_point(0.001), -3.090_232_306_167_81);
        close(normal(normal_point(1e-7)) * 1e7, 1.0);
    }

    #[test]
    fn a_difference_of_independent_even_intervals_adds_squares() {
        let even = |value, half| Estimate { value, low: value - half, high: value + half };
        let (low, high) = difference(even(5.0, 3.0), even(1.0, 4.0), 0.0);
        close(low, -1.0);
        close(high, 9.0);
        // What moves together cancels.
        let (low, high) = difference(even(5.0, 3.0), even(1.0, 3.0), 1.0);
        close(low, 4.0);
        close(high, 4.0);
        close(correlation(&[1.0, -1.0], &[-2.0, 2.0]), -1.0);
        assert_eq!(correlation(&[0.0, 0.0], &[-2.0, 2.0]), 0.0);
    }

    #[test]
    fn one_value_has_no_error() {
        assert_eq!(mean_stderr(&[1.0]), None);
        close(mean_stderr(&[1.0, 0.0, 0.0, 1.0]).unwrap(), 0.288_675_134_594_81);
        assert_eq!(student(1.0, 0.0, 1), None);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        close(quantile(&mut [4.0, 1.0, 2.0], 1.0), 4.0);
        close(quantile(&mut [4.0, 1.0, 2.0], 0.75), 3.0);
        assert_eq!(quantile(&mut [f64::INFINITY, f64::INFINITY], 0.5), f64::INFINITY);
    }
}
