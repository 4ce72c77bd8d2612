//! `verify`: reads every byte of the store again, trusts no time and no memory, walks every lineage to its
//! sources.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rayon::prelude::*;
use rote_store::{Digest, Manifest, Output, digest_file, digest_path, read_checked};

use crate::names;
use crate::shelf::{Link, Seal, Shelf, entries, is_part, seal_at};
use crate::trust::is_made_of;

/// What was found.
pub struct Verdict {
    /// What is wrong: a file and why, then who used it.
    pub faults: Vec<String>,
    /// What is worth knowing but no damage.
    pub notes: Vec<String>,
    /// One line.
    pub summary: String,
}

/// What was found of a result, of a part of one, or of an artifact outside of the store.
struct Checked {
    place: PathBuf,
    manifest: Option<Manifest>,
    faults: Vec<String>,
    notes: Vec<String>,
    bytes: u64,
    /// Inputs as paths, by flag, from `run.json`.
    paths: BTreeMap<String, Vec<PathBuf>>,
}

/// What stands at a path outside of the store that something was made from.
struct Source {
    content: Option<Digest>,
    /// Where it is an artifact: what is wrong with it.
    faults: Vec<String>,
}

/// Verifies the whole store.
pub fn verify(shelf: &Shelf) -> Result<Verdict> {
    let keys = shelf.keys()?;
    let checked: Vec<(Digest, Checked)> =
        keys.into_par_iter().map(|key| (key, check_result(shelf, key, shelf.place(key)))).collect();
    let parts: Vec<(Digest, Checked)> =
        shelf.parts()?.into_par_iter().map(|(key, place)| (key, check_result(shelf, key, place))).collect();
    // A run that is under way may have joined some meanwhile.
    let parts: Vec<_> = parts.into_iter().filter(|(_, part)| part.place.exists()).collect();
    let names = names(shelf)?;
    let called =
        |key: &Digest| names.get(key).cloned().unwrap_or_else(|| shelf.place(*key).display().to_string());
    let mut contents = Contents::new();
    for (key, artifact) in &checked {
        if let Some(manifest) = &artifact.manifest {
            contents.entry((manifest.content_id, &manifest.stage.name)).or_default().push(*key);
        }
    }
    let parents: HashMap<Digest, BTreeSet<Digest>> =
        checked.iter().map(|(key, artifact)| (*key, parents(shelf, artifact, &contents))).collect();
    let sources = sources(shelf, &checked);

    let (mut faults, mut notes) = (own_files(shelf), Vec::new());
    faults.extend(lost(shelf)?);
    for (key, artifact) in &checked {
        let mut own = artifact.faults.clone();
        check_inputs(artifact, &sources, &contents, called(key), &mut own, &mut notes);
        notes.extend(artifact.notes.iter().cloned());
        if own.is_empty() {
            continue;
        }
        let mut consumers: Vec<_> = consumers(*key, &parents).iter().map(called).collect();
        consumers.sort();
        let used = if consumers.is_empty() { "nothing".to_string() } else { consumers.join(", ") };
        faults.extend(
            own.into_iter().map(|fault| format!("{fault}\n  made for {}; used by {used}", called(key))),
        );
    }
    for (key, part) in &parts {
        notes.extend(part.notes.iter().cloned());
        let made =
            |fault: &String| format!("{fault}\n  a part, made for {}; used by nothing yet", called(key));
        faults.extend(part.faults.iter().map(made));
    }
    notes.extend(leftovers(shelf)?);
    let bytes: u64 = checked.iter().chain(&parts).map(|(_, artifact)| artifact.bytes).sum();
    let summary = format!(
        "{} artifacts, {:.1} MB read, {} sources, {} damaged",
        checked.len(),
        bytes as f64 / 1e6,
        sources.len(),
        faults.len()
    );
    Ok(Verdict { faults, notes, summary })
}

/// Whether everything that a result, `called` so, was made of is still there as it was.
fn check_inputs(
    artifact: &Checked,
    sources: &HashMap<PathBuf, Source>,
    contents: &Contents,
    called: String,
    faults: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let at = artifact.place.display();
    let inputs = artifact.manifest.iter().flat_map(|manifest| &manifest.inputs);
    let inputs = inputs.flat_map(|(flag, inputs)| inputs.iter().enumerate().map(move |it| (flag, it)));
    for (flag, (position, input)) in inputs {
        let path = artifact.paths.get(flag).and_then(|paths| paths.get(position));
        let place = path.map_or_else(|| input.content_id.short(), |path| path.display().to_string());
        let source = path.and_then(|path| sources.get(path));
        let damage = source.iter().flat_map(|source| &source.faults);
        faults.extend(damage.map(|fault| format!("{at}: its --{flag} is damaged: {fault}")));
        if source.is_some_and(|source| source.content == Some(input.content_id)) {
            continue;
        }
        match &input.stage {
            Some(stage) if contents.contains_key(&(input.content_id, stage)) => {}
            Some(stage) => faults.push(format!(
                "{at}: its --{flag} ({place}, content {}, from {stage}) is nowhere",
                input.content_id.short()
            )),
            None => notes.push(format!("{called}: its --{flag} {place} is gone or has changed since")),
        }
    }
}

/// What the runner itself remembers; it is made again where it is lost.
fn own_files(shelf: &Shelf) -> Vec<String> {
    let described = entries(&shelf.descriptions()).unwrap_or_default();
    let named = names::notes(shelf).unwrap_or_default();
    // What a killed run left is told with the rest of that.
    let own =
        described.into_iter().chain(named).filter(|path| path.extension().is_none()).chain([shelf.digests()]);
    let fault = |path: PathBuf| read_checked(&path).err();
    let told = |error| format!("{error:#}\n  nothing was made of it; the next run writes it again");
    own.filter_map(fault).map(told).collect()
}

/// Links to results that are gone.
fn lost(shelf: &Shelf) -> Result<Vec<String>> {
    let links = [shelf.links("view")?, shelf.links("tag")?].into_iter().flatten();
    let lost = links.filter(|link| link.key.is_none_or(|key| !shelf.place(key).exists()));
    let told = |link: Link| {
        let Link { of, node, path, .. } = link;
        format!("{}: its result is gone\n  made for {of}/{node}", path.display())
    };
    Ok(lost.map(told).collect())
}

/// A result of `key`, or a part of it, at `place`: everything that is in it and beside it.
fn check_result(shelf: &Shelf, key: Digest, place: PathBuf) -> Checked {
    let mut checked = check(place);
    let place = &checked.place;
    match shelf.key(key) {
        Ok(asked) => {
            let is_asked = |it: &Manifest| it.shard.is_some() == is_part(place) && is_made_of(it, &asked);
            if checked.manifest.as_ref().is_some_and(|manifest| !is_asked(manifest)) {
                checked.faults.push(format!("{}: is not what its key asks for", place.display()));
            }
        }
        Err(_) if !shelf.beside(key, "key").exists() => {
            checked.notes.push(format!("{}: made by hand, its key is not known", place.display()));
        }
        Err(error) => checked.faults.push(format!("{error:#}")),
    }
    match seal_at(place) {
        Ok(Seal::Whole) => {}
        Ok(Seal::Missing) => {
            checked.notes.push(format!("{}: not sealed yet, the next run does", place.display()));
        }
        Ok(Seal::Broken(fault)) => checked.faults.push(fault),
        Err(error) => checked.faults.push(format!("{error:#}")),
    }
    checked
}

/// Every byte of the artifact at `place` that its manifest knows, and whether that is all there is.
fn check(place: PathBuf) -> Checked {
    let paths = run_paths(&place);
    let mut checked =
        Checked { place, manifest: None, faults: Vec::new(), notes: Vec::new(), bytes: 0, paths };
    let place = &checked.place;
    let manifest = match Manifest::read(place) {
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
    known.extend([Manifest::FILE, Manifest::RUN_FILE, Output::LOCK].map(|name| place.join(name)));
    for path in below(place) {
        if !known.contains(&path) {
            checked.faults.push(format!("{}: no part of the artifact it lies in", path.display()));
        }
    }
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

/// Keys of results by content and by the stage that made it.
type Contents<'a> = HashMap<(Digest, &'a str), Vec<Digest>>;

/// Keys of the results an artifact was made from: by content, or by the place it read.
fn parents(shelf: &Shelf, artifact: &Checked, contents: &Contents) -> BTreeSet<Digest> {
    let inputs = artifact.manifest.iter().flat_map(|manifest| manifest.inputs.values().flatten());
    let makers = inputs.filter_map(|input| contents.get(&(input.content_id, input.stage.as_deref()?)));
    let mut parents: BTreeSet<_> = makers.flatten().copied().collect();
    for path in artifact.paths.values().flatten() {
        // Given by its readable link, a result is where that leads.
        let real = path.canonicalize();
        let key = |path: &Path| path.file_name()?.to_str()?.parse::<Digest>().ok();
        let key = key(path).or_else(|| key(real.as_ref().ok()?));
        parents.extend(key.filter(|key| shelf.place(*key).exists()));
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

/// What stands now at every path outside of the store that a result was made from. An artifact's own word is not taken
/// for what it holds.
fn sources(shelf: &Shelf, checked: &[(Digest, Checked)]) -> HashMap<PathBuf, Source> {
    let paths: BTreeSet<&PathBuf> = checked
        .iter()
        .flat_map(|(_, artifact)| artifact.paths.values().flatten())
        .filter(|path| !path.starts_with(&shelf.root))
        .collect();
    let source = |path: &PathBuf| {
        let is_artifact = path.join(Manifest::FILE).is_file();
        if is_artifact {
            let Checked { manifest, faults, .. } = check(path.clone());
            return Source { content: manifest.map(|manifest| manifest.content_id), faults };
        }
        Source { content: digest_path(path).ok(), faults: Vec::new() }
    };
    paths.into_par_iter().map(|path| (path.clone(), source(path))).collect()
}

/// `pipeline/node` by key, from the readable links.
fn names(shelf: &Shelf) -> Result<HashMap<Digest, String>> {
    let mut names = HashMap::new();
    for link in [shelf.links("view")?, shelf.links("begun")?].into_iter().flatten() {
        if let Some(key) = link.key {
            let name: &mut String = names.entry(key).or_default();
            *name += &format!("{}{}/{}", if name.is_empty() { "" } else { " = " }, link.of, link.node);
        }
    }
    Ok(names)
}

/// What killed runs left; nobody reads it.
fn leftovers(shelf: &Shelf) -> Result<Vec<String>> {
    let left = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "partial" || ending == "old");
    let left = shelf.beside_results()?.into_iter().filter(left);
    Ok(left.map(|path| format!("{}: left by a killed run, used by nothing", path.display())).collect())
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
