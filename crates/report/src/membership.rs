//! How well memorized sequences can be told from others by the model's own probabilities: metrics over two roles.

use std::fmt::Write;

use rote_artifact::tables::Summary;

use crate::change::{Change, Sort};
use crate::curves::telling;
use crate::number::{percent, plain};
use crate::study::{Model, Study};
use crate::svg::escape;

/// Rows over two roles at once, of all counts and prefixes, under one change.
fn rows<'a>(model: &'a Model, change: &Change) -> Vec<&'a Summary> {
    model
        .rows
        .values()
        .filter(|row| {
            row.change == change.text && row.role.contains('+') && row.seen.is_none() && row.prefix.is_none()
        })
        .collect()
}

/// Whether a model has any.
pub fn known(model: &Model) -> bool {
    model.rows.values().any(|row| row.role.contains('+'))
}

fn title(metric: &str) -> String {
    let of = |name: &str| match name {
        "loss" => "loss".to_string(),
        "zlib_ratio" => "loss / zlib".to_string(),
        "min_k" => "Min-K%".to_string(),
        "min_k_plus_plus" => "Min-K%++".to_string(),
        other => other.replace('_', " "),
    };
    if let Some(name) = metric.strip_suffix("_auc") {
        format!("{}: AUC", of(name))
    } else if let Some(name) = metric.strip_suffix("_tpr") {
        format!("{}: true positives at the fixed share of false ones", of(name))
    } else if metric == "recall_at_100_errors" {
        "recall at 100 errors".to_string()
    } else {
        metric.replace('_', " ")
    }
}

/// The section; empty without such metrics.
pub fn section(study: &Study) -> String {
    let mut html = String::new();
    for model in study.models.iter().filter(|model| known(model)) {
        let mut changes: Vec<&Change> =
            model.changes.iter().filter(|change| change.sort == Sort::None).collect();
        changes.extend(telling(model));
        let _ = write!(
            html,
            "<div class=\"scroll\" tabindex=\"0\"><table><caption>{}</caption><thead><tr><th>told by</th><th>n</th>",
            escape(&model.label)
        );
        for change in &changes {
            let name = if change.sort == Sort::None { "unchanged".to_string() } else { change.phrase() };
            let _ = write!(html, "<th>{}</th>", escape(&name));
        }
        html.push_str("</tr></thead><tbody>\n");
        let by_change: Vec<Vec<&Summary>> = changes.iter().map(|change| rows(model, change)).collect();
        for first in by_change.first().into_iter().flatten() {
            let _ = write!(html, "<tr><td>{}</td><td>{}</td>", escape(&title(&first.metric)), first.n);
            for rows in &by_change {
                let same = |row: &&&Summary| row.metric == first.metric && row.role == first.role;
                html.push_str(&match rows.iter().find(same) {
                    Some(row) => cell(row),
                    None => "<td>–</td>".to_string(),
                });
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
    }
    if html.is_empty() {
        return html;
    }
    format!(
        "<h2 id=\"membership\">Can memorized sequences be told from controls?</h2>\n<p>By ranking all sequences after what \
         the model makes of them. AUC: the chance that a memorized one ranks above a control, 50\u{202f}% by guessing. \
         Recall at 100 errors: the share of memorized ones ranked above the 100th control.</p>\n{html}"
    )
}

fn cell(row: &Summary) -> String {
    let share = (0.0..=1.0).contains(&row.value);
    let write = |value: f64| if share { percent(value) } else { plain(value) };
    let interval = row.ci_low.zip(row.ci_high).map_or(String::new(), |(low, high)| {
        let low = write(low);
        format!("<br><small>{} to {}</small>", low.trim_end_matches("\u{202f}%"), write(high))
    });
    format!("<td>{}{interval}</td>", write(row.value))
}
