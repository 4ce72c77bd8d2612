//! From what a pipeline says to what it means: keys against the stages' descriptions, edges, files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use rote_store::HubId;

use crate::failure::{Wrong, hint};
use crate::graph::order;
use crate::pipeline::{Draft, DraftNode, Given};
use crate::stages::{Parameter, Port, Stage, gives};

/// A pipeline whose every key is known and every file is there.
pub struct Pipeline {
    /// As given on the command line.
    pub file: PathBuf,
    /// Stem of the file.
    pub name: String,
    /// In the order of the file.
    pub nodes: Vec<Node>,
    /// Indices of nodes, inputs before consumers.
    pub order: Vec<usize>,
}

/// A call of a stage.
pub struct Node {
    /// Unique within the pipeline.
    pub name: String,
    /// Stage it calls.
    pub stage: String,
    /// Inputs in the order of the file.
    pub inputs: Vec<Input>,
    /// Parameters by flag; a switch that is on has no value.
    pub params: BTreeMap<String, Vec<String>>,
}

/// One value of an input flag.
pub struct Input {
    /// Flag.
    pub port: String,
    /// For `NAME=FILE`.
    pub name: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

/// Where an input comes from.
pub enum Source {
    /// The result of the node of that index.
    Node(usize),
    /// A file or folder.
    File(PathBuf),
}

impl Node {
    /// Indices of the nodes it reads, each once.
    pub fn parents(&self) -> Vec<usize> {
        let mut parents: Vec<_> = self
            .inputs
            .iter()
            .filter_map(|input| match input.source {
                Source::Node(index) => Some(index),
                Source::File(_) => None,
            })
            .collect();
        parents.sort_unstable();
        parents.dedup();
        parents
    }
}

/// Flags every stage has; none of them can change a result, so none belongs in a pipeline.
const COMMON: [&str; 13] = [
    "out", "threads", "batch", "memory", "work", "progress", "json", "quiet", "verbose", "describe", "help",
    "shard", "join",
];

/// Checks everything that can be known before any work; every fault is told, not the first one only.
pub fn check(draft: &Draft, stages: &HashMap<String, Stage>, allowed: &[PathBuf]) -> Result<Pipeline, Wrong> {
    let mut faults = Vec::new();
    let index: HashMap<&str, usize> =
        draft.nodes.iter().enumerate().map(|(index, node)| (node.name.as_str(), index)).collect();
    let checker = Checker { draft, index, stages, allowed };
    let nodes: Vec<_> = draft.nodes.iter().map(|node| checker.node(node, &mut faults)).collect();
    let order = match order(&nodes) {
        Ok(order) => order,
        Err(cycle) => {
            faults.push(format!("cycle: {}", cycle.join(" -> ")));
            Vec::new()
        }
    };
    if faults.is_empty() {
        let (file, name) = (PathBuf::from(&draft.file), draft.name.clone());
        return Ok(Pipeline { file, name, nodes, order });
    }
    Err(Wrong(faults.into_iter().map(|fault| format!("{}: {fault}", draft.file)).collect()))
}

struct Checker<'a> {
    draft: &'a Draft,
    index: HashMap<&'a str, usize>,
    stages: &'a HashMap<String, Stage>,
    allowed: &'a [PathBuf],
}

impl Checker<'_> {
    fn node(&self, node: &DraftNode, faults: &mut Vec<String>) -> Node {
        let description = &self.stages[&node.stage].description;
        let mut checked = Node {
            name: node.name.clone(),
            stage: node.stage.clone(),
            inputs: Vec::new(),
            params: BTreeMap::new(),
        };
        for (key, given) in &node.keys {
            let at = format!("[{}] {key}", node.name);
            let port = description.ports.iter().find(|port| port.name == *key);
            let parameter = description.parameters.iter().find(|parameter| parameter.name == *key);
            let result = match (port, parameter) {
                (Some(port), _) => self.inputs(port, given).map(|inputs| checked.inputs.extend(inputs)),
                (None, Some(parameter)) => values(parameter, given).map(|values| {
                    if let Some(values) = values {
                        checked.params.insert(key.clone(), values);
                    }
                }),
                (None, None) => Err(unknown(key, node, description)),
            };
            if let Err(fault) = result {
                faults.push(format!("{at}: {fault}"));
            }
        }
        let ports = description.ports.iter().map(|port| (port.required, &port.name));
        let parameters = description.parameters.iter().map(|parameter| (parameter.required, &parameter.name));
        for (_, name) in ports.chain(parameters).filter(|(required, _)| *required) {
            if !node.keys.iter().any(|(key, _)| key == name) {
                faults.push(format!("[{}] {name}: missing; rote-{} needs it", node.name, node.stage));
            }
        }
        checked
    }

    fn inputs(&self, port: &Port, given: &Given) -> Result<Vec<Input>, String> {
        let Given::Values(values) = given else {
            return Err("a switch, but it takes a path or a node".to_string());
        };
        count(values, port.repeatable)?;
        values.iter().map(|value| self.input(port, value)).collect()
    }

    fn input(&self, port: &Port, value: &str) -> Result<Input, String> {
        let (name, place) = match port.named().then(|| value.split_once('=')) {
            None => (None, value),
            Some(Some((name, place))) if !name.is_empty() => (Some(name.to_string()), place),
            Some(_) => return Err(format!("`{value}` is not of the form NAME=FILE")),
        };
        let (node, table) = match place.split_once('.') {
            Some((node, table)) => (node, Some(table)),
            None => (place, None),
        };
        let source = match self.index.get(node) {
            Some(index) => {
                self.edge(port, *index, table)?;
                Source::Node(*index)
            }
            None => Source::File(self.file(place, port)?),
        };
        Ok(Input { port: port.name.clone(), name, source })
    }

    /// Whether what the node of `index` gives is what `port` takes.
    fn edge(&self, port: &Port, index: usize, table: Option<&str>) -> Result<(), String> {
        let node = &self.draft.nodes[index];
        let Some(given) = gives(&node.stage) else { return Ok(()) };
        if let Some(table) = table
            && !given.contains(&table)
        {
            let (name, given) = (&node.name, given.join(", "));
            return Err(format!(
                "{name} gives no `{table}`, but {given}; a file is written `./{name}.{table}`"
            ));
        }
        let takes = port.tables();
        let fits = |given: &&str| takes.is_empty() || takes.contains(given);
        let offered: Vec<_> = table.map_or_else(|| given.to_vec(), |table| vec![table]);
        if !offered.iter().any(fits) {
            return Err(format!(
                "takes {}, but {} gives {}",
                takes.join(" or "),
                node.name,
                offered.join(", ")
            ));
        }
        Ok(())
    }

    fn file(&self, place: &str, port: &Port) -> Result<PathBuf, String> {
        let path = Path::new(place);
        if port.takes == "model"
            && !path.exists()
            && let Some(id) = HubId::parse(place)
            && (id.is_pinned() || id.snapshot().is_ok())
        {
            return hub(&id);
        }
        let permit = "lies outside of the folder `rote` was called in; `--allow DIR` permits a folder";
        if !self.is_allowed(path) {
            return Err(format!("`{place}` {permit}"));
        }
        if let Some(stray) = self.stray(path) {
            return Err(format!("`{}` leads to what {permit}", stray.display()));
        }
        if path.exists() {
            return Ok(path.to_path_buf());
        }
        let tables = port.tables();
        let nodes = self.index.keys().copied();
        let near = if tables.is_empty() || place.contains('/') {
            String::new()
        } else {
            hint(place.split('.').next().unwrap_or(place), nodes)
        };
        Err(format!("no file, folder or node `{place}`{near}"))
    }

    /// A pipeline may come from a stranger: it reads below the folder of the call, or what was permitted. A link is
    /// where it leads to.
    fn is_allowed(&self, path: &Path) -> bool {
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let steps_up = path.components().any(|part| part == Component::ParentDir);
        let said = inside || (!steps_up && self.allowed.iter().any(|folder| path.starts_with(folder)));
        // What is not there is told as such.
        said && path.canonicalize().map_or(true, |real| self.is_within(&real))
    }

    /// Whether a path without links lies below a folder that may be read.
    fn is_within(&self, real: &Path) -> bool {
        let below = |folder: &Path| folder.canonicalize().is_ok_and(|folder| real.starts_with(folder));
        below(Path::new(".")) || self.allowed.iter().any(|folder| below(folder))
    }

    /// A link somewhere below a folder that leads outside.
    fn stray(&self, folder: &Path) -> Option<PathBuf> {
        let (mut open, mut seen) = (vec![folder.to_path_buf()], HashSet::new());
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().ok()?);
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_symlink()
                    && let Ok(real) = path.canonicalize()
                {
                    if !self.is_within(&real) {
                        return Some(path);
                    }
                    // Links may lead round in circles.
                    if real.is_dir() && seen.insert(real.clone()) {
                        open.push(real);
                    }
                }
            }
        }
        None
    }
}

/// The files of a model on the hub, as far as they are on this machine. Which revision is part of the file: what `main`
/// is today, it may not be tomorrow.
fn hub(id: &HubId) -> Result<PathBuf, String> {
    if !id.is_pinned() {
        return Err(format!("`{id}` names no revision: write `{id}@COMMIT`"));
    }
    id.snapshot().map_err(|error| format!("`{id}`: {error:#}"))
}

/// A parameter's values; `None` for a switch that is off.
fn values(parameter: &Parameter, given: &Given) -> Result<Option<Vec<String>>, String> {
    let values = match (given, parameter.switch) {
        (Given::Switch(on), true) => return Ok(on.then(Vec::new)),
        (Given::Values(_), true) => return Err("a switch: `true` or `false`".to_string()),
        // A flag that takes `true` or `false` as its value.
        (Given::Switch(on), false) if parameter.values == ["true", "false"] => vec![on.to_string()],
        (Given::Switch(_), false) => return Err("needs a value, not a switch".to_string()),
        (Given::Values(values), false) => values.clone(),
    };
    count(&values, parameter.repeatable)?;
    if !parameter.values.is_empty()
        && let Some(value) = values.iter().find(|value| !parameter.values.contains(value))
    {
        let hint = hint(value, parameter.values.iter().map(String::as_str));
        return Err(format!("`{value}` is no value of it{hint}"));
    }
    Ok(Some(values))
}

fn count(values: &[String], repeatable: bool) -> Result<(), String> {
    match values.len() {
        0 => Err("an empty list".to_string()),
        1 => Ok(()),
        _ if repeatable => Ok(()),
        count => Err(format!("{count} values, but it takes one")),
    }
}

fn unknown(key: &str, node: &DraftNode, description: &crate::stages::Description) -> String {
    if COMMON.contains(&key) {
        return "can't change a result, so it is no key of a pipeline; `rote run --help` has what there is"
            .into();
    }
    let ports = description.ports.iter().map(|port| port.name.as_str());
    let known = ports.chain(description.parameters.iter().map(|parameter| parameter.name.as_str()));
    format!("no such key of rote-{}{}", node.stage, hint(key, known))
}
