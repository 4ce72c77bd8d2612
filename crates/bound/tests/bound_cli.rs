//! The command line as users and the runner see it.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rote-bound")).args(args).output().expect("rote-bound starts")
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
fn a_table_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("out");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/tiny/neox-parallel");
    let output = run(&["--model", model, "--requests", model, "--out", place.to_str().unwrap()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("no table `request`"), "{told}");
    assert!(!place.exists());
}
