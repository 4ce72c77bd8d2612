//! `export ro-crate`: a finished run as a Workflow Run RO-Crate: pipeline, inputs, parameters, software, results and
//! their digests, in a folder of its own that any tool for RO-Crates opens.
//!
//! Source: Workflow Run RO-Crate 0.5, profiles *Process Run Crate* and *Workflow Run Crate*, on RO-Crate 1.1.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rote_store::{Digest, Manifest, Memory, digest_file, files_of, new_folder_beside};
use serde_json::{Value, json};

use crate::check::Source;
use crate::command;
use crate::failure::Wrong;
use crate::plan::{Known, Scene, Verdict, walk};
use crate::shelf::make_folder;

/// Inputs larger than this are named by digest and not copied.
const COPIED: u64 = 64 << 20;

/// Entities of the crate by id.
struct Crate<'a> {
    scene: &'a Scene<'a>,
    folder: PathBuf,
    graph: BTreeMap<String, Value>,
}

/// Writes the crate of the last run of a pipeline to `folder`, which must not be there.
///
/// # Errors
/// A node that is not up to date; something stands at `folder`.
pub fn write(
    scene: &Scene,
    pipeline: &Path,
    folder: &Path,
    license: Option<&str>,
    memory: &mut Memory,
) -> Result<()> {
    if folder.exists() {
        return Err(Wrong::one(format!("{} exists: name a folder that does not", folder.display())));
    }
    let mut results = Vec::new();
    for (index, verdict) in walk(scene, memory)? {
        let Verdict::Fresh(_, known) = verdict else {
            let name = &scene.pipeline.nodes[index].name;
            return Err(Wrong::one(format!("{name}: not up to date; `rote run` first")));
        };
        results.push((index, known));
    }
    let folder = folder.with_file_name(folder.file_name().context("the crate needs a name")?);
    make_folder(folder.parent().unwrap_or(&folder))?;
    let aside = new_folder_beside(&folder, "partial")?;
    let mut made = Crate { scene, folder: aside.clone(), graph: BTreeMap::new() };
    let written = made.put(&folder, pipeline, &results, license, memory);
    if written.is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    written
}

impl Crate<'_> {
    /// Fills it and puts it at `place`.
    fn put(
        &mut self,
        place: &Path,
        pipeline: &Path,
        results: &[(usize, Known)],
        license: Option<&str>,
        memory: &mut Memory,
    ) -> Result<()> {
        self.fill(pipeline, results, license, memory)?;
        let about = || format!("writing {}", place.display());
        let mut graph: Vec<_> = std::mem::take(&mut self.graph).into_values().collect();
        graph.iter_mut().for_each(as_uris);
        let context =
            ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"];
        let text = serde_json::to_string_pretty(&json!({ "@context": context, "@graph": graph }))? + "\n";
        fs::write(self.folder.join("ro-crate-metadata.json"), text).with_context(about)?;
        fs::rename(&self.folder, place).with_context(about)
    }

    fn add(&mut self, id: &str, kind: Value, more: Value) {
        let mut entity = json!({ "@id": id, "@type": kind });
        if let (Some(entity), Value::Object(more)) = (entity.as_object_mut(), more) {
            entity.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
        self.graph.insert(id.to_string(), entity);
    }

    fn fill(
        &mut self,
        pipeline: &Path,
        results: &[(usize, Known)],
        license: Option<&str>,
        memory: &mut Memory,
    ) -> Result<()> {
        let file = pipeline.file_name().context("the pipeline has no name")?.to_string_lossy().into_owned();
        fs::copy(pipeline, self.folder.join(&file))
            .with_context(|| format!("copying {}", pipeline.display()))?;
        let (mut parts, mut inputs, mut outputs, mut actions) =
            (vec![reference(&file)], Vec::new(), Vec::new(), Vec::new());
        let (mut input_params, mut output_params, mut tools) = (Vec::new(), Vec::new(), Vec::new());
        let (mut first, mut last) = (u64::MAX, 0);
        for (index, known) in results {
            let node = &self.scene.pipeline.nodes[*index];
            let manifest = Manifest::read(&known.place)?;
            let run: Value = fs::read(known.place.join(Manifest::RUN_FILE))
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .unwrap_or_default();
            let param = format!("#output/{}", node.name);
            let result = self.result(&node.name, known, &manifest, &param)?;
            self.parameter(&param, &node.name, "Dataset");
            output_params.push(reference(&param));
            parts.push(reference(&result));
            outputs.push(reference(&result));

            let mut object = Vec::new();
            for input in &node.inputs {
                match &input.source {
                    Source::Node(parent) => {
                        object.push(reference(&format!(
                            "results/{}/",
                            self.scene.pipeline.nodes[*parent].name
                        )));
                    }
                    Source::File(path) => {
                        let param = format!("#input/{}/{}", node.name, input.port);
                        let id = self.input(path, &param, memory)?;
                        let is_folder = path.is_dir();
                        self.parameter(&param, &input.port, if is_folder { "Dataset" } else { "File" });
                        for (list, id) in
                            [(&mut input_params, &param), (&mut inputs, &id), (&mut object, &id)]
                        {
                            if !list.contains(&reference(id)) {
                                list.push(reference(id));
                            }
                        }
                        if !id.starts_with("urn:") && !parts.contains(&reference(&id)) {
                            parts.push(reference(&id));
                        }
                    }
                }
            }
            for (name, value) in manifest.parameters.as_object().into_iter().flatten() {
                let id = format!("#parameter/{}/{name}", node.name);
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                self.add(&id, json!("PropertyValue"), json!({ "name": name, "value": value }));
                object.push(reference(&id));
            }

            let code = run["executable"].as_str().map(|code| format!("blake3:{code}"));
            let tool =
                code.as_ref().map_or_else(|| format!("#rote-{}", node.stage), |code| format!("urn:{code}"));
            let none = vec![None; self.scene.pipeline.nodes.len()];
            let (_, arguments) = self.scene.command(node, &none, "OUT");
            let command = command::line(Path::new(&format!("rote-{}", node.stage)), &arguments);
            let version = &manifest.stage.version;
            let name = format!("rote-{}", node.stage);
            self.add(
                &tool,
                json!("SoftwareApplication"),
                json!({ "name": name, "softwareVersion": version, "identifier": code }),
            );
            if !tools.contains(&reference(&tool)) {
                tools.push(reference(&tool));
            }
            let end = run["finished_unix"].as_u64().unwrap_or_default();
            let begin = end.saturating_sub(run["seconds"].as_f64().unwrap_or_default().ceil() as u64);
            (first, last) = (first.min(begin), last.max(end));
            let action = format!("#run/{}", node.name);
            self.add(
                &action,
                json!("CreateAction"),
                json!({
                    "name": format!("Run of {}", node.name),
                    "instrument": reference(&tool),
                    "object": object,
                    "result": reference(&result),
                    "description": command.clone(),
                    "startTime": time(begin),
                    "endTime": time(end),
                }),
            );
            actions.push(reference(&action));
        }
        let about =
            Whole { file, parts, inputs, outputs, actions, input_params, output_params, tools, first, last };
        self.whole(about, license);
        Ok(())
    }

    /// The pipeline, its run, and the crate itself.
    fn whole(&mut self, about: Whole, license: Option<&str>) {
        let Whole { file, parts, inputs, outputs, mut actions, .. } = about;
        let name = self.scene.pipeline.name.clone();
        let version = env!("CARGO_PKG_VERSION");
        self.add(
            "#rote",
            json!(["ComputerLanguage", "SoftwareApplication"]),
            json!({ "name": "rote", "softwareVersion": version }),
        );
        self.add(
            &file,
            json!(["File", "SoftwareSourceCode", "ComputationalWorkflow"]),
            json!({
                "name": name,
                "programmingLanguage": reference("#rote"),
                "input": about.input_params,
                "output": about.output_params,
                "hasPart": about.tools,
                "encodingFormat": "application/toml",
            }),
        );
        self.add(
            "#run",
            json!("CreateAction"),
            json!({
                "name": format!("Run of {name}"),
                "description": format!("Every node of {file} brought up to date."),
                "instrument": reference(&file),
                "object": inputs,
                "result": outputs,
                "startTime": time(about.first),
                "endTime": time(about.last),
            }),
        );
        actions.insert(0, reference("#run"));
        let profiles = [
            ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
            ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
            ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
        ];
        for (id, name, version) in profiles {
            self.add(id, json!("CreativeWork"), json!({ "name": name, "version": version }));
        }
        let terms = license.unwrap_or("#license");
        if !terms.contains(':') {
            self.add(
                terms,
                json!("CreativeWork"),
                json!({ "name": license.unwrap_or("no licence is stated") }),
            );
        }
        self.add(
            "./",
            json!("Dataset"),
            json!({
                "name": format!("Run of {name}"),
                "description": format!("Inputs, parameters, software and results of a run of the pipeline {name}, by content."),
                "datePublished": time(about.last),
                "license": if terms.contains(':') { json!(terms) } else { reference(terms) },
                "conformsTo": profiles.map(|(id, ..)| reference(id)),
                "mainEntity": reference(&file),
                "mentions": actions,
                "hasPart": parts,
            }),
        );
        self.add(
            "ro-crate-metadata.json",
            json!("CreativeWork"),
            json!({
                "about": reference("./"),
                "conformsTo": [
                    reference("https://w3id.org/ro/crate/1.1"),
                    reference("https://w3id.org/workflowhub/workflow-ro-crate/1.0"),
                ],
            }),
        );
    }

    fn parameter(&mut self, id: &str, name: &str, kind: &str) {
        let profile = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE";
        let more = json!({ "name": name, "additionalType": kind, "conformsTo": reference(profile) });
        self.add(id, json!("FormalParameter"), more);
        self.add(
            profile,
            json!("CreativeWork"),
            json!({ "name": "FormalParameter", "version": "1.0-RELEASE" }),
        );
    }

    /// A copy of a result, checked against its digests on the way.
    fn result(&mut self, name: &str, known: &Known, manifest: &Manifest, param: &str) -> Result<String> {
        let id = format!("results/{name}/");
        let mut parts = Vec::new();
        let digests: BTreeMap<_, _> =
            manifest.files.iter().map(|file| (file.path.as_str(), file.blake3)).collect();
        let names = digests.keys().copied().chain([Manifest::FILE, Manifest::RUN_FILE]);
        for file in names.collect::<Vec<_>>() {
            let inside = format!("{id}{file}");
            let digest = self.copy(&known.place.join(file), &inside)?;
            let as_written = digests.get(file).is_none_or(|was| *was == digest);
            ensure!(
                as_written,
                "{}: not what was written; `rote verify` tells more",
                known.place.join(file).display()
            );
            parts.push(reference(&inside));
        }
        self.add(
            &id,
            json!("Dataset"),
            json!({
                "name": format!("{name}: result of rote-{}", manifest.stage.name),
                "identifier": format!("blake3:{}", manifest.content_id),
                "exampleOfWork": reference(param),
                "hasPart": parts,
            }),
        );
        Ok(id)
    }

    /// An input by its digest; a copy of it where it is not large.
    fn input(&mut self, path: &Path, param: &str, memory: &mut Memory) -> Result<String> {
        let digest = memory.digest_path(path)?;
        let files = files_of(path)?;
        let size: u64 = files.iter().map(|file| fs::metadata(file).map_or(0, |found| found.len())).sum();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let short = digest.short();
        let about = json!({
            "name": path.display().to_string(),
            "identifier": format!("blake3:{digest}"),
            "exampleOfWork": reference(param),
        });
        if size > COPIED {
            let id = format!("urn:blake3:{digest}");
            let kind = if path.is_dir() { "Dataset" } else { "File" };
            self.add(&id, json!(kind), merged(about, json!({ "contentSize": size.to_string() })));
            return Ok(id);
        }
        if path.is_dir() {
            let id = format!("inputs/{short}/{name}/");
            let mut parts = Vec::new();
            for file in files {
                let inside = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
                let inside = format!("{id}{inside}");
                self.copy(&file, &inside)?;
                parts.push(reference(&inside));
            }
            self.add(&id, json!("Dataset"), merged(about, json!({ "hasPart": parts })));
            return Ok(id);
        }
        let id = format!("inputs/{short}/{name}");
        self.copy(path, &id)?;
        let more = json!({ "contentSize": size.to_string(), "encodingFormat": format_of(&name) });
        self.add(&id, json!("File"), merged(about, more));
        Ok(id)
    }

    fn copy(&mut self, from: &Path, id: &str) -> Result<Digest> {
        let to = self.folder.join(id);
        make_folder(to.parent().unwrap_or(&self.folder))?;
        fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        let digest = digest_file(&to)?;
        let size = fs::metadata(&to)?.len().to_string();
        let name = id.rsplit('/').next().unwrap_or(id);
        let digest_text = format!("blake3:{digest}");
        let more = json!({
            "name": name,
            "contentSize": size,
            "identifier": digest_text,
            "encodingFormat": format_of(name),
        });
        self.add(id, json!("File"), more);
        Ok(digest)
    }
}

struct Whole {
    file: String,
    parts: Vec<Value>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    actions: Vec<Value>,
    input_params: Vec<Value>,
    output_params: Vec<Value>,
    tools: Vec<Value>,
    first: u64,
    last: u64,
}

/// A media type by a file's ending.
fn format_of(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "parquet" => "application/vnd.apache.parquet",
        "json" => "application/json",
        "jsonl" => "application/jsonl",
        "csv" => "text/csv",
        "txt" => "text/plain",
        "html" => "text/html",
        "svg" => "image/svg+xml",
        "toml" => "application/toml",
        _ => "application/octet-stream",
    }
}

fn reference(id: &str) -> Value {
    json!({ "@id": id })
}

/// Ids of files as they are written in a URI; ids that are URIs already stay.
fn as_uris(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                match value {
                    Value::String(id) if name == "@id" && is_path(id) => {
                        *id = as_uri(id);
                    }
                    value => as_uris(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(as_uris),
        _ => {}
    }
}

fn is_path(id: &str) -> bool {
    !id.contains("://") && !id.starts_with("urn:") && !id.starts_with('#')
}

fn as_uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/=@+,!".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn merged(mut first: Value, second: Value) -> Value {
    if let (Some(first), Value::Object(second)) = (first.as_object_mut(), second) {
        first.extend(second);
    }
    first
}

/// Seconds since 1970 as ISO 8601, in UTC (days to dates after H. Hinnant, *chrono-compatible low-level date algorithms*).
fn time(unix: u64) -> String {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uri() {
        let mut value =
            json!({ "@id": "inputs/a b#%.txt", "hasPart": [{ "@id": "ä/hook=x" }], "name": "a b" });
        as_uris(&mut value);
        let expected = json!({ "@id": "inputs/a%20b%23%25.txt", "hasPart": [{ "@id": "%C3%A4/hook=x" }], "name": "a b" });
        assert_eq!(value, expected);
        let mut value = json!({ "@id": "https://a/b c" });
        as_uris(&mut value);
        assert_eq!(value, json!({ "@id": "https://a/b c" }));
    }

    #[test]
    fn times_are_dates() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_782_400, "2000-02-29T00:00:00+00:00"),
            (1_735_689_599, "2024-12-31T23:59:59+00:00"),
            (4_107_542_399, "2100-02-28T23:59:59+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00+00:00"),
        ] {
            assert_eq!(time(unix), text);
        }
    }
}
