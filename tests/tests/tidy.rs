//! The rules of the house that no compiler holds: who may use whom, what stands where, what never stands anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom of ours. A new edge is a change of this table, hence seen.
const EDGES: [(&str, &[&str]); 16] = [
    ("plan", &[]),
    ("store", &[]),
    ("artifact", &["plan", "store"]),
    ("model", &["plan", "store"]),
    ("engine", &["plan", "store", "artifact", "model"]),
    ("stage", &["plan", "store", "artifact"]),
    ("prepare", &["stage", "plan", "store", "artifact", "model"]),
    ("extract", &["stage", "plan", "artifact", "model", "engine"]),
    ("capture", &["stage", "plan", "artifact", "model", "engine"]),
    ("intervene", &["stage", "plan", "artifact", "model", "engine"]),
    ("bound", &["stage", "plan", "store", "artifact", "model", "engine"]),
    ("score", &["stage", "plan", "store", "artifact"]),
    ("report", &["stage", "plan", "store", "artifact"]),
    ("query", &["store", "artifact"]),
    ("train", &["stage", "plan", "artifact", "model"]),
    ("rote", &["store"]),
];

/// Outside crates that are known in one place of ours, and where.
const KNOWN_IN: [(&str, &[&str]); 4] = [
    ("arrow_array", &["crates/artifact/"]),
    ("parquet", &["crates/artifact/"]),
    ("polars", &["crates/report/", "crates/query/"]),
    ("candle_core", &["crates/model/", "crates/train/"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests stand in the workspace").to_path_buf()
}

/// Files below `folder` with the ending `ending`, build output left out.
fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !["target", "store", "external"].contains(&name.as_str()) && !name.starts_with('.') {
                files(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

/// Name from the root, and text, of every Rust file.
fn sources() -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    files(&root, ".rs", &mut found);
    assert!(found.len() > 150, "{} Rust files: the walk went astray", found.len());
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("a readable file"))
        })
        .collect()
}

#[test]
fn crates_use_only_whom_they_may() {
    let folders = fs::read_dir(root().join("crates")).expect("crates").flatten();
    let names: BTreeSet<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(names, EDGES.iter().map(|(name, _)| name.to_string()).collect(), "crates and table");
    for (name, may) in EDGES {
        let manifest = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let own = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let own = own.split("\n[").next().unwrap_or_default();
        let uses = own.lines().filter_map(|line| line.strip_prefix("rote-")?.split('.').next());
        for other in uses {
            assert!(may.contains(&other), "crates/{name} uses rote-{other}, and may use {may:?}");
        }
    }
}

#[test]
fn outside_crates_are_known_where_they_belong() {
    for (name, text) in sources().iter().filter(|(name, _)| name.contains("/src/")) {
        for (outside, places) in KNOWN_IN {
            let known = text.contains(&format!("use {outside}")) || text.contains(&format!("{outside}::"));
            assert!(!known || places.iter().any(|place| name.starts_with(place)), "{name} knows {outside}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} does not open with what it is");
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines: the idea in it has become two");
    }
}

#[test]
fn nothing_is_left_undone_or_set_aside() {
    // Put together here, so that this file does not hold what it looks for.
    let never =
        ["to|do!(", "unimple|mented!(", "#[ig|nore", "/ro|ot/", "/ho|me/"].map(|text| text.replace('|', ""));
    for (name, text) in sources() {
        for word in &never {
            assert!(!text.contains(word.as_str()), "{name} holds {word}");
        }
    }
    for ending in [".snap.new", ".pending-snap"] {
        let mut found = Vec::new();
        files(&root(), ending, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn the_readme_says_what_is_run_and_what_there_is() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap_or_else(|_| panic!("{name}"));
    let (readme, run) = (read("README.md"), read(".ci/run"));
    for command in ["cargo build && target/debug/rote run pipelines/demo.toml", "cargo test"] {
        assert!(readme.contains(&format!("    {command}\n")), "README lacks `{command}`");
        assert!(run.lines().any(|line| line == command), ".ci/run lacks `{command}`");
    }
    for (name, _) in EDGES {
        assert!(readme.contains(&format!("`{name}`")), "crate {name} is not on README's map");
    }
}
