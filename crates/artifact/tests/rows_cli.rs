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
    let (request, role) = (3, "dropped".to_string());
    writer.extend([Extraction { request, role, logprob: -1.5, ..Extraction::default() }]).unwrap();
    writer.finish().unwrap();
    let stage = StageEntry { name: "test".into(), version: "0".into() };
    output.finish(stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
    let rows = |table: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rote-rows")).arg(&folder).arg(table).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = rows("extraction");
    let row: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!((code, text.lines().count()), (Some(0), 1));
    assert_eq!((&row["request"], &row["role"], &row["seen"]), (&3.into(), &"dropped".into(), &().into()));
    assert_eq!(row["logprob"], -1.5);
    assert_eq!(rows("outcome"), (Some(3), String::new()));
}
