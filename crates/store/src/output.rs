//! `Output`: an artifact being written. Beside its final place, flushed, renamed: whole or absent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::digest_file;
use crate::lock::{Attempt, Lock};
use crate::manifest::{Ancestor, FileEntry, InputEntry, Manifest, StageEntry, Subject, TableEntry};
use crate::place::{can_give_way, new_folder_beside, parent_of, replace, sync_folder};

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
    /// `place` is something else than an artifact, another process is writing it, or a folder that no writer left is in
    /// the way.
    pub fn begin(place: &Path) -> Result<Output> {
        let name = place.file_name().with_context(|| format!("{} names no folder", place.display()))?;
        // Said as `out/` or `out/.` it is `out`: what is put beside it must not land in it.
        let place = place.with_file_name(name);
        ensure!(can_give_way(&place), "{} exists and is no artifact: choose another --out", place.display());
        let parent = parent_of(&place);
        fs::create_dir_all(parent).with_context(|| format!("making folder {}", parent.display()))?;
        let partial = place.with_added_extension("partial");
        let lock = take_lock(&partial)?;
        // What a killed run left: not known to be whole, so not used.
        clear(&partial)?;
        Ok(Output { place, partial, lock: Some(lock), state: Mutex::default() })
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
        // A name of our own, so that the next writer of the same place begins elsewhere. The lock goes along.
        let aside = new_folder_beside(&self.place, "partial")?;
        if let Err(error) = fs::rename(&self.partial, &aside) {
            let _ = fs::remove_dir(&aside);
            return Err(error).with_context(|| format!("moving {}", self.partial.display()));
        }
        // It is whole now: whatever comes, it is not thrown away.
        self.partial = PathBuf::new();
        replace(&aside, &self.place)?;
        let _ = fs::remove_file(self.place.join(Output::LOCK));
        self.lock = None;
        Ok(manifest)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no writer panicked")
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.partial.as_os_str().is_empty() {
            // The lock last: who is killed in between leaves what is known to be a writer's.
            let _ = clear(&self.partial);
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
        ensure!(
            !is_foreign(partial),
            "{} exists and was left by no writer: move it away or choose another --out",
            partial.display()
        );
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

/// Whether something stands in a partial folder that no writer put there: the lock is what a writer makes first and
/// removes last.
pub fn is_foreign(partial: &Path) -> bool {
    let entries = fs::read_dir(partial).into_iter().flatten().flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    !names.is_empty() && !names.iter().any(|name| name == Output::LOCK)
}

/// Takes everything but the lock out of a partial folder.
fn clear(partial: &Path) -> Result<()> {
    for entry in fs::read_dir(partial)? {
        let entry = entry?;
        if entry.file_name() != Output::LOCK {
            let is_folder = entry.file_type()?.is_dir();
            let path = entry.path();
            if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
                .with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
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
    use crate::place::tests::names;
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
    fn a_folder_may_be_said_with_a_slash() {
        let folder = scratch("slash");
        for (number, name) in ["out/", "./out/", "out/.", "out"].into_iter().enumerate() {
            let output = Output::begin(&folder.join(name)).unwrap();
            fs::write(output.file("a").unwrap(), number.to_string()).unwrap();
            finish(output);
            assert_eq!(fs::read_to_string(folder.join("out/a")).unwrap(), number.to_string(), "{name}");
            assert_eq!(names(&folder), ["out"], "{name}");
            assert_eq!(names(&folder.join("out")), ["a", "artifact.json", "run.json"], "{name}");
        }
        fs::create_dir(folder.join("empty")).unwrap();
        finish(Output::begin(&folder.join("empty/")).unwrap());
        assert_eq!(names(&folder), ["empty", "out"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_others_put_beside_it_stays() {
        let folder = scratch("beside");
        let me = std::process::id();
        for name in ["out.old".to_string(), format!("out.{me}.partial"), format!("out.{me}.old")] {
            fs::create_dir(folder.join(&name)).unwrap();
            fs::write(folder.join(name).join("precious"), "x").unwrap();
        }
        let before = names(&folder);
        for _ in 0..2 {
            finish(Output::begin(&folder.join("out")).unwrap());
        }
        assert_eq!(names(&folder), [vec!["out".to_string()], before].concat());
        for name in &names(&folder)[1..] {
            assert_eq!(names(&folder.join(name)), ["precious"], "{name}");
        }
        // A folder of that name that no writer left.
        fs::create_dir(folder.join("out.partial")).unwrap();
        fs::write(folder.join("out.partial/precious"), "x").unwrap();
        let refused = Output::begin(&folder.join("out")).err().expect("it is somebody's");
        assert!(refused.to_string().contains("was left by no writer"), "{refused}");
        assert_eq!(names(&folder.join("out.partial")), ["precious"]);
        // What a killed one left is known by its lock.
        fs::write(folder.join("out.partial").join(Output::LOCK), "").unwrap();
        finish(Output::begin(&folder.join("out")).unwrap());
        assert!(!folder.join("out.partial").exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_finished_is_kept_where_it_cannot_be_placed() {
        let folder = scratch("kept");
        let output = Output::begin(&folder.join("out")).unwrap();
        fs::write(output.file("a").unwrap(), "x").unwrap();
        // Somebody else put something there meanwhile.
        fs::create_dir(folder.join("out")).unwrap();
        fs::write(folder.join("out/precious"), "x").unwrap();
        let stage = StageEntry { name: "test".into(), version: "0".into() };
        let error = output.finish(stage, json!({}), BTreeMap::new(), json!({})).unwrap_err();
        assert_eq!(names(&folder.join("out")), ["precious"]);
        let kept = folder.join(&names(&folder)[1]);
        assert!(error.to_string().contains(kept.to_str().unwrap()), "{error}");
        assert!(Manifest::read(&kept).is_ok());
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
