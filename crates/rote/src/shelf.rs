//! Where results stand in the store: by key, with the key and a seal beside each, and readable links to them.
//!
//! ```text
//! <store>/ab/ab12…/          the artifact, written by the stage
//! <store>/ab/ab12….key       the key as JSON; its BLAKE3 is the name
//! <store>/ab/ab12….seal      digests of artifact.json and run.json, which no content id covers
//! <store>/view/PIPELINE/NODE link to the artifact of the last run
//! <store>/tag/NAME/NODE      link to the artifact that a lock file names
//! <store>/log/PIPELINE/NODE.log
//! ```

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rote_store::{Attempt, Digest, Key, Lock, Manifest, atomic_write};

/// A store of results.
pub struct Shelf {
    /// Its folder.
    pub root: PathBuf,
}

/// A readable link to a result.
pub struct Link {
    /// Pipeline or tag.
    pub of: String,
    /// Node.
    pub node: String,
    /// The link itself.
    pub path: PathBuf,
    /// The key of the result, if it points at one.
    pub key: Option<Digest>,
}

/// What stands at a key.
pub enum Found {
    /// An artifact with all its files, each of the right size.
    Whole(Box<Manifest>),
    /// Nothing.
    Absent,
    /// Something else; why it can't be used.
    Damaged(String),
}

impl Shelf {
    /// Folder of the artifact of `key`.
    pub fn place(&self, key: Digest) -> PathBuf {
        let name = key.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// The file beside it with ending `.key` or `.seal`.
    pub fn beside(&self, key: Digest, ending: &str) -> PathBuf {
        self.place(key).with_extension(ending)
    }

    /// Log of the last run of a node.
    pub fn log(&self, pipeline: &str, node: &str) -> PathBuf {
        self.root.join("log").join(pipeline).join(format!("{node}.log"))
    }

    /// Link to the last result of a node.
    pub fn view(&self, pipeline: &str, node: &str) -> PathBuf {
        self.root.join("view").join(pipeline).join(node)
    }

    /// What stands at `key`: names and sizes are compared, content is what `verify` reads.
    pub fn find(&self, key: Digest) -> Found {
        find_at(&self.place(key))
    }

    /// Writes `key` beside the place of its result.
    pub fn record(&self, key: &Key) -> Result<()> {
        let path = self.beside(key.digest(), "key");
        if path.is_file() {
            return Ok(());
        }
        make_folder(path.parent().unwrap_or(&self.root))?;
        atomic_write(&path, key.text().as_bytes())
    }

    /// Tries to become the one who makes the result of `key`.
    pub fn claim(&self, key: Digest) -> Result<Attempt> {
        let path = self.beside(key, "lock");
        make_folder(path.parent().unwrap_or(&self.root))?;
        Lock::attempt(&path)
    }

    /// The key recorded under `digest`.
    pub fn key(&self, digest: Digest) -> Result<Key> {
        let path = self.beside(digest, "key");
        let reading = || format!("reading {}", path.display());
        let bytes = fs::read(&path).with_context(reading)?;
        anyhow::ensure!(Digest::of(&bytes) == digest, "{} is not the key it is named after", path.display());
        serde_json::from_slice(&bytes).with_context(reading)
    }

    /// Remembers the digests of what no content id covers.
    pub fn seal(&self, key: Digest) -> Result<()> {
        let path = self.beside(key, "seal");
        if path.is_file() {
            return Ok(());
        }
        atomic_write(&path, self.seal_of(key)?.as_bytes())
    }

    /// What the seal of `key` must say, in the format of `b3sum`.
    pub fn seal_of(&self, key: Digest) -> Result<String> {
        seal_at(&self.place(key), key)
    }

    /// Takes a result that can't be used out of the way.
    pub fn remove(&self, key: Digest) -> Result<()> {
        let place = self.place(key);
        let removing = || format!("removing {}", place.display());
        let _ = fs::remove_file(self.beside(key, "seal"));
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&place).with_context(removing),
            Ok(_) => fs::remove_file(&place).with_context(removing),
            Err(_) => Ok(()),
        }
    }

    /// Points the readable link of a node at `key`.
    pub fn link(&self, pipeline: &str, node: &str, key: Digest) -> Result<()> {
        self.point(&self.view(pipeline, node), key)
    }

    /// Keeps `results`, by node, under the name `tag`, and nothing else under it.
    pub fn tag(&self, tag: &str, results: &[(&str, Digest)]) -> Result<()> {
        let folder = self.root.join("tag").join(tag);
        results.iter().try_for_each(|(node, key)| self.point(&folder.join(node), *key))?;
        for link in entries(&folder)? {
            let name = link.file_name().unwrap_or_default();
            if !results.iter().any(|(node, _)| *node == name) {
                fs::remove_file(&link).with_context(|| format!("removing {}", link.display()))?;
            }
        }
        Ok(())
    }

    fn point(&self, link: &Path, key: Digest) -> Result<()> {
        let name = key.to_string();
        let target = Path::new("../..").join(&name[..2]).join(&name);
        if fs::read_link(link).is_ok_and(|present| present == target) {
            return Ok(());
        }
        let linking = || format!("linking {}", link.display());
        let folder = link.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let node = link.file_name().unwrap_or_default().to_string_lossy();
        let aside = folder.join(format!(".{node}.partial"));
        // One name for all, so that what a killed run left is used up; another run may take it from under our hands.
        let mut tries = 0;
        loop {
            let _ = fs::remove_file(&aside);
            match symlink(&target, &aside).and_then(|()| fs::rename(&aside, link)) {
                Err(error)
                    if [ErrorKind::NotFound, ErrorKind::AlreadyExists].contains(&error.kind())
                        && tries < 100 =>
                {
                    tries += 1;
                }
                done => return done.with_context(linking),
            }
        }
    }

    /// The links of kind `view` or `tag`: pipeline or tag, node, the link, and the key it points at.
    pub fn links(&self, kind: &str) -> Result<Vec<Link>> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut links = Vec::new();
        for folder in entries(&self.root.join(kind))? {
            for path in entries(&folder)? {
                let node = name(&path);
                // What a killed run left.
                if node.starts_with('.') {
                    continue;
                }
                let key = fs::read_link(&path).ok().and_then(|target| name(&target).parse().ok());
                links.push(Link { of: name(&folder), node, path, key });
            }
        }
        Ok(links)
    }

    /// The key of the last result of a node.
    pub fn last(&self, pipeline: &str, node: &str) -> Option<Digest> {
        let target = fs::read_link(self.view(pipeline, node)).ok()?;
        target.file_name()?.to_str()?.parse().ok()
    }

    /// Keys of everything that stands in the store or was begun there, sorted.
    pub fn keys(&self) -> Result<Vec<Digest>> {
        let mut keys = Vec::new();
        for folder in entries(&self.root)? {
            let shelf = folder.file_name().is_some_and(|name| name.len() == 2);
            if shelf && folder.is_dir() {
                let names = entries(&folder)?;
                keys.extend(
                    names.iter().filter_map(|path| path.file_name()?.to_str()?.parse::<Digest>().ok()),
                );
            }
        }
        keys.sort();
        Ok(keys)
    }
}

/// What the seal of the result of `key` must say if it stands in `folder`.
pub fn seal_at(folder: &Path, key: Digest) -> Result<String> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    Ok(seal_of(&read(Manifest::FILE)?, &read(Manifest::RUN_FILE)?, key))
}

/// The same of a manifest and of what is known of its run.
pub fn seal_of(manifest: &[u8], run: &[u8], key: Digest) -> String {
    let line = |name: &str, bytes: &[u8]| format!("{}  {key}/{name}\n", Digest::of(bytes));
    line(Manifest::FILE, manifest) + &line(Manifest::RUN_FILE, run)
}

/// What stands at `place`: names and sizes are compared.
pub fn find_at(place: &Path) -> Found {
    if matches!(fs::symlink_metadata(place), Err(error) if error.kind() == ErrorKind::NotFound) {
        return Found::Absent;
    }
    let manifest = match Manifest::read(place) {
        Ok(manifest) => manifest,
        Err(error) => return Found::Damaged(format!("{error:#}")),
    };
    for file in &manifest.files {
        let path = place.join(&file.path);
        match fs::metadata(&path) {
            Ok(found) if found.len() == file.bytes => {}
            Ok(found) => {
                let (is, was) = (found.len(), file.bytes);
                return Found::Damaged(format!("{} has {is} bytes, not {was}", path.display()));
            }
            Err(error) => return Found::Damaged(format!("{}: {error}", path.display())),
        }
    }
    Found::Whole(Box::new(manifest))
}

/// What stands in a folder, sorted; nothing where there is none.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading folder {}", folder.display());
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.with_context(reading)?,
    };
    let mut paths =
        listed.map(|entry| Ok(entry.with_context(reading)?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

/// Makes a folder and those above it.
pub fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making folder {}", folder.display()))
}
