//! `adopt`: after an edit of a stage known to be cosmetic, its present results are taken over under the new key; that
//! this was done, and from where, is written beside each.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rote_store::{Attempt, Digest, Key, Manifest, Memory, atomic_write, sync_folder};
use serde_json::{Value, json};

use crate::names::Name;
use crate::plan::{Known, Scene, Verdict};
use crate::shelf::{Found, Shelf, make_folder};
use crate::trust::find;

/// Takes over what can be, of `goals` and all they need; a line each, and whether all went well.
pub fn adopt(scene: &Scene, goals: &[usize], memory: &mut Memory) -> Result<(Vec<String>, bool)> {
    let _store = scene.shelf.enter()?;
    Name::of_pipeline(scene.shelf, scene.pipeline)?.take()?;
    let wanted = scene.wanted(goals);
    let mut known: Vec<Option<Known>> = vec![None; scene.pipeline.nodes.len()];
    let (mut lines, mut all) = (Vec::new(), true);
    for &index in scene.pipeline.order.iter().filter(|index| wanted[**index]) {
        let node = &scene.pipeline.nodes[index];
        let line = match scene.verdict(index, &known, memory)? {
            Verdict::Fresh(_, result) => {
                known[index] = Some(result);
                continue;
            }
            Verdict::Waits(on, _) => format!("not adopted: needs {}", on.join(", ")),
            Verdict::Runs(key, reasons) => match candidate(scene, index, &key) {
                Some((last, manifest)) => {
                    take_over(scene.shelf, &last, &key)?;
                    let place = scene.shelf.place(key.digest());
                    known[index] = Some(Known { key: key.digest(), content: manifest.content_id, place });
                    scene.shelf.link(&scene.pipeline.name, &node.name, key.digest())?;
                    lines.push(format!(
                        "{}: adopted, code {} → {}",
                        node.name,
                        last.code.short(),
                        key.code.short()
                    ));
                    continue;
                }
                None => format!("not adopted: {}", reasons.join("; ")),
            },
        };
        all = false;
        lines.push(format!("{}: {line}", node.name));
    }
    Ok((lines, all))
}

/// The last result of a node, if nothing but its executable differs and it is there.
fn candidate(scene: &Scene, index: usize, key: &Key) -> Option<(Key, Box<Manifest>)> {
    let last = scene.last_key(&scene.pipeline.nodes[index])?;
    let changes = key.changes_since(&last);
    let only_code = !changes.is_empty() && changes.iter().all(|change| change.what == "code");
    match find(scene.shelf, &last) {
        Found::Whole(manifest) if only_code => Some((last, manifest)),
        _ => None,
    }
}

/// Puts the result of `from` at `to` as well, whole or not at all. The files are shared: neither is ever written again.
fn take_over(shelf: &Shelf, from: &Key, to: &Key) -> Result<()> {
    let (old, new) = (from.digest(), to.digest());
    let (source, place) = (shelf.place(old), shelf.place(new));
    let about = || format!("adopting {}", source.display());
    let claim = match shelf.claim(new)? {
        Attempt::Held(claim) => claim,
        Attempt::Busy(maker) => bail!("{} is being made ({maker}); adopt when it is done", place.display()),
    };
    shelf.record(to)?;
    let aside = place.with_extension("partial");
    let _ = fs::remove_dir_all(&aside);
    let manifest = Manifest::read(&source)?;
    for name in manifest.files.iter().map(|file| file.path.as_str()).chain([Manifest::FILE]) {
        let target = aside.join(name);
        make_folder(target.parent().unwrap_or(&aside))?;
        fs::hard_link(source.join(name), &target)
            .or_else(|_| fs::copy(source.join(name), &target).map(|_| ()))
            .with_context(about)?;
    }
    let run = fs::read(source.join(Manifest::RUN_FILE)).with_context(about)?;
    let run = note(&run, old, to.code).with_context(about)?;
    atomic_write(&aside.join(Manifest::RUN_FILE), run.as_bytes())?;
    sync_folder(&aside)?;
    shelf.remove(new)?;
    fs::rename(&aside, &place).with_context(about)?;
    sync_folder(place.parent().unwrap_or(Path::new(".")))?;
    shelf.seal(new)?;
    claim.remove();
    Ok(())
}

/// The record of a run, with the note that its result was taken over: from which key, for which executable.
fn note(run: &[u8], from: Digest, code: Digest) -> Result<String> {
    let mut run: Value = serde_json::from_slice(run)?;
    let record = run.as_object_mut().context("run.json is no record")?;
    let earlier = record.entry("adopted").or_insert_with(|| json!([]));
    earlier.as_array_mut().context("`adopted` is no list")?.push(json!({ "from": from, "for": code }));
    Ok(serde_json::to_string_pretty(&run)? + "\n")
}
