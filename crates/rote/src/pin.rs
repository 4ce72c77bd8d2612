//! The lock file: what each node is made of and what came out, to be committed; `rote run --locked` fails where
//! anything differs. The executable is not in it: another build that makes the same content is the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rote_store::{Digest, Key, KeyInput, Memory, atomic_write};
use serde::{Deserialize, Serialize};

use crate::failure::{Refused, Wrong};
use crate::plan::{Known, Scene, Verdict, walk};

/// What a lock file says, by node.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pins {
    nodes: BTreeMap<String, Pin>,
}

/// What it says of one node.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    stage: String,
    content: Digest,
    /// Digests of inputs by flag, with their names and those of their files.
    #[serde(default)]
    inputs: BTreeMap<String, Vec<String>>,
    /// Parameters by flag; a switch has no value.
    #[serde(default)]
    params: BTreeMap<String, Vec<String>>,
}

impl Pin {
    fn of(key: &Key, content: Digest) -> Pin {
        let texts = |inputs: &Vec<KeyInput>| inputs.iter().map(text).collect();
        Pin {
            stage: key.stage.clone(),
            content,
            inputs: key.inputs.iter().map(|(flag, inputs)| (flag.clone(), texts(inputs))).collect(),
            params: key.params.clone(),
        }
    }

    fn lines(&self) -> BTreeMap<String, String> {
        let lists = [("inputs", &self.inputs), ("params", &self.params)];
        let line = |(kind, list): (&str, &BTreeMap<String, Vec<String>>)| -> Vec<(String, String)> {
            list.iter().map(|(flag, values)| (format!("{kind}.{flag}"), values.join(", "))).collect()
        };
        let mut lines: BTreeMap<_, _> = lists.into_iter().flat_map(line).collect();
        lines.insert("stage".to_string(), self.stage.clone());
        lines
    }
}

fn text(input: &KeyInput) -> String {
    let name = input.name.as_ref().map_or_else(String::new, |name| format!("{name}="));
    let file = input.file.as_ref().map_or_else(String::new, |file| format!(" {file}"));
    format!("{name}{}{file}", input.content)
}

/// The lock file of a pipeline unless another is named: beside it, `demo.toml` → `demo.lock`.
pub fn place(pipeline: &Path) -> PathBuf {
    pipeline.with_extension("lock")
}

impl Pins {
    /// Reads a lock file.
    pub fn read(path: &Path) -> Result<Pins> {
        let reading = || format!("reading {}", path.display());
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let path = path.display();
                return Err(Wrong::one(format!("{path}: no such lock file; `rote lock` writes it")));
            }
            text => text.with_context(reading)?,
        };
        toml::from_str(&text).with_context(reading)
    }

    /// What the nodes of a finished run are made of and what came out.
    ///
    /// # Errors
    /// A node that is not up to date.
    pub fn of_run(scene: &Scene, memory: &mut Memory) -> Result<(Pins, Vec<Known>)> {
        let mut nodes = BTreeMap::new();
        let mut results = Vec::new();
        for (index, verdict) in walk(scene, memory)? {
            let name = &scene.pipeline.nodes[index].name;
            let Verdict::Fresh(key, known) = verdict else {
                return Err(Wrong::one(format!("{name}: not up to date; `rote run` first")));
            };
            nodes.insert(name.clone(), Pin::of(&key, known.content));
            results.push((index, known));
        }
        results.sort_by_key(|(index, _)| *index);
        Ok((Pins { nodes }, results.into_iter().map(|(_, known)| known).collect()))
    }

    /// Writes a lock file, whole or not at all.
    pub fn write(&self, path: &Path, pipeline: &Path) -> Result<()> {
        let head = format!(
            "# What `rote run {0}` made. `rote run {0} --locked` fails where anything differs.\n\n",
            pipeline.display()
        );
        atomic_write(path, (head + &toml::to_string(self)?).as_bytes())
    }

    /// Whether parameters and inputs are those of the lock file, as far as can be known before any work.
    ///
    /// # Errors
    /// Every node and every line that differs.
    pub fn check(&self, scene: &Scene, goals: &[usize], memory: &mut Memory) -> Result<()> {
        let nodes = &scene.pipeline.nodes;
        let wanted = scene.wanted(goals);
        let known = |name: &String| {
            let content = self.nodes.get(name)?.content;
            Some(Known { key: content, content, place: PathBuf::new() })
        };
        let locked: Vec<_> = nodes.iter().map(|node| known(&node.name)).collect();
        let mut faults = Vec::new();
        for (node, _) in nodes.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
            let Some(pin) = self.nodes.get(&node.name) else {
                faults.push(format!("{}: not in the lock file", node.name));
                continue;
            };
            let is = Pin::of(&scene.key(node, &locked, memory)?, pin.content).lines();
            let was = pin.lines();
            let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(*name)));
            for name in names.filter(|name| was.get(*name) != is.get(*name)) {
                let told = |lines: &BTreeMap<String, String>| match lines.get(name).map(String::as_str) {
                    Some("") => "true".to_string(),
                    Some(value) => value.to_string(),
                    None => "not given".to_string(),
                };
                faults.push(format!("{}: {name}: locked {}, now {}", node.name, told(&was), told(&is)));
            }
        }
        for name in self.nodes.keys().filter(|name| !nodes.iter().any(|node| node.name == **name)) {
            faults.push(format!("{name}: in the lock file, but no node of the pipeline"));
        }
        if faults.is_empty() { Ok(()) } else { Err(Refused(faults).into()) }
    }

    /// Whether a node's content is the locked one.
    ///
    /// # Errors
    /// It is not.
    pub fn confirm(&self, node: &str, content: Digest) -> Result<()> {
        match self.nodes.get(node) {
            Some(pin) if pin.content != content => Err(Refused(vec![format!(
                "{node}: content {} is not the locked {}",
                content.short(),
                pin.content.short()
            )])
            .into()),
            _ => Ok(()),
        }
    }
}
