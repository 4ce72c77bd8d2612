//! Parts of a result, made by processes anywhere that share the store, and joined when all are there.
//!
//! Part 2 of 4 of the result of key `ab12…` stands at `ab12….part-2-of-4` until it is joined.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rote_store::{Digest, Key, Manifest, Memory, is_foreign};
use serde::Deserialize;

use crate::check::Node;
use crate::failure::Wrong;
use crate::names::Name;
use crate::plan::{Known, Scene, Verdict, walk};
use crate::process;
use crate::progress::Progress;
use crate::shelf::{Found, Seal, Shelf, find_at, remove, seal, seal_at};
use crate::trust::mistaken;

/// Part `index` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    index: usize,
    count: usize,
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let number = |text: &str| text.parse::<usize>().ok();
        let parts = text.split_once('/').and_then(|(index, count)| Some((number(index)?, number(count)?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Part { index, count }),
            _ => Err(format!("`{text}` is not of the form I/N with I from 1 to N")),
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

fn place(shelf: &Shelf, key: Digest, part: Part) -> PathBuf {
    shelf.beside(key, &format!("part-{}-of-{}", part.index, part.count))
}

/// What is done for a result at a time.
pub enum Step {
    /// All of it.
    Whole,
    /// A part.
    Part(Part),
    /// The joining of all parts.
    Join(Vec<PathBuf>),
}

impl Step {
    /// Where it puts what it makes.
    pub fn place(&self, shelf: &Shelf, key: Digest) -> PathBuf {
        match self {
            Step::Part(part) => place(shelf, key, *part),
            Step::Whole | Step::Join(_) => shelf.place(key),
        }
    }

    /// Flags of the stage beside those of the whole work.
    pub fn flags(&self) -> Vec<String> {
        match self {
            Step::Whole => Vec::new(),
            Step::Part(part) => vec!["--shard".to_string(), part.to_string()],
            Step::Join(parts) => {
                let flags = parts.iter().map(|part| ["--join".to_string(), part.display().to_string()]);
                flags.flatten().collect()
            }
        }
    }
}

/// What is next to do for the result of `key`, if it is to be made in `count` parts. Parts that stand there, of whatever
/// count, are joined if they are all.
pub fn next(shelf: &Shelf, key: Digest, count: usize) -> Step {
    if let Some(parts) = complete(shelf, key) {
        return Step::Join(parts);
    }
    let mut parts = (1..=count).map(|index| Part { index, count });
    let open = parts.find(|part| !is_whole(shelf, key, &place(shelf, key, *part)));
    open.filter(|_| count > 1).map_or(Step::Whole, Step::Part)
}

/// How many of `count` parts of the result of `key` are there and look whole.
pub fn whole(shelf: &Shelf, key: Digest, count: usize) -> usize {
    let parts = (1..=count).map(|index| Part { index, count });
    parts.filter(|part| is_whole(shelf, key, &place(shelf, key, *part))).count()
}

/// Whether a part of the result of `key` is there and looks whole. What its files hold is compared when it is joined,
/// but what its manifest says goes into the result as it is, so it has to be as its seal says; one that nobody has
/// sealed, as its key asks.
fn is_whole(shelf: &Shelf, key: Digest, place: &Path) -> bool {
    let Found::Whole(manifest) = find_at(place) else { return false };
    match seal_at(place) {
        Ok(Seal::Whole) => true,
        Ok(Seal::Missing) => shelf.key(key).is_ok_and(|key| mistaken(place, &manifest, &key).is_none()),
        Ok(Seal::Broken(_)) | Err(_) => false,
    }
}

/// What a stage says of the work of a call, told from what is declared alone: the same every time.
#[derive(Clone, Copy, Deserialize)]
pub struct Work {
    /// In how many parts it is best made.
    pub parts: u16,
    /// Seconds of one core.
    pub core_seconds: Option<f64>,
    /// Bytes on disk at most, where they are many.
    pub disk_bytes: Option<f64>,
    /// Bytes of the weights that it holds.
    pub weight_bytes: Option<u64>,
}

impl Work {
    /// Of a node that can be cut; `None` where its stage can't tell for lack of something or other, which the call itself
    /// will say.
    pub fn of(scene: &Scene, node: &Node, known: &[Option<Known>]) -> Option<Work> {
        if !scene.stage(node).description.shards {
            return None;
        }
        let (program, arguments) = scene.command(node, known, "OUT");
        let mut command = Command::new(program);
        command.args(arguments).arg("--work").stdin(Stdio::null()).stderr(Stdio::null());
        process::die_with_parent(&mut command);
        let answer = command.output().ok().filter(|answer| answer.status.success())?;
        serde_json::from_slice(&answer.stdout).ok()
    }
}

/// Takes out of the way what stands where `step` is to put what it makes, where that is a damaged part, and what this
/// program, not a stage, left beside it when it was killed.
pub fn clear(shelf: &Shelf, key: Digest, step: &Step) -> Result<()> {
    let place = step.place(shelf, key);
    let partial = place.with_added_extension("partial");
    if is_foreign(&partial) {
        remove(&partial)?;
    }
    if matches!(step, Step::Part(_)) && !is_whole(shelf, key, &place) { remove(&place) } else { Ok(()) }
}

/// Seals a part that was just made, if it is what `key` asks for.
///
/// # Errors
/// It is not there, or something changed while it was made.
pub fn settle(shelf: &Shelf, key: &Key, part: Part) -> Result<Digest> {
    let place = place(shelf, key.digest(), part);
    let manifest = Manifest::read(&place).with_context(|| format!("part {part}"))?;
    if let Some(changed) = mistaken(&place, &manifest, key) {
        remove(&place)?;
        bail!("its {changed} changed while it ran; part {part} is dropped, run again");
    }
    seal(&place)?;
    Ok(manifest.content_id)
}

/// All parts of the result of `key`, if each of some number is there and looks whole.
pub fn complete(shelf: &Shelf, key: Digest) -> Option<Vec<PathBuf>> {
    let mut parts = of(shelf, key);
    parts.sort_by_key(|(part, _)| (part.count, part.index));
    let of_count = |count: usize| parts.iter().filter(move |(part, _)| part.count == count);
    let counts = parts.iter().map(|(part, _)| part.count);
    let count = counts.into_iter().find(|&count| {
        of_count(count).count() == count && of_count(count).all(|(_, place)| is_whole(shelf, key, place))
    })?;
    Some(of_count(count).map(|(_, place)| place.clone()).collect())
}

/// Every part of the result of `key` that stands there.
pub fn of(shelf: &Shelf, key: Digest) -> Vec<(Part, PathBuf)> {
    let start = format!("{key}.part-");
    let folder = shelf.place(key).parent().map(PathBuf::from).unwrap_or_default();
    let part = |path: PathBuf| {
        let (index, count) = path.file_name()?.to_str()?.strip_prefix(&start)?.split_once("-of-")?;
        let part = Part { index: index.parse().ok()?, count: count.parse().ok()? };
        Some((part, path))
    };
    crate::shelf::entries(&folder).unwrap_or_default().into_iter().filter_map(part).collect()
}

/// Makes one part of a node whose inputs are there.
///
/// # Errors
/// The inputs are not there, the stage can't be cut, or it fails.
pub fn make(
    scene: &Scene,
    index: usize,
    part: Part,
    threads: usize,
    memory: &mut Memory,
    progress: &Progress,
) -> Result<u8> {
    let node = &scene.pipeline.nodes[index];
    let name = &node.name;
    if !scene.stage(node).description.shards {
        let stage = &node.stage;
        return Err(Wrong::one(format!("{name}: rote-{stage} does not work request by request: no --shard")));
    }
    let mut known: Vec<Option<Known>> = vec![None; scene.pipeline.nodes.len()];
    let mut key: Option<Key> = None;
    for (at, verdict) in walk(scene, memory)? {
        match verdict {
            Verdict::Fresh(_, result) if at == index => {
                progress.say(&format!("{name}: fresh, content {}", result.content.short()));
                return Ok(0);
            }
            Verdict::Fresh(_, result) => known[at] = Some(result),
            Verdict::Runs(of_node, _) if at == index => key = Some(of_node),
            Verdict::Waits(on, _) if at == index => {
                let on = on.join(", ");
                return Err(Wrong::one(format!(
                    "{name}: its inputs are not made: `rote run` makes {on} first"
                )));
            }
            _ => {}
        }
    }
    let key = key.with_context(|| format!("{name}: not in the order of the pipeline"))?;
    let step = Step::Part(part);
    let place = step.place(scene.shelf, key.digest());
    if let Found::Whole(manifest) = find_at(&place)
        && is_whole(scene.shelf, key.digest(), &place)
    {
        progress.say(&format!("{name}: part {part} is fresh, content {}", manifest.content_id.short()));
        return Ok(0);
    }
    let _store = scene.shelf.enter()?;
    Name::of_pipeline(scene.shelf, scene.pipeline)?.take()?;
    scene.shelf.record(&key)?;
    scene.shelf.begin(&scene.pipeline.name, name, key.digest())?;
    clear(scene.shelf, key.digest(), &step)?;
    let (program, mut arguments) = scene.command(node, &known, &place.display().to_string());
    arguments.extend(step.flags());
    arguments.extend(["--threads", &threads.to_string(), "--progress", "plain"].map(str::to_string));
    let mut command = Command::new(&program);
    command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null());
    process::die_with_parent(&mut command);
    let status = command.status().with_context(|| format!("starting {}", program.display()))?;
    if !status.success() {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        progress.tell(&format!("{name}: part {part} failed: {status}"));
        return Ok(code.filter(|code| [2, 3].contains(code)).unwrap_or(1));
    }
    let content = settle(scene.shelf, &key, part).with_context(|| name.clone())?;
    progress.say(&format!("{name}: part {part} done, content {}", content.short()));
    Ok(0)
}
