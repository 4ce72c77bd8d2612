//! Where each number came from: models by content, artifacts with their parameters, and everything they were made of, back to files.

use std::collections::BTreeMap;
use std::fmt::Write;

use rote_store::{Ancestor, Digest, InputEntry};
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
            html.push_str(&artifact(source));
        }
        for ancestor in ancestors(model) {
            let Ancestor { content_id, stage, parameters, inputs } = ancestor;
            let _ = writeln!(html, "<dt>made by {} {}</dt>", escape(&stage.name), escape(&stage.version));
            html.push_str(&made_of(*content_id, parameters, inputs));
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

/// What the artifacts that were given were made of, each once, unless it was given too.
fn ancestors(model: &Model) -> Vec<&Ancestor> {
    let mut all: Vec<&Ancestor> = Vec::new();
    let is_given = |it: &Ancestor| {
        let stage = format!("{} {}", it.stage.name, it.stage.version);
        model.sources.iter().any(|source| source.content_id == it.content_id && source.stage == stage)
    };
    for ancestor in model.sources.iter().flat_map(|source| &source.lineage) {
        if !is_given(ancestor) && !all.contains(&ancestor) {
            all.push(ancestor);
        }
    }
    all
}

fn artifact(source: &Source) -> String {
    let rows: Vec<String> =
        source.rows.iter().map(|(name, rows)| format!("{} {name}", count(*rows))).collect();
    let mut html = format!(
        "<dt>--{} · made by {} · {}</dt>\n",
        source.flag,
        escape(&source.stage),
        escape(&rows.join(", "))
    );
    html.push_str(&made_of(source.content_id, &source.parameters, &source.inputs));
    for warning in &source.warnings {
        let _ = writeln!(html, "<dd>Note: {}</dd>", escape(warning));
    }
    html
}

/// Content id, parameters and inputs of an artifact.
fn made_of(content_id: Digest, parameters: &Value, inputs: &BTreeMap<String, Vec<InputEntry>>) -> String {
    let mut html = format!("<dd><code>{content_id}</code></dd>\n");
    if let Value::Object(parameters) = parameters
        && !parameters.is_empty()
    {
        let each: Vec<String> = parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let _ = writeln!(html, "<dd>Parameters: <code>{}</code></dd>", escape(&each.join(", ")));
    }
    for (flag, input) in
        inputs.iter().flat_map(|(flag, inputs)| inputs.iter().map(move |input| (flag, input)))
    {
        let name = input.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let origin = input.stage.as_ref().map_or_else(String::new, |stage| format!(", made by {stage}"));
        let _ = writeln!(
            html,
            "<dd>From {}{}{}: <code>{}</code></dd>",
            escape(flag),
            escape(&name),
            escape(&origin),
            input.content_id
        );
    }
    html
}
