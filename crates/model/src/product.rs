//! Matrix products with weights that were laid out for them once.
//!
//! Each element is added up in order of the inner index within a stretch of at most [`DEPTH`], and then stretch by
//! stretch. So a row's bits depend on that row alone, whatever the number of rows or threads, and whoever multiplies:
//!
//! - With vectors of 256 bits, our own kernel (`strip.rs`). It costs less where a stretch ends, copies nothing, and
//!   takes as few rows at a time as stay in the processor's second cache: a tenth faster.
//! - Else the `gemm` crate. It would cut longer stretches where the processor's caches say, so they are cut here; its
//!   special cases for one row or one column add up in another order, and are avoided. It copies a weight matrix into
//!   panels for every product, which costs a third of the time where rows are few; here the weights lie in panels from
//!   the start, for 512-bit kernels in the very ones that it would copy them into.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

use crate::aligned::Aligned;
use crate::kernels::{LANES, Threads, wide_fn};
#[cfg(target_arch = "x86_64")]
use crate::kernels::{Vectors, vectors};
#[cfg(target_arch = "x86_64")]
use crate::strip::{Vector, high, pack, strip};
use crate::{Matrix, Real};

/// Longest stretch of the inner index that is added up in one sum. In shorter ones less is rounded away; in stretches of
/// fewer than a hundred, what a kernel does before and after its loop takes a tenth of its time.
const DEPTH: usize = 128;
/// Rows that gemm's kernels and ours take at a time, or a multiple of it.
const KERNEL_ROWS: usize = 12;
/// Rows that are worth a thread.
const FEW_ROWS: usize = 32;

/// Who multiplies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Gemm,
    #[cfg(target_arch = "x86_64")]
    Own,
}

/// How a product is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    kernel: Kernel,
    /// Outputs of a panel: what the kernel takes at a time (gemm's of 512 bits 64 in f32 and twice 32 in f64), or a
    /// multiple of it.
    high: usize,
    /// Rows that meet all panels before the next do: few enough to stay near the processor meanwhile, and to let gemm
    /// leave panels where they are.
    near: usize,
    /// Panels that are worth a thread; packing states costs our kernel what one panel does.
    few: usize,
}

impl Cut {
    /// The distance from one column of a panel to the next, where so many outputs are left: the last panel is filled up
    /// to whole vectors.
    fn stride(self, outputs: usize) -> usize {
        outputs.min(self.high).next_multiple_of(LANES.min(self.high))
    }
}

/// How products are cut on this processor.
fn cut<T>() -> Cut {
    #[cfg(target_arch = "x86_64")]
    match vectors() {
        Vectors::Bits512 => {
            let near = 384;
            gemm::set_lhs_packing_threshold_single_thread(near / 6);
            return Cut { kernel: Kernel::Gemm, high: 64, near, few: 1 };
        }
        Vectors::Bits256 => return Cut { kernel: Kernel::Own, high: high::<T>(), near: 96, few: 8 },
        Vectors::Any => {}
    }
    Cut { kernel: Kernel::Gemm, high: 192, near: 384, few: 1 }
}

/// A weight matrix `[rows, cols]` (`[out, in]`), laid out for [`product`]: panel after panel of some rows, each column
/// after column. The last is filled up with zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels<T> {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    cut: Cut,
    data: Aligned<T>,
}

impl<T: Real> Panels<T> {
    /// From rows as they are stored.
    pub fn new(rows: usize, cols: usize, data: &[T]) -> Self {
        assert_eq!(data.len(), rows * cols, "a matrix has rows times columns values");
        Self::from_rows(rows, cols, |row| &data[row * cols..(row + 1) * cols])
    }

    /// Row after row as `row` gives them.
    pub fn from_rows<'a>(rows: usize, cols: usize, row: impl Fn(usize) -> &'a [T] + Sync) -> Self {
        let cut = cut::<T>();
        let high = cut.high;
        let stride = |panel: usize| cut.stride(rows - panel * high);
        let last = rows.div_ceil(high).saturating_sub(1);
        let mut data = Aligned::of(T::ZERO, (last * high + stride(last)) * cols);
        data.par_chunks_mut((high * cols).max(1)).enumerate().for_each(|(panel, out)| {
            let from = panel * high;
            let inside: Vec<_> = (from..rows.min(from + high)).map(&row).collect();
            for (col, out) in out.chunks_exact_mut(stride(panel)).enumerate() {
                out.iter_mut().zip(&inside).for_each(|(value, row)| *value = row[col]);
            }
        });
        Panels { rows, cols, cut, data }
    }

    /// One row.
    pub fn row(&self, row: usize) -> Vec<T> {
        let (panel, stride) = self.panel(row / self.cut.high);
        panel[row % self.cut.high..].iter().step_by(stride).copied().collect()
    }

    /// Row by row.
    pub fn to_matrix(&self) -> Matrix<T> {
        let data = (0..self.rows).flat_map(|row| self.row(row)).collect();
        Matrix::new(self.rows, self.cols, data)
    }

    /// These of its rows, in this order.
    pub fn select(&self, rows: &[usize]) -> Panels<T> {
        let matrix = self.to_matrix();
        Self::from_rows(rows.len(), self.cols, |row| matrix.row(rows[row]))
    }

    /// The product of one row and `x`, with the bits that [`product`] gives it where the processor multiplies and adds
    /// in one step.
    pub(crate) fn dot(&self, row: usize, x: &[T]) -> T {
        let (panel, stride) = self.panel(row / self.cut.high);
        element(x, &panel[row % self.cut.high..], stride)
    }

    /// The product of one row and `x`, added up in f64.
    pub(crate) fn dot_f64(&self, row: usize, x: &[T]) -> f64 {
        let (panel, stride) = self.panel(row / self.cut.high);
        let weights = panel[row % self.cut.high..].iter().step_by(stride);
        weights.zip(x).map(|(weight, x)| weight.f64() * x.f64()).sum()
    }

    /// Values of a panel and the distance from one column to the next.
    fn panel(&self, panel: usize) -> (&[T], usize) {
        let from = panel * self.cut.high;
        let stride = self.cut.stride(self.rows - from);
        (&self.data[from * self.cols..(from + stride) * self.cols], stride)
    }
}

impl<T: Real> From<&Matrix<T>> for Panels<T> {
    fn from(matrix: &Matrix<T>) -> Self {
        Self::new(matrix.rows, matrix.cols, &matrix.data)
    }
}

wide_fn! {
/// One element of [`product`], in its own order: of a state and one row of weights, whose values are `stride` apart.
fn element<T>(x: &[T], weights: &[T], stride: usize) -> T {
    let depth = depth(x.len());
    let mut sum = T::ZERO;
    for (stretch, x) in x.chunks(depth).enumerate() {
        let mut part = T::ZERO;
        for (index, &x) in x.iter().enumerate() {
            part = weights[(stretch * depth + index) * stride].fused(x, part);
        }
        sum = if stretch == 0 { part } else { sum + part };
    }
    sum
}
}

/// `y[m, n] = x[m, k] W[n, k]^T` for the rows `out` of `W`; rows of `x` and `y` are contiguous.
pub(crate) fn product<T: Real>(
    y: &mut [T],
    x: &[T],
    weight: &Panels<T>,
    out: Range<usize>,
    threads: Threads,
) {
    let (k, n) = (weight.cols, out.len());
    let m = x.len() / k;
    assert_eq!(x.len(), m * k, "x is [m, k]");
    assert_eq!(y.len(), m * n, "y is [m, n]");
    assert!(out.end <= weight.rows, "the weight has these rows");
    if m == 0 || n == 0 {
        return;
    }
    if m == 1 && weight.cut.kernel == Kernel::Gemm {
        // With a row to spare, and laid out by columns, the product is like any other.
        let mut columns = vec![T::ZERO; 2 * k];
        columns.iter_mut().step_by(2).zip(x).for_each(|(column, &value)| *column = value);
        let stride = n.max(2);
        let mut result = vec![T::ZERO; 2 * stride];
        whole(&mut result, stride, 2, (&columns, 1, 2), weight, out, threads);
        y.copy_from_slice(&result[..n]);
    } else {
        whole(y, n, m, (x, k, 1), weight, out, threads);
    }
}

/// `x` comes with the strides of a row and of a column. Where it lies by columns, which gemm alone can read, `y_stride`
/// must be above 1: gemm would take both for vectors.
fn whole<T: Real>(
    y: &mut [T],
    y_stride: usize,
    m: usize,
    x: (&[T], usize, usize),
    weight: &Panels<T>,
    out: Range<usize>,
    threads: Threads,
) {
    let Cut { kernel, high, near, few } = weight.cut;
    let panels = out.start / high..out.end.div_ceil(high);
    let y = Shared(y.as_mut_ptr());
    let piece = |panels: Range<usize>, rows: Range<usize>| {
        let shares = panels.map(|panel| {
            let (values, stride) = weight.panel(panel);
            let until = out.end.min((panel + 1) * high);
            (values, stride, out.start.max(panel * high)..until, panel * high)
        });
        let y = &y;
        match kernel {
            Kernel::Gemm => shares.for_each(|(values, stride, out_here, first)| {
                let shape = (out_here.len(), rows.len(), weight.cols);
                // SAFETY: `y` is [m, n] at its stride and `x` [m, k] at its strides by the callers' checks, `rows` are
                // below m; the panel holds its rows at `stride`; pieces write to different places of `y`.
                unsafe {
                    let y = y.0.add(rows.start * y_stride + out_here.start - out.start);
                    let x = (x.0.as_ptr().add(rows.start * x.1), x.1, x.2);
                    multiply(y, y_stride, shape, x, (values.as_ptr().add(out_here.start - first), stride));
                }
            }),
            #[cfg(target_arch = "x86_64")]
            Kernel::Own => T::Vector::room(|packed| {
                pack(packed, &x.0[rows.start * x.1..rows.end * x.1], x.1);
                shares.for_each(|(values, _, out_here, first)| {
                    // SAFETY: as above; the rows are packed, and this kernel was chosen for a processor that has it.
                    unsafe {
                        let y = y.0.add(rows.start * y_stride + out_here.start - out.start);
                        let within = out_here.start - first..out_here.end - first;
                        multiply_here((y, y_stride), within, packed, rows.len(), values);
                    }
                });
            }),
        }
    };
    // As many pieces as keep all threads busy, of many panels rather than of many rows.
    let wanted = match threads {
        Threads::One => 1,
        Threads::All => 4 * rayon::current_num_threads(),
    };
    let least = m.div_ceil(near);
    let parts = wanted.div_ceil(least).min(panels.len().div_ceil(few));
    let cuts = wanted.div_ceil(parts).min(m / FEW_ROWS).max(least);
    let many = m.div_ceil(cuts).next_multiple_of(KERNEL_ROWS);
    let cuts = m.div_ceil(many);
    let one = |index: usize| {
        let (from, part) = (index / parts * many, index % parts);
        let at = |part: usize| panels.start + part * panels.len() / parts;
        piece(at(part)..at(part + 1), from..m.min(from + many));
    };
    match threads {
        Threads::One => (0..parts * cuts).for_each(one),
        Threads::All => (0..parts * cuts).into_par_iter().with_max_len(1).for_each(one),
    }
}

/// Length of the stretches that an inner index of `k` is cut into.
#[inline(always)]
fn depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH))
}

/// Where pieces of a product are written, each to its own places.
struct Shared<T>(*mut T);

// SAFETY: see `whole`, which alone uses it.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Our own kernel's share: the outputs `out` of one panel. `y` has a stride from row to row; `x` is packed.
///
/// # Safety
/// All that lies within these shapes is readable, and writable in `y`, where nobody else looks meanwhile. The processor
/// has what [`strip`] asks for.
#[cfg(target_arch = "x86_64")]
unsafe fn multiply_here<T: Real>(y: (*mut T, usize), out: Range<usize>, x: &[T], rows: usize, panel: &[T]) {
    let high = high::<T>();
    let depth = depth(panel.len() / high);
    if out == (0..high) {
        // SAFETY: as the caller promises.
        return unsafe { strip(y, x, rows, panel, depth) };
    }
    // The kernel writes whole panels.
    let mut whole = vec![T::ZERO; rows * high];
    // SAFETY: as the caller promises, and `whole` has the rows.
    unsafe { strip((whole.as_mut_ptr(), high), x, rows, panel, depth) };
    for (row, whole) in whole.chunks_exact(high).enumerate() {
        // SAFETY: as the caller promises.
        let y = unsafe { std::slice::from_raw_parts_mut(y.0.add(row * y.1), out.len()) };
        y.copy_from_slice(&whole[out.clone()]);
    }
}

/// The `gemm` crate's share. `shape`: outputs, rows, inner index. `y` has a stride from row to row, `x` one of rows and
/// one of columns, `weight` one of columns.
///
/// # Safety
/// All that lies within these shapes is readable, and writable in `y`, where nobody else looks meanwhile.
unsafe fn multiply<T: Real>(
    y: *mut T,
    y_stride: usize,
    shape: (usize, usize, usize),
    x: (*const T, usize, usize),
    weight: (*const T, usize),
) {
    let (outputs, rows, k) = shape;
    let depth = depth(k);
    for from in (0..k).step_by(depth) {
        // SAFETY: as the caller promises.
        unsafe {
            gemm::gemm(
                outputs,
                rows,
                depth.min(k - from),
                y,
                y_stride as isize,
                1,
                from > 0,
                weight.0.add(from * weight.1),
                weight.1 as isize,
                1,
                x.0.add(from * x.2),
                x.1 as isize,
                x.2 as isize,
                T::ONE,
                T::ONE,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::noise;

    /// The promise: one row's product has the same bits in any company and on any number of threads.
    #[test]
    fn a_rows_product_does_not_depend_on_its_company() {
        let shapes =
            [(3, 5), (16, 16), (48, 130), (7, 1), (513, 70), (1200, 96), (64, 2000), (2048, 512), (40, 193)];
        for (k, n) in shapes {
            let weight = Panels::new(n, k, &noise(n * k, 1));
            let x = noise(300 * k, 2);
            let mut all = vec![0.0; 300 * n];
            product(&mut all, &x, &weight, 0..n, Threads::All);
            for m in [1, 2, 3, 7, 15, 64, 65, 130] {
                let mut some = vec![0.0; m * n];
                product(&mut some, &x[5 * k..(5 + m) * k], &weight, 0..n, Threads::One);
                assert!(some == all[5 * n..(5 + m) * n], "k {k}, n {n}, {m} rows");
            }
            for out in [n / 2..n, n / 3..n / 3 + 1, n - 1..n] {
                for m in [1, 2, 300] {
                    let mut columns = vec![0.0; m * out.len()];
                    product(&mut columns, &x[..m * k], &weight, out.clone(), Threads::All);
                    for (row, columns) in columns.chunks_exact(out.len()).enumerate() {
                        let whole = &all[row * n + out.start..row * n + out.end];
                        assert!(columns == whole, "k {k}, n {n}, {m} rows, outputs {out:?} of row {row}");
                    }
                }
            }
        }
    }

    /// As far as the processor multiplies and adds in one step.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn one_element_has_the_bits_of_the_product() {
        if !is_x86_feature_detected!("fma") {
            return;
        }
        for (k, n) in [(1, 3), (5, 16), (130, 200), (513, 70), (2000, 40)] {
            let weight = Panels::new(n, k, &noise(n * k, 1));
            let x = noise(4 * k, 2);
            let mut y = vec![0.0; 4 * n];
            product(&mut y, &x, &weight, 0..n, Threads::One);
            for (index, value) in y.into_iter().enumerate() {
                assert!(weight.dot(index % n, &x[index / n * k..][..k]) == value, "k {k}, n {n}");
            }
        }
    }

    #[test]
    fn a_product_is_the_sum_in_order() {
        let (k, n, m) = (700, 33, 40);
        let weights = noise(n * k, 3);
        let weight = Panels::new(n, k, &weights);
        let x = noise(m * k, 4);
        let mut y = vec![0.0; m * n];
        product(&mut y, &x, &weight, 0..n, Threads::All);
        for row in 0..m {
            for column in 0..n {
                let truth: f64 =
                    (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(weights[column * k + i])).sum();
                assert!((f64::from(y[row * n + column]) - truth).abs() < 1e-4);
                assert!((weight.dot_f64(column, &x[row * k..(row + 1) * k]) - truth).abs() < 1e-12);
            }
        }
    }

    /// What [`DEPTH`] is for: over long sums of one sign, a single sum would round away eight times as much.
    #[test]
    fn long_sums_are_not_rounded_away() {
        let (k, n, m) = (2048, 64, 16);
        let positive = |count, seed| noise(count, seed).iter().map(|value| value + 0.5).collect::<Vec<_>>();
        let (weights, x) = (positive(n * k, 6), positive(m * k, 7));
        let mut y = vec![0.0; m * n];
        product(&mut y, &x, &Panels::new(n, k, &weights), 0..n, Threads::One);
        let rms = |sum: &dyn Fn(usize, usize) -> f32| {
            let square = |row: usize, column: usize| {
                let products = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(weights[column * k + i]));
                (f64::from(sum(row, column)) - products.sum::<f64>()).powi(2)
            };
            let all = (0..m).flat_map(|row| (0..n).map(move |column| (row, column)));
            (all.map(|(row, column)| square(row, column)).sum::<f64>() / (m * n) as f64).sqrt()
        };
        let ours = rms(&|row, column| y[row * n + column]);
        let single = rms(&|row, column| {
            (0..k).fold(0.0, |sum, i| x[row * k + i].mul_add(weights[column * k + i], sum))
        });
        assert!(ours < single / 7.0, "{ours} is rounded away in stretches, {single} in one sum");
    }

    #[test]
    fn panels_give_back_their_rows() {
        for (rows, cols) in [(1, 1), (191, 3), (192, 5), (193, 20), (400, 7)] {
            let data = noise(rows * cols, 5);
            assert_eq!(Panels::new(rows, cols, &data).to_matrix().data, data);
        }
    }
}
