//! `Tokenizer`: text to tokens and back, from a `tokenizer.json` or from a GGUF file's own tokens and merges.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::families::ggml_tokenizer;
use crate::gguf::Gguf;

/// A tokenizer and the tokens that begin and end its texts.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
}

impl Tokenizer {
    /// From a folder's `tokenizer.json`; which tokens begin and end texts is taken from the
    /// `tokenizer_config.json` beside it, where there is one.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let place = || format!("reading {}", path.display());
        let bytes = std::fs::read(&path).with_context(place)?;
        ensure!(!bytes.is_empty(), "reading {}: the file is empty", path.display());
        let inner = from_bytes(&bytes).with_context(place)?;
        let mut tokenizer = Tokenizer { inner, bos: None, eos: None };
        let path = folder.join("tokenizer_config.json");
        if path.is_file() {
            let place = || format!("reading {}", path.display());
            let config: Value =
                serde_json::from_slice(&std::fs::read(&path).with_context(place)?).with_context(place)?;
            tokenizer.bos = tokenizer.named(&config["bos_token"]);
            tokenizer.eos = tokenizer.named(&config["eos_token"]);
        }
        Ok(tokenizer)
    }

    /// From the metadata of a GGUF file.
    ///
    /// # Errors
    /// A way of cutting text (`tokenizer.ggml.pre`) that is not known.
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let description = ggml_tokenizer::description(gguf)?;
        let place = || format!("{}: tokenizer", gguf.path().display());
        let inner = from_bytes(description.to_string().as_bytes()).with_context(place)?;
        let token = |key: &str| -> Result<Option<u32>> {
            let id = gguf.integer(&format!("tokenizer.ggml.{key}"))?;
            Ok(id.and_then(|id| u32::try_from(id).ok()))
        };
        Ok(Tokenizer { inner, bos: token("bos_token_id")?, eos: token("eos_token_id")? })
    }

    /// A token that a configuration names: a text, or an object with one.
    fn named(&self, value: &Value) -> Option<u32> {
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        self.inner.token_to_id(text)
    }

    /// The tokens of a text, nothing added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, false)
    }

    /// The tokens of a text with the special tokens that the tokenizer adds by default.
    pub fn encode_with_specials(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    fn encode_with(&self, text: &str, specials: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, specials)
            .map_err(|error| anyhow!("encoding {} bytes of text: {error}", text.len()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of some tokens, special ones written out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, false).map_err(|error| anyhow!("decoding {} tokens: {error}", tokens.len()))
    }

    /// Number of tokens, special ones counted. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// A token's id.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A token as the vocabulary writes it (blanks as `Ġ`, in byte-level vocabularies).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Begins texts.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Ends texts.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// What a model is given where a context is empty: BOS, else EOS.
    pub fn prefix_token(&self) -> Option<u32> {
        self.bos.or(self.eos)
    }
}

fn from_bytes(bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes)
        .map_err(|error| anyhow!("not a tokenizer of the tokenizers library: {error}"))?;
    // Neither belongs to a text's tokens, and files are saved with whatever was last set.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| anyhow!("switching off truncation: {error}"))?;
    Ok(tokenizer)
}
