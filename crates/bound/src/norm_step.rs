//! How far a norm's output moves when its input moves by at most `rho` (lemma L2).
//!
//! With `s(x) = sqrt(|xC|^2/d + eps)` and `u(x) = xC / s(x)`: put `z(x) = (xC, sqrt(d eps))`. Then
//! `|z| = sqrt(d) s` and `u` is the first part of `sqrt(d) z/|z|`. A ball of radius `rho` around `z` is seen
//! from the origin under the half-angle `asin(t)`, `t = rho/(sqrt(d) s)`, and two unit vectors at angle `th`
//! are `2 sin(th/2)` apart; so `|u(x + D) - u(x)| <= sqrt(d) chi(t)` with `chi(t) = 2 sin(asin(t)/2)`. From
//! `t = 1` on the direction may be any: `chi = 2`.

/// `2 sin(asin(t)/2)`, and 2 from `t = 1` on.
pub fn chord(t: f64) -> f64 {
    if t >= 1.0 {
        return 2.0;
    }
    // 1 - t^2 as a product keeps its digits near 1.
    t * (2.0 / (1.0 + ((1.0 - t) * (1.0 + t)).sqrt())).sqrt()
}

/// `r` with `|u(x~) - u(x)| <= r` for every `x~` within `rho` of `x`: `d` the width, `deviation = s(x)`,
/// `length = |u(x)|`.
pub fn norm_step(rho: f64, d: usize, deviation: f64, length: f64) -> f64 {
    let root = (d as f64).sqrt();
    (root * chord(rho / (root * deviation))).min(length + root)
}

/// Half-angle under which the ball of radius `rho` around `x` is seen, in radians; pi where it holds the
/// origin.
pub fn half_angle(rho: f64, d: usize, deviation: f64) -> f64 {
    let t = rho / ((d as f64).sqrt() * deviation);
    if t >= 1.0 { std::f64::consts::PI } else { t.asin() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equality case: without epsilon the point where a line from the origin touches the ball.
    #[test]
    fn the_tangent_point_attains_it() {
        let (d, rho) = (2, 0.6);
        let x = [1.0, 0.0];
        let deviation = (0.5_f64).sqrt();
        let touch = [1.0 - rho * rho, rho * (1.0 - rho * rho as f64).sqrt()];
        assert!(((touch[0] - x[0]).hypot(touch[1]) - rho).abs() < 1e-15);
        let size = touch[0].hypot(touch[1]);
        let moved = 2.0_f64.sqrt() * (touch[0] / size - 1.0).hypot(touch[1] / size);
        let bound = norm_step(rho, d, deviation, 2.0_f64.sqrt());
        assert!((moved / bound - 1.0).abs() < 1e-12, "{moved} {bound}");
    }

    /// From `t = 1` on the direction may turn round: `-x` is at `t = 2`, and just beyond the origin at `t = 1`.
    #[test]
    fn the_opposite_state_attains_the_jump() {
        for t in [1.0 + 1e-9, 2.0] {
            let bound = norm_step(t, 4, 0.5, 2.0);
            assert!((bound - 4.0).abs() < 1e-9, "{bound}");
        }
    }

    #[test]
    fn chord_is_an_angle() {
        for t in [1e-12, 0.1, 0.5, 0.999] {
            let angle: f64 = f64::asin(t);
            assert!((chord(t) / (2.0 * (angle / 2.0).sin()) - 1.0).abs() < 1e-12);
        }
        assert_eq!(chord(0.0), 0.0);
        assert_eq!(chord(1.0), 2.0);
        assert!(chord(1.0 - 1e-12) < 2.0_f64.sqrt() + 1e-5);
    }
}
