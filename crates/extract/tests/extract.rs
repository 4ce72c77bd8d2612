//! The command as users call it: what counts as memorized, and several prefixes of one sequence.

use std::path::{Path, PathBuf};
use std::process::Command;

use rote_artifact::read;
use rote_artifact::tables::{Extraction, Request};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Twelve sequences, each asked after three prefixes; the model is untrained, so one token is asked for.
fn requests(folder: &Path) -> PathBuf {
    use rote_artifact::TableWriter;
    use rote_store::{Output, StageEntry};
    let place = folder.join("requests");
    let output = Output::begin(&place).unwrap();
    let mut writer = TableWriter::<Request>::new(&output);
    let mut rows = Vec::new();
    for document in 0..12_u32 {
        let tokens: Vec<u32> = (0..12).map(|place| (document * 31 + place * place * 7 + 3) % 64).collect();
        for prefix in [8_usize, 2, 4] {
            rows.push(Request {
                request: rows.len() as u32,
                source: "test".into(),
                document,
                choice: -1,
                kind: "sequence".into(),
                task: "memorization".into(),
                role: "candidate".into(),
                context: tokens[8 - prefix..8].to_vec(),
                continuation: tokens[8..9].to_vec(),
                gold: -1,
                ..Request::default()
            });
        }
    }
    writer.extend(rows).unwrap();
    writer.finish().unwrap();
    let stage = StageEntry { name: "test".into(), version: "0".into() };
    output.finish(stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
    place
}

fn extract(requests: &Path, out: &Path, more: &[&str]) -> (Vec<Request>, Vec<Extraction>) {
    let finished = Command::new(env!("CARGO_BIN_EXE_rote-extract"))
        .args(["--model", &format!("{ROOT}/data/tiny/neox-parallel"), "--quiet", "--requests"])
        .arg(requests)
        .arg("--out")
        .arg(out)
        .args(more)
        .output()
        .unwrap();
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    (read(out).unwrap(), read(out).unwrap())
}

#[test]
fn the_longest_prefix_decides_for_its_sequence_and_every_prefix_is_told() {
    let folder = scratch("extract-prefixes");
    let requests = requests(&folder);
    // So many draws discover about half of one-token suffixes: an untrained model is near to even.
    let (_, all) = extract(&requests, &folder.join("all"), &["--temperature", "1"]);
    let mut sampled: Vec<f64> =
        all.iter().filter(|row| row.prefix == Some(8)).map(|row| row.sampled.unwrap()).collect();
    sampled.sort_by(f64::total_cmp);
    let draws = (0.5f64.ln() / (-sampled[6].exp()).ln_1p()).ceil().to_string();
    let (kept, rows) = extract(&requests, &folder.join("some"), &["--draws", &draws, "--controls"]);
    assert_eq!(rows.iter().filter(|row| row.role == "memorized").count(), 3 * 6);
    assert!(rows.chunks(3).all(|rows| rows.iter().all(|row| row.role == rows[0].role)));
    let prefixes: Vec<_> = rows[..3].iter().map(|row| row.prefix).collect();
    assert_eq!(prefixes, [Some(8), Some(2), Some(4)]);
    for rows in rows.chunks(3) {
        let drawn = 1.0 - (1.0 - rows[0].sampled.unwrap().exp()).powf(draws.parse().unwrap());
        assert_eq!(rows[0].role == "memorized", drawn >= 0.5, "{drawn}");
    }
    assert_eq!(kept.len(), 3 * 12);
    assert_eq!(kept.iter().filter(|request| request.role == "control").count(), 3 * 6);
}

#[test]
fn without_a_sampler_greedy_decoding_decides() {
    let folder = scratch("extract-greedy");
    let requests = requests(&folder);
    let (_, rows) = extract(&requests, &folder.join("out"), &[]);
    for rows in rows.chunks(3) {
        assert_eq!(rows[0].role == "memorized", rows[0].exact_match);
        assert!(rows.iter().all(|row| row.sampled.is_none()));
    }
}
