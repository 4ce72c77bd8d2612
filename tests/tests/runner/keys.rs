//! What runs and why: skip, rerun with reason, early stop; commands that can be pasted.

use std::fs;
use std::process::Command;

use crate::lab::{Lab, PIPELINE, contains, eventually};

#[test]
fn second_run_does_nothing() {
    let lab = Lab::new();
    let (code, stdout, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    // banan, cherr, ape, Date, elder
    let table = "known a 4\nknown e 5\nall a 4\nall sum 4\n";
    assert_eq!(stdout, format!("{table}report: data/store/view/demo/report/page.html\n"));
    contains(&stderr, "prepare: runs: never run\n");
    contains(&stderr, "5 of 5 nodes ran");
    let first = lab.contents();
    lab.started();
    let (code, again, stderr) = lab.run();
    assert_eq!((code, again), (0, stdout));
    assert!(stderr.starts_with("nothing to do: 5 nodes are fresh ("), "{stderr}");
    assert!(stderr.lines().count() == 1, "{stderr}");
    assert_eq!(lab.started(), [""; 0]);
    assert_eq!(lab.contents(), first);
}

#[test]
fn one_changed_parameter_reruns_only_what_is_downstream_with_the_reason() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    lab.started();
    lab.pipeline(&PIPELINE.replace("min = 2", "min = 4"));
    let (code, plan, _) = lab.rote(&["plan", "demo.toml"]);
    assert_eq!(code, 0);
    contains(&plan, "extract: runs\n  params.min: 2 → 4\n  an earlier run took ");
    contains(&plan, "score: runs if content changes, after extract\n");
    contains(&plan, "2 of 5 nodes are fresh, 3 to run; earlier runs of these took ");
    assert_eq!(lab.rote(&["why", "demo.toml", "extract"]).1, "params.min: 2 → 4\n");
    let before = lab.contents();
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    let after = lab.contents();
    let (was, is) = (before["extract"].short(), after["extract"].short());
    contains(&stderr, "extract: runs: params.min: 2 → 4\n");
    contains(&stderr, &format!("score: runs: inputs.requests: {was} → {is} (from extract)\n"));
    assert_eq!(lab.started(), ["extract", "score"]);
    assert!(before["prepare"] == after["prepare"] && before["all"] == after["all"]);
}

#[test]
fn the_wave_stops_where_content_is_the_same_again() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    lab.started();
    // No line is shorter than three letters.
    lab.pipeline(&PIPELINE.replace("min = 2", "min = 3"));
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, "1 of 5 nodes ran");
    assert_eq!(lab.started(), ["extract"]);
    // A parameter that is given no more is another key, though its default is the same.
    lab.pipeline(&PIPELINE.replace("min = 2", ""));
    contains(&lab.run().2, "extract: runs: params.min: 3 → not given\n");
    // Back to what was made at first: nothing runs.
    lab.pipeline(PIPELINE);
    lab.started();
    contains(&lab.run().2, "nothing to do");
    assert_eq!(lab.started(), [""; 0]);
}

#[test]
fn new_code_and_new_input_rerun() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    lab.started();
    let extract = lab.path("bin/rote-extract");
    let mut bytes = fs::read(&extract).unwrap();
    bytes.push(0);
    // Another file: the old one is shared with every other stage.
    fs::remove_file(&extract).unwrap();
    fs::copy(lab.path("bin/rote-score"), &extract).unwrap();
    fs::write(&extract, bytes).unwrap();
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, "extract: runs: code: ");
    assert_eq!(lab.started(), ["extract"]);
    // The same length, a moment later.
    fs::write(lab.path("text.txt"), "banane\ncherry\nape\nDate\nelderberry\n").unwrap();
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, "(from text.txt)\n");
}

#[test]
fn a_pasted_command_makes_what_the_run_then_finds() {
    let lab = Lab::new();
    let plan = lab.rote(&["plan", "demo.toml"]).1;
    let pasted = plan.lines().find_map(|line| line.strip_prefix("  $ ")).unwrap();
    let status = Command::new("sh").args(["-c", pasted]).current_dir(lab.folder.path()).output().unwrap();
    assert!(status.status.success());
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, "4 of 5 nodes ran");
    assert_eq!(lab.rote(&["verify"]).0, 0);
}

#[test]
fn a_pasted_command_is_believed_only_as_far_as_its_inputs_go() {
    let lab = Lab::new();
    let plan = lab.rote(&["plan", "demo.toml"]).1;
    let pasted = plan.lines().find_map(|line| line.strip_prefix("  $ ")).unwrap();
    let paste = || {
        let mut paste = Command::new("sh");
        assert!(paste.args(["-c", pasted]).current_dir(lab.folder.path()).output().unwrap().status.success());
    };
    assert_eq!(lab.run().0, 0);
    let contents = lab.contents();
    // The input is another while the command runs, and what it was before and after.
    let text = fs::read(lab.path("text.txt")).unwrap();
    fs::write(lab.path("text.txt"), "fig\nelderberry\n").unwrap();
    paste();
    fs::write(lab.path("text.txt"), text).unwrap();
    let (code, _, stderr) = lab.rote(&["verify"]);
    assert_eq!(code, 3, "{stderr}");
    contains(&stderr, ": is not what its key asks for\n  made for demo/prepare; ");
    contains(&lab.rote(&["plan", "demo.toml"]).1, "prepare: runs\n  its stored result is damaged: ");
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, " was made with another --sequences than its key asks for\n");
    assert_eq!((lab.rote(&["verify"]).0, lab.contents()), (0, contents.clone()));
    // Nor is it, where the executable was another.
    let prepare = lab.path("bin/rote-prepare");
    let built = [fs::read(&prepare).unwrap(), vec![0]].concat();
    fs::rename(&prepare, lab.path("bin/kept")).unwrap();
    fs::copy(lab.path("bin/kept"), &prepare).unwrap();
    fs::write(&prepare, built).unwrap();
    paste();
    fs::rename(lab.path("bin/kept"), &prepare).unwrap();
    contains(&lab.run().2, " was made with another executable than its key asks for\n");
    assert_eq!((lab.rote(&["verify"]).0, lab.contents()), (0, contents));
}

#[test]
fn a_stage_says_which_executable_it_is_though_another_has_its_name() {
    let lab = Lab::new();
    let prepare = lab.path("bin/rote-prepare");
    let code = rote_store::digest_file(&prepare).unwrap();
    let mut command = Command::new(&prepare);
    command.args(["--sequences", "text.txt", "--out", "out"]).current_dir(lab.folder.path());
    let mut stage = command.env("STAND_IN_PAUSE", "100").spawn().unwrap();
    eventually("its first line", || lab.path("out.partial/request").exists().then_some(()));
    fs::copy(&prepare, lab.path("bin/built")).unwrap();
    fs::rename(lab.path("bin/built"), &prepare).unwrap();
    assert!(stage.wait().unwrap().success());
    contains(&fs::read_to_string(lab.path("out/run.json")).unwrap(), &format!("\"executable\": \"{code}\""));
}

#[test]
fn an_artifact_that_was_edited_is_refused_by_name() {
    let lab = Lab::new();
    assert_eq!(lab.rote(&["prepare", "--sequences", "text.txt", "--out", "lines/"]).0, 0);
    let start = PIPELINE.find("[extract]").unwrap();
    lab.pipeline(&PIPELINE[start..].replace("prepare.request", "lines").replace("\"prepare\"", "\"lines\""));
    assert_eq!(lab.run().0, 0);
    let by_hand = ["extract", "--requests", "lines", "--out", "by-hand"];
    assert_eq!(lab.rote(&by_hand).0, 0);
    let refused = |file: &str, step: &str| {
        for words in [&["run", "demo.toml"][..], &["plan", "demo.toml"], &by_hand] {
            let (code, _, stderr) = lab.rote(words);
            assert_eq!(code, 3, "{file}: {stderr}");
            contains(&stderr, &format!("lines/{file}: not what rote-prepare wrote; {step}"));
        }
    };
    let edited = |file: &str, text: &str, step: &str| {
        let path = lab.path("lines").join(file);
        let was = fs::read(&path).ok();
        fs::write(&path, text).unwrap();
        refused(file, step);
        match was {
            Some(was) => fs::write(&path, was).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    };
    // Of the same length, one that is another's, and one more that would be read with the rest.
    edited("request/part-00000.txt", "bbna\n", "make it again, or, if it is meant, ");
    let manifest = fs::read_to_string(lab.path("lines/artifact.json")).unwrap();
    edited("artifact.json", &manifest.replace("part-00003", "part-00004"), "make it again, or, ");
    edited("request/part-00009.txt", "fig\n", "take it elsewhere");
    // What no stage reads changes nothing.
    fs::write(lab.path("lines/NOTES"), "mine\n").unwrap();
    contains(&lab.run().2, "nothing to do");
    assert_eq!(lab.rote(&by_hand).0, 0);
}

#[test]
fn a_file_by_another_name_is_another_input() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    fs::rename(lab.path("text.txt"), lab.path("words.txt")).unwrap();
    lab.pipeline(&PIPELINE.replace("text.txt", "words.txt"));
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, " words.txt (from words.txt)\n");
    // Where it lies does not count.
    fs::create_dir(lab.path("texts")).unwrap();
    fs::rename(lab.path("words.txt"), lab.path("texts/words.txt")).unwrap();
    lab.pipeline(&PIPELINE.replace("text.txt", "texts/words.txt"));
    contains(&lab.run().2, "nothing to do");
    // Of a folder that is read file by file the name counts as well, of an artifact it does not.
    lab.pipeline(&PIPELINE.replace("text.txt", "texts"));
    contains(&lab.run().2, " words.txt → ");
    fs::rename(lab.path("texts"), lab.path("others")).unwrap();
    lab.pipeline(&PIPELINE.replace("text.txt", "others"));
    contains(&lab.run().2, " texts → ");
}

#[test]
fn a_stage_is_started_by_its_word() {
    let lab = Lab::new();
    let (code, stdout, _) = lab.rote(&["score", "--describe"]);
    assert_eq!(code, 0);
    contains(&stdout, "\"stage\": \"score\"");
    assert_eq!(lab.rote(&["score", "--nonsense"]).0, 2);
    let (code, _, stderr) = lab.rote(&["scor"]);
    assert_eq!(code, 2);
    contains(&stderr, "nearest: `score`");
}
