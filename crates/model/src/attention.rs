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
/// Queries computed together, so that each key is loaded once for all of them.
const GROUP: usize = 4;

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
        let mut query = 0;
        while query + GROUP <= new {
            task.group::<GROUP>(spec, head, query, scores, each);
            query += GROUP;
        }
        while query < new {
            task.group::<1>(spec, head, query, scores, each);
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

    #[inline(always)]
    fn group<const N: usize>(
        &mut self,
        spec: &Spec,
        head: usize,
        query: usize,
        scores: &mut Vec<T>,
        each: &mut dyn FnMut(usize, usize, &[T]),
    ) {
        let d = spec.d_head;
        let kv_head = head / (spec.n_heads / spec.n_kv_heads);
        let last = self.first + query + N - 1;
        let padded = (last + 1).next_multiple_of(LANES);
        let low = |position: usize| self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let lowest = low(self.first + query);
        scores.clear();
        scores.resize(N * padded, T::NEG_INFINITY);

        let mut base = 0;
        for &(block, take) in &self.stretches {
            let count = take.min((last + 1).saturating_sub(base));
            let keys = &block.keys[kv_head * d * block.capacity..(kv_head + 1) * d * block.capacity];
            let skip = lowest.saturating_sub(base) / LANES * LANES;
            for at in (skip..count).step_by(LANES) {
                let mut lanes = [[T::ZERO; LANES]; N];
                for coordinate in 0..d {
                    let from = coordinate * block.capacity + at;
                    let key: &[T; LANES] = keys[from..from + LANES].try_into().expect("a whole lane");
                    for n in 0..N {
                        let value = self.queries[(query + n) * self.stride + head * d + coordinate];
                        for lane in 0..LANES {
                            lanes[n][lane] = value.fused(key[lane], lanes[n][lane]);
                        }
                    }
                }
                let valid = LANES.min(count - at);
                for n in 0..N {
                    let to = n * padded + base + at;
                    scores[to..to + valid].copy_from_slice(&lanes[n][..valid]);
                }
            }
            base += take;
        }

        let scale = T::of(spec.score_scale);
        for n in 0..N {
            let position = self.first + query + n;
            let row = &mut scores[n * padded..(n + 1) * padded];
            row[..low(position)].fill(T::NEG_INFINITY);
            row[position + 1..].fill(T::NEG_INFINITY);
            softmax(row, scale);
            each(head, query + n, row);
        }

        for from in (0..d).step_by(LANES) {
            let width = LANES.min(d - from);
            let mut lanes = [[T::ZERO; LANES]; N];
            let mut base = 0;
            for &(block, take) in &self.stretches {
                let count = take.min((last + 1).saturating_sub(base));
                let row_width = spec.d_kv();
                for key in lowest.saturating_sub(base)..count {
                    let at = key * row_width + kv_head * d + from;
                    if width == LANES {
                        let value: &[T; LANES] =
                            block.values[at..at + LANES].try_into().expect("a whole lane");
                        for n in 0..N {
                            let weight = scores[n * padded + base + key];
                            for lane in 0..LANES {
                                lanes[n][lane] = weight.fused(value[lane], lanes[n][lane]);
                            }
                        }
                    } else {
                        let value = &block.values[at..at + width];
                        for n in 0..N {
                            let weight = scores[n * padded + base + key];
                            for (lane, &value) in value.iter().enumerate() {
                                lanes[n][lane] = weight.fused(value, lanes[n][lane]);
                            }
                        }
                    }
                }
                base += take;
            }
            for n in 0..N {
                let to = (query + n) * spec.d_query() + head * d + from;
                self.out[to..to + width].copy_from_slice(&lanes[n][..width]);
            }
        }
    }
}

/// `row := softmax(scale * row)`; minus infinity is a weight of exactly 0, so a longer row of them changes
/// nothing.
#[inline(always)]
fn softmax<T: Real>(row: &mut [T], scale: T) {
    row.iter_mut().for_each(|score| *score *= scale);
    let max = largest(row);
    let mut lanes = [T::ZERO; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            chunk[lane] = (chunk[lane] - max).exp();
            lanes[lane] += chunk[lane];
        }
    }
    let inverse = T::ONE / fold(lanes);
    row.iter_mut().for_each(|weight| *weight *= inverse);
}
