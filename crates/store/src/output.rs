//! `Output`: an artifact being written. Beside its final place, flushed, renamed: whole or absent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::digest_file;
use crate::lock::{Attempt, Lock};
use crate::manifest::{Ancestor, FileEntry, InputEntry, Manifest, StageEntry, Subject, TableEntry};

/// An artifact being written into `<out>.partial`. Dropped without [`Output::finish`], it leaves nothing.
pub struct Output {
    place: PathBuf,
    partial: PathBuf,
    lock: Option<Lock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Option<u64>>,
    tables: BTreeMap<String, TableEntry>,
    lineage: Vec<Ancestor>,
    subjects: Vec<Subject>,
    shard: Option<String>,
    warnings: Vec<String>,
}

impl Output {
    /// The lock within a folder that is being written; one who was killed at the very end leaves it in the artifact.
    pub const LOCK: &'static str = ".lock";

    /// Begins an artifact at `place`. An artifact that stands there stays until the new one is whole.
    ///
    /// # Errors
    /// `place` is something else than an artifact, or another process is writing it.
    pub fn begin(place: &Path) -> Result<Output> {
        if place.exists() {
            let is_artifact = place.join(Manifest::FILE).is_file();
            let is_empty = place.is_dir() && fs::read_dir(place).is_ok_and(|mut it| it.next().is_none());
            ensure!(
                is_artifact || is_empty,
                "{} exists and is no artifact: choose another --out",
                place.display()
            );
        }
        let name = place.file_name().with_context(|| format!("{} names no folder", place.display()))?;
        let mut partial = name.to_os_string();
        partial.push(".partial");
        let parent = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).with_context(|| format!("making folder {}", parent.display()))?;
        let partial = parent.join(partial);
        let lock = take_lock(&partial)?;
        // What a killed run left: not known to be whole, so not used.
        for entry in fs::read_dir(&partial)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name == Output::LOCK) {
                continue;
            }
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                .with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(Output { place: place.to_path_buf(), partial, lock: Some(lock), state: Mutex::default() })
    }

    /// Where to write the file `name` (relative, with `/`); it becomes part of the artifact.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        self.part(name, None)
    }

    /// Where to write a part of a table; `rows` may be set later by calling again.
    pub fn part(&self, name: &str, rows: Option<u64>) -> Result<PathBuf> {
        let path = self.partial.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making folder {}", parent.display()))?;
        }
        self.state().files.insert(name.to_string(), rows);
        Ok(path)
    }

    /// Declares rows of a table; called once per finished part.
    pub fn add_rows(&self, table: &str, schema: &str, rows: u64) {
        let mut state = self.state();
        let entry = state
            .tables
            .entry(table.to_string())
            .or_insert_with(|| TableEntry { schema: schema.to_string(), rows: 0 });
        entry.rows += rows;
    }

    /// Rows declared so far, by table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        self.state().tables.iter().map(|(name, table)| (name.clone(), table.rows)).collect()
    }

    /// Names an artifact it is made of, directly or not.
    pub fn add_ancestor(&self, ancestor: Ancestor) {
        let mut state = self.state();
        if !state.lineage.contains(&ancestor) {
            state.lineage.push(ancestor);
        }
    }

    /// Names a model the numbers are about.
    pub fn add_subject(&self, subject: Subject) {
        let mut state = self.state();
        if !state.subjects.contains(&subject) {
            state.subjects.push(subject);
        }
    }

    /// Says that this is a part of the work only, such as `1/4`.
    pub fn set_shard(&self, shard: String) {
        self.state().shard = Some(shard);
    }

    /// Something worth knowing that is no error; kept in the manifest.
    pub fn warn(&self, warning: String) {
        self.state().warnings.push(warning);
    }

    /// Flushes, writes the manifest and `run.json`, and puts the artifact in its place.
    pub fn finish(
        mut self,
        stage: StageEntry,
        parameters: Value,
        inputs: BTreeMap<String, Vec<InputEntry>>,
        run: Value,
    ) -> Result<Manifest> {
        let State { files, tables, mut lineage, mut subjects, shard, warnings } =
            std::mem::take(self.state.get_mut().expect("no writer panicked"));
        subjects.sort();
        lineage.sort_by_cached_key(|it| (it.stage.name.clone(), it.content_id, it.parameters.to_string()));
        let mut entries = Vec::with_capacity(files.len());
        for (name, rows) in files {
            let path = self.partial.join(&name);
            let file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
            file.sync_all().with_context(|| format!("flushing {}", path.display()))?;
            let bytes = file.metadata()?.len();
            entries.push(FileEntry { path: name, rows, bytes, blake3: digest_file(&path)? });
        }
        let manifest = Manifest {
            format: Manifest::FORMAT.to_string(),
            content_id: Manifest::content_of(&entries, &tables),
            stage,
            parameters,
            inputs,
            lineage,
            subjects,
            tables,
            files: entries,
            shard,
            warnings,
        };
        write_json(&self.partial.join(Manifest::RUN_FILE), &run)?;
        write_json(&self.partial.join(Manifest::FILE), &serde_json::to_value(&manifest)?)?;
        sync_folder(&self.partial)?;
        // The lock goes along: without it, another writer of the same place would begin here.
        replace(&self.partial, &self.place)?;
        let _ = fs::remove_file(self.place.join(Output::LOCK));
        self.lock = None;
        self.partial = PathBuf::new();
        Ok(manifest)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no writer panicked")
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.partial.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// How long a process that was killed may hold on to what it wrote, while the system takes its memory back.
const DYING: Duration = Duration::from_secs(5);

/// Makes a partial folder and takes its lock.
fn take_lock(partial: &Path) -> Result<Lock> {
    let began = Instant::now();
    loop {
        fs::create_dir_all(partial).with_context(|| format!("making folder {}", partial.display()))?;
        match Lock::attempt(&partial.join(Output::LOCK)) {
            Ok(Attempt::Held(lock)) => return Ok(lock),
            Ok(Attempt::Busy(holder)) if began.elapsed() >= DYING => {
                bail!("{} is being written by another process ({holder})", partial.display())
            }
            Ok(Attempt::Busy(_)) => std::thread::sleep(Duration::from_millis(20)),
            // A writer that ended meanwhile took the folder with it.
            Err(_) if !partial.is_dir() && began.elapsed() < DYING => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts `from` at `to`, an artifact that stood there aside first: at no moment is half of one there.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let moving = || format!("moving {} to {}", from.display(), to.display());
    let mut aside = to.as_os_str().to_os_string();
    aside.push(".old");
    let aside = PathBuf::from(aside);
    // What the runner noted of what stood there, or was lost there, does not hold for the new one.
    let (seal, name) =
        (to.with_added_extension("seal"), to.file_name().unwrap_or_default().to_string_lossy());
    if fs::read_to_string(&seal).is_ok_and(|text| text.contains(&format!("  {name}/{}", Manifest::FILE))) {
        let _ = fs::remove_file(seal);
    }
    if to.exists() {
        let _ = fs::remove_dir_all(&aside);
        fs::rename(to, &aside).with_context(moving)?;
    }
    fs::rename(from, to).with_context(moving)?;
    if let Some(parent) = to.parent() {
        sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", aside.display()))
        }
        _ => Ok(()),
    }
}

/// Makes a folder's entries last through a loss of power.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let flushing = || format!("flushing folder {}", folder.display());
    File::open(folder).with_context(flushing)?.sync_all().with_context(flushing)
}

/// Writes a small file whole or not at all.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let (aside, mut file) = new_beside(path).with_context(writing)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(writing)?;
    fs::rename(&aside, path).with_context(writing)
}

/// A file that nobody else has, be it on another machine with the same number of a process.
fn new_beside(path: &Path) -> std::io::Result<(PathBuf, File)> {
    let mut number = std::process::id();
    loop {
        let aside = path.with_added_extension(format!("{number}.partial"));
        match File::create_new(&aside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            made => return Ok((aside, made?)),
        }
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let mut text = serde_json::to_string_pretty(value).with_context(writing)?;
    text.push('\n');
    let mut file = File::create(path).with_context(writing)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(writing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finish(output: Output) -> Manifest {
        let stage = StageEntry { name: "test".into(), version: "0".into() };
        output.finish(stage, json!({}), BTreeMap::new(), json!({ "seconds": 1 })).unwrap()
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("rote-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_writer_that_is_going_is_waited_for() {
        let folder = scratch("going");
        let place = folder.join("result");
        let partial = folder.join("result.partial");
        fs::create_dir_all(&partial).unwrap();
        let Attempt::Held(lock) = Lock::attempt(&partial.join(Output::LOCK)).unwrap() else {
            panic!("nobody has it")
        };
        let going = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(lock);
        });
        finish(Output::begin(&place).unwrap());
        going.join().unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn content_names_what_was_written_and_nothing_else() {
        let folder = scratch("content");
        let write = |place: &str, text: &str| {
            let output = Output::begin(&folder.join(place)).unwrap();
            fs::write(output.file("a/b.txt").unwrap(), text).unwrap();
            finish(output).content_id
        };
        let first = write("one", "x");
        assert_eq!(first, write("two", "x"));
        assert_eq!(first, write("one", "x"));
        assert_ne!(first, write("one", "y"));
        assert_eq!(Manifest::read(&folder.join("two")).unwrap().content_id, first);
        assert_eq!(crate::digest_path(&folder.join("two")).unwrap(), first);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_output_dropped_leaves_nothing() {
        let folder = scratch("dropped");
        let output = Output::begin(&folder.join("out")).unwrap();
        fs::write(output.file("a").unwrap(), "x").unwrap();
        let second = Output::begin(&folder.join("out")).err().expect("locked");
        assert!(second.to_string().contains("another process"), "{second}");
        drop(output);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::create_dir(folder.join("mine")).unwrap();
        fs::write(folder.join("mine/precious"), "x").unwrap();
        assert!(Output::begin(&folder.join("mine")).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
