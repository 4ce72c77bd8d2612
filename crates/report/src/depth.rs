//! Depth: measured differences, bounds and the first-order estimate against the bypassed block; and what the
//! measured ones say in this model, a sentence each.

use crate::figure::{Axis, Figure, Panel};
use crate::figures::{block_axis, from_bounds, over_blocks, panel};
use crate::frames::Spread;
use crate::motion::{curve, from_middle};
use crate::number::{percent, plain};
use crate::reach::{Middle, Reached};
use crate::scale;
use crate::study::{Model, Study};
use crate::theorem::{self, Place, theorem};

/// Why a bound that falls with depth proves nothing (J1 of the specification).
pub const WARNING: &str = "A bound of this kind falls with the depth of the bypassed block for every model, trained or not (J1): that it \
     falls is no evidence about this one. Only the measured difference is.";

/// Ratios nearer to one than this are not called growth or fall.
const ALIKE: f64 = 1.1;

fn last_block(model: &Model) -> u32 {
    model.n_blocks().max(1) - 1
}

/// An axis on which equal ratios are equal distances.
pub fn log_axis(label: &str) -> Axis {
    Axis { label: label.into(), spread: scale::Spread::Log, ..Axis::default() }
}

fn place_panel(model: &Model, place: Place, y: &str) -> Option<Panel> {
    let at = |block: u32| if place == Place::Local { block } else { last_block(model) };
    let real: fn(&Reached) -> Option<Middle> = match place {
        Place::Local => |reached| reached.local,
        _ => |reached| reached.output,
    };
    let mut names: Vec<&str> = model
        .bounds
        .iter()
        .filter(|group| {
            let theorem = theorem(&group.bound);
            theorem.place == place && !theorem.equality && !theorem.logarithmic
        })
        .map(|group| group.bound.as_str())
        .collect();
    names.sort_by_key(|name| theorem::rank(name));
    names.dedup();
    let mut series = vec![curve(model, "measured", 0, real)];
    for (index, name) in names.iter().enumerate() {
        series.push(over_blocks(&theorem(name).label, 1 + index % 7, None, model.blocks(), |x, change| {
            let at = at(x as u32) as i32;
            let here =
                |group: &&Spread| group.bound == *name && group.change == change.text && group.block == at;
            Some(from_middle(x, model.bounds.iter().find(here)?.value, change))
        }));
    }
    from_bounds(model, panel(&model.label, block_axis(model), log_axis(y), series))
}

/// Final difference, estimate and the trajectory's bound, each over the norm of the state it is a difference of.
fn relative_panel(model: &Model) -> Option<Panel> {
    let series = vec![
        curve(model, "measured", 0, |reached| reached.relative),
        curve(model, "E trajectory", 1, |reached| reached.bound_relative),
        curve(model, "estimate, no bound", 4, |reached| reached.estimate_relative),
    ];
    let label = "final difference over the norm of the final state (log scale)";
    from_bounds(model, panel(&model.label, block_axis(model), log_axis(label), series))
}

/// The figure.
pub fn bounds(study: &Study) -> Figure {
    let each = |draw: fn(&Model) -> Option<Panel>| study.models.iter().filter_map(draw);
    let local =
        each(|model| place_panel(model, Place::Local, "difference at the bypassed block (log scale)"));
    let last = each(|model| place_panel(model, Place::Output, "difference at the last block (log scale)"));
    Figure {
        name: "bounds",
        title: "What can be proven about the difference, beside what it is".into(),
        caption: format!(
            "Norm of the difference that bypassing one block makes, in units of the residual stream and relative to \
             its norm at the end: measured, as bounded by each theorem, and by a first-order estimate, which is no \
             bound and may lie on either side. Medians over positions, bars from the first to the third quartile. \
             {WARNING}"
        ),
        columns: ("block", "difference"),
        from: &["bounds"],
        panels: local.chain(last).chain(each(relative_panel)).collect(),
    }
}

/// Medians and quartiles of several blocks: their geometric means, and the fewest positions of a block.
fn typical(middles: &[Middle]) -> Option<Middle> {
    let mean = |of: fn(&Middle) -> f64| {
        let logs: f64 = middles.iter().map(|middle| of(middle).ln()).sum();
        (logs / middles.len() as f64).exp()
    };
    let n = middles.iter().map(|middle| middle.n).min()?;
    Some(Middle { low: mean(|it| it.low), median: mean(|it| it.median), high: mean(|it| it.high), n })
}

/// A median with quartiles and positions.
pub fn middle_text(middle: Middle, write: fn(f64) -> String) -> String {
    format!("{} ({} to {}, n {})", write(middle.median), write(middle.low), write(middle.high), middle.n)
}

/// What the measured differences say about depth: one sentence on growth, one on what is left at the end.
pub fn sentences(model: &Model) -> Vec<String> {
    let n_blocks = model.n_blocks();
    if n_blocks < 2 {
        return Vec::new();
    }
    let half = n_blocks / 2;
    let halves = |pick: fn(&Reached) -> Option<Middle>| -> Option<(Middle, Middle)> {
        let of = |early: bool| {
            let half = model.blocks().filter(|(block, _)| (*block < half) == early);
            let middles = half.filter_map(|(_, change)| pick(model.reached.get(&change.text)?));
            typical(&middles.filter(|middle| middle.median > 0.0).collect::<Vec<_>>())
        };
        Some((of(true)?, of(false)?))
    };
    let mut sentences = Vec::new();
    if let Some((early, late)) = halves(|reached| reached.amplification) {
        let verb = match early.median {
            growth if growth > ALIKE => "grow",
            growth if growth < 1.0 / ALIKE => "shrink",
            _ => "stay as large as they are",
        };
        sentences.push(format!(
            "Differences made early {verb} on their way: from the bypassed block to the last one by a factor of {} \
             for the first {half} blocks and {} for the others.",
            middle_text(early, plain),
            middle_text(late, plain)
        ));
    }
    if let Some((early, late)) = halves(|reached| reached.output) {
        let verb = match late.median / early.median {
            ratio if ratio < 1.0 / ALIKE => "end smaller",
            ratio if ratio > ALIKE => "end larger",
            _ => "end about as large as early ones",
        };
        let relative = halves(|reached| reached.relative).map_or(String::new(), |(early, late)| {
            let (early, late) = (middle_text(early, percent), middle_text(late, percent));
            format!(", which is {early} and {late} of the norm of the state there")
        });
        sentences.push(format!(
            "Differences made late {verb}: at the last block {} for the first {half} blocks bypassed and {} for the \
             others{relative}.",
            middle_text(early, plain),
            middle_text(late, plain)
        ));
    }
    if !sentences.is_empty() {
        sentences.push(
            "Numbers are geometric means over blocks of medians over positions, in brackets those of the quartiles, \
             with the fewest positions of a block."
                .to_string(),
        );
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_put_together_by_their_ratios() {
        let one = Middle { low: 1.0, median: 2.0, high: 4.0, n: 9 };
        let other = Middle { low: 4.0, median: 8.0, high: 9.0, n: 7 };
        let both = typical(&[one, other]).unwrap();
        assert_eq!(middle_text(both, plain), "4.00 (2.00 to 6.00, n 7)");
        assert_eq!(typical(&[]), None);
    }
}
