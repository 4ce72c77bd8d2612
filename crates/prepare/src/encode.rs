//! From text to tokens: the boundary between context and continuation, and what fits into the model.

use anyhow::{Context, Result, ensure};
use rote_artifact::Misfit;

use crate::python;

/// What is asked of a tokenizer.
pub trait Encode: Sync {
    /// Tokens of `text`, with the tokenizer's own special tokens around them if `special`.
    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>>;
    /// The text of `tokens`.
    fn decode(&self, tokens: &[u32]) -> Result<String>;
    /// The token that stands where a context is empty: BOS, else EOS.
    fn prefix_token(&self) -> Option<u32>;
}

/// What prepare knows of a model: its tokenizer, and the limits of its input.
pub struct Reader<'a> {
    tokenizer: &'a dyn Encode,
    /// Tokens are below it.
    pub vocabulary: usize,
    /// Longest input, in tokens.
    pub max_length: usize,
    prefix_text: Option<String>,
}

/// Tokens given and tokens asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Tokens given.
    pub context: Vec<u32>,
    /// Tokens asked about.
    pub continuation: Vec<u32>,
}

impl<'a> Reader<'a> {
    /// Of a tokenizer and a model's limits.
    pub fn new(tokenizer: &'a dyn Encode, vocabulary: usize, max_length: usize) -> Result<Self> {
        let prefix_text = tokenizer.prefix_token().map(|token| tokenizer.decode(&[token])).transpose()?;
        Ok(Reader { tokenizer, vocabulary, max_length, prefix_text })
    }

    /// Tokens of an excerpt: no special tokens, since it stands in the middle of a text.
    pub fn excerpt(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, false)
    }

    /// The text of `tokens`.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens)
    }

    /// Tokens of a whole text with the tokenizer's own special tokens, unless it begins with the prefix
    /// token spelled out.
    pub fn whole(&self, text: &str) -> Result<Vec<u32>> {
        let spelled =
            self.prefix_text.as_ref().is_some_and(|prefix| !prefix.is_empty() && text.starts_with(prefix));
        self.tokenizer.encode(text, !spelled)
    }

    /// The prefix token, needed by every text that has nothing before it.
    pub fn prefix_token(&self) -> Result<u32> {
        let token = self.tokenizer.prefix_token();
        token.context("the tokenizer names neither a BOS nor an EOS token to begin a text with")
    }

    /// Splits `context` + `continuation` as lm-evaluation-harness does: blanks at the end of the context
    /// belong to the continuation, and its tokens are those of the whole after as many as the context has.
    pub fn pair(&self, context: &str, continuation: &str) -> Result<Pair> {
        if context.is_empty() {
            let prefix = self.prefix_token()?;
            let mut tokens = self.tokenizer.encode(continuation, false)?;
            if tokens.first() == Some(&prefix) {
                tokens.remove(0);
            }
            return Ok(Pair { context: vec![prefix], continuation: tokens });
        }
        let given = python::rstrip(context);
        let mut whole = self.whole(&format!("{context}{continuation}"))?;
        let context = self.whole(given)?;
        let continuation = whole.split_off(context.len().min(whole.len()));
        Ok(Pair { context, continuation })
    }

    /// Cuts the context from the left until the input (all tokens but the last) fits the model; says
    /// whether anything was cut.
    pub fn fit(&self, pair: &mut Pair) -> Result<bool> {
        let length = pair.continuation.len();
        ensure!(
            length <= self.max_length,
            Misfit(format!("a continuation of {length} tokens; the model reads {}", self.max_length))
        );
        let excess = (pair.context.len() + length).saturating_sub(self.max_length + 1);
        pair.context.drain(..excess);
        Ok(excess > 0)
    }
}

/// Windows over a whole text, so that every token is predicted once: the first window begins after `prefix`,
/// a later one after one earlier token, the last is filled up with earlier tokens to the model's length.
pub fn rolling(tokens: &[u32], prefix: u32, max_length: usize) -> Vec<Pair> {
    let mut windows = Vec::new();
    let first = tokens.len().min(max_length);
    if first == 0 {
        return windows;
    }
    windows.push(Pair { context: vec![prefix], continuation: tokens[..first].to_vec() });
    let mut done = first;
    while done < tokens.len() {
        let end = tokens.len().min(done + max_length);
        windows.push(Pair {
            context: tokens[end - max_length - 1..done].to_vec(),
            continuation: tokens[done..end].to_vec(),
        });
        done = end;
    }
    windows
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tokenizer of bytes that knows three merges: two blanks (1000), `e.` (1001) and ` a` (1002); the
    /// prefix token is 0, spelled `<|>`. `special` puts it in front.
    pub(crate) struct Bytes {
        pub(crate) adds_prefix: bool,
    }

    impl Encode for Bytes {
        fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
            let mut tokens = if special && self.adds_prefix { vec![0] } else { Vec::new() };
            let mut rest = text;
            while !rest.is_empty() {
                let merges = [("<|>", 0), ("  ", 1000), ("e.", 1001), (" a", 1002)];
                match merges.iter().find(|(piece, _)| rest.starts_with(piece)) {
                    Some((piece, token)) => {
                        tokens.push(*token);
                        rest = &rest[piece.len()..];
                    }
                    None => {
                        let char = rest.chars().next().expect("it is not empty");
                        tokens.extend(rest.bytes().take(char.len_utf8()).map(u32::from));
                        rest = &rest[char.len_utf8()..];
                    }
                }
            }
            Ok(tokens)
        }
        fn decode(&self, tokens: &[u32]) -> Result<String> {
            let mut bytes = Vec::new();
            for &token in tokens {
                match token {
                    0 => bytes.extend(b"<|>"),
                    1000 => bytes.extend(b"  "),
                    1001 => bytes.extend(b"e."),
                    1002 => bytes.extend(b" a"),
                    byte => bytes.push(u8::try_from(byte)?),
                }
            }
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        fn prefix_token(&self) -> Option<u32> {
            Some(0)
        }
    }

    const BYTES: Bytes = Bytes { adds_prefix: false };

    fn reader(tokenizer: &Bytes) -> Reader<'_> {
        Reader::new(tokenizer, 2000, 8).unwrap()
    }

    #[test]
    fn blanks_at_the_end_of_a_context_go_to_the_continuation() {
        let pair = reader(&BYTES).pair("x ", "ab").unwrap();
        assert_eq!(pair, Pair { context: vec![120], continuation: vec![1002, 98] });
    }

    #[test]
    fn a_merge_across_the_boundary_is_cut_by_count() {
        // "e" + ".x" is [1001, x] as a whole; the context alone is one token, so one token is cut.
        let pair = reader(&BYTES).pair("e", ".x").unwrap();
        assert_eq!(pair, Pair { context: vec![101], continuation: vec![120] });
    }

    #[test]
    fn an_empty_context_is_the_prefix_token() {
        let reader = reader(&BYTES);
        let expected = Pair { context: vec![0], continuation: vec![120] };
        assert_eq!(reader.pair("", "x").unwrap(), expected);
        assert_eq!(reader.pair("", "<|>x").unwrap(), expected);
    }

    #[test]
    fn special_tokens_are_the_tokenizers_own_and_never_doubled() {
        let tokenizer = Bytes { adds_prefix: true };
        let reader = reader(&tokenizer);
        assert_eq!(reader.pair("x", "y").unwrap(), Pair { context: vec![0, 120], continuation: vec![121] });
        assert_eq!(reader.whole("<|>x").unwrap(), [0, 120]);
        assert_eq!(reader.excerpt("x").unwrap(), [120]);
    }

    #[test]
    fn the_context_is_cut_from_the_left_and_the_continuation_never() {
        let reader = reader(&BYTES);
        let mut pair = Pair { context: (0..7).collect(), continuation: vec![8, 9, 10] };
        assert!(reader.fit(&mut pair).unwrap());
        assert_eq!(pair.context, [1, 2, 3, 4, 5, 6]);
        assert!(!reader.fit(&mut pair).unwrap());
        let mut long = Pair { context: vec![1], continuation: vec![2; 9] };
        assert!(reader.fit(&mut long).unwrap_err().is::<Misfit>());
    }

    #[test]
    fn rolling_windows_predict_every_token_once() {
        let check = |n: u32, expected: &[(&[u32], &[u32])]| {
            let tokens: Vec<u32> = (0..n).collect();
            let expected: Vec<Pair> = expected
                .iter()
                .map(|(context, scored)| Pair { context: context.to_vec(), continuation: scored.to_vec() })
                .collect();
            assert_eq!(rolling(&tokens, 99, 4), expected, "{n} tokens");
        };
        check(10, &[(&[99], &[0, 1, 2, 3]), (&[3], &[4, 5, 6, 7]), (&[5, 6, 7], &[8, 9])]);
        check(5, &[(&[99], &[0, 1, 2, 3]), (&[0, 1, 2, 3], &[4])]);
        check(3, &[(&[99], &[0, 1, 2])]);
        check(0, &[]);
    }
}
