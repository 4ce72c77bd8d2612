//! Benchmark results as the field's harness prints them, so that both can be laid side by side.

use crate::study::Model;
use crate::suite::falls_with_skill;

/// Versions of the tasks as published; the prompts, boundaries and metrics here are those of these versions.
const VERSIONS: [(&str, u32); 5] =
    [("arc_easy", 1), ("hellaswag", 1), ("lambada_openai", 1), ("piqa", 1), ("wikitext", 2)];

const TITLES: [&str; 9] = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"];
/// Columns that are set to the right.
const RIGHT: [bool; 9] = [false, true, false, true, false, false, true, false, true];

/// The table of one model under one change; empty without benchmarks.
pub fn table(model: &Model, change: &str) -> String {
    let mut lines: Vec<[String; 9]> = Vec::new();
    let mut last = "";
    let rows = model.rows.values().filter(|row| {
        row.change == change && row.role == "benchmark" && row.seen.is_none() && row.prefix.is_none()
    });
    for row in rows {
        let first = last != row.suite;
        last = &row.suite;
        let version = VERSIONS.iter().find(|(name, _)| *name == row.suite).map(|(_, version)| version);
        lines.push([
            if first { row.suite.clone() } else { String::new() },
            if first { version.map(ToString::to_string).unwrap_or_default() } else { String::new() },
            "none".into(),
            "0".into(),
            row.metric.clone(),
            if falls_with_skill(&row.metric) { "↓" } else { "↑" }.into(),
            format!("{:.4}", row.value),
            "±".into(),
            row.stderr.map_or("N/A".into(), |error| format!("{error:.4}")),
        ]);
    }
    if lines.is_empty() {
        return String::new();
    }
    let wide = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.chain([TITLES[column].chars().count(), 3 * usize::from(TITLES[column].is_empty())]).max()
    };
    let widths: Vec<usize> = (0..9).map(|column| wide(column).unwrap_or(0)).collect();
    let mut text = String::new();
    let mut write = |cells: &[String], centred: bool| {
        for (column, cell) in cells.iter().enumerate() {
            let room = widths[column] - cell.chars().count();
            let before = match (centred, RIGHT[column]) {
                (true, _) => room / 2,
                (false, true) => room,
                (false, false) => 0,
            };
            text.push_str(&format!("|{}{cell}{}", " ".repeat(before), " ".repeat(room - before)));
        }
        text.push_str("|\n");
    };
    write(&TITLES.map(String::from), true);
    let rule = |column: usize| match RIGHT[column] {
        true => format!("{}:", "-".repeat(widths[column] - 1)),
        false => "-".repeat(widths[column]),
    };
    write(&(0..9).map(rule).collect::<Vec<_>>(), false);
    for line in &lines {
        write(line, false);
    }
    text
}

#[cfg(test)]
mod tests {
    use rote_artifact::tables::Summary;

    use super::*;

    #[test]
    fn it_is_laid_out_as_the_harness_does() {
        let mut model = Model::default();
        let rows = [
            ("lambada_openai", "acc", 0.5, Some(0.0125)),
            ("lambada_openai", "perplexity", 4.25, Some(0.1)),
            ("wikitext", "word_perplexity", 21.5, None),
        ];
        for (suite, metric, value, stderr) in rows {
            let row = Summary {
                change: "none".into(),
                suite: suite.into(),
                role: "benchmark".into(),
                metric: metric.into(),
                value,
                stderr,
                ..Summary::default()
            };
            let key = ("none".into(), suite.into(), "benchmark".into(), None, None, metric.into());
            model.rows.insert(key, row);
        }
        let expected = "\
|    Tasks     |Version|Filter|n-shot|    Metric     |   | Value |   |Stderr|
|--------------|------:|------|-----:|---------------|---|------:|---|-----:|
|lambada_openai|      1|none  |     0|acc            |↑  | 0.5000|±  |0.0125|
|              |       |none  |     0|perplexity     |↓  | 4.2500|±  |0.1000|
|wikitext      |      2|none  |     0|word_perplexity|↓  |21.5000|±  |   N/A|
";
        assert_eq!(table(&model, "none"), expected);
        assert_eq!(table(&model, "attn.identity@0"), "");
    }
}
