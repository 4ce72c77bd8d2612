//! `Change`: an intervention as the report shows it: what sort it is, a short label, a place in the order.

use anyhow::Result;
use rote_artifact::Misfit;
use rote_plan::{Action, Heads, Intervention, Module, Part, Span};

/// What an intervention does, as far as figures need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// The model as it is.
    None,
    /// Attention of one block bypassed.
    Block(u32),
    /// Attention of several blocks bypassed.
    Set,
    /// Some heads bypassed.
    Heads,
    /// Heads drawn by lot bypassed: a control.
    Random,
    /// Output of one block's attention set to zero: the control.
    Zero(u32),
    /// Values of some heads set to zero: the control of single heads.
    ZeroHeads,
    /// Output of one block's MLP set to zero.
    Mlp(u32),
    /// Anything else.
    Other,
}

/// An intervention with its label; ordered as tables list them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Its sort.
    pub sort: Sort,
    first: u32,
    /// Block and head, where one head alone is bypassed or zeroed.
    pub head: Option<(u32, u32)>,
    /// How many heads were drawn, where they were drawn by lot.
    pub lot: Option<u32>,
    /// Short, for a point of a figure: `3`, `6–7`, `3:h1`, `zero 3`.
    pub label: String,
    /// As in the tables.
    pub text: String,
}

impl Change {
    /// Reads an intervention of a table.
    ///
    /// # Errors
    /// [`Misfit`] where the text is no intervention.
    pub fn new(text: &str) -> Result<Change> {
        let change: Intervention =
            text.parse().map_err(|error| Misfit(format!("column change: {error:#}")))?;
        let first = change.first_block(u32::MAX as usize).map_or(0, |block| block as u32);
        let head = match change.parts.as_slice() {
            [part] if part.module == Module::Attn && part.action != Action::Mean => {
                let head = match &part.heads {
                    Some(Heads::Named(heads)) => single(heads),
                    _ => None,
                };
                single(&part.blocks).zip(head)
            }
            _ => None,
        };
        let lot = match change.parts.as_slice() {
            [Part { heads: Some(Heads::Random { count, .. }), .. }] => Some(*count),
            _ => None,
        };
        let (sort, label) = match change.parts.as_slice() {
            [] => (Sort::None, "none".to_string()),
            [part] => {
                let blocks = part.blocks.to_string().replace('-', "–");
                match (part.module, part.action, &part.heads, single(&part.blocks)) {
                    (Module::Attn, Action::Identity, None, Some(block)) => (Sort::Block(block), blocks),
                    (Module::Attn, Action::Identity, None, None) => (Sort::Set, blocks),
                    (Module::Attn, Action::Identity, Some(heads @ Heads::Random { .. }), _) => {
                        (Sort::Random, format!("{blocks}:{heads}"))
                    }
                    (Module::Attn, Action::Identity, Some(heads), _) => {
                        (Sort::Heads, format!("{blocks}:{heads}"))
                    }
                    (Module::Attn, Action::Zero, None, Some(block)) => {
                        (Sort::Zero(block), format!("zero {blocks}"))
                    }
                    (Module::Attn, Action::Zero, Some(heads @ Heads::Named(_)), _) => {
                        (Sort::ZeroHeads, format!("zero {blocks}:{heads}"))
                    }
                    (Module::Mlp, Action::Zero, None, Some(block)) => {
                        (Sort::Mlp(block), format!("mlp {blocks}"))
                    }
                    _ => (Sort::Other, text.to_string()),
                }
            }
            parts
                if parts
                    .iter()
                    .all(|part| part.module == Module::Attn && part.action == Action::Identity) =>
            {
                let short = |text: &str| text.replace("attn.identity@", "").replace('-', "–");
                let heads = parts.iter().any(|part| part.heads.is_some());
                (if heads { Sort::Heads } else { Sort::Set }, short(text))
            }
            _ => (Sort::Other, text.to_string()),
        };
        Ok(Change { sort, first, head, lot, label, text: text.to_string() })
    }

    /// Blocks and heads of what was drawn by lot, in a model of that shape; none where nothing was.
    pub fn drawn(&self, n_blocks: u32, n_heads: u32) -> Option<Vec<(u32, u32)>> {
        let change: Intervention = self.text.parse().ok()?;
        let [Part { blocks, heads: Some(heads @ Heads::Random { .. }), .. }] = change.parts.as_slice() else {
            return None;
        };
        let blocks = blocks.resolve(n_blocks as usize, "block").ok()?;
        let heads = heads.resolve(&blocks, n_heads as usize).ok()?;
        Some(heads.into_iter().map(|(block, head)| (block as u32, head as u32)).collect())
    }

    /// For prose: `block 3`, `blocks 6–7`, `head 3:h1`, or the text itself.
    pub fn phrase(&self) -> String {
        match self.sort {
            Sort::None => "the unchanged model".to_string(),
            Sort::Block(block) => format!("block {block}"),
            Sort::Set if self.label == "all" => "all blocks".to_string(),
            Sort::Set => format!("blocks {}", self.label),
            Sort::Heads => format!("heads {}", self.label),
            Sort::Random => "random heads".to_string(),
            Sort::Zero(block) => format!("block {block} zeroed"),
            _ => self.text.clone(),
        }
    }

    /// Whether chosen attention is bypassed and nothing else is done.
    pub fn is_bypass(&self) -> bool {
        matches!(self.sort, Sort::Block(_) | Sort::Set | Sort::Heads)
    }
}

fn single(span: &Span) -> Option<u32> {
    match span {
        Span::Some(set) if set.len() == 1 => set.first().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_and_labels() {
        let check = |text: &str, sort: Sort, label: &str| {
            let change = Change::new(text).unwrap();
            assert_eq!((change.sort, change.label.as_str()), (sort, label));
        };
        check("none", Sort::None, "none");
        check("attn.identity@3", Sort::Block(3), "3");
        check("attn.identity@18-23", Sort::Set, "18–23");
        check("attn.identity@all", Sort::Set, "all");
        check("attn.identity@5:h3", Sort::Heads, "5:h3");
        check("attn.identity@1+attn.identity@5", Sort::Set, "1+5");
        check("attn.identity@all:random9#1", Sort::Random, "all:random9#1");
        check("attn.zero@5", Sort::Zero(5), "zero 5");
        check("attn.zero@5:h1", Sort::ZeroHeads, "zero 5:h1");
        check("mlp.zero@5", Sort::Mlp(5), "mlp 5");
        check("attn.mean@5", Sort::Other, "attn.mean@5");
        let head = |text: &str| Change::new(text).unwrap().head;
        assert_eq!(
            [head("attn.identity@5:h3"), head("attn.identity@5"), head("attn.zero@5:h3")],
            [Some((5, 3)), None, Some((5, 3))]
        );
        assert_eq!(Change::new("attn.identity@all:random9#1").unwrap().lot, Some(9));
        assert!(rote_stage::exit_code(&Change::new("attn.upside-down@1").unwrap_err()) == 3);
    }

    #[test]
    fn tables_list_blocks_by_number() {
        let mut changes = ["attn.identity@10", "attn.zero@0", "attn.identity@9", "none", "attn.identity@2-3"]
            .map(|text| Change::new(text).unwrap());
        changes.sort();
        let order = changes.each_ref().map(|change| change.text.as_str());
        assert_eq!(
            order,
            ["none", "attn.identity@9", "attn.identity@10", "attn.identity@2-3", "attn.zero@0"]
        );
    }
}
