//! The stages there are: binaries beside the runner, what they say of themselves, what each gives.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rote_store::{Digest, Memory, read_checked, write_checked};
use serde::{Deserialize, Serialize};

use crate::failure::{Wrong, hint};

/// What each stage gives, by table; the only place where the runner knows a stage by name.
const GIVES: [(&str, &[&str]); 8] = [
    ("prepare", &["request"]),
    ("extract", &["request", "extraction"]),
    ("capture", &["activation"]),
    ("intervene", &["outcome", "item"]),
    ("score", &["score", "summary"]),
    ("bound", &["bound", "reach", "tightness", "constant"]),
    ("report", &["page"]),
    ("train", &["model"]),
];

/// Tables that `stage` gives; `None` for a stage the runner has not heard of.
pub fn gives(stage: &str) -> Option<&'static [&'static str]> {
    GIVES.iter().find(|(name, _)| *name == stage).map(|(_, tables)| *tables)
}

/// A stage's answer to `--describe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Stage.
    pub stage: String,
    /// Version of its package.
    pub version: String,
    /// One sentence.
    pub about: String,
    /// Inputs.
    pub ports: Vec<Port>,
    /// Parameters.
    pub parameters: Vec<Parameter>,
    /// Whether it takes `--shard I/N` and `--join`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shards: bool,
    /// Accelerators that a call takes for itself.
    #[serde(default, skip_serializing_if = "is_none")]
    pub devices: u32,
}

fn is_none(devices: &u32) -> bool {
    *devices == 0
}

/// An input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Flag, without dashes.
    pub name: String,
    /// `model`, `file`, `name=file`, or names of tables joined by `|`.
    pub takes: String,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it may be given more than once.
    pub repeatable: bool,
    /// Meaning.
    pub help: String,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Flag, without dashes.
    pub name: String,
    /// Whether it takes no value.
    pub switch: bool,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it may be given more than once.
    pub repeatable: bool,
    /// Defaults, as typed.
    pub default: Vec<String>,
    /// Values it is limited to; empty where it is not.
    pub values: Vec<String>,
    /// Meaning.
    pub help: String,
}

impl Port {
    /// Whether values are `NAME=FILE`.
    pub fn named(&self) -> bool {
        self.takes.starts_with("name=")
    }

    /// Tables it takes; empty where it takes any file.
    pub fn tables(&self) -> Vec<&str> {
        let takes: Vec<_> = self.takes.trim_start_matches("name=").split('|').collect();
        let any = ["file", "path", "dir", "folder", "artifact"];
        if takes.iter().any(|take| any.contains(take)) { Vec::new() } else { takes }
    }
}

/// A stage that can be started.
pub struct Stage {
    /// Its executable.
    pub program: PathBuf,
    /// Digest of its executable.
    pub code: Digest,
    /// What it says of itself.
    pub description: Description,
}

impl Stage {
    /// Whether `port` takes any file or folder of files: what is made of these may hold their names.
    pub fn takes_files(&self, port: &str) -> bool {
        self.description.ports.iter().any(|it| it.name == port && it.tables().is_empty())
    }
}

/// The folder the runner stands in; stages stand beside it.
pub fn home() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding the runner's own executable")?;
    let home = program.parent().context("finding the folder of the runner's executable")?;
    Ok(home.to_path_buf())
}

/// The executable of `stage`, if it stands beside the runner.
pub fn program(stage: &str) -> Result<PathBuf> {
    let home = home()?;
    let program = home.join(format!("rote-{stage}"));
    if program.is_file() {
        return Ok(program);
    }
    let known = names(&home);
    let hint = hint(stage, known.iter().map(String::as_str));
    Err(Wrong::one(format!("no stage `{stage}`: there is no rote-{stage} in {}{hint}", home.display())))
}

/// Names of the stages in `home`.
fn names(home: &Path) -> Vec<String> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("rote-")?.to_string()))
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .collect();
    names.sort();
    names
}

/// Finds the stages of `names` and what they say of themselves; the answers are kept in `cache` by name and digest of
/// the executable, so that an unchanged stage is not started.
pub fn find<'a>(
    names: impl Iterator<Item = &'a str>,
    memory: &mut Memory,
    cache: &Path,
) -> Result<HashMap<String, Stage>> {
    let mut stages = HashMap::new();
    for name in names {
        if stages.contains_key(name) {
            continue;
        }
        let program = program(name)?;
        let code = memory.digest_file(&program)?;
        let kept = cache.join(format!("{name}-{code}"));
        let known = read_checked(&kept).ok().flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let description: Description = match known {
            Some(description) => description,
            None => {
                let bytes = ask(&program)?;
                let description = serde_json::from_slice(&bytes)
                    .with_context(|| format!("rote-{name} --describe: not the answer of a stage"))?;
                // Only to be quick next time; a store that can't be written says so when it matters.
                let _ = fs::create_dir_all(cache).map(|()| write_checked(&kept, &bytes));
                description
            }
        };
        if description.stage != name {
            bail!("rote-{name} --describe: says that it is stage `{}`", description.stage);
        }
        stages.insert(name.to_string(), Stage { program, code, description });
    }
    Ok(stages)
}

fn ask(program: &Path) -> Result<Vec<u8>> {
    let asking = || format!("{} --describe", program.display());
    let answer =
        Command::new(program).arg("--describe").stdin(Stdio::null()).output().with_context(asking)?;
    if !answer.status.success() {
        bail!("{}: {}: {}", asking(), answer.status, String::from_utf8_lossy(&answer.stderr).trim());
    }
    Ok(answer.stdout)
}
