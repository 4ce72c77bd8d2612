//! `diff`: two results compared down to parameters, inputs and the numbers of their summaries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rote_store::{Digest, InputEntry, Manifest};
use serde_json::{Map, Value};

use crate::failure::{Wrong, hint};
use crate::shelf::Shelf;
use crate::stages;

/// The columns that say which number of a summary it is, in the order told.
const NAMES: [&str; 6] = ["suite", "role", "seen", "prefix", "metric", "change"];
/// Lines of numbers that are told; the rest is counted.
const TOLD: usize = 40;

/// Where the two runs are; each is a folder, `PIPELINE/NODE`, `TAG/NODE`, `tag:TAG/NODE`, or the first digits of a key
/// or content id.
pub fn diff(shelf: &Shelf, first: &str, second: &str) -> Result<String> {
    let mut text = String::new();
    let pairs = match (whole(shelf, first)?, whole(shelf, second)?) {
        (Some(first), Some(second)) => {
            for (one, other, which) in [(&first, &second, "first"), (&second, &first, "second")] {
                let alone = one.keys().filter(|name| !other.contains_key(*name));
                alone.for_each(|name| text += &format!("{name}: in the {which} only\n"));
            }
            pairs(&first, &second)
        }
        (None, None) => vec![(String::new(), find(shelf, first)?, find(shelf, second)?)],
        _ => return Err(Wrong::one("one of the two is a node, the other a whole pipeline")),
    };
    let places = places(shelf)?;
    let mut told = BTreeSet::new();
    for (name, first, second) in pairs {
        let lines = Comparison { places: &places, told: &mut told }.lines(&first, &second, 0)?;
        let head = if name.is_empty() { String::new() } else { format!("{name}:\n") };
        let same = lines.is_empty();
        if !same || name.is_empty() {
            text += &head;
        }
        lines.iter().for_each(|line| text += &format!("{line}\n"));
    }
    Ok(if text.is_empty() { "no difference\n".to_string() } else { text })
}

/// The nodes of a pipeline's last run or of a tag, by name.
fn whole(shelf: &Shelf, name: &str) -> Result<Option<BTreeMap<String, PathBuf>>> {
    if name.contains('/') || name.is_empty() {
        return Ok(None);
    }
    let (kinds, name) = kinds(name);
    for kind in kinds {
        let links: BTreeMap<_, _> = shelf
            .links(kind)?
            .into_iter()
            .filter(|link| link.of == name)
            .map(|link| (link.node, link.path))
            .collect();
        if !links.is_empty() {
            return Ok(Some(links));
        }
    }
    Ok(None)
}

/// Where what is called `name` may be linked: a tag can be said to be one, since a pipeline of its name hides it.
fn kinds(name: &str) -> (&'static [&'static str], &str) {
    match name.strip_prefix("tag:") {
        Some(name) => (&["tag"], name),
        None => (&["view", "tag"], name),
    }
}

fn pairs(
    first: &BTreeMap<String, PathBuf>,
    second: &BTreeMap<String, PathBuf>,
) -> Vec<(String, PathBuf, PathBuf)> {
    let both =
        |(name, place): (&String, &PathBuf)| Some((name.clone(), place.clone(), second.get(name)?.clone()));
    first.iter().filter_map(both).collect()
}

/// The result called `name`: a folder, `PIPELINE/NODE`, `TAG/NODE`, `tag:TAG/NODE`, the first digits of a key or
/// content id.
pub fn find(shelf: &Shelf, name: &str) -> Result<PathBuf> {
    let mut candidates = vec![PathBuf::from(name)];
    let (kinds, linked) = kinds(name);
    candidates.extend(kinds.iter().map(|kind| shelf.root.join(kind).join(linked)));
    if let Some(place) = candidates.into_iter().find(|place| place.join(Manifest::FILE).is_file()) {
        return Ok(place);
    }
    let is_digest = name.len() >= 6 && name.chars().all(|c| c.is_ascii_hexdigit());
    let mut found = Vec::new();
    for key in shelf.keys()?.into_iter().filter(|_| is_digest) {
        let place = shelf.place(key);
        let content = Manifest::read(&place).map(|manifest| manifest.content_id.to_string());
        if key.to_string().starts_with(name) || content.is_ok_and(|content| content.starts_with(name)) {
            found.push(place);
        }
    }
    match found.as_slice() {
        [place] => Ok(place.clone()),
        [] => {
            let links = [shelf.links("view")?, shelf.links("tag")?].into_iter().flatten();
            let known: Vec<_> = links.map(|link| format!("{}/{}", link.of, link.node)).collect();
            Err(Wrong::one(format!("no result `{name}`{}", hint(name, known.iter().map(String::as_str)))))
        }
        many => {
            Err(Wrong::one(format!("`{name}` begins the names of {} results; give more of it", many.len())))
        }
    }
}

/// Where each content stands, by the stage that made it.
fn places(shelf: &Shelf) -> Result<Places> {
    let mut places = HashMap::new();
    for place in shelf.keys()?.into_iter().map(|key| shelf.place(key)) {
        if let Ok(manifest) = Manifest::read(&place) {
            places.insert((manifest.content_id, manifest.stage.name), place);
        }
    }
    Ok(places)
}

type Places = HashMap<(Digest, String), PathBuf>;

struct Comparison<'a> {
    places: &'a Places,
    /// Pairs of inputs that were compared already.
    told: &'a mut BTreeSet<(PathBuf, PathBuf)>,
}

impl Comparison<'_> {
    fn lines(&mut self, first: &Path, second: &Path, depth: usize) -> Result<Vec<String>> {
        let (old, new) = (Manifest::read(first)?, Manifest::read(second)?);
        let mut lines = Vec::new();
        let mut tell = |what: &str, old: String, new: String| {
            if old != new {
                lines.push(format!("{what}: {old} → {new}"));
            }
        };
        tell("content", old.content_id.short(), new.content_id.short());
        tell("stage", old.stage.name.clone(), new.stage.name.clone());
        tell("code", executable(first), executable(second));
        let (a, b) = (flat(&old.parameters), flat(&new.parameters));
        for name in names(&a, &b) {
            let value = |map: &BTreeMap<String, String>| {
                map.get(name).cloned().unwrap_or_else(|| "not given".to_string())
            };
            tell(&format!("params.{name}"), value(&a), value(&b));
        }
        let mut deeper = Vec::new();
        for flag in names(&old.inputs, &new.inputs) {
            let of = |manifest: &Manifest| manifest.inputs.get(flag).cloned().unwrap_or_default();
            let (a, b) = (of(&old), of(&new));
            let text = |inputs: &[InputEntry]| inputs.iter().map(told).collect::<Vec<_>>().join(", ");
            tell(&format!("inputs.{flag}"), text(&a), text(&b));
            let differing = a.iter().zip(&b).filter(|(a, b)| a.content_id != b.content_id);
            deeper.extend(differing.map(|(a, b)| (flag.clone(), a.clone(), b.clone())));
        }
        for (flag, a, b) in deeper {
            let place =
                |input: &InputEntry| self.places.get(&(input.content_id, input.stage.clone()?)).cloned();
            let (Some(first), Some(second)) = (place(&a), place(&b)) else { continue };
            if self.told.insert((first.clone(), second.clone())) {
                let below = self.lines(&first, &second, depth + 1)?;
                lines.extend(below.iter().map(|line| format!("  {flag}: {line}")));
            }
        }
        if depth == 0 && old.tables.contains_key("summary") && new.tables.contains_key("summary") {
            lines.extend(numbers(&rows(first, "summary")?, &rows(second, "summary")?));
        }
        Ok(lines)
    }
}

fn names<'a, V>(a: &'a BTreeMap<String, V>, b: &'a BTreeMap<String, V>) -> Vec<&'a String> {
    a.keys().chain(b.keys()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn told(input: &InputEntry) -> String {
    let name = input.name.as_ref().map_or_else(String::new, |name| format!("{name}="));
    format!("{name}{}", input.content_id.short())
}

fn flat(parameters: &Value) -> BTreeMap<String, String> {
    let of = |(name, value): (&String, &Value)| (name.replace('_', "-"), value.to_string());
    parameters.as_object().into_iter().flatten().map(of).collect()
}

fn executable(place: &Path) -> String {
    let run = fs::read(place.join(Manifest::RUN_FILE)).unwrap_or_default();
    let run: Value = serde_json::from_slice(&run).unwrap_or_default();
    run["executable"].as_str().map_or_else(|| "not known".to_string(), |code| code.chars().take(12).collect())
}

/// Rows of a table as `rote-rows` prints them: the runner itself knows no table.
fn rows(place: &Path, table: &str) -> Result<Vec<Map<String, Value>>> {
    let program = stages::home()?.join("rote-rows");
    let reading = || format!("{} {} {table}", program.display(), place.display());
    let output = Command::new(&program).arg(place).arg(table).output().with_context(reading)?;
    if !output.status.success() {
        bail!("{}: {}", reading(), String::from_utf8_lossy(&output.stderr).trim());
    }
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).with_context(reading)).collect()
}

/// Every number of a summary that differs, by the name it has there.
fn numbers(old: &[Map<String, Value>], new: &[Map<String, Value>]) -> Vec<String> {
    let by_name = |rows: &[Map<String, Value>]| -> BTreeMap<String, Map<String, Value>> {
        let word = |row: &Map<String, Value>, name: &str| match row.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(value) => Some(format!("{name} {value}")),
        };
        let name = |row: &Map<String, Value>| {
            NAMES.iter().filter_map(|name| word(row, name)).collect::<Vec<_>>().join(" · ")
        };
        rows.iter().map(|row| (name(row), row.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    // What one of the two has not comes last.
    let (mut lines, mut alone) = (Vec::new(), Vec::new());
    for name in names(&old, &new) {
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) => {
                let columns = old.keys().chain(new.keys().filter(|column| !old.contains_key(*column)));
                let changed = columns.filter(|column| old.get(*column) != new.get(*column));
                let told = changed.map(|column| {
                    let told =
                        |digits| [old, new].map(|row| cell(row.get(column).unwrap_or(&Value::Null), digits));
                    let [[old, new], long] = [told(6), told(17)];
                    let [old, new] = if old == new { long } else { [old, new] };
                    format!("{column} {old} → {new}")
                });
                lines.push(format!("summary: {name}: {}", told.collect::<Vec<_>>().join(", ")));
            }
            (Some(_), None) => alone.push(format!("summary: {name}: in the first only")),
            (None, _) => alone.push(format!("summary: {name}: in the second only")),
        }
    }
    lines.append(&mut alone);
    let (differing, all) = (lines.len(), names(&old, &new).len());
    lines.truncate(TOLD);
    lines.push(format!("summary: {differing} of {all} rows differ"));
    lines
}

/// A value with so many digits after the point.
fn cell(value: &Value, digits: usize) -> String {
    match value {
        Value::Null => "–".to_string(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.digits$}", number.as_f64().unwrap_or(f64::NAN))
        }
        value => value.to_string(),
    }
}
