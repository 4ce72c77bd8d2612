//! `Manifest`: what a finished artifact holds and how it was made (`artifact.json`); deterministic.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;

/// One file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the artifact, with `/`.
    pub path: String,
    /// Rows, where it is a part of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Size in bytes.
    pub bytes: u64,
    /// Of its bytes.
    pub blake3: Digest,
}

/// One table of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Name and version, such as `rote.outcome/1`.
    pub schema: String,
    /// Rows in all parts.
    pub rows: u64,
}

/// The stage that made an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageEntry {
    /// Its name, such as `score`.
    pub name: String,
    /// Version of its package.
    pub version: String,
}

/// One input of an artifact, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputEntry {
    /// What the caller named it, for inputs given as `NAME=FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Content id of an artifact, digest of a file or folder.
    pub content_id: Digest,
    /// The stage that made it, where it is an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// An artifact that another was made of, directly or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its content id.
    pub content_id: Digest,
    /// What made it.
    pub stage: StageEntry,
    /// Its parameters in full.
    pub parameters: Value,
    /// Its own inputs by flag.
    pub inputs: BTreeMap<String, Vec<InputEntry>>,
}

/// A model that an artifact's numbers are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// `model_type` of its configuration.
    pub family: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Number of blocks.
    pub n_blocks: u32,
    /// Heads per block.
    pub n_heads: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Digest of the model's files.
    pub content_id: Digest,
}

/// `artifact.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `rote.artifact/1`.
    pub format: String,
    /// Digest of the content: of every file but `run.json`, by name.
    pub content_id: Digest,
    /// What made it.
    pub stage: StageEntry,
    /// Parameters in full, defaults included.
    pub parameters: Value,
    /// Inputs by flag.
    pub inputs: BTreeMap<String, Vec<InputEntry>>,
    /// Every artifact it was made of, directly or not, by stage and content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Ancestor>,
    /// Models the numbers are about, its own or its inputs'.
    #[serde(default)]
    pub subjects: Vec<Subject>,
    /// Tables by name.
    pub tables: BTreeMap<String, TableEntry>,
    /// Every file, by path.
    pub files: Vec<FileEntry>,
    /// Which part of the work it holds, such as `1/4`; such a part is joined with the others before anything reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// Things worth knowing that are no error, counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Manifest {
    /// Its file name.
    pub const FILE: &'static str = "artifact.json";
    /// What may differ from run to run: times, host, threads.
    pub const RUN_FILE: &'static str = "run.json";
    /// Format version.
    pub const FORMAT: &'static str = "rote.artifact/1";

    /// Reads the manifest of the artifact at `folder`.
    pub fn read(folder: &Path) -> Result<Manifest> {
        let path = folder.join(Manifest::FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: Manifest =
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            manifest.format == Manifest::FORMAT,
            "{}: format `{}` is not `{}`",
            path.display(),
            manifest.format,
            Manifest::FORMAT
        );
        Ok(manifest)
    }

    /// It and every artifact it was made of, as what is made of it knows them.
    pub fn ancestors(self) -> Vec<Ancestor> {
        let Manifest { content_id, stage, parameters, inputs, mut lineage, .. } = self;
        lineage.push(Ancestor { content_id, stage, parameters, inputs });
        lineage
    }

    /// The content id that `files` and `tables` make.
    pub fn content_of(files: &[FileEntry], tables: &BTreeMap<String, TableEntry>) -> Digest {
        let schemas = tables.iter().map(|(name, table)| (name.as_str(), Digest::of(table.schema.as_bytes())));
        Digest::of_parts(schemas.chain(files.iter().map(|file| (file.path.as_str(), file.blake3))))
    }
}
