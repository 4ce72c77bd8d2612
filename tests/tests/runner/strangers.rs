//! A pipeline file from a stranger: it reads what lies below the folder of the call, what was permitted, and models of
//! the hub that are on this machine, of a revision it names.

use std::fs;
use std::os::unix::fs::symlink;

use crate::lab::{contains, told};
use crate::real::{Lab, PIPELINE};

#[test]
fn nothing_outside_is_read() {
    let lab = Lab::new();
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let secret = outside.path().join("secret.jsonl");
    fs::copy(lab.path("records.jsonl"), &secret).unwrap();
    symlink(&secret, lab.path("innocent.jsonl")).unwrap();
    symlink(outside.path(), lab.path("folder")).unwrap();
    let secret = secret.to_str().unwrap();
    let refused = "lies outside of the folder `rote` was called in; `--allow DIR` permits a folder";
    for place in [
        secret,
        "/etc/passwd",
        "../secret.jsonl",
        "x/../../secret.jsonl",
        "innocent.jsonl",
        "folder/secret.jsonl",
    ] {
        let pipeline = PIPELINE.replace("\"records.jsonl\"", &format!("\"{place}\""));
        fs::write(lab.path("real.toml"), pipeline).unwrap();
        for verb in ["run", "plan"] {
            let (code, _, stderr) = lab.rote(&[verb, "real.toml"]);
            assert_eq!(code, 2, "{place}: {stderr}");
            contains(&stderr, &format!("[prepare] sequences: `{place}` {refused}"));
        }
    }
    // Nor by way of a folder that is inside itself, however deep, in however many circles.
    fs::create_dir_all(lab.path("texts/more")).unwrap();
    fs::write(lab.path("texts/a.txt"), "a text\n").unwrap();
    ["one", "two"].iter().for_each(|name| symlink("..", lab.path("texts/more").join(name)).unwrap());
    symlink(secret, lab.path("texts/more/secret.txt")).unwrap();
    fs::write(lab.path("real.toml"), PIPELINE.replace("\"records.jsonl\"", "\"texts\"")).unwrap();
    let (code, _, stderr) = lab.rote(&["run", "real.toml"]);
    assert_eq!(code, 2, "{stderr}");
    contains(&stderr, &format!("[prepare] sequences: `texts/more/secret.txt` leads to what {refused}"));
    assert!(!lab.path("data/store/view").exists());
    // What was permitted is read, by its own name or through a link.
    for place in [secret, "innocent.jsonl"] {
        let pipeline = PIPELINE.replace("\"records.jsonl\"", &format!("\"{place}\""));
        fs::write(lab.path("real.toml"), pipeline).unwrap();
        let allow = outside.path().to_str().unwrap();
        let (code, _, stderr) = lab.rote(&["run", "real.toml", "prepare", "--allow", allow]);
        assert_eq!(code, 0, "{stderr}");
    }
}

#[test]
fn no_name_and_no_value_is_run_by_an_engine() {
    let lab = crate::lab::Lab::new();
    let engines = ["make", "snakemake"];
    for name in ["a;touch b.txt", "a|b.txt", "a{b}.txt", "a&b.txt", "a\\b.txt"] {
        fs::write(lab.path(name), "text\n").unwrap();
        lab.pipeline(&format!("[prepare]\nsequences = '{name}'\n"));
        for engine in engines {
            let (code, _, stderr) = lab.rote(&["export", engine, "demo.toml"]);
            assert_eq!(
                (code, stderr.contains("no file of that name can stand in a rule")),
                (2, true),
                "{stderr}"
            );
        }
    }
    // Nor is the name of a store, which stands in commands too.
    lab.pipeline("[prepare]\nsequences = \"text.txt\"\n");
    for store in ["a;b", "it's", "a$(b)", "a`b`", "a(1)", "a>b"] {
        for engine in engines {
            let (code, _, stderr) = lab.rote(&["export", engine, "demo.toml", "--store", store]);
            assert_eq!(
                (code, stderr.contains(&format!("`{store}`: no file of that name"))),
                (2, true),
                "{stderr}"
            );
        }
    }
    lab.pipeline(
        "[prepare]\nsequences = \"text.txt\"\n[score]\nrequests = \"prepare\"\nletter = [\"a\\nb\"]\n",
    );
    for engine in engines {
        contains(&lab.rote(&["export", engine, "demo.toml"]).1, " --letter 'a b' --out OUT\n");
    }
    // Nor does a name do anything to a terminal.
    lab.pipeline("[prepare]\nsequences = \"text.txt\"\n\"\\u001b[2J\" = 1\n");
    contains(&lab.run().2, "[prepare] \u{fffd}[2J: no such key of rote-prepare");
}

#[test]
fn a_model_of_the_hub_is_read_from_the_cache_by_its_revision() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let before = lab.contents("data/store");
    // A cache as the hub's own tools make it: blobs, and links to them by commit.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let home = lab.path("cache/models--acme--tiny");
    let (blobs, snapshot) = (home.join("blobs"), home.join("snapshots").join(commit));
    [&blobs, &snapshot, &home.join("refs")].iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    for file in fs::read_dir(lab.path("model")).unwrap() {
        let file = file.unwrap();
        fs::rename(file.path(), blobs.join(file.file_name())).unwrap();
        let blob = std::path::Path::new("../../blobs").join(file.file_name());
        symlink(blob, snapshot.join(file.file_name())).unwrap();
    }
    fs::remove_dir(lab.path("model")).unwrap();
    fs::write(home.join("refs/main"), commit).unwrap();
    let rote = |arguments: &[&str]| {
        told(lab.command(arguments).env("HF_HUB_CACHE", lab.path("cache")).output().unwrap())
    };
    let with = |name: &str| {
        fs::write(lab.path("real.toml"), PIPELINE.replace("\"model\"", &format!("\"{name}\""))).unwrap();
    };
    // The same files: nothing has to run.
    with(&format!("acme/tiny@{commit}"));
    let (code, _, stderr) = rote(&["run", "real.toml"]);
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, "nothing to do");
    fs::remove_dir_all(lab.path("data/store")).unwrap();
    let (code, _, stderr) = rote(&["run", "real.toml"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(lab.contents("data/store"), before);
    let (code, stdout, stderr) = rote(&["verify"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    // A stage called by hand with the same name records the same input.
    let requests = lab.path("data/store/view/real/prepare");
    let model = format!("acme/tiny@{commit}");
    let by_hand = [
        "extract",
        "--model",
        &model,
        "--requests",
        requests.to_str().unwrap(),
        "--controls",
        "--out",
        "out",
    ];
    let (code, _, stderr) = rote(&by_hand);
    assert_eq!(code, 0, "{stderr}");
    let manifest = |place: &str| rote_store::Manifest::read(&lab.path(place)).unwrap();
    assert_eq!(manifest("out"), manifest("data/store/view/real/extract"));

    with("acme/tiny");
    contains(
        &rote(&["run", "real.toml"]).2,
        "[prepare] model: `acme/tiny` names no revision: write `acme/tiny@COMMIT`",
    );
    with("acme/tiny@0000");
    contains(
        &rote(&["run", "real.toml"]).2,
        "revision `0000` is not in the local Hugging Face cache; looked for ",
    );
}

#[test]
fn sizes_that_nobody_has_are_refused_before_memory_is_taken() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    for (key, size, expected) in [
        ("prefix = 32", "18446744073709551615", "tokens are more than any model reads"),
        ("suffix = 8", "9223372036854775807", "tokens are more than any model reads"),
        ("resamples = 200", "1000000000000000", "--resamples: at most "),
        ("block = [\"6-7\"]", "\"0-4294967295\"", "is beyond any model"),
    ] {
        let name = key.split(" = ").next().unwrap();
        // Quoted, since TOML's own numbers are smaller.
        let size = size.trim_matches('"');
        fs::write(lab.path("real.toml"), PIPELINE.replace(key, &format!("{name} = \"{size}\""))).unwrap();
        let (code, _, stderr) = lab.rote(&["run", "real.toml"]);
        assert_eq!(code, 1, "{name}: {stderr}");
        contains(&stderr, expected);
    }
    assert_eq!(lab.rote(&["verify"]).0, 0);
}
