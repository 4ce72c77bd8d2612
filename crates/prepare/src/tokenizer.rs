//! The model's tokenizer and limits, behind what prepare asks of them.

use std::path::Path;

use anyhow::Result;

use crate::encode::Encode;

/// What is read of a model.
pub(crate) struct Model {
    pub(crate) tokenizer: rote_model::Tokenizer,
    pub(crate) vocabulary: usize,
    pub(crate) max_length: usize,
}

/// Reads configuration and tokenizer of the model at `source`.
pub(crate) fn load(source: &Path) -> Result<Model> {
    let source = source.to_string_lossy();
    let spec = rote_model::load_spec(&source)?;
    let tokenizer = rote_model::load_tokenizer(&source)?;
    Ok(Model { tokenizer, vocabulary: spec.vocab, max_length: spec.max_positions })
}

impl Encode for rote_model::Tokenizer {
    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        if special { self.encode_with_specials(text) } else { rote_model::Tokenizer::encode(self, text) }
    }

    fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.decode(tokens)
    }

    fn prefix_token(&self) -> Option<u32> {
        self.prefix_token()
    }
}
