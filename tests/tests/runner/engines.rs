//! The same pipeline on other engines, and a finished run as a crate. `tests/engines.sh` runs Snakemake and Slurm.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rote_store::digest_file;
use serde_json::Value;

use crate::lab::{contains, told};
use crate::real::Lab;

#[test]
fn make_gives_the_content_ids_of_the_runner() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents("data/store");
    for parts in ["1", "3"] {
        let store = format!("made-of-{parts}");
        let export = ["export", "make", "real.toml", "--store", &store, "--shards", parts];
        let (code, makefile, stderr) = lab.rote(&export);
        assert_eq!(code, 0, "{stderr}");
        fs::write(lab.path("Makefile"), &makefile).unwrap();
        contains(&makefile, "\n# rote-score --requests ");
        contains(&makefile, "all: $(MADE)/prepare ");
        let make = |arguments: &[&str]| {
            let mut command = Command::new("make");
            command.args(arguments).current_dir(lab.path("")).output()
        };
        let Ok(output) = make(&["-j3"]) else {
            // No make here: its rules, in their order, one by one.
            let rules = makefile.lines().filter_map(|line| line.strip_prefix("\t$(RUN) "));
            for rule in rules {
                let words: Vec<_> = rule.split(' ').collect();
                let run = [&["run", "real.toml", "--store", &store][..], &words].concat();
                assert_eq!(lab.rote(&run).0, 0, "{rule}");
            }
            assert_eq!(lab.contents(&store), contents);
            continue;
        };
        let (code, _, stderr) = told(output);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(lab.contents(&store), contents);
        assert_eq!(lab.rote(&["verify", "--store", &store]).0, 0);
        contains(&lab.rote(&["run", "real.toml", "--store", &store]).2, "nothing to do");
        assert!(make(&["-q"]).unwrap().status.success(), "make has something to do again");
    }
}

#[test]
fn names_may_hold_blanks() {
    let lab = crate::lab::Lab::new();
    let bin = "my bin/of mine";
    fs::create_dir(lab.path("my bin")).unwrap();
    fs::rename(lab.path("bin"), lab.path(bin)).unwrap();
    fs::rename(lab.path("text.txt"), lab.path("my text.txt")).unwrap();
    fs::rename(lab.path("demo.toml"), lab.path("my.toml")).unwrap();
    let pipeline = crate::lab::PIPELINE.replace("text.txt", "my text.txt");
    fs::create_dir(lab.path("my pipelines")).unwrap();
    fs::write(lab.path("my pipelines/demo.toml"), pipeline).unwrap();
    let export = |engine: &str| {
        let mut rote = Command::new(lab.path(bin).join("rote"));
        rote.args(["export", engine, "my pipelines/demo.toml", "--store", "my store"]);
        let (code, text, stderr) = told(rote.current_dir(lab.folder.path()).output().unwrap());
        assert_eq!(code, 0, "{stderr}");
        text
    };
    let snakefile = export("snakemake");
    contains(
        &snakefile,
        "RUN = f\"{shlex.quote(ROTE)} run 'my pipelines/demo.toml' --store {shlex.quote(STORE)} ",
    );
    let makefile = export("make");
    contains(&makefile, "\tmkdir -p '$@'\n");
    fs::write(lab.path("Makefile"), makefile).unwrap();
    let make =
        |arguments: &[&str]| Command::new("make").args(arguments).current_dir(lab.folder.path()).output();
    // Without make, the text above is what can be said.
    let Ok(output) = make(&["-j2"]) else { return };
    let (code, stdout, stderr) = told(output);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        lab.path("my store/made/demo/report").is_file() && lab.path("my store/view/demo/report").exists()
    );
    assert!(make(&["-q"]).unwrap().status.success(), "make has something to do again");
}

#[test]
fn a_snakefile_has_a_rule_for_every_node_and_part() {
    let lab = Lab::new();
    let (code, snakefile, stderr) = lab.rote(&["export", "snakemake", "real.toml", "--shards", "4"]);
    assert_eq!(code, 0, "{stderr}");
    let rules: Vec<_> = snakefile.lines().filter_map(|line| line.strip_prefix("rule ")).collect();
    assert_eq!(rules.len(), 1 + 7 + 4, "{rules:?}");
    contains(&snakefile, "rule node_intervene_part:\n    input:\n        \"real.toml\",\n");
    contains(&snakefile, "        RUN + \" intervene --shard {wildcards.part}/4 --threads {threads}\"\n");
    contains(&snakefile, "expand(f\"{MADE}/intervene.{{part}}-of-4\", part=range(1, 5)),\n");
    assert!(!snakefile.contains("runtime="), "nothing is known yet but the size of the model");
    assert_eq!(lab.run().0, 0);
    contains(&lab.rote(&["export", "snakemake", "real.toml"]).1, "        runtime=5,\n");
    assert!(lab.rote(&["export", "dot", "real.toml"]).1.starts_with("digraph pipeline {"));
    assert!(lab.rote(&["export", "mermaid", "real.toml"]).1.starts_with("flowchart LR"));
    assert_eq!(lab.rote(&["export", "make", "real.toml", "--shards", "0"]).0, 2);
}

#[test]
fn a_crate_holds_what_it_says() {
    let lab = Lab::new();
    fs::rename(lab.path("records.jsonl"), lab.path("my records.jsonl")).unwrap();
    let pipeline = fs::read_to_string(lab.path("real.toml")).unwrap();
    fs::write(lab.path("real.toml"), pipeline.replace("records.jsonl", "my records.jsonl")).unwrap();
    let (code, _, stderr) = lab.rote(&["export", "ro-crate", "real.toml", "--out", "crate"]);
    assert_eq!((code, stderr.as_str()), (2, "rote: prepare: not up to date; `rote run` first\n"));
    assert_eq!(lab.run().0, 0);
    let (code, _, stderr) = lab.rote(&["export", "ro-crate", "real.toml", "--out", "crate"]);
    assert_eq!(code, 0, "{stderr}");
    let text = fs::read_to_string(lab.path("crate/ro-crate-metadata.json")).unwrap();
    assert!(!text.contains(lab.path("").to_str().unwrap()), "a path of this machine");
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let graph = metadata["@graph"].as_array().unwrap();
    let ids: BTreeSet<_> = graph.iter().map(|entity| entity["@id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), graph.len());
    // Every reference leads somewhere, every file is there with the digest that is told.
    let mut files = 0;
    for entity in graph {
        for value in entity.as_object().unwrap().values() {
            let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            for id in list.iter().filter_map(|value| value.get("@id")?.as_str().map(str::to_string)) {
                assert!(ids.contains(id.as_str()) || id == "https://w3id.org/ro/crate/1.1", "{id}");
            }
        }
        let id = entity["@id"].as_str().unwrap();
        assert!(!id.contains(' '), "{id} is no URI");
        let place = lab.path("crate").join(id.replace("%20", " "));
        if let Some(digest) = entity["identifier"].as_str().filter(|_| entity["@type"] == "File") {
            assert_eq!(format!("blake3:{}", digest_file(&place).unwrap()), digest);
            files += 1;
        }
    }
    assert!(files > 25, "{files}");
    let actions = graph.iter().filter(|entity| entity["@type"] == "CreateAction").count();
    assert_eq!(actions, 1 + 7);
    assert_eq!(lab.rote(&["export", "ro-crate", "real.toml", "--out", "crate"]).0, 2);
    // What others put beside it stays.
    fs::create_dir(lab.path("second.partial")).unwrap();
    fs::write(lab.path("second.partial/precious"), "x").unwrap();
    assert_eq!(lab.rote(&["export", "ro-crate", "real.toml", "--out", "second/"]).0, 0);
    assert!(lab.path("second/ro-crate-metadata.json").is_file());
    assert!(lab.path("second.partial/precious").is_file());
}

#[test]
fn the_plan_tells_what_it_will_take() {
    let lab = Lab::new();
    let plan = lab.rote(&["plan", "real.toml"]).1;
    // Reading sequences takes no weights; all else tells them before there is a request.
    contains(&plan, "prepare: runs\n  never run\n  $");
    contains(
        &plan,
        "extract: runs, after prepare\n  never run\n  by its size about 8.4 MB of memory for its weights\n  $",
    );
    // What was never run is told by its size: 8 times 40 tokens, 128 numbers in two blocks, in 32 bits.
    assert_eq!(lab.rote(&["run", "real.toml", "extract"]).0, 0);
    let plan = lab.rote(&["plan", "real.toml"]).1;
    let (_, capture) = plan.split_once("capture: runs\n").unwrap_or_else(|| panic!("{plan}"));
    contains(
        capture.split("$").next().unwrap(),
        " s of one core, 8.4 MB of memory for its weights, at most 0.3 MB on disk\n",
    );
    assert_eq!(lab.run().0, 0);
    let pipeline = fs::read_to_string(lab.path("real.toml")).unwrap();
    fs::write(lab.path("real.toml"), pipeline.replace("resamples = 200", "resamples = 300")).unwrap();
    let plan = lab.rote(&["plan", "real.toml"]).1;
    contains(&plan, "score: runs\n  params.resamples: 200 → 300\n  an earlier run took ");
    contains(&plan, " of memory, ");
}
