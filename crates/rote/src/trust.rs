//! Whether a result is what its key says: a stage may have been rebuilt, or an input rewritten, while it ran.

use std::path::Path;

use rote_store::{Digest, Key, Manifest};

use crate::shelf::{Found, Shelf};

/// What a stage was or read that is not what `key` says of it: it changed while the stage ran.
pub fn mistaken(place: &Path, manifest: &Manifest, key: &Key) -> Option<String> {
    if executable(place).is_some_and(|code| code != key.code) {
        return Some("executable".to_string());
    }
    misread(manifest, key).map(|port| format!("--{port}"))
}

/// What stands at `key`. A result that nobody has sealed yet was left by a run that was killed or by a command that was
/// pasted, perhaps when its inputs were others: it is compared with its key first.
pub fn find(shelf: &Shelf, key: &Key) -> Found {
    let digest = key.digest();
    match shelf.find(digest) {
        Found::Whole(manifest) if !shelf.is_sealed(digest) => {
            let place = shelf.place(digest);
            let other = match mistaken(&place, &manifest, key) {
                None if is_of(&manifest, key) => return Found::Whole(manifest),
                None => "stage".to_string(),
                Some(other) => other,
            };
            Found::Damaged(format!("{} was made with another {other} than its key asks for", place.display()))
        }
        found => found,
    }
}

/// Whether what an artifact says it is made of is what `key` asks for; the executable left out, since a result may have
/// been adopted.
pub fn is_of(manifest: &Manifest, key: &Key) -> bool {
    manifest.shard.is_none() && is_made_of(manifest, key)
}

/// The same of a part as well.
pub fn is_made_of(manifest: &Manifest, key: &Key) -> bool {
    manifest.stage.name == key.stage && misread(manifest, key).is_none()
}

/// Digest of the executable that made the artifact at `place`, as it says itself.
fn executable(place: &Path) -> Option<Digest> {
    let run = std::fs::read(place.join(Manifest::RUN_FILE)).ok()?;
    let run: serde_json::Value = serde_json::from_slice(&run).ok()?;
    run.get("executable")?.as_str()?.parse().ok()
}

/// The port that a stage read with other content or under another name than its key holds.
fn misread(manifest: &Manifest, key: &Key) -> Option<String> {
    let read = |port: &String| {
        let inputs = manifest.inputs.get(port).into_iter().flatten();
        inputs.map(|input| (input.name.clone(), input.content_id)).collect::<Vec<_>>()
    };
    let asked = |port: &String| {
        let inputs = key.inputs.get(port).into_iter().flatten();
        inputs.map(|input| (input.name.clone(), input.content)).collect::<Vec<_>>()
    };
    let mut ports = key.inputs.keys().chain(manifest.inputs.keys());
    ports.find(|port| read(port) != asked(port)).cloned()
}
