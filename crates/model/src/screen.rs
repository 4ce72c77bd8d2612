//! The likeliest token of a state without most of the unembedding's arithmetic.
//!
//! Weights and states are rounded to whole numbers of few bits, whose products the processor adds up faster than those
//! of f32 (`digits.rs`). What rounding can have changed is bounded; only tokens that may be the likeliest are computed
//! in full. So the answer is that of the full product, bit for bit, ties included.
//!
//! For a token's weights `w` and a state `x`, rounded to `v` and `y`: by Cauchy and Schwarz
//! `|w.x - v.y| <= |w - v| |y| + |w| |x - y|`, and a logit added up in f32 in any order is off by at most
//! `k u |w| |x|`, with `u` half a unit in the last place (Higham, *Accuracy and Stability of Numerical Algorithms*,
//! section 3.1).

use std::ops::Range;

use rayon::prelude::*;

use crate::digits::{Bytes, Digits, Words, Work};
use crate::{Linear, Panels, Real};

/// States that go over the weights together.
const ABREAST: usize = 6;
/// States that are screened before the weights are read again.
const ROWS: usize = 512;
/// Norms, and what is computed of them in f32, are made larger by this factor: several times the rounding errors of
/// both.
const LARGER: f64 = 1.0 + 1e-6;
/// Norms from here on are left to f32: products of two of them must not overflow.
const HUGE: f64 = 1e15;
/// More than all that products of f32 lose where they fall below its smallest numbers.
const TINY: f32 = 1e-30;

/// An unembedding, rounded to what this processor multiplies fastest.
pub(crate) enum Screen {
    Bytes(Rounded<Bytes, 64>),
    Words(Rounded<Words, 16>),
}

impl Screen {
    /// `None` where the processor has no such products, or where the weights do not lend themselves to it: then every
    /// logit has to be computed.
    pub(crate) fn new<T: Real>(unembed: &Linear<T>) -> Option<Screen> {
        if <Bytes as Digits<64>>::able() {
            Rounded::new(unembed).map(Screen::Bytes)
        } else {
            Rounded::new(unembed).map(Screen::Words)
        }
    }

    /// Bytes that one takes, at most: a weight's, in whole panels, and five numbers for each token.
    pub(crate) fn bytes(vocab: usize, k: usize) -> usize {
        vocab.next_multiple_of(64) * (size_of::<i16>() * k.next_multiple_of(4) + 20)
    }

    /// For each of `normed`, `[n, k]`, all tokens that may be the likeliest; none for a state that does not lend
    /// itself to it.
    pub(crate) fn candidates<T: Real>(&self, normed: &[T]) -> Vec<Vec<Candidate>> {
        match self {
            Screen::Bytes(rounded) => rounded.candidates(normed),
            Screen::Words(rounded) => rounded.candidates(normed),
        }
    }
}

/// An unembedding in digits `D`.
pub(crate) struct Rounded<D: Digits<WIDE>, const WIDE: usize> {
    /// Panel after panel.
    weights: Vec<D::Weight>,
    /// Of each token, tokens filled up to whole panels.
    tokens: Tokens,
    vocab: usize,
    /// Inputs, and as many as whole groups have.
    k: usize,
    filled: usize,
}

/// What is known of every token's weights.
struct Tokens {
    /// A weight is about `scale` times its digits.
    scale: Vec<f32>,
    /// At least the norm of what rounding took away.
    lost: Vec<f32>,
    /// At least the norm.
    norm: Vec<f32>,
    /// Bias, and at least what adding it in f32 rounds away.
    bias: Vec<f32>,
    slack: Vec<f32>,
}

/// Rounded states.
struct States<S> {
    /// `[n][filled]`.
    values: Vec<S>,
    rows: Vec<Bound>,
}

/// What is known of one state.
#[derive(Clone, Copy)]
struct Bound {
    /// A value is about `scale` times its digits.
    scale: f32,
    /// What a token's `lost` and `norm` are multiplied with to bound the error of its logit.
    lost: f32,
    norm: f32,
    /// Undoes what was added to the weights.
    start: i32,
}

/// A token that may be the likeliest, and the most that its logit can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) token: u32,
    pub(crate) most: f32,
}

/// Candidates of one state in a part of the vocabulary, and a logit that one of them has at least.
#[derive(Clone)]
struct Found {
    candidates: Vec<Candidate>,
    least: f32,
}

impl<D: Digits<WIDE>, const WIDE: usize> Rounded<D, WIDE> {
    /// As [`Screen::new`].
    fn new<T: Real>(unembed: &Linear<T>) -> Option<Self> {
        let (vocab, k) = (unembed.n_out(), unembed.n_in());
        if !D::able() || k == 0 || D::most(k) < 127 {
            return None;
        }
        let (filled, panels) = (k.next_multiple_of(D::GROUP), vocab.div_ceil(WIDE));
        let mut weights = vec![D::weight(0); panels * WIDE * filled];
        let rounded: Vec<_> = weights
            .par_chunks_mut(WIDE * filled)
            .enumerate()
            .map(|(panel, out)| {
                let tokens = panel * WIDE..vocab.min((panel + 1) * WIDE);
                round_panel::<T, D, WIDE>(&unembed.weight, tokens, out)
            })
            .collect();
        let count = panels * WIDE;
        let mut tokens = Tokens {
            scale: Vec::with_capacity(count),
            lost: Vec::with_capacity(count),
            norm: Vec::with_capacity(count),
            bias: vec![0.0; count],
            slack: vec![TINY; count],
        };
        for (scale, lost, norm) in rounded.into_iter().flatten() {
            tokens.scale.push(scale);
            tokens.lost.push(lost);
            tokens.norm.push(norm);
        }
        if let Some(bias) = &unembed.bias {
            for (index, &bias) in bias.iter().enumerate() {
                tokens.bias[index] = bias.f64() as f32;
                tokens.slack[index] += (bias.f64().abs() * relative(k)) as f32;
            }
        }
        // Tokens that only fill up the last panel must never be candidates.
        tokens.bias[vocab..].fill(f32::NEG_INFINITY);
        let mut numbers = tokens.norm.iter().chain(&tokens.bias[..vocab]);
        let usual = numbers.all(|&number| is_usual(number.into()));
        usual.then_some(Rounded { weights, tokens, vocab, k, filled })
    }

    /// As [`Screen::candidates`].
    fn candidates<T: Real>(&self, normed: &[T]) -> Vec<Vec<Candidate>> {
        normed.chunks(ROWS * self.k).flat_map(|normed| self.some(normed)).collect()
    }

    fn some<T: Real>(&self, normed: &[T]) -> Vec<Vec<Candidate>> {
        let states = &self.round(normed);
        let panels = self.vocab.div_ceil(WIDE);
        let parts = (4 * rayon::current_num_threads()).min(panels);
        let parts: Vec<Vec<Found>> = (0..parts)
            .into_par_iter()
            .with_max_len(1)
            .map(|part| {
                let nothing = Found { candidates: Vec::new(), least: f32::NEG_INFINITY };
                let mut found = vec![nothing; states.rows.len()];
                for panel in part * panels / parts..(part + 1) * panels / parts {
                    // SAFETY: `new` has seen that the processor is able to do it.
                    unsafe { D::with(Panel { rounded: self, panel, states, found: &mut found }) };
                }
                found
            })
            .collect();
        (0..states.rows.len())
            .map(|row| {
                let least = parts.iter().map(|part| part[row].least).fold(f32::NEG_INFINITY, f32::max);
                let all = parts.iter().flat_map(|part| &part[row].candidates);
                let usual = is_usual(states.rows[row].norm.into());
                all.filter(|candidate| usual && candidate.most >= least).copied().collect()
            })
            .collect()
    }

    fn round<T: Real>(&self, normed: &[T]) -> States<D::State> {
        let most = D::most(self.k);
        let mut values = vec![D::state(0); normed.len() / self.k * self.filled];
        let pairs = values.par_chunks_exact_mut(self.filled).zip(normed.par_chunks_exact(self.k));
        let rows = pairs
            .map(|(values, state)| {
                let largest = state.iter().map(|value| value.f64().abs()).fold(0.0, f64::max);
                let scale = scale(largest, most);
                let (mut kept, mut lost, mut whole, mut sum) = (0.0, 0.0, 0.0, 0);
                for (out, value) in values.iter_mut().zip(state) {
                    let value = value.f64();
                    let digits = digits(value, scale, most);
                    let rounded = f64::from(digits) * f64::from(scale);
                    kept += rounded * rounded;
                    lost += (value - rounded) * (value - rounded);
                    whole += value * value;
                    sum += digits;
                    *out = D::state(digits);
                }
                let usual = is_usual(whole.sqrt());
                let norm = lost.sqrt() + relative(self.k) * whole.sqrt();
                let norm = if usual { upwards(norm) } else { f32::INFINITY };
                Bound { scale, lost: upwards(kept.sqrt()), norm, start: -D::ADDED * sum }
            })
            .collect();
        States { values, rows }
    }

    /// What the `R` states from `row` on find in one panel; `R`.
    ///
    /// # Safety
    /// As of [`Work::run`].
    #[inline(always)]
    unsafe fn rows<const R: usize>(
        &self,
        panel: usize,
        row: usize,
        states: &States<D::State>,
        found: &mut [Found],
    ) -> usize {
        let (first, filled) = (panel * WIDE, self.filled);
        let weights = &self.weights[first * filled..(first + WIDE) * filled];
        let values = &states.values[row * filled..(row + R) * filled];
        let mut start = [0; R];
        for r in 0..R {
            start[r] = states.rows[row + r].start;
        }
        // SAFETY: as the caller promises.
        let sums = unsafe { D::sums(weights, values, start) };
        for r in 0..R {
            self.tokens.judge(first, &sums[r], states.rows[row + r], &mut found[row + r]);
        }
        R
    }
}

/// Adds one panel's candidates to those found.
struct Panel<'a, D: Digits<WIDE>, const WIDE: usize> {
    rounded: &'a Rounded<D, WIDE>,
    panel: usize,
    states: &'a States<D::State>,
    found: &'a mut [Found],
}

impl<D: Digits<WIDE>, const WIDE: usize> Work<D, WIDE> for Panel<'_, D, WIDE> {
    #[inline(always)]
    unsafe fn run(self) {
        let Panel { rounded, panel, states, found } = self;
        let mut row = 0;
        while row < found.len() {
            // SAFETY: as the caller promises.
            unsafe {
                row += match found.len() - row {
                    1 => rounded.rows::<1>(panel, row, states, found),
                    2 => rounded.rows::<2>(panel, row, states, found),
                    3 => rounded.rows::<3>(panel, row, states, found),
                    4 => rounded.rows::<4>(panel, row, states, found),
                    5 => rounded.rows::<5>(panel, row, states, found),
                    _ => rounded.rows::<ABREAST>(panel, row, states, found),
                };
            }
        }
    }
}

impl Tokens {
    /// Finds candidates among the tokens from `first` on, whose digits' products with a state have these sums.
    #[inline(always)]
    fn judge<const WIDE: usize>(&self, first: usize, sums: &[i32; WIDE], state: Bound, found: &mut Found) {
        let at = first..first + WIDE;
        let (scale, bias) = (&self.scale[at.clone()], &self.bias[at.clone()]);
        let (lost, norm, slack) = (&self.lost[at.clone()], &self.norm[at.clone()], &self.slack[at]);
        let (mut least, mut most) = ([0f32; WIDE], [0f32; WIDE]);
        for index in 0..WIDE {
            let logit = (sums[index] as f32).mul_add(scale[index] * state.scale, bias[index]);
            let off = norm[index].mul_add(state.norm, slack[index]);
            let off = lost[index].mul_add(state.lost, off);
            (least[index], most[index]) = (logit - off, logit + off);
        }
        if any(&least, |least| least > found.least) {
            found.least = least.iter().copied().fold(found.least, f32::max);
        }
        if any(&most, |most| most >= found.least) {
            for (token, most) in (first..).zip(most) {
                if most >= found.least {
                    found.candidates.push(Candidate { token: token as u32, most });
                }
            }
        }
    }
}

/// Whether one is so; looks at all, as vectors do.
#[inline(always)]
fn any<const WIDE: usize>(numbers: &[f32; WIDE], is: impl Fn(f32) -> bool) -> bool {
    let mut one = false;
    for &number in numbers {
        one |= is(number);
    }
    one
}

/// The weights of `tokens`, at most a panel of them, to digits in `out`; scale and bounds of each, filled up.
fn round_panel<T: Real, D: Digits<WIDE>, const WIDE: usize>(
    weights: &Panels<T>,
    tokens: Range<usize>,
    out: &mut [D::Weight],
) -> Vec<(f32, f32, f32)> {
    let most = D::most(weights.cols);
    let mut rounded = vec![(0.0, 0.0, 0.0); WIDE];
    for (place, token) in tokens.enumerate() {
        let row = weights.row(token);
        let scale = scale(row.iter().map(|weight| weight.f64().abs()).fold(0.0, f64::max), most);
        let (mut lost, mut norm) = (0.0, 0.0);
        for (input, weight) in row.iter().enumerate() {
            let weight = weight.f64();
            let digits = digits(weight, scale, most);
            let off = weight - f64::from(digits) * f64::from(scale);
            lost += off * off;
            norm += weight * weight;
            out[(input / D::GROUP * WIDE + place) * D::GROUP + input % D::GROUP] = D::weight(digits);
        }
        rounded[place] = (scale, upwards(lost.sqrt()), upwards(norm.sqrt()));
    }
    rounded
}

/// What digits up to `most` are multiplied with, where `largest` is the largest magnitude.
fn scale(largest: f64, most: i32) -> f32 {
    (largest / f64::from(most)) as f32
}

fn digits(value: f64, scale: f32, most: i32) -> i32 {
    // Makes 0 of the NaN that 0 / 0 is.
    ((value / f64::from(scale)).round_ties_even() as i32).clamp(-most, most)
}

/// Whether a norm is small enough, and a number.
fn is_usual(norm: f64) -> bool {
    norm.abs() < HUGE
}

/// Rounding errors of a logit relative to the norms: of adding up `k` products and a bias, and of this file's own
/// few operations.
fn relative(k: usize) -> f64 {
    (k + 32) as f64 * f64::from(f32::EPSILON) / 2.0
}

fn upwards(bound: f64) -> f32 {
    (bound * LARGER) as f32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernels::tests::noise;

    /// Weights of which many are nearly or quite alike, so that rounding alone would often choose wrongly.
    fn twins(vocab: usize, k: usize, bias: bool) -> Linear<f32> {
        let mut data = noise(vocab * k, 7);
        let changes = noise(vocab * k, 8);
        for token in 1..vocab {
            let scale = [0.0, 1e-6, 1e-4, 1e-2][token % 4];
            if token % 8 < 6 {
                for input in 0..k {
                    data[token * k + input] =
                        data[(token - 1) * k + input] + scale * changes[token * k + input];
                }
            }
        }
        let bias = bias.then(|| noise(vocab, 9));
        Linear { weight: Arc::new(Panels::new(vocab, k, &data)), bias }
    }

    /// Every token's logit, and the likeliest.
    fn all(unembed: &Linear<f32>, x: &[f32]) -> (Vec<f32>, u32) {
        let mut logits: Vec<f32> = (0..unembed.n_out()).map(|token| unembed.weight.dot(token, x)).collect();
        if let Some(bias) = &unembed.bias {
            logits.iter_mut().zip(bias).for_each(|(logit, bias)| *logit += bias);
        }
        let best =
            (0..logits.len()).fold(0, |best, token| if logits[token] > logits[best] { token } else { best });
        (logits, best as u32)
    }

    #[test]
    fn the_likeliest_is_among_few_candidates_and_none_exceeds_its_bound() {
        few_candidates::<Bytes, 64>(60);
        few_candidates::<Words, 16>(30);
    }

    fn few_candidates<D: Digits<WIDE>, const WIDE: usize>(few: usize) {
        for (vocab, k, bias) in
            [(1, 1, false), (63, 5, true), (64, 64, false), (700, 96, true), (3000, 515, false)]
        {
            let unembed = twins(vocab, k, bias);
            let Some(screen) = Rounded::<D, WIDE>::new(&unembed) else { return };
            let mut x = noise(9 * k, 10);
            // One outlier, nothing at all, and values of very different sizes.
            x[k / 2] = 40.0;
            x[k..2 * k].fill(0.0);
            x[2 * k..3 * k].iter_mut().for_each(|value| *value *= 1e-20);
            x[3 * k..4 * k].iter_mut().for_each(|value| *value *= 1e12);
            let found = screen.candidates(&x);
            assert_eq!(found.len(), 9);
            for (row, candidates) in found.iter().enumerate() {
                let (logits, best) = all(&unembed, &x[row * k..(row + 1) * k]);
                let at = |token: u32| candidates.iter().find(|candidate| candidate.token == token);
                for token in 0..vocab {
                    if logits[token] == logits[best as usize] {
                        assert!(
                            at(token as u32).is_some(),
                            "vocab {vocab}, row {row}: token {token} is missing"
                        );
                    }
                }
                for candidate in candidates {
                    assert!(logits[candidate.token as usize] <= candidate.most, "vocab {vocab}, row {row}");
                }
                if vocab == 3000 && row >= 4 {
                    assert!(candidates.len() < few, "row {row}: {} candidates", candidates.len());
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_usual_number_is_left_to_the_product() {
        unusual::<Bytes, 64>();
        unusual::<Words, 16>();
    }

    fn unusual<D: Digits<WIDE>, const WIDE: usize>() {
        let mut unembed = twins(100, 8, false);
        let screen = Rounded::<D, WIDE>::new(&unembed);
        for value in [f32::NAN, f32::INFINITY, 1e20] {
            let mut x = noise(8, 3);
            x[4] = value;
            assert!(screen.as_ref().is_none_or(|screen| screen.candidates(&x)[0].is_empty()));
            let mut data = noise(800, 4);
            data[333] = value;
            unembed.weight = Arc::new(Panels::new(100, 8, &data));
            assert!(Rounded::<D, WIDE>::new(&unembed).is_none());
        }
    }
}
