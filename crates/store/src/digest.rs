//! `Digest`: BLAKE3 of bytes, of a file, of a folder, of an artifact.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::Manifest;

/// A BLAKE3 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// Of a list of named digests: the content of something made of parts. Names and order count.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = (&'a str, Digest)>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (name, digest) in parts {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&digest.0);
        }
        Digest(*hasher.finalize().as_bytes())
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let hash = blake3::Hash::from_hex(text).with_context(|| format!("`{text}` is no BLAKE3 digest"))?;
        Ok(Digest(*hash.as_bytes()))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An artifact that is not what was written: which file, and what to do.
#[derive(Debug)]
pub struct Damaged(String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// Of a file's bytes.
pub fn digest_file(path: &Path) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Of whatever stands at `path`: an artifact's content id, a file's bytes, or a folder's files by relative
/// name (hidden files left out, links followed).
///
/// # Errors
/// Something can't be read; [`Damaged`] where a file of an artifact is not what was written, or no part of it.
pub fn digest_path(path: &Path) -> Result<Digest> {
    digest_with(path, &mut digest_file)
}

/// [`digest_path`], with another way to a file's digest.
pub(crate) fn digest_with(
    path: &Path,
    digest_file: &mut dyn FnMut(&Path) -> Result<Digest>,
) -> Result<Digest> {
    let kind = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    if kind.is_file() {
        return digest_file(path);
    }
    ensure!(kind.is_dir(), "{} is neither a file nor a folder", path.display());
    if path.join(Manifest::FILE).is_file() {
        return as_written(path, digest_file);
    }
    let files = names_below(path)?;
    let digests = files
        .into_iter()
        .map(|name| Ok((name.clone(), digest_file(&path.join(&name))?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(Digest::of_parts(digests.iter().map(|(name, digest)| (name.as_str(), *digest))))
}

/// The content id of the artifact at `place`, if it still holds that: people edit files, and a folder with a model may
/// be an artifact.
fn as_written(place: &Path, digest_file: &mut dyn FnMut(&Path) -> Result<Digest>) -> Result<Digest> {
    let Manifest { content_id, files, tables, stage, .. } = Manifest::read(place)?;
    let damaged = |name: &str, step: &str| {
        Damaged(format!(
            "{}: not what rote-{} wrote; {step}, or, if it is meant, take artifact.json and run.json out of its folder: \
             that counts by its files then",
            place.join(name).display(),
            stage.name
        ))
    };
    let again = "make it again";
    let is_its_own = Manifest::content_of(&files, &tables) == content_id;
    ensure!(is_its_own, damaged(Manifest::FILE, again));
    for file in &files {
        ensure!(digest_file(&place.join(&file.path))? == file.blake3, damaged(&file.path, again));
    }
    // A file of a kind that the artifact is made of would be read with the rest.
    let kind = |name: &str| Path::new(name).extension().map(|kind| kind.to_ascii_lowercase());
    let is_known = |name: &String| {
        [Manifest::FILE, Manifest::RUN_FILE].contains(&name.as_str())
            || files.iter().any(|file| file.path == *name)
    };
    let is_read = |name: &String| files.iter().any(|file| kind(&file.path) == kind(name));
    if let Some(more) = names_below(place)?.iter().find(|name| !is_known(name) && is_read(name)) {
        bail!(damaged(more, "take it elsewhere"));
    }
    Ok(content_id)
}

/// The files whose content counts at `path`: itself, or those of a folder, sorted, hidden ones left out.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    Ok(names_below(path)?.iter().map(|name| path.join(name)).collect())
}

fn names_below(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    walk(folder, folder, 0, &mut files)?;
    ensure!(!files.is_empty(), "folder {} is empty", folder.display());
    files.sort();
    Ok(files)
}

fn walk(root: &Path, folder: &Path, depth: usize, files: &mut Vec<String>) -> Result<()> {
    // Links are followed (the hub's cache is made of them), so a loop of links must end somewhere.
    if depth > 16 {
        bail!("folders below {} are nested too deeply", root.display());
    }
    let reading = || format!("reading folder {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path: PathBuf = entry.with_context(reading)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, depth + 1, files)?;
        } else {
            let relative = path.strip_prefix(root).expect("below root").to_string_lossy().into_owned();
            files.push(relative);
        }
    }
    Ok(())
}
