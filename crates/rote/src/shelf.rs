//! Where results stand in the store: by key, with the key and a seal beside each, and readable links to them.
//!
//! ```text
//! <store>/ab/ab12…/           the artifact, written by the stage
//! <store>/ab/ab12….key        the key as JSON; its BLAKE3 is the name
//! <store>/ab/ab12….seal       digests of artifact.json and run.json, which no content id covers
//! <store>/ab/ab12….part-1-of-4/  and its seal: a part, until all are there
//! <store>/view/PIPELINE/NODE  link to the artifact of the last run
//! <store>/begun/PIPELINE/NODE link to where the artifact will be of which parts are made
//! <store>/tag/NAME/NODE       link to the artifact that a lock file names
//! <store>/named/view/PIPELINE, <store>/named/tag/NAME  the file that is called so
//! <store>/log/PIPELINE/NODE.log
//! <store>/digests, <store>/describe/  what is remembered of files and stages
//! ```

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
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

/// How something compares with its seal.
pub enum Seal {
    /// It is as it was.
    Whole,
    /// There is none.
    Missing,
    /// One of the two has changed; which file.
    Broken(String),
}

impl Shelf {
    /// Folder of the artifact of `key`.
    pub fn place(&self, key: Digest) -> PathBuf {
        let name = key.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// What stands beside it with such an ending.
    pub fn beside(&self, key: Digest, ending: &str) -> PathBuf {
        self.place(key).with_extension(ending)
    }

    /// Log of the last run of a node.
    pub fn log(&self, pipeline: &str, node: &str) -> PathBuf {
        self.root.join("log").join(pipeline).join(format!("{node}.log"))
    }

    /// What is remembered of files: their digests.
    pub fn digests(&self) -> PathBuf {
        self.root.join("digests")
    }

    /// Folder of what stages said of themselves.
    pub fn descriptions(&self) -> PathBuf {
        self.root.join("describe")
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

    /// While this is held nobody collects from the store.
    ///
    /// # Errors
    /// Somebody does.
    pub fn enter(&self) -> Result<Lock> {
        make_folder(&self.root)?;
        match self.try_enter()? {
            Attempt::Held(lock) => Ok(lock),
            Attempt::Busy(holder) => {
                bail!(
                    "`rote collect` is at work in {} ({holder}); try again when it is done",
                    self.root.display()
                )
            }
        }
    }

    /// The same, for who can wait.
    pub fn try_enter(&self) -> Result<Attempt> {
        Lock::shared(&self.root.join("lock"))
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
        seal(&self.place(key))
    }

    /// Whether the result of `key` was found to be what its key asks for, and sealed.
    pub fn is_sealed(&self, key: Digest) -> bool {
        self.beside(key, "seal").is_file()
    }

    /// Takes a result that can't be used out of the way.
    pub fn remove(&self, key: Digest) -> Result<()> {
        remove(&self.place(key))
    }

    /// Points the readable link of a node at `key`; parts of another result are needed no more.
    pub fn link(&self, pipeline: &str, node: &str, key: Digest) -> Result<()> {
        let _ = fs::remove_file(self.begun(pipeline, node));
        self.point(&self.view(pipeline, node), key)
    }

    /// Whether nothing is left to be written for a node whose result is there.
    pub fn is_settled(&self, pipeline: &str, node: &str, key: Digest) -> bool {
        let is_begun = self.begun(pipeline, node).is_symlink();
        let is_beside = |ending| self.beside(key, ending).is_file();
        !is_begun && is_beside("key") && is_beside("seal") && self.last(pipeline, node) == Some(key)
    }

    /// Remembers that the result of `key` is made in parts, so that they are kept if that is interrupted.
    pub fn begin(&self, pipeline: &str, node: &str, key: Digest) -> Result<()> {
        self.point(&self.begun(pipeline, node), key)
    }

    fn begun(&self, pipeline: &str, node: &str) -> PathBuf {
        self.root.join("begun").join(pipeline).join(node)
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

    /// The links of kind `view`, `begun` or `tag`, sorted.
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
        let name = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        let mut keys: Vec<_> = self.beside_results()?.iter().filter_map(name).collect();
        keys.sort();
        Ok(keys)
    }

    /// Parts of results, with the keys of the results.
    pub fn parts(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let part = |path: PathBuf| {
            let key = path.file_stem()?.to_str()?.parse().ok()?;
            (is_part(&path) && path.is_dir()).then_some((key, path))
        };
        Ok(self.beside_results()?.into_iter().filter_map(part).collect())
    }

    /// Everything in the folders that hold results.
    pub fn beside_results(&self) -> Result<Vec<PathBuf>> {
        let holds = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 2) && path.is_dir();
        let folders = entries(&self.root)?.into_iter().filter(holds);
        Ok(folders.map(|folder| entries(&folder)).collect::<Result<Vec<_>>>()?.concat())
    }
}

/// Whether a path is that of a part of a result: `ab12….part-2-of-4`.
pub fn is_part(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ending.starts_with("part-"))
}

/// Where the seal of the result or part at `place` is.
fn seal_path(place: &Path) -> PathBuf {
    place.with_added_extension("seal")
}

/// Seals the result or part at `place`.
pub fn seal(place: &Path) -> Result<()> {
    let path = seal_path(place);
    if path.is_file() {
        return Ok(());
    }
    atomic_write(&path, seal_text(place, &name_of(place))?.as_bytes())
}

/// How the result or part at `place` compares with its seal.
///
/// # Errors
/// One of the files can't be read.
pub fn seal_at(place: &Path) -> Result<Seal> {
    let is = seal_text(place, &name_of(place))?;
    let path = seal_path(place);
    let said = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Seal::Missing),
        said => said.with_context(|| format!("reading {}", path.display()))?,
    };
    if said == is.as_bytes() {
        return Ok(Seal::Whole);
    }
    let said = String::from_utf8_lossy(&said);
    let differing = is.lines().find(|line| !said.lines().any(|said| said == *line));
    let file = differing.and_then(|line| line.rsplit('/').next()).unwrap_or(Manifest::FILE);
    Ok(Seal::Broken(format!("{}: differs from its seal {}", place.join(file).display(), path.display())))
}

fn name_of(place: &Path) -> String {
    place.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What the seal of what is in `folder` must say if it stands at `name`, in the format of `b3sum`.
pub fn seal_text(folder: &Path, name: &str) -> Result<String> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    Ok(seal_of(&read(Manifest::FILE)?, &read(Manifest::RUN_FILE)?, name))
}

/// The same of a manifest and of what is known of its run.
pub fn seal_of(manifest: &[u8], run: &[u8], name: &str) -> String {
    let line = |file: &str, bytes: &[u8]| format!("{}  {name}/{file}\n", Digest::of(bytes));
    line(Manifest::FILE, manifest) + &line(Manifest::RUN_FILE, run)
}

/// Takes a result or a part of one, with its seal, or anything else out of the way. A folder steps aside first: at no
/// moment does half of one stand in its place.
pub fn remove(place: &Path) -> Result<()> {
    let removing = || format!("removing {}", place.display());
    let _ = fs::remove_file(seal_path(place));
    let is_folder = match fs::symlink_metadata(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.with_context(removing)?.is_dir(),
    };
    if !is_folder {
        return fs::remove_file(place).with_context(removing);
    }
    if place.extension().is_some_and(|ending| ending == "partial" || ending == "old") {
        return fs::remove_dir_all(place).with_context(removing);
    }
    let aside = place.with_added_extension("old");
    remove(&aside)?;
    fs::rename(place, &aside).with_context(removing)?;
    fs::remove_dir_all(&aside).with_context(removing)
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
