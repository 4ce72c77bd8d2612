//! `rote-rows` as users call it; and the reason why cargo builds it for the tests.

use std::path::Path;
use std::process::Command;

use rote_artifact::TableWriter;
use rote_artifact::tables::Extraction;
use rote_store::{Output, StageEntry};

#[test]
fn rows_are_lines_of_json() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rows");
    let _ = std::fs::remove_dir_all(&folder);
    let output = Output::begin(&folder).unwrap();
    let mut writer = TableWriter::<Extraction>::new(&output);
    let role = "dropped".to_string();
    writer
        .extend([Extraction {
            request: 3,
            role,
            seen: None,
            prefix: Some(32),
            matched: 2,
            exact_match: false,
            logprob: -1.5,
            sampled: None,
        }])
        .unwrap();
    writer.finish().unwrap();
    let stage = StageEntry { name: "test".into(), version: "0".into() };
    output.finish(stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
    let rows = |table: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rote-rows")).arg(&folder).arg(table).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let line = r#"{"request":3,"role":"dropped","seen":null,"prefix":32,"matched":2,"exact_match":false,"logprob":-1.5,"sampled":null}"#;
    assert_eq!(rows("extraction"), (Some(0), format!("{line}\n")));
    assert_eq!(rows("outcome"), (Some(3), String::new()));
}
