//! LAMBADA (the version of OpenAI): the last word of a passage.

use anyhow::Result;

use super::{Document, Task};
use crate::records::{self, Record};

pub(super) const TASK: Task = Task { name: "lambada_openai", document, row, raw: None };

/// Rows hold the passage as `text`, or split already as `context` and `continuation`. It is cut at its last
/// blank; other whitespace is no blank.
fn document(record: &Record) -> Result<Document> {
    Ok(at_last_blank(&text(record)?))
}

fn text(record: &Record) -> Result<String> {
    if record.contains_key("text") {
        return Ok(records::string(record, "text")?.to_string());
    }
    let part = |name| records::string(record, name);
    Ok(format!("{} {}", part("context")?, part("continuation")?))
}

/// The hub's row, of one that is split.
fn row(record: &Record) -> Record {
    match text(record) {
        Ok(text) if !record.contains_key("text") => Record::from_iter([("text".to_string(), text.into())]),
        _ => record.clone(),
    }
}

/// A text, of which the word after the last blank is asked.
pub(super) fn at_last_blank(text: &str) -> Document {
    let (context, word) = text.rsplit_once(' ').unwrap_or(("", text));
    Document::Word { context: context.to_string(), target: format!(" {word}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(row: &str, context: &str, target: &str) {
        let expected = Document::Word { context: context.to_string(), target: target.to_string() };
        assert_eq!(document(&serde_json::from_str(row).unwrap()).unwrap(), expected, "{row}");
    }

    #[test]
    fn the_word_after_the_last_blank_is_asked() {
        check(r#"{"text": "one  two\nthree four"}"#, "one  two\nthree", " four");
        check(r#"{"text": "ends in "}"#, "ends in", " ");
        check(r#"{"text": "one\ntwo"}"#, "", " one\ntwo");
        check(r#"{"context": "one two", "continuation": "three"}"#, "one two", " three");
    }
}
