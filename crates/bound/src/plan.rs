//! An intervention as the bounds see it: per block, which heads keep, bypass or lose their weights, with
//! what that needs of the weights.

use anyhow::{Result, bail};
use rote_artifact::Misfit;
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
    /// Heads whose output becomes zero.
    pub zero: Vec<bool>,
    /// `nu >= |sum over identity heads of OV_h|`.
    pub operator: f64,
    /// `|sum over zero heads of b_V W_O|`.
    pub zero_bias: f64,
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
        !self.identity[head] && !self.zero[head]
    }

    pub(crate) fn zeroes_any(&self) -> bool {
        self.zero.contains(&true)
    }

    fn new(c: &AttnConstants, d_head: usize, heads: &[Option<Action>]) -> HeadPlan {
        let identity: Vec<bool> = heads.iter().map(|head| *head == Some(Action::Identity)).collect();
        let zero: Vec<bool> = heads.iter().map(|head| *head == Some(Action::Zero)).collect();
        let all = !identity.contains(&false);
        let operator = match all {
            true => c.operator,
            false if identity.contains(&true) => {
                operator_norm(&c.value.weight, view(&c.out), d_head, &identity)
            }
            false => 0.0,
        };
        let group = heads.len() * d_head / c.value.bias.len();
        let bias: Vec<f64> = zero
            .iter()
            .enumerate()
            .flat_map(|(head, &zero)| {
                let own = &c.value.bias[head / group * d_head..][..d_head];
                own.iter().map(move |&bias| if zero { bias } else { 0.0 })
            })
            .collect();
        let bias = rote_model::Matrix::new(1, bias.len(), bias);
        let zero_bias = norm(&product(view(&bias), view(&c.out).transposed()).data);
        HeadPlan { identity, zero, operator, zero_bias, all }
    }
}

impl Plan {
    /// `means`: of each block's attention output, for `attn.mean`.
    pub(crate) fn new(
        constants: &Constants,
        change: &Intervention,
        means: Option<&[Vec<f64>]>,
    ) -> Result<Plan> {
        let spec = &constants.spec;
        let mut blocks = Vec::with_capacity(spec.n_blocks);
        let mut only_identity = true;
        for (index, resolved) in change.resolve(spec.n_blocks, spec.n_heads)?.into_iter().enumerate() {
            let heads = |heads: &[Option<Action>]| {
                AttnPlan::Heads(HeadPlan::new(&constants.blocks[index].attn, spec.d_head, heads))
            };
            let attn = match resolved.attn {
                AttnChange::None => AttnPlan::Keep,
                AttnChange::Zero => AttnPlan::Constant(vec![0.0; spec.d_model]),
                AttnChange::Identity => heads(&vec![Some(Action::Identity); spec.n_heads]),
                AttnChange::Heads(map) => heads(&map),
                AttnChange::Mean => AttnPlan::Constant(mean(means, index, spec.d_model, change)?),
            };
            let mlp_zero = resolved.mlp == MlpChange::Zero;
            only_identity &= !mlp_zero
                && match &attn {
                    AttnPlan::Keep => true,
                    AttnPlan::Constant(_) => false,
                    AttnPlan::Heads(plan) => !plan.zeroes_any(),
                };
            blocks.push(BlockPlan { attn, mlp_zero });
        }
        let Some(first) = change.first_block(spec.n_blocks).filter(|&first| first < spec.n_blocks) else {
            bail!("`{change}` changes nothing");
        };
        Ok(Plan { name: change.to_string(), first, blocks, only_identity })
    }
}

/// What `attn.mean` puts in the place of a block's attention.
fn mean(means: Option<&[Vec<f64>]>, block: usize, d: usize, change: &Intervention) -> Result<Vec<f64>> {
    let Some(means) = means else {
        let message = format!("`{change}` needs the means of attention outputs: give --reference");
        return Err(Misfit(message).into());
    };
    let mean = &means[block];
    if mean.len() != d || mean.iter().any(|value| !value.is_finite()) {
        let message = format!("`{change}`: the mean of block {block} is no finite row of {d}");
        return Err(Misfit(message).into());
    }
    Ok(mean.clone())
}
