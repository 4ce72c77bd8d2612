//! The map of heads: what bypassing each head alone costs, block by block.

use crate::change::{Change, Sort};
use crate::figure::{Axis, Draw, Figure, Panel, Point, Series};
use crate::number::percent;
use crate::study::{Loss, Model, Study};

/// The figure; without panels where no single head was bypassed.
pub fn heads(study: &Study) -> Figure {
    let mut panels = Vec::new();
    for (sort, suffix) in [(Sort::Heads, ""), (Sort::ZeroHeads, ", control: zeroed instead")] {
        for model in &study.models {
            let title = format!("{}{suffix}", model.label);
            let recall = |change: &Change| model.recall_loss(&change.text);
            let general = |change: &Change| model.general_loss(&change.text, None);
            panels.extend(map(model, sort, &title, "loss of recall", recall));
            panels.extend(map(model, sort, &title, "mean loss on the benchmarks", general));
        }
    }
    Figure {
        name: "heads",
        title: "What each head costs when it alone is bypassed".into(),
        caption: "Relative loss against the unchanged model in percent, a cell per head; the stronger its colour the more is \
                  lost, orange where something is gained; \u{2217} where the 95 % interval is beyond zero. The intervals \
                  are in the CSV and below. Heads that were not bypassed alone are left blank. Controls: the head's values \
                  set to zero instead, in panels of their own, and single heads drawn by lot, framed with dashes."
            .into(),
        columns: ("head", "block"),
        from: &["scores"],
        panels,
    }
}

/// Block and head of a change of a sort; of one head drawn by lot too.
fn place(model: &Model, change: &Change, sort: Sort) -> Option<(u32, u32)> {
    if change.sort == sort {
        return change.head;
    }
    if (sort, change.sort, change.lot) != (Sort::Heads, Sort::Random, Some(1)) {
        return None;
    }
    let subject = model.subject.as_ref()?;
    let heads = change.drawn(subject.n_blocks, subject.n_heads)?;
    heads.first().copied()
}

fn map(
    model: &Model,
    sort: Sort,
    title: &str,
    label: &str,
    loss: impl Fn(&Change) -> Option<Loss>,
) -> Option<Panel> {
    let mut points: Vec<Point> = Vec::new();
    for change in &model.changes {
        let (Some((block, head)), Some(loss)) = (place(model, change, sort), loss(change)) else { continue };
        let (x, y) = (f64::from(head), f64::from(block));
        // A head drawn by lot that was chosen as well is in the map already.
        if points.iter().any(|point| (point.x, point.y) == (x, y)) {
            continue;
        }
        let lot = if change.sort == Sort::Random { "drawn by lot, " } else { "" };
        points.push(Point {
            x,
            y,
            z: Some(loss.value),
            z_interval: loss.interval,
            n: Some(u64::from(loss.n)),
            of: change.text.clone(),
            sources: model.named(loss.origin),
            note: match loss.interval.text(percent) {
                Some(interval) => format!("{lot}95 % interval {interval}"),
                None => format!("{lot}no interval"),
            },
            ..Point::default()
        });
    }
    if points.is_empty() {
        return None;
    }
    let highest = points.iter().fold(0.0f64, |highest, point| highest.max(point.x));
    let n_heads = model.subject.as_ref().map_or(highest + 1.0, |subject| f64::from(subject.n_heads));
    let axis = |label: &str, n: f64| Axis {
        label: label.into(),
        range: Some((-0.5, n - 0.5)),
        whole: true,
        ..Axis::default()
    };
    Some(Panel {
        title: title.to_string(),
        x: axis("head", n_heads),
        y: axis(&format!("block, up; {label}, percent"), f64::from(model.n_blocks())),
        series: vec![Series { name: "loss".into(), style: 0, draw: Draw::Cells, rule: None, points }],
        diagonal: false,
    })
}
