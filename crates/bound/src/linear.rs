//! Dense products and norms, those in f64 with the error they can have made.
//!
//! `u = 2^-53` is the unit roundoff and `gamma(k) = k u / (1 - k u)` bounds the relative error of a sum of
//! `k` products in any order, with or without fused operations.

use rote_model::{Matrix, Real};

/// Unit roundoff of f64.
pub(crate) const UNIT: f64 = f64::EPSILON / 2.0;

/// Relative error of a sum of `k` products.
pub(crate) fn gamma(k: usize) -> f64 {
    let k = (k + 1) as f64 * UNIT;
    k / (1.0 - k)
}

/// A matrix as it lies in memory, perhaps transposed or cut.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T = f64> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

/// The whole of a matrix.
pub(crate) fn view<T>(matrix: &Matrix<T>) -> View<'_, T> {
    View { data: &matrix.data, rows: matrix.rows, cols: matrix.cols, row_step: matrix.cols, col_step: 1 }
}

impl<'a, T: Real> View<'a, T> {
    pub(crate) fn shape(self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    pub(crate) fn transposed(self) -> View<'a, T> {
        View { rows: self.cols, cols: self.rows, row_step: self.col_step, col_step: self.row_step, ..self }
    }

    /// Rows `first .. first + count`.
    pub(crate) fn rows(self, first: usize, count: usize) -> View<'a, T> {
        assert!(first + count <= self.rows, "rows inside the matrix");
        // An empty cut may begin at the very end.
        let data = &self.data[(first * self.row_step).min(self.data.len())..];
        View { data, rows: count, ..self }
    }

    /// Columns `first .. first + count`.
    pub(crate) fn cols(self, first: usize, count: usize) -> View<'a, T> {
        self.transposed().rows(first, count).transposed()
    }

    pub(crate) fn at(self, row: usize, col: usize) -> T {
        self.data[row * self.row_step + col * self.col_step]
    }

    pub(crate) fn to_matrix(self) -> Matrix<T> {
        let mut data = Vec::with_capacity(self.rows * self.cols);
        for row in 0..self.rows {
            match self.col_step {
                1 => data.extend_from_slice(&self.data[row * self.row_step..][..self.cols]),
                _ => data.extend((0..self.cols).map(|col| self.at(row, col))),
            }
        }
        Matrix::new(self.rows, self.cols, data)
    }
}

impl View<'_> {
    /// Frobenius norm, rounded upwards.
    pub(crate) fn frobenius(self) -> f64 {
        let sum: f64 =
            (0..self.rows).map(|row| (0..self.cols).map(|col| self.at(row, col).powi(2)).sum::<f64>()).sum();
        (sum * (1.0 + gamma(self.rows + self.cols + 2))).sqrt() * (1.0 + 2.0 * UNIT)
    }
}

/// `a b`.
pub(crate) fn product<T: Real>(a: View<'_, T>, b: View<'_, T>) -> Matrix<T> {
    assert_eq!(a.cols, b.rows, "inner lengths of a product");
    let mut out = Matrix::new(a.rows, b.cols, vec![T::ZERO; a.rows * b.cols]);
    let cols = out.cols;
    accumulate(&mut out.data, cols, T::ONE, a, b);
    out
}

/// `out += factor a b`, where `out` has rows `out_step` apart.
pub(crate) fn accumulate<T: Real>(out: &mut [T], out_step: usize, factor: T, a: View<'_, T>, b: View<'_, T>) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let inside = |v: View<'_, T>| (v.rows - 1) * v.row_step + (v.cols - 1) * v.col_step < v.data.len();
    assert!(
        k == b.rows && inside(a) && inside(b) && (m - 1) * out_step + n <= out.len(),
        "shapes of a product"
    );
    // SAFETY: the assertion above keeps every address the product touches inside the three slices, and
    // `out` is borrowed mutably, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_step as isize,
            true,
            a.data.as_ptr(),
            a.col_step as isize,
            a.row_step as isize,
            b.data.as_ptr(),
            b.col_step as isize,
            b.row_step as isize,
            T::ONE,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Frobenius error of a computed `a b`.
pub(crate) fn product_error(a: View<'_>, b: View<'_>) -> f64 {
    gamma(a.cols) * a.frobenius() * b.frobenius()
}

/// Inner product.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums of their own, so that the loop becomes vector code.
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    fold(sums) + rest
}

/// Pairs first: a chain of additions would take longer.
fn fold(sums: [f64; 8]) -> f64 {
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Euclidean norm.
pub(crate) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// `|a - b|`.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in a8.zip(b8) {
        for lane in 0..8 {
            sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
        }
    }
    (fold(sums) + rest).sqrt()
}

/// Norm of each row.
pub(crate) fn row_norms(matrix: &Matrix<f64>) -> Vec<f64> {
    (0..matrix.rows).map(|row| norm(matrix.row(row))).collect()
}
