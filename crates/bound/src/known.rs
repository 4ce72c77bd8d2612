//! Constants of a model as rows of a table: computed once, written, and taken from there afterwards.
//!
//! What is kept are the norms that cost a factorisation or a product of weights. Foldings, covers and lengths of
//! columns are cheap, as large as the weights, and made anew. A value taken from a table is the value that would
//! be computed, bit for bit, so that it cannot change a result.

use std::collections::BTreeMap;

use anyhow::Result;
use rote_artifact::Misfit;
use rote_artifact::tables::Constant;

/// Values by block and name.
#[derive(Clone, Debug, Default)]
pub struct Known {
    values: BTreeMap<(u32, String), Vec<f64>>,
}

impl Known {
    /// From the rows of a table, in its order.
    ///
    /// # Errors
    /// [`Misfit`] where an index is missing or a value is no number.
    pub fn new(rows: Vec<Constant>) -> Result<Known> {
        let mut values: BTreeMap<(u32, String), Vec<f64>> = BTreeMap::new();
        for Constant { block, name, index, value } in rows {
            let all = values.entry((block, name.clone())).or_default();
            if all.len() != index as usize || !value.is_finite() || value < 0.0 {
                let message =
                    format!("constant {name} of block {block}, index {index}: {value} is out of place");
                return Err(Misfit(message).into());
            }
            all.push(value);
        }
        Ok(Known { values })
    }

    /// What belongs to one block.
    pub(crate) fn block(&self, block: usize) -> KnownBlock<'_> {
        KnownBlock { known: self, block: block as u32, used: BTreeMap::new() }
    }
}

/// One block's values: those known, and those that had to be computed.
pub(crate) struct KnownBlock<'a> {
    known: &'a Known,
    block: u32,
    used: BTreeMap<&'static str, Vec<f64>>,
}

impl KnownBlock<'_> {
    /// `count` values called `name`: known, or else computed.
    pub(crate) fn several(
        &mut self,
        name: &'static str,
        count: usize,
        compute: impl FnOnce() -> Vec<f64>,
    ) -> Vec<f64> {
        let known = self.known.values.get(&(self.block, name.to_string())).filter(|all| all.len() == count);
        let values = known.cloned().unwrap_or_else(compute);
        self.used.insert(name, values.clone());
        values
    }

    /// One value called `name`.
    pub(crate) fn one(&mut self, name: &'static str, compute: impl FnOnce() -> f64) -> f64 {
        self.several(name, 1, || vec![compute()])[0]
    }

    /// As rows.
    pub(crate) fn rows(self) -> Vec<Constant> {
        let rows = self.used.into_iter().flat_map(|(name, values)| {
            values.into_iter().enumerate().map(move |(index, value)| (name, index as u32, value))
        });
        rows.map(|(name, index, value)| Constant { block: self.block, name: name.into(), index, value })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u32, value: f64) -> Constant {
        Constant { block: 1, name: "w".into(), index, value }
    }

    #[test]
    fn what_is_known_is_not_computed() {
        let known = Known::new(vec![row(0, 2.0), row(1, 3.0)]).unwrap();
        let mut block = known.block(1);
        assert_eq!(block.several("w", 2, || unreachable!()), [2.0, 3.0]);
        assert_eq!(block.several("w", 3, || vec![1.0; 3]), [1.0; 3]);
        assert_eq!(known.block(0).one("w", || 7.0), 7.0);
    }

    #[test]
    fn rows_come_back_as_they_went() {
        let rows = vec![row(0, 2.0), row(1, 3.0)];
        let known = Known::new(rows.clone()).unwrap();
        let mut block = known.block(1);
        block.several("w", 2, Vec::new);
        assert_eq!(block.rows(), rows);
        assert!(Known::new(vec![row(1, 1.0)]).is_err());
        assert!(Known::new(vec![row(0, f64::NAN)]).is_err());
    }
}
