//! `Lock`: one writer at a time; the kernel gives it back when the holder dies, however it dies.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A lock that is held until dropped.
pub struct Lock {
    _file: File,
}

/// What came of trying.
pub enum Attempt {
    /// It is ours.
    Held(Lock),
    /// Somebody else has it.
    Busy(Wait),
}

/// A lock that somebody else holds.
pub struct Wait {
    file: File,
    path: PathBuf,
    /// What the holder wrote about itself: `process 123`.
    pub holder: String,
}

impl Lock {
    /// Tries to take the lock at `path`.
    pub fn attempt(path: &Path) -> Result<Attempt> {
        let locking = || format!("locking {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .with_context(locking)?;
        match file.try_lock() {
            Ok(()) => Ok(Attempt::Held(Lock::sign(file).with_context(locking)?)),
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(path).unwrap_or_default().trim().to_string();
                Ok(Attempt::Busy(Wait { file, path: path.to_path_buf(), holder }))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(locking),
        }
    }

    fn sign(mut file: File) -> std::io::Result<Lock> {
        file.set_len(0)?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(Lock { _file: file })
    }
}

impl Wait {
    /// Waits until it is ours.
    pub fn wait(self) -> Result<Lock> {
        let locking = || format!("locking {}", self.path.display());
        self.file.lock().with_context(locking)?;
        Lock::sign(self.file).with_context(locking)
    }
}
