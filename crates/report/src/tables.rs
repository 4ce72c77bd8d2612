//! The page's tables: results by intervention, the numbers of a figure.

use std::fmt::Write;

use rote_artifact::tables::Summary;

use crate::change::Sort;
use crate::figure::{Figure, Panel};
use crate::interval::Interval;
use crate::number::{percent, plain};
use crate::study::{Loss, Model};
use crate::suite::{falls_with_skill, metric_title};
use crate::svg::escape;

/// Where an interval is missing.
const UNKNOWN: &str = "no interval";

/// Without the sign of percent: the value above carries it.
fn bare(text: &str) -> &str {
    text.trim_end_matches("\u{202f}%")
}

/// A value with its interval, small; with n too where it is not that of the unchanged model, above.
fn row_cell(row: Option<&Summary>, base: Option<&Summary>) -> String {
    let Some(row) = row else { return "<td>–</td>".to_string() };
    let share = !falls_with_skill(&row.metric) && row.metric != "entropy";
    let write = |value: f64| if share { percent(value) } else { plain(value) };
    let interval = Interval::new(row.ci_low, row.ci_high).text(|end| bare(&write(end)).to_string());
    let n = (row.change == "none" || base.is_none_or(|base| base.n != row.n)).then(|| format!("n {}", row.n));
    let small: Vec<String> = interval.into_iter().chain(n).collect();
    format!("<td>{}<br><small>{}</small></td>", write(row.value), small.join(", "))
}

fn loss_cell(loss: Option<Loss>, level: Option<f64>) -> String {
    match loss {
        Some(loss) => {
            let interval = loss.interval.text(|end| bare(&percent(end)).to_string());
            let level = level.map(|level| format!("p {}", plain(level)));
            let small: Vec<String> =
                [interval.or(Some(UNKNOWN.into())), level].into_iter().flatten().collect();
            format!("<td>{}<br><small>{}</small></td>", percent(loss.value), small.join(", "))
        }
        None => "<td>–</td>".to_string(),
    }
}

/// Every intervention on one model.
pub fn results(model: &Model) -> String {
    let suites = model.suites();
    let best = model.best().map(|best| best.0.text.as_str());
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\"><table><caption>{}</caption><thead><tr><th>intervention</th>\
         <th>exact match</th>",
        escape(&model.label)
    );
    let token = model.token_metric();
    if let Some(metric) = token {
        let _ = write!(html, "<th>{}</th>", metric_title(metric).replace(", ", ",<br>"));
    }
    for suite in &suites {
        let _ = write!(
            html,
            "<th>{}<br>{}</th>",
            escape(&suite.title),
            metric_title(&suite.metric).replace(" per ", "<br>per ")
        );
    }
    html.push_str("<th>recall<br>lost</th><th>benchmarks<br>lost</th></tr></thead><tbody>\n");
    for change in &model.changes {
        if !model.rows.keys().any(|key| key.0 == change.text) {
            continue;
        }
        let class = match change.sort {
            Sort::None => " class=\"none\"",
            _ if best == Some(change.text.as_str()) => " class=\"best\"",
            _ => "",
        };
        let _ = write!(html, "<tr{class}><td><code>{}</code></td>", escape(&change.text));
        html.push_str(&row_cell(model.recall(&change.text), model.recall("none")));
        if let Some(metric) = token {
            html.push_str(&row_cell(model.memory(&change.text, metric), model.memory("none", metric)));
        }
        for suite in &suites {
            html.push_str(&row_cell(model.score(&change.text, suite), model.score("none", suite)));
        }
        if change.sort == Sort::None {
            html.push_str("<td></td><td></td>");
        } else {
            html.push_str(&loss_cell(
                model.recall_loss(&change.text),
                model.recall(&change.text).and_then(|row| row.p_adjusted),
            ));
            html.push_str(&loss_cell(model.general_loss(&change.text, None), None));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// The numbers a figure shows, folded away.
pub fn numbers(figure: &Figure) -> String {
    let (x, y) = figure.columns;
    let mut html = format!(
        "<details><summary>The numbers of this figure</summary><div class=\"scroll\" tabindex=\"0\"><table><thead><tr>\
         <th>model</th><th class=\"l\">series</th><th class=\"l\">of</th><th>{}</th><th>{}</th><th>95 % interval</th>\
         <th>n</th></tr></thead><tbody>\n",
        x.replace('_', " "),
        y.replace('_', " ")
    );
    for panel in &figure.panels {
        for series in &panel.series {
            for point in series.numbers() {
                let interval = point.y_interval.text(|end| write_y(panel, end)).unwrap_or("–".to_string());
                let x = if panel.x.percent && !point.aside { percent(point.x) } else { point.across() };
                let _ = writeln!(
                    html,
                    "<tr><td>{}</td><td class=\"l\">{}</td><td class=\"l\"><code>{}</code></td><td>{x}</td><td>{}</td>\
                     <td>{interval}</td><td>{}</td></tr>",
                    escape(&panel.title),
                    escape(&series.name),
                    escape(&point.of),
                    write_y(panel, point.y),
                    point.n.map_or("–".to_string(), |n| n.to_string())
                );
            }
        }
    }
    html.push_str("</tbody></table></div></details>\n");
    html
}

fn write_y(panel: &Panel, value: f64) -> String {
    if panel.y.percent { percent(value) } else { plain(value) }
}
