//! `collect`: what no pipeline and no tag needs goes, and what killed runs left; what is being written stays, and so do
//! parts of a result that a pipeline has begun.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rote_store::{Attempt, Digest, Key, Lock, Manifest};

use crate::names;
use crate::shelf::{Shelf, entries, is_part, remove};

/// Something that can go.
struct Item {
    path: PathBuf,
    why: String,
    bytes: u64,
}

/// What was or would be removed.
pub struct Collected {
    /// A line each.
    pub lines: Vec<String>,
    /// One line over all.
    pub summary: String,
}

/// Which of the readable links count.
pub enum Needs {
    /// Those of every pipeline that was ever run here.
    Every,
    /// Those of these nodes, by pipeline; links of others go too.
    Only(HashMap<String, BTreeSet<String>>),
}

impl Needs {
    /// Whether a node of a pipeline counts.
    fn count(&self, pipeline: &str, node: &str) -> bool {
        match self {
            Needs::Only(nodes) => nodes.get(pipeline).is_some_and(|nodes| nodes.contains(node)),
            Needs::Every => true,
        }
    }
}

/// Finds what is not needed, the tags `dropped` not counted, and removes it where `delete` says so.
///
/// # Errors
/// A run is under way and something was to be removed.
pub fn collect(shelf: &Shelf, needs: &Needs, dropped: &[String], delete: bool) -> Result<Collected> {
    let _lock = if delete && shelf.root.is_dir() { Some(alone(shelf)?) } else { None };
    let mut items = Vec::new();
    let linked = links(shelf, &["tag", "view"], needs, dropped, &mut items)?;
    let begun = links(shelf, &["begun"], needs, dropped, &mut items)?;
    let lineage = Lineage::read(shelf)?;
    let begun: BTreeSet<_> = begun.into_iter().filter(|key| !lineage.manifests.contains_key(key)).collect();
    let inputs_of_begun =
        begun.iter().filter_map(|key| Some(lineage.inputs_of(&shelf.key(*key).ok()?))).flatten();
    let needed = lineage.closure(&linked.iter().copied().chain(inputs_of_begun).collect());
    for key in lineage.rest(&needed) {
        let place = shelf.place(key);
        let made = lineage.manifests.get(&key).map_or("damaged", |manifest| manifest.stage.name.as_str());
        items.push(Item { bytes: size(&place), path: place, why: format!("{made}, needed by nothing") });
    }
    leftovers(shelf, &|key| needed.contains(&key) || linked.contains(&key), &begun, &mut items)?;

    traces(shelf, needs, &mut items)?;

    let (mut lines, mut bytes) = (Vec::new(), 0);
    for item in &items {
        if delete {
            remove(&item.path)?;
        }
        bytes += item.bytes;
        lines.push(format!("{}  {:.1} MB  {}", item.path.display(), item.bytes as f64 / 1e6, item.why));
    }
    let done = if delete { "removed" } else { "to remove; `--delete` does" };
    let summary = format!(
        "{} results needed; {} things, {:.1} MB {done}",
        needed.len(),
        items.len(),
        bytes as f64 / 1e6
    );
    Ok(Collected { lines, summary })
}

/// Nobody makes anything while this is held.
fn alone(shelf: &Shelf) -> Result<Lock> {
    match Lock::attempt(&shelf.root.join("lock"))? {
        Attempt::Held(lock) => Ok(lock),
        Attempt::Busy(holder) => {
            bail!("a run is under way in {} ({holder}); collect when it is done", shelf.root.display())
        }
    }
}

/// Keys that links of these kinds point at; links that do not count are to go.
fn links(
    shelf: &Shelf,
    kinds: &[&str],
    needs: &Needs,
    dropped: &[String],
    items: &mut Vec<Item>,
) -> Result<BTreeSet<Digest>> {
    let mut keys = BTreeSet::new();
    for kind in kinds {
        for link in shelf.links(kind)? {
            let counts = match *kind {
                "tag" => !dropped.contains(&link.of),
                _ => needs.count(&link.of, &link.node),
            };
            match link.key {
                Some(key) if counts => {
                    keys.insert(key);
                }
                _ => {
                    let why = "link of no node that counts".to_string();
                    items.push(Item { path: link.path, why, bytes: 0 });
                }
            }
        }
    }
    Ok(keys)
}

/// Logs of nodes that do not count, and marks of other engines that they were made.
fn traces(shelf: &Shelf, needs: &Needs, items: &mut Vec<Item>) -> Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for kind in ["log", "made"] {
        for folder in entries(&shelf.root.join(kind))? {
            let of = name(&folder);
            // `score.log`; `score`, `score.1-of-4`.
            let counts = |path: &Path| needs.count(&of, name(path).split('.').next().unwrap_or_default());
            for path in entries(&folder)?.into_iter().filter(|path| !counts(path)) {
                items.push(Item { bytes: size(&path), path, why: format!("{kind} of no node that counts") });
            }
        }
    }
    Ok(())
}

/// What stands in a store and what it was made of.
struct Lineage {
    keys: Vec<Digest>,
    manifests: HashMap<Digest, Manifest>,
    contents: HashMap<Digest, Vec<Digest>>,
}

impl Lineage {
    fn read(shelf: &Shelf) -> Result<Lineage> {
        let keys: Vec<_> = shelf.keys()?.into_iter().filter(|key| shelf.place(*key).exists()).collect();
        let mut lineage = Lineage { keys, manifests: HashMap::new(), contents: HashMap::new() };
        for key in &lineage.keys {
            // A damaged result is no reason to keep or lose another; if it is linked, it stays for `verify` to tell.
            if let Ok(manifest) = Manifest::read(&shelf.place(*key)) {
                lineage.contents.entry(manifest.content_id).or_default().push(*key);
                lineage.manifests.insert(*key, manifest);
            }
        }
        Ok(lineage)
    }

    /// The results of `roots` and everything they were made of.
    fn closure(&self, roots: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        let mut needed: BTreeSet<Digest> =
            self.keys.iter().filter(|key| roots.contains(key)).copied().collect();
        let mut open: Vec<_> = needed.iter().copied().collect();
        while let Some(key) = open.pop() {
            let manifest = self.manifests.get(&key).into_iter();
            for input in manifest.flat_map(|manifest| manifest.inputs.values().flatten()) {
                // The same content may stand there more than once, as after a new build: one is enough, but it has
                // to be the same stage's.
                let Some(makers) = self.contents.get(&input.content_id) else { continue };
                let alike: Vec<_> = makers
                    .iter()
                    .filter(|key| Some(&self.manifests[*key].stage.name) == input.stage.as_ref())
                    .collect();
                if let [first, ..] = alike[..]
                    && !alike.iter().any(|key| needed.contains(key))
                {
                    needed.insert(*first);
                    open.push(*first);
                }
            }
        }
        needed
    }

    /// Results that a result of `key` is made of, as far as they are here.
    fn inputs_of(&self, key: &Key) -> Vec<Digest> {
        let contents = key.inputs.values().flatten().filter_map(|input| self.contents.get(&input.content));
        contents.filter_map(|makers| makers.first().copied()).collect()
    }

    /// Results that are not `needed`, consumers before what they were made of: a kill between two leaves nothing whose
    /// inputs are gone.
    fn rest(&self, needed: &BTreeSet<Digest>) -> Vec<Digest> {
        let mut rest: Vec<_> = self.keys.iter().filter(|key| !needed.contains(key)).copied().collect();
        rest.sort_by_cached_key(|key| std::cmp::Reverse(self.closure(&BTreeSet::from([*key])).len()));
        rest
    }
}

/// What killed runs left, and files beside results that are gone; parts of what was `begun` stay.
fn leftovers(
    shelf: &Shelf,
    keep: &dyn Fn(Digest) -> bool,
    begun: &BTreeSet<Digest>,
    items: &mut Vec<Item>,
) -> Result<()> {
    let ending = |path: &Path, wanted: &[&str]| {
        path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| wanted.contains(&ending))
    };
    let key_of = |path: &Path| path.file_stem()?.to_str()?.parse::<Digest>().ok();
    let mut folders = vec![shelf.root.clone(), shelf.descriptions()];
    for kind in ["view", "begun", "tag"] {
        folders.extend(entries(&shelf.root.join(kind))?);
    }
    let elsewhere = folders.iter().map(|folder| entries(folder)).collect::<Result<Vec<_>>>()?.concat();
    for path in shelf.beside_results()?.into_iter().chain(elsewhere).chain(names::notes(shelf)?) {
        let why = if ending(&path, &["partial", "old"]) || is_part(&path) {
            let is_needed = is_part(&path) && key_of(&path).is_some_and(|key| begun.contains(&key));
            if is_needed || is_held(&path) {
                continue;
            }
            "left by a killed run"
        } else if ending(&path, &["seal"]) && is_part(&path.with_extension("")) {
            if path.with_extension("").exists() {
                continue;
            }
            "beside a part that is gone"
        } else if ending(&path, &["key", "seal", "lock"]) {
            let lock = ending(&path, &["lock"]);
            let needed = |key| !lock && (keep(key) || begun.contains(&key));
            if key_of(&path).is_none_or(needed) || is_held(&path.with_extension("lock")) {
                continue;
            }
            "beside a result that is not needed"
        } else {
            continue;
        };
        items.push(Item { bytes: size(&path), path, why: why.to_string() });
    }
    Ok(())
}

/// Whether somebody is writing it.
fn is_held(path: &Path) -> bool {
    let lock = if path.is_dir() { path.join(".lock") } else { path.to_path_buf() };
    Lock::is_held(&lock)
}

fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => entries(path).unwrap_or_default().iter().map(|path| size(path)).sum(),
        Ok(found) => found.len(),
        Err(_) => 0,
    }
}
