//! Theorem I: what a difference of the final state can do to logits, to the greedy token, to probabilities.
//!
//! `z_v = u g_v + c_v` (`[V]`), `|D_i| <= rho` at the final state, `r` its step after the norm (L2), `t =
//! rho/(sqrt(d) s)`.
//!
//! I1 `|Dz_v| <= |g_v| r`.
//!
//! I2: seen from the origin, all states within `rho` of `x` lie in a cap of half-angle `th = asin t`; on it
//! `u (g_a - g_v)` is least at the angle `phi_v + th`, where `phi_v` is the angle now: `z_a - z_v >= sqrt(d)
//! |g_a - g_v| cos(min(pi, phi_v + th)) + c_a - c_v`. If that is positive for every `v`, the greedy token `a` cannot
//! change. The largest such distance is the certified radius
//! `R = sqrt(d) s sin( min_v [ acos((c_v - c_a)/(sqrt(d)|g_a - g_v|)) - phi_v ] )`; it needs the baseline alone.
//!
//! I3, `gbar = sum_v p_v g_v`, `Rad` the radius of a ball that holds all `g_v`, `w = 2 Rad r`: of any token `y`
//! `log p_y` rises by at most `min( |g_y - gbar| r, max_v |g_v - g_y| r )` and falls by at most
//! `min( |g_y - gbar| r + w^2/8, max_v |g_v - g_y| r )`; `KL(p || p~) <= min(w^2/8, w)`; `TV(p, p~) <= tanh(w/4)`. For
//! `D log p_y = Dz_y - log E_p e^(Dz)`; Jensen's inequality and Hoeffding's lemma bound the last term by the mean and
//! by `w^2/8`, lemma L7 gives the total variation.

use rote_model::Matrix;

use crate::linear::{UNIT, distance, dot, norm};
use crate::norm_step::{half_angle, norm_step};
use crate::point::Normed;
use crate::unembedding::Unembedding;
use crate::wide::largest;

/// One position's final state in the model as it is, prepared for any number of interventions.
pub(crate) struct Decision<'a> {
    head: &'a Unembedding,
    d: usize,
    deviation: f64,
    length: f64,
    /// The certified radius `R`: no final state nearer than this changes the greedy token.
    pub radius: f64,
    /// Probabilities.
    pub p: Vec<f64>,
    /// `ln sum_v exp z_v`.
    pub log_sum: f64,
    /// `z_a - z_v` for the nearest other `v`.
    pub margin: f64,
    /// Largest less smallest logit.
    pub span: f64,
    /// `z_a - z_v` at the opposite of every direction: what is left where the state may be anything.
    opposite: f64,
    /// The greedy token.
    pub greedy: usize,
    /// `z_a - z_v - (c_a - c_v)`, per `v`, less what rounding may have added.
    along: Vec<f64>,
    /// `sqrt(d) |g_a - g_v|`, per `v`.
    size: Vec<f64>,
    /// `(size^2 - along^2)^(1/2)`.
    across: Vec<f64>,
    /// `c_a - c_v`.
    offset: Vec<f64>,
    /// Of the true next token `y`: `|g_y - gbar|` and `max_v |g_v - g_y|`.
    true_next: Option<(f64, f64)>,
}

/// What I says of one position under one intervention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecisionBounds {
    /// I1: `max_v |Dz_v|`.
    pub logit: f64,
    /// I2: least `z_a - z_v` over all `v` other than the greedy token.
    pub margin: f64,
    /// I3: by how much the true next token's log-probability may fall, and rise.
    pub fall_rise: Option<(f64, f64)>,
    /// I3: `KL(p || p~)`.
    pub divergence: f64,
    /// I3: total variation.
    pub variation: f64,
}

/// Distances `|g_v - y|` for every `v`, upwards, from a row of inner products `y g_v`.
fn distances(head: &Unembedding, inner: &[f64], y: &[f64]) -> Vec<f64> {
    let square = dot(y, y);
    let rounding = 4.0 * (y.len() + 8) as f64 * UNIT;
    head.norms
        .iter()
        .zip(inner)
        .map(|(g, inner)| {
            let g = g * g;
            ((g - 2.0 * inner + square).max(0.0) + rounding * (g + square)).sqrt()
        })
        .collect()
}

impl<'a> Decision<'a> {
    /// Of the positions from `first` on, one per row of `logits`, each with the true token after it. Positions go
    /// through the unembedding together.
    pub(crate) fn of(
        head: &'a Unembedding,
        normed: &Normed,
        first: usize,
        logits: &[&[f64]],
        next: &[Option<usize>],
    ) -> Vec<Decision<'a>> {
        let d = normed.u.cols;
        let greedy: Vec<usize> = logits.iter().map(|logits| arg_max(logits)).collect();
        let log_sums: Vec<f64> = logits.iter().map(|logits| log_sum_exp(logits).0).collect();
        let mut p = logits.concat();
        for (p, log_sum) in p.chunks_exact_mut(head.vocab()).zip(&log_sums) {
            crate::wide::exp_all(p, *log_sum);
        }
        let p = Matrix::new(logits.len(), head.vocab(), p);
        let means = head.means(&p);
        // The true token is often the greedy one.
        let mut tokens = greedy.clone();
        let places: Vec<Option<usize>> = next
            .iter()
            .zip(&greedy)
            .enumerate()
            .map(|(at, (next, greedy))| {
                let next = (*next)?;
                if next == *greedy {
                    return Some(at);
                }
                tokens.push(next);
                Some(tokens.len() - 1)
            })
            .collect();
        let directions: Vec<f64> = tokens.iter().flat_map(|&token| head.direction(token)).collect();
        let directions = Matrix::new(tokens.len(), d, directions);
        let inner = head.inner(&directions);
        log_sums
            .into_iter()
            .enumerate()
            .map(|(at, log_sum)| {
                let true_next = places[at].map(|of_next| {
                    let direction = directions.row(of_next);
                    let farthest =
                        distances(head, inner.row(of_next), direction).into_iter().fold(0.0, f64::max);
                    let from_mean = distance(direction, means.row(at));
                    (from_mean + 1e-13 * (norm(direction) + head.largest), farthest)
                });
                let apart = distances(head, inner.row(at), directions.row(at));
                let p = p.row(at).to_vec();
                Decision::new(
                    head,
                    normed,
                    first + at,
                    logits[at],
                    (greedy[at], log_sum, p, apart),
                    true_next,
                )
            })
            .collect()
    }

    /// `apart`: `|g_a - g_v|` per `v`.
    fn new(
        head: &'a Unembedding,
        normed: &Normed,
        i: usize,
        logits: &[f64],
        (greedy, log_sum, p, apart): (usize, f64, Vec<f64>, Vec<f64>),
        true_next: Option<(f64, f64)>,
    ) -> Decision<'a> {
        let d = normed.u.cols;
        let root = (d as f64).sqrt();
        let offset: Vec<f64> = head.constant.iter().map(|c| head.constant[greedy] - c).collect();
        // What two computed logits can be off by counts against the greedy token.
        let lost = 2.0 * head.rounding;
        let along: Vec<f64> =
            logits.iter().zip(&offset).map(|(z, offset)| logits[greedy] - z - offset - lost).collect();
        let size: Vec<f64> = apart.into_iter().map(|distance| distance * root).collect();
        let rounding = 16.0 * (d + 64) as f64 * UNIT;
        let across = along
            .iter()
            .zip(&size)
            .map(|(along, size)| ((size - along) * (size + along)).max(0.0) + rounding * size * size)
            .map(f64::sqrt)
            .collect();
        let others = || (0..along.len()).filter(|&v| v != greedy);
        let opposite = others().map(|v| offset[v] - size[v]).fold(f64::INFINITY, f64::min);
        let angle = safe_angle(others().map(|v| (along[v], size[v], offset[v])));
        Decision {
            head,
            d,
            deviation: normed.deviation[i],
            length: normed.length[i],
            greedy,
            radius: (d as f64).sqrt() * normed.deviation[i] * angle.sin(),
            p,
            log_sum,
            margin: logits[greedy] - largest(&logits[..greedy]).max(largest(&logits[greedy + 1..])),
            span: logits[greedy] - logits.iter().copied().fold(f64::INFINITY, f64::min),
            along,
            size,
            across,
            offset,
            opposite,
            true_next,
        }
    }

    /// Theorem I for a final state within `rho`.
    pub(crate) fn bounds(&self, rho: f64) -> DecisionBounds {
        let r = norm_step(rho, self.d, self.deviation, self.length);
        let (sin, cos) = half_angle(rho, self.d, self.deviation).sin_cos();
        let margin = if cos == -1.0 {
            self.opposite
        } else {
            let (before, after) = (0..self.greedy, self.greedy + 1..self.along.len());
            self.least(before, sin, cos).min(self.least(after, sin, cos))
        };
        let width = 2.0 * self.head.radius * r;
        let second = width * width / 8.0;
        DecisionBounds {
            logit: self.head.largest * r,
            margin,
            fall_rise: self.true_next.map(|(from_mean, farthest)| {
                ((from_mean * r + second).min(farthest * r), (from_mean * r).min(farthest * r))
            }),
            divergence: second.min(width),
            variation: (width / 4.0).tanh(),
        }
    }

    /// The least `z_a - z_v` over the cap, for `v` in `range`.
    fn least(&self, range: std::ops::Range<usize>, sin: f64, cos: f64) -> f64 {
        let (along, size) = (&self.along[range.clone()], &self.size[range.clone()]);
        let (across, offset) = (&self.across[range.clone()], &self.offset[range]);
        let mut margin = f64::INFINITY;
        for (((&along, &size), &across), &offset) in along.iter().zip(size).zip(across).zip(offset) {
            // phi + th >= pi: the opposite direction is in reach. Choices without branches become vector code.
            let turned = along * cos - across * sin;
            let least = if along <= -size * cos || turned < -size { -size } else { turned } + offset;
            margin = if least < margin { least } else { margin };
        }
        margin
    }
}

/// By how much the final state may turn before some `v` overtakes the greedy token, from
/// `z_a - z_v - (c_a - c_v)`, `sqrt(d) |g_a - g_v|` and `c_a - c_v` of each.
fn safe_angle(others: impl Iterator<Item = (f64, f64, f64)>) -> f64 {
    let mut angle = std::f64::consts::FRAC_PI_2;
    for (along, size, offset) in others {
        // The direction does not separate these two tokens: their constants alone do.
        if offset >= size {
            continue;
        }
        let (now, least) = ((along / size).clamp(-1.0, 1.0), (-offset / size).clamp(-1.0, 1.0));
        // An angle is at least the difference of its cosines: most tokens are seen to be far without it.
        if now - least < angle {
            angle = angle.min(least.acos() - now.acos());
        }
    }
    // acos near 1 keeps half of the digits.
    (angle - 1e-7).max(0.0)
}

/// First of the largest.
pub(crate) fn arg_max(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (v, &value)| if value > values[best] { v } else { best })
}

/// `ln sum_v exp z_v`, and the largest `z_v`.
pub(crate) fn log_sum_exp(logits: &[f64]) -> (f64, f64) {
    let top = largest(logits);
    (top + crate::wide::sum_exp(logits, top).ln(), top)
}
