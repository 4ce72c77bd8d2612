//! Parts: every stage that works request by request, cut and joined, gives the bytes of the whole.

use std::fs;
use std::path::Path;
use std::process::Command;

use rote_store::Manifest;

use crate::lab::{contains, told};
use crate::real::Lab;

const STAGES: [&str; 4] = ["extract", "capture", "intervene", "bound"];

/// The command that made the result of a node, without its place.
fn command(lab: &Lab, node: &str) -> Vec<String> {
    let log = fs::read_to_string(lab.path("data/store/log/real").join(format!("{node}.log"))).unwrap();
    let line = log.lines().next().unwrap().strip_prefix("$ ").unwrap();
    let words: Vec<_> = line.split_whitespace().map(str::to_string).collect();
    let out = words.iter().position(|word| word == "--out").unwrap();
    [&words[..out], &words[out + 2..]].concat()
}

fn run(lab: &Lab, words: &[String], more: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(more).arg("--quiet").current_dir(lab.path(""));
    told(command.output().unwrap())
}

fn same(left: &Path, right: &Path) {
    let (left, right) = (Manifest::read(left).unwrap(), Manifest::read(right).unwrap());
    assert_eq!(left, right);
}

#[test]
fn parts_joined_are_the_whole() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    for stage in STAGES {
        let words = command(&lab, stage);
        let whole = lab.path("data/store/view/real").join(stage);
        // As many parts as there are requests, and more.
        for count in [2, 3, 11] {
            let mut join = vec!["--out".to_string(), format!("{stage}-of-{count}")];
            for index in (1..=count).rev() {
                let (part, out) = (format!("{index}/{count}"), format!("{stage}-{index}-of-{count}"));
                let (code, _, stderr) = run(&lab, &words, &["--shard", &part, "--out", &out]);
                assert_eq!(code, 0, "{stage} {part}: {stderr}");
                join.extend(["--join".to_string(), out]);
            }
            let join: Vec<_> = join.iter().map(String::as_str).collect();
            let (code, _, stderr) = run(&lab, &words, &join);
            assert_eq!(code, 0, "{stage} of {count}: {stderr}");
            same(&lab.path(&format!("{stage}-of-{count}")), &whole);
        }
        let refused = |more: &[&str], expected: &str| {
            let (code, _, stderr) = run(&lab, &words, &[&["--out", "refused"], more].concat());
            assert_eq!(code, 3, "{stderr}");
            contains(&stderr, expected);
            assert!(!lab.path("refused").exists());
        };
        let part = |index: usize| format!("{stage}-{index}-of-3");
        let [first, second, third] = [1, 2, 3].map(part);
        refused(&["--join", &first, "--join", &third], "--join: part 2/3 is missing");
        refused(&["--join", &first, "--join", &second, "--join", &second], "part 2/3 is given twice");
        refused(&["--join", whole.to_str().unwrap()], "no part, but a whole result");
        let file = walk_one(&lab.path(&third));
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, [&bytes[..bytes.len() - 1], b"!"].concat()).unwrap();
        refused(&["--join", &first, "--join", &second, "--join", &third], "is not what was written");
    }
    // A part is not a result.
    let words = command(&lab, "score");
    let place = words.iter().position(|word| word == "--outcomes").unwrap() + 1;
    let mut words = words.clone();
    words[place] = "intervene-1-of-2".to_string();
    let (code, _, stderr) = run(&lab, &words, &["--out", "refused"]);
    assert_eq!(code, 3, "{stderr}");
    contains(&stderr, "it is part 1/2 of a result; `--join` makes the whole of its parts");
    // Parts of something else.
    let mut words = command(&lab, "intervene");
    let change = words.iter().position(|word| word == "attn.identity@7").unwrap();
    words[change] = "attn.identity@6".to_string();
    let parts = ["--join", "intervene-1-of-2", "--join", "intervene-2-of-2", "--out", "refused"];
    contains(&run(&lab, &words, &parts).2, "part 1/2 was made with other parameters");
}

/// A Parquet file of an artifact.
fn walk_one(folder: &Path) -> std::path::PathBuf {
    let files = crate::lab::walk(folder);
    files.into_iter().find(|path| path.extension() == Some("parquet".as_ref())).unwrap()
}

#[test]
fn the_runner_makes_parts_and_finds_them() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents("data/store");
    // From here on as a workflow engine does it: each node when its inputs are there, one process a part.
    fs::remove_dir_all(lab.path("data/store")).unwrap();
    let rote = |arguments: &[&str]| {
        let (code, stdout, stderr) = lab.rote(&[&["run", "real.toml"], arguments].concat());
        (code, stdout + &stderr)
    };
    let (code, told) = rote(&["intervene", "--shard", "1/2"]);
    assert_eq!(code, 2, "{told}");
    contains(&told, "rote: intervene: its inputs are not made: `rote run` makes extract first\n");
    contains(
        &rote(&["prepare", "--shard", "1/2"]).1,
        "rote: prepare: rote-prepare does not work request by request",
    );
    contains(&rote(&["extract", "score", "--shard", "1/2"]).1, "rote: --shard is for one node");
    assert_eq!(rote(&["prepare"]).0, 0);
    for node in STAGES {
        for part in ["2/3", "3/3", "1/3"] {
            let (code, told) = rote(&[node, "--shard", part]);
            assert_eq!(code, 0, "{told}");
            contains(&told, &format!("{node}: part {part} done"));
        }
        contains(&rote(&[node, "--shard", "3/3"]).1, &format!("{node}: part 3/3 is fresh"));
        let (code, told) = rote(&[node]);
        assert_eq!(code, 0, "{told}");
        contains(&told, &format!("{node}: joined from 3 parts\n"));
        contains(&rote(&[node, "--shard", "3/3"]).1, &format!("{node}: fresh"));
    }
    let (code, told) = rote(&[]);
    assert_eq!(code, 0, "{told}");
    contains(&told, "2 of 7 nodes ran");
    assert_eq!(lab.contents("data/store"), contents);
    assert_eq!(lab.rote(&["verify"]).0, 0);
    let parts = crate::lab::walk(&lab.path("data/store"));
    assert!(!parts.iter().any(|path| path.to_string_lossy().contains(".part-")), "{parts:?}");
}

#[test]
fn interrupted_within_a_stage_it_goes_on_from_the_last_whole_part() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents("data/store");
    fs::remove_dir_all(lab.path("data/store")).unwrap();
    // Killed when the second part is there, again and again, until all is done.
    let (mut parts, mut joined) = (Vec::new(), Vec::new());
    for round in 0.. {
        let mut command = lab.command(&["run", "real.toml", "--parts", "3"]);
        let runner = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        let mut runner = runner.spawn().unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(runner.stderr.take().unwrap()));
        for line in lines.map_while(Result::ok) {
            joined.extend(line.strip_suffix(": joined from 3 parts").map(str::to_string));
            let done = line.split_once(": part ").filter(|(_, rest)| rest.ends_with(" done"));
            let Some((node, part)) = done else { continue };
            parts.push((node.to_string(), part.to_string()));
            if part.starts_with("2/3") {
                crate::lab::kill(runner.id());
            }
        }
        if runner.wait().unwrap().success() {
            break;
        }
        assert!(round < 20, "{parts:?}");
    }
    // No part was made twice. One that was whole when the kill came may never have been told.
    let told = parts.len();
    parts.sort();
    parts.dedup();
    assert_eq!(told, parts.len(), "{parts:?}");
    assert!((STAGES.len() * 2..=STAGES.len() * 3).contains(&told), "{parts:?}");
    joined.sort();
    joined.dedup();
    let mut stages = STAGES;
    stages.sort();
    assert_eq!(joined, stages);
    assert_eq!(lab.contents("data/store"), contents);
    assert_eq!(lab.rote(&["verify"]).0, 0);
}
