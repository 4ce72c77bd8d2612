//! How files and folders come to their place: whole or not at all, and over nothing that is not theirs.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::Manifest;

/// Whether nothing but an artifact would be lost if another took its place.
pub(crate) fn can_give_way(place: &Path) -> bool {
    let is_empty = || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
    !place.exists() || place.join(Manifest::FILE).is_file() || is_empty()
}

/// The folder that `place` stands in.
pub(crate) fn parent_of(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts `from` at `to`; an artifact that stood there goes. At no moment is half of one there, and, where the file
/// system can swap two names, at none is nothing there.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<()> {
    let moving = || format!("what is finished stands in {}, not at {}", from.display(), to.display());
    ensure!(can_give_way(to), "{}: that is no artifact any more", moving());
    // What the runner noted of what stood there, or was lost there, does not hold for the new one.
    let (seal, name) =
        (to.with_added_extension("seal"), to.file_name().unwrap_or_default().to_string_lossy());
    if fs::read_to_string(&seal).is_ok_and(|text| text.contains(&format!("  {name}/{}", Manifest::FILE))) {
        let _ = fs::remove_file(seal);
    }
    let old = if fs::symlink_metadata(to).is_err() {
        fs::rename(from, to).with_context(moving)?;
        None
    } else if swap(from, to).is_ok() {
        Some(from.to_path_buf())
    } else {
        Some(in_steps(from, to).with_context(moving)?)
    };
    sync_folder(parent_of(to))?;
    old.map_or(Ok(()), |old| gone(&old))
}

/// Lets two names change places.
#[cfg(target_os = "linux")]
fn swap(one: &Path, other: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (one, other) = (name(one)?, name(other)?);
    // SAFETY: both are strings that end with a zero and outlive the call.
    let done = unsafe {
        libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), libc::RENAME_EXCHANGE)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn swap(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// The same for file systems that can't swap: what stood at `to` steps aside first, and back if `from` can't take its
/// place. Where it is now.
fn in_steps(from: &Path, to: &Path) -> Result<PathBuf> {
    let aside = new_folder_beside(to, "old")?;
    let old = aside.join("was");
    fs::rename(to, &old)?;
    if let Err(error) = fs::rename(from, to) {
        fs::rename(&old, to).with_context(|| format!("what stood there is in {}", old.display()))?;
        gone(&aside)?;
        return Err(error.into());
    }
    Ok(aside)
}

/// Removes what is ours to remove, be it a folder or a link to one.
fn gone(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes a folder beside `path` that nobody else has, called after it and with this ending.
pub fn new_folder_beside(path: &Path, ending: &str) -> Result<PathBuf> {
    let (folder, ()) = new_beside(path, ending, |aside| fs::create_dir(aside))
        .with_context(|| format!("making a folder beside {}", path.display()))?;
    Ok(folder)
}

/// Makes a folder's entries last through a loss of power.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let flushing = || format!("flushing folder {}", folder.display());
    File::open(folder).with_context(flushing)?.sync_all().with_context(flushing)
}

/// Writes a small file whole or not at all.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let (aside, mut file) =
        new_beside(path, "partial", |aside| File::create_new(aside)).with_context(writing)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(writing)?;
    fs::rename(&aside, path).with_context(writing)
}

/// Makes something beside `path` under a name that nobody else has, be it on another machine with the same number of a
/// process.
fn new_beside<T>(
    path: &Path,
    ending: &str,
    make: impl Fn(&Path) -> std::io::Result<T>,
) -> std::io::Result<(PathBuf, T)> {
    let mut number = std::process::id();
    loop {
        let aside = path.with_added_extension(format!("{number}.{ending}"));
        match make(&aside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            made => return Ok((aside, made?)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn one_gives_way_to_the_other_with_and_without_a_swap() {
        let folder = std::env::temp_dir().join(format!("rote-place-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("to"));
        let put = |place: &Path, text: &str| {
            fs::create_dir(place).unwrap();
            fs::write(place.join("a"), text).unwrap();
        };
        put(&from, "new");
        put(&to, "old");
        gone(&in_steps(&from, &to).unwrap()).unwrap();
        assert_eq!(
            (fs::read_to_string(to.join("a")).unwrap().as_str(), names(&folder)),
            ("new", vec!["to".into()])
        );
        // The new one can't come: the old one stands where it stood.
        assert!(in_steps(&from, &to).is_err());
        assert_eq!(
            (fs::read_to_string(to.join("a")).unwrap().as_str(), names(&folder)),
            ("new", vec!["to".into()])
        );
        #[cfg(target_os = "linux")]
        {
            put(&from, "newer");
            swap(&from, &to).unwrap();
            let read = |place: &Path| fs::read_to_string(place.join("a")).unwrap();
            assert_eq!((read(&from).as_str(), read(&to).as_str()), ("new", "newer"));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    /// What a folder holds, sorted.
    pub(crate) fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
