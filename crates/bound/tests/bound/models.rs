//! Random models of every kind the theorems cover, and a generator whose numbers are the same everywhere.

use std::sync::Arc;

use rote_model::{
    Activation, Block, Linear, Matrix, Means, MlpKind, Model, Norm, NormKind, NormPlace, Panels, Positions,
    Residual, Rotary, Spec, Weights,
};

/// The generator.
pub struct Noise(pub u64);

/// How large the weights are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// As at the start of training.
    Initial,
    /// Products keep their inputs' size.
    Unit,
    /// A few directions far larger than the rest.
    Outliers,
    /// Attention nearly one-hot, activations saturated.
    Hot,
}

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, count: usize) -> usize {
        self.next() as usize % count
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// In `[-1, 1)`.
    pub fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 30) as f64 - 1.0
    }

    pub fn values(&mut self, count: usize, scale: f64) -> Vec<f64> {
        (0..count).map(|_| self.unit() * scale).collect()
    }

    fn linear(&mut self, rows: usize, cols: usize, scale: Scale, bias: bool) -> Linear<f64> {
        let size = match scale {
            Scale::Initial => 0.05,
            Scale::Unit | Scale::Outliers => 1.7 / (cols as f64).sqrt(),
            Scale::Hot => 6.0 / (cols as f64).sqrt(),
        };
        let mut data = self.values(rows * cols, size);
        if scale == Scale::Outliers {
            let (row, col) = (self.below(rows), self.below(cols));
            (0..cols).for_each(|col| data[row * cols + col] *= 12.0);
            (0..rows).for_each(|row| data[row * cols + col] *= 8.0);
        }
        let weight = Arc::new(Panels::new(rows, cols, &data));
        Linear { weight, bias: bias.then(|| self.values(rows, 0.3)) }
    }

    fn norm(&mut self, width: usize, bias: bool) -> Norm<f64> {
        let gain = self.values(width, 0.6).iter().map(|x| x + 1.0).collect();
        Norm { gain, bias: bias.then(|| self.values(width, 0.3)) }
    }

    /// A model of random shape.
    pub fn model(&mut self, scale: Scale) -> Model<f64> {
        let n_kv_heads = 1 + self.below(2);
        let n_heads = n_kv_heads * (1 + self.below(2));
        let d_head = 2 * (1 + self.below(4));
        let d_model = 5 + self.below(14);
        let d_mlp = 6 + self.below(20);
        let n_blocks = 2 + self.below(3);
        let vocab = 12 + self.below(30);
        let (layer, gated, rotary, biases, qk_norm) =
            (self.coin(), self.coin(), self.coin(), self.coin(), self.below(3) == 0);
        // Norms of queries and keys are RMS norms; only models of that kind have them.
        let qk_norm = qk_norm && !layer;
        let positions = if rotary {
            let half = 1 + self.below(d_head / 2);
            let inv_freq = (0..half).map(|i| 100f64.powf(-(i as f64) / half as f64)).collect();
            Positions::Rotary(Rotary { inv_freq, attention_factor: [1.0, 1.2][self.below(2)] })
        } else {
            Positions::Learned { offset: 0 }
        };
        let act =
            [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu][self.below(4)];
        let spec = Spec {
            family: "random".to_string(),
            n_blocks,
            d_model,
            n_heads,
            n_kv_heads,
            d_head,
            d_mlp,
            vocab,
            d_embed: d_model,
            max_positions: 64,
            positions,
            norm: if layer { NormKind::Layer } else { NormKind::Rms },
            eps: [1e-5, 1e-2][self.below(2)],
            norm_place: NormPlace::Pre,
            residual: if self.coin() { Residual::Parallel } else { Residual::Sequential },
            mlp: if gated { MlpKind::Gated(act) } else { MlpKind::Plain(act) },
            score_scale: if self.coin() { 1.0 / (d_head as f64).sqrt() } else { 1.0 },
            windows: (0..n_blocks).map(|_| (self.below(3) == 0).then(|| 1 + self.below(4))).collect(),
            prefix_token: Some(0),
            eos_tokens: vec![0],
        };
        let width = spec.d_query() + 2 * spec.d_kv();
        // Small states feel epsilon.
        let size = [1.0, 0.03][self.below(2)];
        let embed = Arc::new(Panels::new(vocab, d_model, &self.values(vocab * d_model, size)));
        let blocks = (0..n_blocks)
            .map(|_| Block {
                attn_norm: self.norm(d_model, layer && biases),
                mlp_norm: self.norm(d_model, layer && biases),
                qkv: self.linear(width, d_model, scale, biases),
                o: self.linear(d_model, spec.d_query(), scale, biases),
                q_norm: qk_norm.then(|| self.norm(d_head, false)),
                k_norm: qk_norm.then(|| self.norm(d_head, false)),
                gate: gated.then(|| self.linear(d_mlp, d_model, scale, biases)),
                up: self.linear(d_mlp, d_model, scale, biases),
                down: self.linear(d_model, d_mlp, scale, biases),
            })
            .collect();
        let weights = Weights {
            embed: embed.clone(),
            positions: (!rotary).then(|| Matrix::new(64, d_model, self.values(64 * d_model, size))),
            project_in: None,
            blocks,
            final_norm: Some(self.norm(d_model, layer && biases)),
            project_out: None,
            unembed: Linear { weight: embed, bias: biases.then(|| self.values(vocab, 0.1)) },
        };
        Model { spec, weights }
    }

    pub fn tokens(&mut self, model: &Model<f64>, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(model.spec.vocab) as u32).collect()
    }

    /// Every block bypassed, and one of each other kind.
    pub fn changes(&mut self, model: &Model<f64>) -> Vec<String> {
        let spec = &model.spec;
        let (block, head) = (self.below(spec.n_blocks), self.below(spec.n_heads));
        let other = (block + 1) % spec.n_blocks;
        vec![
            "attn.identity@each".to_string(),
            "attn.identity@all".to_string(),
            format!("attn.identity@{block}:h{head}"),
            format!("attn.zero@{block}:h{head}"),
            format!("attn.zero@{block}"),
            format!("mlp.zero@{block}"),
            format!("attn.identity@{block}:h{head}+mlp.zero@{other}"),
            format!("attn.identity@{block}+attn.zero@{other}"),
            format!("attn.mean@{block}"),
            format!("attn.mean@{other}+attn.identity@{block}:h{head}"),
            format!("attn.mean@{block}:h{head}"),
        ]
    }
}

/// Some rows for `attn.mean`.
pub fn means(model: &Model<f64>) -> Means<f64> {
    let mut noise = Noise(1 + model.spec.d_model as u64);
    let mut rows = |width: usize| (0..model.spec.n_blocks).map(|_| noise.values(width, 0.7)).collect();
    Means { attn_out: rows(model.spec.d_model), z: rows(model.spec.d_query()) }
}
