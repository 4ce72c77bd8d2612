//! The theorems once more, slow and plain: rows of vectors, loops, textbook formulas, eigenvalues by Jacobi
//! rotations, every prefix tried; its own forward pass. Shares no line with the crate. It can be made wrong on
//! purpose, so that the tests show that a wrong theorem would be seen.

use crate::algebra::{Rows, activation, dot, minus, norm, spectral, times, transposed};
use rote_model::{Activation, Linear, MlpKind, Model, Norm, NormKind, Positions, Residual};

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mistake {
    None,
    HalfAttention,
    HalfMlp,
    NoEpsilon,
    NoMean,
    HeadsByMaximum,
    QuarterBox,
    FrobeniusForSpectral,
    HalfDisplacement,
}

/// One head's weights, values and outputs.
pub struct Head {
    pub p: Rows,
    pub v: Rows,
    pub o: Rows,
    k: Rows,
    q: Rows,
}

pub struct Block {
    pub x: Rows,
    pub heads: Vec<Head>,
    pub attn: Rows,
    pub mlp: Rows,
    pub u1: Rows,
    pub u2: Rows,
    pub s2: Vec<f64>,
}

pub struct Plain<'a> {
    pub model: &'a Model<f64>,
    pub mistake: Mistake,
}

impl Plain<'_> {
    fn layer(&self) -> bool {
        self.model.spec.norm == NormKind::Layer
    }

    fn centred(&self, x: &[f64]) -> Vec<f64> {
        let mean = if self.layer() && self.mistake != Mistake::NoMean {
            x.iter().sum::<f64>() / x.len() as f64
        } else {
            0.0
        };
        x.iter().map(|x| x - mean).collect()
    }

    pub fn deviation(&self, x: &[f64]) -> f64 {
        let eps = if self.mistake == Mistake::NoEpsilon { 0.0 } else { self.model.spec.eps };
        let c = self.centred(x);
        (dot(&c, &c) / x.len() as f64 + eps).sqrt()
    }

    pub fn u(&self, x: &[f64]) -> Vec<f64> {
        let s = self.deviation(x);
        self.centred(x).iter().map(|x| x / s).collect()
    }

    fn apply_norm(&self, x: &[f64], norm: &Norm<f64>) -> Vec<f64> {
        let u = self.u(x);
        (0..x.len()).map(|i| u[i] * norm.gain[i] + norm.bias.as_ref().map_or(0.0, |b| b[i])).collect()
    }

    /// `W~`, `[in][out]`, of rows `first..first + count` of a linear map.
    pub fn folded(&self, linear: &Linear<f64>, norm: &Norm<f64>, first: usize, count: usize) -> Rows {
        let d = self.model.spec.d_model;
        let mut columns = Rows::new();
        for row in first..first + count {
            let weight = linear.weight.row(row);
            let scaled: Vec<f64> = (0..d).map(|i| weight[i] * norm.gain[i]).collect();
            columns.push(self.centred(&scaled));
        }
        transposed(&columns)
    }

    pub fn folded_bias(&self, linear: &Linear<f64>, norm: &Norm<f64>, row: usize) -> f64 {
        linear.bias.as_ref().map_or(0.0, |b| b[row])
            + norm.bias.as_ref().map_or(0.0, |b| dot(b, &linear.weight.row(row)))
    }

    fn linear(linear: &Linear<f64>, x: &[f64]) -> Vec<f64> {
        (0..linear.weight.rows)
            .map(|row| dot(&linear.weight.row(row), x) + linear.bias.as_ref().map_or(0.0, |b| b[row]))
            .collect()
    }

    fn turned(&self, head: &[f64], position: usize) -> Vec<f64> {
        let mut out = head.to_vec();
        if let Positions::Rotary(rotary) = &self.model.spec.positions {
            let half = rotary.inv_freq.len();
            for j in 0..half {
                let angle = position as f64 * rotary.inv_freq[j];
                let (cos, sin) =
                    (angle.cos() * rotary.attention_factor, angle.sin() * rotary.attention_factor);
                out[j] = head[j] * cos - head[j + half] * sin;
                out[j + half] = head[j + half] * cos + head[j] * sin;
            }
        }
        out
    }

    fn query_key(&self, head: &[f64], norm: Option<&Norm<f64>>, position: usize) -> Vec<f64> {
        let normed = match norm {
            Some(norm) => {
                let s = (dot(head, head) / head.len() as f64 + self.model.spec.eps).sqrt();
                head.iter().zip(&norm.gain).map(|(x, g)| x / s * g).collect()
            }
            None => head.to_vec(),
        };
        self.turned(&normed, position)
    }

    pub fn from(&self, block: usize, i: usize) -> usize {
        self.model.spec.windows[block].map_or(0, |w| (i + 1).saturating_sub(w))
    }

    /// The model as it is, with all internals; the final states come last.
    pub fn run(&self, tokens: &[u32]) -> (Vec<Block>, Rows) {
        self.nudged(tokens, 0, &Rows::new())
    }

    /// The same with something added to the attention output of one block; nothing where it has no rows.
    pub fn nudged(&self, tokens: &[u32], at: usize, nudge: &Rows) -> (Vec<Block>, Rows) {
        let weights = &self.model.weights;
        let mut x: Rows = tokens.iter().map(|&t| weights.embed.row(t as usize)).collect();
        if let (Some(table), Positions::Learned { offset }) = (&weights.positions, &self.model.spec.positions)
        {
            for (i, x) in x.iter_mut().enumerate() {
                *x = x.iter().zip(table.row(i + offset)).map(|(a, b)| a + b).collect();
            }
        }
        let mut blocks = Vec::new();
        for block in 0..weights.blocks.len() {
            let nothing = Rows::new();
            let (done, next) = self.block(block, x, if block == at { nudge } else { &nothing });
            blocks.push(done);
            x = next;
        }
        (blocks, x)
    }

    fn block(&self, index: usize, x: Rows, nudge: &Rows) -> (Block, Rows) {
        let (spec, w) = (&self.model.spec, &self.model.weights.blocks[index]);
        let dh = spec.d_head;
        let qkv: Rows = x.iter().map(|x| Self::linear(&w.qkv, &self.apply_norm(x, &w.attn_norm))).collect();
        let mut heads = Vec::new();
        for head in 0..spec.n_heads {
            let kv = head * spec.n_kv_heads / spec.n_heads;
            let cut = |row: &Vec<f64>, from: usize| row[from..from + dh].to_vec();
            let of = |from: usize, norm: Option<&Norm<f64>>| -> Rows {
                qkv.iter().enumerate().map(|(i, row)| self.query_key(&cut(row, from), norm, i)).collect()
            };
            let q = of(head * dh, w.q_norm.as_ref());
            let k = of(spec.d_query() + kv * dh, w.k_norm.as_ref());
            let v: Rows = qkv.iter().map(|row| cut(row, spec.d_query() + spec.d_kv() + kv * dh)).collect();
            let p: Rows = (0..x.len())
                .map(|i| {
                    let seen = |j: usize| j >= self.from(index, i) && j <= i;
                    let score = |j: usize| spec.score_scale * dot(&q[i], &k[j]);
                    let top = (0..x.len()).filter(|&j| seen(j)).map(score).fold(f64::NEG_INFINITY, f64::max);
                    let weight = |j: usize| if seen(j) { (score(j) - top).exp() } else { 0.0 };
                    let e: Vec<f64> = (0..x.len()).map(weight).collect();
                    let sum: f64 = e.iter().sum();
                    e.iter().map(|e| e / sum).collect()
                })
                .collect();
            let o = times(&p, &v);
            heads.push(Head { p, v, o, k, q });
        }
        let mixed: Rows =
            (0..x.len()).map(|i| heads.iter().flat_map(|head| head.o[i].clone()).collect()).collect();
        let mut attn: Rows = mixed.iter().map(|row| Self::linear(&w.o, row)).collect();
        for (attn, nudge) in attn.iter_mut().zip(nudge) {
            attn.iter_mut().zip(nudge).for_each(|(attn, nudge)| *attn += nudge);
        }
        let add = |a: &Rows, b: &Rows| -> Rows {
            a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
        };
        let middle = add(&x, &attn);
        let input = if spec.residual == Residual::Sequential { &middle } else { &x };
        let mlp: Rows = input.iter().map(|x| self.mlp(index, x)).collect();
        let next = add(&middle, &mlp);
        let per = |rows: &Rows| -> (Rows, Vec<f64>) {
            (rows.iter().map(|x| self.u(x)).collect(), rows.iter().map(|x| self.deviation(x)).collect())
        };
        let ((u1, _), (u2, s2)) = (per(&x), per(input));
        (Block { x, heads, attn, mlp, u1, u2, s2 }, next)
    }

    fn mlp(&self, index: usize, x: &[f64]) -> Vec<f64> {
        let w = &self.model.weights.blocks[index];
        let input = self.apply_norm(x, &w.mlp_norm);
        let up = Self::linear(&w.up, &input);
        let hidden: Vec<f64> = match (self.model.spec.mlp, &w.gate) {
            (MlpKind::Gated(act), Some(gate)) => {
                Self::linear(gate, &input).iter().zip(&up).map(|(g, u)| activation(act, *g) * u).collect()
            }
            (MlpKind::Plain(act) | MlpKind::Gated(act), _) => {
                up.iter().map(|a| activation(act, *a)).collect()
            }
        };
        Self::linear(&w.down, &hidden)
    }

    /// `W_O` of a head, `[d_head][d]`.
    pub fn out(&self, block: usize, head: usize) -> Rows {
        let (w, dh) = (&self.model.weights.blocks[block].o.weight, self.model.spec.d_head);
        (0..dh).map(|k| (0..w.rows).map(|r| w.row(r)[head * dh + k]).collect()).collect()
    }

    /// `OV_h`, `[d][d]`.
    pub fn ov(&self, block: usize, head: usize) -> Rows {
        let (spec, w) = (&self.model.spec, &self.model.weights.blocks[block]);
        let kv = head * spec.n_kv_heads / spec.n_heads;
        let first = spec.d_query() + spec.d_kv() + kv * spec.d_head;
        times(&self.folded(&w.qkv, &w.attn_norm, first, spec.d_head), &self.out(block, head))
    }

    pub fn size(&self, a: &Rows) -> f64 {
        match self.mistake {
            Mistake::FrobeniusForSpectral => a.iter().map(|row| dot(row, row)).sum::<f64>().sqrt(),
            _ => spectral(a),
        }
    }

    /// Lemma L3.
    pub fn over_heads(&self, block: usize, t: &[f64]) -> f64 {
        let ovs: Vec<Rows> = (0..t.len()).map(|head| self.ov(block, head)).collect();
        let n: Vec<f64> = ovs.iter().map(|ov| self.size(ov)).collect();
        let products = n.iter().zip(t).map(|(n, t)| n * t);
        if self.mistake == Mistake::HeadsByMaximum {
            return products.fold(0.0, f64::max);
        }
        let stacked: Rows = ovs.iter().flatten().cloned().collect();
        let weighted: Rows = ovs
            .iter()
            .zip(&n)
            .flat_map(|(ov, n)| {
                ov.iter().map(|row| row.iter().map(|x| x / n.sqrt()).collect()).collect::<Rows>()
            })
            .collect();
        let squares: f64 = t.iter().map(|t| t * t).sum();
        let weighted_squares: f64 = t.iter().zip(&n).map(|(t, n)| n * t * t).sum();
        products
            .sum::<f64>()
            .min(self.size(&stacked) * squares.sqrt())
            .min(self.size(&weighted) * weighted_squares.sqrt())
    }

    /// A0 to A5 of a whole block.
    pub fn local(&self, index: usize, block: &Block, i: usize) -> [f64; 6] {
        let spec = &self.model.spec;
        let d = spec.d_model;
        let root = (d as f64).sqrt();
        let (mut delta, mut a) = (vec![0.0; d], [0.0; 6]);
        let mut away = Vec::new();
        for (h, head) in block.heads.iter().enumerate() {
            let out = self.out(index, h);
            let through = |row: Vec<f64>| times(&vec![row], &out).remove(0);
            let part = through(minus(&head.v[i], &head.o[i]));
            a[1] += norm(&part);
            delta = delta.iter().zip(&part).map(|(a, b)| a + b).collect();
            let e: Vec<f64> =
                (self.from(index, i)..=i).map(|j| norm(&through(minus(&head.v[j], &head.v[i])))).collect();
            a[2] += (self.from(index, i)..=i).zip(&e).map(|(j, e)| head.p[i][j] * e).sum::<f64>();
            a[3] += (1.0 - head.p[i][i]) * e.iter().copied().fold(0.0, f64::max);
            away.push(2.0 * root * (1.0 - head.p[i][i]));
        }
        a[0] = norm(&delta) * if self.mistake == Mistake::HalfDisplacement { 0.5 } else { 1.0 };
        a[4] = self.over_heads(index, &away);
        if i > 0 {
            let all = |t: f64| self.over_heads(index, &vec![t; spec.n_heads]);
            let sum = (0..spec.n_heads).map(|h| self.ov(index, h)).reduce(|a, b| {
                a.iter().zip(&b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
            });
            let operator = self.size(&sum.expect("a block has heads"));
            a[5] = (all(root) + root * operator).min(all(2.0 * root));
        }
        a
    }

    pub fn step(&self, rho: f64, u: &[f64], s: f64) -> f64 {
        let root = (u.len() as f64).sqrt();
        let t = rho / (root * s);
        let chi = if t < 1.0 { 2.0 * (t.asin() / 2.0).sin() } else { 2.0 };
        (root * chi).min(norm(u) + root)
    }

    /// Theorem C; for models without query and key norms.
    pub fn attention(&self, index: usize, block: &Block, i: usize, r: &[f64]) -> f64 {
        let (spec, w) = (&self.model.spec, &self.model.weights.blocks[index]);
        let (dh, c) = (spec.d_head, spec.score_scale.abs());
        let from = self.from(index, i);
        let stretch = match &spec.positions {
            Positions::Rotary(rotary) if 2 * rotary.inv_freq.len() < dh => rotary.attention_factor.max(1.0),
            Positions::Rotary(rotary) => rotary.attention_factor,
            Positions::Learned { .. } => 1.0,
        };
        let (mut t, mut f) = (Vec::new(), 0.0);
        for (h, head) in block.heads.iter().enumerate() {
            let kv = h * spec.n_kv_heads / spec.n_heads;
            let wq = self.folded(&w.qkv, &w.attn_norm, h * dh, dh);
            let wk = self.folded(&w.qkv, &w.attn_norm, spec.d_query() + kv * dh, dh);
            let gamma = c * self.size(&wq) * self.size(&wk) * stretch * stretch;
            // Columns turned, so that u W~ R is one matrix.
            let turn = |w: &Rows, i: usize| -> Rows { w.iter().map(|row| self.turned(row, i)).collect() };
            let wq = turn(&wq, i);
            let mean = times(&vec![head.p[i].clone()], &head.k).remove(0);
            let eps: Vec<f64> = (from..=i)
                .map(|j| {
                    let wk = turn(&wk, j);
                    let on = |w: &Rows, y: &[f64]| norm(&w.iter().map(|row| dot(row, y)).collect::<Vec<_>>());
                    let alpha = c * on(&wq, &minus(&head.k[j], &mean));
                    let beta = c * on(&wk, &head.q[i]);
                    alpha * r[i] + beta * r[j] + gamma * r[i] * r[j]
                })
                .map(|eps| if self.mistake == Mistake::QuarterBox { eps / 4.0 } else { eps })
                .collect();
            let p = &head.p[i][from..=i];
            let up: Vec<f64> = (0..p.len())
                .map(|j| {
                    let others: f64 = (0..p.len()).filter(|&k| k != j).map(|k| p[k] * (-eps[k]).exp()).sum();
                    if eps.iter().any(|&e| e > 300.0) {
                        1.0
                    } else {
                        p[j] * eps[j].exp() / (p[j] * eps[j].exp() + others)
                    }
                })
                .collect();
            let low: Vec<f64> = (0..p.len())
                .map(|j| {
                    let others: f64 = (0..p.len()).filter(|&k| k != j).map(|k| p[k] * eps[k].exp()).sum();
                    if eps.iter().any(|&e| e > 300.0) {
                        0.0
                    } else {
                        p[j] * (-eps[j]).exp() / (p[j] * (-eps[j]).exp() + others)
                    }
                })
                .collect();
            let moved: Vec<f64> = (0..p.len()).map(|j| (up[j] - p[j]).max(p[j] - low[j])).collect();
            let top = eps.iter().copied().fold(0.0, f64::max);
            let tv = (top / 2.0).tanh().min(moved.iter().sum::<f64>() / 2.0).min(1.0);
            let seen = &r[from..=i];
            let (most, least) =
                seen.iter().fold((0.0, f64::INFINITY), |(a, b), &r| (f64::max(a, r), f64::min(b, r)));
            t.push(dot(&up, seen).min(dot(p, seen) + tv * (most - least)).min(most));
            let out = self.out(index, h);
            let far = |a: &[f64], b: &[f64]| norm(&times(&vec![minus(a, b)], &out)[0]);
            let entries: f64 = (from..=i).zip(&moved).map(|(j, m)| m * far(&head.v[j], &head.o[i])).sum();
            let mut diameter: f64 = 0.0;
            for j in from..=i {
                for k in from..=i {
                    diameter = diameter.max(far(&head.v[j], &head.v[k]));
                }
            }
            f += entries.min(tv * diameter);
        }
        let root = (spec.d_model as f64).sqrt();
        let constant = self.attention_constant(index);
        let reach = self.over_heads(index, &vec![root; spec.n_heads]);
        let bound = (self.over_heads(index, &t) + f).min(norm(&minus(&block.attn[i], &constant)) + reach);
        if self.mistake == Mistake::HalfAttention { bound / 2.0 } else { bound }
    }

    fn attention_constant(&self, index: usize) -> Vec<f64> {
        let (spec, w) = (&self.model.spec, &self.model.weights.blocks[index]);
        let values: Vec<f64> = (0..spec.d_query())
            .map(|at| {
                let (head, k) = (at / spec.d_head, at % spec.d_head);
                let kv = head * spec.n_kv_heads / spec.n_heads;
                let row = spec.d_query() + spec.d_kv() + kv * spec.d_head + k;
                self.folded_bias(&w.qkv, &w.attn_norm, row)
            })
            .collect();
        Self::linear(&w.o, &values)
    }

    /// The largest a function of an interval takes on a fine grid and at the given points.
    pub fn grid(a: f64, b: f64, f: impl Fn(f64) -> f64) -> f64 {
        (0..=4000).map(|k| f(a - b + 2.0 * b * f64::from(k) / 4000.0)).fold(0.0, f64::max)
    }

    pub fn slope(act: Activation, x: f64) -> f64 {
        let h = 1e-5;
        match act {
            Activation::Relu => f64::from(u8::from(x > 0.0)),
            _ => (activation(act, x + h) - activation(act, x - h)) / (2.0 * h),
        }
    }

    /// Lemma L5, every prefix.
    pub fn hybrid(v: &[f64], columns: &[f64], spectral: f64) -> f64 {
        let mut order: Vec<usize> = (0..v.len()).collect();
        order.sort_by(|&a, &b| v[b].total_cmp(&v[a]));
        (0..=v.len())
            .map(|take| {
                let rows: f64 = order[..take].iter().map(|&k| (v[k] * columns[k]).powi(2)).sum();
                let rest = order[take..].iter().map(|&k| v[k]).fold(0.0, f64::max);
                (rows + (rest * spectral).powi(2)).sqrt()
            })
            .fold(f64::INFINITY, f64::min)
    }

    /// Theorem D for plain MLPs.
    pub fn plain_mlp(&self, index: usize, block: &Block, i: usize, r: f64) -> f64 {
        let w = &self.model.weights.blocks[index];
        let MlpKind::Plain(act) = self.model.spec.mlp else { return f64::INFINITY };
        let m = self.model.spec.d_mlp;
        let first = self.folded(&w.up, &w.mlp_norm, 0, m);
        let second: Rows =
            (0..m).map(|k| (0..w.down.weight.rows).map(|o| w.down.weight.row(o)[k]).collect()).collect();
        let columns: Vec<f64> = transposed(&first).iter().map(|c| norm(c)).collect();
        let a: Vec<f64> = (0..m)
            .map(|k| dot(&block.u2[i], &transposed(&first)[k]) + self.folded_bias(&w.up, &w.mlp_norm, k))
            .collect();
        let (mut ranges, mut slopes, mut tilts) = (Vec::new(), Vec::new(), Vec::new());
        for k in 0..m {
            let b = columns[k] * r;
            let now = activation(act, a[k]);
            ranges.push(Self::grid(a[k], b, |x| (activation(act, x) - now).abs()));
            slopes.push(Self::grid(a[k], b, |x| Self::slope(act, x).abs()));
            tilts.push(if act == Activation::Relu {
                0.5
            } else {
                Self::grid(a[k], b, |x| (Self::slope(act, x) - 0.5).abs())
            });
        }
        let (n1, n2) = (self.size(&first), self.size(&second));
        let through = self.size(&times(&first, &second));
        let bound = (n2 * norm(&ranges))
            .min(n2 * Self::hybrid(&slopes, &columns, n1) * r)
            .min((through / 2.0 + n2 * Self::hybrid(&tilts, &columns, n1)) * r);
        let c2 = w.down.bias.clone().unwrap_or_else(|| vec![0.0; block.mlp[i].len()]);
        let bound = bound.min(norm(&minus(&block.mlp[i], &c2)) + self.plain_reach(index));
        if self.mistake == Mistake::HalfMlp { bound / 2.0 } else { bound }
    }

    /// `B_M` of a plain MLP.
    pub fn plain_reach(&self, index: usize) -> f64 {
        let w = &self.model.weights.blocks[index];
        let (MlpKind::Plain(act) | MlpKind::Gated(act)) = self.model.spec.mlp;
        let m = self.model.spec.d_mlp;
        let first = self.folded(&w.up, &w.mlp_norm, 0, m);
        let second: Rows =
            (0..m).map(|k| (0..w.down.weight.rows).map(|o| w.down.weight.row(o)[k]).collect()).collect();
        let columns: Vec<f64> = transposed(&first).iter().map(|c| norm(c)).collect();
        let (n1, n2) = (self.size(&first), self.size(&second));
        let through = self.size(&times(&first, &second));
        let root = (self.model.spec.d_model as f64).sqrt();
        let bias: Vec<f64> = (0..m).map(|k| self.folded_bias(&w.up, &w.mlp_norm, k)).collect();
        let f: Vec<f64> = (0..m)
            .map(|k| Self::grid(0.0, root * columns[k] + bias[k].abs(), |x| activation(act, x).abs()))
            .collect();
        let absolute: Rows = second.iter().map(|row| row.iter().map(|x| x.abs()).collect()).collect();
        let inner = root * n1 + norm(&bias);
        (n2 * inner)
            .min(n2 * norm(&f))
            .min(norm(&times(&vec![f.clone()], &absolute)[0]))
            .min((root * through + norm(&times(&vec![bias], &second)[0]) + n2 * inner) / 2.0)
    }
}
