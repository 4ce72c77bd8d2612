//! `push` and `pull`: results to and from a store that others share, a folder laid out as our own. Every byte is hashed
//! on arrival; a result is there whole or not at all.

use std::fs;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use rote_store::{Attempt, Digest, Manifest, Memory, atomic_write, digest_file, sync_folder};

use crate::failure::Wrong;
use crate::plan::{Known, Scene, Verdict};
use crate::shelf::{Found, Shelf, make_folder, seal_at};

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
pub fn push(scene: &Scene, goals: &[usize], remote: &Shelf, memory: &mut Memory) -> Result<Moved> {
    travel(scene, goals, memory, |verdict| match verdict {
        Verdict::Fresh(_, known) => Ok(Some((known.clone(), copy(scene.shelf, remote, known.key)?))),
        _ => Err(Wrong::one("not up to date; `rote run` first")),
    })
}

/// Copies from `remote` what of `goals` and all they need is there and not here.
///
/// # Errors
/// A result whose bytes are not those it was written with.
pub fn pull(scene: &Scene, goals: &[usize], remote: &Shelf, memory: &mut Memory) -> Result<Moved> {
    ensure!(remote.root.is_dir(), "{}: no such store", remote.root.display());
    travel(scene, goals, memory, |verdict| match verdict {
        Verdict::Fresh(_, known) => Ok(Some((known.clone(), None))),
        Verdict::Waits(..) => Ok(None),
        Verdict::Runs(key, _) => {
            let key = key.digest();
            if matches!(remote.find(key), Found::Absent) {
                return Ok(None);
            }
            let bytes = copy(remote, scene.shelf, key)?;
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
    each: impl Fn(&Verdict) -> Result<Option<(Known, Option<u64>)>>,
) -> Result<Moved> {
    let wanted = scene.wanted(goals);
    let mut known: Vec<Option<Known>> = vec![None; scene.pipeline.nodes.len()];
    let (mut lines, mut copied, mut there, mut bytes) = (Vec::new(), 0, 0, 0);
    for &index in scene.pipeline.order.iter().filter(|index| wanted[**index]) {
        let name = &scene.pipeline.nodes[index].name;
        let verdict = scene.verdict(index, &known, memory)?;
        let Some((result, size)) = each(&verdict).with_context(|| name.clone())? else { continue };
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

/// Copies the result of `key` from one store to another, with its key and seal; `None` where it is there already.
fn copy(from: &Shelf, to: &Shelf, key: Digest) -> Result<Option<u64>> {
    if let Found::Whole(_) = to.find(key) {
        return Ok(None);
    }
    let (source, place) = (from.place(key), to.place(key));
    let about = || format!("copying {} to {}", source.display(), place.display());
    let Attempt::Held(claim) = to.claim(key)? else {
        bail!("{} is being made by another process; try again when it is done", place.display())
    };
    let aside = place.with_extension("partial");
    let arrived = arrive(from, key, &aside).and_then(|bytes| {
        to.remove(key)?;
        fs::rename(&aside, &place).with_context(about)?;
        atomic_write(&to.beside(key, "key"), &fs::read(from.beside(key, "key"))?)?;
        to.seal(key)?;
        Ok(bytes)
    });
    if arrived.is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    claim.remove();
    arrived.map(Some)
}

/// Copies a result into `aside` and compares it with manifest, seal and key.
fn arrive(from: &Shelf, key: Digest, aside: &Path) -> Result<u64> {
    let source = from.place(key);
    let about = || format!("copying {}", source.display());
    let manifest = Manifest::read(&source)?;
    let is_whole = Manifest::content_of(&manifest.files, &manifest.tables) == manifest.content_id;
    ensure!(is_whole, "{}: its content id is not that of its files", source.display());
    let _ = fs::remove_dir_all(aside);
    make_folder(aside)?;
    let mut bytes = 0;
    for file in &manifest.files {
        // The manifest may be a stranger's: no file of it lands outside of its folder.
        let mut parts = Path::new(&file.path).components();
        let is_inside = parts.all(|part| matches!(part, Component::Normal(_)));
        ensure!(is_inside, "{}: `{}` leads out of the artifact", source.display(), file.path);
        let target = aside.join(&file.path);
        make_folder(target.parent().unwrap_or(aside))?;
        bytes += fs::copy(source.join(&file.path), &target).with_context(about)?;
        let arrived = digest_file(&target)?;
        ensure!(
            arrived == file.blake3,
            "{}: is {}, was written as {}",
            source.join(&file.path).display(),
            arrived.short(),
            file.blake3.short()
        );
    }
    for name in [Manifest::FILE, Manifest::RUN_FILE] {
        fs::copy(source.join(name), aside.join(name)).with_context(about)?;
    }
    let said = fs::read_to_string(from.beside(key, "seal")).with_context(about)?;
    ensure!(seal_at(aside, key)? == said, "{}: differs from its seal", source.display());
    from.key(key)?;
    sync_folder(aside)?;
    Ok(bytes)
}
