//! A benchmark of one's own: declared with templates, as one JSON object, not as code.
//!
//! ```json
//! {"name": "capitals", "kind": "choice", "context": "Q: {question}\nA:", "choices": "{options}", "gold": "{answer}"}
//! {"name": "lastword", "kind": "word", "text": "{passage}"}
//! {"name": "essays", "kind": "page", "page": "{title}\n{body}"}
//! ```
//!
//! `{a.b}` is field `b` of field `a` of a row; `{{` and `}}` are braces. `choices` is one place that holds a
//! list (`{a.*.b}` takes `b` of each element) or a list of templates; `gold` is the index of the right choice
//! or, with `labels`, one of these. A word is asked after the last blank of `text`. A page may also be a
//! text file.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{Document, lambada};
use crate::records::{self, Record};

/// How rows become documents.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Own {
    /// Which of several continuations?
    Choice {
        /// Name of the task.
        name: String,
        /// The prompt.
        context: String,
        /// The continuations, without the blank before them.
        choices: Choices,
        /// Index or label of the right one.
        gold: String,
        /// A place that holds the labels of the choices.
        labels: Option<String>,
    },
    /// The last word of a text.
    Word {
        /// Name of the task.
        name: String,
        /// The text with its last word.
        text: String,
    },
    /// A whole page.
    Page {
        /// Name of the task.
        name: String,
        /// The page.
        page: String,
    },
}

/// Where the choices are.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Choices {
    /// In one place that holds a list.
    Place(String),
    /// In places of their own.
    Templates(Vec<String>),
}

impl Own {
    /// Reads a declaration.
    pub fn parse(text: &str) -> Result<Own> {
        let own: Own = serde_json::from_str(text).with_context(|| format!("task declaration `{text}`"))?;
        let name = own.name();
        let plain = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        ensure!(
            !name.is_empty() && name.chars().all(plain),
            "task declaration: `{name}` is no name; letters, digits, `_`, `-` and `.` make one"
        );
        Ok(own)
    }

    /// Name of the task.
    pub fn name(&self) -> &str {
        match self {
            Own::Choice { name, .. } | Own::Word { name, .. } | Own::Page { name, .. } => name,
        }
    }

    /// Renders one row.
    pub fn document(&self, record: &Record) -> Result<Document> {
        match self {
            Own::Choice { context, choices, gold, labels, .. } => {
                let choices = match choices {
                    Choices::Place(place) => texts(place, record).context("choices")?,
                    Choices::Templates(templates) => templates
                        .iter()
                        .map(|template| render(template, record))
                        .collect::<Result<_>>()
                        .context("choices")?,
                };
                let answer = render(gold, record).context("gold")?;
                let gold = match labels {
                    Some(place) => {
                        let labels = texts(place, record).context("labels")?;
                        labels.iter().position(|label| *label == answer).with_context(|| {
                            format!("gold: `{answer}` is none of the labels {}", labels.join(", "))
                        })?
                    }
                    None => records::index(&Value::from(answer)).context("gold")?,
                };
                Ok(Document::Choices { context: render(context, record).context("context")?, choices, gold })
            }
            Own::Word { text, .. } => Ok(lambada::at_last_blank(&render(text, record).context("text")?)),
            Own::Page { page, .. } => Ok(whole(render(page, record).context("page")?)),
        }
    }

    /// A text file as a document, where it can be one.
    pub fn raw(&self, text: &str) -> Option<Document> {
        matches!(self, Own::Page { .. }).then(|| whole(text.to_string()))
    }
}

fn whole(page: String) -> Document {
    Document::Page { text: page.clone(), page }
}

/// Fills the places of a template.
fn render(template: &str, record: &Record) -> Result<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            filled.push_str(brace);
            rest = after;
            continue;
        }
        ensure!(brace == "{", "template `{template}`: a `}}` that closes nothing; write `}}}}` for a brace");
        let ends = rest.find('}').with_context(|| format!("template `{template}`: a `{{` is not closed"))?;
        let values = values(&rest[..ends], record)?;
        let [value] = values[..] else {
            bail!("`{{{}}}` names {} values, one is wanted", &rest[..ends], values.len());
        };
        filled.push_str(&scalar(value).with_context(|| format!("`{{{}}}`", &rest[..ends]))?);
        rest = &rest[ends + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The texts at a place that holds a list.
fn texts(place: &str, record: &Record) -> Result<Vec<String>> {
    let path = place.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let path = path.with_context(|| format!("`{place}` is not a place such as `{{options}}`"))?;
    let found = values(path, record)?;
    let items: Vec<&Value> = match found[..] {
        [Value::Array(items)] => items.iter().collect(),
        _ => found,
    };
    items.into_iter().map(scalar).collect::<Result<_>>().with_context(|| format!("`{place}`"))
}

/// All values at a path; `*` is every element of a list.
fn values<'a>(path: &str, record: &'a Record) -> Result<Vec<&'a Value>> {
    let mut parts = path.split('.');
    let first = parts.next().unwrap_or_default();
    let mut found = vec![record.get(first).with_context(|| format!("no field `{first}`"))?];
    for part in parts {
        let mut next = Vec::new();
        for value in found {
            match value {
                Value::Array(items) if part == "*" => next.extend(items),
                _ => next.push(value.get(part).with_context(|| format!("`{path}`: no field `{part}`"))?),
            }
        }
        found = next;
    }
    Ok(found)
}

fn scalar(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => bail!("{other} is neither text nor number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(declaration: &str, row: &str) -> Result<Document> {
        Own::parse(declaration)?.document(&serde_json::from_str(row).unwrap())
    }

    fn choices(context: &str, choices: &[&str], gold: usize) -> Document {
        let choices = choices.iter().map(ToString::to_string).collect();
        Document::Choices { context: context.to_string(), choices, gold }
    }

    #[test]
    fn choices_may_be_a_list_or_fields() {
        let found = document(
            r#"{"name": "mine", "kind": "choice", "context": "Q: {q}\n{{A}}:", "choices": "{o}", "gold": "{g}"}"#,
            r#"{"q": "Why?", "o": ["a", "b"], "g": 1}"#,
        );
        assert_eq!(found.unwrap(), choices("Q: Why?\n{A}:", &["a", "b"], 1));
        let found = document(
            r#"{"name": "mine", "kind": "choice", "context": "{q}", "choices": ["{o1}", "not {o1}"], "gold": "0"}"#,
            r#"{"q": "Why?", "o1": "so"}"#,
        );
        assert_eq!(found.unwrap(), choices("Why?", &["so", "not so"], 0));
    }

    #[test]
    fn a_published_task_can_be_declared() {
        let found = document(
            r#"{"name": "mine", "kind": "choice", "context": "Question: {question.stem}\nAnswer:",
                "choices": "{question.choices.*.text}", "labels": "{question.choices.*.label}",
                "gold": "{answerKey}"}"#,
            r#"{"question": {"stem": "S?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]},
                "answerKey": "B"}"#,
        );
        assert_eq!(found.unwrap(), choices("Question: S?\nAnswer:", &["x", "y"], 1));
    }

    #[test]
    fn words_and_pages() {
        let found = document(r#"{"name": "w", "kind": "word", "text": "{t}"}"#, r#"{"t": "one two"}"#);
        let expected = Document::Word { context: "one".to_string(), target: " two".to_string() };
        assert_eq!(found.unwrap(), expected);
        let page = r#"{"name": "p", "kind": "page", "page": "{n}. {t}"}"#;
        let expected = whole("7. one".to_string());
        assert_eq!(document(page, r#"{"t": "one", "n": 7}"#).unwrap(), expected);
        assert_eq!(Own::parse(page).unwrap().raw("text"), Some(whole("text".to_string())));
    }

    #[test]
    fn a_wrong_declaration_or_row_is_told_with_its_place() {
        let check = |declaration: &str, row: &str, words: &str| {
            let error = format!("{:#}", document(declaration, row).unwrap_err());
            assert!(error.contains(words), "{error:?} does not say {words:?}");
        };
        check(r#"{"name": "w", "kind": "verse", "text": ""}"#, "{}", "unknown variant `verse`");
        check(r#"{"name": "w", "kind": "word", "txt": ""}"#, "{}", "unknown field `txt`");
        check(r#"{"name": "a=b", "kind": "word", "text": ""}"#, "{}", "`a=b` is no name");
        let word = |text: &str| format!(r#"{{"name": "w", "kind": "word", "text": "{text}"}}"#);
        check(&word("{t}"), "{}", "text: no field `t`");
        check(&word("{t"), r#"{"t": "x"}"#, "is not closed");
        check(&word("t}"), r#"{"t": "x"}"#, "closes nothing");
        check(&word("{t}"), r#"{"t": ["x"]}"#, "neither text nor number");
        check(&word("{t.*}"), r#"{"t": ["x", "y"]}"#, "names 2 values");
        let choice = r#"{"name": "c", "kind": "choice", "context": "", "choices": ["a"], "gold": "{g}"}"#;
        check(choice, r#"{"g": "B"}"#, "gold: \"B\" is not an index");
    }
}
