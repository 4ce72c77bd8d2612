//! Tokenizers made from GGUF files against Hugging Face's with the same tokens and merges.

use std::fs;
use std::path::{Path, PathBuf};

use rote_model::{Tokenizer, load_tokenizer};
use serde_json::Value;

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tiny/tokenizers")
}

fn tokenizer(pre: &str) -> Tokenizer {
    load_tokenizer(&home().join(format!("{pre}.gguf")).to_string_lossy()).unwrap()
}

fn expected() -> (Vec<String>, Vec<(String, Vec<Vec<u32>>)>) {
    let value: Value = serde_json::from_slice(&fs::read(home().join("expected.json")).unwrap()).unwrap();
    let texts = serde_json::from_value(value["texts"].clone()).unwrap();
    let tokens = value["tokens"].as_object().unwrap().iter();
    (texts, tokens.map(|(pre, ids)| (pre.clone(), serde_json::from_value(ids.clone()).unwrap())).collect())
}

#[test]
fn every_cut_gives_the_published_tokens() {
    let (texts, cuts) = expected();
    assert_eq!(cuts.len(), 4);
    for (pre, expected) in cuts {
        let tokenizer = tokenizer(&pre);
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(tokenizer.encode(text).unwrap(), expected, "{pre}: {text:?}");
        }
    }
}

#[test]
fn texts_come_back_as_they_went() {
    let (texts, cuts) = expected();
    for (pre, _) in cuts {
        let tokenizer = tokenizer(&pre);
        // Composing (NFC) is the one change a cut may make.
        let kept = texts.iter().filter(|text| pre != "qwen2" || !text.contains('\u{301}'));
        for text in kept {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), **text, "{pre}");
        }
    }
}

#[test]
fn digits_stand_alone_also_after_blanks() {
    let tokenizer = tokenizer("smollm");
    let tokens = tokenizer.encode("a   12").unwrap();
    let tokens: Vec<_> = tokens.into_iter().map(|token| tokenizer.token(token).unwrap()).collect();
    assert_eq!(tokens, ["a", "ĠĠĠ", "1", "2"]);
}

#[test]
fn special_tokens_are_added_only_on_request() {
    let tokenizer = tokenizer("llama-bpe");
    let plain = tokenizer.encode("hi").unwrap();
    let with = tokenizer.encode_with_specials("hi").unwrap();
    assert_eq!(with, [&[1], plain.as_slice()].concat());
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.prefix_token()), (Some(1), Some(2), Some(1)));
    assert_eq!(tokenizer.id("<|im_start|>"), Some(1));
    assert_eq!(tokenizer.vocab_size(), 420);
}

#[test]
fn an_unknown_cut_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut bytes = fs::read(home().join("smollm.gguf")).unwrap();
    let at = bytes.windows(6).position(|window| window == b"smollm").unwrap();
    bytes[at..at + 6].copy_from_slice(b"falcon");
    fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", load_tokenizer(&path.to_string_lossy()).unwrap_err());
    assert!(error.contains("cutting `falcon`") && error.contains("known are gpt-2, smollm"), "{error}");
}
