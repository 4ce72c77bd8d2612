//! The report: scores, extractions and bounds of one or more models as one page that needs nothing else, with
//! figures, their numbers, an answer in words, and where each number came from.
//!
//! What it takes are artifacts of `rote-score`, `rote-extract` and `rote-bound`; rows are put to models by the
//! model each artifact names. What it gives is for people: `page.html`, `figures/*.svg` with `figures/*.csv`
//! beside them, `table.txt` for the terminal and `summary.json` for programs. The same inputs give the same
//! bytes, in whatever order they are named.
//!
//! Deliberately absent: new measurements, tables for later stages, scripts, anything fetched from elsewhere.

mod answer;
mod change;
mod csv;
mod curves;
mod depth;
mod figure;
mod figures;
mod frames;
mod gather;
mod harness;
mod heads;
mod interval;
mod items;
mod membership;
mod missing;
mod motion;
mod number;
mod page;
mod place;
mod reach;
mod recited;
mod scale;
mod sources;
mod study;
mod suite;
mod svg;
mod tables;
mod terminal;
mod theme;
mod theorem;
mod tightness;
mod tiles;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use rote_artifact::Misfit;
use rote_artifact::tables::Summary;
use rote_stage::{Context, Stage};
use rote_store::Output;
use serde::Serialize;
use serde_json::{Value, json};

use crate::study::{Model, Study};
use crate::suite::Suite;

/// The stage.
pub struct Report;

/// Artifacts to report on.
#[derive(Debug, Args)]
pub struct Inputs {
    /// Scores of a model, from rote-score; may be given again, also for other models
    #[arg(long, value_name = "SUMMARY")]
    pub scores: Vec<PathBuf>,
    /// What a model recites of all it was asked, from rote-extract
    #[arg(long, value_name = "EXTRACTION")]
    pub extractions: Vec<PathBuf>,
    /// Bounds and measured differences, from rote-bound
    #[arg(long, value_name = "BOUND")]
    pub bounds: Vec<PathBuf>,
}

/// What else can change a byte.
#[derive(Debug, Args, Serialize)]
pub struct Params {
    /// Heading of the page
    #[arg(long, value_name = "TEXT", default_value = "What does each attention block recite?")]
    pub title: String,
}

impl Stage for Report {
    const NAME: &'static str = "report";
    const ABOUT: &'static str = "Scores, extractions and bounds as one self-contained page with figures";
    const EXAMPLE: &'static str =
        "rote-report --scores scores --extractions extracted --bounds bounds --out report";
    type Inputs = Inputs;
    type Params = Params;

    fn run(inputs: &Inputs, params: &Params, output: &Output, _context: &Context) -> Result<()> {
        if inputs.scores.is_empty() && inputs.extractions.is_empty() && inputs.bounds.is_empty() {
            return Err(
                Misfit("nothing to report on: give --scores, --extractions or --bounds".into()).into()
            );
        }
        let study =
            gather::gather(params.title.clone(), &inputs.scores, &inputs.extractions, &inputs.bounds)?;
        let figures = figures::all(&study);
        for figure in figures.iter().filter(|figure| !figure.panels.is_empty()) {
            write(output, &format!("figures/{}.svg", figure.name), &figure.standalone())?;
            write(output, &format!("figures/{}.csv", figure.name), &figure.csv())?;
        }
        write(output, "page.html", &page::page(&study, &figures))?;
        write(output, "table.txt", &terminal::table(&study))?;
        let mut summary = serde_json::to_string_pretty(&summary(&study))?;
        summary.push('\n');
        write(output, "summary.json", &summary)
    }
}

fn write(output: &Output, name: &str, text: &str) -> Result<()> {
    fs::write(output.file(name)?, text).with_context(|| format!("writing {name}"))
}

/// `summary.json`: the answers and the numbers they rest on.
fn summary(study: &Study) -> Value {
    let models: Vec<Value> = study.models.iter().map(model_summary).collect();
    json!({
        "format": "rote.report/1",
        "title": study.title,
        "models": models,
        "not_measured": missing::sentences(study),
    })
}

/// Every metric of the studied sequences under one change.
fn memorization(model: &Model, change: &str) -> Value {
    let rows = model.rows.values().filter(|row| {
        row.change == change
            && row.suite == "memorization"
            && (Some(row.role.as_str()) == model.role() || row.role.contains('+'))
            && row.seen.is_none()
            && row.prefix.is_none()
    });
    let one = |row: &Summary| {
        json!({
            "value": row.value, "ci_low": row.ci_low, "ci_high": row.ci_high, "n": row.n,
            "difference": row.difference, "difference_low": row.difference_low,
            "difference_high": row.difference_high, "p_adjusted": row.p_adjusted,
            "source": model.named(model.origin(row)),
        })
    };
    rows.map(|row| (row.metric.clone(), one(row))).collect::<serde_json::Map<String, Value>>().into()
}

fn model_summary(model: &Model) -> Value {
    let recited: Vec<Value> = model
        .recited
        .counts()
        .map(|(seen, count)| {
            let interval = count.interval();
            json!({
                "seen": seen, "prefix": model.recited.prefix(), "asked": count.asked, "exact": count.exact,
                "ci_low": interval.low, "ci_high": interval.high,
                "source": model.named(model.origin_of("extractions")),
            })
        })
        .collect();
    let rows: Vec<Value> = model
        .changes
        .iter()
        .map(|change| {
            let scored = |suite: &Suite| {
                let row = model.score(&change.text, suite)?;
                let mut one = json!(row);
                one["source"] = json!(model.named(model.origin(row)));
                Some((suite.name.clone(), one))
            };
            let suites: serde_json::Map<String, Value> = model.suites().iter().filter_map(scored).collect();
            json!({
                "change": change.text,
                "exact_match": model.recall(&change.text),
                "recall_loss": model.recall_loss(&change.text),
                "benchmark_loss": model.general_loss(&change.text, None),
                "memorization": memorization(model, &change.text),
                "benchmarks": suites,
            })
        })
        .collect();
    json!({
        "label": model.label,
        "subject": model.subject,
        "answer": answer::sentences(model),
        "depth": depth::sentences(model),
        "best": model.best().map(|(change, recall, general)| json!({
            "change": change.text, "recall_loss": recall, "benchmark_loss": general,
        })),
        "recited": recited,
        "changes": rows,
        "reach": model.reached,
        "bounds": tightness::worths(model),
        "sources": model.sources.iter().map(|source| source.content_id).collect::<Vec<_>>(),
    })
}
