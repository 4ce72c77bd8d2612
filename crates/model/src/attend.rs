//! Weighted values of one row's new tokens over all it has read; the only place where attention weights are
//! computed.
//!
//! Scores are summed over coordinates in order, values over keys in order, whatever the number of queries
//! that are computed together: a full pass, a chunk on a cache and a single step give the same bits.

use rayon::prelude::*;

use crate::kernels::{LANES, Threads, fold, largest, wide_fn};
use crate::state::KeysValues;
use crate::{Real, Spec};

/// Queries of one task.
const CHUNK: usize = 64;
/// Queries that go over the keys together.
const ABREAST: usize = 4;

/// Keys and values to attend to: stretches in order of position, and how many of each one's positions count.
pub(crate) type Stretches<'a, T> = Vec<(&'a KeysValues<T>, usize)>;

/// One row's share of an attention step.
pub(crate) struct Task<'a, T> {
    /// `[t, stride]`; the first `n_heads * d_head` of each row are the queries.
    pub(crate) queries: &'a [T],
    pub(crate) stride: usize,
    /// `[t, n_heads * d_head]`: weighted values, to be written.
    pub(crate) out: &'a mut [T],
    /// Position of the first query.
    pub(crate) first: usize,
    pub(crate) stretches: Stretches<'a, T>,
    pub(crate) window: Option<usize>,
}

/// Computes all tasks.
pub(crate) fn attend<T: Real>(spec: &Spec, tasks: Vec<Task<'_, T>>, threads: Threads) {
    match threads {
        Threads::One => {
            let mut scores = Vec::new();
            tasks.into_iter().for_each(|mut task| mix(&mut task, spec, &mut scores, &mut |_, _, _| {}));
        }
        Threads::All => {
            let width = spec.d_query();
            let pieces: Vec<_> = tasks.into_iter().flat_map(|task| task.pieces(width)).collect();
            pieces.into_par_iter().for_each_init(Vec::new, |scores, mut piece| {
                mix(&mut piece, spec, scores, &mut |_, _, _| {});
            });
        }
    }
}

/// Computes one task on this thread and returns its weights `[H, t, keys]` as well.
pub(crate) fn attend_with_weights<T: Real>(spec: &Spec, mut task: Task<'_, T>) -> Vec<T> {
    let new = task.out.len() / spec.d_query();
    let keys = task.first + new;
    let mut weights = vec![T::ZERO; spec.n_heads * new * keys];
    let mut scores = Vec::new();
    mix(&mut task, spec, &mut scores, &mut |head, query, row| {
        let at = (head * new + query) * keys;
        let len = row.len().min(keys);
        weights[at..at + len].copy_from_slice(&row[..len]);
    });
    weights
}

wide_fn! {
    /// Runs a task. `each(head, query, weights)` is shown the weights over positions from 0 on.
    fn mix<T>(
        task: &mut Task<'_, T>,
        spec: &Spec,
        scores: &mut Vec<T>,
        each: &mut dyn FnMut(usize, usize, &[T]),
    ) {
        let new = task.out.len() / spec.d_query();
        for head in 0..spec.n_heads {
            let mut query = 0;
            while query + ABREAST <= new {
                task.queries::<ABREAST>(spec, head, query, scores, each);
                query += ABREAST;
            }
            while query < new {
                task.queries::<1>(spec, head, query, scores, each);
                query += 1;
            }
        }
    }
}

impl<'a, T: Real> Task<'a, T> {
    fn pieces(self, width: usize) -> Vec<Task<'a, T>> {
        let Task { queries, stride, out, first, stretches, window } = self;
        queries
            .chunks(CHUNK * stride)
            .zip(out.chunks_mut(CHUNK * width))
            .enumerate()
            .map(|(index, (queries, out))| Task {
                queries,
                stride,
                out,
                first: first + index * CHUNK,
                stretches: stretches.clone(),
                window,
            })
            .collect()
    }

    /// `Q` queries from number `query` on, at one head.
    #[inline(always)]
    fn queries<const Q: usize>(
        &mut self,
        spec: &Spec,
        head: usize,
        query: usize,
        scores: &mut Vec<T>,
        each: &mut dyn FnMut(usize, usize, &[T]),
    ) {
        let d = spec.d_head;
        let kv_head = head / (spec.n_heads / spec.n_kv_heads);
        let position = self.first + query;
        // Positions that a query sees: from `low(index)` to its own.
        let end = |index: usize| position + index + 1;
        let low = |index: usize| self.window.map_or(0, |window| end(index).saturating_sub(window));
        // Whole lanes, and one to spare for the last stretch; positions that are not seen get weight 0.
        let stride = (position + Q).next_multiple_of(LANES) + LANES;
        scores.clear();
        scores.resize(Q * stride, T::NEG_INFINITY);

        let mut base = 0;
        for &(block, take) in &self.stretches {
            // Whole lanes of what the queries see together, some of it hidden from one or the other afterwards.
            let count = take.min((position + Q).saturating_sub(base));
            let skip = low(0).saturating_sub(base).min(count) / LANES * LANES;
            let width = count.next_multiple_of(LANES) - skip;
            if width == 0 {
                base += take;
                continue;
            }
            for row in scores.chunks_exact_mut(stride) {
                row[base + skip..base + skip + width].fill(T::ZERO);
            }
            let queries =
                Strided { data: &self.queries[query * self.stride + head * d..], stride: self.stride };
            let keys =
                Strided { data: &block.keys[kv_head * d * block.capacity + skip..], stride: block.capacity };
            add_up::<T, Q>(&mut scores[base + skip..], stride, width, queries, d, keys);
            base += take;
        }
        for (index, row) in scores.chunks_exact_mut(stride).enumerate() {
            let end = end(index);
            row[..low(index)].fill(T::NEG_INFINITY);
            row[end..].fill(T::NEG_INFINITY);
            softmax(&mut row[..end.next_multiple_of(LANES)], T::of(spec.score_scale));
            each(head, query + index, &row[..end]);
        }

        let width = spec.d_query();
        let out = &mut self.out[query * width + head * d..];
        out.chunks_mut(width).take(Q).for_each(|out| out[..d].fill(T::ZERO));
        let (all_from, all_to) = (low(Q - 1), end(0).max(low(Q - 1)));
        let mut base = 0;
        for &(block, take) in &self.stretches {
            let here = |position: usize| position.saturating_sub(base).min(take);
            let values = |from: usize| Strided {
                data: &block.values[(kv_head * block.capacity + from) * d..],
                stride: d,
            };
            let weights =
                |index: usize, from: usize| Strided { data: &scores[index * stride + base + from..], stride };
            // First what only the earlier queries see, then what all see, then what only the later ones see.
            for index in 0..Q {
                let (from, to) = (here(low(index)), here(end(index).min(all_from)));
                if from < to {
                    let out = &mut out[index * width..];
                    add_up::<T, 1>(out, width, d, weights(index, from), to - from, values(from));
                }
            }
            let (from, to) = (here(all_from), here(all_to));
            if from < to {
                add_up::<T, Q>(out, width, d, weights(0, from), to - from, values(from));
            }
            for index in 0..Q {
                let (from, to) = (here(low(index).max(all_to)), here(end(index)));
                if from < to {
                    let out = &mut out[index * width..];
                    add_up::<T, 1>(out, width, d, weights(index, from), to - from, values(from));
                }
            }
            base += take;
        }
    }
}

/// Rows that begin `stride` after one another.
#[derive(Clone, Copy)]
struct Strided<'a, T> {
    data: &'a [T],
    stride: usize,
}

/// For each of `Q` sums, `width` wide and `stride` apart: `sum := sum + w[0] * row 0 + w[1] * row 1 + …`, `count`
/// of them, in this order for every element; `weights` holds a row of `w` for each sum.
#[inline(always)]
fn add_up<T: Real, const Q: usize>(
    sums: &mut [T],
    stride: usize,
    width: usize,
    weights: Strided<'_, T>,
    count: usize,
    rows: Strided<'_, T>,
) {
    assert!(count > 0 && width > 0);
    assert!(sums.len() >= (Q - 1) * stride + width, "room for the sums");
    assert!(weights.data.len() >= (Q - 1) * weights.stride + count, "weights for each sum");
    assert!(rows.data.len() >= (count - 1) * rows.stride + width, "as many rows");
    let mut from = 0;
    // SAFETY: every element that a tile touches lies within what was just checked.
    unsafe {
        // One sum alone waits for each addition: more of it side by side.
        while Q == 1 && from + 4 * LANES <= width {
            tile::<T, Q, { 4 * LANES }>(sums, stride, weights, count, rows, from);
            from += 4 * LANES;
        }
        while from + 2 * LANES <= width {
            tile::<T, Q, { 2 * LANES }>(sums, stride, weights, count, rows, from);
            from += 2 * LANES;
        }
        if from + LANES <= width {
            tile::<T, Q, LANES>(sums, stride, weights, count, rows, from);
            from += LANES;
        }
    }
    for q in 0..Q {
        for place in from..width {
            let sum = &mut sums[q * stride + place];
            for index in 0..count {
                *sum = weights.data[q * weights.stride + index]
                    .fused(rows.data[index * rows.stride + place], *sum);
            }
        }
    }
}

/// [`add_up`] for `W` elements from `from` on, which stay in registers meanwhile. (Each of the sums has a name: in
/// an array the compiler would keep them in memory.)
///
/// # Safety
/// `from + W` is at most the width that [`add_up`] has checked.
#[inline(always)]
unsafe fn tile<T: Real, const Q: usize, const W: usize>(
    sums: &mut [T],
    stride: usize,
    weights: Strided<'_, T>,
    count: usize,
    rows: Strided<'_, T>,
    from: usize,
) {
    const { assert!(Q == 1 || Q == ABREAST && ABREAST == 4) };
    // SAFETY: rows and weights are within what the caller has checked.
    let row = |index: usize| unsafe { &*rows.data.as_ptr().add(index * rows.stride + from).cast::<[T; W]>() };
    let weight = |q: usize, index: usize| unsafe { *weights.data.get_unchecked(q * weights.stride + index) };
    let held = |sums: &[T], q: usize| {
        let mut held = [T::ZERO; W];
        held.copy_from_slice(&sums[q * stride + from..][..W]);
        held
    };
    let mut a = held(sums, 0);
    if Q == 1 {
        for index in 0..count {
            more(&mut a, weight(0, index), row(index));
        }
    } else {
        let (mut b, mut c, mut d) = (held(sums, 1), held(sums, 2), held(sums, 3));
        for index in 0..count {
            let row = row(index);
            more(&mut a, weight(0, index), row);
            more(&mut b, weight(1, index), row);
            more(&mut c, weight(2, index), row);
            more(&mut d, weight(3, index), row);
        }
        for (q, held) in [(1, b), (2, c), (3, d)] {
            sums[q * stride + from..][..W].copy_from_slice(&held);
        }
    }
    sums[from..][..W].copy_from_slice(&a);
}

#[inline(always)]
fn more<T: Real, const W: usize>(sum: &mut [T; W], weight: T, row: &[T; W]) {
    for lane in 0..W {
        sum[lane] = weight.fused(row[lane], sum[lane]);
    }
}

/// `row := softmax(scale * row)`; minus infinity is a weight of exactly 0, so a longer row of them changes
/// nothing.
#[inline(always)]
fn softmax<T: Real>(row: &mut [T], scale: T) {
    row.iter_mut().for_each(|score| *score *= scale);
    let max = largest(row);
    row.iter_mut().for_each(|score| *score = (*score - max).exp());
    let mut lanes = [T::ZERO; LANES];
    for chunk in row.chunks_exact(LANES) {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    let inverse = T::ONE / fold(lanes);
    row.iter_mut().for_each(|weight| *weight *= inverse);
}
