//! `verify`: reads every byte of the store again, trusts no time and no memory, walks every lineage to its
//! sources.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rayon::prelude::*;
use rote_store::{Digest, Manifest, digest_file, digest_path};

use crate::shelf::{Shelf, entries};

/// What was found.
pub struct Verdict {
    /// What is wrong: a file and why, then who used it.
    pub faults: Vec<String>,
    /// What is worth knowing but no damage.
    pub notes: Vec<String>,
    /// One line.
    pub summary: String,
}

struct Checked {
    key: Digest,
    manifest: Option<Manifest>,
    faults: Vec<String>,
    notes: Vec<String>,
    bytes: u64,
    /// Inputs as paths, by flag, from `run.json`.
    paths: BTreeMap<String, Vec<PathBuf>>,
}

/// Verifies the whole store.
pub fn verify(shelf: &Shelf) -> Result<Verdict> {
    let keys = shelf.keys()?;
    let checked: Vec<Checked> = keys.par_iter().map(|key| check(shelf, *key)).collect();
    let names = names(shelf)?;
    let called =
        |key: &Digest| names.get(key).cloned().unwrap_or_else(|| shelf.place(*key).display().to_string());
    let mut contents: HashMap<Digest, Vec<Digest>> = HashMap::new();
    for artifact in &checked {
        if let Some(manifest) = &artifact.manifest {
            contents.entry(manifest.content_id).or_default().push(artifact.key);
        }
    }
    let parents: HashMap<Digest, BTreeSet<Digest>> =
        checked.iter().map(|artifact| (artifact.key, parents(shelf, artifact, &contents))).collect();
    let sources = sources(shelf, &checked);

    let mut faults = Vec::new();
    let mut notes = Vec::new();
    for artifact in &checked {
        let mut own = artifact.faults.clone();
        let inputs = artifact.manifest.iter().flat_map(|manifest| &manifest.inputs);
        for (flag, inputs) in inputs {
            let paths = artifact.paths.get(flag).map_or(&[][..], Vec::as_slice);
            for (position, input) in inputs.iter().enumerate() {
                let path = paths.get(position);
                let place = path.map_or_else(|| input.content_id.short(), |path| path.display().to_string());
                let found = path.and_then(|path| sources.get(path)) == Some(&Some(input.content_id));
                match &input.stage {
                    Some(stage) if !found && !contents.contains_key(&input.content_id) => own.push(format!(
                        "{}: its --{flag} ({place}, content {}, from {stage}) is nowhere",
                        shelf.place(artifact.key).display(),
                        input.content_id.short()
                    )),
                    None if !found => notes.push(format!(
                        "{}: its --{flag} {place} is gone or has changed since",
                        called(&artifact.key)
                    )),
                    _ => {}
                }
            }
        }
        notes.extend(artifact.notes.iter().cloned());
        if own.is_empty() {
            continue;
        }
        let consumers: Vec<_> = consumers(artifact.key, &parents).iter().map(called).collect();
        let used = if consumers.is_empty() { "nothing".to_string() } else { consumers.join(", ") };
        faults.extend(
            own.into_iter()
                .map(|fault| format!("{fault}\n  made for {}; used by {used}", called(&artifact.key))),
        );
    }
    notes.extend(leftovers(shelf)?);
    let bytes: u64 = checked.iter().map(|artifact| artifact.bytes).sum();
    let summary = format!(
        "{} artifacts, {:.1} MB read, {} sources, {} damaged",
        checked.len(),
        bytes as f64 / 1e6,
        sources.len(),
        faults.len()
    );
    Ok(Verdict { faults, notes, summary })
}

fn check(shelf: &Shelf, key: Digest) -> Checked {
    let place = shelf.place(key);
    let mut checked = Checked {
        key,
        manifest: None,
        faults: Vec::new(),
        notes: Vec::new(),
        bytes: 0,
        paths: BTreeMap::new(),
    };
    match shelf.key(key) {
        Ok(_) => {}
        Err(_) if !shelf.beside(key, "key").exists() => {
            checked.notes.push(format!("{}: made by hand, its key is not known", place.display()));
        }
        Err(error) => checked.faults.push(format!("{error:#}")),
    }
    let seal = shelf.beside(key, "seal");
    match (fs::read_to_string(&seal), shelf.seal_of(key)) {
        (_, Err(error)) => checked.faults.push(format!("{error:#}")),
        (Ok(said), Ok(is)) if said != is => {
            let differing = said.lines().zip(is.lines()).find(|(said, is)| said != is);
            let name = differing.and_then(|(_, is)| is.rsplit('/').next()).unwrap_or(Manifest::FILE);
            let path = place.join(name);
            checked.faults.push(format!("{}: differs from its seal {}", path.display(), seal.display()));
        }
        (Ok(_), Ok(_)) => {}
        (Err(_), Ok(_)) => {
            checked.notes.push(format!("{}: not sealed yet, the next run does", place.display()));
        }
    }
    let manifest = match Manifest::read(&place) {
        Ok(manifest) => manifest,
        Err(error) => {
            checked.faults.push(format!("{error:#}"));
            return checked;
        }
    };
    if Manifest::content_of(&manifest.files, &manifest.tables) != manifest.content_id {
        let path = place.join(Manifest::FILE);
        checked.faults.push(format!("{}: its content id is not that of its files", path.display()));
    }
    let files: Vec<_> = manifest
        .files
        .par_iter()
        .map(|file| {
            let path = place.join(&file.path);
            match digest_file(&path) {
                Err(error) => Err(format!("{error:#}")),
                Ok(digest) if digest != file.blake3 => Err(format!(
                    "{}: is {}, was written as {}",
                    path.display(),
                    digest.short(),
                    file.blake3.short()
                )),
                Ok(_) => Ok(file.bytes),
            }
        })
        .collect();
    for file in files {
        match file {
            Ok(bytes) => checked.bytes += bytes,
            Err(fault) => checked.faults.push(fault),
        }
    }
    let mut known: BTreeSet<PathBuf> = manifest.files.iter().map(|file| place.join(&file.path)).collect();
    known.extend([place.join(Manifest::FILE), place.join(Manifest::RUN_FILE)]);
    for path in below(&place) {
        if !known.contains(&path) {
            checked.faults.push(format!("{}: no part of the artifact it lies in", path.display()));
        }
    }
    checked.paths = run_paths(&place);
    checked.manifest = Some(manifest);
    checked
}

fn run_paths(place: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    #[derive(serde::Deserialize, Default)]
    struct Run {
        #[serde(default)]
        inputs: BTreeMap<String, Vec<PathBuf>>,
    }
    let run = fs::read(place.join(Manifest::RUN_FILE)).unwrap_or_default();
    serde_json::from_slice::<Run>(&run).unwrap_or_default().inputs
}

/// Keys of the artifacts an artifact was made from: by content, or by the place it read.
fn parents(shelf: &Shelf, artifact: &Checked, contents: &HashMap<Digest, Vec<Digest>>) -> BTreeSet<Digest> {
    let inputs = artifact.manifest.iter().flat_map(|manifest| manifest.inputs.values().flatten());
    let mut parents: BTreeSet<_> =
        inputs.filter_map(|input| contents.get(&input.content_id)).flatten().copied().collect();
    for path in artifact.paths.values().flatten() {
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Digest>().ok());
        parents.extend(name.filter(|key| shelf.place(*key).exists()));
    }
    parents
}

/// Everything made from `key`, however indirectly.
fn consumers(key: Digest, parents: &HashMap<Digest, BTreeSet<Digest>>) -> BTreeSet<Digest> {
    let mut found = BTreeSet::new();
    let mut open = vec![key];
    while let Some(parent) = open.pop() {
        for (child, of) in parents {
            if of.contains(&parent) && found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found
}

/// What stands now at every path outside of the store that an artifact was made from.
fn sources(shelf: &Shelf, checked: &[Checked]) -> HashMap<PathBuf, Option<Digest>> {
    let paths: BTreeSet<&PathBuf> = checked
        .iter()
        .flat_map(|artifact| artifact.paths.values().flatten())
        .filter(|path| !path.starts_with(&shelf.root))
        .collect();
    paths.into_par_iter().map(|path| (path.clone(), digest_path(path).ok())).collect()
}

/// `pipeline/node` by key, from the readable links.
fn names(shelf: &Shelf) -> Result<HashMap<Digest, String>> {
    let mut names = HashMap::new();
    for link in shelf.links("view")? {
        if let Some(key) = link.key {
            let name: &mut String = names.entry(key).or_default();
            *name += &format!("{}{}/{}", if name.is_empty() { "" } else { " = " }, link.of, link.node);
        }
    }
    Ok(names)
}

/// What killed runs left; nobody reads it.
fn leftovers(shelf: &Shelf) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for folder in entries(&shelf.root)? {
        if folder.file_name().is_some_and(|name| name.len() == 2) && folder.is_dir() {
            for path in entries(&folder)? {
                if path.extension().is_some_and(|ending| ending == "partial" || ending == "old") {
                    notes.push(format!("{}: left by a killed run, used by nothing", path.display()));
                }
            }
        }
    }
    Ok(notes)
}

/// Every file below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for path in entries(&folder).unwrap_or_default() {
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files
}
