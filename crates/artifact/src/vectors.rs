//! Reading vectors: the activations of one hook at one block, streamed in the order written.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use parquet::file::reader::{FileReader, SerializedFileReader};
use rote_plan::Hook;

use crate::Misfit;
use crate::activation::{Activation, ActivationKey, Store};
use crate::column::read_column;
use crate::read::{batches, parts};

/// Streams the vectors of one hook at one block out of the artifact at `folder`, in the order written.
pub fn read_activations(
    folder: &Path,
    hook: Hook,
    block: i32,
    mut each: impl FnMut(Activation) -> Result<()>,
) -> Result<()> {
    let mut found = false;
    for path in parts(folder, "activation")? {
        for batch in batches(&path)? {
            let batch = batch?;
            let reading = || format!("reading {}", path.display());
            let hooks = read_column::<String>(&batch, "hook").with_context(reading)?;
            let blocks = read_column::<i32>(&batch, "block").with_context(reading)?;
            if hooks.first().is_some_and(|first| first != hook.name()) || blocks.first() != Some(&block) {
                break;
            }
            found = true;
            rows(&batch, hook).with_context(reading)?.into_iter().try_for_each(&mut each)?;
        }
    }
    if !found {
        let what = format!("no vectors of {hook} at block {block} in {}", folder.display());
        return Err(Misfit(what).into());
    }
    Ok(())
}

fn rows(batch: &RecordBatch, hook: Hook) -> Result<Vec<Activation>> {
    let changes = read_column::<String>(batch, "change")?;
    let requests = read_column::<u32>(batch, "request")?;
    let positions = read_column::<u32>(batch, "position")?;
    let tokens = read_column::<u32>(batch, "token")?;
    let heads = match hook {
        Hook::Pattern => Some(read_column::<u32>(batch, "head")?),
        _ => None,
    };
    let values = batch
        .column_by_name("value")
        .and_then(|column| column.as_fixed_size_list_opt())
        .ok_or_else(|| Misfit("column `value` is no list of fixed size".to_string()))?;
    let row = |(row, change)| Activation {
        change,
        request: requests[row],
        position: positions[row],
        token: tokens[row],
        head: heads.as_ref().map(|heads| heads[row]),
        value: values.value(row).as_primitive::<Float32Type>().values().to_vec(),
    };
    Ok(changes.into_iter().enumerate().map(row).collect())
}

/// One hook at one block: where its parts lie and what stands in their metadata.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Folder of the parts, relative to the artifact.
    folder: PathBuf,
    pub(crate) key: ActivationKey,
    pub(crate) store: Store,
    /// Everything under `rote.*`, in the order written.
    pub(crate) metadata: Vec<(String, String)>,
}

/// Every hook and block of the artifact at `folder`.
pub(crate) fn heads_of(folder: &Path) -> Result<Vec<Head>> {
    let mut heads: Vec<Head> = Vec::new();
    for path in parts(folder, "activation")? {
        let inside =
            path.parent().and_then(|parent| parent.strip_prefix(folder).ok()).unwrap_or(Path::new(""));
        if heads.last().is_none_or(|head| head.folder != inside) {
            heads.push(head(&path, inside).with_context(|| format!("reading {}", path.display()))?);
        }
    }
    Ok(heads)
}

fn head(path: &Path, inside: &Path) -> Result<Head> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let pairs = reader.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let metadata: Vec<_> = pairs
        .filter(|pair| pair.key.starts_with("rote."))
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
        .collect();
    let get = |name: &str| {
        let found = metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        found.ok_or_else(|| Misfit(format!("`{name}` is missing from its metadata")))
    };
    let shape = get("rote.shape")?;
    let key = ActivationKey {
        hook: get("rote.hook")?.parse()?,
        block: get("rote.block")?.parse().context("rote.block")?,
        width: shape.trim_matches(['[', ']']).parse().context("rote.shape")?,
    };
    let store = if get("rote.store")? == "bf16" { Store::Bf16 } else { Store::F32 };
    Ok(Head { folder: inside.to_path_buf(), key, store, metadata })
}

/// Rows of one hook at one block of one artifact, one by one.
pub(crate) struct Reader {
    files: VecDeque<PathBuf>,
    hook: Hook,
    batches: Option<Box<dyn Iterator<Item = Result<RecordBatch>>>>,
    rows: VecDeque<Activation>,
}

impl Reader {
    /// Of the artifact at `folder`, which must hold what `head` says.
    pub(crate) fn open(folder: &Path, head: &Head) -> Result<Reader> {
        let place = folder.join(&head.folder);
        let mut files = crate::read::files(&place)?;
        files.sort();
        let about = || format!("reading {}", place.display());
        let first = files.first().ok_or_else(|| Misfit("no such vectors".to_string())).with_context(about)?;
        let other = self::head(first, &head.folder).with_context(about)?;
        let same = other.metadata == head.metadata;
        ensure!(same, Misfit(format!("{}: other metadata than the first part", place.display())));
        Ok(Reader { files: files.into(), hook: head.key.hook, batches: None, rows: VecDeque::new() })
    }

    /// The next row, left where it is.
    pub(crate) fn peek(&mut self) -> Result<Option<&Activation>> {
        while self.rows.is_empty() {
            match self.batches.as_mut().and_then(Iterator::next) {
                Some(batch) => self.rows = rows(&batch?, self.hook)?.into(),
                None => match self.files.pop_front() {
                    Some(file) => self.batches = Some(Box::new(batches(&file)?)),
                    None => return Ok(None),
                },
            }
        }
        Ok(self.rows.front())
    }

    /// The next row if it is under `change`.
    pub(crate) fn next_of(&mut self, change: &str) -> Result<Option<Activation>> {
        let is_next = self.peek()?.is_some_and(|row| row.change == change);
        Ok(if is_next { self.rows.pop_front() } else { None })
    }
}
