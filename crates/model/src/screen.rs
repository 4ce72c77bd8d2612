//! The likeliest token of a state without most of the unembedding's arithmetic.
//!
//! Weights and states are rounded to 8 bits, whose products the processor adds up four times as fast as those of
//! f32. What rounding can have changed is bounded; only tokens that may be the likeliest are computed in full. So the
//! answer is that of the full product, bit for bit, ties included.
//!
//! For a token's weights `w` and a state `x`, rounded to `v` and `y`: by Cauchy and Schwarz
//! `|w.x - v.y| <= |w - v| |y| + |w| |x - y|`, and a logit added up in f32 in any order is off by at most
//! `k u |w| |x|`, with `u` half a unit in the last place (Higham, *Accuracy and Stability of Numerical Algorithms*,
//! section 3.1).

use std::arch::x86_64 as cpu;
use std::ops::Range;

use rayon::prelude::*;

use crate::{Linear, Panels, Real};

/// Tokens whose sums stay in registers together.
const WIDE: usize = 64;
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

/// An unembedding in 8 bits.
pub(crate) struct Screen {
    /// `[vocab / 64][k / 4][64][4]`: four inputs of 64 tokens after one another, 128 added to each.
    weights: Vec<u8>,
    /// Of each token, tokens filled up to whole panels.
    tokens: Tokens,
    vocab: usize,
    /// Inputs, and fours of them.
    k: usize,
    fours: usize,
}

/// What is known of every token's weights.
struct Tokens {
    /// A weight is about `scale` times its 8 bits.
    scale: Vec<f32>,
    /// At least the norm of what rounding took away.
    lost: Vec<f32>,
    /// At least the norm.
    norm: Vec<f32>,
    /// Bias, and at least what adding it in f32 rounds away.
    bias: Vec<f32>,
    slack: Vec<f32>,
}

/// States in 8 bits.
struct States {
    /// `[n][fours * 4]`.
    values: Vec<i8>,
    rows: Vec<Bound>,
}

/// What is known of one state.
#[derive(Clone, Copy)]
struct Bound {
    /// A value is about `scale` times its 8 bits.
    scale: f32,
    /// What a token's `lost` and `norm` are multiplied with to bound the error of its logit.
    lost: f32,
    norm: f32,
    /// 128 times the sum of the 8 bits, negative: undoes what was added to the weights.
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

impl Screen {
    /// `None` where the processor has no such products, or where the weights do not lend themselves to it: then every
    /// logit has to be computed.
    pub(crate) fn new<T: Real>(unembed: &Linear<T>) -> Option<Screen> {
        let (vocab, k) = (unembed.n_out(), unembed.n_in());
        // Sums of k products of 8 bits must fit 32.
        let able = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        if !able || k == 0 || k > 1 << 15 {
            return None;
        }
        let (fours, panels) = (k.div_ceil(4), vocab.div_ceil(WIDE));
        let filled = panels * WIDE;
        let mut weights = vec![128u8; filled * fours * 4];
        let rounded: Vec<_> = weights
            .par_chunks_mut(WIDE * fours * 4)
            .enumerate()
            .map(|(panel, out)| {
                let tokens = panel * WIDE..vocab.min((panel + 1) * WIDE);
                round_panel(&unembed.weight, tokens, out)
            })
            .collect();
        let mut tokens = Tokens {
            scale: Vec::with_capacity(filled),
            lost: Vec::with_capacity(filled),
            norm: Vec::with_capacity(filled),
            bias: vec![0.0; filled],
            slack: vec![TINY; filled],
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
        usual.then_some(Screen { weights, tokens, vocab, k, fours })
    }

    /// For each of `normed`, `[n, k]`, all tokens that may be the likeliest; none for a state that does not lend
    /// itself to it.
    pub(crate) fn candidates<T: Real>(&self, normed: &[T]) -> Vec<Vec<Candidate>> {
        normed.chunks(ROWS * self.k).flat_map(|normed| self.some(normed)).collect()
    }

    fn some<T: Real>(&self, normed: &[T]) -> Vec<Vec<Candidate>> {
        let states = self.round(normed);
        let panels = self.vocab.div_ceil(WIDE);
        let parts = (4 * rayon::current_num_threads()).min(panels);
        let parts: Vec<Vec<Found>> = (0..parts)
            .into_par_iter()
            .with_max_len(1)
            .map(|part| {
                let nothing = Found { candidates: Vec::new(), least: f32::NEG_INFINITY };
                let mut found = vec![nothing; states.rows.len()];
                for panel in part * panels / parts..(part + 1) * panels / parts {
                    // SAFETY: `new` has seen that the processor has these instructions.
                    unsafe { self.panel(panel, &states, &mut found) };
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

    fn round<T: Real>(&self, normed: &[T]) -> States {
        let width = self.fours * 4;
        let mut values = vec![0i8; normed.len() / self.k * width];
        let pairs = values.par_chunks_exact_mut(width).zip(normed.par_chunks_exact(self.k));
        let rows = pairs
            .map(|(values, state)| {
                let largest = state.iter().map(|value| value.f64().abs()).fold(0.0, f64::max);
                let scale = scale(largest);
                let (mut kept, mut lost, mut whole, mut sum) = (0.0, 0.0, 0.0, 0);
                for (out, value) in values.iter_mut().zip(state) {
                    let value = value.f64();
                    *out = eight_bits(value, scale);
                    let rounded = f64::from(*out) * f64::from(scale);
                    kept += rounded * rounded;
                    lost += (value - rounded) * (value - rounded);
                    whole += value * value;
                    sum += i32::from(*out);
                }
                let usual = is_usual(whole.sqrt());
                let norm = lost.sqrt() + relative(self.k) * whole.sqrt();
                let norm = if usual { upwards(norm) } else { f32::INFINITY };
                Bound { scale, lost: upwards(kept.sqrt()), norm, start: -128 * sum }
            })
            .collect();
        States { values, rows }
    }

    /// Adds one panel's candidates to those found.
    ///
    /// # Safety
    /// The processor has these instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn panel(&self, panel: usize, states: &States, found: &mut [Found]) {
        let mut row = 0;
        while row < found.len() {
            // SAFETY: as the caller promises.
            unsafe {
                row += match found.len() - row {
                    1 => self.rows::<1>(panel, row, states, found),
                    2 => self.rows::<2>(panel, row, states, found),
                    3 => self.rows::<3>(panel, row, states, found),
                    4 => self.rows::<4>(panel, row, states, found),
                    5 => self.rows::<5>(panel, row, states, found),
                    _ => self.rows::<ABREAST>(panel, row, states, found),
                };
            }
        }
    }

    /// [`Screen::panel`] for the `R` states from `row` on; `R`.
    ///
    /// # Safety
    /// The processor has these instructions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn rows<const R: usize>(
        &self,
        panel: usize,
        row: usize,
        states: &States,
        found: &mut [Found],
    ) -> usize {
        const VECTORS: usize = WIDE / 16;
        let (width, first) = (self.fours * 4, panel * WIDE);
        let weights = &self.weights[first * width..(first + WIDE) * width];
        let values = &states.values[row * width..(row + R) * width];
        let mut sums = [[cpu::_mm512_setzero_si512(); VECTORS]; R];
        for r in 0..R {
            sums[r] = [cpu::_mm512_set1_epi32(states.rows[row + r].start); VECTORS];
        }
        for four in 0..self.fours {
            // SAFETY: the slices above hold `fours` fours of 64 tokens and of `R` states.
            unsafe {
                let weights = weights.as_ptr().add(four * WIDE * 4);
                let mut at = [cpu::_mm512_setzero_si512(); VECTORS];
                for vector in 0..VECTORS {
                    at[vector] = cpu::_mm512_loadu_si512(weights.add(vector * 64).cast());
                }
                for r in 0..R {
                    let state = values.as_ptr().add(r * width + four * 4).cast::<i32>().read_unaligned();
                    let state = cpu::_mm512_set1_epi32(state);
                    for vector in 0..VECTORS {
                        sums[r][vector] = cpu::_mm512_dpbusd_epi32(sums[r][vector], at[vector], state);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let Bound { scale, lost, norm, .. } = states.rows[row + r];
            let found = &mut found[row + r];
            for (vector, &sum) in sums.iter().enumerate() {
                let from = first + vector * 16;
                let of = |numbers: &[f32]| {
                    let numbers: &[f32; 16] = numbers[from..from + 16].try_into().expect("16 numbers");
                    // SAFETY: sixteen numbers are there.
                    unsafe { cpu::_mm512_loadu_ps(numbers.as_ptr()) }
                };
                let Tokens { scale: scales, lost: losses, norm: norms, bias, slack } = &self.tokens;
                let times = cpu::_mm512_mul_ps(of(scales), cpu::_mm512_set1_ps(scale));
                let logit = cpu::_mm512_fmadd_ps(cpu::_mm512_cvtepi32_ps(sum), times, of(bias));
                let off = cpu::_mm512_fmadd_ps(of(norms), cpu::_mm512_set1_ps(norm), of(slack));
                let off = cpu::_mm512_fmadd_ps(of(losses), cpu::_mm512_set1_ps(lost), off);
                let (least, most) = (cpu::_mm512_sub_ps(logit, off), cpu::_mm512_add_ps(logit, off));
                let known = cpu::_mm512_set1_ps(found.least);
                if cpu::_mm512_cmp_ps_mask::<{ cpu::_CMP_GT_OQ }>(least, known) != 0 {
                    found.least = cpu::_mm512_reduce_max_ps(least);
                }
                let known = cpu::_mm512_set1_ps(found.least);
                let mut may = cpu::_mm512_cmp_ps_mask::<{ cpu::_CMP_GE_OQ }>(most, known);
                if may != 0 {
                    let mut bounds = [0f32; 16];
                    // SAFETY: there is room for sixteen numbers.
                    unsafe { cpu::_mm512_storeu_ps(bounds.as_mut_ptr(), most) };
                    while may != 0 {
                        let lane = may.trailing_zeros() as usize;
                        may &= may - 1;
                        found.candidates.push(Candidate { token: (from + lane) as u32, most: bounds[lane] });
                    }
                }
            }
        }
        R
    }
}

/// The weights of `tokens`, at most a panel of them, to 8 bits in `out`; scale and bounds of each, filled up.
fn round_panel<T: Real>(weights: &Panels<T>, tokens: Range<usize>, out: &mut [u8]) -> Vec<(f32, f32, f32)> {
    let mut rounded = vec![(0.0, 0.0, 0.0); WIDE];
    for (place, token) in tokens.enumerate() {
        let row = weights.row(token);
        let scale = scale(row.iter().map(|weight| weight.f64().abs()).fold(0.0, f64::max));
        let (mut lost, mut norm) = (0.0, 0.0);
        for (input, weight) in row.iter().enumerate() {
            let weight = weight.f64();
            let eight = eight_bits(weight, scale);
            let off = weight - f64::from(eight) * f64::from(scale);
            lost += off * off;
            norm += weight * weight;
            out[input / 4 * WIDE * 4 + place * 4 + input % 4] = (i16::from(eight) + 128) as u8;
        }
        rounded[place] = (scale, upwards(lost.sqrt()), upwards(norm.sqrt()));
    }
    rounded
}

/// What 8 bits are multiplied with, where `largest` is the largest magnitude.
fn scale(largest: f64) -> f32 {
    (largest / 127.0) as f32
}

fn eight_bits(value: f64, scale: f32) -> i8 {
    // Saturates, and makes 0 of the NaN that 0 / 0 is.
    (value / f64::from(scale)).round_ties_even() as i8
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
        for (vocab, k, bias) in
            [(1, 1, false), (63, 5, true), (64, 64, false), (700, 96, true), (3000, 515, false)]
        {
            let unembed = twins(vocab, k, bias);
            let Some(screen) = Screen::new(&unembed) else { return };
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
                    assert!(candidates.len() < 60, "row {row}: {} candidates", candidates.len());
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_usual_number_is_left_to_the_product() {
        let mut unembed = twins(100, 8, false);
        let screen = Screen::new(&unembed);
        for value in [f32::NAN, f32::INFINITY, 1e20] {
            let mut x = noise(8, 3);
            x[4] = value;
            assert!(screen.as_ref().is_none_or(|screen| screen.candidates(&x)[0].is_empty()));
            let mut data = noise(800, 4);
            data[333] = value;
            unembed.weight = Arc::new(Panels::new(100, 8, &data));
            assert!(Screen::new(&unembed).is_none());
        }
    }
}
