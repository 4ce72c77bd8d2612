//! Our own kernel of matrix products, for processors with fused multiply-add and vectors of 256 bits.
//!
//! It is spelled out in vectors: of the same loop over arrays the compiler makes, in places, what is half as fast. And
//! it is sparing of instructions besides multiplications (states are packed, so that their addresses need none; four steps
//! are taken per turn of the loop): two threads that share a core share the instructions it takes in per cycle as well,
//! and there every one that is saved shows.

use std::arch::x86_64::*;
use std::cell::RefCell;

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
    /// Calls with this thread's room for [`pack`]; not from within.
    fn room<R>(with: impl FnOnce(&mut Vec<T>) -> R) -> R;
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
            fn room<R>(with: impl FnOnce(&mut Vec<$number>) -> R) -> R {
                thread_local! { static ROOM: RefCell<Vec<$number>> = const { RefCell::new(Vec::new()) } }
                ROOM.with_borrow_mut(with)
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

/// Outputs of a panel: two registers. With [`ROWS`] rows abreast, sums take twelve of the sixteen there are.
pub(crate) const fn high<T>() -> usize {
    2 * lanes::<T>()
}

/// Rows abreast.
const ROWS: usize = 6;
/// Steps along the inner index that one turn of the loop takes.
const STEPS: usize = 4;

/// States `x`, `[rows, k]`, as [`strip`] reads them: six rows after six rows, `[k, 6]`; the last may be fewer.
pub(crate) fn pack<T: Real>(packed: &mut Vec<T>, x: &[T], k: usize) {
    if packed.len() < x.len() {
        packed.resize(x.len(), T::ZERO);
    }
    for (x, packed) in x.chunks(ROWS * k).zip(packed.chunks_mut(ROWS * k)) {
        if x.len() == ROWS * k {
            let rows: [&[T]; ROWS] = std::array::from_fn(|row| &x[row * k..(row + 1) * k]);
            for (index, step) in packed.chunks_exact_mut(ROWS).enumerate() {
                (0..ROWS).for_each(|row| step[row] = rows[row][index]);
            }
        } else {
            let rows = x.len() / k;
            for (index, step) in packed.chunks_exact_mut(rows).take(k).enumerate() {
                (0..rows).for_each(|row| step[row] = x[row * k + index]);
            }
        }
    }
}

/// `y[row, ..] = x[row, ..] panel` for a panel `[k, high]`, each element added up in order within stretches of `depth`
/// and then stretch by stretch. `y` has a stride from row to row; `x` is packed.
///
/// # Safety
/// The processor has AVX2 and FMA. `[rows, k]` were packed, and `[rows, high]` are writable at `y`, where nobody else
/// looks meanwhile.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn strip<T: Real>(y: (*mut T, usize), x: &[T], rows: usize, panel: &[T], depth: usize) {
    let high = high::<T>();
    let k = panel.len() / high;
    for (stretch, panel) in panel.chunks(depth * high).enumerate() {
        let more = stretch > 0;
        // What comes next, of this panel or of the one after it, is fetched meanwhile.
        let next = panel.as_ptr().wrapping_add(panel.len());
        let lines = size_of_val(panel) / 64;
        let each = lines.div_ceil(rows.div_ceil(ROWS));
        for row in (0..rows).step_by(ROWS) {
            let from = row / ROWS * each;
            for line in from..lines.min(from + each) {
                let address = next.cast::<i8>().wrapping_add(64 * line);
                #[allow(unused_unsafe, reason = "older compilers want it")]
                // SAFETY: a hint, whatever lies there.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(address);
                }
            }
            // SAFETY: within the rows and the stretch.
            unsafe {
                let y = (y.0.add(row * y.1), y.1);
                let abreast = ROWS.min(rows - row);
                let x = x.as_ptr().add(row * k + stretch * depth * abreast);
                match abreast {
                    1 => tile::<T, 1>(y, x, panel, more),
                    2 => tile::<T, 2>(y, x, panel, more),
                    3 => tile::<T, 3>(y, x, panel, more),
                    4 => tile::<T, 4>(y, x, panel, more),
                    5 => tile::<T, 5>(y, x, panel, more),
                    _ => tile::<T, ROWS>(y, x, panel, more),
                }
            }
        }
    }
}

/// `N` rows of one stretch; with `more`, added to what `y` holds.
///
/// # Safety
/// As of [`strip`].
#[inline(always)]
unsafe fn tile<T: Real, const N: usize>(y: (*mut T, usize), x: *const T, panel: &[T], more: bool) {
    let high = high::<T>();
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[T::Vector::all(T::ZERO); 2]; N];
        let mut turns = panel.chunks_exact(STEPS * high);
        let mut x = x;
        for weights in &mut turns {
            for at in 0..STEPS {
                step(&mut sums, x.add(at * N), weights.as_ptr().add(at * high));
            }
            x = x.add(STEPS * N);
        }
        for weights in turns.remainder().chunks_exact(high) {
            step(&mut sums, x, weights.as_ptr());
            x = x.add(N);
        }
        for row in 0..N {
            for half in 0..2 {
                let place = y.0.add(row * y.1 + half * lanes::<T>());
                let sum = sums[row][half];
                (if more { T::Vector::load(place).plus(sum) } else { sum }).store(place);
            }
        }
    }
}

/// One step along the inner index.
///
/// # Safety
/// As of [`strip`].
#[inline(always)]
unsafe fn step<T: Real, const N: usize>(sums: &mut [[T::Vector; 2]; N], x: *const T, weights: *const T) {
    // SAFETY: as the caller promises.
    unsafe {
        let low = T::Vector::load(weights);
        let high = T::Vector::load(weights.add(lanes::<T>()));
        for row in 0..N {
            let value = T::Vector::all(*x.add(row));
            sums[row] = [low.fused(value, sums[row][0]), high.fused(value, sums[row][1])];
        }
    }
}
