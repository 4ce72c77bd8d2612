//! `Intervention`: what is replaced by what, in which blocks and heads; one text form both ways.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::{Heads, Span};

/// The part of a block that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// The attention module.
    Attn,
    /// The MLP.
    Mlp,
}

/// What a module's work is replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Attention weights := identity: each token attends to itself alone (the paper's short-circuit).
    Identity,
    /// Output := 0 (whole module: its bias too; single heads: those heads' weighted values).
    Zero,
    /// Output := its mean over a reference artifact (single heads: the mean of those heads' weighted values).
    Mean,
}

/// One change: module, action, blocks, and (attention only) heads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// What is changed.
    pub module: Module,
    /// Into what.
    pub action: Action,
    /// In which blocks.
    pub blocks: Span,
    /// In which heads; `None` is the whole module.
    pub heads: Option<Heads>,
}

/// A set of parts; empty is `none`, the model as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intervention {
    /// In the order in which they were written.
    pub parts: Vec<Part>,
}

/// What happens to a block's attention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum AttnChange {
    /// Ordinary attention.
    #[default]
    None,
    /// Every head's weights are the identity: no queries, keys, scores or softmax.
    Identity,
    /// The module's output is zero.
    Zero,
    /// The module's output is its reference mean.
    Mean,
    /// Head by head; `None` is ordinary.
    Heads(Vec<Option<Action>>),
}

/// What happens to a block's MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MlpChange {
    /// Ordinary.
    #[default]
    None,
    /// The MLP's output is zero.
    Zero,
}

/// An intervention as one block sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockChange {
    /// Attention.
    pub attn: AttnChange,
    /// MLP.
    pub mlp: MlpChange,
}

impl Intervention {
    /// The model as it is.
    pub const NONE: Intervention = Intervention { parts: Vec::new() };

    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.parts.is_empty()
    }

    /// `attn.identity` at one block.
    pub fn bypass(block: u32) -> Self {
        let part =
            Part { module: Module::Attn, action: Action::Identity, blocks: Span::one(block), heads: None };
        Intervention { parts: vec![part] }
    }

    /// Compiled for a model: one entry per block.
    ///
    /// # Errors
    /// A block outside the model, a head outside the block, or the same module (or head) changed twice.
    pub fn resolve(&self, n_blocks: usize, n_heads: usize) -> Result<Vec<BlockChange>> {
        let mut blocks = vec![BlockChange::default(); n_blocks];
        let twice = |block: usize| format!("`{self}` changes the same part of block {block} twice");
        for part in &self.parts {
            let places = part.blocks.resolve(n_blocks, "block").with_context(|| format!("`{self}`"))?;
            if let Some(heads) = &part.heads {
                for (block, head) in heads.resolve(&places, n_heads).with_context(|| format!("`{self}`"))? {
                    let attn = &mut blocks[block].attn;
                    if *attn == AttnChange::None {
                        *attn = AttnChange::Heads(vec![None; n_heads]);
                    }
                    let AttnChange::Heads(map) = attn else { bail!(twice(block)) };
                    ensure!(map[head].is_none(), twice(block));
                    map[head] = Some(part.action);
                }
                continue;
            }
            for block in places {
                let change = &mut blocks[block];
                if part.module == Module::Mlp {
                    ensure!(change.mlp == MlpChange::None, twice(block));
                    change.mlp = MlpChange::Zero;
                    continue;
                }
                ensure!(change.attn == AttnChange::None, twice(block));
                change.attn = match part.action {
                    Action::Identity => AttnChange::Identity,
                    Action::Zero => AttnChange::Zero,
                    Action::Mean => AttnChange::Mean,
                };
            }
        }
        Ok(blocks)
    }

    /// The first block that differs from the model as it is; `None` where nothing is changed.
    pub fn first_block(&self, n_blocks: usize) -> Option<usize> {
        self.parts
            .iter()
            .map(|part| match &part.blocks {
                Span::All => 0,
                Span::Some(set) => set.first().map_or(n_blocks, |&block| block as usize),
            })
            .min()
    }
}

/// The interventions of a sweep: `none` first, then each text in turn; `@each` unfolds to one per block,
/// `@quarters` to one per quarter of the depth, `random4#0-9` to ten drawings. What was said already is not
/// repeated.
///
/// # Errors
/// A text that is no intervention, or one that does not fit a model of `n_blocks` blocks.
pub fn unfold(texts: &[String], n_blocks: usize) -> Result<Vec<Intervention>> {
    let mut sweep = vec![Intervention::NONE];
    for text in texts {
        let unfolded: Vec<String> = if text.contains("@each") {
            (0..n_blocks).map(|block| text.replace("@each", &format!("@{block}"))).collect()
        } else if text.contains("@quarters") {
            ensure!(n_blocks >= 4, "`{text}`: a model of {n_blocks} blocks has no quarters");
            (0..4)
                .map(|quarter| {
                    let (low, high) = (quarter * n_blocks / 4, (quarter + 1) * n_blocks / 4 - 1);
                    text.replace("@quarters", &format!("@{}", Span::range(low as u32, high as u32)))
                })
                .collect()
        } else {
            vec![text.clone()]
        };
        for text in unfolded.iter().map(|text| drawings(text)).collect::<Result<Vec<_>>>()?.concat() {
            let change: Intervention = text.parse()?;
            for part in &change.parts {
                part.blocks.resolve(n_blocks, "block").with_context(|| format!("`{text}`"))?;
            }
            if !sweep.contains(&change) {
                sweep.push(change);
            }
        }
    }
    Ok(sweep)
}

/// One text per drawing of random heads, where `text` asks for a range of drawings.
fn drawings(text: &str) -> Result<Vec<String>> {
    let Some((before, after)) = text.split_once('#') else { return Ok(vec![text.to_string()]) };
    let (span, rest) = after.split_at(after.find('+').unwrap_or(after.len()));
    ensure!(!rest.contains('#'), "`{text}` asks for drawings twice; say one of them apart");
    let Span::Some(draws) = span.parse().with_context(|| format!("drawings of `{text}`"))? else {
        bail!("`{text}`: there is no end of drawings; say how many, such as `#0-9`");
    };
    Ok(draws.into_iter().map(|draw| format!("{before}#{draw}{rest}")).collect())
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let module = match self.module {
            Module::Attn => "attn",
            Module::Mlp => "mlp",
        };
        let action = match self.action {
            Action::Identity => "identity",
            Action::Zero => "zero",
            Action::Mean => "mean",
        };
        write!(f, "{module}.{action}@{}", self.blocks)?;
        match &self.heads {
            Some(heads) => write!(f, ":{heads}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Intervention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str("+")?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form =
            "expected for example `attn.identity@5`, `attn.zero@0-3`, `mlp.zero@2`, `attn.identity@5:h3`";
        let Some((name, place)) = text.split_once('@') else {
            bail!("`{text}` names no block: {form}");
        };
        let (module, action) = match name {
            "attn.identity" => (Module::Attn, Action::Identity),
            "attn.zero" => (Module::Attn, Action::Zero),
            "attn.mean" => (Module::Attn, Action::Mean),
            "mlp.zero" => (Module::Mlp, Action::Zero),
            _ => bail!("unknown intervention `{name}`: {form}"),
        };
        let (blocks, heads) = match place.split_once(':') {
            Some((blocks, heads)) => (blocks, Some(heads)),
            None => (place, None),
        };
        let heads = heads.map(str::parse).transpose().with_context(|| format!("heads of `{text}`"))?;
        ensure!(
            heads.is_none() || module == Module::Attn,
            "`{text}`: an MLP has no heads; only what is done to attention goes by head"
        );
        Ok(Part {
            module,
            action,
            blocks: blocks.parse().with_context(|| format!("blocks of `{text}`"))?,
            heads,
        })
    }
}

impl FromStr for Intervention {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Intervention::NONE);
        }
        let parts = text.split('+').map(str::parse).collect::<Result<Vec<Part>>>()?;
        for (index, part) in parts.iter().enumerate() {
            ensure!(!parts[..index].contains(part), "`{text}` says `{part}` twice");
        }
        Ok(Intervention { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways(text: &str) {
        assert_eq!(text.parse::<Intervention>().unwrap().to_string(), text);
    }

    fn refused(text: &str, because: &str) {
        let error = format!("{:#}", text.parse::<Intervention>().unwrap_err());
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn text_goes_both_ways() {
        for text in [
            "none",
            "attn.identity@5",
            "attn.identity@18-23",
            "attn.identity@0,2",
            "attn.identity@all",
            "attn.zero@5",
            "attn.mean@1",
            "attn.mean@1:h0,2",
            "mlp.zero@5",
            "attn.identity@5:h3",
            "attn.identity@5:h0,3+mlp.zero@2",
            "attn.identity@5:random2",
            "attn.zero@all:random9#3+mlp.zero@2",
        ] {
            both_ways(text);
        }
        assert_eq!("attn.zero@3,1,2".parse::<Intervention>().unwrap().to_string(), "attn.zero@1-3");
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        refused("attn.idntity@5", "unknown intervention `attn.idntity`");
        refused("attn.identity", "names no block");
        refused("attn.identity@5-3", "runs backwards");
        refused("attn.identity@3,3", "says 3 twice");
        refused("attn.identity@1+attn.identity@1", "twice");
        refused("mlp.zero@1:h2", "by head");
        refused("attn.identity@x", "not a number");
        refused("attn.identity@", "not a number");
        refused("attn.identity@5:x2", "names no heads");
        refused("mlp.zero@5:random2", "by head");
    }

    #[test]
    fn resolving_names_the_models_range() {
        let far: Intervention = "attn.identity@8".parse().unwrap();
        assert!(format!("{:#}", far.resolve(8, 4).unwrap_err()).contains("blocks 0-7"));
        let head: Intervention = "attn.identity@1:h4".parse().unwrap();
        assert!(format!("{:#}", head.resolve(8, 4).unwrap_err()).contains("heads 0-3"));
        let overlap: Intervention = "attn.identity@1+attn.zero@0-2".parse().unwrap();
        assert!(overlap.resolve(8, 4).is_err());
        let heads: Intervention = "attn.identity@1:h0+attn.zero@1:h2".parse().unwrap();
        let AttnChange::Heads(map) = &heads.resolve(8, 4).unwrap()[1].attn else { panic!() };
        assert_eq!(map, &[Some(Action::Identity), None, Some(Action::Zero), None]);
    }

    #[test]
    fn random_heads_are_so_many_and_never_changed_twice() {
        let changed = |text: &str| -> usize {
            let blocks = text.parse::<Intervention>().unwrap().resolve(8, 4).unwrap();
            let heads = |block: &BlockChange| match &block.attn {
                AttnChange::Heads(map) => map.iter().flatten().count(),
                _ => 0,
            };
            blocks.iter().map(heads).sum()
        };
        assert_eq!(changed("attn.identity@all:random4"), 4);
        assert_eq!(changed("attn.identity@2:random3#5"), 3);
        let both: Intervention = "attn.identity@1:random4+attn.zero@1:h2".parse().unwrap();
        assert!(format!("{:#}", both.resolve(8, 4).unwrap_err()).contains("block 1 twice"));
        let texts = ["attn.identity@all:random4#0-2", "attn.identity@all:random4"];
        let names: Vec<_> =
            unfold(&texts.map(String::from), 8).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            names[1..],
            ["attn.identity@all:random4", "attn.identity@all:random4#1", "attn.identity@all:random4#2"]
        );
        assert!(unfold(&["attn.zero@0:random2#all".to_string()], 8).is_err());
    }

    #[test]
    fn sweeps_begin_with_none_and_say_nothing_twice() {
        let texts = ["attn.identity@quarters", "attn.identity@each", "attn.identity@3", "none"];
        let sweep = unfold(&texts.map(String::from), 8).unwrap();
        let names: Vec<_> = sweep.iter().map(ToString::to_string).collect();
        assert_eq!(names[..3], ["none", "attn.identity@0-1", "attn.identity@2-3"]);
        assert_eq!(names.len(), 1 + 4 + 8);
        assert_eq!(sweep[5].first_block(8), Some(0));
    }
}
