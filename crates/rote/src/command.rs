//! A node as a command: what is started, and what a person can paste.

use std::path::Path;

use crate::check::{Node, Source};

/// Flags of `node`; `place_of` tells where another node's result stands.
pub fn arguments(node: &Node, place_of: impl Fn(usize) -> String, out: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut push = |flag: &str, value: String| {
        // A value that looks like a flag must cling to its own.
        if value.starts_with('-') {
            arguments.push(format!("--{flag}={value}"));
        } else {
            arguments.extend([format!("--{flag}"), value]);
        }
    };
    for input in &node.inputs {
        let place = match &input.source {
            Source::Node(index) => place_of(*index),
            Source::File(path) => path.display().to_string(),
        };
        push(&input.port, input.name.as_ref().map_or(place.clone(), |name| format!("{name}={place}")));
    }
    for (flag, values) in &node.params {
        values.iter().for_each(|value| push(flag, value.clone()));
    }
    push("out", out.to_string());
    arguments.extend(
        node.params.iter().filter(|(_, values)| values.is_empty()).map(|(flag, _)| format!("--{flag}")),
    );
    arguments
}

/// A line for a shell.
pub fn line(program: &Path, arguments: &[String]) -> String {
    let program = program.display().to_string();
    let words = std::iter::once(&program).chain(arguments).map(|word| quoted(word));
    words.collect::<Vec<_>>().join(" ")
}

/// A word for a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=./,:@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Input;
    use std::path::PathBuf;

    #[test]
    fn a_command_can_be_pasted() {
        let file = |port: &str, name: Option<&str>, source| Input {
            port: port.into(),
            name: name.map(Into::into),
            source,
        };
        let node = Node {
            name: "late".into(),
            stage: "score".into(),
            inputs: vec![
                file("requests", None, Source::Node(0)),
                file("task", Some("lambada"), Source::File(PathBuf::from("data/it's.jsonl"))),
            ],
            params: [
                ("bias".to_string(), vec!["-1".to_string()]),
                ("change".to_string(), vec!["none".to_string(), "attn.zero@0".to_string()]),
                ("zlib".to_string(), vec![]),
            ]
            .into(),
        };
        let arguments = arguments(&node, |index| format!("store/{index}"), "store/out");
        assert_eq!(
            line(Path::new("bin/rote-score"), &arguments),
            "bin/rote-score --requests store/0 --task 'lambada=data/it'\\''s.jsonl' --bias=-1 --change none \
             --change attn.zero@0 --out store/out --zlib"
        );
    }
}
