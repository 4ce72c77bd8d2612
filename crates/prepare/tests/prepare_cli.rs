//! The command line as users and the runner see it.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rote-prepare")).args(args).output().expect("rote-prepare starts")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_string()
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

#[test]
fn an_unknown_task_is_refused_before_the_model_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    std::fs::write(&model, "no model").unwrap();
    let task = format!("lambda={}", model.display());
    let output = run(&["--model", model.to_str().unwrap(), "--task", &task, "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let known = "known are arc_easy, hellaswag, lambada_openai, piqa, wikitext; declare others with --define";
    assert_eq!(told(&output), format!("prepare: no task is called `lambda`; {known}"));
    assert!(!out.exists());
}

#[test]
fn a_suffix_file_without_prefixes_is_a_wrong_call() {
    let output = run(&["--model", "m", "--sequences-suffix", "s.npy", "--out", "o"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("--sequences-prefix"), "{}", told(&output));
}
