//! Folders to run pipelines in: one with stand-ins of a few lines, one with the real stages and a small model.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rote_store::{Digest, Manifest};
use tempfile::TempDir;

pub const PIPELINE: &str = r#"
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
pub struct Lab {
    pub folder: TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let lab = Lab { folder };
        fs::create_dir(lab.path("bin")).unwrap();
        let stand_in = Path::new(env!("CARGO_BIN_EXE_stand-in"));
        let rote = stand_in.with_file_name("rote");
        assert!(rote.is_file(), "{} is not built: run `cargo test`, not a part of it", rote.display());
        fs::hard_link(rote, lab.path("bin/rote")).unwrap();
        for stage in ["prepare", "extract", "capture", "score", "report"] {
            fs::hard_link(stand_in, lab.path("bin").join(format!("rote-{stage}"))).unwrap();
        }
        fs::write(lab.path("text.txt"), "banana\ncherry\nape\nDate\nelderberry\n").unwrap();
        lab.pipeline(PIPELINE);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn pipeline(&self, text: &str) {
        fs::write(self.path("demo.toml"), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/rote"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("STAND_IN_TRACE", self.path("trace"));
        command
    }

    /// Runs and returns exit code, standard output, standard error.
    pub fn rote(&self, arguments: &[&str]) -> (i32, String, String) {
        told(self.command(arguments).output().unwrap())
    }

    pub fn run(&self) -> (i32, String, String) {
        self.rote(&["run", "demo.toml"])
    }

    /// Starts a run whose stages are slow, leading its own group.
    pub fn slow(&self) -> Child {
        let mut command = self.command(&["run", "demo.toml"]);
        command.env("STAND_IN_PAUSE", "40").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Stages started since the last call, in order of name.
    pub fn started(&self) -> Vec<String> {
        let trace = fs::read_to_string(self.path("trace")).unwrap_or_default();
        let _ = fs::remove_file(self.path("trace"));
        let mut stages: Vec<_> = trace.lines().map(str::to_string).collect();
        stages.sort();
        stages
    }

    /// Content id by node, as the readable links have it.
    pub fn contents(&self) -> BTreeMap<String, Digest> {
        let view = self.path("data/store/view/demo");
        let link = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), Manifest::read(&entry.path()).unwrap().content_id)
        };
        fs::read_dir(view).unwrap().map(|entry| link(entry.unwrap())).collect()
    }

    /// Every file and folder of the store whose name ends so.
    pub fn leftovers(&self, ending: &str) -> Vec<PathBuf> {
        walk(&self.path("data/store"))
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect()
    }
}

pub fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

pub fn walk(folder: &Path) -> Vec<PathBuf> {
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
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what} never came");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "no `{part}` in:\n{text}");
}

pub fn kill(process: u32) {
    let _ = Command::new("kill").args(["-9", &process.to_string()]).stderr(Stdio::null()).status();
}

/// Processes that `parent` started, from any of its threads.
pub fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    listed
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

pub fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
