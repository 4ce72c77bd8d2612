//! The command line as users and the runner see it.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rote-score")).args(args).output().expect("rote-score starts")
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
fn a_folder_without_requests_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, out) = (folder.path().join("empty"), folder.path().join("out"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join("note"), "no table").unwrap();
    let empty = empty.to_str().unwrap();
    let output = run(&["--requests", empty, "--outcomes", empty, "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        told.trim().replace(empty, "EMPTY"),
        "score: reading requests: no table `request` in EMPTY: it holds no such table"
    );
    assert!(!out.exists());
}
