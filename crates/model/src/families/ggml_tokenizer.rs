//! The tokenizer that a GGUF file carries as tokens and merges, given the splitting that its `pre` names.
//!
//! How text is cut before merging is no part of the file; `tokenizer.ggml.pre` only names it. An unknown name is
//! refused, for a wrong cut gives wrong tokens without any error.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::gguf::Gguf;

/// `tokenizer.ggml.token_type`: control tokens, never made from text.
const CONTROL: i64 = 3;
/// `tokenizer.ggml.token_type`: tokens taken whole from text before it is cut.
const USER_DEFINED: i64 = 4;

/// The tokenizer in the form of a `tokenizer.json`.
pub(crate) fn description(gguf: &Gguf) -> Result<Value> {
    describe(gguf).with_context(|| format!("{}: tokenizer", gguf.path().display()))
}

fn describe(gguf: &Gguf) -> Result<Value> {
    let model = gguf.text("tokenizer.ggml.model")?.context("metadata `tokenizer.ggml.model` is missing")?;
    ensure!(model == "gpt2", "model `{model}` is not supported; known is gpt2 (byte-level BPE)");
    let pre = gguf.text("tokenizer.ggml.pre")?.context("metadata `tokenizer.ggml.pre` is missing")?;
    let cut = Cut::named(pre)?;
    let tokens =
        gguf.texts("tokenizer.ggml.tokens")?.context("metadata `tokenizer.ggml.tokens` is missing")?;
    let merges =
        gguf.texts("tokenizer.ggml.merges")?.context("metadata `tokenizer.ggml.merges` is missing")?;
    let types = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    ensure!(
        types.is_empty() || types.len() == tokens.len(),
        "{} token types for {} tokens",
        types.len(),
        tokens.len()
    );
    let merges = merges
        .iter()
        .map(|merge| {
            let (left, right) =
                merge.split_once(' ').with_context(|| format!("merge `{merge}` is not two tokens"))?;
            Ok(json!([left, right]))
        })
        .collect::<Result<Vec<_>>>()?;
    let added: Vec<_> = types
        .iter()
        .zip(&tokens)
        .enumerate()
        .filter(|(_, (kind, _))| [CONTROL, USER_DEFINED].contains(kind))
        .map(|(id, (kind, token))| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == CONTROL})
        })
        .collect();
    let mut vocab = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        let twice = vocab.insert((*token).to_string(), json!(id));
        ensure!(twice.is_none(), "token `{token}` stands twice");
    }
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": cut.composed.then(|| json!({"type": "NFC"})),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": cut.steps},
        "post_processor": bos(gguf, &tokens)?,
        "decoder": byte_level(false),
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": cut.whole_words},
    }))
}

/// What is put before a text where special tokens are asked for.
fn bos(gguf: &Gguf, tokens: &[&str]) -> Result<Value> {
    if gguf.truth("tokenizer.ggml.add_bos_token")? != Some(true) {
        return Ok(Value::Null);
    }
    let id = gguf.integer("tokenizer.ggml.bos_token_id")?.context("BOS is to be added, but none is named")?;
    let token = tokens.get(id as usize).with_context(|| format!("BOS {id} is beyond the vocabulary"))?;
    let special = json!({"SpecialToken": {"id": token, "type_id": 0}});
    let sequence = |which: &str| json!({"Sequence": {"id": which, "type_id": 0}});
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [special, sequence("A")],
        "pair": [special, sequence("A"), sequence("B")],
        "special_tokens": {*token: {"id": token, "ids": [id], "tokens": [token]}},
    }))
}

fn byte_level(cut: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cut})
}

/// How text is cut into pieces within which tokens are merged.
struct Cut {
    steps: Vec<Value>,
    /// Text is composed (NFC) first.
    composed: bool,
    /// A piece that is a token as it stands is not merged together from its bytes.
    whole_words: bool,
}

impl Cut {
    fn named(pre: &str) -> Result<Self> {
        let cut = match pre {
            "gpt-2" => Cut { steps: vec![byte_level(true)], composed: false, whole_words: false },
            // Every digit stands alone, also after blanks.
            "smollm" => Cut {
                steps: vec![json!({"type": "Digits", "individual_digits": true}), byte_level(true)],
                composed: false,
                whole_words: false,
            },
            "qwen2" => Cut { steps: by_words("1"), composed: true, whole_words: false },
            "llama-bpe" => Cut { steps: by_words("1,3"), composed: false, whole_words: true },
            _ => bail!(
                "cutting `{pre}` (metadata `tokenizer.ggml.pre`) is unknown; known are gpt-2, smollm, qwen2, \
                 llama-bpe"
            ),
        };
        Ok(cut)
    }
}

/// Contractions, words with the sign before them, digits in groups of `digits`, signs, line ends, blanks.
fn by_words(digits: &str) -> Vec<Value> {
    let pattern = [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        &format!(r"\p{{N}}{{{digits}}}"),
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
    .join("|");
    let split =
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    vec![split, byte_level(false)]
}
