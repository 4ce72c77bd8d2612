//! Attention of one row's new tokens over all it has read; the only place where weights are computed.
//!
//! Scores are summed over coordinates in order, values over keys in order, whatever the number of queries
//! that are computed together: a full pass, a chunk on a cache and a single step give the same bits.

use rayon::prelude::*;

use crate::kernels::{LANES, fold, largest, wide_fn};
use crate::state::KeysValues;
use crate::{Real, Spec};

/// Queries of one task.
const CHUNK: usize = 64;

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

/// Computes all tasks on all threads.
pub(crate) fn attend<T: Real>(spec: &Spec, tasks: Vec<Task<'_, T>>) {
    let width = spec.d_query();
    let pieces: Vec<_> = tasks.into_iter().flat_map(|task| task.pieces(width)).collect();
    pieces.into_par_iter().for_each_init(Vec::new, |scores, mut piece| {
        mix(&mut piece, spec, scores, &mut |_, _, _| {});
    });
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
            for query in 0..new {
                task.query(spec, head, query, scores, each);
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

    #[inline(always)]
    fn query(
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
        let low = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let vector = &self.queries[query * self.stride + head * d..][..d];
        // Whole lanes; beyond the query's own position weights are exactly 0.
        scores.clear();
        scores.resize((position + 1).next_multiple_of(LANES), T::NEG_INFINITY);

        let mut base = 0;
        for &(block, take) in &self.stretches {
            let count = take.min((position + 1).saturating_sub(base));
            let skip = low.saturating_sub(base).min(count);
            let row = &mut scores[base + skip..base + count];
            row.fill(T::ZERO);
            let keys = &block.keys[kv_head * d * block.capacity..(kv_head + 1) * d * block.capacity];
            add_up(row, vector, |coordinate| &keys[coordinate * block.capacity..][skip..count]);
            base += take;
        }
        softmax(scores, T::of(spec.score_scale));
        each(head, query, scores);

        let out = &mut self.out[query * spec.d_query() + head * d..][..d];
        out.fill(T::ZERO);
        let mut base = 0;
        for &(block, take) in &self.stretches {
            let count = take.min((position + 1).saturating_sub(base));
            let skip = low.saturating_sub(base).min(count);
            let values = &block.values;
            add_up(out, &scores[base + skip..base + count], |key| {
                &values[(skip + key) * spec.d_kv() + kv_head * d..][..d]
            });
            base += take;
        }
    }
}

/// `sum += weights[0] * row(0) + weights[1] * row(1) + …`, in this order for every element; four rows at a
/// time, so that the sums stay in registers meanwhile.
#[inline(always)]
fn add_up<'a, T: Real>(sum: &mut [T], weights: &[T], row: impl Fn(usize) -> &'a [T]) {
    let fours = weights.chunks_exact(4);
    let rest = fours.remainder();
    let done = weights.len() - rest.len();
    for (index, four) in fours.enumerate() {
        let (a, b) = (&row(4 * index)[..sum.len()], &row(4 * index + 1)[..sum.len()]);
        let (c, d) = (&row(4 * index + 2)[..sum.len()], &row(4 * index + 3)[..sum.len()]);
        for place in 0..sum.len() {
            let mut value = four[0].fused(a[place], sum[place]);
            value = four[1].fused(b[place], value);
            value = four[2].fused(c[place], value);
            sum[place] = four[3].fused(d[place], value);
        }
    }
    for (index, &weight) in rest.iter().enumerate() {
        let values = row(done + index);
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum = weight.fused(value, *sum);
        }
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
