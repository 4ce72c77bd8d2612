//! What would run and why: keys from known inputs, compared with the keys of the last run.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rote_store::{Digest, Key, KeyInput, Memory};

use crate::check::{Node, Pipeline, Source};
use crate::command;
use crate::estimate::{Estimate, estimate};
use crate::shelf::{Found, Shelf};
use crate::stages::Stage;
use crate::trust::find;

/// A node's result.
#[derive(Clone)]
pub struct Known {
    /// Names it in the store.
    pub key: Digest,
    /// Its content id, which its consumers' keys hold.
    pub content: Digest,
    /// Its folder.
    pub place: PathBuf,
}

/// What lies ahead of a node.
pub enum Verdict {
    /// Its result is in the store.
    Fresh(Key, Known),
    /// It has to run; why.
    Runs(Key, Vec<String>),
    /// Its inputs are not made yet: by whom, and what differs anyway.
    Waits(Vec<String>, Vec<String>),
}

/// The parts every question about a pipeline needs.
pub struct Scene<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// Its stages.
    pub stages: &'a HashMap<String, Stage>,
    /// The store.
    pub shelf: &'a Shelf,
}

impl Scene<'_> {
    /// The stage of `node`.
    pub fn stage(&self, node: &Node) -> &Stage {
        &self.stages[&node.stage]
    }

    /// What lies ahead of node `index`, given the results of its inputs.
    pub fn verdict(&self, index: usize, known: &[Option<Known>], memory: &mut Memory) -> Result<Verdict> {
        let node = &self.pipeline.nodes[index];
        let key = self.key(node, known, memory).with_context(|| node.name.clone())?;
        let waits: Vec<_> = node.parents().into_iter().filter(|parent| known[*parent].is_none()).collect();
        if !waits.is_empty() {
            let open = |port: &str| {
                node.inputs.iter().any(|input| {
                    input.port == port
                        && matches!(input.source, Source::Node(index) if waits.contains(&index))
                })
            };
            let reasons = match self.last_key(node) {
                Some(last) => self.changes(node, &key, &last, open),
                None => vec!["never run".to_string()],
            };
            let names = waits.iter().map(|parent| self.pipeline.nodes[*parent].name.clone()).collect();
            return Ok(Verdict::Waits(names, reasons));
        }
        let digest = key.digest();
        let damage = match find(self.shelf, &key) {
            Found::Whole(manifest) => {
                let place = self.shelf.place(digest);
                let known = Known { key: digest, content: manifest.content_id, place };
                return Ok(Verdict::Fresh(key, known));
            }
            Found::Absent => None,
            Found::Damaged(damage) => Some(format!("its stored result is damaged: {damage}")),
        };
        let reasons = match (damage, self.last_key(node)) {
            (Some(damage), _) => vec![damage],
            (None, None) => vec!["never run".to_string()],
            (None, Some(last)) if last == key => vec!["its result is gone from the store".to_string()],
            (None, Some(last)) => self.changes(node, &key, &last, |_| false),
        };
        Ok(Verdict::Runs(key, reasons))
    }

    /// The command of `node`; inputs that are not made yet are named by their readable links.
    pub fn command(&self, node: &Node, known: &[Option<Known>], out: &str) -> (PathBuf, Vec<String>) {
        let place_of = |index: usize| match &known[index] {
            Some(known) => known.place.display().to_string(),
            None => {
                let name = &self.pipeline.nodes[index].name;
                self.shelf.view(&self.pipeline.name, name).display().to_string()
            }
        };
        (self.stage(node).program.clone(), command::arguments(node, place_of, out))
    }

    /// The key of its last run.
    pub fn last_key(&self, node: &Node) -> Option<Key> {
        let last = self.shelf.last(&self.pipeline.name, &node.name)?;
        self.shelf.key(last).ok()
    }

    /// Which nodes are needed for `goals`, by index.
    pub fn wanted(&self, goals: &[usize]) -> Vec<bool> {
        let mut wanted = vec![false; self.pipeline.nodes.len()];
        goals.iter().for_each(|goal| wanted[*goal] = true);
        for &index in self.pipeline.order.iter().rev() {
            if wanted[index] {
                self.pipeline.nodes[index].parents().iter().for_each(|parent| wanted[*parent] = true);
            }
        }
        wanted
    }

    /// Everything the result of `node` is a function of. Inputs that are not made yet count as nothing.
    pub fn key(&self, node: &Node, known: &[Option<Known>], memory: &mut Memory) -> Result<Key> {
        let mut inputs: BTreeMap<String, Vec<KeyInput>> = BTreeMap::new();
        for input in &node.inputs {
            let (content, file) = match &input.source {
                Source::Node(index) => match &known[*index] {
                    Some(known) => (known.content, None),
                    None => (Digest::of(b""), None),
                },
                Source::File(path) => {
                    let named = path.is_file() || self.stage(node).takes_files(&input.port);
                    let file = path.file_name().filter(|_| named);
                    (memory.digest_path(path)?, file.map(|file| file.to_string_lossy().into_owned()))
                }
            };
            let entry = KeyInput { content, file, name: input.name.clone() };
            inputs.entry(input.port.clone()).or_default().push(entry);
        }
        let code = self.stage(node).code;
        Ok(Key { code, inputs, params: node.params.clone(), stage: node.stage.clone() })
    }

    /// Changed lines of the key, inputs with the names of the nodes they come from; `skip` names ports to leave out.
    fn changes(&self, node: &Node, key: &Key, last: &Key, skip: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        for change in key.changes_since(last) {
            let Some(port) = change.what.strip_prefix("inputs.") else {
                lines.push(change.to_string());
                continue;
            };
            if skip(port) {
                continue;
            }
            let origin = |source: &Source| match source {
                Source::Node(index) => self.pipeline.nodes[*index].name.clone(),
                Source::File(path) => path.display().to_string(),
            };
            let from: Vec<_> = node
                .inputs
                .iter()
                .filter(|input| input.port == port)
                .map(|input| origin(&input.source))
                .collect();
            let from = if from.is_empty() { String::new() } else { format!(" (from {})", from.join(", ")) };
            lines.push(format!("{change}{from}"));
        }
        lines
    }
}

/// The verdict over every node, in order; for the dry run and for `why`.
pub fn walk(scene: &Scene, memory: &mut Memory) -> Result<Vec<(usize, Verdict)>> {
    let mut known: Vec<Option<Known>> = vec![None; scene.pipeline.nodes.len()];
    let mut verdicts = Vec::with_capacity(known.len());
    for &index in &scene.pipeline.order {
        let verdict = scene.verdict(index, &known, memory)?;
        if let Verdict::Fresh(_, result) = &verdict {
            known[index] = Some(result.clone());
        }
        verdicts.push((index, verdict));
    }
    Ok(verdicts)
}

/// The dry run as text: per node what would happen, why, and the command to paste.
pub fn text(scene: &Scene, verdicts: &[(usize, Verdict)]) -> String {
    let mut known: Vec<Option<Known>> = vec![None; scene.pipeline.nodes.len()];
    for (index, verdict) in verdicts {
        if let Verdict::Fresh(_, result) = verdict {
            known[*index] = Some(result.clone());
        }
    }
    let mut text = String::new();
    let (mut fresh, mut seconds) = (0, Some(0.0));
    for (index, verdict) in verdicts {
        let node = &scene.pipeline.nodes[*index];
        let (head, reasons, out) = match verdict {
            Verdict::Fresh(..) => {
                fresh += 1;
                continue;
            }
            Verdict::Runs(key, reasons) => {
                let out = scene.shelf.place(key.digest()).display().to_string();
                ("runs".to_string(), reasons, out)
            }
            Verdict::Waits(on, reasons) => {
                let head = if reasons.is_empty() { "runs if content changes, after" } else { "runs, after" };
                (format!("{head} {}", on.join(", ")), reasons, "OUT".to_string())
            }
        };
        text += &format!("{}: {head}\n", node.name);
        reasons.iter().for_each(|reason| text += &format!("  {reason}\n"));
        let estimate = estimate(scene, node, &known);
        if let Some(line) = estimate.as_ref().and_then(Estimate::text) {
            text += &format!("  {line}\n");
        }
        let (program, arguments) = scene.command(node, &known, &out);
        seconds = seconds.zip(estimate.and_then(|run| run.took())).map(|(sum, more)| sum + more);
        text += &format!("  $ {}\n", command::line(&program, &arguments));
    }
    let rest = verdicts.len() - fresh;
    let took =
        seconds.filter(|_| rest > 0).map(|seconds| format!("; earlier runs of these took {seconds:.1} s"));
    text + &format!(
        "{fresh} of {} nodes are fresh, {rest} to run{}\n",
        verdicts.len(),
        took.unwrap_or_default()
    )
}
