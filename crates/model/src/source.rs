//! `Source`: what `--model` names (a folder, a GGUF file, a hub id with a revision) as files on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rote_store::HubId;
use serde_json::Value;

/// A model's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Hugging Face layout.
    Folder(PathBuf),
    /// One file with everything in it.
    Gguf(PathBuf),
}

impl Source {
    /// Finds what `text` names: a path first, then a hub id `organisation/name[@revision]` in the local cache.
    /// Nothing is downloaded.
    ///
    /// # Errors
    /// Nothing of that name is there; the message says where it was looked for.
    pub fn find(text: &str) -> Result<Self> {
        Self::find_in(text, &rote_store::hub_caches())
    }

    fn find_in(text: &str, caches: &[PathBuf]) -> Result<Self> {
        let path = Path::new(text);
        if path.is_dir() {
            ensure!(
                path.join("config.json").is_file(),
                "model `{text}`: the folder has no config.json; expected config.json, weights \
                 (model.safetensors, its shards with model.safetensors.index.json, or pytorch_model.bin) and \
                 tokenizer.json"
            );
            return Ok(Source::Folder(path.to_path_buf()));
        }
        if path.is_file() {
            ensure!(
                path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")),
                "model `{text}`: a file must be a .gguf; for other formats name the folder it lies in"
            );
            return Ok(Source::Gguf(path.to_path_buf()));
        }
        let Some(id) = HubId::parse(text) else {
            bail!(
                "model `{text}`: no such folder or file, and not a hub id such as `organisation/name@revision`"
            );
        };
        let snapshot = id.snapshot_in(caches).with_context(|| format!("model `{text}`"))?;
        Ok(Source::Folder(snapshot))
    }

    /// Every file that makes the model: configuration, weights, tokenizer.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        match self {
            Source::Gguf(path) => Ok(vec![path.clone()]),
            Source::Folder(folder) => {
                let beside =
                    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
                let present = beside.iter().map(|name| folder.join(name)).filter(|path| path.is_file());
                Ok(present.chain(weight_files(folder)?).collect())
            }
        }
    }
}

/// The files that hold a folder's weights, in order of their names.
pub(crate) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    for stem in ["model.safetensors", "pytorch_model.bin"] {
        let whole = folder.join(stem);
        if whole.is_file() {
            return Ok(vec![whole]);
        }
        let index = folder.join(format!("{stem}.index.json"));
        if index.is_file() {
            return shards(folder, &index).with_context(|| format!("reading {}", index.display()));
        }
    }
    bail!(
        "{}: no weights; looked for model.safetensors, model.safetensors.index.json, pytorch_model.bin, \
         pytorch_model.bin.index.json",
        folder.display()
    )
}

fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let index: Value = serde_json::from_slice(&fs::read(index)?)?;
    let map = index["weight_map"].as_object().context("`weight_map` is missing")?;
    let names = map
        .values()
        .map(|name| name.as_str().context("`weight_map` names a file that is no text"))
        .collect::<Result<BTreeSet<_>>>()?;
    ensure!(!names.is_empty(), "`weight_map` is empty");
    names
        .into_iter()
        .map(|name| {
            let path = Path::new(name);
            let plain = matches!(path.components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
            ensure!(plain, "shard `{name}` lies outside the folder");
            let path = folder.join(path);
            ensure!(path.is_file(), "shard `{name}` is missing");
            Ok(path)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("models--acme--tiny");
        for commit in ["aaaa", "bbbb"] {
            fs::create_dir_all(home.join("snapshots").join(commit)).unwrap();
            fs::write(home.join("snapshots").join(commit).join("config.json"), "{}").unwrap();
        }
        fs::create_dir_all(home.join("refs")).unwrap();
        fs::write(home.join("refs").join("main"), "aaaa").unwrap();
        fs::write(home.join("refs").join("step1000"), "bbbb\n").unwrap();
        fs::create_dir_all(home.join("snapshots").join("cccc")).unwrap();
        let caches = vec![folder.path().to_path_buf()];
        (folder, caches)
    }

    #[test]
    fn hub_ids_are_found_by_branch_tag_and_commit() {
        let (folder, caches) = cache();
        for (text, commit) in [
            ("acme/tiny", "aaaa"),
            ("acme/tiny@main", "aaaa"),
            ("acme/tiny@step1000", "bbbb"),
            ("acme/tiny@bbbb", "bbbb"),
        ] {
            let expected = folder.path().join("models--acme--tiny").join("snapshots").join(commit);
            assert_eq!(Source::find_in(text, &caches).unwrap(), Source::Folder(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_where_it_was_looked_for() {
        let (_folder, caches) = cache();
        for (text, because) in [
            ("acme/tiny@step9", "revision `step9` is not in the local Hugging Face cache; looked for"),
            ("acme/other", "models--acme--other"),
            ("acme/tiny@cccc", "incomplete"),
            ("/no/such/folder", "no such folder or file"),
            ("acme/tiny@../../etc", "no such folder or file"),
        ] {
            let error = format!("{:#}", Source::find_in(text, &caches).unwrap_err());
            assert!(error.contains(because), "{text}: {error}");
        }
    }
}
