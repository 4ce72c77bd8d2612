//! From final states to log-probabilities, arg-max and entropy, a tile of the vocabulary at a time: a
//! `[tokens, vocabulary]` tensor never exists.
//!
//! The one-off shift is drawn here once: the state at position `t` predicts token `t + 1`, so a caller hands
//! over states at `p-1 … p+q-2` to read out the continuation at `p … p+q-1`.

use rayon::prelude::*;

use crate::kernels::{LANES, Threads, fold, largest, wide_fn};
use crate::product::product;
#[cfg(target_arch = "x86_64")]
use crate::screen::{Candidate, Screen};
use crate::{Model, Real, Spec};

/// Columns of a tile; fixed, since sums are taken tile by tile.
const TILE: usize = 1024;
/// One in so many of the vocabulary: more candidates are not worth computing one by one.
#[cfg(target_arch = "x86_64")]
const MANY: usize = 64;
/// Rows that share a tile's pass over the weights.
const ROWS: usize = 256;

/// What a distribution says about one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Readout {
    /// Log-probability of the token asked about, nats.
    pub logprob: f64,
    /// The likeliest token; ties to the lowest.
    pub argmax: u32,
    /// Its log-probability, nats.
    pub argmax_logprob: f64,
    /// Entropy, nats.
    pub entropy: f64,
    /// Standard deviation of the log-probability under the distribution, nats.
    pub deviation: f64,
}

/// One row's sums over one tile, relative to the tile's largest logit, without the token asked about.
#[derive(Clone, Copy)]
struct Part {
    max: f64,
    argmax: u32,
    sum: f64,
    /// Sum of `e^(z - max) (z - max)`, and of its square.
    first: f64,
    second: f64,
}

impl<T: Real> Model<T> {
    /// Reads out `targets`, one per row of `normed` (`[n, d_embed]`, from [`Model::final_norm`]).
    ///
    /// A target's own logit is added up in f64: what f32 rounds away there is most of what it rounds away in all, and
    /// the sum over a long text would feel it.
    pub fn readout(&self, normed: &[T], targets: &[u32]) -> Vec<Readout> {
        let d = self.weights.unembed.n_in();
        // Rows and, within them, tiles side by side: no thread waits at the end of some rows.
        let rows = normed.par_chunks(ROWS * d).zip(targets.par_chunks(ROWS));
        let readouts = rows.map(|(normed, targets)| {
            let tiles = self.tiles(
                |logits, tile| {
                    logits
                        .chunks_exact_mut(tile.len())
                        .zip(targets)
                        .map(|(logits, &target)| part(logits, tile.start, target))
                        .collect::<Vec<_>>()
                },
                normed,
            );
            let rows = targets.par_iter().zip(normed.par_chunks(d)).enumerate();
            rows.map(|(row, (&target, x))| {
                combine(tiles.iter().map(|tile| &tile[row]), target, self.logit(target, x))
            })
            .collect::<Vec<_>>()
        });
        readouts.collect::<Vec<_>>().concat()
    }

    /// One token's logit, added up in f64; NaN where there is no such token.
    fn logit(&self, token: u32, normed: &[T]) -> f64 {
        let unembed = &self.weights.unembed;
        let index = token as usize;
        if index >= unembed.n_out() {
            return f64::NAN;
        }
        unembed.weight.dot_f64(index, normed) + unembed.bias.as_ref().map_or(0.0, |bias| bias[index].f64())
    }

    /// The likeliest token of each row; ties to the lowest.
    fn argmax(&self, normed: &[T]) -> Vec<u32> {
        let d = self.weights.unembed.n_in();
        normed
            .chunks(ROWS * d)
            .flat_map(|normed| {
                let tiles = self.tiles(
                    |logits, tile| {
                        logits
                            .chunks_exact(tile.len())
                            .map(|logits| {
                                let (max, place) = top(logits);
                                (max, tile.start + place)
                            })
                            .collect::<Vec<_>>()
                    },
                    normed,
                );
                (0..normed.len() / d)
                    .map(|row| {
                        let best = tiles.iter().map(|tile| tile[row]);
                        best.reduce(|a, b| if b.0 > a.0 { b } else { a }).map_or(0, |best| best.1 as u32)
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// `each(logits [n, tile], tile)` over the vocabulary, tiles side by side, results in order.
    fn tiles<R: Send>(
        &self,
        each: impl Fn(&mut [T], std::ops::Range<usize>) -> R + Sync,
        normed: &[T],
    ) -> Vec<R> {
        let unembed = &self.weights.unembed;
        let (vocab, rows) = (unembed.n_out(), normed.len() / unembed.n_in());
        let tiles = vocab.div_ceil(TILE);
        (0..tiles)
            .into_par_iter()
            .with_min_len(tiles / (4 * rayon::current_num_threads()))
            .map_init(Vec::new, |logits: &mut Vec<T>, index| {
                let tile = index * TILE..vocab.min((index + 1) * TILE);
                logits.resize(rows * tile.len(), T::ZERO);
                product(logits, normed, &unembed.weight, tile.clone(), Threads::One);
                if let Some(bias) = &unembed.bias {
                    let bias = &bias[tile.clone()];
                    for row in logits.chunks_exact_mut(tile.len()) {
                        row.iter_mut().zip(bias).for_each(|(value, &bias)| *value += bias);
                    }
                }
                each(logits, tile)
            })
            .collect()
    }
}

/// Finds the likeliest tokens of states, for whoever asks often.
pub struct Likeliest<'a, T> {
    model: &'a Model<T>,
    #[cfg(target_arch = "x86_64")]
    screen: Option<Screen>,
}

impl<'a, T: Real> Likeliest<'a, T> {
    /// Of `model`; rounds its unembedding where the processor has use for that.
    pub fn new(model: &'a Model<T>) -> Self {
        Likeliest {
            model,
            #[cfg(target_arch = "x86_64")]
            screen: Screen::new(&model.weights.unembed),
        }
    }

    /// Bytes that it holds beyond the model, at most.
    pub fn bytes(spec: &Spec) -> u64 {
        #[cfg(target_arch = "x86_64")]
        return Screen::bytes(spec.vocab, spec.d_embed) as u64;
        #[cfg(not(target_arch = "x86_64"))]
        0
    }

    /// The likeliest token of each row of `normed` (`[n, d_embed]`, from [`Model::final_norm`]), as
    /// [`Model::readout`] finds it; ties to the lowest.
    pub fn of(&self, normed: &[T]) -> Vec<u32> {
        #[cfg(target_arch = "x86_64")]
        if let Some(screen) = &self.screen {
            return self.screened(screen, normed);
        }
        self.model.argmax(normed)
    }

    #[cfg(target_arch = "x86_64")]
    fn screened(&self, screen: &Screen, normed: &[T]) -> Vec<u32> {
        let d = self.model.weights.unembed.n_in();
        let candidates = screen.candidates(normed);
        let found: Vec<Option<u32>> =
            candidates.into_par_iter().zip(normed.par_chunks(d)).map(|(few, x)| self.best(few, x)).collect();
        let open = found.iter().zip(normed.chunks(d)).filter(|(found, _)| found.is_none());
        let open: Vec<T> = open.flat_map(|(_, x)| x).copied().collect();
        let mut rest = self.model.argmax(&open).into_iter();
        found.into_iter().map(|found| found.or_else(|| rest.next()).expect("one for each")).collect()
    }

    /// The likeliest of a few candidates; `None` where there are none, or so many that a product is faster.
    #[cfg(target_arch = "x86_64")]
    fn best(&self, mut candidates: Vec<Candidate>, x: &[T]) -> Option<u32> {
        let unembed = &self.model.weights.unembed;
        match candidates.len() {
            1 => return Some(candidates[0].token),
            count if count * MANY > unembed.n_out() => return None,
            _ => candidates.sort_unstable_by(|a, b| b.most.total_cmp(&a.most)),
        }
        let mut best: Option<(T, u32)> = None;
        for Candidate { token, most } in candidates {
            if best.is_some_and(|(logit, _)| T::of(most.into()) < logit) {
                break;
            }
            let index = token as usize;
            let mut logit = unembed.weight.dot(index, x);
            if let Some(bias) = &unembed.bias {
                logit += bias[index];
            }
            if best.is_none_or(|best| logit > best.0 || logit == best.0 && token < best.1) {
                best = Some((logit, token));
            }
        }
        best.map(|(_, token)| token)
    }
}

wide_fn! {
/// Sums of all but the target, whose logit is overwritten.
fn part<T>(logits: &mut [T], start: usize, target: u32) -> Part {
    let max = largest(logits);
    let argmax = (start + first_of(logits, max)) as u32;
    if let Some(logit) = (target as usize).checked_sub(start).and_then(|index| logits.get_mut(index)) {
        // So far below that it adds nothing.
        *logit = max - T::of(1e3);
    }
    // In f64: beside a likely token f32 would lose all that are rarer than its last place, always to the same side.
    let mut sums = [[0.0; LANES]; 3];
    let mut add = |lane: usize, logit: T| {
        let below = logit - max;
        let (weight, below) = (below.exp().f64(), below.f64());
        sums[0][lane] += weight;
        sums[1][lane] = weight.fused(below, sums[1][lane]);
        sums[2][lane] = (weight * below).fused(below, sums[2][lane]);
    };
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            add(lane, chunk[lane]);
        }
    }
    for (lane, &logit) in rest.iter().enumerate() {
        add(lane, logit);
    }
    Part {
        max: max.f64(),
        argmax,
        sum: fold(sums[0]),
        first: fold(sums[1]),
        second: fold(sums[2]),
    }
}
}

wide_fn! {
/// The largest logit and its first place.
fn top<T>(logits: &[T]) -> (T, usize) {
    let max = largest(logits);
    (max, first_of(logits, max))
}
}

#[inline(always)]
fn first_of<T: Real>(logits: &[T], value: T) -> usize {
    logits.iter().position(|&logit| logit == value).unwrap_or(0)
}

/// All tiles of one row, in order, and the target with its logit.
fn combine<'a>(parts: impl Iterator<Item = &'a Part> + Clone, target: u32, logit: f64) -> Readout {
    let mut best = Part { max: f64::NEG_INFINITY, argmax: 0, sum: 0.0, first: 0.0, second: 0.0 };
    for part in parts.clone() {
        if part.max > best.max {
            best = *part;
        }
    }
    let above = logit - best.max;
    let own = libm::exp(above);
    let (mut sum, mut first, mut second) = (own, own * above, own * above * above);
    for part in parts {
        let shift = part.max - best.max;
        let scale = libm::exp(shift);
        sum += scale * part.sum;
        first += scale * (part.first + shift * part.sum);
        second += scale * (part.second + 2.0 * shift * part.first + shift * shift * part.sum);
    }
    let log_sum = libm::log(sum);
    let mean = first / sum;
    let logprob = above - log_sum;
    Readout {
        logprob,
        argmax: best.argmax,
        argmax_logprob: if best.argmax == target { logprob } else { -log_sum },
        entropy: log_sum - mean,
        deviation: (second / sum - mean * mean).max(0.0).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sum in f32 would stay at 1 in the likely token's lane: nearly a millionth would be lost.
    #[test]
    fn rare_tokens_count_beside_a_likely_one() {
        let (below, rare) = (-18.0_f32, (-18.0_f64).exp());
        let mut logits = [below; TILE];
        logits[3] = 0.0;
        let found = part(&mut logits, 0, u32::MAX);
        let count = (TILE - 1) as f64;
        assert!((found.sum - (1.0 + count * rare)).abs() < 1e-11, "{}", found.sum);
        assert!((found.first - count * rare * -18.0).abs() < 1e-10, "{}", found.first);
        assert!((found.second - count * rare * 324.0).abs() < 1e-9, "{}", found.second);
    }
}
