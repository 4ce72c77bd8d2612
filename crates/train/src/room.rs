//! What a training will hold in memory, told from sizes alone, before any of it is taken.

use anyhow::{Result, ensure};

use crate::{Params, Texts};

/// Bytes of a number.
const NUMBER: f64 = 4.0;
/// A weight, its gradient and the two moments of Adam.
const KEPT_PER_WEIGHT: f64 = 4.0;
/// Rows of the width that a block keeps of a token for its gradient, about: norms, queries, keys, values, mixed values, the
/// four times wider inside of the MLP before and after its activation, each with its gradient.
const ROWS_PER_BLOCK: f64 = 32.0;
/// Rows of the vocabulary: logits, probabilities, their gradient.
const ROWS_OF_LOGITS: f64 = 3.0;

/// Refuses what does not fit into `memory` bytes.
///
/// # Errors
/// Sizes that ask for more, or for more tokens than the texts could give.
pub fn check(texts: &Texts, params: &Params, memory: u64) -> Result<()> {
    let [blocks, width, heads, vocabulary, context, step_windows] =
        [params.blocks, params.width, params.heads, params.vocabulary, params.context, params.step_windows]
            .map(|size| size as f64);
    // No text of n bytes has more than n tokens, nor does a tokenizer find more than n in it.
    let shown: f64 =
        texts.records.iter().map(|record| f64::from(record.seen) * record.text.len() as f64).sum();
    let records: usize = texts.records.iter().map(|record| record.text.len()).sum();
    let most = 257 + texts.corpus.len() + records;
    ensure!(
        params.vocabulary <= most,
        "--vocabulary {}: the texts give at most {most} tokens",
        params.vocabulary
    );

    let weights = blocks * (12.0 * width * width + 13.0 * width) + (2.0 * vocabulary + context) * width;
    let per_token = blocks * (ROWS_PER_BLOCK * width + 2.0 * heads * context) + ROWS_OF_LOGITS * vocabulary;
    let read = f64::from(params.epochs) * texts.corpus.len() as f64 + shown + 2.0 * context;
    let need = NUMBER * (KEPT_PER_WEIGHT * weights + step_windows * context * per_token + read);
    ensure!(
        need <= memory as f64,
        "--blocks, --width, --heads, --vocabulary, --context, --step-windows and --epochs ask for about {:.1} GB of \
         memory, and there are {:.1}",
        need / 1e9,
        memory as f64 / 1e9
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;
    use crate::records::Record;

    #[test]
    fn each_size_is_refused_where_it_asks_for_too_much() {
        let texts = Texts {
            corpus: "words and words\n".repeat(100),
            records: vec![Record { record: 0, seen: 2, text: "a record".into() }],
            held_out: "words\n".into(),
        };
        let fits = Params {
            family: Family::GptNeox,
            blocks: 2,
            width: 32,
            heads: 2,
            vocabulary: 300,
            context: 96,
            step_windows: 2,
            learning_rate: 1e-2,
            epochs: 1,
            seed: 0,
        };
        let check = |change: fn(&mut Params)| {
            let mut params = fits.clone();
            change(&mut params);
            check(&texts, &params, 8 << 20).err().map(|error| error.to_string())
        };
        assert_eq!(check(|_| ()), None);
        let told = check(|params| params.vocabulary = usize::MAX).unwrap();
        assert!(told.ends_with(": the texts give at most 1865 tokens"), "{told}");
        for change in [
            |params: &mut Params| params.blocks = usize::MAX,
            |params: &mut Params| params.width = 1 << 40,
            |params: &mut Params| params.heads = 1 << 40,
            |params: &mut Params| params.context = usize::MAX,
            |params: &mut Params| params.step_windows = usize::MAX,
            |params: &mut Params| params.epochs = u32::MAX,
        ] {
            let told = check(change).unwrap();
            assert!(told.ends_with(" of memory, and there are 0.0"), "{told}");
        }
    }
}
