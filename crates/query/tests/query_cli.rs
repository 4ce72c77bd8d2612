//! `rote-query` as users call it, on a small artifact: listing, formats, a join, and what is said of mistakes.

use std::path::{Path, PathBuf};
use std::process::Command;

use rote_artifact::tables::{Item, Request};
use rote_artifact::{Cells, TableWriter, read_cells};
use rote_store::{Output, StageEntry};

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn artifact(name: &str, fill: impl FnOnce(&Output)) -> String {
    let folder = place(name);
    let _ = std::fs::remove_dir_all(&folder);
    let output = Output::begin(&folder).unwrap();
    fill(&output);
    let stage = StageEntry { name: "test".into(), version: "0".into() };
    output.finish(stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
    folder.to_str().unwrap().to_string()
}

fn items(name: &str) -> String {
    artifact(name, |output| {
        let mut writer = TableWriter::<Item>::new(output);
        let item = |request, logprob, exact_match| Item {
            change: "none".into(),
            request,
            logprob,
            matched: 3 * request,
            exact_match,
        };
        writer.extend([item(0, -1.5, true), item(1, -0.25, false), item(2, -7.0, true)]).unwrap();
        writer.finish().unwrap();
    })
}

fn requests(name: &str) -> String {
    artifact(name, |output| {
        let mut writer = TableWriter::<Request>::new(output);
        let request = |request, context: &[u32], source: &str, seen| Request {
            request,
            context: context.to_vec(),
            source: source.into(),
            seen,
            ..Request::default()
        };
        writer.extend([request(0, &[5, 6], "a,b", Some(4)), request(2, &[7], "plain", None)]).unwrap();
        writer.finish().unwrap();
    })
}

fn query(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rote-query")).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn without_sql_the_tables_are_listed() {
    let (code, text, _) = query(&[&items("listed")]);
    let expected = "item: 3 rows\n  change       string\n  request      u32\n  logprob      f64\n  matched      u32\n  \
                    exact_match  bool\n";
    assert_eq!((code, text.as_str()), (0, expected));
}

#[test]
fn rows_as_a_table_and_as_csv() {
    let folder = items("rows");
    let sql = "select request, logprob from item where exact_match order by logprob";
    let (code, text, _) = query(&[&folder, sql]);
    let expected = "request    logprob\n──────────────────\n      2         -7\n      0  -1.500000\n2 rows\n";
    assert_eq!((code, text.as_str()), (0, expected));
    let (code, text, _) =
        query(&["--format", "csv", &requests("csv"), "select source, seen, context from request"]);
    assert_eq!((code, text.as_str()), (0, "source,seen,context\n\"a,b\",4,[5 6]\nplain,,[7]\n"));
}

#[test]
fn two_artifacts_join_by_request() {
    let (asked, told) = (format!("q={}", requests("join-q")), format!("a={}", items("join-a")));
    let sql = "select q.source, a.matched, sum(a.logprob) over () as total \
               from q_request q join a_item a on q.request = a.request order by a.matched";
    let (code, text, error) = query(&["--format", "csv", &asked, &told, sql]);
    let expected = "source,matched,total\n\"a,b\",0,-8.5\nplain,6,-8.5\n";
    assert_eq!((code, text.as_str(), error.as_str()), (0, expected, ""));
}

#[test]
fn parquet_gives_the_same_values_back() {
    let out = place("answer.parquet");
    let sql = "select request, seen, source, context, request * 0.5 as half from request";
    let words = ["--format", "parquet", "--out", out.to_str().unwrap(), &requests("parquet"), sql];
    assert_eq!(query(&words).0, 0);
    let expected = [
        ("request".to_string(), Cells::U32(vec![Some(0), Some(2)])),
        ("seen".to_string(), Cells::U32(vec![Some(4), None])),
        ("source".to_string(), Cells::Text(vec![Some("a,b".into()), Some("plain".into())])),
        ("context".to_string(), Cells::Tokens(vec![Some(vec![5, 6]), Some(vec![7])])),
        ("half".to_string(), Cells::F64(vec![Some(0.0), Some(1.0)])),
    ];
    assert_eq!(read_cells(&out, "").unwrap(), expected);
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let folder = items("mistakes");
    let says = |words: &[&str], code: i32, parts: &[&str]| {
        let (found, text, error) = query(words);
        assert_eq!((found, text.as_str(), error.lines().count()), (code, "", 1), "{error}");
        parts.iter().for_each(|part| assert!(error.contains(part), "{error} lacks {part}"));
    };
    says(&[&folder, "select * from score"], 2, &["score", "tables here: item"]);
    says(&[&folder, "select nothing from item"], 2, &["nothing", "lists the columns"]);
    says(&[&folder, "selec * from item"], 2, &["the SQL can't be answered"]);
    says(&[&folder, "--format", "parquet", "select * from item"], 2, &["--out"]);
    says(&["select * from item"], 2, &["no artifact"]);
    says(&[&folder, &folder, "select * from item"], 2, &["`item`", "NAME=ARTIFACT"]);
    says(&["no/such/folder", "select * from item"], 3, &["no/such/folder", "artifact.json"]);
}
