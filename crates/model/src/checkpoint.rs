//! `Checkpoint`: tensors by name, whatever files hold them (safetensors, PyTorch, GGUF), widened when read.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

use crate::Real;
use crate::gguf::Gguf;

/// The tensors of a model's files.
pub(crate) struct Checkpoint {
    files: Vec<TensorFile>,
    tensors: BTreeMap<String, Stored>,
    /// Files in which the tensors are, for messages.
    paths: Vec<PathBuf>,
}

enum TensorFile {
    Mapped(Mmap),
    Pickled(PthTensors),
    Gguf(Gguf),
}

struct Stored {
    file: usize,
    shape: Vec<usize>,
    /// Of mapped files: number type and place of the bytes.
    bytes: Option<(Dtype, Range<usize>)>,
}

impl Checkpoint {
    /// Opens weight files of one kind; nothing but headers is read.
    ///
    /// # Errors
    /// A file that is empty, truncated or not what its name says; a name that stands in two files.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut checkpoint =
            Checkpoint { files: Vec::new(), tensors: BTreeMap::new(), paths: paths.to_vec() };
        for path in paths {
            checkpoint.add(path).with_context(|| format!("reading {}", path.display()))?;
        }
        Ok(checkpoint)
    }

    /// Takes over an opened GGUF file.
    pub fn of_gguf(gguf: Gguf) -> Self {
        let tensors = gguf
            .tensors()
            .map(|(name, shape)| (name.to_string(), Stored { file: 0, shape, bytes: None }))
            .collect();
        let paths = vec![gguf.path().to_path_buf()];
        Checkpoint { files: vec![TensorFile::Gguf(gguf)], tensors, paths }
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let file = self.files.len();
        let (opened, found) = match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => map_safetensors(path)?,
            _ => open_pickle(path)?,
        };
        self.files.push(opened);
        for (name, shape, bytes) in found {
            let earlier = self.tensors.insert(name.clone(), Stored { file, shape, bytes });
            if let Some(earlier) = earlier {
                bail!("tensor `{name}` stands in {} as well", self.paths[earlier.file].display());
            }
        }
        Ok(())
    }

    /// Names and shapes, in order of the names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), stored.shape.as_slice()))
    }

    /// One tensor's shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| stored.shape.as_slice())
    }

    /// The files, for messages.
    pub fn place(&self) -> String {
        match self.paths.as_slice() {
            [one] => one.display().to_string(),
            [first, ..] => format!("{} and {} more", first.display(), self.paths.len() - 1),
            [] => "no file".to_string(),
        }
    }

    /// Appends a tensor's values in row-major order. 16-bit and 32-bit values are widened exactly; 64-bit ones
    /// are rounded where `T` is f32; GGUF's blocks are dequantised to f32 first.
    pub fn read_into<T: Real>(&self, name: &str, out: &mut Vec<T>) -> Result<()> {
        let stored = self.tensors.get(name).ok_or_else(|| anyhow!("tensor `{name}` is missing"))?;
        let path = &self.paths[stored.file];
        let place = || format!("reading {}: tensor `{name}`", path.display());
        match (&self.files[stored.file], &stored.bytes) {
            (TensorFile::Mapped(map), Some((dtype, range))) => {
                widen(*dtype, &map[range.clone()], out).with_context(place)
            }
            (TensorFile::Mapped(_), None) => unreachable!("a mapped tensor has its place"),
            (TensorFile::Pickled(pickle), _) => unpickle(pickle, name, out).with_context(place),
            (TensorFile::Gguf(gguf), _) => {
                let values = gguf.dequantise(name).with_context(place)?;
                out.extend(values.into_iter().map(|value| T::of(f64::from(value))));
                Ok(())
            }
        }
    }
}

type Found = Vec<(String, Vec<usize>, Option<(Dtype, Range<usize>)>)>;

/// Maps a file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path)?;
    ensure!(file.metadata()?.len() > 0, "the file is empty");
    // SAFETY: the map is read-only, and model files are not written to while a stage reads them; that they
    // are replaced by rename, not in place, is the contract of every tool that writes them.
    Ok(unsafe { Mmap::map(&file) }?)
}

fn map_safetensors(path: &Path) -> Result<(TensorFile, Found)> {
    let map = map(path)?;
    let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| damaged(&map, &error))?;
    let start = 8 + header;
    let found = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (from, to) = info.data_offsets;
            (name, info.shape.clone(), Some((info.dtype, start + from..start + to)))
        })
        .collect();
    Ok((TensorFile::Mapped(map), found))
}

/// What a broken header means, in words.
fn damaged(map: &Mmap, error: &safetensors::SafeTensorError) -> anyhow::Error {
    use safetensors::SafeTensorError as Bad;
    let size = map.len();
    match error {
        Bad::HeaderTooSmall | Bad::InvalidHeaderLength | Bad::MetadataIncompleteBuffer => {
            anyhow!(
                "the file is truncated or damaged: {size} bytes are not what its header announces ({error})"
            )
        }
        _ => anyhow!("not a safetensors file: {error}"),
    }
}

fn open_pickle(path: &Path) -> Result<(TensorFile, Found)> {
    ensure!(std::fs::metadata(path)?.len() > 0, "the file is empty");
    let pickle = PthTensors::new(path, None)
        .map_err(|error| anyhow!("not a PyTorch archive, or a truncated one: {error}"))?;
    let found: Found = pickle
        .tensor_infos()
        .iter()
        .map(|(name, info)| (name.clone(), info.layout.dims().to_vec(), None))
        .collect();
    ensure!(!found.is_empty(), "no tensors found; the file should hold a state dict");
    Ok((TensorFile::Pickled(pickle), found))
}

fn unpickle<T: Real>(pickle: &PthTensors, name: &str, out: &mut Vec<T>) -> Result<()> {
    let info = &pickle.tensor_infos()[name];
    // The reader takes the offset of a view for bytes, though it counts values.
    ensure!(
        info.layout.start_offset() == 0,
        "is a view into a larger tensor; save the checkpoint as safetensors"
    );
    let tensor = pickle.get(name)?.context("is missing")?.flatten_all()?;
    extend(&tensor, out)
}

fn extend<T: Real>(tensor: &Tensor, out: &mut Vec<T>) -> Result<()> {
    match tensor.dtype() {
        DType::F64 => out.extend(tensor.to_vec1::<f64>()?.into_iter().map(T::of)),
        DType::F32 => out.extend(tensor.to_vec1::<f32>()?.into_iter().map(|value| T::of(f64::from(value)))),
        DType::F16 => out.extend(tensor.to_vec1::<f16>()?.into_iter().map(|value| T::of(value.to_f64()))),
        DType::BF16 => out.extend(tensor.to_vec1::<bf16>()?.into_iter().map(|value| T::of(value.to_f64()))),
        other => bail!("holds {} values, expected float32, float16, bfloat16 or float64", other.as_str()),
    }
    Ok(())
}

fn widen<T: Real>(dtype: Dtype, bytes: &[u8], out: &mut Vec<T>) -> Result<()> {
    match dtype {
        Dtype::F64 => each(bytes, out, |b: [u8; 8]| f64::from_le_bytes(b)),
        Dtype::F32 => each(bytes, out, |b: [u8; 4]| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => each(bytes, out, |b: [u8; 2]| f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => each(bytes, out, |b: [u8; 2]| bf16::from_le_bytes(b).to_f64()),
        other => bail!("holds {other:?} values, expected F32, F16, BF16 or F64"),
    }
    Ok(())
}

/// Widens values of `SIZE` bytes, in parallel where there are many.
fn each<T: Real, const SIZE: usize>(bytes: &[u8], out: &mut Vec<T>, f: impl Fn([u8; SIZE]) -> f64 + Sync) {
    const CHUNK: usize = 1 << 16;
    let (values, _) = bytes.as_chunks::<SIZE>();
    let start = out.len();
    out.resize(start + values.len(), T::ZERO);
    out[start..].par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(out, values)| {
        for (out, value) in out.iter_mut().zip(values) {
            *out = T::of(f(*value));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_values_are_widened_exactly() {
        let values = [1.5_f32, -0.25, 6.103_515_6e-5, f32::NAN, f32::INFINITY];
        let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let brains: Vec<u8> = values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        for (dtype, bytes) in [(Dtype::F16, halves), (Dtype::BF16, brains)] {
            let mut out = vec![7.0_f32];
            widen(dtype, &bytes, &mut out).unwrap();
            assert_eq!(out[..4], [7.0, 1.5, -0.25, 6.103_515_6e-5]);
            assert!(out[4].is_nan() && out[5] == f32::INFINITY);
        }
        assert!(widen::<f32>(Dtype::I64, &[0; 8], &mut Vec::new()).is_err());
    }
}
