//! The command line as users and the runner see it.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rote-report")).args(args).output().expect("rote-report starts")
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
fn a_report_on_nothing_is_refused() {
    let place = std::env::temp_dir().join(format!("rote-report-nothing-{}", std::process::id()));
    let output = run(&["--out", place.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.trim(), "report: nothing to report on: give --scores, --extractions or --bounds");
    assert!(!place.exists());
}
