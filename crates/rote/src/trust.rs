//! Whether a result is what its key says: a stage may have been rebuilt, or an input rewritten, while it ran.

use std::path::Path;

use rote_store::{Digest, Key, KeyInput, Manifest};

/// What a stage was or read that is not what `key` says of it: it changed while the stage ran.
pub fn mistaken(place: &Path, manifest: &Manifest, key: &Key) -> Option<String> {
    if executable(place).is_some_and(|code| code != key.code) {
        return Some("its executable".to_string());
    }
    misread(manifest, key).map(|port| format!("--{port}"))
}

/// Whether what an artifact says it is made of is what `key` asks for; the executable left out, since a result may have
/// been adopted.
pub fn is_of(manifest: &Manifest, key: &Key) -> bool {
    manifest.stage.name == key.stage && manifest.shard.is_none() && misread(manifest, key).is_none()
}

/// Digest of the executable that made the artifact at `place`, as it says itself.
fn executable(place: &Path) -> Option<Digest> {
    let run = std::fs::read(place.join(Manifest::RUN_FILE)).ok()?;
    let run: serde_json::Value = serde_json::from_slice(&run).ok()?;
    run.get("executable")?.as_str()?.parse().ok()
}

/// The port that a stage read with other content than its key holds.
fn misread(manifest: &Manifest, key: &Key) -> Option<String> {
    let differs = |(port, inputs): (&String, &Vec<KeyInput>)| {
        let read = manifest.inputs.get(port).into_iter().flatten().map(|input| input.content_id);
        (!read.eq(inputs.iter().map(|input| input.content))).then(|| port.clone())
    };
    key.inputs.iter().find_map(differs)
}
