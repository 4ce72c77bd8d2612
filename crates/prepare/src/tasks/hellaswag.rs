//! HellaSwag: which of four endings follows?

use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::{Document, Task, label};
use crate::python;
use crate::records::{self, Record};

pub(super) const TASK: Task = Task { name: "hellaswag", document, row, raw: None };

fn document(record: &Record) -> Result<Document> {
    let text = |name| records::string(record, name);
    let before = text("ctx_a")?;
    let begun = python::capitalize(text("ctx_b")?);
    let endings = records::strings(records::list(record, "endings")?)?;
    Ok(Document::Choices {
        context: clean(&format!("{}: {before} {begun}", text("activity_label")?)),
        choices: endings.iter().map(|ending| clean(ending)).collect(),
        gold: label(record, "label")?,
    })
}

/// The row with the three fields that the harness adds to it.
fn row(record: &Record) -> Record {
    let mut row = record.clone();
    if let Ok(Document::Choices { context, choices, gold }) = document(record) {
        row.insert("query".to_string(), context.into());
        row.insert("choices".to_string(), choices.into());
        row.insert("gold".to_string(), gold.into());
    }
    row
}

/// Removes what WikiHow's markup left: headings in brackets and double blanks. The order matters, and blanks
/// that appear at the ends stay.
fn clean(text: &str) -> String {
    static BRACKETS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\[[^\n]*?\]").expect("the pattern is valid"));
    let text = python::strip(text).replace(" [title]", ". ");
    BRACKETS.replace_all(&text, "").replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_goes_in_the_harness_order() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text), expected, "{text:?}");
        check("  Then [header] Foo [title] Bar   baz [x][y] end. ", "Then Foo. Bar  baz end.");
        check("[title] start", " start");
        check("a [x\ny] b", "a [x\ny] b");
        check("a [[x] y] b", "a  y] b".replace("  ", " ").as_str());
    }

    #[test]
    fn the_begun_sentence_is_capitalized_and_joined() {
        let row = r#"{"activity_label": "Sailing", "ctx_a": "A boat.", "ctx_b": "a MAN", "label": "2",
            "endings": ["is [title] x", "b", " c ", "d"]}"#;
        let expected = Document::Choices {
            context: "Sailing: A boat. A man".to_string(),
            choices: ["is. x", "b", "c", "d"].map(String::from).to_vec(),
            gold: 2,
        };
        assert_eq!(document(&serde_json::from_str(row).unwrap()).unwrap(), expected);
    }

    #[test]
    fn an_empty_second_half_leaves_a_blank_that_is_stripped() {
        let row = r#"{"activity_label": "S", "ctx_a": "A.", "ctx_b": "", "label": 0, "endings": ["a", "b"]}"#;
        let Document::Choices { context, .. } = document(&serde_json::from_str(row).unwrap()).unwrap() else {
            panic!("choices")
        };
        assert_eq!(context, "S: A.");
    }
}
