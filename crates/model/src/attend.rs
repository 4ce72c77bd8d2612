//! Weighted values of one row's new tokens over all it has read; the only place where attention weights are
//! computed.
//!
//! Scores are summed over coordinates in order, values over keys in order within each [`STRETCH`] of positions and
//! then stretch by stretch, whatever the number of queries that are computed together: a full pass, a chunk on a cache
//! and a single step give the same bits.

use std::ops::Range;

use rayon::prelude::*;

use crate::kernels::{LANES, Threads, fold, largest, wide_fn};
use crate::state::{KeysValues, PANEL};
use crate::sums::{Abreast, Rows, Strided, abreast, add_up};
use crate::{Real, Spec};

/// Queries that share what is read of keys and values.
const CHUNK: usize = 48;
/// Positions whose values are added up by themselves. In one sum over thousands of positions, what rounding takes away
/// would be the largest error of a long text's log-probability.
const STRETCH: usize = 128;

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
            let mut work = Work::default();
            tasks.into_iter().for_each(|mut task| mix(&mut task, spec, &mut work, &mut |_, _, _, _| {}));
        }
        Threads::All => {
            let width = spec.d_query();
            let pieces: Vec<_> = tasks.into_iter().flat_map(|task| task.pieces(width)).collect();
            pieces.into_par_iter().for_each_init(Work::default, |work, mut piece| {
                mix(&mut piece, spec, work, &mut |_, _, _, _| {});
            });
        }
    }
}

/// Computes one task on this thread and returns its weights `[H, t, keys]` as well.
pub(crate) fn attend_with_weights<T: Real>(spec: &Spec, mut task: Task<'_, T>) -> Vec<T> {
    let new = task.out.len() / spec.d_query();
    let keys = task.first + new;
    let mut weights = vec![T::ZERO; spec.n_heads * new * keys];
    mix(&mut task, spec, &mut Work::default(), &mut |head, query, row, inverse| {
        let weights = &mut weights[(head * new + query) * keys..][..keys];
        weights.iter_mut().zip(row).for_each(|(weight, &part)| *weight = part * inverse);
    });
    weights
}

/// What a task writes to meanwhile.
#[derive(Default)]
struct Work<T> {
    /// `[queries, stride]`, by position: scores and then weights, but for a factor.
    scores: Vec<T>,
    /// The factor of each query.
    inverses: Vec<T>,
    /// `[queries abreast, d_head]`: values of one stretch of positions.
    part: Vec<T>,
}

wide_fn! {
    /// Runs a task. `each(head, query, weights, inverse)` is shown the weights over positions from 0 on, still to be
    /// multiplied by `inverse`.
    fn mix<T>(
        task: &mut Task<'_, T>,
        spec: &Spec,
        work: &mut Work<T>,
        each: &mut dyn FnMut(usize, usize, &[T], T),
    ) {
        let new = task.out.len() / spec.d_query();
        for head in 0..spec.n_heads {
            for from in (0..new).step_by(CHUNK) {
                let chunk = from..new.min(from + CHUNK);
                task.scores(spec, head, chunk.clone(), work);
                task.weights(spec, head, chunk.clone(), work, each);
                task.values(spec, head, chunk, work);
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

    /// Positions that a query sees.
    #[inline(always)]
    fn seen(&self, query: usize) -> Range<usize> {
        let end = self.first + query + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Room for a query's scores: whole lanes, and one to spare for the last stretch. An odd number of lanes, so that
    /// queries abreast do not compete for the same places of the processor's cache.
    #[inline(always)]
    fn room(&self, chunk: &Range<usize>) -> usize {
        (((self.first + chunk.end).div_ceil(LANES) + 1) | 1) * LANES
    }

    /// Scores of the queries `chunk` at one head. Those of positions that a query does not see mean nothing.
    #[inline(always)]
    fn scores(&self, spec: &Spec, head: usize, chunk: Range<usize>, work: &mut Work<T>) {
        let d = spec.d_head;
        let kv_head = head / (spec.n_heads / spec.n_kv_heads);
        let stride = self.room(&chunk);
        work.scores.resize(chunk.len() * stride, T::ZERO);
        let (lowest, end) = (self.seen(chunk.start).start, self.seen(chunk.end - 1).end);
        let mut base = 0;
        for &(block, take) in &self.stretches {
            let count = take.min(end.saturating_sub(base));
            let skip = lowest.saturating_sub(base) / PANEL * PANEL;
            for from in (skip..count).step_by(PANEL) {
                let keys = Rows {
                    data: &block.keys[(kv_head * block.capacity + from) * d..],
                    stride: PANEL,
                    panel: PANEL,
                    hop: d * PANEL,
                };
                let upto = count.min(from + PANEL);
                abreast!(chunk.clone(), T, |query, Q, W| {
                    // Whole lanes of what the queries see together.
                    let (low, end) = (self.seen(query).start, self.seen(query + Q - 1).end);
                    if low < base + upto && base + from < end {
                        let width = (upto.min(end - base) - from).next_multiple_of(LANES);
                        let scores = &mut work.scores[(query - chunk.start) * stride + base + from..];
                        let queries = Strided {
                            data: &self.queries[query * self.stride + head * d..],
                            stride: self.stride,
                        };
                        add_up::<T, Q, W>(scores, stride, width, queries, &[(0, d); Q], keys, true);
                    }
                });
            }
            base += take;
        }
    }

    /// From scores to weights, but for a factor: weighted values are fewer than weights.
    #[inline(always)]
    fn weights(
        &self,
        spec: &Spec,
        head: usize,
        chunk: Range<usize>,
        work: &mut Work<T>,
        each: &mut dyn FnMut(usize, usize, &[T], T),
    ) {
        let stride = self.room(&chunk);
        work.inverses.clear();
        for (query, row) in chunk.zip(work.scores.chunks_exact_mut(stride)) {
            let Range { start, end } = self.seen(query);
            let row = &mut row[..end.next_multiple_of(LANES)];
            row[..start].fill(T::NEG_INFINITY);
            row[end..].fill(T::NEG_INFINITY);
            let inverse = softmax(row, T::of(spec.score_scale));
            each(head, query, &row[..end], inverse);
            work.inverses.push(inverse);
        }
    }

    /// Weighted values of the queries `chunk` at one head.
    #[inline(always)]
    fn values(&mut self, spec: &Spec, head: usize, chunk: Range<usize>, work: &mut Work<T>) {
        let d = spec.d_head;
        let kv_head = head / (spec.n_heads / spec.n_kv_heads);
        let width = spec.d_query();
        let stride = self.room(&chunk);
        for query in chunk.clone() {
            self.out[query * width + head * d..][..d].fill(T::ZERO);
        }
        let (lowest, end) = (self.seen(chunk.start).start, self.seen(chunk.end - 1).end);
        for from in (lowest / STRETCH * STRETCH..end).step_by(STRETCH) {
            abreast!(chunk.clone(), T, |query, Q, W| {
                work.part.resize(Q * d, T::ZERO);
                let mut base = 0;
                let mut fresh = true;
                for &(block, take) in &self.stretches {
                    let here = from.max(base)..(from + STRETCH).min(base + take);
                    let mut spans = [(0, 0); Q];
                    for (index, span) in spans.iter_mut().enumerate() {
                        let seen = self.seen(query + index);
                        let (low, end) = (seen.start.max(here.start), seen.end.min(here.end));
                        if low < end {
                            *span = (low - here.start, end - here.start);
                        }
                    }
                    if spans.iter().any(|span| span.0 < span.1) {
                        let weights = Strided {
                            data: &work.scores[(query - chunk.start) * stride + here.start..],
                            stride,
                        };
                        let values = Rows {
                            data: &block.values[(kv_head * block.capacity + here.start - base) * d..],
                            stride: d,
                            panel: d.next_multiple_of(PANEL),
                            hop: 0,
                        };
                        add_up::<T, Q, W>(&mut work.part, d, d, weights, &spans, values, fresh);
                        fresh = false;
                    }
                    base += take;
                }
                for (query, part) in (query..query + Q).zip(work.part.chunks_exact(d)) {
                    let seen = self.seen(query);
                    if seen.start < from + STRETCH && from < seen.end {
                        let out = &mut self.out[query * width + head * d..][..d];
                        out.iter_mut().zip(part).for_each(|(out, &part)| *out += part);
                    }
                }
            });
        }
        for (query, &inverse) in chunk.zip(&work.inverses) {
            let out = &mut self.out[query * width + head * d..][..d];
            out.iter_mut().for_each(|out| *out *= inverse);
        }
    }
}

/// `row * result := softmax(scale * row)`, whole lanes; minus infinity is a weight of exactly 0, so a longer row of them
/// changes nothing.
#[inline(always)]
fn softmax<T: Real>(row: &mut [T], scale: T) -> T {
    let max = largest(row);
    let mut lanes = [T::ZERO; LANES];
    for chunk in row.chunks_exact_mut(LANES) {
        for lane in 0..LANES {
            chunk[lane] = ((chunk[lane] - max) * scale).exp();
            lanes[lane] += chunk[lane];
        }
    }
    T::ONE / fold(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::store;
    use crate::kernels::tests::noise;
    use crate::{Activation, MlpKind, NormKind, NormPlace, Positions, Residual};

    fn spec(n_heads: usize, n_kv_heads: usize, d_head: usize) -> Spec {
        Spec {
            family: "test".into(),
            n_blocks: 1,
            d_model: n_heads * d_head,
            n_heads,
            n_kv_heads,
            d_head,
            d_mlp: 1,
            vocab: 1,
            d_embed: n_heads * d_head,
            max_positions: 1024,
            positions: Positions::Learned { offset: 0 },
            norm: NormKind::Rms,
            eps: 1e-5,
            norm_place: NormPlace::Pre,
            residual: Residual::Sequential,
            mlp: MlpKind::Plain(Activation::Relu),
            score_scale: 1.0 / (d_head as f64).sqrt(),
            windows: vec![None],
            prefix_token: None,
            eos_tokens: vec![],
        }
    }

    /// Positions `cuts[i]..cuts[i + 1]` of `qkv` in a stretch each, with room to spare.
    fn stretches(spec: &Spec, qkv: &[f32], cuts: &[usize]) -> Vec<(KeysValues<f32>, usize)> {
        let width = spec.d_query() + 2 * spec.d_kv();
        let piece = |pair: &[usize]| {
            let mut kept = KeysValues::new(spec, pair[1] - pair[0] + 5);
            // What lies beyond the end must not matter.
            kept.keys.fill(f32::NAN);
            kept.values.fill(f32::NAN);
            store(&mut kept, &qkv[pair[0] * width..pair[1] * width], 0, spec);
            (kept, pair[1] - pair[0])
        };
        cuts.windows(2).map(piece).collect()
    }

    /// Weighted values of the positions from `first` on, `together` of them in a task.
    fn run(
        spec: &Spec,
        qkv: &[f32],
        cuts: &[usize],
        first: usize,
        together: usize,
        window: Option<usize>,
    ) -> Vec<f32> {
        let width = spec.d_query() + 2 * spec.d_kv();
        let kept = stretches(spec, qkv, cuts);
        let mut out = vec![f32::NAN; (qkv.len() / width - first) * spec.d_query()];
        for (index, out) in out.chunks_mut(together * spec.d_query()).enumerate() {
            let first = first + index * together;
            let task = Task {
                queries: &qkv[first * width..(first + out.len() / spec.d_query()) * width],
                stride: width,
                out,
                first,
                stretches: kept.iter().map(|(block, take)| (block, *take)).collect(),
                window,
            };
            attend(spec, vec![task], if index % 2 == 0 { Threads::All } else { Threads::One });
        }
        out
    }

    /// The same in f64, as the formula says it.
    fn plainly(spec: &Spec, qkv: &[f32], first: usize, window: Option<usize>) -> Vec<f64> {
        let d = spec.d_head;
        let width = spec.d_query() + 2 * spec.d_kv();
        let at = |position: usize, from: usize| {
            qkv[position * width + from..][..d].iter().map(|&value| f64::from(value)).collect::<Vec<_>>()
        };
        let mut out = Vec::new();
        for query in first..qkv.len() / width {
            let seen = window.map_or(0, |window| (query + 1).saturating_sub(window))..query + 1;
            for head in 0..spec.n_heads {
                let kv = spec.d_query() + head * spec.n_kv_heads / spec.n_heads * d;
                let q = at(query, head * d);
                let score =
                    |key| at(key, kv).iter().zip(&q).map(|(k, q)| k * q).sum::<f64>() * spec.score_scale;
                let weights: Vec<f64> = seen.clone().map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                let values: Vec<_> = seen.clone().map(|key| at(key, kv + spec.d_kv())).collect();
                out.extend((0..d).map(|place| {
                    weights.iter().zip(&values).map(|(weight, value)| weight * value[place]).sum::<f64>()
                        / total
                }));
            }
        }
        out
    }

    #[test]
    fn any_cut_gives_the_same_bits_and_they_are_right() {
        for (n_heads, n_kv_heads, d_head) in [(2, 1, 5), (1, 1, 16), (3, 1, 24), (2, 2, 40), (1, 1, 64)] {
            let spec = spec(n_heads, n_kv_heads, d_head);
            let width = spec.d_query() + 2 * spec.d_kv();
            for (length, window) in
                [(1, None), (7, None), (33, Some(4)), (130, Some(60)), (300, None), (301, Some(150))]
            {
                let mut qkv = noise(length * width, (length + d_head) as u64);
                qkv.iter_mut().for_each(|value| *value *= 4.0);
                let whole = run(&spec, &qkv, &[0, length], 0, length, window);
                let truth = plainly(&spec, &qkv, 0, window);
                for (value, truth) in whole.iter().zip(&truth) {
                    assert!((f64::from(*value) - truth).abs() < 2e-6, "{value}, {truth}: {length} positions");
                }
                for (cuts, first, together) in [
                    (vec![0, length], 0, 1),
                    (vec![0, length / 3, length / 2, length], length / 2, length),
                    (vec![0, length - 1, length], length - 1, 1),
                    (vec![0, length / 4, length], length / 4, 13),
                ] {
                    let some = run(&spec, &qkv, &cuts, first, together, window);
                    let same = &whole[first * spec.d_query()..];
                    assert!(
                        some == same,
                        "d_head {d_head}, window {window:?}, cuts {cuts:?}, {together} together"
                    );
                }
            }
        }
    }
}
