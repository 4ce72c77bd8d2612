//! The map of heads: what bypassing each head alone costs, block by block.

use crate::change::Change;
use crate::figure::{Axis, Draw, Figure, Panel, Point, Series};
use crate::number::percent;
use crate::study::{Loss, Model, Study};

/// The figure; without panels where no single head was bypassed.
pub fn heads(study: &Study) -> Figure {
    let recall = study
        .models
        .iter()
        .filter_map(|model| map(model, "loss of recall, percent", |change| model.recall_loss(&change.text)));
    let general = study.models.iter().filter_map(|model| {
        map(model, "mean loss on the benchmarks, percent", |change| model.general_loss(&change.text, None))
    });
    Figure {
        name: "heads",
        title: "What each head costs when it alone is bypassed".into(),
        caption: "Relative loss against the unchanged model, a cell per head; the darker the more is lost, \
                  orange where something is gained. The intervals are in the CSV and below. Heads that were not \
                  bypassed alone are left blank."
            .into(),
        columns: ("head", "block"),
        from: &["scores"],
        panels: recall.chain(general).collect(),
    }
}

fn map(model: &Model, label: &str, loss: impl Fn(&Change) -> Option<Loss>) -> Option<Panel> {
    let points: Vec<Point> = model
        .changes
        .iter()
        .filter_map(|change| {
            let (block, head) = change.head?;
            let loss = loss(change)?;
            Some(Point {
                x: f64::from(head),
                y: f64::from(block),
                z: Some(loss.value),
                n: Some(u64::from(loss.n)),
                of: change.text.clone(),
                note: format!("95 % interval {} to {}", percent(loss.low), percent(loss.high)),
                ..Point::default()
            })
        })
        .collect();
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
        title: model.label.clone(),
        x: axis("head", n_heads),
        y: axis(&format!("block, up; {label}"), f64::from(model.n_blocks())),
        series: vec![Series { name: "loss".into(), style: 0, draw: Draw::Cells, rule: None, points }],
        diagonal: false,
    })
}
