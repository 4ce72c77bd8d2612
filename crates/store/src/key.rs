//! `Key`: everything that can change a result, as one JSON value; its digest; the difference of two in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// What a result is a function of. Fields stand in the order of their names, so the JSON is sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Digest of the stage's executable.
    pub code: Digest,
    /// Inputs by flag, in the order given.
    pub inputs: BTreeMap<String, Vec<KeyInput>>,
    /// Parameters that were given, by flag, as typed; a switch has no value.
    pub params: BTreeMap<String, Vec<String>>,
    /// Stage.
    pub stage: String,
}

/// One input, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyInput {
    /// Content id of an artifact, digest of a file or folder.
    pub content: Digest,
    /// Name of a plain file, or of a folder of them: it says how the bytes are read, and may stand in what is made of
    /// them. Keys of older versions hold the ending alone.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "form")]
    pub file: Option<String>,
    /// What the caller named it, for inputs given as `NAME=FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Display for KeyInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        write!(f, "{}", self.content.short())?;
        self.file.as_ref().map_or(Ok(()), |file| write!(f, " {file}"))
    }
}

/// One line of a key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Such as `params.prefix`.
    pub what: String,
    /// Before; `None` where it was not given.
    pub old: Option<String>,
    /// Now; `None` where it is not given.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absent = "not given";
        let old = self.old.as_deref().unwrap_or(absent);
        write!(f, "{}: {old} → {}", self.what, self.new.as_deref().unwrap_or(absent))
    }
}

impl Key {
    /// The JSON that is hashed.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("strings, lists and maps by string are always JSON")
    }

    /// Names the result.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// What differs from `old`, line by line.
    pub fn changes_since(&self, old: &Key) -> Vec<Change> {
        let (old, new) = (old.lines(), self.lines());
        let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let change = |what: &String| {
            let (old, new) = (old.get(what).cloned(), new.get(what).cloned());
            (old != new).then(|| Change { what: what.clone(), old, new })
        };
        names.into_iter().filter_map(change).collect()
    }

    fn lines(&self) -> BTreeMap<String, String> {
        let mut lines = BTreeMap::new();
        lines.insert("code".to_string(), self.code.short());
        lines.insert("stage".to_string(), self.stage.clone());
        for (flag, inputs) in &self.inputs {
            let inputs: Vec<_> = inputs.iter().map(ToString::to_string).collect();
            lines.insert(format!("inputs.{flag}"), inputs.join(", "));
        }
        for (flag, values) in &self.params {
            let text = if values.is_empty() { "true".to_string() } else { values.join(", ") };
            lines.insert(format!("params.{flag}"), text);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(params: &[(&str, &[&str])]) -> Key {
        let params = params
            .iter()
            .map(|(flag, values)| (flag.to_string(), values.iter().map(ToString::to_string).collect()))
            .collect();
        let input = KeyInput { content: Digest::of(b"text"), file: Some("a.txt".into()), name: None };
        let inputs = BTreeMap::from([("requests".to_string(), vec![input])]);
        Key { code: Digest::of(b"code"), inputs, params, stage: "score".into() }
    }

    #[test]
    fn order_of_flags_does_not_count_but_every_flag_does() {
        let first = key(&[("min-k", &["0.2"]), ("zlib", &[])]);
        assert_eq!(first.digest(), key(&[("zlib", &[]), ("min-k", &["0.2"])]).digest());
        assert_ne!(first.digest(), key(&[("min-k", &["0.2"])]).digest());
        let back: Key = serde_json::from_str(&first.text()).unwrap();
        assert_eq!(back, first);
        let older = first.text().replace(r#""file":"a.txt""#, r#""form":"txt""#);
        assert_ne!(older, first.text());
        let older: Key = serde_json::from_str(&older).unwrap();
        assert_eq!(older.inputs["requests"][0].file.as_deref(), Some("txt"));
    }

    #[test]
    fn a_difference_is_told_old_to_new() {
        let old = key(&[("min-k", &["0.2"]), ("zlib", &[])]);
        let mut new = key(&[("change", &["none", "attn.zero@0"]), ("min-k", &["0.1"])]);
        new.inputs.get_mut("requests").unwrap()[0].content = Digest::of(b"other");
        let told: Vec<_> = new.changes_since(&old).iter().map(ToString::to_string).collect();
        let (was, is) = (Digest::of(b"text").short(), Digest::of(b"other").short());
        assert_eq!(
            told,
            [
                format!("inputs.requests: {was} a.txt → {is} a.txt"),
                "params.change: not given → none, attn.zero@0".to_string(),
                "params.min-k: 0.2 → 0.1".to_string(),
                "params.zlib: true → not given".to_string(),
            ]
        );
        assert!(new.changes_since(&new).is_empty());
    }
}
