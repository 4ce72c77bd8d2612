//! Where each number came from: models by content, artifacts with their parameters, and what they were made of.

use std::fmt::Write;

use serde_json::Value;

use crate::number::{count, parameters};
use crate::study::{Model, Source, Study};
use crate::svg::escape;

/// The section's body.
pub fn section(study: &Study) -> String {
    let mut html = String::from(
        "<p>A content id is the BLAKE3 digest of what an artifact or file holds. The same id means the same numbers, \
         wherever they lie; each artifact's <code>artifact.json</code> repeats what stands here.</p>\n",
    );
    for model in &study.models {
        let _ = writeln!(html, "<h3>{}</h3>", escape(&model.label));
        html.push_str(&subject(model));
        html.push_str("<dl>\n");
        for source in &model.sources {
            html.push_str(&artifact(source, model));
        }
        html.push_str("</dl>\n");
    }
    html
}

/// The artifacts given with `flags`, by the first digits of their content.
pub fn short(study: &Study, flags: &[&str]) -> String {
    let sources = study.models.iter().flat_map(|model| &model.sources);
    let ids = sources
        .filter(|source| flags.contains(&source.flag))
        .map(|source| format!("<code>{}</code>", source.content_id.short()));
    ids.collect::<Vec<_>>().join(", ")
}

fn subject(model: &Model) -> String {
    let Some(subject) = &model.subject else {
        return "<p>The artifacts name no model.</p>\n".to_string();
    };
    format!(
        "<p>Model <code>{}</code>: family <code>{}</code>, {} parameters ({}), {} blocks of {} heads, width {}.</p>\n",
        subject.content_id,
        escape(&subject.family),
        count(subject.parameters),
        parameters(subject.parameters),
        subject.n_blocks,
        subject.n_heads,
        subject.d_model
    )
}

fn artifact(source: &Source, model: &Model) -> String {
    let rows: Vec<String> =
        source.rows.iter().map(|(name, rows)| format!("{} {name}", count(*rows))).collect();
    let mut html = format!(
        "<dt>--{} · made by {} · {}</dt>\n<dd><code>{}</code></dd>\n",
        source.flag,
        escape(&source.stage),
        escape(&rows.join(", ")),
        source.content_id
    );
    if let Value::Object(parameters) = &source.parameters
        && !parameters.is_empty()
    {
        let each: Vec<String> = parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let _ = writeln!(html, "<dd>Parameters: <code>{}</code></dd>", escape(&each.join(", ")));
    }
    for (flag, input) in &source.inputs {
        let name = input.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let origin = match (&input.stage, &model.subject) {
            (Some(stage), _) => format!(", made by {stage}"),
            (None, Some(subject)) if subject.content_id == input.content_id => ", the model".to_string(),
            (None, _) => String::new(),
        };
        let _ = writeln!(
            html,
            "<dd>From {}{}{}: <code>{}</code></dd>",
            escape(flag),
            escape(&name),
            escape(&origin),
            input.content_id
        );
    }
    for warning in &source.warnings {
        let _ = writeln!(html, "<dd>Note: {}</dd>", escape(warning));
    }
    html
}
