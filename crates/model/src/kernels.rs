//! The arithmetic everything is made of, with one promise: a row's bits depend on that row alone.
//!
//! Matrix products come from the `gemm` crate, which adds up each element in order of the inner index within
//! a stretch of at most [`DEPTH`]; longer ones would be cut where the processor's caches say, so they are cut
//! here, at fixed places. Its special cases for one row or tiny outputs add up in another order; they are
//! avoided. The passes over rows keep sums in [`LANES`] fixed lanes. So the same numbers come out whatever the
//! number of rows, threads or (with fused multiply-add) the machine.

use gemm::Parallelism;
use rayon::prelude::*;

use crate::{Matrix, Real};

/// Lanes in which a row is summed.
pub(crate) const LANES: usize = 16;

/// Longest stretch of the inner index that one product adds up.
const DEPTH: usize = 512;

/// Elements below which a pass over rows stays on one thread.
const SMALL: usize = 1 << 14;

/// Where the work of a call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// On the calling thread: the others have work of their own.
    One,
    /// On all threads of the pool.
    All,
}

/// Declares a function whose body is compiled thrice: for any processor, and for fused multiply-add with 256-bit
/// and with 512-bit vectors, of which the widest that the processor has is taken. The bits are the same. Bodies
/// may only call what is `#[inline(always)]`: anything else would be compiled once, without.
macro_rules! wide_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$real:ident $(, $other:ident: $bound:path)*>(
        $($arg:ident: $kind:ty),* $(,)?
    ) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<$real: $crate::Real $(, $other: $bound)*>($($arg: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn body<$real: $crate::Real $(, $other: $bound)*>($($arg: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide<$real: $crate::Real $(, $other: $bound)*>($($arg: $kind),*) $(-> $result)? {
                    body::<$real $(, $other)*>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
                fn widest<$real: $crate::Real $(, $other: $bound)*>($($arg: $kind),*) $(-> $result)? {
                    body::<$real $(, $other)*>($($arg),*)
                }
                match $crate::kernels::vectors() {
                    // SAFETY: the processor has what each is compiled for.
                    $crate::kernels::Vectors::Bits512 => {
                        return unsafe { widest::<$real $(, $other)*>($($arg),*) };
                    }
                    $crate::kernels::Vectors::Bits256 => {
                        return unsafe { wide::<$real $(, $other)*>($($arg),*) };
                    }
                    $crate::kernels::Vectors::Any => {}
                }
            }
            body::<$real $(, $other)*>($($arg),*)
        }
    };
}
pub(crate) use wide_fn;

/// Vectors of a processor, as far as [`wide_fn`] makes a difference.
#[cfg(target_arch = "x86_64")]
pub(crate) enum Vectors {
    Any,
    Bits256,
    Bits512,
}

/// What this processor has.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn vectors() -> Vectors {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma")) {
        Vectors::Any
    } else if has!("avx512f") && has!("avx512dq") && has!("avx512vl") {
        Vectors::Bits512
    } else {
        Vectors::Bits256
    }
}

/// `y[m, n] = x[m, k] W[n, k]^T` for the rows `out` of `W`; rows of `x` and `y` are contiguous.
pub(crate) fn product<T: Real>(
    y: &mut [T],
    x: &[T],
    weight: &Matrix<T>,
    out: std::ops::Range<usize>,
    threads: Threads,
) {
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    let (k, n) = (weight.cols, out.len());
    let m = x.len() / k;
    assert_eq!(x.len(), m * k, "x is [m, k]");
    assert_eq!(y.len(), m * n, "y is [m, n]");
    let weight = &weight.data[out.start * k..out.end * k];
    if m == 0 || n == 0 {
        return;
    }
    if m == 1 || m * n <= 256 {
        // Laid out by columns and with a row to spare, the product is like any other.
        let padded = m.max(2);
        let mut columns = vec![T::ZERO; k * padded];
        for (row, values) in x.chunks_exact(k).enumerate() {
            values.iter().enumerate().for_each(|(column, &value)| columns[column * padded + row] = value);
        }
        let mut result = vec![T::ZERO; padded * n];
        multiply(&mut result, padded, &columns, (1, padded), weight, k, n, parallelism);
        y.copy_from_slice(&result[..m * n]);
    } else {
        multiply(y, m, x, (k, 1), weight, k, n, parallelism);
    }
}

/// `strides` are of a row and of a column of `x`.
#[expect(clippy::too_many_arguments, reason = "the shape of a matrix product")]
fn multiply<T: Real>(
    y: &mut [T],
    m: usize,
    x: &[T],
    strides: (usize, usize),
    weight: &[T],
    k: usize,
    n: usize,
    parallelism: Parallelism,
) {
    let pieces = k.div_ceil(DEPTH);
    let depth = k.div_ceil(pieces);
    for from in (0..k).step_by(depth) {
        let depth = depth.min(k - from);
        // SAFETY: `x` holds m rows and k columns at these strides, `weight` n rows of k, `y` m rows of n, as
        // the caller's lengths say; the three do not overlap, `y` being borrowed mutably.
        unsafe {
            gemm::gemm(
                m,
                n,
                depth,
                y.as_mut_ptr(),
                1,
                n as isize,
                from > 0,
                x.as_ptr().add(from * strides.1),
                strides.1 as isize,
                strides.0 as isize,
                weight.as_ptr().add(from),
                k as isize,
                1,
                T::ONE,
                T::ONE,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

/// Calls `each(index, row)` for the rows of width `width`.
pub(crate) fn for_rows<T: Real>(
    data: &mut [T],
    width: usize,
    threads: Threads,
    each: impl Fn(usize, &mut [T]) + Sync,
) {
    if threads == Threads::One || data.len() < SMALL {
        data.chunks_exact_mut(width).enumerate().for_each(|(index, row)| each(index, row));
    } else {
        let rows = (SMALL / 4 / width).max(1);
        data.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, data)| {
            data.chunks_exact_mut(width).enumerate().for_each(|(index, row)| each(chunk * rows + index, row));
        });
    }
}

/// The same over two buffers with as many rows.
pub(crate) fn for_rows2<T: Real>(
    a: (&mut [T], usize),
    b: (&mut [T], usize),
    threads: Threads,
    each: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) {
    let pairs = |first: usize, a_data: &mut [T], b_data: &mut [T]| {
        let pairs = a_data.chunks_exact_mut(a.1).zip(b_data.chunks_exact_mut(b.1));
        pairs.enumerate().for_each(|(index, (x, y))| each(first + index, x, y));
    };
    if threads == Threads::One || a.0.len() < SMALL {
        pairs(0, a.0, b.0);
    } else {
        let rows = (SMALL / 4 / a.1).max(1);
        let chunks = a.0.par_chunks_mut(rows * a.1).zip(b.0.par_chunks_mut(rows * b.1));
        chunks.enumerate().for_each(|(chunk, (x, y))| pairs(chunk * rows, x, y));
    }
}

wide_fn! {
    /// `sum := sum + add`.
    pub(crate) fn add<T>(sum: &mut [T], add: &[T]) {
        sum.iter_mut().zip(add).for_each(|(sum, &add)| *sum += add);
    }
}

/// Sum of `f(x)` over a row, in fixed lanes.
#[inline(always)]
pub(crate) fn sum<T: Real>(row: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += f(chunk[lane]);
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        lanes[lane] += f(value);
    }
    fold(lanes)
}

/// The lanes' sum, always in the same order.
#[inline(always)]
pub(crate) fn fold<T: Real>(lanes: [T; LANES]) -> T {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = lanes[lane + half];
            lanes[lane] += other;
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest value of a row.
#[inline(always)]
pub(crate) fn largest<T: Real>(row: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane].larger(chunk[lane]);
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        lanes[lane] = lanes[lane].larger(value);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = lanes[lane].larger(lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    /// The promise: one row's product has the same bits in any company and on any number of threads.
    #[test]
    fn a_rows_product_does_not_depend_on_its_company() {
        for (k, n) in [(3, 5), (16, 16), (48, 130), (513, 70), (1200, 96), (64, 2000), (2048, 512)] {
            let weight = Matrix::new(n, k, noise(n * k, 1));
            let x = noise(300 * k, 2);
            let mut all = vec![0.0; 300 * n];
            product(&mut all, &x, &weight, 0..n, Threads::All);
            for m in [1, 2, 3, 7, 15, 64, 65, 130] {
                let mut some = vec![0.0; m * n];
                product(&mut some, &x[5 * k..(5 + m) * k], &weight, 0..n, Threads::One);
                assert!(some == all[5 * n..(5 + m) * n], "k {k}, n {n}, {m} rows");
            }
            let mut columns = vec![0.0; 300 * (n - n / 2)];
            product(&mut columns, &x, &weight, n / 2..n, Threads::All);
            for row in 0..300 {
                let width = n - n / 2;
                assert!(
                    columns[row * width..(row + 1) * width] == all[row * n + n / 2..(row + 1) * n],
                    "k {k}, n {n}, right half of row {row}"
                );
            }
        }
    }

    #[test]
    fn a_product_is_the_sum_in_order() {
        let (k, n, m) = (700, 33, 40);
        let weight = Matrix::new(n, k, noise(n * k, 3));
        let x = noise(m * k, 4);
        let mut y = vec![0.0; m * n];
        product(&mut y, &x, &weight, 0..n, Threads::All);
        for row in 0..m {
            for column in 0..n {
                let truth: f64 =
                    (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(weight.data[column * k + i])).sum();
                assert!((f64::from(y[row * n + column]) - truth).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn sums_are_in_lanes() {
        let row = noise(1000, 5);
        let truth: f64 = row.iter().map(|&x| f64::from(x * x)).sum();
        assert!((f64::from(sum(&row, |x| x * x)) - truth).abs() < 1e-4);
        assert_eq!(largest(&row), row.iter().copied().fold(f32::MIN, f32::max));
    }
}
