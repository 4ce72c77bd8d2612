//! `Memory`: digests of files that have not changed since they were read. The only place that looks at times.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::digest::digest_with;
use crate::{Digest, digest_file, read_checked, write_checked};

/// A file as it was when it was read: size, time of change of content and of entry, inode, device.
type Stamp = (u64, i64, i64, u64, u64);

/// Files changed more recently than this are read again: a second change within one tick of the file
/// system's clock would not show.
const SETTLED_NS: i64 = 2_000_000_000;

/// Digests by path and [`Stamp`], kept in one file.
pub struct Memory {
    file: PathBuf,
    known: HashMap<PathBuf, (Stamp, Digest)>,
    changed: bool,
}

impl Memory {
    /// Reads what `file` remembers; a missing or damaged file remembers nothing.
    pub fn open(file: &Path) -> Memory {
        let read = read_checked(file)
            .and_then(|bytes| bytes.map(|bytes| Ok(serde_json::from_slice(&bytes)?)).transpose());
        // A damaged one is written anew.
        let changed = read.is_err();
        Memory { file: file.to_path_buf(), known: read.ok().flatten().unwrap_or_default(), changed }
    }

    /// As [`crate::digest_path`], reading only files that may have changed.
    pub fn digest_path(&mut self, path: &Path) -> Result<Digest> {
        digest_with(path, &mut |path| self.digest_file(path))
    }

    /// As [`crate::digest_file`], reading only a file that may have changed.
    pub fn digest_file(&mut self, path: &Path) -> Result<Digest> {
        let reading = || format!("reading {}", path.display());
        let place = std::path::absolute(path).with_context(reading)?;
        let stamp = stamp(&fs::metadata(path).with_context(reading)?);
        if let Some((known, digest)) = self.known.get(&place)
            && *known == stamp
        {
            return Ok(*digest);
        }
        let digest = digest_file(path)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64);
        // A time in the future is a clock that was set back, and says nothing either.
        if stamp.1.max(stamp.2) < now - SETTLED_NS {
            self.known.insert(place, (stamp, digest));
            self.changed = true;
        }
        Ok(digest)
    }

    /// Writes what was learnt, whole or not at all; files that are gone are forgotten.
    pub fn save(&mut self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        self.known.retain(|path, _| path.exists());
        write_checked(&self.file, &serde_json::to_vec(&self.known)?)?;
        self.changed = false;
        Ok(())
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    let nanoseconds = |seconds: i64, part: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(part);
    let modified = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    let changed = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
    (metadata.size(), modified, changed, metadata.ino(), metadata.dev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest_path;
    use std::fs::{File, FileTimes};
    use std::time::Duration;

    #[test]
    fn remembers_settled_files_and_notices_every_change() {
        let folder = std::env::temp_dir().join(format!("rote-memory-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("model")).unwrap();
        let file = folder.join("model/weights");
        fs::write(&file, "one").unwrap();
        let place = folder.join("digests");
        let mut memory = Memory::open(&place);
        // Just written: right, but not remembered.
        assert_eq!(
            memory.digest_path(&folder.join("model")).unwrap(),
            digest_path(&folder.join("model")).unwrap()
        );
        assert!(memory.known.is_empty());
        // As if read long ago.
        let settled = |memory: &mut Memory, file: &Path| {
            let digest = digest_file(file).unwrap();
            memory.known.insert(file.to_path_buf(), (stamp(&fs::metadata(file).unwrap()), digest));
            memory.changed = true;
            digest
        };
        let first = settled(&mut memory, &file);
        memory.save().unwrap();
        let mut memory = Memory::open(&place);
        assert_eq!(memory.digest_file(&file).unwrap(), first);
        // Same size, time of content set back: the entry's own time still tells.
        let times = fs::metadata(&file).unwrap();
        fs::write(&file, "two").unwrap();
        let times = FileTimes::new().set_modified(times.modified().unwrap() - Duration::from_secs(60));
        File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
        assert_eq!(memory.digest_file(&file).unwrap(), Digest::of(b"two"));
        fs::write(&place, "{ torn").unwrap();
        assert!(Memory::open(&place).known.is_empty());
        fs::remove_dir_all(folder).unwrap();
    }
}
