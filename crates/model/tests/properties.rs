//! What must hold for every model: a row's bits do not depend on its neighbours, on threads, on how its
//! tokens are cut, or on what its neighbours suffer.

use std::sync::Arc;

use rote_model::{
    Activation, Block, Likeliest, Linear, Matrix, Means, MlpKind, MlpOut, Model, NoTap, Norm, NormKind,
    NormPlace, Panels, Positions, Readout, Residual, Rotary, Row, Spec, State, Tap, Weights, Workspace,
};
use rote_plan::{BlockChange, Hook, Intervention};

/// A generator whose numbers are the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, count: usize) -> usize {
        self.next() as usize % count
    }

    fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| (self.next() as f32 / (1u64 << 31) as f32 - 0.5) * scale).collect()
    }

    fn linear(&mut self, rows: usize, cols: usize, bias: bool) -> Linear<f32> {
        let scale = 3.0 / (cols as f32).sqrt();
        let weight = Arc::new(Panels::new(rows, cols, &self.values(rows * cols, scale)));
        Linear { weight, bias: bias.then(|| self.values(rows, 0.5)) }
    }

    fn norm(&mut self, width: usize, bias: bool) -> Norm<f32> {
        let gain = self.values(width, 1.0).iter().map(|x| x + 1.0).collect();
        Norm { gain, bias: bias.then(|| self.values(width, 0.5)) }
    }

    /// A random model of random shape.
    fn model(&mut self) -> Model<f32> {
        let n_kv_heads = 1 + self.below(3);
        let n_heads = n_kv_heads * (1 + self.below(3));
        let d_head = 2 * (2 + self.below(20));
        let d_model = 8 + self.below(90);
        let d_mlp = 8 + self.below(700);
        let n_blocks = 2 + self.below(3);
        let vocab = 20 + self.below(2500);
        let layer = self.below(2) == 0;
        let gated = self.below(2) == 0;
        let rotary = self.below(2) == 0;
        let post = self.below(5) == 0;
        let qk_norm = self.below(3) == 0;
        let positions = if rotary {
            let half = 1 + self.below(d_head / 2);
            let inv_freq = (0..half).map(|i| 10_000f64.powf(-(i as f64) / half as f64)).collect();
            Positions::Rotary(Rotary { inv_freq, attention_factor: 1.0 })
        } else {
            Positions::Learned { offset: self.below(3) }
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
            max_positions: 200,
            positions,
            norm: if layer { NormKind::Layer } else { NormKind::Rms },
            eps: 1e-5,
            norm_place: if post { NormPlace::Post } else { NormPlace::Pre },
            residual: if self.below(2) == 0 && !post { Residual::Parallel } else { Residual::Sequential },
            mlp: if gated { MlpKind::Gated(act) } else { MlpKind::Plain(act) },
            score_scale: 1.0 / (d_head as f64).sqrt(),
            windows: (0..n_blocks).map(|_| (self.below(3) == 0).then(|| 1 + self.below(9))).collect(),
            prefix_token: Some(0),
            eos_tokens: vec![0],
        };
        let width = spec.d_query() + 2 * spec.d_kv();
        let embed = Arc::new(Panels::new(vocab, d_model, &self.values(vocab * d_model, 1.0)));
        let blocks = (0..n_blocks)
            .map(|_| Block {
                attn_norm: self.norm(d_model, layer),
                mlp_norm: self.norm(d_model, layer),
                qkv: self.linear(width, d_model, true),
                o: self.linear(d_model, spec.d_query(), layer),
                q_norm: qk_norm.then(|| self.norm(d_head, false)),
                k_norm: qk_norm.then(|| self.norm(d_head, false)),
                gate: gated.then(|| self.linear(d_mlp, d_model, false)),
                up: self.linear(d_mlp, d_model, layer),
                down: self.linear(d_model, d_mlp, true),
            })
            .collect();
        let weights = Weights {
            embed: embed.clone(),
            positions: (!rotary).then(|| Matrix::new(203, d_model, self.values(203 * d_model, 1.0))),
            project_in: None,
            blocks,
            final_norm: (!post).then(|| self.norm(d_model, layer)),
            project_out: None,
            unembed: Linear { weight: embed, bias: layer.then(|| self.values(vocab, 0.1)) },
        };
        Model { spec, weights }
    }

    fn tokens(&mut self, model: &Model<f32>) -> Vec<u32> {
        let count = 1 + self.below(90);
        (0..count).map(|_| self.below(model.spec.vocab) as u32).collect()
    }

    fn change(&mut self, model: &Model<f32>) -> Vec<BlockChange> {
        let block = self.below(model.spec.n_blocks);
        let head = self.below(model.spec.n_heads);
        let texts = [
            "none".to_string(),
            "attn.identity@all".to_string(),
            format!("attn.identity@{block}"),
            format!("attn.zero@{block}"),
            format!("mlp.zero@{block}+attn.identity@{block}:h{head}"),
            format!("attn.zero@{block}:h{head}"),
            format!("attn.mean@{block}"),
            format!("attn.mean@{block}:h{head}"),
        ];
        let change: Intervention = texts[self.below(texts.len())].parse().unwrap();
        change.resolve(model.spec.n_blocks, model.spec.n_heads).unwrap()
    }
}

/// Some rows for `attn.mean`, the same for the same model.
fn means(model: &Model<f32>) -> Means<f32> {
    let mut noise = Noise(model.spec.d_model as u64);
    let mut rows = |width: usize| (0..model.spec.n_blocks).map(|_| noise.values(width, 1.0)).collect();
    Means { attn_out: rows(model.spec.d_model), z: rows(model.spec.d_query()) }
}

/// Final residual states of rows that run together, each from its state on.
fn run(model: &Model<f32>, rows: &mut [(&[u32], &mut State<f32>, &[BlockChange])]) -> Vec<Vec<f32>> {
    let inputs: Vec<_> = rows.iter().map(|(tokens, state, _)| (*tokens, state.len())).collect();
    let mut x = model.embed(&inputs).unwrap();
    let means = means(model);
    let mut batch: Vec<_> = rows
        .iter_mut()
        .map(|(tokens, state, change)| Row::new(state, tokens.len(), change, Some(&means)))
        .collect();
    let mut work = Workspace::default();
    model.run(0..model.spec.n_blocks, &mut x, &mut batch, &mut work, &mut NoTap).unwrap();
    let mut rest = &x[..];
    rows.iter()
        .map(|(tokens, _, _)| {
            let (mine, after) = rest.split_at(tokens.len() * model.spec.d_model);
            rest = after;
            mine.to_vec()
        })
        .collect()
}

fn alone(model: &Model<f32>, tokens: &[u32], change: &[BlockChange], keep: bool) -> (Vec<f32>, State<f32>) {
    let mut state = State::new(&model.spec, tokens.len(), keep);
    let x = run(model, &mut [(tokens, &mut state, change)]).remove(0);
    (x, state)
}

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for seed in 0..12 {
        let mut noise = Noise(seed);
        let model = noise.model();
        let rows: Vec<_> = (0..9).map(|_| (noise.tokens(&model), noise.change(&model))).collect();
        let singly: Vec<_> =
            on_threads(1, || rows.iter().map(|(t, c)| alone(&model, t, c, seed % 2 == 0).0).collect());
        for order in [(0..9).collect::<Vec<_>>(), (0..9).rev().collect()] {
            let mut states: Vec<_> =
                order.iter().map(|&row| State::new(&model.spec, rows[row].0.len(), true)).collect();
            let mut batch: Vec<_> = order
                .iter()
                .zip(&mut states)
                .map(|(&row, state)| (&rows[row].0[..], state, &rows[row].1[..]))
                .collect();
            let together = on_threads(2, || run(&model, &mut batch));
            for (&row, together) in order.iter().zip(&together) {
                assert!(*together == singly[row], "seed {seed}, row {row}");
            }
        }
    }
}

#[test]
fn what_is_not_scored_changes_nothing_that_is() {
    for seed in 50..62 {
        let mut noise = Noise(seed);
        let model = noise.model();
        let (d, blocks) = (model.spec.d_model, 0..model.spec.n_blocks);
        let rows: Vec<_> = (0..5).map(|_| (noise.tokens(&model), noise.change(&model))).collect();
        let scored: Vec<_> = rows.iter().map(|(tokens, _)| noise.below(tokens.len() + 1)).collect();
        let inputs: Vec<_> = rows.iter().map(|(tokens, _)| (&tokens[..], 0)).collect();
        let mut x = model.embed(&inputs).unwrap();
        let mut states: Vec<_> =
            rows.iter().map(|(tokens, _)| State::new(&model.spec, tokens.len(), true)).collect();
        let means = means(&model);
        let mut batch: Vec<_> = states
            .iter_mut()
            .zip(&rows)
            .zip(&scored)
            .map(|((state, (tokens, change)), &scored)| Row {
                scored,
                ..Row::new(state, tokens.len(), change, Some(&means))
            })
            .collect();
        model.run(blocks, &mut x, &mut batch, &mut Workspace::default(), &mut NoTap).unwrap();

        let mut end = 0;
        for (((tokens, change), state), scored) in rows.iter().zip(&states).zip(scored) {
            end += tokens.len();
            let (full, full_state) = alone(&model, tokens, change, true);
            assert_eq!(state.len(), tokens.len());
            assert!(x[(end - scored) * d..end * d] == full[full.len() - scored * d..], "seed {seed}");
            // And whoever goes on finds the same keys and values.
            let next = |state: &State<f32>| {
                let mut further = state.continued(&model.spec, tokens.len(), 1, true);
                run(&model, &mut [(&[1], &mut further, change)]).remove(0)
            };
            assert!(next(state) == next(&full_state), "seed {seed}: next");
        }
    }
}

#[test]
fn a_cached_continuation_equals_the_full_pass() {
    for seed in 100..112 {
        let mut noise = Noise(seed);
        let model = noise.model();
        let (tokens, change) = (noise.tokens(&model), noise.change(&model));
        let (full, _) = alone(&model, &tokens, &change, false);
        let cut = noise.below(tokens.len());
        // A prefix, shared; a chunk on it; then single steps.
        let (first, prefix) = alone(&model, &tokens[..cut.max(1)], &change, true);
        let mut pieces = first;
        let mut state = prefix.continued(&model.spec, cut.max(1), tokens.len(), true);
        let chunk = &tokens[cut.max(1)..(cut + 5).clamp(cut.max(1), tokens.len())];
        if !chunk.is_empty() {
            pieces.extend(run(&model, &mut [(chunk, &mut state, &change)]).remove(0));
        }
        for &token in &tokens[state.len()..] {
            pieces.extend(run(&model, &mut [(&[token], &mut state, &change)]).remove(0));
        }
        assert!(pieces == full, "seed {seed}");
        // Going back into the past, as generation does from the first wrong token.
        let back = state.continued(&model.spec, state.len() / 2, tokens.len(), true);
        let mut back = back;
        let from = back.len();
        let again = run(&model, &mut [(&tokens[from..], &mut back, &change)]).remove(0);
        assert!(again == full[from * model.spec.d_model..], "seed {seed}: going back");
    }
}

#[test]
fn a_restart_equals_the_full_pass() {
    for seed in 200..240 {
        let mut noise = Noise(seed);
        let model = noise.model();
        let (n_blocks, d) = (model.spec.n_blocks, model.spec.d_model);
        let change = noise.change(&model);
        let first =
            change.iter().position(|change| *change != BlockChange::default()).unwrap_or(n_blocks - 1);
        let none = vec![BlockChange::default(); n_blocks];
        let means = means(&model);
        // Of several tokens, of a few that are read out; of none.
        let texts = [noise.tokens(&model), noise.tokens(&model), vec![]];
        let scored: Vec<usize> = texts.iter().map(|text| noise.below(text.len() + 1)).collect();
        let inputs: Vec<_> = texts.iter().map(|text| (&text[..], 0)).collect();
        let mut trunk: Vec<_> = texts.iter().map(|text| State::new(&model.spec, text.len(), true)).collect();
        let mut x = model.embed(&inputs).unwrap();
        let mut work = Workspace::default();

        // Of the block where it begins, it takes over what that has in common with the trunk.
        let mut kept: Vec<Vec<f32>> = texts.iter().map(|text| vec![f32::NAN; text.len() * d]).collect();
        let mut rows: Vec<_> = rows(&mut trunk, &texts, &scored, &none, &means).collect();
        model.run(0..first, &mut x, &mut rows, &mut work, &mut NoTap).unwrap();
        let mut input = x.clone();
        for (row, kept) in rows.iter_mut().zip(&mut kept) {
            row.mlp_out = MlpOut::Keep(kept);
        }
        model.run(first..n_blocks, &mut x, &mut rows, &mut work, &mut NoTap).unwrap();
        let mut states: Vec<_> = trunk.iter().map(|state| state.restarted(first, true)).collect();
        let mut rows: Vec<_> = self::rows(&mut states, &texts, &scored, &change, &means).collect();
        for (row, kept) in rows.iter_mut().zip(&kept) {
            row.mlp_out = MlpOut::Kept(kept);
        }
        model.run(first..n_blocks, &mut input, &mut rows, &mut work, &mut NoTap).unwrap();

        let mut rest = &input[..];
        for ((text, scored), state) in texts.iter().zip(scored).zip(&states).take(2) {
            let (found, after) = rest.split_at(text.len() * d);
            rest = after;
            let (full, _) = alone(&model, text, &change, true);
            let unread = (text.len() - scored) * d;
            assert!(found[unread..] == full[unread..], "seed {seed}");
            // The restarted state goes on like the full pass's own.
            let mut further = state.continued(&model.spec, text.len(), 1, true);
            let next = run(&model, &mut [(&[1], &mut further, &change)]).remove(0);
            let longer: Vec<u32> = text.iter().copied().chain([1]).collect();
            let (truth, _) = alone(&model, &longer, &change, false);
            assert!(next == truth[text.len() * d..], "seed {seed}: next");
        }
    }
}

/// A row for each text, of which the last `scored` tokens are read out.
fn rows<'a>(
    states: &'a mut [State<f32>],
    texts: &'a [Vec<u32>],
    scored: &'a [usize],
    change: &'a [BlockChange],
    means: &'a Means<f32>,
) -> impl Iterator<Item = Row<'a, f32>> {
    let each = states.iter_mut().zip(texts).zip(scored);
    each.map(move |((state, text), &scored)| Row {
        scored,
        ..Row::new(state, text.len(), change, Some(means))
    })
}

/// Weights `[H, T, T]` that one block shows of a single row.
struct Pattern(usize, Vec<f32>);

impl Tap<f32> for Pattern {
    fn wants(&self, hook: Hook, block: Option<usize>) -> bool {
        hook == Hook::Pattern && block == Some(self.0)
    }

    fn see(&mut self, _: Hook, _: Option<usize>, _: &[f32], _: usize) {}

    fn see_pattern(&mut self, _: usize, _: usize, weights: &[f32], _: usize) {
        assert!(self.1.is_empty(), "shown once");
        self.1.extend_from_slice(weights);
    }
}

#[test]
fn shown_weights_are_those_in_use() {
    for seed in 250..260 {
        let mut noise = Noise(seed);
        let model = noise.model();
        let Spec { n_blocks, n_heads, .. } = model.spec;
        let (tokens, block, head) = (noise.tokens(&model), noise.below(n_blocks), noise.below(n_heads));
        let count = tokens.len();
        let shown = |text: &str| -> Vec<Vec<f32>> {
            let change = text.parse::<Intervention>().unwrap().resolve(n_blocks, n_heads).unwrap();
            let means = means(&model);
            let mut state = State::new(&model.spec, count, false);
            let mut x = model.embed(&[(&tokens[..], 0)]).unwrap();
            let mut pattern = Pattern(block, Vec::new());
            let row = Row::new(&mut state, count, &change, Some(&means));
            model.run(0..n_blocks, &mut x, &mut [row], &mut Workspace::default(), &mut pattern).unwrap();
            assert_eq!(pattern.1.len(), n_heads * count * count, "seed {seed}: {text}");
            pattern.1.chunks_exact(count * count).map(<[f32]>::to_vec).collect()
        };
        let plain = shown("none");
        let own: Vec<f32> =
            (0..count * count).map(|place| if place % (count + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let nothing = vec![0.0; count * count];
        for (action, used) in [("identity", &own), ("zero", &nothing), ("mean", &nothing)] {
            assert_eq!(shown(&format!("attn.{action}@{block}")), vec![used.clone(); n_heads], "seed {seed}");
            let mut expected = plain.clone();
            expected[head] = used.clone();
            assert_eq!(shown(&format!("attn.{action}@{block}:h{head}")), expected, "seed {seed}");
        }
    }
}

#[test]
fn reading_out_does_not_depend_on_company_or_threads() {
    for seed in 300..304 {
        let mut noise = Noise(seed);
        let model = noise.model();
        let d = model.spec.d_model;
        let x = noise.values(300 * d, 3.0);
        let normed = model.final_norm(&x);
        let targets: Vec<u32> = (0..300).map(|_| noise.below(model.spec.vocab) as u32).collect();
        let all = on_threads(2, || model.readout(&normed, &targets));
        let single: Vec<Readout> = on_threads(1, || {
            (0..300)
                .flat_map(|row| model.readout(&normed[row * d..(row + 1) * d], &targets[row..=row]))
                .collect()
        });
        assert_eq!(all, single);
        let likeliest: Vec<u32> = all.iter().map(|out| out.argmax).collect();
        assert_eq!(on_threads(2, || Likeliest::new(&model).of(&normed)), likeliest);
        assert_eq!(on_threads(1, || Likeliest::new(&model).of(&normed[d..4 * d])), likeliest[1..4]);

        let logits = model.logits(&normed);
        for (row, out) in all.iter().enumerate().step_by(17) {
            let logits: Vec<f64> =
                logits[row * model.spec.vocab..][..model.spec.vocab].iter().map(|&z| f64::from(z)).collect();
            let max = logits.iter().copied().fold(f64::MIN, f64::max);
            let log_sum = max + logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
            let logs: Vec<f64> = logits.iter().map(|z| z - log_sum).collect();
            let entropy: f64 = logs.iter().map(|l| -l.exp() * l).sum();
            let variance: f64 = logs.iter().map(|l| l.exp() * (l + entropy) * (l + entropy)).sum();
            assert!((out.logprob - logs[targets[row] as usize]).abs() < 1e-5);
            assert!((out.entropy - entropy).abs() < 1e-5, "{} {entropy}", out.entropy);
            assert!((out.deviation - variance.sqrt()).abs() < 1e-4, "{} {}", out.deviation, variance.sqrt());
            assert!((out.argmax_logprob - (max - log_sum)).abs() < 1e-5);
        }
    }
}

#[test]
fn the_first_token_never_feels_a_bypass() {
    for seed in 400..408 {
        let mut noise = Noise(seed);
        let model = noise.model();
        let tokens = noise.tokens(&model);
        let d = model.spec.d_model;
        let none = vec![BlockChange::default(); model.spec.n_blocks];
        let all: Intervention = "attn.identity@all".parse().unwrap();
        let all = all.resolve(model.spec.n_blocks, model.spec.n_heads).unwrap();
        let (as_it_is, _) = alone(&model, &tokens, &none, false);
        let (bypassed, _) = alone(&model, &tokens, &all, false);
        for (a, b) in as_it_is[..d].iter().zip(&bypassed[..d]) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "seed {seed}: {a} {b}");
        }
        assert!(tokens.len() < 3 || as_it_is[d..] != bypassed[d..]);
    }
}
