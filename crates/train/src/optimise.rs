//! AdamW with a warm-up, a cosine decay and clipped gradients.

use anyhow::{Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, Var};
use std::cell::RefCell;

use crate::model::Model;
use crate::operations::with_numbers;

const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.99;
const EPSILON: f32 = 1e-8;
const WEIGHT_DECAY: f32 = 0.01;
const LARGEST_NORM: f64 = 1.0;
/// The rate at the end, as a share of the highest.
const FLOOR: f64 = 0.02;

/// The learning rate of a step: up in a straight line over a fiftieth of the run, then down along a cosine.
pub fn rate(highest: f64, step: usize, steps: usize) -> f64 {
    let warm_up = (steps / 50).max(1);
    if step < warm_up {
        return highest * (step + 1) as f64 / warm_up as f64;
    }
    let done = (step - warm_up) as f64 / (steps - warm_up).max(1) as f64;
    highest * (FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
}

/// Running means of gradients and of their squares, one pair for each variable.
pub struct Adam {
    moments: Vec<RefCell<(Vec<f32>, Vec<f32>)>>,
    step: i32,
}

impl Adam {
    /// Nothing seen yet.
    pub fn new(model: &Model) -> Self {
        let moments = model.variables().map(|(_, variable)| {
            let count = variable.elem_count();
            RefCell::new((vec![0.0; count], vec![0.0; count]))
        });
        Self { moments: moments.collect(), step: 0 }
    }

    /// Moves every variable against its gradient.
    pub fn step(&mut self, model: &Model, gradients: &GradStore, rate: f64) -> Result<()> {
        if self.step == 0 {
            complete(model, gradients)?;
        }
        self.step += 1;
        let mut square = 0.0f64;
        for gradient in model.variables().filter_map(|(_, variable)| gradients.get(variable)) {
            square += with_numbers(gradient, |all| {
                Ok(all
                    .chunks(4096)
                    .map(|part| f64::from(part.iter().map(|g| g * g).sum::<f32>()))
                    .sum::<f64>())
            })?;
        }
        ensure!(square.is_finite(), "step {}: the gradient is not finite: lower --learning-rate", self.step);
        let clip = (LARGEST_NORM / square.sqrt().max(LARGEST_NORM)) as f32;
        for ((_, variable), moments) in model.variables().zip(&self.moments) {
            let Some(gradient) = gradients.get(variable) else { continue };
            let decay = if variable.rank() > 1 { WEIGHT_DECAY } else { 0.0 };
            let rate = rate as f32;
            let correction = (1.0 - MEAN_DECAY.powi(self.step), 1.0 - SQUARE_DECAY.powi(self.step));
            let update = Update { moments, rate, clip, decay, correction };
            move_in_place(variable, &gradient.contiguous()?, &update)?;
        }
        Ok(())
    }
}

/// Refuses a model of which a variable has no gradient: some operations drop it without an error.
pub fn complete(model: &Model, gradients: &GradStore) -> Result<()> {
    let mut lacking = Vec::new();
    for (name, variable) in model.variables() {
        let moving = match gradients.get(variable) {
            Some(gradient) => with_numbers(gradient, |all| Ok(all.iter().any(|&g| g != 0.0)))?,
            None => false,
        };
        if !moving {
            lacking.push(name);
        }
    }
    ensure!(lacking.is_empty(), "no gradient reaches {}", lacking.join(", "));
    Ok(())
}

fn move_in_place(variable: &Var, gradient: &Tensor, update: &Update<'_>) -> Result<()> {
    Ok(variable.as_tensor().inplace_op2(gradient, update)?)
}

/// Numbers below the normal range, to which the means of an idle weight decay, are slow and change nothing.
#[inline(always)]
fn normal(x: f32) -> f32 {
    if x.abs() < 1e-36 { 0.0 } else { x }
}

struct Update<'a> {
    moments: &'a RefCell<(Vec<f32>, Vec<f32>)>,
    rate: f32,
    clip: f32,
    decay: f32,
    correction: (f32, f32),
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        variable: &mut CpuStorage,
        _layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let gradient = crate::operations::numbers(gradient, gradient_layout)?;
        let CpuStorage::F32(variable) = variable else { candle_core::bail!("adam: expected f32") };
        let (means, squares) = &mut *self.moments.borrow_mut();
        let (by_mean, by_square) = (1.0 / self.correction.0, 1.0 / self.correction.1);
        let keep = 1.0 - self.rate * self.decay;
        for (((x, &g), mean), square) in variable.iter_mut().zip(gradient).zip(means).zip(squares) {
            let g = g * self.clip;
            *mean = normal(MEAN_DECAY * *mean + (1.0 - MEAN_DECAY) * g);
            *square = normal(SQUARE_DECAY * *square + (1.0 - SQUARE_DECAY) * g * g);
            *x = *x * keep - self.rate * (*mean * by_mean) / ((*square * by_square).sqrt() + EPSILON);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rises_and_falls() {
        assert_eq!(rate(1.0, 0, 100), 0.5);
        assert_eq!(rate(1.0, 1, 100), 1.0);
        assert_eq!(rate(1.0, 2, 100), 1.0);
        assert!((rate(1.0, 51, 100) - 0.51).abs() < 1e-9);
        assert!(rate(1.0, 99, 100) < 0.03);
    }
}
