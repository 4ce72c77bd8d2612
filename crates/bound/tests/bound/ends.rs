//! The plain implementation, continued: the trajectory, gated MLPs, bounds from weights alone, families of changes, and what a
//! difference of the final state does to logits and decisions.

use crate::algebra::{Rows, activation, dot, largest_eigenvalue, minus, norm, times, transposed};
use crate::plain::{Block, Mistake, Plain};
use rote_model::{Activation, MlpKind, Positions, Residual};

/// Theorem D's ingredients for a gated MLP.
struct Gates {
    first: Rows,
    third: Rows,
    second: Rows,
    biases: [Vec<f64>; 2],
}

impl Plain<'_> {
    fn gates(&self, index: usize) -> Gates {
        let w = &self.model.weights.blocks[index];
        let (m, gate) = (self.model.spec.d_mlp, w.gate.as_ref().expect("a gated model has gates"));
        let bias = |linear| (0..m).map(|k| self.folded_bias(linear, &w.mlp_norm, k)).collect();
        Gates {
            first: self.folded(gate, &w.mlp_norm, 0, m),
            third: self.folded(&w.up, &w.mlp_norm, 0, m),
            second: (0..m)
                .map(|k| (0..w.down.weight.rows).map(|o| w.down.weight.row(o)[k]).collect())
                .collect(),
            biases: [bias(gate), bias(&w.up)],
        }
    }

    /// `kK` and `kK2` of lemma L8, entry by entry.
    fn bilinear(&self, gates: &Gates) -> (f64, f64) {
        let (w, w3) = (transposed(&gates.first), transposed(&gates.third));
        let m = w.len();
        let k: Rows = (0..m)
            .map(|a| {
                (0..m)
                    .map(|b| {
                        let same = dot(&w[a], &w[b]) * dot(&w3[a], &w3[b]);
                        (same + dot(&w[a], &w3[b]) * dot(&w[b], &w3[a])) / 2.0
                    })
                    .collect()
            })
            .collect();
        let after = times(&times(&transposed(&gates.second), &k), &gates.second);
        (largest_eigenvalue(k).max(0.0).sqrt(), largest_eigenvalue(after).max(0.0).sqrt())
    }

    /// Theorem D for gated MLPs.
    pub fn gated_mlp(&self, index: usize, block: &Block, i: usize, r: f64) -> f64 {
        let (MlpKind::Gated(act) | MlpKind::Plain(act)) = self.model.spec.mlp;
        let gates = self.gates(index);
        let (w, w3) = (transposed(&gates.first), transposed(&gates.third));
        let m = w.len();
        let value = |w: &Rows, bias: &[f64]| -> Vec<f64> {
            (0..m).map(|k| dot(&block.u2[i], &w[k]) + bias[k]).collect()
        };
        let (a, v) = (value(&w, &gates.biases[0]), value(&w3, &gates.biases[1]));
        let sizes = |w: &Rows| -> Vec<f64> { w.iter().map(|w| norm(w)).collect() };
        let (size, size3) = (sizes(&w), sizes(&w3));
        let (n1, n2, n3) = (self.size(&gates.first), self.size(&gates.second), self.size(&gates.third));
        let range = |k: usize| {
            let now = activation(act, a[k]);
            Self::grid(a[k], size[k] * r, |x| (activation(act, x) - now).abs())
        };
        let ranges: Vec<f64> = (0..m).map(range).collect();
        let by_gate: Vec<f64> = (0..m)
            .map(|k| Self::grid(a[k], size[k] * r, |x| Self::slope(act, x).abs()) * v[k].abs())
            .collect();
        let by_up: Vec<f64> = (0..m).map(|k| activation(act, a[k]).abs() + ranges[k]).collect();
        let each: Vec<f64> = (0..m).map(|k| ranges[k] * v[k].abs() + by_up[k] * size3[k] * r).collect();
        let slopes = Self::hybrid(&by_gate, &size, n1) + Self::hybrid(&by_up, &size3, n3);
        let mut bound = (n2 * norm(&each)).min(n2 * slopes * r);
        let bare = gates.biases.iter().flatten().all(|&bias| bias == 0.0);
        if bare && act == Activation::Silu {
            let (inside, after) = self.bilinear(&gates);
            let (u, root) = (norm(&block.u2[i]), (block.u2[i].len() as f64).sqrt());
            let q = r * (2.0 * u + r).min(u + root);
            let product: Vec<f64> = (0..m).map(|k| (a[k] * v[k]).abs()).collect();
            let turned: Vec<f64> = (0..m)
                .map(|k| {
                    let b = size[k] * r;
                    let most = Self::grid(a[k], b, |x| ((x / 2.0).tanh() - (a[k] / 2.0).tanh()).abs());
                    product[k] * (b / 4.0).min(most / 2.0)
                })
                .collect();
            let quarter: Vec<f64> = product.iter().map(|x| x / 4.0).collect();
            let tail = norm(&turned).min(Self::hybrid(&quarter, &size, n1) * r);
            bound = bound.min(after * q / 2.0 + n2 * (inside * q / 2.0 + tail));
        }
        let bias = self.model.weights.blocks[index].down.bias.clone();
        let c2 = bias.unwrap_or_else(|| vec![0.0; block.mlp[i].len()]);
        bound.min(norm(&minus(&block.mlp[i], &c2)) + self.mlp_reach(index))
    }

    /// `B_M`.
    pub fn mlp_reach(&self, index: usize) -> f64 {
        let spec = &self.model.spec;
        let MlpKind::Gated(act) = spec.mlp else { return self.plain_reach(index) };
        let (gates, root) = (self.gates(index), (spec.d_model as f64).sqrt());
        let tops = |w: &Rows, bias: &[f64]| -> Vec<f64> {
            transposed(w).iter().zip(bias).map(|(w, b)| root * norm(w) + b.abs()).collect()
        };
        let first = tops(&gates.first, &gates.biases[0]);
        let f: Vec<f64> =
            first.iter().map(|&top| Self::grid(0.0, top, |x| activation(act, x).abs())).collect();
        let p = tops(&gates.third, &gates.biases[1]);
        let both: Vec<f64> = f.iter().zip(&p).map(|(f, p)| f * p).collect();
        let most = |x: &[f64]| x.iter().copied().fold(0.0, f64::max);
        let (n1, n2, n3) = (self.size(&gates.first), self.size(&gates.second), self.size(&gates.third));
        let inner = norm(&both)
            .min(most(&f) * (root * n3 + norm(&gates.biases[1])))
            .min(most(&p) * (root * n1 + norm(&gates.biases[0])));
        let absolute: Rows = gates.second.iter().map(|row| row.iter().map(|x| x.abs()).collect()).collect();
        let mut reach = (n2 * inner).min(norm(&times(&vec![both], &absolute)[0]));
        if act != Activation::Relu && gates.biases.iter().flatten().all(|&bias| bias == 0.0) {
            let (inside, after) = self.bilinear(&gates);
            reach = reach.min(root * root * (after + n2 * inside) / 2.0);
        }
        reach
    }

    /// Theorem E for a bypass of `from`, per block output from `from` on.
    pub fn trajectory(&self, blocks: &[Block], from: usize) -> Vec<Vec<f64>> {
        let n = blocks[0].x.len();
        let sequential = self.model.spec.residual == Residual::Sequential;
        let mut rho: Vec<f64> = (0..n).map(|i| self.local(from, &blocks[from], i)[0]).collect();
        let mut all = Vec::new();
        for index in from..blocks.len() {
            let block = &blocks[index];
            let before = rho.clone();
            if index > from {
                let r: Vec<f64> =
                    (0..n).map(|i| self.step(rho[i], &block.u1[i], self.deviation(&block.x[i]))).collect();
                for i in 0..n {
                    if r[self.from(index, i)..=i].iter().any(|&r| r > 0.0) {
                        rho[i] += self.attention(index, block, i, &r);
                    }
                }
            }
            let input = if sequential { rho.clone() } else { before };
            if sequential || index > from {
                for i in 0..n {
                    let r = self.step(input[i], &block.u2[i], block.s2[i]);
                    rho[i] += match self.model.spec.mlp {
                        MlpKind::Plain(_) => self.plain_mlp(index, block, i, r),
                        MlpKind::Gated(_) if self.mistake == Mistake::HalfMlp => {
                            self.gated_mlp(index, block, i, r) / 2.0
                        }
                        MlpKind::Gated(_) => self.gated_mlp(index, block, i, r),
                    };
                }
            }
            all.push(rho.clone());
        }
        all
    }

    /// F2 for a bypass of `from`, at the last block.
    pub fn additive(&self, blocks: &[Block], from: usize, i: usize) -> f64 {
        let spec = &self.model.spec;
        let root = (spec.d_model as f64).sqrt();
        // Token 0 is not displaced, but F2 knows no token.
        let mut sum = self.local(from, &blocks[from], i.max(1))[5];
        for index in from..spec.n_blocks {
            if index > from {
                sum += 2.0 * self.over_heads(index, &vec![root; spec.n_heads]);
            }
            if index > from || spec.residual == Residual::Sequential {
                sum += 2.0 * self.mlp_reach(index);
            }
        }
        sum
    }

    /// `log10` of F1 for a bypass of `from`, at the last block.
    pub fn product(&self, from: usize, a5: f64) -> f64 {
        let spec = &self.model.spec;
        let slope = 1.0 / spec.eps.sqrt();
        let mut product = a5;
        for index in from..spec.n_blocks {
            let (attn, mlp) = (self.attention_slope(index) * slope, self.mlp_slope(index) * slope);
            product *= match (spec.residual, index > from) {
                (Residual::Sequential, true) => (1.0 + attn) * (1.0 + mlp),
                (Residual::Sequential, false) => 1.0 + mlp,
                (Residual::Parallel, true) => 1.0 + attn + mlp,
                (Residual::Parallel, false) => 1.0,
            };
        }
        product.log10()
    }

    /// `Lam^A`; for models without query and key norms.
    fn attention_slope(&self, index: usize) -> f64 {
        let (spec, w) = (&self.model.spec, &self.model.weights.blocks[index]);
        let (dh, root) = (spec.d_head, (spec.d_model as f64).sqrt());
        let stretch = match &spec.positions {
            Positions::Rotary(rotary) if 2 * rotary.inv_freq.len() < dh => rotary.attention_factor.max(1.0),
            Positions::Rotary(rotary) => rotary.attention_factor,
            Positions::Learned { .. } => 1.0,
        };
        (0..spec.n_heads)
            .map(|h| {
                let kv = h * spec.n_kv_heads / spec.n_heads;
                let of = |first: usize| -> (f64, f64) {
                    let bias = (first..first + dh).map(|row| self.folded_bias(&w.qkv, &w.attn_norm, row));
                    let matrix = self.folded(&w.qkv, &w.attn_norm, first, dh);
                    (self.size(&matrix), norm(&bias.collect::<Vec<_>>()))
                };
                let ((q, bq), (k, bk)) = (of(h * dh), of(spec.d_query() + kv * dh));
                let scores =
                    spec.score_scale.abs() * stretch * stretch * (q * (root * k + bk) + k * (root * q + bq));
                self.size(&self.ov(index, h)) * (1.0 + root * scores)
            })
            .sum()
    }

    /// `Lam^M`.
    fn mlp_slope(&self, index: usize) -> f64 {
        let (spec, w) = (&self.model.spec, &self.model.weights.blocks[index]);
        let root = (spec.d_model as f64).sqrt();
        let (MlpKind::Plain(act) | MlpKind::Gated(act)) = spec.mlp;
        // Largest slopes, from the table of the specification's lemma L4.
        let steep = match act {
            Activation::GeluErf => 1.128_904_145_2,
            Activation::GeluTanh => 1.128_993_068_7,
            Activation::Silu => 1.099_839_320_2,
            Activation::Relu => 1.0,
        };
        let MlpKind::Gated(_) = spec.mlp else {
            let first = self.folded(&w.up, &w.mlp_norm, 0, spec.d_mlp);
            let down: Rows = (0..w.down.weight.rows).map(|row| w.down.weight.row(row)).collect();
            return self.size(&down) * steep * self.size(&first);
        };
        let gates = self.gates(index);
        let top = |w: &Rows, bias: &[f64]| -> f64 {
            transposed(w).iter().zip(bias).map(|(w, b)| root * norm(w) + b.abs()).fold(0.0, f64::max)
        };
        let f = Self::grid(0.0, top(&gates.first, &gates.biases[0]), |x| activation(act, x).abs());
        let p = top(&gates.third, &gates.biases[1]);
        self.size(&gates.second) * (steep * p * self.size(&gates.first) + f * self.size(&gates.third))
    }

    /// First-order estimate of the final difference for a bypass of `from`: a difference quotient.
    pub fn estimate(&self, tokens: &[u32], blocks: &[Block], from: usize) -> Vec<f64> {
        let h = 1e-5;
        let nudge = |sign: f64| -> Rows {
            let delta = |i: usize| -> Vec<f64> {
                let parts = blocks[from].heads.iter().enumerate().map(|(at, head)| {
                    times(&vec![minus(&head.v[i], &head.o[i])], &self.out(from, at)).remove(0)
                });
                parts.fold(vec![0.0; self.model.spec.d_model], |sum, part| {
                    sum.iter().zip(&part).map(|(a, b)| a + sign * h * b).collect()
                })
            };
            self.nudged(tokens, from, &(0..tokens.len()).map(delta).collect()).1
        };
        let (up, down) = (nudge(1.0), nudge(-1.0));
        up.iter().zip(&down).map(|(up, down)| norm(&minus(up, down)) / (2.0 * h)).collect()
    }

    /// H2 by trying every subset, H3 by the farthest value of each head.
    pub fn families(&self, index: usize, block: &Block, i: usize) -> (f64, f64) {
        let parts: Rows = block
            .heads
            .iter()
            .enumerate()
            .map(|(h, head)| times(&vec![minus(&head.v[i], &head.o[i])], &self.out(index, h)).remove(0))
            .collect();
        let subset = (0..1_u32 << parts.len())
            .map(|set| {
                let chosen = parts.iter().enumerate().filter(|(h, _)| set >> h & 1 == 1);
                norm(&chosen.fold(vec![0.0; self.model.spec.d_model], |sum, (_, part)| {
                    sum.iter().zip(part).map(|(a, b)| a + b).collect()
                }))
            })
            .fold(0.0, f64::max);
        let pattern = block.heads.iter().enumerate().map(|(h, head)| {
            let far = |j: usize| norm(&times(&vec![minus(&head.v[j], &head.o[i])], &self.out(index, h))[0]);
            (self.from(index, i)..=i).map(far).fold(0.0, f64::max)
        });
        (subset, pattern.sum())
    }

    /// Theorem I at the final state `x` for every state within `rho`: I1, the least margin of I2, the certified
    /// radius, I3's bound on a rise of `next`, and the ends between which the radius of a ball around all `g_v` is.
    pub fn decision(&self, x: &[f64], rho: f64, next: usize) -> Decision {
        let w = &self.model.weights;
        let norm_ = w.final_norm.as_ref().expect("a final norm");
        let vocab = self.model.spec.vocab;
        let (root, u, s) = ((x.len() as f64).sqrt(), self.u(x), self.deviation(x));
        let g = transposed(&self.folded(&w.unembed, norm_, 0, vocab));
        let c: Vec<f64> = (0..vocab).map(|v| self.folded_bias(&w.unembed, norm_, v)).collect();
        let z: Vec<f64> = (0..vocab).map(|v| dot(&u, &g[v]) + c[v]).collect();
        let a = (0..vocab).fold(0, |best, v| if z[v] > z[best] { v } else { best });
        let r = self.step(rho, &u, s);
        let t = rho / (root * s);
        let turn = if t < 1.0 { t.asin() } else { std::f64::consts::PI };
        let (mut margin, mut angle) = (f64::INFINITY, std::f64::consts::FRAC_PI_2);
        for v in (0..vocab).filter(|&v| v != a) {
            let size = root * norm(&minus(&g[a], &g[v]));
            let phi = ((z[a] - z[v] - c[a] + c[v]) / size).clamp(-1.0, 1.0).acos();
            margin = margin.min(size * (phi + turn).min(std::f64::consts::PI).cos() + c[a] - c[v]);
            if (c[v] - c[a]) / size > -1.0 {
                angle = angle.min(((c[v] - c[a]) / size).clamp(-1.0, 1.0).acos() - phi);
            }
        }
        let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = z.iter().map(|z| (z - top).exp()).sum();
        let mean: Vec<f64> =
            (0..x.len()).map(|k| (0..vocab).map(|v| (z[v] - top).exp() / sum * g[v][k]).sum()).collect();
        let centre: Vec<f64> =
            (0..x.len()).map(|k| g.iter().map(|g| g[k]).sum::<f64>() / vocab as f64).collect();
        let farthest = |y: &[f64]| g.iter().map(|g| norm(&minus(g, y))).fold(0.0, f64::max);
        Decision {
            logit: r * g.iter().map(|g| norm(g)).fold(0.0, f64::max),
            margin,
            radius: root * s * angle.max(0.0).sin(),
            rise: r * norm(&minus(&g[next], &mean)).min(farthest(&g[next])),
            step: r,
            ball: (g.iter().map(|y| farthest(y)).fold(0.0, f64::max) / 2.0, farthest(&centre)),
            final_norm: r * norm_.gain.iter().fold(0.0, |most, gain| f64::max(most, gain.abs())),
        }
    }
}

/// What theorem I says of one position.
pub struct Decision {
    pub logit: f64,
    pub margin: f64,
    pub radius: f64,
    pub rise: f64,
    /// The step of the final norm.
    pub step: f64,
    /// Between which the radius of the least ball around all `g_v` lies.
    pub ball: (f64, f64),
    pub final_norm: f64,
}
