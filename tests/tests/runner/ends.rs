//! Every way to end: failure, kill, interrupt, another runner on the same store.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, PIPELINE, children, contains, eventually, is_running, kill, told};

#[test]
fn a_failed_stage_leaves_no_artifact_and_stops_only_what_needs_it() {
    let lab = Lab::new();
    let fail =
        |arguments: &[&str]| told(lab.command(arguments).env("STAND_IN_FAIL", "extract").output().unwrap());
    let (code, stdout, stderr) = fail(&["run", "demo.toml", "-k"]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    contains(&stderr, "extract: failed: exit status: 1; its log is data/store/log/demo/extract.log\n");
    contains(&stderr, "  extract: told to fail\n");
    contains(&stderr, "all      ran    ");
    contains(&stderr, "extract  failed ");
    contains(&stderr, "score    not run\n");
    assert!(lab.leftovers(".partial").is_empty());
    assert_eq!(lab.contents().keys().collect::<Vec<_>>(), ["all", "prepare"]);
    lab.started();
    assert_eq!(lab.run().0, 0);
    assert_eq!(lab.started(), ["extract", "score"]);
}

#[test]
fn killed_at_any_moment_the_same_command_ends_with_the_same_content() {
    let clean = Lab::new();
    assert_eq!(clean.run().0, 0);
    let expected = clean.contents();
    let lab = Lab::new();
    // Runner and stages by turns, each a little later than the last time.
    for round in 0..12_u64 {
        let mut runner = lab.slow();
        let victim = match round % 3 {
            0 => Some(runner.id()),
            // A stage that has begun to write.
            _ => eventually("a stage", || match runner.try_wait().unwrap() {
                Some(_) => Some(None),
                None => children(runner.id()).into_iter().next().map(Some),
            }),
        };
        std::thread::sleep(Duration::from_millis(round * 17));
        if let Some(victim) = victim {
            kill(victim);
        }
        runner.wait_with_output().unwrap();
        let (code, _, _) = lab.rote(&["verify"]);
        assert_eq!(code, 0, "after kill {round}");
    }
    let (code, _, stderr) = lab.run();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(lab.contents(), expected);
    assert_eq!(lab.rote(&["verify"]).0, 0);
}

#[test]
fn stages_end_with_the_runner() {
    let lab = Lab::new();
    // So slow that it would outlive this test.
    let mut command = lab.command(&["run", "demo.toml", "-q"]);
    let mut runner = command.env("STAND_IN_PAUSE", "200000").spawn().unwrap();
    eventually("a stage", || lab.path("trace").exists().then_some(()));
    let stages = children(runner.id());
    assert_eq!(stages.len(), 1);
    kill(runner.id());
    assert_eq!(runner.wait().unwrap().signal(), Some(9));
    eventually("the end of an orphan", || (!is_running(stages[0])).then_some(()));
}

#[test]
fn a_polite_end_says_so_and_takes_the_stages_along() {
    let lab = Lab::new();
    let runner = lab.slow();
    eventually("a stage", || lab.path("trace").exists().then_some(()));
    let stages = children(runner.id());
    assert_eq!(stages.len(), 1);
    let _ = Command::new("kill").args(["-INT", &runner.id().to_string()]).status();
    let (code, _, stderr) = told(runner.wait_with_output().unwrap());
    assert_eq!(code, 130, "{stderr}");
    contains(&stderr, "rote: interrupted; finished results are kept, the same command goes on from there\n");
    assert!(!is_running(stages[0]));
}

#[test]
fn two_runners_at_once_share_the_work() {
    let lab = Lab::new();
    let first = lab.slow();
    eventually("a stage of the first", || lab.path("trace").exists().then_some(()));
    let id = first.id();
    let second = lab.slow();
    let (code, _, stderr) = told(second.wait_with_output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    contains(&stderr, &format!("prepare: another `rote run` makes it (process {id} on "));
    assert_eq!(told(first.wait_with_output().unwrap()).0, 0);
    assert_eq!(lab.started(), ["extract", "prepare", "score", "score"]);
}

#[test]
fn who_looks_or_collects_meanwhile_harms_nothing() {
    let lab = Lab::new();
    let mut runners = [lab.slow(), lab.slow()];
    let mut looks = 0;
    while runners.iter_mut().any(|runner| runner.try_wait().unwrap().is_none()) {
        for question in [&["collect"][..], &["collect", "--delete"], &["plan", "demo.toml"], &["verify"]] {
            let (code, _, stderr) = lab.rote(question);
            assert!(code == 0 || question == ["collect", "--delete"], "{question:?}: {stderr}");
            looks += 1;
        }
    }
    for runner in runners {
        let (code, _, stderr) = told(runner.wait_with_output().unwrap());
        assert_eq!(code, 0, "{stderr}");
    }
    assert!(looks > 8, "{looks}");
    assert_eq!(lab.started(), ["extract", "prepare", "score", "score"]);
    assert_eq!(lab.rote(&["verify"]), (0, lab.rote(&["verify"]).1, String::new()));
}

#[test]
fn memory_limits_what_runs_side_by_side() {
    let lab = Lab::new();
    // What a stage takes is known from an earlier run of it; a stage of nothing known takes nothing.
    assert_eq!(most(&lab, &[]), 2);
    assert_eq!(lab.run().0, 0);
    lab.pipeline(&PIPELINE.replace("prefix = 5", "prefix = 6"));
    assert_eq!(most(&lab, &["--memory", "0.001"]), 1);
    assert_eq!(lab.rote(&["run", "demo.toml", "--memory", "0"]).0, 2);
}

#[test]
fn devices_limit_what_runs_side_by_side() {
    let lab = Lab::new();
    lab.pipeline(
        "[prepare]\nsequences = \"text.txt\"\n\
         [capture]\nrequests = \"prepare\"\n\
         [other]\nstage = \"capture\"\nrequests = \"prepare\"\nmin = 2\n\
         [score]\nrequests = \"prepare\"\nletter = [\"a\"]\n",
    );
    // One stage with the one device there is, and beside it what takes none.
    assert_eq!(most(&lab, &[]), 2);
    assert_eq!(most(&lab, &["--devices", "2"]), 3);
    let (code, _, stderr) = lab.rote(&["run", "demo.toml", "--devices", "0"]);
    assert_eq!(
        (code, stderr.as_str()),
        (2, "rote: capture: rote-capture takes 1 device; --devices says how many there are\n")
    );
    assert_eq!(lab.rote(&["run", "demo.toml", "score", "--devices", "0"]).0, 0);
    contains(&lab.rote(&["export", "snakemake", "demo.toml"]).1, "        gpu=1,\n");
}

/// The most stages at once of a run that starts from nothing.
fn most(lab: &Lab, arguments: &[&str]) -> usize {
    let mut command =
        lab.command(&[&["run", "demo.toml", "-q", "--threads", "4", "--jobs", "4"], arguments].concat());
    let mut runner = command.env("STAND_IN_PAUSE", "60").stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while runner.try_wait().unwrap().is_none() {
        most = most.max(children(runner.id()).len());
        std::thread::sleep(Duration::from_millis(3));
    }
    std::fs::remove_dir_all(lab.path("data/store")).unwrap();
    most
}
