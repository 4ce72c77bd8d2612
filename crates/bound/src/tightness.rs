//! How far each bound is from the truth, per theorem, intervention and block.

use std::collections::BTreeMap;

use rote_artifact::tables::{Ratio, Tightness};

use crate::check::{Claim, Row, THEOREMS, claim};

/// Ratios of one (block, bound), in log10; and how many rows said something.
#[derive(Default)]
struct Group {
    rows: u32,
    informative: u32,
    ratios: Vec<f64>,
}

/// Collects rows of one intervention, request by request.
#[derive(Default)]
pub struct Summary {
    groups: BTreeMap<i32, BTreeMap<String, Group>>,
}

/// Differences below this share of what holds anyway are rounding, and no ratio is taken to them.
const NEGLIGIBLE: f64 = 1e-9;

/// A local bound says something within this factor of what it bounds: a block's own displacement may well be
/// larger than the state it is added to, so that nothing holds of it without a theorem.
const NEAR: f64 = 10.0;

/// Whether a bound tells more than is known without it.
fn says_something(row: &Row) -> bool {
    if row.bound.starts_with("local.") {
        return row.value <= NEAR * row.measured || row.value <= NEGLIGIBLE * row.trivial;
    }
    row.value < row.trivial
}

/// What one row says: whether anything, and how far the bound is from what was measured.
pub fn judge(change: &str, row: &Row) -> Ratio {
    Ratio {
        change: change.to_string(),
        block: row.block,
        bound: row.bound.to_string(),
        informative: says_something(row),
        log10: log10_ratio(row),
    }
}

/// Bound over measured, where something was measured.
fn log10_ratio(row: &Row) -> Option<f64> {
    let logarithmic = row.bound == "out.product";
    if logarithmic && row.measured > row.trivial + NEGLIGIBLE.log10() {
        Some(row.value - row.measured)
    } else if !logarithmic && row.measured > NEGLIGIBLE * row.trivial && row.value > 0.0 {
        Some((row.value / row.measured).log10())
    } else {
        None
    }
}

impl Summary {
    /// Adds a row.
    pub fn add_row(&mut self, row: &Row) {
        self.count(row.block, &row.bound, says_something(row), log10_ratio(row));
    }

    /// Adds what a row said.
    pub fn add(&mut self, ratio: &Ratio) {
        self.count(ratio.block, &ratio.bound, ratio.informative, ratio.log10);
    }

    fn count(&mut self, block: i32, bound: &str, informative: bool, log10: Option<f64>) {
        let of_block = self.groups.entry(block).or_default();
        if !of_block.contains_key(bound) {
            of_block.insert(bound.to_string(), Group::default());
        }
        let group = of_block.get_mut(bound).expect("put there above");
        group.rows += 1;
        group.informative += u32::from(informative);
        group.ratios.extend(log10);
    }

    /// The rows of the table.
    pub fn finish(self, change: &str) -> Vec<Tightness> {
        let place = |bound: &str| THEOREMS.iter().position(|(name, _)| bound.starts_with(name));
        let of_blocks = self.groups.into_iter();
        let mut groups: Vec<_> = of_blocks
            .flat_map(|(block, groups)| groups.into_iter().map(move |(bound, group)| ((block, bound), group)))
            .collect();
        groups.sort_by_key(|((block, bound), _)| (*block, place(bound)));
        groups
            .into_iter()
            .map(|((block, bound), mut group)| {
                group.ratios.sort_unstable_by(f64::total_cmp);
                let informative = f64::from(group.informative) / f64::from(group.rows.max(1));
                let (claim, verdict) = match claim(&bound) {
                    Some(Claim::Equality) => ("equality", "exact"),
                    Some(Claim::Estimate) | None => ("estimate", "estimate"),
                    Some(Claim::Bound) if informative >= 0.5 => ("bound", "informative"),
                    Some(Claim::Bound) => ("bound", "vacuous"),
                };
                Tightness {
                    change: change.to_string(),
                    block,
                    bound,
                    claim: claim.to_string(),
                    n: group.rows,
                    compared: group.ratios.len() as u32,
                    log10_median: quantile(&group.ratios, 0.5),
                    log10_p90: quantile(&group.ratios, 0.9),
                    log10_max: group.ratios.last().copied(),
                    informative,
                    verdict: verdict.to_string(),
                }
            })
            .collect()
    }
}

/// By linear interpolation between the sorted values.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * last as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: &str, value: f64, measured: f64) -> Row {
        let bound = bound.to_string().into();
        Row { block: 0, position: 1, bound, value, measured, slack: 0.0, trivial: 5.0 }
    }

    #[test]
    fn verdicts_follow_what_is_known_without_a_theorem() {
        let verdict = |rows: &[Row]| -> Tightness {
            let mut summary = Summary::default();
            rows.iter().for_each(|row| summary.add(&judge("attn.identity@0", row)));
            summary.finish("attn.identity@0").remove(0)
        };
        // Above the state's own size nothing is said of an output, but of a displacement it may be.
        assert_eq!(verdict(&[row("out.trajectory", 6.0, 4.0)]).verdict, "vacuous");
        assert_eq!(verdict(&[row("local.heads", 6.0, 4.0)]).verdict, "informative");
        assert_eq!(verdict(&[row("local.weights", 50.0, 4.0)]).verdict, "vacuous");
        assert_eq!(verdict(&[row("out.trajectory", 4.0, 4.0)]).verdict, "informative");
        assert_eq!(verdict(&[row("local.exact", 4.0, 4.0)]).verdict, "exact");
        assert_eq!(verdict(&[row("estimate.linear", 1.0, 4.0)]).verdict, "estimate");
        let half = verdict(&[row("kl", 4.0, 0.4), row("kl", 6.0, 0.0)]);
        assert_eq!((half.verdict.as_str(), half.compared, half.log10_median), ("informative", 1, Some(1.0)));
    }
}
