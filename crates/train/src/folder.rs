//! A trained model on disk, as `transformers` and `rote-model` read it: configuration, weights in half precision,
//! tokenizer, the training curve and the measures.

use std::collections::HashMap;

use anyhow::{Result, anyhow, ensure};
use candle_core::{DType, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::Trained;
use crate::corpus::END_OF_TEXT;
use crate::model::{EPSILON, Family, Model, ROTARY_SHARE, Shape, WINDOW};
use crate::operations::with_numbers;

/// All files of a model's folder, by name.
pub fn files(trained: &Trained) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let shape = trained.model.shape();
    let pretty = |value: &Value| -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        Ok(bytes)
    };
    let generation = json!({ "bos_token_id": 0, "eos_token_id": 0, "do_sample": false });
    let tokenizer =
        trained.tokenizer.to_string(true).map_err(|error| anyhow!("writing the tokenizer: {error}"))?;
    Ok(vec![
        ("config.json", pretty(&config(shape))?),
        ("generation_config.json", pretty(&generation)?),
        ("tokenizer_config.json", pretty(&tokenizer_config(shape))?),
        ("tokenizer.json", format!("{tokenizer}\n").into_bytes()),
        ("model.safetensors", weights(&trained.model)?),
        ("training.csv", curve(trained).into_bytes()),
        ("training.json", pretty(&serde_json::to_value(&trained.summary)?)?),
    ])
}

/// Rounds every weight to half precision, so that what is measured is what is written.
pub fn round(model: &Model) -> Result<()> {
    for (name, variable) in model.variables() {
        let rounded = variable.to_dtype(DType::F16)?.to_dtype(DType::F32)?;
        let finite = with_numbers(&rounded, |all| Ok(all.iter().all(|x| x.is_finite())))?;
        ensure!(finite, "{name}: a weight does not fit half precision: lower --learning-rate");
        variable.set(&rounded)?;
    }
    Ok(())
}

/// The weights as a safetensors file.
pub fn weights(model: &Model) -> Result<Vec<u8>> {
    let mut parts: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, variable) in model.variables() {
        let tensor = variable.as_tensor();
        match name.strip_suffix("qkv.weight") {
            Some(stem) => {
                for (part, tensor) in ["q_proj", "k_proj", "v_proj"].iter().zip(tensor.chunk(3, 0)?) {
                    parts.push((format!("{stem}{part}.weight"), tensor.dims().to_vec(), halves(&tensor)?));
                }
            }
            None => parts.push((name.to_string(), tensor.dims().to_vec(), halves(tensor)?)),
        }
    }
    let views = parts
        .iter()
        .map(|(name, dims, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F16, dims.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

fn halves(tensor: &Tensor) -> Result<Vec<u8>> {
    let bytes = |all: &[f32]| Ok(all.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect());
    Ok(with_numbers(tensor, bytes)?)
}

fn config(shape: &Shape) -> Value {
    let Shape { family, blocks, width, heads, vocabulary, context } = *shape;
    let reach: Vec<&str> = ["global", "local"].into_iter().cycle().take(blocks).collect();
    match family {
        Family::GptNeox => json!({
            "architectures": ["GPTNeoXForCausalLM"],
            "model_type": "gpt_neox",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "num_hidden_layers": blocks,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "hidden_act": "gelu",
            "rotary_pct": ROTARY_SHARE,
            "rotary_emb_base": 10000,
            "max_position_embeddings": context,
            "layer_norm_eps": EPSILON,
            "use_parallel_residual": true,
            "attention_bias": true,
            "attention_dropout": 0.0,
            "hidden_dropout": 0.0,
            "classifier_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": false,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "use_cache": true,
            "torch_dtype": "float16",
        }),
        Family::GptNeo => json!({
            "architectures": ["GPTNeoForCausalLM"],
            "model_type": "gpt_neo",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "num_layers": blocks,
            "num_heads": heads,
            "intermediate_size": 4 * width,
            "attention_types": [[["global", "local"], blocks / 2]],
            "attention_layers": reach,
            "window_size": WINDOW,
            "activation_function": "gelu_new",
            "max_position_embeddings": context,
            "layer_norm_epsilon": EPSILON,
            "attention_dropout": 0.0,
            "embed_dropout": 0.0,
            "resid_dropout": 0.0,
            "classifier_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": true,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "use_cache": true,
            "torch_dtype": "float16",
        }),
    }
}

fn tokenizer_config(shape: &Shape) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": false,
    })
}

fn curve(trained: &Trained) -> String {
    let counts: Vec<u32> =
        trained.curve.first().map_or(Vec::new(), |p| p.recall.iter().map(|r| r.seen).collect());
    let mut text = String::from("step,tokens,learning_rate,loss,held_out_loss");
    counts.iter().for_each(|seen| text.push_str(&format!(",exact_{seen}")));
    text.push('\n');
    for point in &trained.curve {
        let (step, tokens, rate) = (point.step, point.tokens, point.learning_rate);
        text.push_str(&format!("{step},{tokens},{rate:.6},{:.4},{:.4}", point.loss, point.held_out_loss));
        for recall in &point.recall {
            text.push_str(&format!(",{:.4}", f64::from(recall.exact) / f64::from(recall.records)));
        }
        text.push('\n');
    }
    text
}
