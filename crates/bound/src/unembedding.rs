//! The final norm and the unembedding, folded: `z_v = u g_v + c_v` with `g_v` column `v` of `C G_F W_U` and
//! `c_v = beta_F W_U + b_U`.

use std::sync::Arc;

use rayon::prelude::*;
use rote_model::{Matrix, Norm, NormKind, Weights};

use crate::constants::centred;
use crate::linear::{UNIT, dot, norm, product, view};

/// Rows of the unembedding that one task works on.
const ROWS: usize = 1024;

/// The map from the normalised final state to logits. `g_v` itself is not kept: `y g_v = (y C G) . w_v`.
#[derive(Clone, Debug)]
pub(crate) struct Unembedding {
    /// `[V, d]`.
    weight: Arc<Matrix<f64>>,
    gain: Vec<f64>,
    kind: NormKind,
    /// Largest magnitude of the final gain.
    pub largest_gain: f64,
    /// `c_v`, `[V]`.
    pub constant: Vec<f64>,
    /// `|g_v|`, `[V]`.
    pub norms: Vec<f64>,
    /// `max_v |g_v|`.
    pub largest: f64,
    /// Radius of a ball that holds every `g_v`.
    pub radius: f64,
    /// What one computed logit can be off by, in nats.
    pub rounding: f64,
}

impl Unembedding {
    pub(crate) fn new(weights: &Weights<f64>, norm_: &Norm<f64>, kind: NormKind, eps: f64) -> Unembedding {
        debug_assert!(eps > 0.0);
        let unembed = Arc::new(weights.unembed.weight.to_matrix());
        let weight = match &weights.project_out {
            Some(project) => Arc::new(product(view(&unembed), view(&project.weight.to_matrix()))),
            None => Arc::clone(&unembed),
        };
        // A projection's own bias goes through the unembedding.
        let extra = weights.project_out.as_ref().and_then(|project| project.bias.as_ref());
        let constant: Vec<f64> = (0..weight.rows)
            .map(|v| {
                let own = weights.unembed.bias.as_ref().map_or(0.0, |bias| bias[v]);
                let projected = extra.map_or(0.0, |bias| dot(bias, unembed.row(v)));
                own + projected + norm_.bias.as_ref().map_or(0.0, |beta| dot(beta, weight.row(v)))
            })
            .collect();
        let mut head = Unembedding {
            largest_gain: norm_.gain.iter().fold(0.0, |most, gain| f64::max(most, gain.abs())),
            weight,
            gain: norm_.gain.clone(),
            kind,
            constant,
            norms: Vec::new(),
            largest: 0.0,
            radius: 0.0,
            rounding: 0.0,
        };
        head.norms = head.per_row(|g, _| norm(g) * (1.0 + 1e-13));
        head.largest = head.norms.iter().copied().fold(0.0, f64::max);
        head.radius = head.enclosing_radius();
        let beta = norm_.bias.as_deref();
        let sizes = head.per_row(|_, w| {
            let scaled = w.iter().zip(&norm_.gain).map(|(w, gain)| (w * gain).powi(2)).sum::<f64>();
            let shifted = beta.map_or(0.0, |beta| w.iter().zip(beta).map(|(w, b)| (w * b).abs()).sum());
            (scaled * w.len() as f64).sqrt() + shifted
        });
        let constants = head.constant.iter().fold(0.0, |most, c| f64::max(most, c.abs()));
        let size = sizes.into_iter().fold(0.0, f64::max) + constants;
        head.rounding = 8.0 * (head.gain.len() + 64) as f64 * UNIT * size;
        head
    }

    /// `g_v`.
    pub(crate) fn direction(&self, v: usize) -> Vec<f64> {
        let scaled = self.weight.row(v).iter().zip(&self.gain).map(|(w, gain)| w * gain).collect();
        centred(scaled, self.kind)
    }

    /// `y g_v` for every row of `y` (`[n, d]`) and every `v`: `[n, V]`.
    pub(crate) fn inner(&self, y: &Matrix<f64>) -> Matrix<f64> {
        let data = (0..y.rows)
            .flat_map(|row| {
                let centred = centred(y.row(row).to_vec(), self.kind);
                centred.into_iter().zip(&self.gain).map(|(y, gain)| y * gain).collect::<Vec<_>>()
            })
            .collect();
        product(view(&Matrix::new(y.rows, y.cols, data)), view(&self.weight).transposed())
    }

    /// `sum_v p_v g_v` for every row of `p` (`[n, V]`): `[n, d]`.
    pub(crate) fn means(&self, p: &Matrix<f64>) -> Matrix<f64> {
        let mut means = product(view(p), view(&self.weight));
        for row in means.data.chunks_exact_mut(self.gain.len()) {
            let scaled = row.iter().zip(&self.gain).map(|(w, gain)| w * gain).collect();
            row.copy_from_slice(&centred(scaled, self.kind));
        }
        means
    }

    /// Vocabulary.
    pub(crate) fn vocab(&self) -> usize {
        self.weight.rows
    }

    /// `f(g_v, w_v)` for every `v`, in order.
    fn per_row(&self, f: impl Fn(&[f64], &[f64]) -> f64 + Sync) -> Vec<f64> {
        let tasks: Vec<usize> = (0..self.vocab()).step_by(ROWS).collect();
        let parts: Vec<Vec<f64>> = tasks
            .par_iter()
            .map(|&first| {
                (first..(first + ROWS).min(self.vocab()))
                    .map(|v| f(&self.direction(v), self.weight.row(v)))
                    .collect()
            })
            .collect();
        parts.concat()
    }

    /// Around the mean, improved by a few steps towards the farthest (Badoiu and Clarkson); any centre is
    /// valid, the best is kept.
    fn enclosing_radius(&self) -> f64 {
        let uniform = vec![1.0 / self.vocab() as f64; self.vocab()];
        let mut centre = self.means(&Matrix::new(1, self.vocab(), uniform)).data;
        let mut best = f64::INFINITY;
        for step in 1..=12 {
            let distances = self.per_row(|g, _| crate::linear::distance(g, &centre));
            let (farthest, radius) = distances
                .iter()
                .enumerate()
                .fold((0, 0.0), |most, (v, &x)| if x > most.1 { (v, x) } else { most });
            best = best.min(radius);
            let towards = self.direction(farthest);
            let share = 1.0 / f64::from(step + 1);
            centre.iter_mut().zip(&towards).for_each(|(c, g)| *c += share * (g - *c));
        }
        best * (1.0 + 1e-12)
    }
}
