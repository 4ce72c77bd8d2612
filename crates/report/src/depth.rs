//! Depth: measured differences, bounds and the first-order estimate against the bypassed block; and what the
//! measured ones say in this model, a sentence each.

use std::collections::BTreeMap;

use crate::change::Change;
use crate::figure::{Axis, Figure, Panel, Point};
use crate::figures::{block_axis, over_blocks, panel};
use crate::frames;
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

/// Median measured difference at the bypassed block and at the last block, by block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Depth {
    /// At the bypassed block.
    pub local: BTreeMap<u32, f64>,
    /// At the output of the last block.
    pub last: BTreeMap<u32, f64>,
    /// Growth from one to the other; of positions, where these were given, else of the medians.
    pub growth: BTreeMap<u32, f64>,
    /// The difference at the last block over the norm of the unchanged state there; where it was given.
    pub relative: BTreeMap<u32, f64>,
}

fn groups<'a>(
    model: &'a Model,
    change: &'a Change,
    place: Place,
    block: u32,
) -> impl Iterator<Item = &'a frames::Spread> {
    model.bounds.iter().filter(move |group| {
        let theorem = theorem(&group.bound);
        group.change == change.text
            && group.block == block as i32
            && theorem.place == place
            && !theorem.logarithmic
    })
}

fn last_block(model: &Model) -> u32 {
    model.n_blocks().max(1) - 1
}

/// Medians of what was measured.
pub fn measured(model: &Model) -> Depth {
    let mut depth = Depth::default();
    for (block, change) in model.blocks() {
        if let Some(reached) = model.reached.get(&change.text) {
            let middle = |into: &mut BTreeMap<u32, f64>, middle: Option<Middle>| {
                into.extend(middle.map(|middle| (block, middle.median)));
            };
            middle(&mut depth.local, reached.local);
            middle(&mut depth.last, reached.output);
            middle(&mut depth.growth, reached.amplification);
            middle(&mut depth.relative, reached.relative);
            continue;
        }
        // Every theorem of a place measures the same difference.
        let local = groups(model, change, Place::Local, block).next().map(|group| group.measured);
        let last = groups(model, change, Place::Output, last_block(model))
            .find(|group| group.bound.starts_with("out."))
            .map(|group| group.measured);
        depth.local.extend(local.map(|local| (block, local)));
        depth.last.extend(last.map(|last| (block, last)));
        let growth = local.zip(last).filter(|(local, _)| *local > 0.0);
        depth.growth.extend(growth.map(|(local, last)| (block, last / local)));
    }
    depth
}

/// An axis on which equal ratios are equal distances.
pub fn log_axis(label: &str) -> Axis {
    Axis { label: label.into(), spread: scale::Spread::Log, ..Axis::default() }
}

fn point(x: f64, y: f64, change: &Change, n: Option<u64>) -> Option<Point> {
    (y > 0.0 && y.is_finite()).then(|| Point { x, y, n, of: change.text.clone(), ..Point::default() })
}

fn place_panel(model: &Model, place: Place, y: &str) -> Option<Panel> {
    let at = |block: u32| if place == Place::Local { block } else { last_block(model) };
    let depth = measured(model);
    let real = if place == Place::Local { &depth.local } else { &depth.last };
    let mut names: Vec<&str> = model
        .bounds
        .iter()
        .filter(|group| theorem(&group.bound).place == place && !theorem(&group.bound).equality)
        .map(|group| group.bound.as_str())
        .collect();
    names.sort_by_key(|name| theorem::rank(name));
    names.dedup();
    let mut series = vec![over_blocks("measured", 0, None, model.blocks(), |x, change| {
        point(x, *real.get(&(x as u32))?, change, None)
    })];
    for (index, name) in names.iter().enumerate() {
        series.push(over_blocks(&theorem(name).label, 1 + index % 7, None, model.blocks(), |x, change| {
            let group = groups(model, change, place, at(x as u32)).find(|group| group.bound == *name)?;
            point(x, group.value, change, Some(group.n))
        }));
    }
    panel(&model.label, block_axis(model), log_axis(y), series)
}

/// Final difference, estimate and the trajectory's bound, each over the norm of the state it is a difference of.
fn relative_panel(model: &Model) -> Option<Panel> {
    let of = |name: &str, style: usize, pick: fn(&Reached) -> Option<Middle>| {
        over_blocks(name, style, None, model.blocks(), |x, change| {
            let middle = pick(model.reached.get(&change.text)?)?;
            point(x, middle.median, change, Some(middle.n))
        })
    };
    let series = vec![
        of("measured", 0, |reached| reached.relative),
        of("E trajectory", 1, |reached| reached.bound_relative),
        of("estimate, no bound", 4, |reached| reached.estimate_relative),
    ];
    let label = "final difference over the norm of the final state (log scale)";
    panel(&model.label, block_axis(model), log_axis(label), series)
}

/// The figure.
pub fn bounds(study: &Study) -> Figure {
    let each = |draw: fn(&Model) -> Option<Panel>| study.models.iter().filter_map(draw);
    let local = each(|model| {
        place_panel(
            model,
            Place::Local,
            "difference at the bypassed block, median over positions (log scale)",
        )
    });
    let last = each(|model| {
        place_panel(model, Place::Output, "difference at the last block, median over positions (log scale)")
    });
    Figure {
        name: "bounds",
        title: "What can be proven about the difference, beside what it is".into(),
        caption: format!(
            "Norm of the difference that bypassing one block makes, in units of the residual stream and relative to \
             its norm at the end: measured, as bounded by each theorem, and by a first-order estimate, which is no \
             bound and may lie on either side. {WARNING}"
        ),
        columns: ("block", "difference"),
        from: &["bounds"],
        panels: local.chain(last).chain(each(relative_panel)).collect(),
    }
}

/// What the measured differences say about depth: one sentence on growth, one on what is left at the end.
pub fn sentences(model: &Model) -> Vec<String> {
    let depth = measured(model);
    let n_blocks = model.n_blocks();
    if n_blocks < 2 {
        return Vec::new();
    }
    let half = n_blocks / 2;
    let halves = |values: &BTreeMap<u32, f64>| -> Option<(f64, f64)> {
        let of = |early: bool| {
            let logs: Vec<f64> = values
                .iter()
                .filter(|(block, value)| (**block < half) == early && **value > 0.0)
                .map(|(_, value)| value.ln())
                .collect();
            (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
        };
        Some((of(true)?, of(false)?))
    };
    let mut sentences = Vec::new();
    if let Some((early, late)) = halves(&depth.growth) {
        let verb = match early {
            _ if early > ALIKE => "grow",
            _ if early < 1.0 / ALIKE => "shrink",
            _ => "stay as large as they are",
        };
        sentences.push(format!(
            "Differences made early {verb} on their way: from the bypassed block to the last one by a factor of {} \
             for the first {half} blocks and {} for the others (geometric means of medians).",
            plain(early),
            plain(late)
        ));
    }
    if let Some((early, late)) = halves(&depth.last) {
        let verb = match late / early {
            ratio if ratio < 1.0 / ALIKE => "end smaller",
            ratio if ratio > ALIKE => "end larger",
            _ => "end about as large as early ones",
        };
        let relative = halves(&depth.relative).map_or(String::new(), |(early, late)| {
            format!(", which is {} and {} of the norm of the state there", percent(early), percent(late))
        });
        sentences.push(format!(
            "Differences made late {verb}: at the last block {} for the first {half} blocks bypassed and {} for the \
             others{relative}.",
            plain(early),
            plain(late)
        ));
    }
    sentences
}
