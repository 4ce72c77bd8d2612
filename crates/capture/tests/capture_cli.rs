//! The command line, pinned by what its description says.

use std::process::Command;

#[test]
fn it_describes_itself_and_refuses_what_it_does_not_know() {
    let run = |arg: &str| Command::new(env!("CARGO_BIN_EXE_rote-capture")).arg(arg).output().unwrap();
    let described: serde_json::Value = serde_json::from_slice(&run("--describe").stdout).unwrap();
    assert_eq!(described["stage"], "capture");
    let ports = described["ports"].as_array().unwrap();
    let takes: Vec<_> = ports.iter().map(|port| port["takes"].as_str().unwrap()).collect();
    assert_eq!(takes[..2], ["model", "request"]);
    let refused = run("--no-such-flag");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run("--help").stdout).contains("Example:"));
}
