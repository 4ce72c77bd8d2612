//! Theorem I: what a difference of the final state can do to logits, to the greedy token, to probabilities.
//!
//! `z_v = u g_v + c_v`. I1: `|Dz_v| <= |g_v| r`. I2: seen from the origin, all states within `rho` of `x` lie
//! in a cap of half-angle `th = asin t`; on it `u (g_a - g_v)` is least at the angle `phi_v + th`, where
//! `phi_v` is the angle now. If that stays above `c_v - c_a` for every `v`, the greedy token cannot change; the
//! largest such distance is the certified radius. I3: `D log p_y = Dz_y - log E_p e^(Dz)`; Jensen's
//! inequality and Hoeffding's lemma bound the last term by the mean and by `w^2/8`, `w = 2 Rad r`.

use rote_model::Matrix;

use crate::linear::{UNIT, distance, dot, norm};
use crate::norm_step::{half_angle, norm_step};
use crate::point::Normed;
use crate::unembedding::Unembedding;

/// One position's final state in the model as it is, prepared for any number of interventions.
pub(crate) struct Decision<'a> {
    head: &'a Unembedding,
    d: usize,
    deviation: f64,
    length: f64,
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
    /// `logits` of position `i`, and the true token after it.
    pub(crate) fn new(
        head: &'a Unembedding,
        normed: &Normed,
        i: usize,
        logits: &[f64],
        next: Option<usize>,
    ) -> Decision<'a> {
        let d = normed.u.cols;
        let root = (d as f64).sqrt();
        let greedy = arg_max(logits);
        let own = head.direction(greedy);
        let mut rows = own.clone();
        let next_direction = next.map(|next| head.direction(next));
        rows.extend(next_direction.iter().flatten());
        let inner = head.inner(&Matrix::new(rows.len() / d, d, rows));
        let offset: Vec<f64> = head.constant.iter().map(|c| head.constant[greedy] - c).collect();
        // What two computed logits can be off by counts against the greedy token.
        let lost = 2.0 * head.rounding;
        let along: Vec<f64> =
            logits.iter().zip(&offset).map(|(z, offset)| logits[greedy] - z - offset - lost).collect();
        let size: Vec<f64> =
            distances(head, inner.row(0), &own).into_iter().map(|distance| distance * root).collect();
        let rounding = 16.0 * (d + 64) as f64 * UNIT;
        let across = along
            .iter()
            .zip(&size)
            .map(|(along, size)| ((size - along) * (size + along)).max(0.0) + rounding * size * size)
            .map(f64::sqrt)
            .collect();
        let true_next = next_direction.map(|direction| {
            let mean = head.mean(&softmax(logits));
            let farthest = distances(head, inner.row(1), &direction).into_iter().fold(0.0, f64::max);
            (distance(&direction, &mean) + 1e-13 * (norm(&direction) + head.largest), farthest)
        });
        Decision {
            head,
            d,
            deviation: normed.deviation[i],
            length: normed.length[i],
            greedy,
            along,
            size,
            across,
            offset,
            true_next,
        }
    }

    /// Theorem I for a final state within `rho`.
    pub(crate) fn bounds(&self, rho: f64) -> DecisionBounds {
        let r = norm_step(rho, self.d, self.deviation, self.length);
        let (sin, cos) = half_angle(rho, self.d, self.deviation).sin_cos();
        let mut margin = f64::INFINITY;
        for v in (0..self.along.len()).filter(|&v| v != self.greedy) {
            let (along, size) = (self.along[v], self.size[v]);
            // phi + th >= pi: the opposite direction is in reach.
            let least = if along <= -size * cos { -size } else { along * cos - self.across[v] * sin };
            margin = margin.min(least.max(-size) + self.offset[v]);
        }
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

    /// The certified radius `R`: no final state nearer than this changes the greedy token.
    pub(crate) fn radius(&self) -> f64 {
        let mut angle = std::f64::consts::FRAC_PI_2;
        for v in (0..self.along.len()).filter(|&v| v != self.greedy) {
            let (along, size, offset) = (self.along[v], self.size[v], self.offset[v]);
            // The direction does not separate these two tokens: their constants alone do.
            if offset >= size {
                continue;
            }
            let turn = (-offset / size).clamp(-1.0, 1.0).acos() - (along / size).clamp(-1.0, 1.0).acos();
            angle = angle.min(turn);
        }
        // acos near 1 keeps half of the digits.
        let angle = (angle - 1e-7).max(0.0);
        (self.d as f64).sqrt() * self.deviation * angle.sin()
    }
}

/// First of the largest.
pub(crate) fn arg_max(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (v, &value)| if value > values[best] { v } else { best })
}

/// `z_a - z_v` for the nearest other `v`.
pub(crate) fn margin_of(logits: &[f64], token: usize) -> f64 {
    let others = logits.iter().enumerate().filter(|(v, _)| *v != token).map(|(_, &z)| z);
    logits[token] - others.fold(f64::NEG_INFINITY, f64::max)
}

/// Log-probabilities.
pub(crate) fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|z| (z - top).exp()).sum();
    let log = top + sum.ln();
    logits.iter().map(|z| z - log).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    log_softmax(logits).into_iter().map(f64::exp).collect()
}
