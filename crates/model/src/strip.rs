//! Our own kernel of matrix products, for processors with fused multiply-add and vectors of 256 bits.
//!
//! It is spelled out in vectors: of the same loop over arrays the compiler makes, in places, what is half as fast.

use std::arch::x86_64::*;

use crate::Real;

/// A register of 256 bits.
pub trait Vector<T>: Copy {
    /// Of one number.
    ///
    /// # Safety
    /// As all of these: the processor has AVX.
    unsafe fn all(value: T) -> Self;
    /// What begins at `from`.
    ///
    /// # Safety
    /// So much is readable there.
    unsafe fn load(from: *const T) -> Self;
    /// The reverse.
    ///
    /// # Safety
    /// So much is writable there.
    unsafe fn store(self, to: *mut T);
    /// `self + other`.
    ///
    /// # Safety
    /// The processor has AVX.
    unsafe fn plus(self, other: Self) -> Self;
    /// `self * factor + sum`, rounded once.
    ///
    /// # Safety
    /// The processor has FMA.
    unsafe fn fused(self, factor: Self, sum: Self) -> Self;
}

macro_rules! vector {
    ($number:ty, $vector:ty: $all:ident $load:ident $store:ident $plus:ident $fused:ident) => {
        // SAFETY: of each call, what the trait demands.
        impl Vector<$number> for $vector {
            #[inline(always)]
            unsafe fn all(value: $number) -> Self {
                unsafe { $all(value) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $number) -> Self {
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $number) {
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                unsafe { $plus(self, other) }
            }
            #[inline(always)]
            unsafe fn fused(self, factor: Self, sum: Self) -> Self {
                unsafe { $fused(self, factor, sum) }
            }
        }
    };
}
vector!(f32, __m256: _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_fmadd_ps);
vector!(f64, __m256d: _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_add_pd _mm256_fmadd_pd);

/// Elements of a register.
const fn lanes<T>() -> usize {
    32 / size_of::<T>()
}

/// Outputs of a panel: two registers. With six rows abreast, sums take twelve of the sixteen there are.
pub(crate) const fn high<T>() -> usize {
    2 * lanes::<T>()
}

/// `y[row, ..] = x[row, ..] panel` for a panel `[k, high]`, each element added up in order within stretches of `depth`
/// and then stretch by stretch. `y` and `x` have a stride from row to row.
///
/// # Safety
/// The processor has AVX2 and FMA. `[rows, k]` are readable at `x`, `[rows, high]` writable at `y`, where nobody else
/// looks meanwhile.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn strip<T: Real>(
    y: (*mut T, usize),
    x: (*const T, usize),
    rows: usize,
    panel: &[T],
    depth: usize,
) {
    let high = high::<T>();
    for (stretch, panel) in panel.chunks(depth * high).enumerate() {
        let more = stretch > 0;
        // SAFETY: within the rows and the stretch.
        unsafe {
            let from = |row: usize| ((y.0.add(row * y.1), y.1), (x.0.add(row * x.1 + stretch * depth), x.1));
            let whole = rows - rows % 6;
            for row in (0..whole).step_by(6) {
                let (y, x) = from(row);
                tile::<T, 6>(y, x, panel, more);
            }
            if whole < rows {
                let (y, x) = from(whole);
                match rows - whole {
                    1 => tile::<T, 1>(y, x, panel, more),
                    2 => tile::<T, 2>(y, x, panel, more),
                    3 => tile::<T, 3>(y, x, panel, more),
                    4 => tile::<T, 4>(y, x, panel, more),
                    _ => tile::<T, 5>(y, x, panel, more),
                }
            }
        }
    }
}

/// `ROWS` rows of one stretch; with `more`, added to what `y` holds.
///
/// # Safety
/// As of [`strip`].
#[inline(always)]
unsafe fn tile<T: Real, const ROWS: usize>(
    y: (*mut T, usize),
    x: (*const T, usize),
    panel: &[T],
    more: bool,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[T::Vector::all(T::ZERO); 2]; ROWS];
        let (mut x, stride) = x;
        for weights in panel.chunks_exact(high::<T>()) {
            let low = T::Vector::load(weights.as_ptr());
            let high = T::Vector::load(weights.as_ptr().add(lanes::<T>()));
            for row in 0..ROWS {
                let value = T::Vector::all(*x.add(row * stride));
                sums[row] = [low.fused(value, sums[row][0]), high.fused(value, sums[row][1])];
            }
            x = x.add(1);
        }
        for row in 0..ROWS {
            for half in 0..2 {
                let place = y.0.add(row * y.1 + half * lanes::<T>());
                let sum = sums[row][half];
                (if more { T::Vector::load(place).plus(sum) } else { sum }).store(place);
            }
        }
    }
}
