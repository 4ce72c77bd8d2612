//! The command as users call it: the same content whatever the threads and whether norms are computed or taken
//! from an artifact; refusals that name their reason and leave nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output as Finished};

use rote_artifact::tables::{Bound, Constant, Reach, Request, Tightness};
use rote_artifact::{TableWriter, read};
use rote_store::{Manifest, Output, StageEntry};

fn tiny(name: &str) -> String {
    format!("{}/../../data/tiny/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn requests(folder: &Path) -> PathBuf {
    let place = folder.join("requests");
    let output = Output::begin(&place).unwrap();
    let mut writer = TableWriter::<Request>::new(&output);
    let rows = (0..5_u32).map(|request| Request {
        request,
        kind: "sequence".into(),
        context: (0..4 + request).map(|at| (7 * at + 11 * request) % 60).collect(),
        continuation: (0..3).map(|at| (5 * at + request) % 60).collect(),
        gold: -1,
        ..Request::default()
    });
    writer.extend(rows.collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let stage = StageEntry { name: "test".into(), version: "0".into() };
    output.finish(stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
    place
}

fn bound(model: &str, out: &Path, more: &[&str]) -> Finished {
    bound_of(Path::new(&tiny(model)), out, more)
}

fn bound_of(model: &Path, out: &Path, more: &[&str]) -> Finished {
    Command::new(env!("CARGO_BIN_EXE_rote-bound"))
        .arg("--model")
        .arg(model)
        .args(["--quiet", "--out"])
        .arg(out)
        .args(more)
        .output()
        .expect("rote-bound starts")
}

fn done(finished: &Finished) {
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
}

fn refused(finished: &Finished, out: &Path, because: &[&str]) {
    let told = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(finished.status.code(), Some(3), "{told}");
    for because in because {
        assert!(told.contains(because), "{told}");
    }
    assert!(!out.exists());
}

fn content(place: &Path) -> String {
    Manifest::read(place).unwrap().content_id.to_string()
}

#[test]
fn threads_and_kept_norms_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let asked = requests(folder.path());
    let asked = asked.to_str().unwrap();
    for model in ["neox-parallel", "neo-local", "llama-gqa"] {
        let place = |name: &str| folder.path().join(format!("{model}-{name}"));
        let change = ["--change", "attn.identity@each", "--change", "attn.identity@0:h1+attn.zero@1"];
        let with = |name: &str, more: &[&str]| {
            done(&bound(model, &place(name), &[&["--requests", asked], &change[..], more].concat()));
            content(&place(name))
        };
        let one = with("one", &["--threads", "1"]);
        assert_eq!(with("two", &["--threads", "2"]), one, "{model}");
        done(&bound(model, &place("norms"), &[]));
        let norms = place("norms");
        assert_eq!(with("kept", &["--constants", norms.to_str().unwrap()]), one, "{model}");
        let rows: Vec<Constant> = read(&norms).unwrap();
        assert!(rows.len() >= 16 && rows.iter().all(|row| row.value > 0.0), "{} norms", rows.len());
        let bounds: Vec<Bound> = read(&place("one")).unwrap();
        let reach: Vec<Reach> = read(&place("one")).unwrap();
        let tightness: Vec<Tightness> = read(&place("one")).unwrap();
        assert!(bounds.len() > 20 * reach.len() / 2 && !tightness.is_empty());
    }
}

/// A norm taken from an artifact is really used: one made too small breaks a bound, and the stage says so.
#[test]
fn kept_norms_are_used_and_a_broken_bound_fails_the_stage() {
    let folder = tempfile::tempdir().unwrap();
    let asked = requests(folder.path());
    let (norms, shrunk) = (folder.path().join("norms"), folder.path().join("shrunk"));
    done(&bound("neox-parallel", &norms, &[]));
    let mut rows: Vec<Constant> = read(&norms).unwrap();
    rows.iter_mut().for_each(|row| row.value *= 1e-3);
    let manifest = Manifest::read(&norms).unwrap();
    let output = Output::begin(&shrunk).unwrap();
    output.add_subject(manifest.subjects[0].clone());
    let mut writer = TableWriter::new(&output);
    writer.extend(rows).unwrap();
    writer.finish().unwrap();
    output.finish(manifest.stage, serde_json::json!({}), Default::default(), serde_json::json!({})).unwrap();
    let out = folder.path().join("out");
    let more = ["--requests", asked.to_str().unwrap(), "--constants", shrunk.to_str().unwrap()];
    let finished = bound("neox-parallel", &out, &more);
    let told = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(finished.status.code(), Some(1), "{told}");
    assert!(
        told.contains("this is a defect of the program") && told.contains("request 0, position"),
        "{told}"
    );
    assert!(!out.exists());
}

/// A copy of a tiny checkpoint with one tensor's values changed, in `folder`.
fn altered(name: &str, folder: &Path, tensor: &str, change: impl Fn(usize, f32) -> f32) -> PathBuf {
    let place = folder.join("altered");
    std::fs::create_dir_all(&place).unwrap();
    for file in std::fs::read_dir(tiny(name)).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, place.join(file.file_name().unwrap())).unwrap();
    }
    let weights = place.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    assert_eq!(head[tensor]["dtype"], "F32", "{tensor} of {name}");
    let ends = head[tensor]["data_offsets"].as_array().unwrap();
    let ends: Vec<usize> = ends.iter().map(|end| start + end.as_u64().unwrap() as usize).collect();
    for (at, cell) in bytes[ends[0]..ends[1]].chunks_exact_mut(4).enumerate() {
        let value = f32::from_le_bytes((&*cell).try_into().unwrap());
        cell.copy_from_slice(&change(at, value).to_le_bytes());
    }
    std::fs::write(&weights, bytes).unwrap();
    place
}

/// Each broken assumption is told with its block and tensor, and leaves no number.
#[test]
fn a_broken_model_is_refused_by_block_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let asked = requests(folder.path());
    let asked = ["--requests", asked.to_str().unwrap()];
    let out = folder.path().join("out");
    let one = |at: usize, broken: f32| move |here: usize, value: f32| if here == at { broken } else { value };
    let told = |tensor: &str, change: &dyn Fn(usize, f32) -> f32, because: &[&str]| {
        refused(&bound_of(&altered("llama-gqa", folder.path(), tensor, change), &out, &asked), &out, because);
    };
    let layer = |rest: &str| format!("model.layers.1.{rest}.weight");
    told(
        &layer("self_attn.q_proj"),
        &one(7, f32::NAN),
        &["block 1: query, key and value weights: value [0, 7] is NaN"],
    );
    told(
        &layer("mlp.down_proj"),
        &one(3, f32::INFINITY),
        &["block 1: mlp down weights: value [0, 3] is inf"],
    );
    told(
        &layer("input_layernorm"),
        &one(2, 0.0),
        &["block 1: norm before attention: gain 2 is zero: that direction is lost"],
    );
}

#[test]
fn what_no_theorem_covers_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let asked = requests(folder.path());
    let asked = ["--requests", asked.to_str().unwrap()];
    let out = folder.path().join("out");
    let run = |model: &str, more: &[&str]| bound(model, &out, &[&asked[..], more].concat());
    refused(&run("opt-post", &[]), &out, &["pre-norm", "opt"]);
    refused(&run("neox-parallel", &["--change", "attn.mean@1"]), &out, &["attn.mean@1", "--reference"]);
    let norms = folder.path().join("norms");
    done(&bound("neo-local", &norms, &[]));
    let other = ["--constants", norms.to_str().unwrap()];
    refused(&run("neox-parallel", &other), &out, &["--constants", "but the model is"]);
}
