//! `Lock`: one writer at a time; the kernel gives it back when the holder dies, however it dies.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A lock that is held until dropped.
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// What came of trying.
pub enum Attempt {
    /// It is ours.
    Held(Lock),
    /// Somebody else has it; what the holder wrote about itself: `process 123`.
    Busy(String),
}

impl Lock {
    /// Tries to take the lock at `path` for itself alone.
    pub fn attempt(path: &Path) -> Result<Attempt> {
        Lock::try_with(path, File::try_lock)
    }

    /// Tries to take it together with others who share it.
    pub fn shared(path: &Path) -> Result<Attempt> {
        Lock::try_with(path, File::try_lock_shared)
    }

    fn try_with(path: &Path, attempt: fn(&File) -> Result<(), TryLockError>) -> Result<Attempt> {
        let locking = || format!("locking {}", path.display());
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)
                .with_context(locking)?;
            match attempt(&file) {
                // Its last holder may have taken the file away between the two lines above.
                Ok(()) if !is_at(&file, path) => continue,
                Ok(()) => {
                    // Who holds it is a courtesy: a full disk must not stop anybody here.
                    let _ = sign(&file);
                    return Ok(Attempt::Held(Lock { file, path: path.to_path_buf() }));
                }
                Err(TryLockError::WouldBlock) => {
                    let holder = fs::read_to_string(path).unwrap_or_default().trim().to_string();
                    return Ok(Attempt::Busy(holder));
                }
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => continue,
                Err(TryLockError::Error(error)) => return Err(error).with_context(locking),
            }
        }
    }

    /// Gives it back and takes its file away; only for a lock that nobody shares.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
        drop(self.file);
    }
}

fn sign(mut file: &File) -> std::io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "process {}", std::process::id())
}

fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => place(ours) == place(there),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_or_many_together() {
        let path = std::env::temp_dir().join(format!("rote-lock-{}", std::process::id()));
        let held = |attempt: Result<Attempt>| match attempt.unwrap() {
            Attempt::Held(lock) => lock,
            Attempt::Busy(holder) => panic!("{holder} has it"),
        };
        let busy = |attempt: Result<Attempt>| match attempt.unwrap() {
            Attempt::Held(_) => panic!("nobody has it"),
            Attempt::Busy(holder) => holder,
        };
        let alone = held(Lock::attempt(&path));
        let me = format!("process {}", std::process::id());
        assert_eq!((busy(Lock::attempt(&path)), busy(Lock::shared(&path))), (me.clone(), me));
        alone.remove();
        assert!(!path.exists());
        let first = held(Lock::shared(&path));
        let second = held(Lock::shared(&path));
        busy(Lock::attempt(&path));
        drop((first, second));
        held(Lock::attempt(&path)).remove();
    }
}
