//! ARC-Easy: a school question and three to five answers.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Document, Task};
use crate::records::{self, Record};

pub(super) const TASK: Task = Task { name: "arc_easy", document, row, raw: None };

/// Either AI2's own rows (`question.stem`, a list of choices) or the hub's (`question`, choices as columns).
fn document(record: &Record) -> Result<Document> {
    let answer = records::string(record, "answerKey")?;
    let (question, texts, labels) = match record.get("question") {
        Some(Value::Object(question)) => {
            let choices = records::list(question, "choices")?;
            let field = |name| {
                let text = |choice: &Value| {
                    choice.get(name).cloned().with_context(|| format!("a choice has no field `{name}`"))
                };
                choices.iter().map(text).collect::<Result<Vec<_>>>()
            };
            (records::string(question, "stem")?, field("text")?, field("label")?)
        }
        _ => {
            let choices = record.get("choices").and_then(Value::as_object).context("no field `choices`")?;
            let field = |name| records::list(choices, name).map(<[Value]>::to_vec);
            (records::string(record, "question")?, field("text")?, field("label")?)
        }
    };
    let labels = records::strings(&labels)?;
    let gold = labels.iter().position(|label| label == answer);
    Ok(Document::Choices {
        context: format!("Question: {question}\nAnswer:"),
        choices: records::strings(&texts)?,
        gold: gold.with_context(|| format!("answer `{answer}` is none of {}", labels.join(", ")))?,
    })
}

/// The hub's row, of AI2's own.
fn row(record: &Record) -> Record {
    let Some(Value::Object(question)) = record.get("question") else { return record.clone() };
    let choices = question.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let column = |name: &str| Value::from_iter(choices.iter().map(|choice| choice[name].clone()));
    let field = |name: &str| record.get(name).cloned().unwrap_or_default();
    let columns = [("text", column("text")), ("label", column("label"))];
    let fields = [
        ("id", field("id")),
        ("question", question.get("stem").cloned().unwrap_or_default()),
        ("choices", columns.into_iter().map(|(name, value)| (name.to_string(), value)).collect()),
        ("answerKey", field("answerKey")),
    ];
    fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(row: &str) {
        let record = serde_json::from_str(row).unwrap();
        let expected = Document::Choices {
            context: "Question: What sinks?\nAnswer:".to_string(),
            choices: vec!["cork".to_string(), "lead".to_string(), "ice ".to_string()],
            gold: 1,
        };
        assert_eq!(document(&record).unwrap(), expected);
    }

    #[test]
    fn both_published_forms_give_the_same_document() {
        check(
            r#"{"id": "x", "question": {"stem": "What sinks?", "choices": [
                {"text": "cork", "label": "1", "para": "not read"}, {"text": "lead", "label": "2"},
                {"text": "ice ", "label": "3"}]}, "answerKey": "2"}"#,
        );
        check(
            r#"{"id": "x", "question": "What sinks?", "answerKey": "B",
                "choices": {"text": ["cork", "lead", "ice "], "label": ["A", "B", "C"]}}"#,
        );
    }

    #[test]
    fn both_published_forms_are_one_row_of_the_hub() {
        let own = r#"{"id": "x", "question": {"stem": "q", "choices": [
            {"text": "a", "label": "A", "para": "p"}, {"text": "b", "label": "B"}]}, "answerKey": "B"}"#;
        let hub = r#"{"id": "x", "question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]},
            "answerKey": "B"}"#;
        let of = |text: &str| serde_json::to_string(&row(&serde_json::from_str(text).unwrap())).unwrap();
        assert_eq!(of(own), of(hub));
    }

    #[test]
    fn an_answer_that_is_no_label_is_refused() {
        let row = r#"{"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "E"}"#;
        let error = document(&serde_json::from_str(row).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "answer `E` is none of A");
    }
}
