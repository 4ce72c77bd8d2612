//! A shared store in a folder, such as one that a cluster's nodes all see.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rote_store::Digest;

use super::{Remote, take};
use crate::shelf::{Found, Shelf};

/// A folder laid out as our own store.
pub struct Folder(pub Shelf);

impl Remote for Folder {
    fn is_there(&self) -> Result<()> {
        ensure!(self.0.root.is_dir(), "{}: no such store", self.0.root.display());
        Ok(())
    }

    fn has(&self, key: Digest) -> Result<bool> {
        // What is damaged there says so when it arrives.
        Ok(!matches!(self.0.find(key), Found::Absent))
    }

    fn put(&self, from: &Shelf, key: Digest) -> Result<Option<u64>> {
        let _store = self.0.enter()?;
        take(&Folder(Shelf { root: from.root.clone() }), &self.0, key)
    }

    fn link(&self, pipeline: &str, node: &str, key: Digest) -> Result<()> {
        self.0.link(pipeline, node, key)
    }

    fn fetch(&self, name: &str, target: &Path) -> Result<()> {
        let copying = || format!("copying {}", self.called(name));
        fs::copy(self.0.root.join(name), target).map(drop).with_context(copying)
    }

    fn called(&self, name: &str) -> String {
        self.0.root.join(name).display().to_string()
    }
}
