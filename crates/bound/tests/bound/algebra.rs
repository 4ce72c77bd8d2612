//! Vectors of vectors, loops, eigenvalues by Jacobi rotations, textbook activations.

use rote_model::Activation;

pub type Rows = Vec<Vec<f64>>;

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

pub fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

pub fn times(a: &Rows, b: &Rows) -> Rows {
    a.iter()
        .map(|row| (0..b[0].len()).map(|c| (0..b.len()).map(|k| row[k] * b[k][c]).sum()).collect())
        .collect()
}

pub fn transposed(a: &Rows) -> Rows {
    (0..a[0].len()).map(|c| a.iter().map(|row| row[c]).collect()).collect()
}

/// Spectral norm by cyclic Jacobi rotations of the Gram matrix.
pub fn spectral(a: &Rows) -> f64 {
    largest_eigenvalue(times(a, &transposed(a))).max(0.0).sqrt()
}

pub fn largest_eigenvalue(mut s: Rows) -> f64 {
    let n = s.len();
    for _ in 0..60 {
        let total: f64 = s.iter().flatten().map(|x| x * x).sum();
        let diagonal: f64 = (0..n).map(|i| s[i][i] * s[i][i]).sum();
        if total - diagonal <= 1e-28 * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if s[p][q].abs() < 1e-300 {
                    continue;
                }
                let theta = (s[q][q] - s[p][p]) / (2.0 * s[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let (c, sn) = (1.0 / (t * t + 1.0).sqrt(), t / (t * t + 1.0).sqrt());
                for k in 0..n {
                    let (a, b) = (s[k][p], s[k][q]);
                    (s[k][p], s[k][q]) = (c * a - sn * b, sn * a + c * b);
                }
                for k in 0..n {
                    let (a, b) = (s[p][k], s[q][k]);
                    (s[p][k], s[q][k]) = (c * a - sn * b, sn * a + c * b);
                }
            }
        }
    }
    (0..n).map(|i| s[i][i]).fold(f64::NEG_INFINITY, f64::max)
}

pub fn activation(act: Activation, x: f64) -> f64 {
    match act {
        Activation::GeluErf => 0.5 * x * libm::erfc(-x / 2f64.sqrt()),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}
