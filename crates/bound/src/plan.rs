//! An intervention as the bounds see it: per block, which heads keep, bypass or lose their weights, with
//! what that needs of the weights.

use anyhow::{Result, bail};
use rote_artifact::Misfit;
use rote_model::Means;
use rote_plan::{Action, AttnChange, Intervention, MlpChange};

use crate::constants::{AttnConstants, Constants};
use crate::head_sum::operator_norm;
use crate::linear::{norm, product, view};

/// What happens to a block's attention.
#[derive(Clone, Debug)]
pub(crate) enum AttnPlan {
    /// Nothing.
    Keep,
    /// Its output is this row for every token, bias and all: zeros, or a mean over other texts.
    Constant(Vec<f64>),
    /// Head by head.
    Heads(HeadPlan),
}

/// Which heads are changed, and constants of these sets.
#[derive(Clone, Debug)]
pub(crate) struct HeadPlan {
    /// Heads whose weights become the identity.
    pub identity: Vec<bool>,
    /// Heads whose weighted values become a row that no input moves, `[d_head]`: zeros, or a mean over other texts.
    pub constant: Vec<Option<Vec<f64>>>,
    /// `nu >= |sum over identity heads of OV_h|`.
    pub operator: f64,
    /// `|sum over constant heads of (c - b_V) W_O|`.
    pub from_bias: f64,
    /// Whether every head is bypassed.
    pub all: bool,
}

/// One block.
#[derive(Clone, Debug)]
pub(crate) struct BlockPlan {
    pub attn: AttnPlan,
    pub mlp_zero: bool,
}

/// One intervention.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// As written in the table.
    pub name: String,
    /// First block that is changed.
    pub first: usize,
    pub blocks: Vec<BlockPlan>,
    /// Only bypasses (whole blocks or heads): token 0 never changes.
    pub only_identity: bool,
}

impl HeadPlan {
    pub(crate) fn keeps(&self, head: usize) -> bool {
        !self.identity[head] && self.constant[head].is_none()
    }

    /// Whether weights are all that is changed.
    pub(crate) fn only_identity(&self) -> bool {
        self.constant.iter().all(Option::is_none)
    }

    /// `mean`: of the block's weighted values, `[n_heads * d_head]`, where a head becomes its mean.
    fn new(c: &AttnConstants, d_head: usize, heads: &[Option<Action>], mean: &[f64]) -> HeadPlan {
        let identity: Vec<bool> = heads.iter().map(|head| *head == Some(Action::Identity)).collect();
        let constant: Vec<Option<Vec<f64>>> = heads
            .iter()
            .enumerate()
            .map(|(head, action)| match action {
                Some(Action::Zero) => Some(vec![0.0; d_head]),
                Some(Action::Mean) => Some(mean[head * d_head..][..d_head].to_vec()),
                Some(Action::Identity) | None => None,
            })
            .collect();
        let all = !identity.contains(&false);
        let operator = match all {
            true => c.operator,
            false if identity.contains(&true) => {
                operator_norm(&c.value.weight, view(&c.out), d_head, &identity)
            }
            false => 0.0,
        };
        let group = heads.len() * d_head / c.value.bias.len();
        let mut away = rote_model::Matrix::new(1, heads.len() * d_head, vec![0.0; heads.len() * d_head]);
        for (head, (away, constant)) in away.data.chunks_exact_mut(d_head).zip(&constant).enumerate() {
            let bias = &c.value.bias[head / group * d_head..][..d_head];
            for (away, (constant, bias)) in away.iter_mut().zip(constant.iter().flatten().zip(bias)) {
                *away = constant - bias;
            }
        }
        let from_bias = norm(&product(view(&away), view(&c.out).transposed()).data);
        HeadPlan { identity, constant, operator, from_bias, all }
    }
}

impl Plan {
    /// `means` are for `attn.mean`.
    pub(crate) fn new(constants: &Constants, change: &Intervention, means: &Means<f64>) -> Result<Plan> {
        let spec = &constants.spec;
        let mut blocks = Vec::with_capacity(spec.n_blocks);
        let mut only_identity = true;
        for (index, resolved) in change.resolve(spec.n_blocks, spec.n_heads)?.into_iter().enumerate() {
            let heads = |heads: &[Option<Action>]| {
                let mean = match heads.contains(&Some(Action::Mean)) {
                    true => mean(&means.z, index, spec.d_query(), change)?,
                    false => &[],
                };
                let plan = HeadPlan::new(&constants.blocks[index].attn, spec.d_head, heads, mean);
                anyhow::Ok(AttnPlan::Heads(plan))
            };
            let attn = match resolved.attn {
                AttnChange::None => AttnPlan::Keep,
                AttnChange::Zero => AttnPlan::Constant(vec![0.0; spec.d_model]),
                AttnChange::Identity => heads(&vec![Some(Action::Identity); spec.n_heads])?,
                AttnChange::Heads(map) => heads(&map)?,
                AttnChange::Mean => {
                    AttnPlan::Constant(mean(&means.attn_out, index, spec.d_model, change)?.to_vec())
                }
            };
            let mlp_zero = resolved.mlp == MlpChange::Zero;
            only_identity &= !mlp_zero
                && match &attn {
                    AttnPlan::Keep => true,
                    AttnPlan::Constant(_) => false,
                    AttnPlan::Heads(plan) => plan.only_identity(),
                };
            blocks.push(BlockPlan { attn, mlp_zero });
        }
        let Some(first) = change.first_block(spec.n_blocks).filter(|&first| first < spec.n_blocks) else {
            bail!("`{change}` changes nothing");
        };
        Ok(Plan { name: change.to_string(), first, blocks, only_identity })
    }
}

/// What `attn.mean` puts in the place of a block's attention, or of its heads' weighted values.
fn mean<'a>(means: &'a [Vec<f64>], block: usize, width: usize, change: &Intervention) -> Result<&'a [f64]> {
    let mean = means.get(block).map_or(&[][..], Vec::as_slice);
    if mean.len() != width || mean.iter().any(|value| !value.is_finite()) {
        let message = format!("`{change}`: the mean of block {block} is no finite row of {width}");
        return Err(Misfit(message).into());
    }
    Ok(mean)
}
