//! What was not measured, so that silence is not taken for a result.

use crate::number::{listing, percent};
use crate::study::Study;
use crate::suite::EXPECTED;

/// Fewer items than this are pointed out: a 95 % interval of a share is then up to 20 points wide.
pub const FEW: u32 = 100;

/// The list, in whole sentences.
pub fn sentences(study: &Study) -> Vec<String> {
    let mut missing = Vec::new();
    for model in &study.models {
        let mut say = |text: String| missing.push(format!("{}: {text}", model.label));
        if model.rows.is_empty() {
            say("no scores; give the artifact of rote-score with --scores".into());
        } else {
            let Some(role) = model.role() else {
                say("no memorization scores, so nothing is said about recall".into());
                benchmarks(model, &mut say);
                continue;
            };
            if role == "candidate" {
                say("memorized sequences were not picked out; recall is that of all candidates".into());
            }
            if model.memory("none", "token_accuracy_free").is_none() {
                say("free-running token accuracy (intervene ran without --generate)".into());
            }
            if model.memory("none", "entropy").is_none() {
                say("completion entropy".into());
            }
            if model.control().is_none() {
                say("sequences the model should not know (no controls, none never seen)".into());
            }
            if model.zeros().next().is_none() {
                say("the control that sets attention's output to zero".into());
            }
            if model.random().is_none() {
                say("the control that bypasses heads drawn by lot (no attn.identity@all:randomN)".into());
            }
            if model.prefixes().is_none() {
                say("recall by length of the prefix (all are of one length)".into());
            }
            if !model.changes.iter().any(|change| change.head.is_some()) {
                say("single heads (no attn.identity@B:hH among the interventions)".into());
            }
            if !crate::membership::known(model) {
                say("whether memorized sequences can be told from controls by their probabilities".into());
            }
            if model.seen_counts().len() < 2 {
                say("recall by times seen in training (counts are not known)".into());
            }
            let tried: Vec<u32> = model.blocks().map(|(block, _)| block).collect();
            let untried: Vec<String> = (0..model.n_blocks())
                .filter(|block| !tried.contains(block))
                .map(|block| block.to_string())
                .collect();
            if !untried.is_empty() {
                say(format!("bypass of blocks {}", listing(&untried)));
            }
            if let Some(row) = model.recall("none").filter(|row| row.n < FEW) {
                say(format!("recall on {FEW} sequences or more: there are {}", row.n));
            }
            benchmarks(model, &mut say);
        }
        if model.recited.whole().is_none() {
            say("how many of all sequences asked are recited (no extraction given)".into());
        }
        if model.bounds.is_empty() {
            say("bounds and measured differences (no artifact of rote-bound given)".into());
        }
    }
    missing.push(
        "For all: the interval of a mean loss over benchmarks treats these as independent, as their documents \
         differ. A mean over blocks does not, as all blocks are measured on the same items: its interval on recall \
         is taken over the sequences where scores were given sequence by sequence; where they were not, and on the \
         benchmarks, it is as wide as the blocks' own on average. Intervals of single blocks are not widened for \
         the number of blocks compared; the levels p in the table of results are corrected for it (Holm)."
            .into(),
    );
    missing
}

fn benchmarks(model: &crate::study::Model, say: &mut impl FnMut(String)) {
    let suites = model.suites();
    let absent: Vec<String> = EXPECTED
        .iter()
        .filter(|(start, _)| !suites.iter().any(|suite| suite.name.starts_with(start)))
        .map(|(_, title)| title.to_string())
        .collect();
    if !absent.is_empty() {
        say(listing(&absent).to_string());
    }
    for suite in suites.iter().filter(|suite| model.guesses(suite)) {
        let row = model.score("none", suite);
        let (value, low, high) =
            row.map_or((f64::NAN, None, None), |row| (row.value, row.ci_low, row.ci_high));
        say(format!(
            "losses on {}, because the unchanged model is not above guessing there ({}, {} to {}, guessing {})",
            suite.title,
            percent(value),
            percent(low.unwrap_or(f64::NAN)),
            percent(high.unwrap_or(f64::NAN)),
            percent(suite.guessing.unwrap_or(f64::NAN))
        ));
    }
    let few: Vec<String> = suites
        .iter()
        .filter_map(|suite| {
            let n = model.score("none", suite)?.n;
            (n < FEW).then(|| format!("{} ({n})", suite.title))
        })
        .collect();
    if !few.is_empty() {
        say(format!("{FEW} documents or more of {}", listing(&few)));
    }
}
