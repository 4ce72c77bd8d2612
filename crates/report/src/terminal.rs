//! `table.txt`: the main results as plain text, at most a hundred columns wide.

use crate::change::{Change, Sort};
use crate::number::plain;
use crate::study::{Model, Study};
use crate::suite::{Suite, falls_with_skill};

/// Heads listed at most; all of them stand on the page.
const HEADS: usize = 12;
const WIDE: usize = 100;

/// The table.
pub fn table(study: &Study) -> String {
    let mut text = format!("{}\n", study.title);
    for model in &study.models {
        text.push('\n');
        one(model, &mut text);
    }
    text
}

fn one(model: &Model, text: &mut String) {
    let content = model.subject.as_ref().map(|subject| format!("  (model {})", subject.content_id.short()));
    text.push_str(&format!("{}{}\n", model.label, content.unwrap_or_default()));
    if model.rows.is_empty() {
        text.push_str("  no scores\n");
        return;
    }
    let (asked, exact) =
        model.recited.values().fold((0, 0), |sum, (asked, exact)| (sum.0 + asked, sum.1 + exact));
    if asked > 0 {
        text.push_str(&format!("  unchanged: {exact} of {asked} sequences recited exactly\n"));
    }
    let worst = crate::curves::telling(model);
    if let Some((change, recall, general)) = model.best() {
        text.push_str(&format!(
            "  best trade-off: {} (recall lost {} %, benchmarks lost {} %, {} to {})\n",
            change.phrase(),
            share(recall.value),
            share(general.value),
            share(general.low),
            share(general.high)
        ));
    }
    let most = worst.iter().filter_map(|change| Some((change, model.recall_loss(&change.text)?)));
    if let Some((change, loss)) = most
        .filter(|(change, _)| matches!(change.sort, Sort::Block(_)))
        .max_by(|a, b| a.1.value.total_cmp(&b.1.value))
    {
        text.push_str(&format!(
            "  most recall lost by one block: {} ({} %, 95 % interval {} to {})\n",
            change.phrase(),
            share(loss.value),
            share(loss.low),
            share(loss.high)
        ));
    }
    text.push('\n');

    let mut columns: Vec<Column> = vec![Column::new("change", |_, change| change.text.clone())];
    columns.push(Column::new("exact", |model, change| cell(model.recall(&change.text).map(|row| row.value))));
    columns.push(Column::new("95 % interval", |model, change| {
        let ends = model.recall(&change.text).and_then(|row| row.ci_low.zip(row.ci_high));
        ends.map_or("–".into(), |(low, high)| format!("{} to {}", share(low), share(high)))
    }));
    if let Some(metric) = model.token_metric() {
        let title = if metric.ends_with("free") { "tokens" } else { "tokens*" };
        columns.push(Column::new(title, move |model, change| {
            cell(model.memory(&change.text, metric).map(|row| row.value))
        }));
    }
    for suite in model.suites() {
        columns.push(Column::new(&title(&suite), move |model, change| {
            let value = model.score(&change.text, &suite).map(|row| row.value);
            if falls_with_skill(&suite.metric) { value.map_or("–".into(), plain) } else { cell(value) }
        }));
    }
    let heads = model.changes.iter().filter(|change| change.sort == Sort::Heads).count();
    let mut shown = 0;
    let rows: Vec<&Change> = model
        .changes
        .iter()
        .filter(|change| model.rows.keys().any(|key| key.0 == change.text))
        .filter(|change| {
            shown += usize::from(change.sort == Sort::Heads);
            change.sort != Sort::Heads || shown <= HEADS
        })
        .collect();
    lay_out(model, &columns, &rows, text);
    if heads > HEADS {
        text.push_str(&format!("  … {} more heads on the page\n", heads - HEADS));
    }
    if model.token_metric() == Some("token_accuracy_forced") {
        text.push_str("  * teacher-forced; nothing was generated freely\n");
    }
    for suite in model.suites().iter().filter(|suite| model.guesses(suite)) {
        text.push_str(&format!("  {}: unchanged not above guessing, left out of losses\n", suite.title));
    }
    tail(model, text);
    let harness = crate::harness::table(model, "none");
    if !harness.is_empty() {
        text.push_str(&format!("\n  unchanged, as the evaluation harness prints it\n{harness}"));
    }
}

fn tail(model: &Model, text: &mut String) {
    let n = |name: &str, n: Option<u32>| n.map(|n| format!("{name} {n}"));
    let mut counts = vec![n("recall", model.recall("none").map(|row| row.n))];
    counts.extend(
        model.suites().iter().map(|suite| n(&suite.title, model.score("none", suite).map(|row| row.n))),
    );
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    if !counts.is_empty() {
        text.push_str(&format!("  shares in percent; items: {}\n", counts.join(", ")));
    }
}

fn title(suite: &Suite) -> String {
    if falls_with_skill(&suite.metric) { format!("{} ppl", suite.title) } else { suite.title.clone() }
}

type Cell = Box<dyn Fn(&Model, &Change) -> String>;

struct Column {
    title: String,
    cell: Cell,
}

impl Column {
    fn new(title: &str, cell: impl Fn(&Model, &Change) -> String + 'static) -> Column {
        Column { title: title.to_string(), cell: Box::new(cell) }
    }
}

/// Columns from the left as far as they fit; what is left out is said.
fn lay_out(model: &Model, columns: &[Column], rows: &[&Change], text: &mut String) {
    let mut lines: Vec<String> = vec![String::new(); rows.len() + 1];
    let mut width = 0;
    let mut left_out = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let mut cells = vec![column.title.clone()];
        cells.extend(rows.iter().map(|change| (column.cell)(model, change)));
        let wide = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0) + 2;
        if width + wide > WIDE {
            left_out.push(column.title.clone());
            continue;
        }
        width += wide;
        for (line, cell) in lines.iter_mut().zip(cells) {
            let pad = " ".repeat(wide - 2 - cell.chars().count());
            line.push_str(&if index == 0 { format!("  {cell}{pad}") } else { format!("  {pad}{cell}") });
        }
    }
    for (index, line) in lines.iter().enumerate() {
        text.push_str(line.trim_end());
        text.push('\n');
        if index == 0 {
            text.push_str(&format!("  {}\n", "─".repeat(width - 2)));
        }
    }
    if !left_out.is_empty() {
        text.push_str(&format!("  no room for {}; see the page\n", left_out.join(", ")));
    }
}

/// A share in percent, without the sign.
fn share(value: f64) -> String {
    crate::number::percent(value).trim_end_matches("\u{202f}%").to_string()
}

fn cell(value: Option<f64>) -> String {
    value.map_or("–".into(), share)
}
