//! `page.html`: one page with everything in it. No script, nothing fetched; light, dark and on paper.

use std::fmt::Write;

use crate::change::Sort;
use crate::depth;
use crate::figure::Figure;
use crate::number::{count, listing, whole_percent};
use crate::study::{Model, Study};
use crate::svg::escape;
use crate::{answer, membership, missing, motion, sources, tables, theme, tightness};

/// The page.
pub fn page(study: &Study, figures: &[Figure]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{style}\n</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p class=\"lede\">{lede}</p>\n</header>\n<main>\n",
        title = escape(&study.title),
        style = theme::page_style(),
        lede = escape(&lede(study)),
    );
    answers(study, &mut html);
    for figure in figures {
        draw(figure, study, &mut html);
    }
    html.push_str(&membership::section(study));
    if study.models.iter().any(|model| !model.rows.is_empty()) {
        html.push_str(
            "<h2 id=\"results\">All results</h2>\n<p>Each value with its 95 % interval; the number of items stands in the first row and holds below it unless said otherwise. The best \
             trade-off is set bold.</p>\n",
        );
        for model in study.models.iter().filter(|model| !model.rows.is_empty()) {
            html.push_str(&tables::results(model));
        }
    }
    html.push_str("<h2 id=\"sources\">Where each number came from</h2>\n");
    html.push_str(&sources::section(study));
    html.push_str("<h2 id=\"missing\">Not measured</h2>\n<ul>\n");
    for sentence in missing::sentences(study) {
        let _ = writeln!(html, "<li>{}</li>", escape(&sentence));
    }
    html.push_str("</ul>\n");
    html.push_str(&reading());
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn lede(study: &Study) -> String {
    let labels: Vec<String> = study.models.iter().map(|model| model.label.clone()).collect();
    let changed = |model: &Model| model.changes.iter().filter(|change| change.sort != Sort::None).count();
    let changes = study.models.iter().map(changed).max().unwrap_or(0);
    format!(
        "{}, {}as it is and under up to {} intervention{}: which attention blocks the reciting of memorized text \
         hangs on, and what bypassing them costs besides.",
        listing(&labels),
        if labels.len() == 1 { "" } else { "each " },
        count(changes as u64),
        if changes == 1 { "" } else { "s" }
    )
}

fn answers(study: &Study, html: &mut String) {
    html.push_str("<h2 id=\"answer\">In short</h2>\n<div class=\"answers\">\n");
    for model in &study.models {
        let _ = writeln!(html, "<section><h3>{}</h3>", escape(&model.label));
        for sentence in answer::sentences(model) {
            let _ = writeln!(html, "<p>{}</p>", escape(&sentence));
        }
        html.push_str("</section>\n");
    }
    html.push_str("</div>\n");
}

fn draw(figure: &Figure, study: &Study, html: &mut String) {
    // What has no rows stands in the list of what was not measured, and nowhere else.
    if figure.panels.is_empty() {
        return;
    }
    let _ = writeln!(html, "<h2 id=\"{}\">{}</h2>", figure.name, escape(&figure.title));
    if figure.name == "trade-off" {
        for model in &study.models {
            if let Some(sentence) = best(model) {
                let _ = writeln!(html, "<p>{}</p>", escape(&sentence));
            }
        }
    }
    if figure.name == "displacement" {
        depth_claim(study, html);
    }
    html.push_str("<figure>\n<div class=\"panels\">\n");
    for index in 0..figure.panels.len() {
        html.push_str(&figure.panel_svg(index));
    }
    let _ = writeln!(
        html,
        "</div>\n<figcaption>{} Drawing and exact numbers: <a href=\"figures/{name}.svg\">figures/{name}.svg</a>, \
         <a href=\"figures/{name}.csv\">figures/{name}.csv</a>; from <a href=\"#sources\">artifacts</a> {}.</figcaption>\n</figure>",
        escape(&figure.caption),
        sources::short(study, figure.from),
        name = figure.name
    );
    html.push_str(&tables::numbers(figure));
    if figure.name == "tightness" {
        worth(study, html);
    }
}

fn best(model: &Model) -> Option<String> {
    let (change, recall, general) = model.best()?;
    Some(format!(
        "{}: best is {}. Recall lost {}, n {}; benchmarks lost {}, n at least {} each.",
        model.label,
        change.phrase(),
        answer::loss_text(recall),
        recall.n,
        answer::loss_text(general),
        general.n
    ))
}

/// The claim about depth, a sentence each; from the measured differences alone.
fn depth_claim(study: &Study, html: &mut String) {
    for model in &study.models {
        let mut sentences = depth::sentences(model);
        sentences.extend(motion::sentence(model));
        if !sentences.is_empty() {
            let _ = writeln!(html, "<p>{}: {}</p>", escape(&model.label), escape(&sentences.join(" ")));
        }
    }
}

fn worth(study: &Study, html: &mut String) {
    html.push_str(
        "<p>Lowest to highest over all interventions. A row says something where its bound is below what holds \
         without any theorem: hidden differences below the size of the state they are taken at, margins above zero, \
         logits below their span, nats below the logarithm of the vocabulary; of a block's own displacement, within \
         ten times the measured. A bound is informative where at least \
         half of its rows say something, else vacuous.</p>\n",
    );
    for model in &study.models {
        html.push_str(&tightness::table(model));
    }
}

fn reading() -> String {
    format!(
        "<h2 id=\"reading\">How to read this</h2>\n<dl>\n\
         <dt>Bypass (<code>attn.identity@b</code>)</dt><dd>In block b every head's attention weights are replaced by the \
         identity: a token attends to itself alone. Norms, MLP and residual stream stay.</dd>\n\
         <dt>Zero (<code>attn.zero@b</code>)</dt><dd>The attention module's output is set to zero instead: a control.</dd>\n\
         <dt>Random heads (<code>attn.identity@all:random4</code>)</dt><dd>As many heads, drawn by lot from all blocks, are \
         bypassed: what a loss owes to the number of heads rather than to which they are. A control.</dd>\n\
         <dt>Exact match</dt><dd>Greedy decoding from the prefix gives the suffix token for token.</dd>\n\
         <dt>Relative loss</dt><dd>(unchanged − changed) / unchanged; of perplexities 1 − unchanged / changed. Its \
         95 % interval is that of the difference from the unchanged model, paired by item, with the unchanged value \
         as divisor. Of shares it is BCa's, Tango's where fewer than ten items differ, Newcombe's where all differ \
         alike; of perplexities that of their ratio, symmetric bootstrap-t of its logarithm. A mean over benchmarks treats them as independent, and leaves out those at which \
         the unchanged model is not above guessing. A mean over blocks is taken over the sequences, all of which \
         were asked at every block: its interval is Agresti and Coull's, that of the difference of two such means \
         Agresti and Min's.</dd>\n\
         <dt>p</dt><dd>Two-sided level of no difference in recall from the unchanged model: McNemar's mid-p, after Holm's correction \
         over all interventions compared.</dd>\n\
         <dt>Words of the answer</dt><dd>A block costs recall heavily from a relative loss of {}; a bypass spares general \
         ability up to a mean loss of {} on the benchmarks; fewer than {} items are pointed out.</dd>\n</dl>\n",
        whole_percent(answer::HEAVY),
        whole_percent(answer::SPARED),
        missing::FEW
    )
}
