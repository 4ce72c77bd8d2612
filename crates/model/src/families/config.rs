//! `Config`: a model's `config.json`, read key by key with messages that name the key.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use crate::Activation;

/// No size of a real model is larger; what is, is a damaged file.
const LARGEST: u64 = 1 << 31;
const MOST_BLOCKS: usize = 1 << 14;

/// A configuration; `null` counts as absent.
pub(crate) struct Config {
    entries: Map<String, Value>,
    place: String,
}

impl Config {
    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let place = || format!("reading {}", path.display());
        let bytes = std::fs::read(path).with_context(place)?;
        ensure!(!bytes.is_empty(), "reading {}: the file is empty", path.display());
        let value: Value = serde_json::from_slice(&bytes).with_context(place)?;
        let Value::Object(entries) = value else { bail!("{}: not a JSON object", path.display()) };
        Ok(Config { entries, place: path.display().to_string() })
    }

    /// From entries made elsewhere; `place` is named in messages.
    pub fn of(entries: Map<String, Value>, place: String) -> Self {
        Config { entries, place }
    }

    /// Where it was read, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    fn bad(&self, key: &str, expected: &str) -> anyhow::Error {
        let value = &self.entries[key];
        anyhow!("{}: `{key}` is {value}, expected {expected}", self.place)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.bad(key, "a text"))).transpose()
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key).map(|value| value.as_f64().ok_or_else(|| self.bad(key, "a number"))).transpose()
    }

    /// Yes or no.
    pub fn truth(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key)
            .map_or(Ok(default), |value| value.as_bool().ok_or_else(|| self.bad(key, "true or false")))
    }

    /// A size of at least 1.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        self.get(key)
            .map(|value| match value.as_u64() {
                Some(size @ 1..=LARGEST) => Ok(size as usize),
                _ => Err(self.bad(key, "a whole number from 1 on")),
            })
            .transpose()
    }

    /// A size that has to be there.
    pub fn need(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| anyhow!("{}: `{key}` is missing", self.place))
    }

    /// Number of blocks.
    pub fn blocks(&self, key: &str) -> Result<usize> {
        let blocks = self.need(key)?;
        ensure!(blocks <= MOST_BLOCKS, self.bad(key, "at most 16384 blocks"));
        Ok(blocks)
    }

    /// Whole numbers: one, or a list of them.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let one = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        let tokens = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.iter().map(one).collect(),
            Some(value) => one(value).map(|token| vec![token]),
        };
        tokens.ok_or_else(|| self.bad(key, "a token or a list of tokens"))
    }

    /// A value of any shape.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.get(key)
    }

    /// An object within, read in the same way.
    pub fn object(&self, key: &str) -> Result<Option<Config>> {
        self.get(key)
            .map(|value| match value {
                Value::Object(entries) => {
                    Ok(Config { entries: entries.clone(), place: format!("{}: `{key}`", self.place) })
                }
                _ => Err(self.bad(key, "an object")),
            })
            .transpose()
    }

    /// Refuses a switch that is set to anything but `expected`, for what is not built.
    pub fn refuse_unless(&self, key: &str, expected: bool, default: bool) -> Result<()> {
        let value = self.truth(key, default)?;
        ensure!(value == expected, "{}: `{key}` = {value} is not supported", self.place);
        Ok(())
    }

    /// The activation under `key`.
    pub fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        let name = self.text(key)?.unwrap_or(default);
        match name {
            "gelu" | "gelu_python" => Ok(Activation::GeluErf),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => {
                Ok(Activation::GeluTanh)
            }
            "relu" => Ok(Activation::Relu),
            "silu" | "swish" => Ok(Activation::Silu),
            _ => bail!(
                "{}: `{key}` = \"{name}\" is an unknown activation; known are gelu, gelu_new, gelu_fast, \
                 gelu_pytorch_tanh, relu, silu",
                self.place
            ),
        }
    }

    /// Width of a head where it is the model's width divided among the heads.
    pub fn even_heads(&self, d_model: usize, n_heads: usize) -> Result<usize> {
        ensure!(
            d_model.is_multiple_of(n_heads),
            "{}: a width of {d_model} does not divide among {n_heads} heads",
            self.place
        );
        Ok(d_model / n_heads)
    }

    /// First token of an empty context: BOS, else the first EOS.
    pub fn prefix_token(&self, default: Option<u32>) -> Result<Option<u32>> {
        let bos = self.tokens("bos_token_id")?;
        let eos = self.tokens("eos_token_id")?;
        Ok(bos.first().or(eos.first()).copied().or(default))
    }
}
