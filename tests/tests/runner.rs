//! The runner against stand-in stages: skip, rerun with reason, early stop, kill and go on, damage, two at once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rote_store::{Digest, Manifest};
use tempfile::TempDir;

const PIPELINE: &str = r#"
[prepare]
sequences = "text.txt"
prefix = 5

[extract]
requests = "prepare.request"
min = 2

[score]
requests = "extract.request"
letter = ["a", "e"]

[all]
stage = "score"
requests = "prepare"
letter = ["a"]
sum = true

[report]
scores = ["known=score", "all=all.score"]
"#;

/// A folder with a text, a pipeline, and a runner whose stages are stand-ins.
struct Lab {
    folder: TempDir,
}

impl Lab {
    fn new() -> Lab {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let lab = Lab { folder };
        fs::create_dir(lab.path("bin")).unwrap();
        let stand_in = Path::new(env!("CARGO_BIN_EXE_stand-in"));
        let rote = stand_in.with_file_name("rote");
        assert!(rote.is_file(), "{} is not built: run `cargo test`, not a part of it", rote.display());
        fs::hard_link(rote, lab.path("bin/rote")).unwrap();
        for stage in ["prepare", "extract", "score", "report"] {
            fs::hard_link(stand_in, lab.path("bin").join(format!("rote-{stage}"))).unwrap();
        }
        fs::write(lab.path("text.txt"), "banana\ncherry\nape\nDate\nelderberry\n").unwrap();
        lab.pipeline(PIPELINE);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pipeline(&self, text: &str) {
        fs::write(self.path("demo.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/rote"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("STAND_IN_TRACE", self.path("trace"));
        command
    }

    /// Runs and returns exit code, standard output, standard error.
    fn rote(&self, arguments: &[&str]) -> (i32, String, String) {
        told(self.command(arguments).output().unwrap())
    }

    fn run(&self) -> (i32, String, String) {
        self.rote(&["run", "demo.toml"])
    }

    /// Starts a run whose stages are slow, leading its own group.
    fn slow(&self) -> Child {
        let mut command = self.command(&["run", "demo.toml"]);
        command.env("STAND_IN_PAUSE", "40").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Stages started since the last call, in order of name.
    fn started(&self) -> Vec<String> {
        let trace = fs::read_to_string(self.path("trace")).unwrap_or_default();
        let _ = fs::remove_file(self.path("trace"));
        let mut stages: Vec<_> = trace.lines().map(str::to_string).collect();
        stages.sort();
        stages
    }

    /// Content id by node, as the readable links have it.
    fn contents(&self) -> BTreeMap<String, Digest> {
        let view = self.path("data/store/view/demo");
        let link = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), Manifest::read(&entry.path()).unwrap().content_id)
        };
        fs::read_dir(view).unwrap().map(|entry| link(entry.unwrap())).collect()
    }

    /// Every file and folder of the store whose name ends so.
    fn leftovers(&self, ending: &str) -> Vec<PathBuf> {
        walk(&self.path("data/store"))
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect()
    }
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        found.push(path.clone());
        if path.is_dir() && !path.is_symlink() {
            found.extend(walk(&path));
        }
    }
    found
}

/// Waits until `done` gives something, at most a while.
fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "no `{part}` in:\n{text}");
}

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
    contains(&plan, "extract: runs\n  params.min: 2 → 4\n  $ ");
    contains(&plan, "score: runs if content changes, after extract\n");
    contains(&plan, "2 of 5 nodes are fresh, 3 to run\n");
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
fn a_wrong_pipeline_is_told_before_any_work() {
    let lab = Lab::new();
    let check = |from: &str, to: &str, expected: &str| {
        assert!(PIPELINE.contains(from), "{from}");
        lab.pipeline(&PIPELINE.replacen(from, to, 1));
        let (code, stdout, stderr) = lab.run();
        assert_eq!((code, stdout.as_str(), stderr), (2, "", format!("rote: demo.toml: {expected}\n")));
    };
    check("prefix", "prefx", "[prepare] prefx: no such key of rote-prepare; nearest: `prefix`");
    check(
        "prefix = 5",
        "threads = 5",
        "[prepare] threads: can't change a result, so it is no key of a pipeline; \
        `rote run --help` has what there is",
    );
    check("prefix = 5", "prefix = [5, 6]", "[prepare] prefix: 2 values, but it takes one");
    check("prefix = 5", "prefix = true", "[prepare] prefix: needs a value, not a switch");
    check("prefix = 5", "case = \"lowr\"", "[prepare] case: `lowr` is no value of it; nearest: `lower`");
    check("sum = true", "sum = 1", "[all] sum: a switch: `true` or `false`");
    check("sequences = \"text.txt\"", "", "[prepare] sequences: missing; rote-prepare needs it");
    check("\"text.txt\"", "\"txt.txt\"", "[prepare] sequences: no file, folder or node `txt.txt`");
    check("\"text.txt\"", "\"extract.request\"", "cycle: prepare -> extract -> prepare");
    check(
        "\"text.txt\"",
        "\"../text.txt\"",
        "[prepare] sequences: `../text.txt` lies outside of the folder \
        `rote` was called in; `--allow DIR` permits a folder",
    );
    check(
        "\"prepare\"",
        "\"prepre\"",
        "[all] requests: no file, folder or node `prepre`; nearest: `prepare`",
    );
    check("\"prepare\"", "\"report\"", "[all] requests: takes request, but report gives page");
    check(
        "\"all=all.score\"",
        "\"all=all.outcome\"",
        "[report] scores: all gives no `outcome`, but score, summary; \
        a file is written `./all.outcome`",
    );
    check("\"all=all.score\"", "\"all.score\"", "[report] scores: `all.score` is not of the form NAME=FILE");
    check("[all]", "x = [", "line 15: unexpected `=` in array, expected value, `]`");
    lab.pipeline(&PIPELINE.replace("stage = \"score\"", "stage = \"scroe\""));
    let (code, _, stderr) = lab.run();
    contains(&stderr, "rote: demo.toml: no stage `scroe`: there is no rote-scroe in ");
    contains(&stderr, "; nearest: `score`\n");
    assert_eq!(code, 2);
    assert_eq!(lab.started(), [""; 0]);
    assert_eq!(lab.rote(&["run", "none.toml"]), (2, String::new(), "rote: none.toml: no such file\n".into()));
    assert!(!lab.path("data/store/lock").exists());
}

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
    assert_eq!(lab.leftovers(".partial"), [PathBuf::new(); 0]);
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

fn kill(process: u32) {
    let _ = Command::new("kill").args(["-9", &process.to_string()]).stderr(Stdio::null()).status();
}

/// Processes that `parent` started, from any of its threads.
fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    listed
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
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
fn any_flipped_byte_is_found_with_its_file_and_its_consumers() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let (code, stdout, stderr) = lab.rote(&["verify"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    contains(&stdout, "5 artifacts, ");
    let place = lab.path("data/store/view/demo/prepare").canonicalize().unwrap();
    let files: Vec<_> = walk(&place).into_iter().filter(|path| path.is_file()).collect();
    assert_eq!(files.len(), 5 + 2);
    let mut flips = 0;
    for file in &files {
        let bytes = fs::read(file).unwrap();
        let step = (bytes.len() / 7).max(1);
        for position in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << (position % 8);
            fs::write(file, flipped).unwrap();
            let (code, _, stderr) = lab.rote(&["verify"]);
            let name = file.strip_prefix(&place).unwrap().display().to_string();
            assert_eq!(code, 3, "{name} byte {position}: {stderr}");
            contains(&stderr, &name);
            contains(&stderr, "made for demo/prepare; used by ");
            ["demo/all", "demo/extract", "demo/report", "demo/score"]
                .iter()
                .for_each(|name| contains(&stderr, name));
            flips += 1;
        }
        fs::write(file, bytes).unwrap();
    }
    assert!(flips > 30, "{flips}");
    assert_eq!(lab.rote(&["verify"]).0, 0);
    // What does not belong to an artifact is no part of it.
    fs::write(place.join("request/part-00009.txt"), "x\n").unwrap();
    contains(&lab.rote(&["verify"]).2, "part-00009.txt: no part of the artifact it lies in");
}

#[test]
fn a_lost_file_is_noticed_and_made_again() {
    let lab = Lab::new();
    assert_eq!(lab.run().0, 0);
    let before = lab.contents();
    let place = lab.path("data/store/view/demo/extract").canonicalize().unwrap();
    for lost in ["request/part-00001.txt", "artifact.json"] {
        lab.started();
        fs::remove_file(place.join(lost)).unwrap();
        contains(&lab.rote(&["verify"]).2, lost);
        let (code, _, stderr) = lab.run();
        assert_eq!(code, 0, "{stderr}");
        contains(&stderr, "extract: runs: its stored result is damaged: ");
        contains(&stderr, lost);
        assert_eq!(lab.started(), ["extract"]);
        assert_eq!(lab.contents(), before);
    }
    fs::remove_dir_all(&place).unwrap();
    contains(&lab.run().2, "extract: runs: its result is gone from the store\n");
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
    contains(&stderr, &format!("rote: waiting for another `rote run` on data/store (process {id})\n"));
    contains(&stderr, "nothing to do: 5 nodes are fresh");
    assert_eq!(told(first.wait_with_output().unwrap()).0, 0);
    assert_eq!(lab.started(), ["extract", "prepare", "score", "score"]);
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
