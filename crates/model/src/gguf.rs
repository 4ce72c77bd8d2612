//! `Gguf`: a GGUF file's metadata and tensors; the blocks of quantised tensors are opened to f32.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use memmap2::Mmap;

use crate::checkpoint::map;

/// An opened GGUF file.
pub(crate) struct Gguf {
    path: PathBuf,
    map: Mmap,
    content: Content,
}

impl Gguf {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let place = || format!("reading {}", path.display());
        let map = map(path).with_context(place)?;
        let content = Content::read(&mut Cursor::new(&map[..]))
            .map_err(|error| anyhow!("not a GGUF file, or a truncated one: {error}"))
            .with_context(place)?;
        Ok(Gguf { path: path.to_path_buf(), map, content })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes, slowest axis first.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Vec<usize>)> {
        self.content.tensor_infos.iter().map(|(name, info)| (name.as_str(), info.shape.dims().to_vec()))
    }

    /// A tensor's values in row-major order.
    pub fn dequantise(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.content.tensor(&mut Cursor::new(&self.map[..]), name, &Device::Cpu)?;
        Ok(tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.content.metadata.contains_key(key)
    }

    /// A whole number.
    pub fn integer(&self, key: &str) -> Result<Option<u64>> {
        self.with(key, |value| match value {
            Value::U8(v) => Some(u64::from(*v)),
            Value::U16(v) => Some(u64::from(*v)),
            Value::U32(v) => Some(u64::from(*v)),
            Value::U64(v) => Some(*v),
            Value::I8(v) => u64::try_from(*v).ok(),
            Value::I16(v) => u64::try_from(*v).ok(),
            Value::I32(v) => u64::try_from(*v).ok(),
            Value::I64(v) => u64::try_from(*v).ok(),
            _ => None,
        })
    }

    /// A number; f32 values are taken as the decimal fraction they were written from (1e-5, not
    /// 0.00000999999974…).
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.with(key, |value| match value {
            Value::F32(v) => v.to_string().parse().ok(),
            Value::F64(v) => Some(*v),
            _ => None,
        })
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.with(key, |value| match value {
            Value::String(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// Yes or no.
    pub fn truth(&self, key: &str) -> Result<Option<bool>> {
        self.with(key, |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.with(key, |value| match value {
            Value::Array(values) => values
                .iter()
                .map(|value| match value {
                    Value::String(v) => Some(v.as_str()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// A list of small whole numbers.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.with(key, |value| match value {
            Value::Array(values) => values
                .iter()
                .map(|value| match value {
                    Value::I32(v) => Some(i64::from(*v)),
                    Value::U32(v) => Some(i64::from(*v)),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    fn with<'a, V>(&'a self, key: &str, take: impl Fn(&'a Value) -> Option<V>) -> Result<Option<V>> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        match take(value) {
            Some(value) => Ok(Some(value)),
            None => bail!("{}: metadata `{key}` has an unexpected type", self.path.display()),
        }
    }
}
