//! Plain loops under the fused operations: matrix products through `gemm`, and functions that the compiler can
//! turn into vector code, which the scalar `expf` and `erff` of a C library are not.

use gemm::Parallelism;

/// A matrix in somebody else's buffer: where it begins, and the distance between its rows and its columns.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> View<'a> {
    /// Rows one after another in `data`, `row` apart.
    pub fn new(data: &'a [f32], row: usize) -> Self {
        Self { data, row, column: 1 }
    }

    /// The same numbers with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { data: self.data, row: self.column, column: self.row }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// Whether a product replaces what is in its destination or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// The destination is overwritten.
    Replace,
    /// The product is added to the destination.
    Add,
}

/// `to [m, n] (+)= scale · a [m, k] · b [k, n]`; rows of `to` stand `row` apart.
#[expect(clippy::too_many_arguments, reason = "a matrix product has that many sizes")]
pub fn product(
    to: &mut [f32],
    row: usize,
    into: Into,
    (m, k, n): (usize, usize, usize),
    a: View<'_>,
    b: View<'_>,
    scale: f32,
    threads: usize,
) {
    assert!(a.holds(m, k) && b.holds(k, n), "product: an operand is smaller than [{m}, {k}] · [{k}, {n}]");
    assert!(
        m == 0 || n == 0 || (m - 1) * row + n <= to.len(),
        "product: the destination is smaller than [{m}, {n}]"
    );
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: the assertions above keep every element that `gemm` touches inside the three slices, and `to` is
    // borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            row as isize,
            into == Into::Add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// e to the power `x`, within two units in the last place for `x` from -87 to 88, clamped outside.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding this constant rounds to a whole number and leaves that number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts, so that the subtraction is exact
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let series = 1.0
        + rest
            * (1.0
                + rest
                    * (0.5
                        + rest
                            * (0.166_666_66
                                + rest
                                    * (0.041_665_796
                                        + rest
                                            * (0.008_333_452
                                                + rest * (0.001_398_2 + rest * 0.000_198_756_9))))));
    let power = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000));
    series * power
}

/// The two forms of GELU that the families use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// `x · Φ(x)` with the error function (`gelu`).
    Exact,
    /// The approximation through a hyperbolic tangent (`gelu_new`).
    Tanh,
}

const TANH_SCALE: f32 = 0.797_884_6; // sqrt(2 / π)
const TANH_CUBE: f32 = 0.044_715;

/// Share of `x` that passes (Φ(x) or its approximation), and its derivative.
#[inline(always)]
fn gate_exact(x: f32) -> (f32, f32) {
    // Abramowitz and Stegun 7.1.26, absolute error below 2e-7
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.231_641_88 * x.abs());
    let poly =
        t * (0.127_414_8 + t * (-0.142_248_37 + t * (0.710_706_9 + t * (-0.726_576_03 + t * 0.530_702_7))));
    let tail = poly * bell;
    let gate = if x >= 0.0 { 1.0 - tail } else { tail };
    (gate, 0.398_942_3 * bell)
}

#[inline(always)]
fn gate_tanh(x: f32) -> (f32, f32) {
    let inner = TANH_SCALE * (x + TANH_CUBE * x * x * x);
    let gate = 1.0 / (1.0 + exp(-2.0 * inner));
    let slope = TANH_SCALE * (1.0 + 3.0 * TANH_CUBE * x * x);
    (gate, 2.0 * slope * gate * (1.0 - gate))
}

/// GELU of every element.
pub fn gelu(kind: Gelu, x: &[f32]) -> Vec<f32> {
    match kind {
        Gelu::Exact => x.iter().map(|&x| x * gate_exact(x).0).collect(),
        Gelu::Tanh => x.iter().map(|&x| x * gate_tanh(x).0).collect(),
    }
}

/// The gradient of [`gelu`] at `x`, times `grad`.
pub fn gelu_backward(kind: Gelu, x: &[f32], grad: &[f32]) -> Vec<f32> {
    let each = x.iter().zip(grad);
    let through = |(gate, slope): (f32, f32), x: f32, grad: f32| grad * (gate + x * slope);
    match kind {
        Gelu::Exact => each.map(|(&x, &grad)| through(gate_exact(x), x, grad)).collect(),
        Gelu::Tanh => each.map(|(&x, &grad)| through(gate_tanh(x), x, grad)).collect(),
    }
}

/// Turns a row of scores into probabilities; those too small to count become 0.
///
/// Peaked attention makes very many of them, and arithmetic on numbers below the normal range is tens of times slower.
pub fn softmax(row: &mut [f32]) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in row.iter_mut() {
        *value = exp(*value - top);
    }
    let total: f32 = row.iter().sum();
    let share = 1.0 / total;
    for value in row {
        let probability = *value * share;
        *value = if probability < 1e-30 { 0.0 } else { probability };
    }
}

/// Sum of every column of `data [n, width]`.
pub fn column_sums(data: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    for row in data.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library() {
        for step in -870..880 {
            let x = step as f32 / 10.0;
            let error = (exp(x) as f64 / (x as f64).exp() - 1.0).abs();
            assert!(error < 4e-7, "exp({x}) is off by {error:e} of its value");
        }
    }

    #[test]
    fn gelu_agrees_with_finite_differences() {
        for kind in [Gelu::Exact, Gelu::Tanh] {
            for step in -50..50 {
                let x = step as f32 / 10.0 + 0.03;
                let near = gelu(kind, &[x - 0.01, x + 0.01]);
                let slope = gelu_backward(kind, &[x], &[1.0])[0];
                let error = ((near[1] - near[0]) / 0.02 - slope).abs();
                assert!(error < 2e-4, "{kind:?} at {x}: slope off by {error:e}");
            }
        }
        // 0.8413447 is the normal distribution at 1
        assert!((gelu(Gelu::Exact, &[1.0])[0] - 0.841_344_7).abs() < 1e-6);
        assert!((gelu(Gelu::Tanh, &[1.0])[0] - 0.841_192).abs() < 1e-6);
    }

    #[test]
    fn product_of_views() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
        let b = [1.0, 0.0, 2.0, 0.0, 1.0, 1.0]; // [2, 3], used as [3, 2]
        let mut to = [1.0; 4];
        product(&mut to, 2, Into::Add, (2, 3, 2), View::new(&a, 3), View::new(&b, 3).transposed(), 1.0, 1);
        assert_eq!(to, [8.0, 6.0, 17.0, 12.0]);
    }
}
