//! Fused operations with a backward pass: linear layer, layer norm, GELU and the loss.
//!
//! candle's own fused layer norm and softmax give no gradient and no error; its composed forms make many passes
//! over memory. These make one, and the linear layer needs no transposed copy.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

use crate::numbers::{Gelu, Into, View, column_sums, gelu, gelu_backward, product, softmax};

/// The numbers of a contiguous 32-bit tensor on the processor.
pub(crate) fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => bail!("training: expected a contiguous f32 tensor, found {layout:?}"),
    }
}

/// Calls `f` with the numbers of a tensor.
pub(crate) fn with_numbers<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(numbers(storage, layout)?),
        _ => bail!("training: only the processor is supported"),
    }
}

fn tensor(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

/// `x [N, in] · weight [out, in]ᵀ + bias [out]`; a bias of one element means none.
pub struct Linear {
    /// Threads for the products.
    pub threads: usize,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, k) = x_layout.shape().dims2()?;
        let (m, _) = weight_layout.shape().dims2()?;
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let bias = numbers(bias, bias_layout)?;
        let mut out = Vec::with_capacity(n * m);
        let into = if bias.len() == m {
            (0..n).for_each(|_| out.extend_from_slice(bias));
            Into::Add
        } else {
            out.resize(n * m, 0.0);
            Into::Replace
        };
        product(
            &mut out,
            m,
            into,
            (n, k, m),
            View::new(x, k),
            View::new(weight, k).transposed(),
            1.0,
            self.threads,
        );
        Ok((CpuStorage::F32(out), Shape::from((n, m))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (n, k) = x.dims2()?;
        let m = weight.dim(0)?;
        with_numbers(grad, |grad| {
            let mut grad_x = vec![0.0; n * k];
            with_numbers(weight, |weight| {
                let (a, b) = (View::new(grad, m), View::new(weight, k));
                product(&mut grad_x, k, Into::Replace, (n, m, k), a, b, 1.0, self.threads);
                Ok(())
            })?;
            let mut grad_weight = vec![0.0; m * k];
            with_numbers(x, |x| {
                let (a, b) = (View::new(grad, m).transposed(), View::new(x, k));
                product(&mut grad_weight, k, Into::Replace, (m, n, k), a, b, 1.0, self.threads);
                Ok(())
            })?;
            let grad_bias = match bias.elem_count() == m {
                true => Some(tensor(column_sums(grad, m), bias)?),
                false => None,
            };
            Ok((Some(tensor(grad_x, x)?), Some(tensor(grad_weight, weight)?), grad_bias))
        })
    }
}

/// Layer norm of the rows of `x [N, D]`, with the variance in a second pass.
pub struct LayerNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNorm {
    fn mean_and_rate(&self, row: &[f32]) -> (f32, f32) {
        let mean = row.iter().sum::<f32>() / row.len() as f32;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / row.len() as f32;
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let bias = numbers(bias, bias_layout)?;
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let (mean, rate) = self.mean_and_rate(row);
            out.extend(row.iter().zip(weight).zip(bias).map(|((x, w), b)| (x - mean) * rate * w + b));
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = weight.elem_count();
        let mut grad_x = vec![0.0; x.elem_count()];
        let mut grad_weight = vec![0.0; width];
        let mut grad_bias = vec![0.0; width];
        let mut normed = vec![0.0; width];
        with_numbers(x, |x| {
            with_numbers(weight, |weight| {
                with_numbers(grad, |grad| {
                    let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                    for ((x, grad), to) in rows.zip(grad_x.chunks_exact_mut(width)) {
                        let (mean, rate) = self.mean_and_rate(x);
                        let (mut sum, mut sum_normed) = (0.0, 0.0);
                        for d in 0..width {
                            normed[d] = (x[d] - mean) * rate;
                            to[d] = grad[d] * weight[d];
                            grad_weight[d] += grad[d] * normed[d];
                            grad_bias[d] += grad[d];
                        }
                        for d in 0..width {
                            sum += to[d];
                            sum_normed += to[d] * normed[d];
                        }
                        let (sum, sum_normed) = (sum / width as f32, sum_normed / width as f32);
                        for d in 0..width {
                            to[d] = (to[d] - sum - normed[d] * sum_normed) * rate;
                        }
                    }
                    Ok(())
                })
            })
        })?;
        Ok((Some(tensor(grad_x, x)?), Some(tensor(grad_weight, weight)?), Some(tensor(grad_bias, bias)?)))
    }
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(gelu(*self, numbers(x, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let through = with_numbers(x, |x| with_numbers(grad, |grad| Ok(gelu_backward(*self, x, grad))))?;
        Ok(Some(tensor(through, x)?))
    }
}

/// Mean negative log-probability of the target tokens under `logits [N, V]`.
pub struct CrossEntropy {
    targets: Vec<u32>,
    /// The forward pass leaves the probabilities here for the backward pass.
    probabilities: Mutex<Vec<f32>>,
}

impl CrossEntropy {
    /// The loss against `targets`, one for each row of the logits.
    pub fn new(targets: &[u32]) -> Self {
        Self { targets: targets.to_vec(), probabilities: Mutex::new(Vec::new()) }
    }

    fn kept(&self) -> Result<std::sync::MutexGuard<'_, Vec<f32>>> {
        self.probabilities.lock().map_err(|_| candle_core::Error::Msg("loss: a thread failed".into()))
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, vocabulary) = layout.shape().dims2()?;
        if rows != self.targets.len() {
            bail!("loss: {rows} rows of logits for {} targets", self.targets.len());
        }
        let mut kept = numbers(logits, layout)?.to_vec();
        let mut total = 0.0f64;
        for (row, &target) in kept.chunks_exact_mut(vocabulary).zip(&self.targets) {
            softmax(row);
            total -= f64::from(row[target as usize].max(f32::MIN_POSITIVE)).ln();
        }
        *self.kept()? = kept;
        Ok((CpuStorage::F32(vec![(total / rows as f64) as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, vocabulary) = logits.dims2()?;
        let share = grad.to_scalar::<f32>()? / rows as f32;
        let mut through = std::mem::take(&mut *self.kept()?);
        if through.is_empty() {
            bail!("loss: the backward pass can run once");
        }
        for (row, &target) in through.chunks_exact_mut(vocabulary).zip(&self.targets) {
            row[target as usize] -= 1.0;
            row.iter_mut().for_each(|value| *value *= share);
        }
        Ok(Some(tensor(through, logits)?))
    }
}
