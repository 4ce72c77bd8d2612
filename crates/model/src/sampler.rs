//! `Sampler`: what temperature, top-k and top-p make of a distribution, and how likely a token is then.
//!
//! Nothing is drawn here. The chance that sampling gives a certain text is the product of its tokens' chances
//! under the changed distribution, so it is computed, in logs: products of probabilities leave floating point
//! long before sequences are long.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use crate::{Model, Real};

/// Rows whose logits are held together, each of the whole vocabulary.
const ROWS: usize = 64;

/// How tokens are drawn: logits divided by `temperature`, then the `top_k` likeliest kept, then of these the
/// likeliest that together hold `top_p`, then scaled to sum to 1; the order of the `transformers` library.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Above 0.
    pub temperature: f64,
    /// Tokens kept; all without. Tokens as likely as the last of them are kept too.
    pub top_k: Option<u32>,
    /// Mass kept, above 0 and at most 1: a token is kept if all likelier ones together hold less than it.
    pub top_p: f64,
}

impl Sampler {
    /// Draws from the model's own distribution.
    pub const PLAIN: Sampler = Sampler { temperature: 1.0, top_k: None, top_p: 1.0 };

    /// A sampler whose numbers make sense.
    ///
    /// # Errors
    /// A temperature or mass out of range, or no token kept.
    pub fn new(temperature: f64, top_k: Option<u32>, top_p: f64) -> Result<Self> {
        ensure!(
            temperature > 0.0 && temperature.is_finite(),
            "--temperature {temperature}: above 0; greedy decoding is what `exact_match` measures"
        );
        ensure!(top_k != Some(0), "--top-k starts at 1");
        ensure!(top_p > 0.0 && top_p <= 1.0, "--top-p {top_p}: a share above 0, at most 1");
        Ok(Sampler { temperature, top_k, top_p })
    }

    /// Log-probability of `target` where `logits` (`[V]`) stand; −∞ where it is never drawn. In nats.
    pub fn logprob<T: Real>(&self, logits: &[T], target: u32) -> f64 {
        let at = logits[target as usize].f64();
        let max = logits.iter().fold(f64::NEG_INFINITY, |max, logit| max.max(logit.f64()));
        let weight = |logit: f64| libm::exp((logit - max) / self.temperature);
        let own = (at - max) / self.temperature;
        let vocab = logits.len();
        let kept = self.top_k.map_or(vocab, |k| (k as usize).min(vocab));
        if kept == vocab && self.top_p == 1.0 {
            return own - libm::log(logits.iter().map(|logit| weight(logit.f64())).sum());
        }

        let mut falling = Falling { values: logits.iter().map(|logit| logit.f64()).collect(), sorted: 0 };
        // The least logit kept, and the mass of all that are.
        let (mut least, mut mass, mut place) = (f64::NEG_INFINITY, 0.0, 0);
        if kept < vocab {
            least = falling.get(kept - 1);
            while place < vocab && falling.get(place) >= least {
                mass += weight(falling.get(place));
                place += 1;
            }
        } else {
            mass = logits.iter().map(|logit| weight(logit.f64())).sum();
        }
        if self.top_p < 1.0 {
            let (wanted, end) = (self.top_p * mass, if kept < vocab { place } else { vocab });
            (least, mass, place) = (f64::INFINITY, 0.0, 0);
            // Tokens as likely as the last one are kept as well, so that no order among equals matters.
            while place < end && (mass < wanted || falling.get(place) == least) {
                least = falling.get(place);
                mass += weight(least);
                place += 1;
            }
        }
        if at < least { f64::NEG_INFINITY } else { own - libm::log(mass) }
    }
}

/// Values of which the largest are sorted, as many as were asked for so far: mostly few.
struct Falling {
    values: Vec<f64>,
    sorted: usize,
}

impl Falling {
    /// The value at `place` of the falling order.
    fn get(&mut self, place: usize) -> f64 {
        if place >= self.sorted {
            let (from, to) = (self.sorted, (2 * (place + 1).max(128)).min(self.values.len()));
            if to < self.values.len() {
                self.values[from..].select_nth_unstable_by(to - 1 - from, |a, b| b.total_cmp(a));
            }
            self.values[from..to].sort_unstable_by(|a, b| b.total_cmp(a));
            self.sorted = to;
        }
        self.values[place]
    }
}

impl<T: Real> Model<T> {
    /// Log-probabilities of `targets` under `sampler`, one per row of `normed` (`[n, d_embed]`, from
    /// [`Model::final_norm`]), nats.
    pub fn sampled(&self, normed: &[T], targets: &[u32], sampler: &Sampler) -> Vec<f64> {
        let d = self.weights.unembed.n_in();
        let rows = normed.chunks(ROWS * d).zip(targets.chunks(ROWS));
        rows.flat_map(|(normed, targets)| {
            let logits = self.logits(normed);
            let rows = logits.par_chunks_exact(self.spec.vocab).zip(targets);
            rows.map(|(logits, &target)| sampler.logprob(logits, target)).collect::<Vec<_>>()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of these probabilities, off by a constant.
    fn logits(probabilities: &[f64]) -> Vec<f64> {
        probabilities.iter().map(|p| p.ln() + 3.0).collect()
    }

    fn check(sampler: Sampler, expected: [f64; 4]) {
        let logits = logits(&[0.15, 0.5, 0.1, 0.25]);
        for (target, expected) in expected.into_iter().enumerate() {
            let found = sampler.logprob(&logits, target as u32);
            if expected == 0.0 {
                assert_eq!(found, f64::NEG_INFINITY, "{sampler:?}, {target}");
            } else {
                assert!((found - expected.ln()).abs() < 1e-12, "{sampler:?}, {target}: {}", found.exp());
            }
        }
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        check(Sampler::PLAIN, [0.15, 0.5, 0.1, 0.25]);
        let sum = 0.0225 + 0.25 + 0.01 + 0.0625;
        let sharp = Sampler { temperature: 0.5, ..Sampler::PLAIN };
        check(sharp, [0.0225 / sum, 0.25 / sum, 0.01 / sum, 0.0625 / sum]);
    }

    #[test]
    fn top_k_keeps_the_likeliest_and_scales_them_up() {
        let top_k = |k| Sampler { top_k: Some(k), ..Sampler::PLAIN };
        check(top_k(1), [0.0, 1.0, 0.0, 0.0]);
        check(top_k(2), [0.0, 0.5 / 0.75, 0.0, 0.25 / 0.75]);
        check(top_k(4), [0.15, 0.5, 0.1, 0.25]);
        check(top_k(400), [0.15, 0.5, 0.1, 0.25]);
    }

    #[test]
    fn top_p_keeps_tokens_whose_betters_hold_less() {
        let top_p = |p| Sampler { top_p: p, ..Sampler::PLAIN };
        check(top_p(0.4), [0.0, 1.0, 0.0, 0.0]);
        check(top_p(0.6), [0.0, 0.5 / 0.75, 0.0, 0.25 / 0.75]);
        check(top_p(0.8), [0.15 / 0.9, 0.5 / 0.9, 0.0, 0.25 / 0.9]);
        check(top_p(0.95), [0.15, 0.5, 0.1, 0.25]);
    }

    #[test]
    fn top_p_looks_at_what_top_k_left_and_at_the_temperature() {
        // Of 2/3 and 1/3 the first alone holds 0.6.
        check(Sampler { top_k: Some(2), top_p: 0.6, temperature: 1.0 }, [0.0, 1.0, 0.0, 0.0]);
        // Squares: 0.25 of 0.345 is 0.72.
        check(Sampler { top_k: None, top_p: 0.7, temperature: 0.5 }, [0.0, 1.0, 0.0, 0.0]);
        let two = 0.25 + 0.0625;
        check(Sampler { top_k: None, top_p: 0.73, temperature: 0.5 }, [0.0, 0.25 / two, 0.0, 0.0625 / two]);
    }

    #[test]
    fn equals_are_kept_or_dropped_together() {
        let logits = [1.0_f32, 2.0, 1.0, 1.0, 0.0];
        let top_k = Sampler { top_k: Some(2), ..Sampler::PLAIN };
        let (e, three) = (1f64.exp(), 3.0 * 1f64.exp() + 2f64.exp());
        for target in [0, 2, 3] {
            assert!((top_k.logprob(&logits, target) - (e / three).ln()).abs() < 1e-12);
            let top_p = Sampler { top_p: 0.6, ..Sampler::PLAIN };
            assert!((top_p.logprob(&logits, target) - (e / three).ln()).abs() < 1e-12);
        }
        assert_eq!(top_k.logprob(&logits, 4), f64::NEG_INFINITY);
    }

    /// Sorted whole, probabilities rather than logs.
    fn plainly(sampler: Sampler, logits: &[f64], target: usize) -> f64 {
        let mut all: Vec<f64> = logits.iter().map(|z| (z / sampler.temperature).exp()).collect();
        let own = all[target];
        all.sort_by(|a, b| b.total_cmp(a));
        all.truncate(sampler.top_k.map_or(all.len(), |k| k as usize));
        let total: f64 = all.iter().sum();
        let (mut held, mut kept) = (0.0, Vec::new());
        for weight in all {
            if held < sampler.top_p * total {
                kept.push(weight);
            }
            held += weight;
        }
        if kept.contains(&own) { own / kept.iter().sum::<f64>() } else { 0.0 }
    }

    #[test]
    fn large_vocabularies_are_ranked_as_far_as_is_needed() {
        let logits: Vec<f64> =
            (0..5000).map(|i| (f64::from(i) * 0.7311).sin() * 4.0 + f64::from(i) * 1e-5).collect();
        for temperature in [0.3, 1.0, 2.5] {
            for top_k in [None, Some(1), Some(50), Some(3000)] {
                for top_p in [0.01, 0.5, 0.9, 0.999, 1.0] {
                    let sampler = Sampler { temperature, top_k, top_p };
                    for target in (0..5000).step_by(397) {
                        let expected = plainly(sampler, &logits, target);
                        let found = sampler.logprob(&logits, target as u32).exp();
                        assert!(
                            (found - expected).abs() <= 1e-10 * expected,
                            "{sampler:?} {target}: {found} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn chances_far_below_floating_point_stay_apart() {
        let logits = [0.0_f64, -4000.0, -5000.0];
        assert_eq!(Sampler::PLAIN.logprob(&logits, 1), -4000.0);
        assert_eq!(Sampler { temperature: 0.5, ..Sampler::PLAIN }.logprob(&logits, 2), -10000.0);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(Sampler::new(0.0, None, 1.0).unwrap_err().to_string().contains("exact_match"));
        assert!(Sampler::new(1.0, Some(0), 1.0).is_err());
        assert!(Sampler::new(1.0, None, 0.0).is_err());
        assert!(Sampler::new(1.0, None, 1.5).is_err());
        assert!(Sampler::new(f64::NAN, None, 1.0).is_err());
    }
}
