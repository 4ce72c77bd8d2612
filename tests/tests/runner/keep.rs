//! What is kept, compared and taken over: collect, lock, diff, adopt.

use std::fs;

use crate::lab::{Lab, PIPELINE, contains, walk};

/// Folders of artifacts in the store.
fn artifacts(lab: &Lab) -> usize {
    lab.leftovers("artifact.json").len()
}

#[test]
fn collect_removes_what_nothing_needs_and_only_when_told() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    lab.pipeline(&PIPELINE.replace("prefix = 5", "prefix = 4"));
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents();
    assert!(artifacts(&lab) > 5);
    // What a killed run leaves.
    let place = lab.path("data/store/view/demo/prepare").canonicalize().unwrap();
    fs::create_dir_all(place.with_extension("partial").join("request")).unwrap();
    fs::write(place.with_extension("partial").join("request/part-00000.txt"), "half\n").unwrap();
    fs::write(place.with_extension("key.123.partial"), "{").unwrap();
    contains(&lab.rote(&["verify"]).1, "0 damaged");

    let (before, (code, told, _)) = (walk(&lab.path("data/store")), lab.rote(&["collect"]));
    assert_eq!(code, 0);
    contains(&told, "prepare, needed by nothing\n");
    contains(&told, ".partial  0.0 MB  left by a killed run\n");
    contains(&told, "5 results needed; ");
    contains(&told, "to remove; `--delete` does\n");
    assert_eq!(walk(&lab.path("data/store")), before);
    // It may be another's who is about to put it in its place.
    assert_eq!(fs::read_to_string(place.with_extension("key.123.partial")).unwrap(), "{");

    let (code, told, stderr) = lab.rote(&["collect", "--delete"]);
    assert_eq!(code, 0, "{stderr}");
    contains(&told, "MB removed\n");
    assert_eq!((artifacts(&lab), lab.contents()), (5, contents));
    assert!(lab.leftovers(".partial").is_empty());
    assert_eq!((lab.leftovers(".key").len(), lab.leftovers(".seal").len()), (5, 5));
    assert_eq!(lab.rote(&["verify"]), (0, lab.rote(&["verify"]).1, String::new()));
    lab.started();
    contains(&lab.run().2, "nothing to do");
    contains(&lab.rote(&["collect"]).1, "5 results needed; 0 things, 0.0 MB to remove");
}

#[test]
fn inputs_of_what_is_needed_are_needed() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    // Only the report is linked; everything it was made of stays.
    for link in fs::read_dir(lab.path("data/store/view/demo")).unwrap() {
        let link = link.unwrap();
        if link.file_name() != "report" {
            fs::remove_file(link.path()).unwrap();
        }
    }
    contains(&lab.rote(&["collect", "--delete"]).1, "5 results needed; 0 things");
    // A pipeline that has no such node any more does not need it.
    lab.pipeline(&PIPELINE[..PIPELINE.find("[report]").unwrap()]);
    assert_eq!(lab.run().0, 0);
    let (_, told, _) = lab.rote(&["collect", "demo.toml", "--delete"]);
    contains(&told, "data/store/view/demo/report  0.0 MB  link of no node that counts\n");
    contains(&told, "report, needed by nothing\n");
    contains(&told, "data/store/log/demo/report.log  0.0 MB  log of no node that counts\n");
    contains(&told, "4 results needed; ");
    assert_eq!(artifacts(&lab), 4);
    assert_eq!(lab.rote(&["verify"]).0, 0);
}

#[test]
fn collect_touches_nothing_that_is_being_made() {
    let lab = Lab::new();
    let mut runner = lab.slow();
    crate::lab::eventually("a stage", || lab.path("trace").exists().then_some(()));
    let (code, _, stderr) = lab.rote(&["collect", "--delete"]);
    assert_eq!(code, 1);
    contains(&stderr, &format!("a run is under way in data/store (process {} on ", runner.id()));
    contains(&lab.rote(&["collect"]).1, "0 results needed; 0 things");
    assert!(runner.wait().unwrap().success());
    // A command pasted from the plan holds what it writes.
    lab.pipeline(&PIPELINE.replace("min = 2", "min = 4"));
    let plan = lab.rote(&["plan", "demo.toml"]).1;
    let pasted = plan.lines().find_map(|line| line.strip_prefix("  $ ")).unwrap();
    let mut stage = std::process::Command::new("sh");
    let stage = stage.args(["-c", pasted]).current_dir(lab.folder.path()).env("STAND_IN_PAUSE", "300");
    let mut stage = stage.spawn().unwrap();
    crate::lab::eventually("its first line", || {
        let found = lab.leftovers("part-00000.txt");
        found.iter().any(|path| path.to_string_lossy().contains(".partial")).then_some(())
    });
    assert_eq!(lab.rote(&["collect", "--delete"]).0, 0);
    assert!(stage.wait().unwrap().success());
    contains(&lab.run().2, "score: runs: inputs.requests");
}

#[test]
fn collect_killed_at_any_moment_harms_nothing() {
    let lab = Lab::new();
    for prefix in 2..=8 {
        lab.pipeline(&PIPELINE.replace("prefix = 5", &format!("prefix = {prefix}")));
        assert_eq!(lab.run().0, 0);
    }
    let (contents, mut kills) = (lab.contents(), 0);
    loop {
        let mut collect = lab.command(&["collect", "--delete"]);
        let mut collect = collect.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(1500 + 400 * kills));
        crate::lab::kill(collect.id());
        let done = collect.wait().unwrap().success();
        let (code, stdout, stderr) = lab.rote(&["verify"]);
        assert_eq!((code, stderr.contains("damaged: ")), (0, false), "{stdout}{stderr}");
        if done {
            break;
        }
        kills += 1;
    }
    assert!(kills > 0);
    assert_eq!((artifacts(&lab), lab.contents()), (5, contents));
    contains(&lab.rote(&["collect"]).1, "5 results needed; 0 things");
    contains(&lab.run().2, "nothing to do");
}

#[test]
fn a_lock_file_holds_a_run_to_its_word() {
    let lab = Lab::new();
    let (code, _, stderr) = lab.rote(&["lock", "demo.toml"]);
    assert_eq!((code, stderr.as_str()), (2, "rote: prepare: not up to date; `rote run` first\n"));
    assert_eq!(lab.run().0, 0);
    let (code, told, _) = lab.rote(&["lock", "demo.toml"]);
    assert_eq!((code, told.as_str()), (0, "demo.lock: 5 nodes; tag `demo` keeps their results\n"));
    let locked = fs::read_to_string(lab.path("demo.lock")).unwrap();
    assert!(!locked.contains(lab.folder.path().to_str().unwrap()), "{locked}");
    // Elsewhere, from nothing: the same.
    fs::rename(lab.path("data/store"), lab.path("kept")).unwrap();
    let (code, _, stderr) = lab.rote(&["run", "demo.toml", "--locked"]);
    assert_eq!(code, 0, "{stderr}");
    lab.rote(&["lock", "demo.toml"]);
    assert_eq!(fs::read_to_string(lab.path("demo.lock")).unwrap(), locked);

    // What differs is named, before any work where it can be.
    let refused = |pipeline: &str, expected: &str| {
        lab.pipeline(pipeline);
        lab.started();
        let (code, _, stderr) = lab.rote(&["run", "demo.toml", "--locked"]);
        assert_eq!((code, lab.started().len()), (3, 0), "{stderr}");
        contains(&stderr, expected);
    };
    refused(&PIPELINE.replace("min = 2", "min = 4"), "rote: extract: params.min: locked 2, now 4\n");
    refused(&PIPELINE.replace("min = 2", ""), "rote: extract: params.min: locked 2, now not given\n");
    refused(
        &PIPELINE.replace("[all]", "[other]").replace("all=all", "all=other"),
        "rote: other: not in the lock file\n",
    );
    fs::write(lab.path("text.txt"), "banane\n").unwrap();
    refused(PIPELINE, "rote: prepare: inputs.sequences: locked ");
    // Content that differs though all it is made of is the same.
    fs::write(lab.path("text.txt"), "banana\ncherry\nape\nDate\nelderberry\n").unwrap();
    let key = "[score]\nstage = \"score\"\ncontent = \"";
    let place = locked.find(key).unwrap_or_else(|| panic!("{locked}")) + key.len();
    let wrong = format!("{}{}{}", &locked[..place], "0".repeat(64), &locked[place + 64..]);
    fs::write(lab.path("demo.lock"), wrong).unwrap();
    let (code, _, stderr) = lab.rote(&["run", "demo.toml", "--locked"]);
    assert_eq!(code, 3, "{stderr}");
    contains(&stderr, "rote: ");

    // A tag keeps what no pipeline needs any more; dropped, it goes.
    fs::write(lab.path("demo.lock"), locked).unwrap();
    lab.pipeline(&PIPELINE.replace("prefix = 5", "prefix = 3"));
    assert_eq!(lab.run().0, 0);
    let both = artifacts(&lab);
    lab.rote(&["collect", "--delete"]);
    assert_eq!(artifacts(&lab), both);
    lab.rote(&["collect", "--delete", "--drop", "demo"]);
    assert!(artifacts(&lab) < both && !lab.path("data/store/tag/demo/score").exists());
    assert_eq!(lab.rote(&["verify"]).0, 0);
}

#[test]
fn diff_goes_down_to_the_cause() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    assert_eq!(lab.rote(&["lock", "demo.toml", "--out", "first.lock"]).0, 0);
    assert_eq!(lab.rote(&["diff", "demo/score", "first/score"]).1, "no difference\n");
    lab.pipeline(&PIPELINE.replace("prefix = 5", "prefix = 3"));
    assert_eq!(lab.run().0, 0);
    let (code, told, stderr) = lab.rote(&["diff", "first/score", "demo/score"]);
    assert_eq!(code, 0, "{stderr}");
    contains(&told, "content: ");
    contains(&told, "inputs.requests: ");
    contains(&told, "  requests:   requests: params.prefix: 5 → 3\n");
    contains(&lab.rote(&["diff", "first", "demo"]).1, "prepare:\ncontent: ");
    // Of two whole runs, also what one of them has not.
    lab.pipeline(&PIPELINE.replace("[all]", "[every]").replace("all=all.score", "all=every.score"));
    fs::rename(lab.path("demo.toml"), lab.path("other.toml")).unwrap();
    assert_eq!(lab.rote(&["run", "other.toml"]).0, 0);
    assert_eq!(
        lab.rote(&["diff", "first", "other"]).1,
        "all: in the first only\nevery: in the second only\n"
    );
    let content = lab.contents()["score"].to_string();
    assert_eq!(lab.rote(&["diff", &content[..10], "demo/score"]).1, "no difference\n");
    let (code, _, stderr) = lab.rote(&["diff", "demo/scor", "demo/score"]);
    assert_eq!((code, stderr.as_str()), (2, "rote: no result `demo/scor`; nearest: `demo/score`\n"));
}

#[test]
fn a_tag_of_a_pipelines_name_can_be_asked_for() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    assert_eq!(lab.rote(&["lock", "demo.toml"]).0, 0);
    lab.pipeline(&PIPELINE.replace("prefix = 5", "prefix = 3"));
    assert_eq!(lab.run().0, 0);
    contains(&lab.rote(&["diff", "tag:demo/prepare", "demo/prepare"]).1, "params.prefix: 5 → 3\n");
    contains(&lab.rote(&["diff", "tag:demo", "demo"]).1, "prepare:\ncontent: ");
    assert_eq!(lab.rote(&["diff", "demo", "demo"]).1, "no difference\n");
    assert_eq!(lab.rote(&["diff", "tag:none/prepare", "demo/prepare"]).0, 2);
}

#[test]
fn two_pipelines_of_one_name_share_a_store_only_where_they_are_alike() {
    let lab = Lab::new();
    let other = PIPELINE.replace("prefix = 5", "prefix = 3");
    for (folder, pipeline) in [("a", PIPELINE), ("b", &other), ("copy", PIPELINE)] {
        fs::create_dir(lab.path(folder)).unwrap();
        fs::write(lab.path(folder).join("demo.toml"), pipeline).unwrap();
    }
    assert_eq!(lab.rote(&["run", "a/demo.toml"]).0, 0);
    let contents = lab.contents();
    let here = lab.folder.path().canonicalize().unwrap();
    let expected = format!(
        "rote: b/demo.toml: the name in data/store is that of {}, another file of the same stem; rename one of the two or \
         give another --store\n",
        here.join("a/demo.toml").display()
    );
    for verb in ["run", "plan", "lock", "adopt"] {
        assert_eq!(lab.rote(&[verb, "b/demo.toml"]), (2, String::new(), expected.clone()), "{verb}");
    }
    assert_eq!(lab.contents(), contents);
    assert_eq!(lab.rote(&["run", "b/demo.toml", "--store", "other"]).0, 0);
    // By another way to it, it is the same file; a copy of it has the same links.
    contains(&lab.rote(&["run", "copy/demo.toml"]).2, "nothing to do");
    contains(&lab.rote(&["run", "b/../a/demo.toml"]).2, "nothing to do");
    assert_eq!(lab.rote(&["lock", "a/demo.toml", "--out", "a/first.lock"]).0, 0);
    let (code, _, stderr) = lab.rote(&["lock", "a/demo.toml", "--out", "b/first.lock"]);
    assert_eq!(code, 2, "{stderr}");
    contains(&stderr, "rote: b/first.lock: the tag in data/store is that of ");
    assert!(!lab.path("b/first.lock").exists());
    assert_eq!(lab.rote(&["lock", "a/demo.toml", "--out", "a/first.lock"]).0, 0);
    assert_eq!(lab.rote(&["collect", "--drop", "first", "--delete"]).0, 0);
    assert_eq!(lab.rote(&["lock", "a/demo.toml", "--out", "b/first.lock"]).0, 0);
    // A name goes on to who takes the place of one that is gone.
    fs::remove_file(lab.path("a/demo.toml")).unwrap();
    assert_eq!(lab.rote(&["run", "b/demo.toml"]).0, 0);
    assert_eq!(lab.rote(&["verify"]).0, 0);
}

#[test]
fn adopted_results_are_not_made_again_and_say_so() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents();
    // A cosmetic edit: another executable.
    let extract = lab.path("bin/rote-extract");
    let mut bytes = fs::read(&extract).unwrap();
    bytes.push(0);
    fs::remove_file(&extract).unwrap();
    fs::copy(lab.path("bin/rote-score"), &extract).unwrap();
    fs::write(&extract, bytes).unwrap();
    lab.started();
    let (code, told, stderr) = lab.rote(&["adopt", "demo.toml"]);
    assert_eq!(code, 0, "{stderr}");
    contains(&told, "extract: adopted, code ");
    contains(&lab.run().2, "nothing to do");
    assert_eq!((lab.started().len(), lab.contents()), (0, contents));
    let run = fs::read_to_string(lab.path("data/store/view/demo/extract/run.json")).unwrap();
    contains(&run, "\"adopted\": [");
    assert_eq!(lab.rote(&["verify"]).0, 0);
    assert_eq!(lab.rote(&["adopt", "demo.toml"]).1, "nothing to adopt: every node is fresh\n");
    // What differs in more than its code is not adopted.
    lab.pipeline(&PIPELINE.replace("min = 2", "min = 4"));
    let (code, told, _) = lab.rote(&["adopt", "demo.toml", "extract"]);
    assert_eq!((code, told.as_str()), (3, "extract: not adopted: params.min: 2 → 4\n"));
}

#[test]
fn a_shared_store_is_pushed_to_and_pulled_from_by_digest() {
    let lab = Lab::new();
    let (code, _, stderr) = lab.rote(&["push", "demo.toml", "--remote", "shared"]);
    assert_eq!((code, stderr.as_str()), (2, "rote: prepare: not up to date; `rote run` first\n"));
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents();
    let (code, told, stderr) = lab.rote(&["push", "demo.toml", "--remote", "shared"]);
    assert_eq!(code, 0, "{stderr}");
    contains(&told, "prepare: 0.0 MB, content ");
    contains(&told, "\n5 results copied, 0.0 MB; 5 of 5 are there\n");
    assert_eq!(
        lab.rote(&["push", "demo.toml", "--remote", "shared"]).1,
        "0 results copied, 0.0 MB; 5 of 5 are there\n"
    );
    assert_eq!(lab.rote(&["verify", "--store", "shared"]).0, 0);

    // Who collects there keeps what was pushed.
    contains(&lab.rote(&["collect", "--store", "shared", "--delete"]).1, "5 results needed; 0 things");

    // On another machine: nothing has to run.
    fs::rename(lab.path("data/store"), lab.path("kept")).unwrap();
    lab.started();
    let (code, told, stderr) = lab.rote(&["pull", "demo.toml", "--remote", "shared", "score"]);
    assert_eq!(code, 0, "{stderr}");
    contains(&told, "3 results copied, 0.0 MB; 3 of 3 are there\n");
    contains(&lab.rote(&["pull", "demo.toml", "--remote", "shared"]).1, "2 results copied, ");
    contains(&lab.run().2, "nothing to do");
    assert_eq!((lab.started().len(), lab.contents()), (0, contents));
    assert_eq!(lab.rote(&["verify"]).0, 0);

    // What was damaged there does not arrive here, whichever file it is.
    let there = lab.path("data/store/view/demo/prepare").canonicalize().unwrap();
    let name = there.file_name().unwrap().to_str().unwrap().to_string();
    let there = lab.path("shared").join(&name[..2]).join(&name);
    for file in ["request/part-00001.txt", "artifact.json", "run.json"] {
        fs::remove_dir_all(lab.path("data/store")).unwrap();
        let bytes = fs::read(there.join(file)).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        fs::write(there.join(file), flipped).unwrap();
        let (code, _, stderr) = lab.rote(&["pull", "demo.toml", "--remote", "shared"]);
        assert_eq!(code, 1, "{file}: {stderr}");
        contains(&stderr, "prepare: ");
        assert_eq!((artifacts(&lab), lab.leftovers(".partial").len()), (0, 0), "{file}");
        fs::write(there.join(file), bytes).unwrap();
    }
    assert_eq!(lab.rote(&["pull", "demo.toml", "--remote", "shared"]).0, 0);
    // Nor does a whole result that is another's.
    let key = |node: &str| {
        let place = lab.path("data/store/view/demo").join(node).canonicalize().unwrap();
        place.file_name().unwrap().to_str().unwrap().to_string()
    };
    let (report, score) = (key("report"), key("score"));
    let [from, to] = [&report, &score].map(|key| lab.path("shared").join(&key[..2]).join(key));
    fs::remove_dir_all(&to).unwrap();
    fs::rename(&from, &to).unwrap();
    let seal = fs::read_to_string(from.with_extension("seal")).unwrap();
    fs::write(to.with_extension("seal"), seal.replace(&report, &score)).unwrap();
    fs::remove_dir_all(lab.path("data/store")).unwrap();
    let (code, _, stderr) = lab.rote(&["pull", "demo.toml", "--remote", "shared"]);
    assert_eq!(code, 1, "{stderr}");
    contains(&stderr, "is not what its key asks for");
    contains(&lab.rote(&["pull", "demo.toml", "--remote", "nowhere"]).2, "nowhere: no such store");
    let (code, _, stderr) = lab.rote(&["pull", "demo.toml", "--remote", "gs://a/b"]);
    assert_eq!(
        (code, stderr.as_str()),
        (2, "rote: gs://a/b: `gs` is no kind of store; a folder or s3://BUCKET/PREFIX\n")
    );
    contains(&lab.rote(&["pull", "demo.toml", "--remote", "s3://a/b"]).2, "rote: s3://a/b: ");
}
