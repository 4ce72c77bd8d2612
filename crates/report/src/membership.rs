//! How well memorized sequences can be told from others by the model's own probabilities: metrics over two roles.

use std::fmt::Write;

use rote_artifact::tables::Summary;

use crate::change::{Change, Sort};
use crate::curves::telling;
use crate::number::{percent, plain};
use crate::study::{Model, Study};
use crate::svg::escape;

/// Measures in the order of the table.
const MEASURES: [(&str, &str); 5] = [
    ("loss", "loss"),
    ("loss_ref", "loss less another model's"),
    ("zlib_ratio", "loss / zlib"),
    ("min_k", "Min-K%"),
    ("min_k_plus_plus", "Min-K%++"),
];

/// Rows over two roles at once, of all counts and prefixes, under one change; measure by measure.
fn rows<'a>(model: &'a Model, change: &Change) -> Vec<&'a Summary> {
    let mut rows: Vec<&Summary> = model
        .rows
        .values()
        .filter(|row| {
            row.change == change.text && row.role.contains('+') && row.seen.is_none() && row.prefix.is_none()
        })
        .collect();
    let place = |row: &&Summary| {
        let measure = MEASURES.iter().position(|(name, _)| {
            row.metric.strip_prefix(name).is_some_and(|rest| rest == "_auc" || rest == "_tpr")
        });
        (measure.unwrap_or(MEASURES.len()), row.metric.clone())
    };
    rows.sort_by_key(place);
    rows
}

/// Whether a model has any.
pub fn known(model: &Model) -> bool {
    model.rows.values().any(|row| row.role.contains('+'))
}

/// The share of false positives at which true ones are counted, as the scores' parameters say.
fn false_positives(model: &Model, row: &Summary) -> Option<f64> {
    let named = model.named(model.origin(row));
    let source = model.sources.iter().find(|source| named.contains(&source.content_id.short()))?;
    source.parameters.get("fpr")?.as_f64()
}

fn title(model: &Model, row: &Summary) -> String {
    let metric = row.metric.as_str();
    let of = |name: &str| {
        let known = MEASURES.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| name.replace('_', " "), |(_, title)| title.to_string())
    };
    if let Some(name) = metric.strip_suffix("_auc") {
        format!("{}: AUC", of(name))
    } else if let Some(name) = metric.strip_suffix("_tpr") {
        let rate = false_positives(model, row).map_or("a fixed share of".to_string(), percent);
        format!("{}: true positives at {rate} false ones", of(name))
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
            let _ = write!(html, "<tr><td>{}</td><td>{}</td>", escape(&title(model, first)), first.n);
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
         True positives at a share of false ones: memorized sequences above the threshold that so many controls exceed. \
         Recall at 100 errors, the extraction challenge's score: the share of all sequences whose greedy guess is right \
         and surer than the 100th wrong one, by the mean log-probability of its tokens (of a wrong guess up to and with \
         the first wrong one: what it goes on with is not scored). Small: 95\u{202f}% intervals. Controls: the interventions that set \
         attention to zero or bypass heads drawn by lot, beside chance.</p>\n{html}"
    )
}

fn cell(row: &Summary) -> String {
    let share = (0.0..=1.0).contains(&row.value);
    let write = |value: f64| if share { percent(value) } else { plain(value) };
    let interval = row.ci_low.zip(row.ci_high).map_or(String::new(), |(low, high)| {
        let bare = |value: f64| write(value).trim_end_matches("\u{202f}%").to_string();
        format!("<br><small>{} to {}</small>", bare(low), bare(high))
    });
    format!("<td>{}{interval}</td>", write(row.value))
}
