//! Weighted sums of rows, several abreast: the inner loop of attention, for scores (weights are a query's coordinates,
//! rows the keys') and for values alike.

use crate::Real;
use crate::kernels::LANES;
#[cfg(target_arch = "x86_64")]
use crate::kernels::{Vectors, vectors};

/// How many sums are added up together, and how many elements of each stay in registers meanwhile.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Abreast {
    /// 8 sums of 32 elements, then 4; then, as with all, one alone of 64.
    Eight,
    /// 8 sums of 16 elements.
    EightNarrow,
    /// 6 sums of 16 elements, then 3.
    Six,
    /// 3 sums of 16 elements.
    Three,
}

impl Abreast {
    /// What fits into the registers: 32 of 512 bits, 16 of 256.
    #[inline(always)]
    pub(crate) fn of<T>() -> Self {
        #[cfg(target_arch = "x86_64")]
        let wide = matches!(vectors(), Vectors::Bits512);
        #[cfg(not(target_arch = "x86_64"))]
        let wide = false;
        match (wide, size_of::<T>()) {
            (true, 4) => Abreast::Eight,
            (true, _) => Abreast::EightNarrow,
            (false, 4) => Abreast::Six,
            (false, _) => Abreast::Three,
        }
    }
}

/// Calls `$each` for the sums numbered `$chunk`, `Q` of them abreast from `query` on and `W` elements wide.
macro_rules! abreast {
    ($chunk:expr, $real:ty, |$query:ident, $q:ident, $w:ident| $each:expr) => {
        let Range { start: mut $query, end } = $chunk;
        let most = Abreast::of::<$real>();
        abreast!(@ most == Abreast::Eight, 8, 2 * LANES, end, $query, $q, $w, $each);
        abreast!(@ most == Abreast::EightNarrow, 8, LANES, end, $query, $q, $w, $each);
        abreast!(@ most == Abreast::Eight, 4, 2 * LANES, end, $query, $q, $w, $each);
        abreast!(@ most == Abreast::Six, 6, LANES, end, $query, $q, $w, $each);
        abreast!(@ matches!(most, Abreast::Six | Abreast::Three), 3, LANES, end, $query, $q, $w, $each);
        // One sum alone waits for each addition: more of it side by side.
        abreast!(@ true, 1, 4 * LANES, end, $query, $q, $w, $each);
    };
    (@ $when:expr, $count:literal, $width:expr, $end:ident, $query:ident, $q:ident, $w:ident, $each:expr) => {
        while $when && $end - $query >= $count {
            const $q: usize = $count;
            const $w: usize = $width;
            $each;
            $query += $count;
        }
    };
}
pub(crate) use abreast;

/// Rows that begin `stride` after one another.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) stride: usize,
}

/// Rows in panels of `panel` elements, which begin `hop` after one another; within a panel rows begin `stride` after one
/// another.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) stride: usize,
    pub(crate) panel: usize,
    pub(crate) hop: usize,
}

impl<T> Rows<'_, T> {
    #[inline(always)]
    fn place(&self, index: usize, place: usize) -> usize {
        index * self.stride + place / self.panel * self.hop + place % self.panel
    }
}

/// For each of `Q` sums, `width` wide and `stride` apart: `sum := sum + w[i] * row i + …` for `i` in its span, in this
/// order for every element; `weights` holds a row of `w` for each sum. A fresh sum begins with zero. `W` elements of each
/// stay in registers.
#[inline(always)]
pub(crate) fn add_up<T: Real, const Q: usize, const W: usize>(
    sums: &mut [T],
    stride: usize,
    width: usize,
    weights: Strided<'_, T>,
    spans: &[(usize, usize); Q],
    rows: Rows<'_, T>,
    fresh: bool,
) {
    let mut end = 0;
    for span in spans {
        end = end.max(span.1);
    }
    assert!(end > 0 && width > 0 && rows.panel.is_multiple_of(W));
    assert!(sums.len() >= (Q - 1) * stride + width, "room for the sums");
    assert!(weights.data.len() >= (Q - 1) * weights.stride + end, "weights for each sum");
    assert!(rows.data.len() > rows.place(end - 1, width - 1), "as many rows");
    let mut from = 0;
    // SAFETY: every element that a tile touches lies within what was just checked, and within a panel.
    unsafe {
        while from + W <= width {
            tile::<T, Q, W>(sums, stride, weights, spans, rows, from, fresh);
            from += W;
        }
        if W > 2 * LANES && from + 2 * LANES <= width {
            tile::<T, Q, { 2 * LANES }>(sums, stride, weights, spans, rows, from, fresh);
            from += 2 * LANES;
        }
        if W > LANES && from + LANES <= width {
            tile::<T, Q, LANES>(sums, stride, weights, spans, rows, from, fresh);
            from += LANES;
        }
    }
    for q in 0..Q {
        for place in from..width {
            let sum = &mut sums[q * stride + place];
            if fresh {
                *sum = T::ZERO;
            }
            for index in spans[q].0..spans[q].1 {
                *sum =
                    weights.data[q * weights.stride + index].fused(rows.data[rows.place(index, place)], *sum);
            }
        }
    }
}

/// [`add_up`] for `W` elements from `from` on, which stay in registers meanwhile. (Each of the sums has a name: in an
/// array the compiler would keep them in memory.)
///
/// # Safety
/// `from + W` is at most the width that [`add_up`] has checked, and these elements lie in one panel.
#[inline(always)]
unsafe fn tile<T: Real, const Q: usize, const W: usize>(
    sums: &mut [T],
    stride: usize,
    weights: Strided<'_, T>,
    spans: &[(usize, usize); Q],
    rows: Rows<'_, T>,
    from: usize,
    fresh: bool,
) {
    const { assert!(Q <= 8) };
    let start = rows.place(0, from);
    // SAFETY: rows and weights are within what the caller has checked.
    let row =
        |index: usize| unsafe { &*rows.data.as_ptr().add(start + index * rows.stride).cast::<[T; W]>() };
    let weight = |q: usize, index: usize| unsafe { *weights.data.get_unchecked(q * weights.stride + index) };
    let held = |sums: &[T], q: usize| {
        let mut held = [T::ZERO; W];
        if !fresh && q < Q {
            held.copy_from_slice(&sums[q * stride + from..][..W]);
        }
        held
    };
    let (mut a, mut b, mut c, mut d) = (held(sums, 0), held(sums, 1), held(sums, 2), held(sums, 3));
    let (mut e, mut f, mut g, mut h) = (held(sums, 4), held(sums, 5), held(sums, 6), held(sums, 7));
    macro_rules! each {
        (|$q:ident, $held:ident| $body:expr) => {
            each!(@ $q $held $body; 0 a 1 b 2 c 3 d 4 e 5 f 6 g 7 h)
        };
        (@ $q:ident $held:ident $body:expr; $($number:literal $name:ident)*) => {
            $(if $number < Q {
                let ($q, $held) = ($number, &mut $name);
                $body;
            })*
        };
    }
    // First what only some sums take, then what all take, then what only some take.
    let (mut low, mut low_all, mut end_all, mut end) = (usize::MAX, 0, usize::MAX, 0);
    for span in spans {
        (low, low_all) = (low.min(span.0), low_all.max(span.0));
        (end_all, end) = (end_all.min(span.1), end.max(span.1));
    }
    low_all = low_all.min(end);
    end_all = end_all.max(low_all);
    for index in low..low_all {
        each!(|q, sum| if spans[q].0 <= index && index < spans[q].1 {
            more(sum, weight(q, index), row(index));
        });
    }
    for index in low_all..end_all {
        each!(|q, sum| more(sum, weight(q, index), row(index)));
    }
    for index in end_all..end {
        each!(|q, sum| if spans[q].0 <= index && index < spans[q].1 {
            more(sum, weight(q, index), row(index));
        });
    }
    each!(|q, sum| sums[q * stride + from..][..W].copy_from_slice(&*sum));
}

#[inline(always)]
fn more<T: Real, const W: usize>(sum: &mut [T; W], weight: T, row: &[T; W]) {
    for lane in 0..W {
        sum[lane] = weight.fused(row[lane], sum[lane]);
    }
}
