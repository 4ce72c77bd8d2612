//! `push` and `pull`: results to and from a store that others share, a folder or a bucket, laid out as our own. Every byte
//! is hashed on arrival; a result is there whole or not at all, and what its key asks for.

#[cfg(feature = "bucket")]
mod bucket;
mod folder;

use std::fs;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use rote_store::{Attempt, Digest, Key, Manifest, Memory, atomic_write, digest_file, sync_folder};

use crate::failure::Wrong;
use crate::names::Name;
use crate::plan::{Known, Scene, Verdict};
use crate::shelf::{Found, Shelf, make_folder, seal_text};
use crate::trust::is_of;

/// A store that others share.
pub trait Remote {
    /// Fails where there is no such store to read from.
    fn is_there(&self) -> Result<()>;
    /// Whether there is a result of `key`, be it whole or damaged.
    fn has(&self, key: Digest) -> Result<bool>;
    /// Puts the result of `key` there, whole or not at all; how many bytes, `None` where it was there already.
    fn put(&self, from: &Shelf, key: Digest) -> Result<Option<u64>>;
    /// Remembers which node the result of `key` is of, where the store can.
    fn link(&self, pipeline: &str, node: &str, key: Digest) -> Result<()>;
    /// Copies the file at `name`, relative to the store and with `/`, to `target`.
    fn fetch(&self, name: &str, target: &Path) -> Result<()>;
    /// What `name` is called in messages.
    fn called(&self, name: &str) -> String;
}

/// The store that `name` says: a folder, or `s3://BUCKET/PREFIX`.
///
/// # Errors
/// A kind of store that is not known, or not in this build; a bucket that does not answer.
pub fn open(name: &str) -> Result<Box<dyn Remote>> {
    match name.split_once("://") {
        None => Ok(Box::new(folder::Folder(Shelf { root: name.into() }))),
        #[cfg(feature = "bucket")]
        Some(("s3", place)) => Ok(Box::new(bucket::Bucket::open(place)?)),
        #[cfg(not(feature = "bucket"))]
        Some(("s3", _)) => Err(Wrong::one(format!(
            "{name}: this `rote` was built without buckets; `cargo build --features rote/bucket` builds it with them"
        ))),
        Some((kind, _)) => {
            Err(Wrong::one(format!("{name}: `{kind}` is no kind of store; a folder or s3://BUCKET/PREFIX")))
        }
    }
}

/// What was moved: a line each, and one over all.
pub struct Moved {
    /// Per node.
    pub lines: Vec<String>,
    /// Over all.
    pub summary: String,
}

/// Copies the results of `goals` and all they need to `remote`.
///
/// # Errors
/// A node that is not up to date, or a result that is not what was written.
pub fn push(scene: &Scene, goals: &[usize], remote: &dyn Remote, memory: &mut Memory) -> Result<Moved> {
    travel(scene, goals, memory, |node, verdict| match verdict {
        Verdict::Fresh(_, known) => {
            let bytes = remote.put(scene.shelf, known.key)?;
            remote.link(&scene.pipeline.name, node, known.key)?;
            Ok(Some((known.clone(), bytes)))
        }
        _ => Err(Wrong::one("not up to date; `rote run` first")),
    })
}

/// Copies from `remote` what of `goals` and all they need is there and not here.
///
/// # Errors
/// A result whose bytes are not those it was written with.
pub fn pull(scene: &Scene, goals: &[usize], remote: &dyn Remote, memory: &mut Memory) -> Result<Moved> {
    remote.is_there()?;
    let _store = scene.shelf.enter()?;
    Name::of_pipeline(scene.shelf, scene.pipeline)?.take()?;
    travel(scene, goals, memory, |_, verdict| match verdict {
        Verdict::Fresh(_, known) => Ok(Some((known.clone(), None))),
        Verdict::Waits(..) => Ok(None),
        Verdict::Runs(key, _) => {
            let key = key.digest();
            if !remote.has(key)? {
                return Ok(None);
            }
            let bytes = take(remote, scene.shelf, key)?;
            let place = scene.shelf.place(key);
            let content = Manifest::read(&place)?.content_id;
            Ok(Some((Known { key, content, place }, bytes)))
        }
    })
}

/// Goes through the nodes in order; `each` tells the result of one, and how many bytes were copied for it, if any.
fn travel(
    scene: &Scene,
    goals: &[usize],
    memory: &mut Memory,
    each: impl Fn(&str, &Verdict) -> Result<Option<(Known, Option<u64>)>>,
) -> Result<Moved> {
    let wanted = scene.wanted(goals);
    let mut known: Vec<Option<Known>> = vec![None; scene.pipeline.nodes.len()];
    let (mut lines, mut copied, mut there, mut bytes) = (Vec::new(), 0, 0, 0);
    for &index in scene.pipeline.order.iter().filter(|index| wanted[**index]) {
        let name = &scene.pipeline.nodes[index].name;
        let verdict = scene.verdict(index, &known, memory)?;
        let Some((result, size)) = each(name, &verdict).with_context(|| name.clone())? else { continue };
        there += 1;
        if let Some(size) = size {
            (copied, bytes) = (copied + 1, bytes + size);
            lines.push(format!("{name}: {:.1} MB, content {}", size as f64 / 1e6, result.content.short()));
        }
        if matches!(verdict, Verdict::Runs(..)) {
            scene.shelf.link(&scene.pipeline.name, name, result.key)?;
        }
        known[index] = Some(result);
    }
    let all = wanted.iter().filter(|wanted| **wanted).count();
    let summary =
        format!("{copied} results copied, {:.1} MB; {there} of {all} are there", bytes as f64 / 1e6);
    Ok(Moved { lines, summary })
}

/// Where the result of `key` stands in every store, relative to it.
fn place(key: Digest) -> String {
    let name = key.to_string();
    format!("{}/{name}", &name[..2])
}

/// Copies the result of `key` from `remote` to a store of ours, with its key and seal; `None` where it is there already.
fn take(remote: &dyn Remote, to: &Shelf, key: Digest) -> Result<Option<u64>> {
    // What nobody has sealed may be another's.
    if matches!(to.find(key), Found::Whole(_)) && to.is_sealed(key) {
        return Ok(None);
    }
    let target = to.place(key);
    let about = || format!("copying {} to {}", remote.called(&place(key)), target.display());
    let claim = match to.claim(key)? {
        Attempt::Held(claim) => claim,
        Attempt::Busy(maker) => {
            bail!("{} is being made ({maker}); try again when it is done", target.display())
        }
    };
    let aside = target.with_extension("partial");
    let arrived = arrive(remote, key, &aside).and_then(|arrival| {
        to.remove(key)?;
        fs::rename(&aside, &target).with_context(about)?;
        atomic_write(&to.beside(key, "key"), &arrival.key)?;
        to.seal(key)?;
        Ok(arrival.bytes)
    });
    if arrived.is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    claim.remove();
    arrived.map(Some)
}

/// What arrived with a result.
struct Arrival {
    /// Bytes of its files.
    bytes: u64,
    /// Its key, as JSON.
    key: Vec<u8>,
}

/// Copies a result into `aside` and compares it with manifest, seal and key.
fn arrive(remote: &dyn Remote, key: Digest, aside: &Path) -> Result<Arrival> {
    let source = place(key);
    let called = remote.called(&source);
    let _ = fs::remove_dir_all(aside);
    make_folder(aside)?;
    for name in [Manifest::FILE, Manifest::RUN_FILE] {
        remote.fetch(&format!("{source}/{name}"), &aside.join(name))?;
    }
    let manifest = Manifest::read(aside).with_context(|| called.clone())?;
    let is_whole = Manifest::content_of(&manifest.files, &manifest.tables) == manifest.content_id;
    ensure!(is_whole, "{called}: its content id is not that of its files");
    let mut bytes = 0;
    for file in &manifest.files {
        // The manifest may be a stranger's: no file of it lands outside of its folder.
        let mut parts = Path::new(&file.path).components();
        let is_inside = parts.all(|part| matches!(part, Component::Normal(_)));
        ensure!(is_inside, "{called}: `{}` leads out of the artifact", file.path);
        let target = aside.join(&file.path);
        make_folder(target.parent().unwrap_or(aside))?;
        let name = format!("{source}/{}", file.path);
        remote.fetch(&name, &target)?;
        is_as_written(&target, &remote.called(&name), file.blake3)?;
        bytes += file.bytes;
    }
    let beside = |ending: &str| {
        let target = aside.with_extension(format!("{ending}.partial"));
        remote.fetch(&format!("{source}.{ending}"), &target)?;
        let read = fs::read(&target).with_context(|| format!("reading {}", target.display()))?;
        fs::remove_file(&target).with_context(|| format!("removing {}", target.display()))?;
        Ok::<_, anyhow::Error>(read)
    };
    ensure!(
        seal_text(aside, &key.to_string())?.as_bytes() == beside("seal")?,
        "{called}: differs from its seal"
    );
    let text = beside("key")?;
    ensure!(Digest::of(&text) == key, "{called}.key is not the key it is named after");
    let asked: Key = serde_json::from_slice(&text).with_context(|| format!("{called}.key"))?;
    ensure!(is_of(&manifest, &asked), "{called}: is not what its key asks for");
    sync_folder(aside)?;
    Ok(Arrival { bytes, key: text })
}

/// Whether the file at `path`, called `name`, has the digest it was written with.
fn is_as_written(path: &Path, name: &str, written: Digest) -> Result<()> {
    let is = digest_file(path)?;
    ensure!(is == written, "{name}: is {}, was written as {}", is.short(), written.short());
    Ok(())
}
