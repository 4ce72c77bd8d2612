//! What a node will take, as far as an earlier run tells, or its stage, of its size.

use std::path::Path;

use rote_store::Manifest;
use serde_json::Value;

use crate::check::Node;
use crate::part::Work;
use crate::plan::{Known, Scene};

/// What it took, or by its size will take.
pub struct Estimate {
    /// Seconds on [`Estimate::threads`].
    pub seconds: Option<f64>,
    /// Threads it had.
    pub threads: Option<u64>,
    /// Bytes of memory at its peak; by its size, of its weights alone.
    pub memory: Option<u64>,
    /// Bytes on disk; by its size, at most.
    pub disk: Option<u64>,
    /// In how many parts it is made, where it was never run.
    pub parts: Option<u16>,
}

/// From an earlier run, else by its size.
pub fn estimate(scene: &Scene, node: &Node, known: &[Option<Known>]) -> Option<Estimate> {
    earlier(scene, node).or_else(|| by_size(scene, node, known))
}

/// From the last run of `node`, else from the last run of another node with its stage.
pub fn earlier(scene: &Scene, node: &Node) -> Option<Estimate> {
    let last = |node: &Node| of_run(&scene.shelf.view(&scene.pipeline.name, &node.name));
    let alike = || scene.pipeline.nodes.iter().filter(|other| other.stage == node.stage).find_map(last);
    last(node).or_else(alike)
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
        parts: None,
    })
}

fn by_size(scene: &Scene, node: &Node, known: &[Option<Known>]) -> Option<Estimate> {
    let work = Work::of(scene, node, known)?;
    Some(Estimate {
        seconds: work.core_seconds,
        threads: Some(1),
        memory: work.weight_bytes,
        disk: work.disk_bytes.map(|bytes| bytes as u64),
        parts: Some(work.parts),
    })
}

impl Estimate {
    /// Seconds of the earlier run.
    pub fn took(&self) -> Option<f64> {
        self.seconds.filter(|_| self.parts.is_none())
    }

    /// As the dry run tells it; nothing where nothing is known.
    pub fn text(&self) -> Option<String> {
        let mega = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let (head, memory, disk) = match self.parts {
            None => ("an earlier run took", "of memory", ""),
            Some(_) => ("by its size about", "of memory for its weights", "at most "),
        };
        let time = self.seconds.map(|seconds| match (self.parts, self.threads) {
            (Some(_), _) => format!("{seconds:.1} s of one core"),
            (None, Some(threads)) => format!("{seconds:.1} s on {threads} threads"),
            (None, None) => format!("{seconds:.1} s"),
        });
        let memory = self.memory.map(|bytes| format!("{} {memory}", mega(bytes)));
        let disk = self.disk.map(|bytes| format!("{disk}{} on disk", mega(bytes)));
        let parts = self.parts.filter(|parts| *parts > 1).map(|parts| format!("made in {parts} parts"));
        let told: Vec<_> = [time, memory, disk, parts].into_iter().flatten().collect();
        (!told.is_empty()).then(|| format!("{head} {}", told.join(", ")))
    }
}
