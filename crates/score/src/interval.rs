//! Closed forms: standard error of a mean, Wilson's interval of a share, Student's interval of a mean.

/// The normal distribution's 97.5 % point.
pub const Z: f64 = 1.959_963_984_540_054;

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
    // P(|T| > t) = I_x(freedom/2, 1/2) with x = freedom / (freedom + t²), falling in t: halve the bracket.
    let outside = |t: f64| incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    let (mut low, mut high) = (Z, 13.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if outside(middle) > 0.05 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
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

/// The `share` quantile of sorted values, linear between neighbours.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let (low, high) = (sorted[below], sorted[above]);
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
    fn one_value_has_no_error() {
        assert_eq!(mean_stderr(&[1.0]), None);
        close(mean_stderr(&[1.0, 0.0, 0.0, 1.0]).unwrap(), 0.288_675_134_594_81);
        assert_eq!(student(1.0, 0.0, 1), None);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        close(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[f64::INFINITY, f64::INFINITY], 0.5), f64::INFINITY);
    }
}
