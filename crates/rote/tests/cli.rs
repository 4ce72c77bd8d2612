//! The command line as a snapshot; and the reason why cargo builds the binary for the tests.

use std::process::Command;

fn rote(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_rote")).args(arguments).output().expect("it was just built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ended by itself");
    format!("exit code {code}\n{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn help() {
    insta::assert_snapshot!(rote(&["--help"]));
}

#[test]
fn help_of_run() {
    insta::assert_snapshot!(rote(&["run", "--help"]));
}

#[test]
fn a_wrong_word() {
    insta::assert_snapshot!(rote(&["verfy"]));
}
