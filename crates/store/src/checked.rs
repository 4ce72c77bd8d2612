//! Small files of the runner's own that tell when a bit of them has flipped: the first line is the digest of the rest.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::{Digest, atomic_write};

/// Writes `bytes` after their digest, whole or not at all.
pub fn write_checked(path: &Path, bytes: &[u8]) -> Result<()> {
    let head = format!("{}\n", Digest::of(bytes));
    atomic_write(path, &[head.as_bytes(), bytes].concat())
}

/// What was written; `None` where there is no such file.
///
/// # Errors
/// It can't be read, or is not what was written.
pub fn read_checked(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.with_context(|| format!("reading {}", path.display()))?,
    };
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |newline| newline + 1);
    let rest = bytes.split_off(end);
    let is_whole = bytes == format!("{}\n", Digest::of(&rest)).as_bytes();
    ensure!(is_whole, "{}: is not what was written", path.display());
    Ok(Some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_shows() {
        let path = std::env::temp_dir().join(format!("rote-checked-{}", std::process::id()));
        assert!(read_checked(&path).unwrap().is_none());
        write_checked(&path, b"{\"a\": 1}\n").unwrap();
        assert_eq!(read_checked(&path).unwrap().unwrap(), b"{\"a\": 1}\n");
        let bytes = fs::read(&path).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            assert!(read_checked(&path).is_err(), "bit {bit}");
        }
        fs::remove_file(path).unwrap();
    }
}
