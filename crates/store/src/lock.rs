//! `Lock`: one writer at a time; the kernel gives it back when the holder dies, however it dies.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
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
    /// Somebody else has it; what the holders wrote about themselves: `process 123 on node7`.
    Busy(String),
}

impl Lock {
    /// Tries to take the lock at `path` for itself alone.
    pub fn attempt(path: &Path) -> Result<Attempt> {
        Lock::try_with(path, File::try_lock, |_| Vec::new())
    }

    /// Tries to take it together with others who share it.
    pub fn shared(path: &Path) -> Result<Attempt> {
        Lock::try_with(path, File::try_lock_shared, holders)
    }

    /// Whether somebody has the lock at `path`. The file is not written: it may be no lock at all.
    pub fn is_held(path: &Path) -> bool {
        match File::open(path) {
            Ok(file) => file.try_lock().is_err(),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    fn try_with(
        path: &Path,
        attempt: fn(&File) -> Result<(), TryLockError>,
        others: fn(&Path) -> Vec<String>,
    ) -> Result<Attempt> {
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
                    let _ = sign(&file, others(path));
                    return Ok(Attempt::Held(Lock { file, path: path.to_path_buf() }));
                }
                Err(TryLockError::WouldBlock) => {
                    let holders = holders(path).join(", ");
                    let unsigned = || "a process that has not said which".to_string();
                    return Ok(Attempt::Busy(if holders.is_empty() { unsigned() } else { holders }));
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

/// Others who share a lock that are kept in mind: of those elsewhere it can't be known whether they have ended.
const OTHERS: usize = 7;

/// Writes who holds it, after the others who share it.
fn sign(file: &File, mut holders: Vec<String>) -> std::io::Result<()> {
    let me = format!("process {} on {}", std::process::id(), host());
    holders.retain(|holder| *holder != me);
    holders.drain(..holders.len().saturating_sub(OTHERS));
    holders.push(me);
    let text = holders.join("\n") + "\n";
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// Who signed and has not ended, as far as can be known from here.
fn holders(path: &Path) -> Vec<String> {
    let here = host();
    let is_alive = |line: &&str| match line.strip_prefix("process ").and_then(|line| line.split_once(" on "))
    {
        Some((process, host)) => host != here || Path::new("/proc").join(process).exists(),
        None => false,
    };
    let signed = fs::read_to_string(path).unwrap_or_default();
    signed.lines().filter(is_alive).map(str::to_string).collect()
}

/// Name of this machine; empty where the system does not tell.
pub fn host() -> String {
    let told = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    told.trim().to_string()
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
        let me = format!("process {} on {}", std::process::id(), host());
        assert_eq!((busy(Lock::attempt(&path)), busy(Lock::shared(&path))), (me.clone(), me.clone()));
        assert!(Lock::is_held(&path));
        alone.remove();
        assert!(!path.exists() && !Lock::is_held(&path));
        fs::write(&path, "mine").unwrap();
        assert!(!Lock::is_held(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let first = held(Lock::shared(&path));
        let second = held(Lock::shared(&path));
        busy(Lock::attempt(&path));
        // One who ended is not named, one elsewhere is.
        fs::write(&path, format!("process 4294967295 on {}\nprocess 1 on elsewhere\n", host())).unwrap();
        assert_eq!(busy(Lock::attempt(&path)), "process 1 on elsewhere");
        let third = held(Lock::shared(&path));
        assert_eq!(busy(Lock::attempt(&path)), format!("process 1 on elsewhere, {me}"));
        drop((first, second, third));
        held(Lock::attempt(&path)).remove();
    }
}
