//! What a sweep computes and holds, told from what is declared alone; no weight is read, nothing is run.

use std::path::Path;

use anyhow::{Context, Result};
use rote_artifact::tables::Request;
use rote_model::{MlpKind, Real, Residual, Spec, load_size, load_spec};
use rote_plan::{Intervention, unfold};

/// Multiply-adds of the matrix products with which the model `name` answers `requests` under `changes`, about.
///
/// # Errors
/// No such model; an intervention it can't have.
pub fn multiply_adds(name: &Path, requests: &[Request], changes: &[String]) -> Result<f64> {
    let spec = load_spec(name.to_str().context("--model is not UTF-8")?)?;
    Ok(of_sweep(&spec, requests, &unfold(changes, spec.n_blocks).context("--change")?))
}

/// Bytes of the weights of the model `name` as a computation in `dtype` (`f32` or `f64`) holds them.
///
/// # Errors
/// No such model; a file that is damaged.
pub fn weight_bytes(name: &Path, dtype: &str) -> Result<u64> {
    let each = if dtype == f64::NAME { size_of::<f64>() } else { size_of::<f32>() };
    Ok(load_size(name.to_str().context("--model is not UTF-8")?)? * each as u64)
}

/// Each intervention runs the blocks from its first changed one on, but for the first one's MLP where that is known
/// ([`rote_model::MlpOut`]), and reads out the continuation. Attention's own products are left out.
fn of_sweep(spec: &Spec, requests: &[Request], changes: &[Intervention]) -> f64 {
    let (width, mlp) = (spec.d_model as f64, spec.d_mlp as f64);
    let matrices = if matches!(spec.mlp, MlpKind::Gated(_)) { 3.0 } else { 2.0 };
    let block = 2.0 * width * (spec.d_query() + spec.d_kv()) as f64 + matrices * width * mlp;
    let readout = (spec.vocab * spec.d_embed) as f64;
    let tokens: usize =
        requests.iter().map(|request| request.context.len() + request.continuation.len()).sum();
    let scored: usize = requests.iter().map(|request| request.continuation.len()).sum();
    let firsts = || changes.iter().map(|change| change.first_block(spec.n_blocks));
    let blocks: usize = firsts().map(|first| spec.n_blocks - first.unwrap_or(0).min(spec.n_blocks)).sum();
    let known = if spec.residual == Residual::Parallel { firsts().flatten().count() } else { 0 };
    let blocks = blocks as f64 * block - known as f64 * matrices * width * mlp;
    tokens as f64 * blocks + (scored * changes.len()) as f64 * readout
}
