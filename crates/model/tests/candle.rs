//! A second opinion on the gated families: the same random checkpoint, read by candle-transformers and by us.
//!
//! Behind a feature, for what it costs to compile: `cargo test --features rote-model/second-opinion --test candle`.
//!
//! candle-transformers has none of the plain families, and of the gated ones only their usual form (no biases
//! in Llama, heads that fill the width); the rest is held against transformers in `oracle.rs`.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, qwen2, qwen3};
use rote_model::{NoTap, Row, State, Workspace, load};
use rote_plan::BlockChange;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const TOLERANCE: f32 = 1e-4;
const LENGTHS: [usize; 4] = [1, 2, 17, 60];

/// A generator whose numbers are the same everywhere; uniform in -1..1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn config(family: &str, more: &Value) -> Value {
    let mut config = json!({
        "model_type": family, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 90,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128, "hidden_act": "silu", "sliding_window": 128, "max_window_layers": 3,
        "use_sliding_window": false, "attention_bias": false, "tie_word_embeddings": false,
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Writes a random checkpoint of the configuration's shape.
fn write(folder: &Path, config: &Value) {
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    let (d, mlp, vocab) = (size("hidden_size"), size("intermediate_size"), size("vocab_size"));
    let head = config["head_dim"].as_u64().map_or(d / size("num_attention_heads"), |head| head as usize);
    let (query, kv) = (head * size("num_attention_heads"), head * size("num_key_value_heads"));
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![vocab, d])];
    shapes.push(("model.norm.weight".into(), vec![d]));
    if config["tie_word_embeddings"] == false {
        shapes.push(("lm_head.weight".into(), vec![vocab, d]));
    }
    for block in 0..size("num_hidden_layers") {
        let mut add = |name: &str, shape: &[usize]| {
            shapes.push((format!("model.layers.{block}.{name}"), shape.to_vec()));
        };
        for (part, out, into) in [("q", query, d), ("k", kv, d), ("v", kv, d), ("o", d, query)] {
            add(&format!("self_attn.{part}_proj.weight"), &[out, into]);
            if config["model_type"] == "qwen2" && part != "o" {
                add(&format!("self_attn.{part}_proj.bias"), &[out]);
            }
        }
        if config["model_type"] == "qwen3" {
            add("self_attn.q_norm.weight", &[head]);
            add("self_attn.k_norm.weight", &[head]);
        }
        add("mlp.gate_proj.weight", &[mlp, d]);
        add("mlp.up_proj.weight", &[mlp, d]);
        add("mlp.down_proj.weight", &[d, mlp]);
        add("input_layernorm.weight", &[d]);
        add("post_attention_layernorm.weight", &[d]);
    }
    let mut noise = Noise(7);
    let bytes: Vec<_> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let gain = if name.contains("norm") { 1.0 } else { 0.0 };
            let value = |_| (gain + 0.3 * noise.next()).to_le_bytes();
            let data: Vec<u8> = (0..shape.iter().product()).flat_map(value).collect();
            (name, shape, data)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// Logits of every position, `[T][V]`.
fn ours(folder: &Path, tokens: &[u32]) -> Vec<Vec<f32>> {
    let model = load::<f32>(&folder.to_string_lossy()).unwrap_or_else(|error| panic!("{error:#}")).model;
    let mut x = model.embed(&[(tokens, 0)]).unwrap();
    let mut state = State::new(&model.spec, tokens.len(), false);
    let change = vec![BlockChange::default(); model.spec.n_blocks];
    let mut rows = [Row::new(&mut state, tokens.len(), &change, None)];
    model.run(0..model.spec.n_blocks, &mut x, &mut rows, &mut Workspace::default(), &mut NoTap).unwrap();
    model.logits(&model.final_norm(&x)).chunks(model.spec.vocab).map(<[f32]>::to_vec).collect()
}

/// `theirs` gives the logits of a prefix's last position.
fn agree(
    family: &str,
    more: &Value,
    theirs: impl Fn(VarBuilder, &str, &Tensor) -> candle_core::Result<Tensor>,
) {
    let folder = tempfile::tempdir().unwrap();
    let config = config(family, more);
    write(folder.path(), &config);
    let tokens: Vec<u32> = (0..60).map(|position| position * 37 % 90).collect();
    let ours = ours(folder.path(), &tokens);
    let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
    for length in LENGTHS {
        let builder = VarBuilder::from_slice_safetensors(&bytes, DType::F32, &Device::Cpu).unwrap();
        let prefix = Tensor::new(&tokens[..length], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let logits = theirs(builder, &config.to_string(), &prefix).unwrap();
        let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
        let ours = &ours[length - 1];
        assert_eq!(logits.len(), ours.len());
        let worst = logits.iter().zip(ours).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{family} after {length} tokens: {worst:.1e} apart");
        assert!(worst < TOLERANCE, "{family} after {length} tokens: {worst} apart");
    }
}

fn as_llama(builder: VarBuilder, config: &str, prefix: &Tensor) -> candle_core::Result<Tensor> {
    let config: llama::LlamaConfig = serde_json::from_str(config).unwrap();
    let config = config.into_config(false);
    let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
    llama::Llama::load(builder, &config)?.forward(prefix, 0, &mut cache)
}

#[test]
fn llama_agrees() {
    agree("llama", &json!({"rope_theta": 10_000.0}), as_llama);
}

#[test]
fn llama_with_scaled_rotary_agrees() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
    agree(
        "llama",
        &json!({"rope_theta": 500_000.0, "rope_scaling": scaling, "tie_word_embeddings": true}),
        as_llama,
    );
}

#[test]
fn qwen2_agrees() {
    agree("qwen2", &json!({"rope_theta": 1e6}), |builder, config, prefix| {
        qwen2::ModelForCausalLM::new(&serde_json::from_str(config).unwrap(), builder)?.forward(prefix, 0)
    });
}

#[test]
fn qwen3_agrees() {
    agree("qwen3", &json!({"rope_theta": 1e6, "head_dim": 24}), |builder, config, prefix| {
        qwen3::ModelForCausalLM::new(&serde_json::from_str(config).unwrap(), builder)?.forward(prefix, 0)
    });
}
