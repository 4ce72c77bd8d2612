//! Bound over measured, per theorem and depth, with the verdict that rote-bound gave: informative or vacuous.

use std::collections::BTreeMap;
use std::fmt::Write;

use rote_artifact::tables::Tightness;

use crate::depth::log_axis;
use crate::figure::{Figure, Panel, Point};
use crate::figures::{block_axis, from_bounds, over_blocks, panel};
use crate::number::{count, percent, plain};
use crate::study::{Model, Study};
use crate::svg::escape;
use crate::theorem::{Place, rank, theorem};

fn names(model: &Model) -> Vec<&str> {
    let mut names: Vec<&str> = model.tightness.iter().map(|row| row.bound.as_str()).collect();
    names.sort_by_key(|name| rank(name));
    names.dedup();
    names
}

/// The row at the furthest place that the theorem speaks of: rows of `out.*` may stand at every block.
fn row<'a>(model: &'a Model, change: &str, bound: &str) -> Option<&'a Tightness> {
    let rows = model.tightness.iter().filter(|row| row.change == change && row.bound == bound);
    rows.max_by_key(|row| row.block)
}

fn place_panel(model: &Model, place: Place, label: &str) -> Option<Panel> {
    let drawn = names(model).into_iter().filter(|name| {
        let theorem = theorem(name);
        theorem.place == place && !theorem.equality && !theorem.estimate && !theorem.logarithmic
    });
    let series = drawn.enumerate().map(|(style, name)| {
        over_blocks(&theorem(name).label, style % 8, None, model.blocks(), |x, change| {
            let row = row(model, &change.text, name)?;
            let median = 10f64.powf(row.log10_median?);
            Some(Point {
                x,
                y: median,
                y_interval: (median, 10f64.powf(row.log10_p90?)).into(),
                n: Some(u64::from(row.compared)),
                of: change.text.clone(),
                note: row.verdict.clone(),
                ..Point::default()
            })
        })
    });
    from_bounds(model, panel(&model.label, block_axis(model), log_axis(label), series.collect()))
}

/// The figure.
pub fn tightness(study: &Study) -> Figure {
    let places = [
        (Place::Local, "bound / measured at the bypassed block (log scale)"),
        (Place::Output, "bound / measured at the end (log scale)"),
        (Place::Decision, "bound / measured at logits and probabilities (log scale)"),
    ];
    let panels = places
        .iter()
        .flat_map(|(place, label)| study.models.iter().filter_map(|model| place_panel(model, *place, label)));
    Figure {
        name: "tightness",
        title: "How near each bound comes".into(),
        caption: format!(
            "Bound over measured value: median over positions, bars up to the 90th percentile. 1 would be \
             exact. The product of Lipschitz constants (F1) is off by so much that it is given in the table only. {}",
            crate::depth::WARNING
        ),
        columns: ("block", "ratio"),
        from: &["bounds"],
        panels: panels.collect(),
    }
}

/// A theorem over all interventions of a model.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Worth {
    /// Its name in the tables.
    pub bound: String,
    /// Rows.
    pub rows: u64,
    /// Interventions and places.
    pub groups: u64,
    /// Least and largest median of log10(bound / measured).
    pub log10_median: Option<(f64, f64)>,
    /// Least and largest 90th percentile of it.
    pub log10_p90: Option<(f64, f64)>,
    /// Least and largest share of rows that say something.
    pub informative: (f64, f64),
    /// How many groups got which verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Rows whose measured value is above the bound.
    pub violations: u64,
}

/// All theorems of a model, in their order.
pub fn worths(model: &Model) -> Vec<Worth> {
    let ends = |values: &[f64]| {
        let ends = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
        (!values.is_empty()).then_some(ends)
    };
    let one = |name: &str| {
        let rows: Vec<&Tightness> = model.tightness.iter().filter(|row| row.bound == name).collect();
        let all = |pick: fn(&Tightness) -> Option<f64>| -> Vec<f64> {
            rows.iter().filter_map(|row| pick(row)).collect()
        };
        let mut verdicts = BTreeMap::new();
        for row in &rows {
            *verdicts.entry(row.verdict.clone()).or_default() += 1;
        }
        let broken = model.bounds.iter().filter(|group| group.bound == name && !theorem(name).estimate);
        Worth {
            bound: name.to_string(),
            rows: rows.iter().map(|row| u64::from(row.n)).sum(),
            groups: rows.len() as u64,
            log10_median: ends(&all(|row| row.log10_median)),
            log10_p90: ends(&all(|row| row.log10_p90)),
            informative: ends(&all(|row| Some(row.informative))).unwrap_or_default(),
            verdicts,
            violations: broken.map(|group| group.violations).sum(),
        }
    };
    names(model).into_iter().map(one).collect()
}

impl Worth {
    /// In words.
    pub fn verdict(&self) -> String {
        if self.violations > 0 {
            return format!("VIOLATED at {} rows", count(self.violations));
        }
        let parts: Vec<String> = self
            .verdicts
            .iter()
            .map(|(verdict, n)| match *n == self.groups {
                true if verdict == "estimate" => "an estimate, no bound".to_string(),
                true => verdict.clone(),
                false => format!("{verdict} at {n} of {}", self.groups),
            })
            .collect();
        parts.join(", ")
    }
}

/// `1.2 to 40`, from logarithms; of a theorem that speaks of logarithms, powers of ten.
fn ratios(ends: Option<(f64, f64)>, powers: bool) -> String {
    let one = |log: f64| match powers || log.abs() >= 290.0 {
        true => format!("10<sup>{log:.1}</sup>"),
        false => plain(10f64.powf(log)),
    };
    match ends.map(|(low, high)| (one(low), one(high))) {
        None => "–".to_string(),
        Some((low, high)) if low == high => low,
        Some((low, high)) => format!("{low} to {high}"),
    }
}

/// The table of one model; empty without bounds.
pub fn table(model: &Model) -> String {
    let worths = worths(model);
    if worths.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\"><table><caption>{}</caption><thead><tr><th>theorem</th>\
         <th class=\"l\">name</th><th>rows</th><th>bound / measured,<br>median</th><th>90th percentile</th>\
         <th>rows that say<br>something</th><th class=\"l\">verdict</th></tr></thead><tbody>\n",
        escape(&model.label)
    );
    for worth in worths {
        let (low, high) = (percent(worth.informative.0), percent(worth.informative.1));
        let share = if low == high { low } else { format!("{low} to {high}") };
        let share = if worth.verdicts.contains_key("estimate") { "–".to_string() } else { share };
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td class=\"l\"><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{share}</td>\
             <td class=\"l\">{}</td></tr>",
            escape(&theorem(&worth.bound).label),
            escape(&worth.bound),
            count(worth.rows),
            ratios(worth.log10_median, theorem(&worth.bound).logarithmic),
            ratios(worth.log10_p90, theorem(&worth.bound).logarithmic),
            escape(&worth.verdict())
        );
    }
    html.push_str("</tbody></table></div>\n");
    html
}
