//! Text and tokens: a byte-level BPE trained on what the model will read, and the measure that any language model
//! has to beat.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

/// Begins, ends and separates documents; its id is 0.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Reads a text file.
pub fn read(path: &Path) -> Result<String> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading text from {}", path.display()))?;
    ensure!(!text.trim().is_empty(), "{}: the file holds no text", path.display());
    Ok(text)
}

/// The text of a file whose titles, if it is laid out as WikiText is (` = Title = `), are left out.
pub fn plain(text: &str) -> String {
    let title = |line: &str| line.starts_with(" = ") && line.trim_end().ends_with(" =");
    let lines = text.lines().filter(|line| !title(line) && !line.trim().is_empty());
    lines.flat_map(|line| [line.trim(), "\n"]).collect()
}

/// Trains a tokenizer of `vocabulary` tokens on the corpus and the records.
pub fn tokenizer<'a>(
    corpus: &'a str,
    records: impl Iterator<Item = &'a str>,
    vocabulary: usize,
) -> Result<Tokenizer> {
    ensure!(
        vocabulary > 256,
        "--vocabulary {vocabulary} leaves no room: 256 bytes and {END_OF_TEXT} come first"
    );
    let bytes = ByteLevel::new(false, true, true);
    let mut tokenizer = tokenizers::TokenizerBuilder::<
        BPE,
        tokenizers::NormalizerWrapper,
        ByteLevel,
        ByteLevel,
        ByteLevel,
    >::default()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(bytes))
    .with_post_processor(Some(bytes))
    .with_decoder(Some(bytes))
    .build()
    .map_err(|error| anyhow!("building a tokenizer: {error}"))?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // A record is taken in one piece: its line ends are part of it.
    let lines: Vec<&str> = corpus.split_inclusive('\n').chain(records).collect();
    tokenizer
        .train(&mut trainer, lines.into_iter())
        .map_err(|error| anyhow!("training a tokenizer: {error}"))?;
    let text = tokenizer.to_string(false).map_err(|error| anyhow!("writing the tokenizer: {error}"))?;
    let tokenizer: Tokenizer =
        text.parse().map_err(|error| anyhow!("reading the tokenizer back: {error}"))?;
    let size = tokenizer.get_vocab_size(true);
    ensure!(size == vocabulary, "the corpus gives only {size} of {vocabulary} tokens: lower --vocabulary");
    Ok(tokenizer)
}

/// Tokens of a text, without marks.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    // Line by line: one call over megabytes would keep an offset table of all of them.
    let mut tokens = Vec::new();
    for line in text.split_inclusive('\n') {
        let encoding =
            tokenizer.encode_fast(line, false).map_err(|error| anyhow!("encoding {line:?}: {error}"))?;
        tokens.extend_from_slice(encoding.get_ids());
    }
    Ok(tokens)
}

/// Perplexity per token of `text` under the frequencies of single tokens in `corpus`, each counted once more.
pub fn unigram_perplexity(corpus: &[u32], text: &[u32], vocabulary: usize) -> f64 {
    let mut counts = vec![1u64; vocabulary];
    corpus.iter().for_each(|&token| counts[token as usize] += 1);
    let total = (corpus.len() + vocabulary) as f64;
    let loss: f64 = text.iter().map(|&token| -(counts[token as usize] as f64 / total).ln()).sum();
    (loss / text.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unigram_perplexity_of_a_hand_counted_text() {
        // counts + 1: 3 and 1 of 4; the text asks once for each: 1 / sqrt(3/4 · 1/4)
        let perplexity = unigram_perplexity(&[0, 0], &[0, 1], 2);
        assert!((perplexity - 2.309_401).abs() < 1e-6, "{perplexity}");
    }

    #[test]
    fn titles_and_blank_lines_are_left_out() {
        assert_eq!(plain(" = Emma = \n \n One. \n Two. \n \n"), "One.\nTwo.\n");
    }
}
