//! The command line as users and the runner see it.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rote-train")).args(args).output().expect("rote-train starts")
}

#[test]
fn help() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    insta::assert_snapshot!("help", String::from_utf8(output.stdout).unwrap());
}

#[test]
fn describe() {
    let output = run(&["--describe"]);
    assert!(output.status.success());
    insta::assert_snapshot!("describe", String::from_utf8(output.stdout).unwrap());
}

/// The smallest training there is, whole: an artifact that is a model folder at the same time.
#[test]
fn a_tiny_model_is_an_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let line = "The cat sat on the mat and the dog sat on the log.\n";
    std::fs::write(path("corpus"), line.repeat(200)).unwrap();
    let record = format!("{{\"record\": 0, \"seen\": 1, \"text\": \"{}\"}}\n", "abcdefgh ".repeat(12));
    std::fs::write(path("records"), record).unwrap();
    let (corpus, records, out) = (path("corpus"), path("records"), path("out"));
    let small = ["--family", "gpt_neo", "--blocks", "2", "--width", "16", "--heads", "2", "--context", "128"];
    let files = ["--corpus", &corpus, "--records", &records, "--vocabulary", "270", "--out", &out];
    let output = run(&[&small[..], &files[..]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("held-out perplexity"), "{told}");
    for name in ["artifact.json", "config.json", "model.safetensors", "tokenizer.json", "training.csv"] {
        assert!(folder.path().join("out").join(name).is_file(), "{name}");
    }
}

#[test]
fn a_corpus_that_is_not_there_is_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let missing = folder.path().join("nothing").to_str().unwrap().to_string();
    let output = run(&[
        "--corpus",
        &missing,
        "--records",
        &missing,
        "--family",
        "gpt_neo",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nothing"));
    assert!(!out.exists());
}
