//! What a node will take, as far as an earlier run or the size of its model tells.

use std::path::{Path, PathBuf};

use rote_store::{Manifest, files_of};
use serde_json::Value;

use crate::check::{Node, Source};
use crate::plan::Scene;

/// What it took, or is known to need at least.
pub struct Estimate {
    /// Seconds on [`Estimate::threads`].
    pub seconds: Option<f64>,
    /// Threads it had.
    pub threads: Option<u64>,
    /// Bytes of memory at its peak.
    pub memory: Option<u64>,
    /// Bytes on disk.
    pub disk: Option<u64>,
    /// Whether it is of an earlier run, or of the model's size alone.
    pub earlier: bool,
}

/// From the last run of `node`, else from the last run of another node with its stage, else from its model's size.
pub fn estimate(scene: &Scene, node: &Node) -> Option<Estimate> {
    let last = |node: &Node| of_run(&scene.shelf.view(&scene.pipeline.name, &node.name));
    let alike = || scene.pipeline.nodes.iter().filter(|other| other.stage == node.stage).find_map(last);
    last(node).or_else(alike).or_else(|| of_model(node))
}

fn of_run(place: &Path) -> Option<Estimate> {
    let run = std::fs::read(place.join(Manifest::RUN_FILE)).ok()?;
    let run: Value = serde_json::from_slice(&run).ok()?;
    let disk = Manifest::read(place).ok()?.files.iter().map(|file| file.bytes).sum();
    Some(Estimate {
        seconds: run["seconds"].as_f64(),
        threads: run["threads"].as_u64(),
        memory: run["peak_memory_bytes"].as_u64(),
        disk: Some(disk),
        earlier: true,
    })
}

/// A model's weights are held in 32 bits, and most checkpoints have 16.
fn of_model(node: &Node) -> Option<Estimate> {
    let model = node.inputs.iter().find(|input| input.port == "model")?;
    let Source::File(path) = &model.source else { return None };
    let ending = |path: &PathBuf| path.extension().and_then(|ending| ending.to_str()).map(str::to_string);
    let is_weights =
        |path: &PathBuf| ending(path).is_some_and(|e| ["safetensors", "bin", "gguf"].contains(&&*e));
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
    let bytes: u64 = files_of(path).ok()?.into_iter().filter(is_weights).map(size).sum();
    (bytes > 0).then_some(Estimate {
        seconds: None,
        threads: None,
        memory: Some(2 * bytes),
        disk: None,
        earlier: false,
    })
}

impl Estimate {
    /// As the dry run tells it.
    pub fn text(&self) -> String {
        let mega = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let time = self.seconds.map(|seconds| match self.threads {
            Some(threads) => format!("{seconds:.1} s on {threads} threads"),
            None => format!("{seconds:.1} s"),
        });
        let memory = self.memory.map(|bytes| format!("{} of memory", mega(bytes)));
        let disk = self.disk.map(|bytes| format!("{} on disk", mega(bytes)));
        let parts: Vec<_> = [time, memory, disk].into_iter().flatten().collect();
        let head = if self.earlier { "an earlier run took" } else { "its model needs about" };
        format!("{head} {}", parts.join(", "))
    }
}
