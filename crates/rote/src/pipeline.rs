//! A pipeline file as it is written: TOML → nodes with keys and values. What they mean is `check`'s business.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::failure::Wrong;

/// A pipeline file, read.
pub struct Draft {
    /// As given on the command line.
    pub file: String,
    /// Stem of the file; names the folder of readable links.
    pub name: String,
    /// In the order of the file.
    pub nodes: Vec<DraftNode>,
}

/// One table of a pipeline file.
pub struct DraftNode {
    /// Name of the table.
    pub name: String,
    /// Its `stage`, or its name.
    pub stage: String,
    /// Everything else, in the order of the file.
    pub keys: Vec<(String, Given)>,
}

/// A key's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// `true` or `false`.
    Switch(bool),
    /// One value, or a list of them, as typed on a command line.
    Values(Vec<String>),
}

impl Draft {
    /// Reads the pipeline at `path`.
    pub fn read(path: &Path) -> Result<Draft> {
        let file = path.display().to_string();
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Wrong::one(format!("{file}: no such file")));
            }
            text => text.with_context(|| format!("reading {file}"))?,
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let nodes = parse(&text).map_err(|faults| {
            Wrong(faults.into_iter().map(|fault| format!("{file}: {fault}")).collect::<Vec<_>>())
        })?;
        if !is_word(&name) {
            return Err(Wrong::one(format!("{file}: {}", word_rule("file name", &name))));
        }
        Ok(Draft { file, name, nodes })
    }
}

fn parse(text: &str) -> Result<Vec<DraftNode>, Vec<String>> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        vec![format!("{place}{}", error.message())]
    })?;
    let mut faults = Vec::new();
    let mut nodes = Vec::new();
    for (name, value) in table {
        let toml::Value::Table(keys) = value else {
            faults.push(format!("`{name}` stands outside of a node; every key belongs below a [node]"));
            continue;
        };
        if !is_word(&name) {
            faults.push(format!("[{name}]: {}", word_rule("node", &name)));
            continue;
        }
        let mut node = DraftNode { stage: name.clone(), name, keys: Vec::new() };
        for (key, value) in keys {
            let at = format!("[{}] {key}", node.name);
            match given(&value) {
                Err(kind) => faults.push(format!("{at}: {kind} is no value of a flag")),
                Ok(Given::Values(values)) if key == "stage" => match values.as_slice() {
                    [stage] if is_word(stage) => node.stage = stage.clone(),
                    _ => faults.push(format!("{at}: not the name of a stage")),
                },
                Ok(Given::Switch(_)) if key == "stage" => {
                    faults.push(format!("{at}: not the name of a stage"))
                }
                Ok(given) => node.keys.push((key, given)),
            }
        }
        nodes.push(node);
    }
    if nodes.is_empty() && faults.is_empty() {
        faults.push("no node in it".to_string());
    }
    if faults.is_empty() { Ok(nodes) } else { Err(faults) }
}

fn given(value: &toml::Value) -> Result<Given, &'static str> {
    match value {
        toml::Value::Boolean(on) => Ok(Given::Switch(*on)),
        toml::Value::Array(values) => Ok(Given::Values(values.iter().map(single).collect::<Result<_, _>>()?)),
        value => Ok(Given::Values(vec![single(value)?])),
    }
}

fn single(value: &toml::Value) -> Result<String, &'static str> {
    match value {
        // They could move a terminal's cursor, or end a line in a file that is exported.
        toml::Value::String(text) if text.contains(is_odd) => Err("a text with control characters"),
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(_) => Err("a switch within a list"),
        toml::Value::Datetime(_) => Err("a date"),
        toml::Value::Array(_) => Err("a list within a list"),
        toml::Value::Table(_) => Err("a table"),
    }
}

/// A control character that is neither a line's end nor a tab.
pub fn is_odd(letter: char) -> bool {
    letter.is_control() && letter != '\n' && letter != '\t'
}

/// Names become file names and words of messages, so they are plain.
pub fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn word_rule(what: &str, name: &str) -> String {
    format!("{what} `{name}` is not made of letters, digits, `-` and `_`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_its_stage_unless_it_says_another() {
        let nodes = parse(
            "[prepare]\nprefix = 32\ntask = [\"a=b.jsonl\"]\n[late]\nstage = \"intervene\"\nmin-k = 0.2\ngenerate = true\n",
        )
        .unwrap();
        let stages: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.stage.as_str())).collect();
        assert_eq!(stages, [("prepare", "prepare"), ("late", "intervene")]);
        let values = |text: &str| Given::Values(vec![text.to_string()]);
        assert_eq!(nodes[0].keys, [("prefix".into(), values("32")), ("task".into(), values("a=b.jsonl"))]);
        assert_eq!(
            nodes[1].keys,
            [("min-k".into(), values("0.2")), ("generate".into(), Given::Switch(true))]
        );
    }

    #[test]
    fn what_is_no_pipeline_is_told_by_place() {
        let check = |text: &str, expected: &str| match parse(text) {
            Ok(_) => panic!("{text} is accepted"),
            Err(faults) => assert_eq!(faults.join("\n"), expected),
        };
        check("", "no node in it");
        check("x = 1", "`x` stands outside of a node; every key belongs below a [node]");
        check("[score]\nmin = 1979-05-27", "[score] min: a date is no value of a flag");
        check("[score]\nmin = [[1]]", "[score] min: a list within a list is no value of a flag");
        check(
            "[score]\ntitle = \"a\\rb\"",
            "[score] title: a text with control characters is no value of a flag",
        );
        check("[\"../x\"]", "[../x]: node `../x` is not made of letters, digits, `-` and `_`");
        check("[score]\nstage = \"../sh\"", "[score] stage: not the name of a stage");
        assert!(parse("[score]\n\nx = = 1").err().unwrap()[0].starts_with("line 3: "));
    }
}
