//! `table.txt`: the main results as plain text, at most a hundred columns wide.

use rote_artifact::tables::Summary;

use crate::change::{Change, Sort};
use crate::interval::Interval;
use crate::number::{listing, plain};
use crate::study::{Model, Origin, Study};
use crate::suite::{Suite, falls_with_skill};

/// Single heads listed at most, those that cost most recall; all of them stand on the page.
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
    if let Some(count) = model.recited.whole() {
        text.push_str(&format!(
            "  unchanged: {} of {} sequences recited exactly ({} %, 95 % interval {})\n",
            count.exact,
            count.asked,
            share(count.share()),
            ends(count.interval())
        ));
    }
    let worst = crate::curves::telling(model);
    if let Some((change, recall, general)) = model.best() {
        text.push_str(&format!(
            "  best trade-off: {}\n    recall lost {} % ({}), benchmarks lost {} % ({})\n",
            change.phrase(),
            share(recall.value),
            ends(recall.interval),
            share(general.value),
            ends(general.interval)
        ));
    }
    let most = worst.iter().filter_map(|change| Some((change, model.recall_loss(&change.text)?)));
    if let Some((change, loss)) = most
        .filter(|(change, _)| matches!(change.sort, Sort::Block(_)))
        .max_by(|a, b| a.1.value.total_cmp(&b.1.value))
    {
        text.push_str(&format!(
            "  most recall lost by one block: {} ({} %, 95 % interval {})\n",
            change.phrase(),
            share(loss.value),
            ends(loss.interval)
        ));
    }
    text.push('\n');

    let mut recall = Columns::default();
    recall.add("exact", |model, change| model.recall(&change.text));
    if let Some(metric) = model.token_metric() {
        let title = if metric.ends_with("free") { "tokens" } else { "tokens*" };
        recall.add(title, move |model, change| model.memory(&change.text, metric));
    }
    if let Some((role, seen, _)) = model.control() {
        recall.add("controls", move |model, change| {
            model.row(&change.text, "memorization", role, seen, "exact_match")
        });
    }
    let mut general = Columns::default();
    for suite in model.suites() {
        general.add(&title(&suite), move |model, change| model.score(&change.text, &suite));
    }
    let single = |change: &&&Change| matches!(change.sort, Sort::Heads | Sort::ZeroHeads);
    let all: Vec<&Change> =
        model.changes.iter().filter(|change| model.rows.keys().any(|key| key.0 == change.text)).collect();
    // Of many heads those that cost most recall.
    let mut heads: Vec<&Change> = all.iter().filter(single).copied().collect();
    let cost = |change: &Change| model.recall_loss(&change.text).map_or(f64::NEG_INFINITY, |loss| loss.value);
    heads.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
    let more = heads.split_off(heads.len().min(HEADS));
    let rows: Vec<&Change> = all.into_iter().filter(|change| !more.contains(change)).collect();
    lay_out(model, &recall.0, &rows, text);
    if model.recall("none").is_some() && !general.0.is_empty() {
        text.push('\n');
    }
    lay_out(model, &general.0, &rows, text);
    if !more.is_empty() {
        text.push_str(&format!("  … {} more heads, which cost less recall, on the page\n", more.len()));
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
    let items = |name: &str, n: u64, origin: Origin| {
        let from = model.named(origin).join(" ");
        let from = if from.is_empty() { from } else { format!(" (from {from})") };
        format!("{name} {n}{from}")
    };
    let about = |name: &str, row: Option<&Summary>| Some(items(name, u64::from(row?.n), model.origin(row?)));
    let asked = model.recited.whole();
    let asked = asked.map(|count| items("all asked", count.asked, model.origin_of("extractions")));
    let mut counts = vec![asked, about("recall", model.recall("none"))];
    if let Some((role, seen, name)) = model.control() {
        counts.push(about(name, model.row("none", "memorization", role, seen, "exact_match")));
    }
    counts.extend(model.suites().iter().map(|suite| about(&suite.title, model.score("none", suite))));
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    if !counts.is_empty() {
        text.push_str("  shares in percent, each with its 95 % interval; items of\n");
        for count in counts {
            text.push_str(&format!("    {count}\n"));
        }
    }
    let controls = [model.zeros().next().is_some(), model.random().is_some(), model.control().is_some()];
    let names = ["attention zeroed", "heads drawn by lot (random)", "sequences it should not know"];
    let there: Vec<String> =
        names.iter().zip(controls).filter(|(_, there)| *there).map(|(name, _)| name.to_string()).collect();
    if !there.is_empty() {
        text.push_str(&format!("  controls: {}\n", listing(&there)));
    }
}

fn title(suite: &Suite) -> String {
    if falls_with_skill(&suite.metric) { format!("{} ppl", suite.title) } else { suite.title.clone() }
}

type Cell = Box<dyn Fn(&Model, &Change) -> (String, String)>;

/// Numbers side by side, each with its interval.
#[derive(Default)]
struct Columns(Vec<(String, Cell)>);

impl Columns {
    fn add<F>(&mut self, title: &str, row: F)
    where
        F: for<'a> Fn(&'a Model, &Change) -> Option<&'a Summary> + 'static,
    {
        let cell: Cell = Box::new(move |model, change| {
            let row = row(model, change);
            let write = |row: &Summary, value: f64| match falls_with_skill(&row.metric) {
                true => plain(value),
                false => share(value),
            };
            let value = row.map_or("–".into(), |row| write(row, row.value));
            let ends = row.and_then(|row| Some((row, row.ci_low?, row.ci_high?)));
            let ends = ends.map(|(row, low, high)| format!("{}–{}", write(row, low), write(row, high)));
            (value, ends.unwrap_or_default())
        });
        self.0.push((title.to_string(), cell));
    }
}

/// A table of the changes that have numbers in it; what finds no room beside goes below, under the changes again.
fn lay_out(model: &Model, columns: &[(String, Cell)], rows: &[&Change], text: &mut String) {
    let scored = |change: &&&Change| columns.iter().any(|(_, cell)| cell(model, change).0 != "–");
    let rows: Vec<&Change> = rows.iter().filter(scored).copied().collect();
    if rows.is_empty() {
        return;
    }
    let names: Vec<String> =
        std::iter::once("change".to_string()).chain(rows.iter().map(|change| change.text.clone())).collect();
    let widest = |cells: &[String]| cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let names_wide = widest(&names) + 2;
    let mut blocks: Vec<(usize, Vec<String>)> = Vec::new();
    for (title, cell) in columns {
        let cells: Vec<(String, String)> = rows.iter().map(|change| cell(model, change)).collect();
        let mut values = vec![title.clone()];
        values.extend(cells.iter().map(|cell| cell.0.clone()));
        let mut ends = vec!["95 %".to_string()];
        ends.extend(cells.iter().map(|cell| cell.1.clone()));
        let (one, other) = (widest(&values), widest(&ends));
        let wide = one + other + 3;
        if blocks.last().is_none_or(|(width, _)| width + wide > WIDE) {
            let names = names.iter().map(|name| pad(&format!("  {name}"), names_wide, false));
            blocks.push((names_wide, names.collect()));
        }
        if let Some((width, lines)) = blocks.last_mut() {
            *width += wide;
            for ((line, value), end) in lines.iter_mut().zip(values).zip(ends) {
                line.push_str(&format!("  {} {}", pad(&value, one, true), pad(&end, other, false)));
            }
        }
    }
    for (index, (width, lines)) in blocks.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        for (index, line) in lines.iter().enumerate() {
            text.push_str(line.trim_end());
            text.push('\n');
            if index == 0 {
                text.push_str(&format!("  {}\n", "─".repeat(width - 2)));
            }
        }
    }
}

/// A cell set to the right or to the left.
fn pad(cell: &str, wide: usize, right: bool) -> String {
    let room = " ".repeat(wide.saturating_sub(cell.chars().count()));
    if right { format!("{room}{cell}") } else { format!("{cell}{room}") }
}

/// An interval in percent, without the sign.
fn ends(interval: Interval) -> String {
    interval.text(share).unwrap_or("no interval".into())
}

/// A share in percent, without the sign.
fn share(value: f64) -> String {
    crate::number::percent(value).trim_end_matches("\u{202f}%").to_string()
}
