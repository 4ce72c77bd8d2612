//! PIQA: which of two solutions reaches the goal?

use anyhow::Result;

use super::{Document, Task, label};
use crate::records::{self, Record};

pub(super) const TASK: Task = Task { name: "piqa", document, row, raw: None };

fn document(record: &Record) -> Result<Document> {
    let text = |name| records::string(record, name);
    Ok(Document::Choices {
        context: format!("Question: {}\nAnswer:", text("goal")?),
        choices: vec![text("sol1")?.to_string(), text("sol2")?.to_string()],
        gold: label(record, "label")?,
    })
}

/// The hub's row, whose label is a number; labels from a file of their own are text.
fn row(record: &Record) -> Record {
    let mut row = record.clone();
    if let Ok(label) = label(record, "label") {
        row.insert("label".to_string(), label.into());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_stay_as_they_are() {
        let row = r#"{"goal": "Open it", "sol1": "pull  it ", "sol2": " push", "label": 1}"#;
        let expected = Document::Choices {
            context: "Question: Open it\nAnswer:".to_string(),
            choices: vec!["pull  it ".to_string(), " push".to_string()],
            gold: 1,
        };
        assert_eq!(document(&serde_json::from_str(row).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_missing_label_says_where_labels_may_be() {
        let row = serde_json::from_str(r#"{"goal": "g", "sol1": "a", "sol2": "b"}"#).unwrap();
        assert!(document(&row).unwrap_err().to_string().contains("give the folder of both"));
    }
}
