//! `HubId`: `organisation/name@revision`, and the folder of the local Hugging Face cache it names. Nothing is downloaded.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

/// A model's name on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    name: String,
    revision: Option<String>,
}

impl HubId {
    /// Reads `organisation/name`, `name` (a few have no organisation) or either with `@revision`; nothing that climbs
    /// out of a folder is one.
    pub fn parse(text: &str) -> Option<HubId> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        let legal = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let parts: Vec<_> = name.split('/').collect();
        // A revision may hold slashes (`refs/pr/1`), but does not climb.
        let revision_is_legal = revision.is_none_or(|revision| revision.split('/').all(legal));
        let is_one = parts.len() <= 2 && parts.iter().all(|part| legal(part)) && revision_is_legal;
        is_one.then(|| HubId { name: name.to_string(), revision: revision.map(str::to_string) })
    }

    /// Whether a revision is said.
    pub fn is_pinned(&self) -> bool {
        self.revision.is_some()
    }

    /// The folder of its snapshot in this machine's cache; revision `main` where none is said.
    ///
    /// # Errors
    /// It is not there; the message says where it was looked for.
    pub fn snapshot(&self) -> Result<PathBuf> {
        self.snapshot_in(&hub_caches())
    }

    /// [`HubId::snapshot`] in the first of `caches` that has it.
    pub fn snapshot_in(&self, caches: &[PathBuf]) -> Result<PathBuf> {
        let revision = self.revision.as_deref().unwrap_or("main");
        let repository = format!("models--{}", self.name.replace('/', "--"));
        for cache in caches {
            let home = cache.join(&repository);
            // A branch or tag is a file that holds a commit; a commit is a snapshot's name.
            let commit = match fs::read_to_string(home.join("refs").join(revision)) {
                Ok(commit) => commit.trim().to_string(),
                Err(_) => revision.to_string(),
            };
            let snapshot = home.join("snapshots").join(&commit);
            if snapshot.join("config.json").is_file() {
                return Ok(snapshot);
            }
            ensure!(
                !snapshot.is_dir(),
                "{} has no config.json; the download is incomplete",
                snapshot.display()
            );
        }
        let places: Vec<_> =
            caches.iter().map(|cache| cache.join(&repository).display().to_string()).collect();
        bail!(
            "no folder or file of that name, and revision `{revision}` is not in the local Hugging Face cache; \
             looked for {}; download it there, or name a folder",
            places.join(", ")
        );
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// Where the files of a model called `name` lie: `name` itself if something stands there, else the snapshot of the hub
/// id it is, else `name` again, for whoever reads it to complain.
pub fn model_place(name: &Path) -> PathBuf {
    let hub = || HubId::parse(name.to_str()?)?.snapshot().ok();
    if name.exists() { name.to_path_buf() } else { hub().unwrap_or_else(|| name.to_path_buf()) }
}

/// Where the hub's cache may be, in the hub's own order of precedence.
pub fn hub_caches() -> Vec<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
        return vec![cache];
    }
    if let Some(home) = set("HF_HOME") {
        return vec![home.join("hub")];
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("huggingface").join("hub")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_hub_id() {
        for (text, pinned) in
            [("gpt2", false), ("acme/tiny", false), ("acme/tiny@main", true), ("acme/tiny@refs/pr/1", true)]
        {
            let id = HubId::parse(text).unwrap();
            assert_eq!((id.is_pinned(), id.to_string().as_str()), (pinned, text));
        }
        for text in ["", "/etc", "../acme/tiny", "acme/tiny@../../etc", "a/b/c", "acme/tiny@", "acme/ti ny"] {
            assert_eq!(HubId::parse(text), None, "{text}");
        }
    }
}
