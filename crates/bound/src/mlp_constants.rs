//! What the bounds need of an MLP's weights: norms, the bilinear form of a gated MLP (lemma L8), the reach.
//!
//! L8: without biases a gated MLP's product `a_k v_k = (u.w_k)(u.w'_k)` is a quadratic form. For rows `p, p'`
//! let `b_k` be its symmetric bilinear form, `<Sym(p^T p'), Sym(w_k^T w'_k)>`. As `|Sym(p^T p')|_F <=
//! |p||p'|`, `|b| <= |p||p'| lambda_max(K)^(1/2)` with the Gram matrix `K` of the `Sym(w_k^T w'_k)`, and
//! after `W_2` the same with `W_2^T K W_2`.

use rote_model::{Activation, Block, Matrix, MlpKind, Spec};

use crate::activation::largest;
use crate::constants::Folded;
use crate::known::KnownBlock;
use crate::linear::{gamma, norm, product, product_error, row_norms, view};
use crate::spectral::{largest_eigenvalue, spectral_norm};

/// The form of an MLP with what belongs to it.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// `down(act(up(x)))`.
    Plain {
        /// `|W~_1 W_2|`.
        through: f64,
    },
    /// `down(act(gate(x)) * up(x))`.
    Gated {
        up: Folded,
        /// `|w'_k|`.
        up_columns: Vec<f64>,
        /// `|W~_3|`.
        up_norm: f64,
        /// `(kK, kK2)`, where there is no bias.
        bilinear: Option<(f64, f64)>,
    },
}

/// One block's MLP.
#[derive(Clone, Debug)]
pub(crate) struct MlpConstants {
    pub act: Activation,
    /// What the activation reads: `W~_1`.
    pub first: Folded,
    /// `|w_k|`.
    pub columns: Vec<f64>,
    /// `|W~_1|`.
    pub first_norm: f64,
    /// `[d, m]`.
    pub down: Matrix<f64>,
    /// `|W_2|`.
    pub down_norm: f64,
    /// `c_2`.
    pub down_bias: Vec<f64>,
    pub form: Form,
    /// `B_M >= |M - c_2|`.
    pub reach: f64,
    /// `Lam^M`: Lipschitz constant in `u`, on every input.
    pub lipschitz: f64,
}

impl MlpConstants {
    pub(crate) fn new(spec: &Spec, block: &Block<f64>, known: &mut KnownBlock<'_>) -> MlpConstants {
        let fold = |linear: &rote_model::Linear<f64>| {
            Folded::new(linear, 0, linear.n_out(), &block.mlp_norm, spec.norm)
        };
        let down = block.down.weight.to_matrix();
        let down_norm = known.one("down", || spectral_norm(view(&down), 0.0));
        let down_bias = block.down.bias.clone().unwrap_or_else(|| vec![0.0; spec.d_model]);
        let (act, first, form) = match (spec.mlp, &block.gate) {
            (MlpKind::Gated(act), Some(gate)) => {
                let (gate, up) = (fold(gate), fold(&block.up));
                let bare =
                    act != Activation::Relu && gate.bias.iter().chain(&up.bias).all(|&bias| bias == 0.0);
                let bilinear = bare.then(|| {
                    let both = known.several("bilinear form, and after down", 2, || {
                        let (inside, after) = bilinear(&gate.weight, &up.weight, &down, down_norm);
                        vec![inside, after]
                    });
                    (both[0], both[1])
                });
                let up_columns = row_norms(&up.weight);
                let up_norm = known.one("up", || spectral_norm(view(&up.weight), 0.0));
                (act, gate, Form::Gated { up, up_columns, up_norm, bilinear })
            }
            (MlpKind::Plain(act) | MlpKind::Gated(act), _) => {
                let first = fold(&block.up);
                let through = known.one("first and down", || {
                    let through = product(view(&down), view(&first.weight));
                    let error = product_error(view(&down), view(&first.weight));
                    spectral_norm(view(&through), error)
                });
                (act, first, Form::Plain { through })
            }
        };
        let columns = row_norms(&first.weight);
        let first_norm = known.one("first", || spectral_norm(view(&first.weight), 0.0));
        let mut constants = MlpConstants {
            act,
            first,
            columns,
            first_norm,
            down,
            down_norm,
            down_bias,
            form,
            reach: 0.0,
            lipschitz: 0.0,
        };
        (constants.reach, constants.lipschitz) = constants.range_and_slope((spec.d_model as f64).sqrt());
        constants
    }

    /// `B_M` and `Lam^M`, for inputs `|u| <= root`.
    fn range_and_slope(&self, root: f64) -> (f64, f64) {
        let bias_norm = norm(&self.first.bias);
        let tops: Vec<f64> =
            self.columns.iter().zip(&self.first.bias).map(|(w, b)| root * w + b.abs()).collect();
        let f: Vec<f64> = tops.iter().map(|&top| largest(self.act, top)).collect();
        let steep = crate::activation::lipschitz(self.act);
        let first = root * self.first_norm + bias_norm;
        let (reach, slope) = match &self.form {
            Form::Plain { through } => {
                let bias_row = Matrix::new(1, self.first.bias.len(), self.first.bias.clone());
                let bias_through = norm(&product(view(&bias_row), view(&self.down).transposed()).data);
                let halves = (root * through + bias_through + self.down_norm * first) / 2.0;
                let reach = (self.down_norm * first)
                    .min(self.down_norm * norm(&f))
                    .min(self.elementwise(&f))
                    .min(halves);
                (reach, self.down_norm * steep * self.first_norm)
            }
            Form::Gated { up, up_columns, up_norm, bilinear } => {
                let p: Vec<f64> = up_columns.iter().zip(&up.bias).map(|(w, b)| root * w + b.abs()).collect();
                let both: Vec<f64> = f.iter().zip(&p).map(|(f, p)| f * p).collect();
                let top = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
                let inner = norm(&both).min(top(&f) * (root * up_norm + norm(&up.bias))).min(top(&p) * first);
                let mut reach = (self.down_norm * inner).min(self.elementwise(&both));
                if let Some((inside, after)) = bilinear {
                    reach = reach.min(root * root * (after + self.down_norm * inside) / 2.0);
                }
                (reach, self.down_norm * (steep * top(&p) * self.first_norm + top(&f) * up_norm))
            }
        };
        (reach * (1.0 + 1e-12), slope * (1.0 + 1e-12))
    }

    /// `|f |W_2||` with elementwise absolute values.
    fn elementwise(&self, f: &[f64]) -> f64 {
        let sums: Vec<f64> = (0..self.down.rows)
            .map(|row| self.down.row(row).iter().zip(f).map(|(w, f)| w.abs() * f).sum())
            .collect();
        norm(&sums)
    }
}

/// `kK` and `kK2` of lemma L8, from `W~_1` and `W~_3` (both `[m, d]`) and `W_2` (`[d, m]`).
fn bilinear(gate: &Matrix<f64>, up: &Matrix<f64>, down: &Matrix<f64>, down_norm: f64) -> (f64, f64) {
    let (m, d) = (gate.rows, gate.cols);
    let gate_gate = product(view(gate), view(gate).transposed());
    let up_up = product(view(up), view(up).transposed());
    let gate_up = product(view(gate), view(up).transposed());
    let mut k = gate_gate;
    for row in 0..m {
        for col in 0..m {
            let at = row * m + col;
            k.data[at] = 0.5 * (k.data[at] * up_up.data[at] + gate_up.data[at] * gate_up.data[col * m + row]);
        }
    }
    // Every entry is at most |w_k||w'_k||w_l||w'_l| and is computed from products of length d.
    let sizes: f64 = row_norms(gate).iter().zip(row_norms(up)).map(|(a, b)| (a * b).powi(2)).sum();
    let error = 2.0 * gamma(2 * d + 8) * sizes;
    let inside = largest_eigenvalue(&k, error).sqrt();
    let half = product(view(down), view(&k));
    let after = product(view(&half), view(down).transposed());
    let rounding = gamma(2 * m + 4) * view(down).frobenius().powi(2) * view(&k).frobenius();
    let after = largest_eigenvalue(&after, rounding + down_norm * down_norm * error).sqrt();
    (inside * (1.0 + 1e-14), after * (1.0 + 1e-14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bilinear_norm_is_reached_by_one_neuron_and_never_passed() {
        // One neuron, w = w': b = (p.w)(p'.w), largest |w|^2 |p||p'|.
        let w = Matrix::new(1, 2, vec![3.0, 4.0]);
        let down = Matrix::new(2, 1, vec![2.0, 0.0]);
        let (inside, after) = bilinear(&w, &w, &down, 2.0);
        assert!((inside - 25.0).abs() < 1e-7, "{inside}");
        assert!((after - 50.0).abs() < 1e-6, "{after}");
        // Orthogonal w and w': Sym halves it.
        let other = Matrix::new(1, 2, vec![-4.0, 3.0]);
        let (inside, _) = bilinear(&w, &other, &down, 2.0);
        assert!((inside - 25.0 / 2f64.sqrt()).abs() < 1e-7, "{inside}");
    }
}
