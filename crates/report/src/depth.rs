//! Bounds and measured differences against depth: one drawing at the bypassed block, one at the last block, one of
//! how much a difference grows between them; and what can be said about them in a sentence.

use std::collections::BTreeMap;

use crate::change::Change;
use crate::figure::{Axis, Figure, Panel, Point};
use crate::figures::{block_axis, over_blocks, panel};
use crate::frames;
use crate::number::plain;
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
            && !theorem.measured_only
    })
}

fn last_block(model: &Model) -> u32 {
    model.n_blocks().max(1) - 1
}

/// Medians of what was measured.
pub fn measured(model: &Model) -> Depth {
    let mut depth = Depth::default();
    for (block, change) in model.blocks() {
        // Every theorem of a place measures the same difference; an equality is the surest to be there.
        if let Some(group) = groups(model, change, Place::Local, block).next() {
            depth.local.insert(block, group.measured);
        }
        let at_last = groups(model, change, Place::Output, last_block(model))
            .find(|group| group.bound.starts_with("out."));
        if let Some(group) = at_last {
            depth.last.insert(block, group.measured);
        }
    }
    depth
}

fn log_axis(label: &str) -> Axis {
    Axis { label: label.into(), spread: scale::Spread::Log, range: None, percent: false }
}

fn point(x: f64, y: f64, change: &Change, n: u64) -> Option<Point> {
    (y > 0.0 && y.is_finite()).then(|| Point {
        x,
        y,
        y_interval: None,
        x_interval: None,
        n: Some(n),
        of: change.text.clone(),
        label: None,
    })
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
        point(x, *real.get(&(x as u32))?, change, 0).map(|point| Point { n: None, ..point })
    })];
    for (index, name) in names.iter().enumerate() {
        series.push(over_blocks(&theorem(name).label, 1 + index % 7, None, model.blocks(), |x, change| {
            let group = groups(model, change, place, at(x as u32)).find(|group| group.bound == *name)?;
            point(x, group.value, change, group.n)
        }));
    }
    panel(&model.label, block_axis(model), log_axis(y), series)
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
    let growth = each(|model| {
        let depth = measured(model);
        let series = over_blocks("growth", 2, None, model.blocks(), |x, change| {
            let block = x as u32;
            point(x, depth.last.get(&block)? / depth.local.get(&block)?, change, 0)
                .map(|point| Point { n: None, ..point })
        });
        let label = "median difference at the last block over that at the bypassed one (log scale)";
        panel(&model.label, block_axis(model), log_axis(label), vec![series])
    });
    Figure {
        name: "bounds",
        title: "How large the difference is, and what can be proven about it".into(),
        caption: format!(
            "Norm of the difference that bypassing one block makes, in units of the residual stream: measured, \
             and as bounded by each theorem. {WARNING}"
        ),
        columns: ("block", "difference"),
        panels: local.chain(last).chain(growth).collect(),
    }
}

/// What the measured differences say about depth, in sentences.
pub fn sentences(model: &Model) -> Vec<String> {
    let depth = measured(model);
    let n_blocks = model.n_blocks();
    if n_blocks < 2 {
        return Vec::new();
    }
    let half = n_blocks / 2;
    let growth: BTreeMap<u32, f64> = depth
        .local
        .iter()
        .filter(|(_, local)| **local > 0.0)
        .filter_map(|(block, local)| Some((*block, depth.last.get(block)? / local)))
        .collect();
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
    if let Some((early, late)) = halves(&growth) {
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
        sentences.push(format!(
            "Differences made late {verb}: at the last block {} for the first {half} blocks bypassed and {} for the \
             others.",
            plain(early),
            plain(late)
        ));
    }
    sentences
}
