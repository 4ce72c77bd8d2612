//! Whose a name of the store is. Links are called after the stem of a pipeline's file and tags after that of a lock
//! file, and two files may have one stem: `<store>/named/view/study` holds the path of the pipeline whose links
//! `view/study/` are, `<store>/named/tag/study` that of the lock file. Copies of one pipeline, as in two checkouts, share
//! a name: their links are alike.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rote_store::{read_checked, write_checked};

use crate::check::Pipeline;
use crate::failure::Wrong;
use crate::shelf::{Shelf, entries, make_folder};

/// A name that a file has or may take in a store.
pub struct Name {
    /// Where that is noted.
    note: PathBuf,
    /// The file, by its path without links.
    path: PathBuf,
}

impl Name {
    /// The name of a pipeline's links.
    ///
    /// # Errors
    /// It is another file's that is still there.
    pub fn of_pipeline(shelf: &Shelf, pipeline: &Pipeline) -> Result<Name> {
        Name::of(shelf, "view", &pipeline.name, &pipeline.file)
    }

    /// The tag `name` of a lock file, `path`, that may not be written yet.
    ///
    /// # Errors
    /// It is another file's that is still there.
    pub fn of_lock(shelf: &Shelf, name: &str, path: &Path) -> Result<Name> {
        Name::of(shelf, "tag", name, path)
    }

    fn of(shelf: &Shelf, kind: &str, name: &str, path: &Path) -> Result<Name> {
        let is_used = !entries(&shelf.root.join(kind).join(name))?.is_empty();
        let name = Name { note: folder(shelf).join(kind).join(name), path: real(path)? };
        match name.holder().filter(|other| is_used && other.is_file()) {
            Some(other) if real(&other)? != name.path && !is_copy(&other, path) => Err(Wrong::one(format!(
                "{}: {} in {} is that of {}, another file of the same stem; rename one of the two or give another --store",
                path.display(),
                if kind == "tag" { "the tag" } else { "the name" },
                shelf.root.display(),
                other.display()
            ))),
            _ => Ok(name),
        }
    }

    /// Whose it was when it was last taken. A damaged note is nobody's: `rote verify` tells.
    fn holder(&self) -> Option<PathBuf> {
        let text = String::from_utf8(read_checked(&self.note).ok()??).ok()?;
        Some(PathBuf::from(text.trim_end_matches('\n')))
    }

    /// Notes whose it is.
    pub fn take(&self) -> Result<()> {
        if self.holder().as_ref() == Some(&self.path) {
            return Ok(());
        }
        make_folder(self.note.parent().unwrap_or(&self.note))?;
        write_checked(&self.note, format!("{}\n", self.path.display()).as_bytes())
    }
}

/// Whether both files are there and alike.
fn is_copy(one: &Path, other: &Path) -> bool {
    let read = |path: &Path| std::fs::read(path).ok();
    read(one).is_some_and(|bytes| Some(bytes) == read(other))
}

/// A path without links on the way; the file need not be there.
fn real(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| format!("finding {}", path.display()))?;
    let beside = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    Ok(path.canonicalize().ok().or_else(beside).unwrap_or(path))
}

fn folder(shelf: &Shelf) -> PathBuf {
    shelf.root.join("named")
}

/// Every note of a name, and what killed runs left beside them.
pub fn notes(shelf: &Shelf) -> Result<Vec<PathBuf>> {
    let kinds = entries(&folder(shelf))?;
    Ok(kinds.iter().map(|kind| entries(kind)).collect::<Result<Vec<_>>>()?.concat())
}
