//! Spectral norms that are true upper bounds in floating point.
//!
//! A power iteration bounds the largest eigenvalue from *below*, so here it only proposes. What proves is a
//! Cholesky factorisation: if that of `mu I - S` runs to completion in floating point, then `mu I - S` is
//! positive semidefinite up to the factorisation's backward error, `gamma(n+1) / (1 - gamma(n+1))` times its
//! trace (Higham, *Accuracy and Stability of Numerical Algorithms*, theorem 10.5; the idea of using it as a
//! proof is Rump's, 2006). Hence `lambda_max(S) <= mu + that error + the error of S`. For a matrix `W`,
//! `S = W^T W` (or `W W^T`, the smaller), whose computed value is off by at most `gamma(m) |W|_F^2`.

use rote_model::Matrix;

use crate::linear::{UNIT, View, accumulate, dot, gamma, norm, product, view};

/// Upper bound on the largest eigenvalue of every symmetric matrix within `error` (spectral norm) of the
/// lower triangle of `matrix`, whose diagonal is not negative.
pub(crate) fn largest_eigenvalue(matrix: &Matrix<f64>, error: f64) -> f64 {
    let n = matrix.rows;
    let fallback = view(matrix).frobenius() * (1.0 + 4.0 * UNIT);
    let guess = power_iteration(matrix);
    if guess <= 0.0 || !fallback.is_finite() {
        return fallback + error;
    }
    let proven = |mu: f64| -> bool {
        let mut shifted: Vec<f64> = matrix.data.iter().map(|value| -value).collect();
        for i in 0..n {
            shifted[i * n + i] += mu;
        }
        cholesky(&mut shifted, n)
    };
    let (mut below, mut slack) = (0.0, 1e-9);
    while guess * (1.0 + slack) < fallback {
        if proven(guess * (1.0 + slack)) {
            // Where the iteration had not converged, the last step was a large one: halve it.
            while slack - below > NEAR {
                let middle = (below + slack) / 2.0;
                if proven(guess * (1.0 + middle)) { slack = middle } else { below = middle }
            }
            let mu = guess * (1.0 + slack);
            let factored = gamma(n + 1) / (1.0 - gamma(n + 1)) * (n as f64 * mu);
            return (mu + factored + 2.0 * UNIT * mu + error) * (1.0 + 4.0 * UNIT);
        }
        (below, slack) = (slack, slack * 10.0);
    }
    fallback + error
}

/// How near to the largest eigenvalue a bound comes, relatively, where that costs factorisations: half of it is left
/// in the norm.
const NEAR: f64 = 1e-6;

/// Upper bound on the spectral norm of every matrix within `error` (Frobenius) of `w`.
pub(crate) fn spectral_norm(w: View<'_>, error: f64) -> f64 {
    let (rows, cols) = w.shape();
    let w = if rows <= cols { w.transposed() } else { w };
    let gram = product(w.transposed(), w);
    let square = largest_eigenvalue(&gram, gamma(rows.max(cols)) * w.frobenius().powi(2));
    square.sqrt() * (1.0 + 2.0 * UNIT) + error
}

/// `L` (lower, `[p, p]`) with `L L^T >= W W^T` in the order of positive semidefinite matrices, so that
/// `|x L| >= |x W|` for every row `x`; larger by a relative `1e-13` of `|W|_F^2` only.
///
/// A shift by twice the error that the Gram matrix and its factorisation can have makes the order certain.
pub(crate) fn covering_factor(w: View<'_>) -> Matrix<f64> {
    let (p, length) = w.shape();
    let square = w.frobenius().powi(2);
    if square == 0.0 {
        return Matrix::new(p, p, vec![0.0; p * p]);
    }
    let gram = product(w, w.transposed());
    let mut shift = 2.0 * square * (gamma(length) + 2.0 * gamma(p + 3));
    loop {
        let mut factor = gram.data.clone();
        for i in 0..p {
            factor[i * p + i] += shift;
        }
        if cholesky(&mut factor, p) {
            for row in 0..p {
                factor[row * p + row + 1..(row + 1) * p].fill(0.0);
            }
            return Matrix::new(p, p, factor);
        }
        // Cannot happen by the theorem; a NaN must not loop for ever.
        if !shift.is_finite() {
            return Matrix::new(p, p, vec![f64::NAN; p * p]);
        }
        shift *= 16.0;
    }
}

/// Rayleigh quotient after a power iteration: close to the largest eigenvalue, from below.
fn power_iteration(matrix: &Matrix<f64>) -> f64 {
    let n = matrix.rows;
    // A fixed start with a share of every direction.
    let mut x: Vec<f64> = (0..n).map(|i| 1.0 + ((i * 7919 + 13) % 1009) as f64 / 1009.0).collect();
    let mut value = 0.0;
    for step in 0..200 {
        let length = norm(&x);
        if length == 0.0 || !length.is_finite() {
            return 0.0;
        }
        x.iter_mut().for_each(|x| *x /= length);
        let next: Vec<f64> = (0..n).map(|row| dot(matrix.row(row), &x)).collect();
        let quotient = dot(&next, &x);
        x = next;
        if step > 8 && (quotient - value).abs() <= 1e-11 * quotient {
            return quotient;
        }
        value = quotient;
    }
    value
}

/// Lower Cholesky factor in place, by blocks; the upper triangle is left as it falls. False where a pivot is
/// not positive.
fn cholesky(a: &mut [f64], n: usize) -> bool {
    const BLOCK: usize = 48;
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        for col in start..end {
            let pivot = a[col * n + col]
                - dot(&a[col * n + start..col * n + col], &a[col * n + start..col * n + col]);
            if pivot.is_nan() || pivot <= 0.0 {
                return false;
            }
            let pivot = pivot.sqrt();
            a[col * n + col] = pivot;
            for row in col + 1..n {
                let (upper, lower) = a.split_at_mut(row * n);
                let inner = dot(&upper[col * n + start..col * n + col], &lower[start..col]);
                lower[col] = (lower[col] - inner) / pivot;
            }
        }
        if end < n {
            let rest = n - end;
            let panel: Vec<f64> =
                (end..n).flat_map(|row| a[row * n + start..row * n + end].to_vec()).collect();
            let panel = Matrix::new(rest, end - start, panel);
            let corner = &mut a[end * n + end..];
            accumulate(corner, n, -1.0, view(&panel), view(&panel).transposed());
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: &mut u64) -> f64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*seed >> 11) as f64 / (1u64 << 53) as f64) * 2.0 - 1.0
    }

    fn random(rows: usize, cols: usize, seed: &mut u64) -> Matrix<f64> {
        Matrix::new(rows, cols, (0..rows * cols).map(|_| noise(seed)).collect())
    }

    /// A matrix whose norm is known: a reflection times a diagonal times a reflection.
    fn with_norm(n: usize, norm_is: f64, second: f64, seed: &mut u64) -> Matrix<f64> {
        let reflect = |m: &mut Matrix<f64>, v: &[f64], left: bool| {
            let square = dot(v, v);
            for i in 0..n {
                let line: Vec<f64> =
                    (0..n).map(|j| if left { m.data[j * n + i] } else { m.data[i * n + j] }).collect();
                let share = 2.0 * dot(&line, v) / square;
                for j in 0..n {
                    m.data[if left { j * n + i } else { i * n + j }] = line[j] - share * v[j];
                }
            }
        };
        let mut m = Matrix::new(n, n, vec![0.0; n * n]);
        for i in 0..n {
            m.data[i * n + i] = if i == 0 { norm_is } else { second * (1.0 - i as f64 / n as f64) };
        }
        for left in [true, false, true, false] {
            let v: Vec<f64> = (0..n).map(|_| noise(seed)).collect();
            reflect(&mut m, &v, left);
        }
        m
    }

    #[test]
    fn norms_are_above_and_close() {
        let mut seed = 5;
        for n in [1, 2, 7, 48, 49, 130] {
            for (scale, second) in [(1.0, 0.5), (1e-8, 0.999_999e-8), (1e8, 1e-8), (3.0, 3.0)] {
                let m = with_norm(n, scale, second, &mut seed);
                let bound = spectral_norm(view(&m), 0.0);
                assert!(bound >= scale * (1.0 - 1e-13), "{n} {scale}: {bound}");
                assert!(bound <= scale * (1.0 + 6e-7), "{n} {scale} {second}: {bound}");
            }
        }
        assert_eq!(spectral_norm(view(&Matrix::new(3, 2, vec![0.0; 6])), 0.0), 0.0);
    }

    #[test]
    fn a_covering_factor_is_never_shorter() {
        let mut seed = 9;
        for (p, d) in [(4, 16), (16, 16), (16, 8)] {
            let w = random(p, d, &mut seed);
            let cover = covering_factor(view(&w));
            for _ in 0..200 {
                let x = random(1, p, &mut seed);
                let exact = norm(&product(view(&x), view(&w)).data);
                let bound = norm(&product(view(&x), view(&cover)).data);
                assert!(
                    bound >= exact * (1.0 - 1e-14) && bound <= exact * (1.0 + 1e-6) + 1e-6,
                    "{exact} {bound}"
                );
            }
        }
    }
}
