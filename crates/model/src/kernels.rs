//! The arithmetic everything is made of, with one promise: a row's bits depend on that row alone.
//!
//! The passes over rows keep sums in [`LANES`] fixed lanes; matrix products keep the promise in their own way (see
//! `product.rs`). So the same numbers come out whatever the number of rows, threads or (with fused multiply-add) the
//! machine.

use rayon::prelude::*;

use crate::Real;

/// Lanes in which a row is summed.
pub(crate) const LANES: usize = 16;

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
pub(crate) mod tests {
    use super::*;

    pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    #[test]
    fn sums_are_in_lanes() {
        let row = noise(1000, 5);
        let truth: f64 = row.iter().map(|&x| f64::from(x * x)).sum();
        assert!((f64::from(sum(&row, |x| x * x)) - truth).abs() < 1e-4);
        assert_eq!(largest(&row), row.iter().copied().fold(f32::MIN, f32::max));
    }
}
