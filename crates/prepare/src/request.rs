//! From a benchmark document to requests: tokens, lengths that scores divide by, hashes as the harness's.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rote_artifact::tables::Request;
use sha2::{Digest, Sha256};

use crate::encode::{Pair, Reader, rolling};
use crate::python;
use crate::tasks::Document;

/// A request about which nothing is known but what is asked.
pub fn blank(kind: &str, task: &str) -> Request {
    Request {
        choice: -1,
        kind: kind.to_string(),
        task: task.to_string(),
        role: "benchmark".to_string(),
        gold: -1,
        ..Request::default()
    }
}

/// The requests of one document, and how many contexts had to be cut from the left to fit the model.
///
/// A choice is asked after one blank, which does not count as one of its characters; a word carries its own
/// blank; a page is asked window by window, each with the words and bytes of the whole page.
pub fn of_document(document: &Document, task: &str, reader: &Reader) -> Result<(Vec<Request>, usize)> {
    match document {
        Document::Choices { context, choices, gold } => {
            let mut cut = 0;
            let mut requests = Vec::with_capacity(choices.len());
            for (choice, text) in choices.iter().enumerate() {
                let mut pair = reader.pair(context, &format!(" {text}"))?;
                cut += usize::from(reader.fit(&mut pair)?);
                requests.push(Request {
                    choice: i32::try_from(choice)?,
                    gold: i32::try_from(*gold)?,
                    choice_chars: u32::try_from(python::length(text))?,
                    prompt_hash: sha256(context),
                    target_hash: sha256(&gold.to_string()),
                    ..with(pair, blank("choice", task))
                });
            }
            Ok((requests, cut))
        }
        Document::Word { context, target } => {
            let mut pair = reader.pair(context, target)?;
            let cut = usize::from(reader.fit(&mut pair)?);
            let request = Request {
                prompt_hash: sha256(context),
                target_hash: sha256(target),
                ..with(pair, blank("word", task))
            };
            Ok((vec![request], cut))
        }
        Document::Page { page, text } => {
            let tokens = reader.whole(text)?;
            let hash = sha256(text);
            let words = u32::try_from(python::count_pieces(page))?;
            let bytes = u32::try_from(page.len())?;
            let windows = rolling(&tokens, reader.prefix_token()?, reader.max_length);
            let requests = windows.into_iter().map(|pair| Request {
                document_words: words,
                document_bytes: bytes,
                prompt_hash: hash.clone(),
                target_hash: hash.clone(),
                ..with(pair, blank("rolling", task))
            });
            Ok((requests.collect(), 0))
        }
    }
}

fn with(pair: Pair, request: Request) -> Request {
    Request { context: pair.context, continuation: pair.continuation, ..request }
}

/// Bytes of a text after zlib at its default level, 6.
pub fn zlib_bytes(text: &str) -> Result<u32> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(text.as_bytes()).context("compressing a text")?;
    Ok(u32::try_from(encoder.finish().context("compressing a text")?.len())?)
}

/// SHA-256 of a text's UTF-8, in hexadecimal.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::Bytes;

    fn ask(document: &Document) -> Vec<Request> {
        let tokenizer = Bytes { adds_prefix: false };
        let reader = Reader::new(&tokenizer, 2000, 8).unwrap();
        of_document(document, "task", &reader).unwrap().0
    }

    #[test]
    fn a_choice_is_asked_after_a_blank_that_is_not_counted() {
        let choices = vec!["a".to_string(), "é!".to_string()];
        let requests = ask(&Document::Choices { context: "x".to_string(), choices, gold: 1 });
        assert_eq!(requests[0].continuation, [1002]);
        assert_eq!(requests[1].continuation, [32, 0xc3, 0xa9, 33]);
        assert_eq!((requests[0].choice_chars, requests[1].choice_chars), (1, 2));
        assert_eq!((requests[1].choice, requests[1].gold), (1, 1));
        assert_eq!(requests[0].target_hash, sha256("1"));
    }

    #[test]
    fn a_word_brings_its_own_blank() {
        let document = Document::Word { context: "x y".to_string(), target: " z".to_string() };
        let request = &ask(&document)[0];
        assert_eq!(request.context, [120, 32, 121]);
        assert_eq!(request.continuation, [32, 122]);
        assert_eq!(request.prompt_hash, sha256("x y"));
    }

    #[test]
    fn a_page_is_asked_in_windows_with_the_lengths_of_the_original() {
        let document = Document::Page { page: "0123456789 b ".to_string(), text: "0123456789 b".to_string() };
        let requests = ask(&document);
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].context, [0]);
        assert_eq!(requests.iter().map(|request| request.continuation.len()).sum::<usize>(), 12);
        assert!(requests.iter().all(|request| request.document_words == 3));
        assert!(requests.iter().all(|request| request.document_bytes == 13));
        assert!(ask(&Document::Page { page: String::new(), text: String::new() }).is_empty());
    }

    #[test]
    fn compressed_lengths_are_zlibs() {
        let check = |text: &str, bytes| assert_eq!(zlib_bytes(text).unwrap(), bytes, "{text:?}");
        check("", 8);
        check("a", 9);
        check("It was the best of times, it was the worst of times", 42);
        check(&"abcabcabc".repeat(40), 15);
        let squares: Vec<String> = (0..60).map(|n| (n * n).to_string()).collect();
        check(&squares.join(" "), 136);
    }

    #[test]
    fn hashes_are_sha256_of_the_text() {
        assert_eq!(sha256("abc")[..16], *"ba7816bf8f01cfea");
    }
}
