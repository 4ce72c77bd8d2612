//! `run`: brings a pipeline up to date and says what became of each node.

use std::time::Instant;

use anyhow::Result;

use crate::cli::{Run, goals, prepare};
use crate::failure::Wrong;
use crate::interrupt::heed_interrupts;
use crate::limits::{Limits, memory_limit};
use crate::part;
use crate::pin::{self, Pins};
use crate::plan::Scene;
use crate::progress::{Progress, complain, print};
use crate::state::{Report, State};
use crate::work::Work;

/// Runs what is not fresh of the goals; an exit code.
pub fn run_pipeline(run: &Run) -> Result<u8> {
    let began = Instant::now();
    let store = &run.on.store;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = run.threads.unwrap_or(cores);
    let jobs = run.jobs.unwrap_or(threads.div_ceil(2));
    if threads == 0 || jobs == 0 {
        return Err(Wrong::one("--threads and --jobs start at 1"));
    }
    let (shelf, mut memory) = (store.shelf(), store.memory());
    let (pipeline, stages) = prepare(&run.on, &mut memory)?;
    let goals = goals(&pipeline, &run.nodes)?;
    let mut progress = Progress::new(run.quiet);
    if let Some(asked) = run.shard {
        let [node] = goals[..] else { return Err(Wrong::one("--shard is for one node")) };
        let scene = Scene { pipeline: &pipeline, stages: &stages, shelf: &shelf };
        return part::make(&scene, node, asked, threads, &mut memory, &progress);
    }
    heed_interrupts();
    // What was learnt of executables is not lost with a run that is killed; that it can't be written is told at the end.
    let _ = memory.save();
    let scene = Scene { pipeline: &pipeline, stages: &stages, shelf: &shelf };
    enough_devices(&scene, &goals, run.devices)?;
    let pins = match &run.locked {
        Some(file) => Some(Pins::read(&file.clone().unwrap_or_else(|| pin::place(&run.on.pipeline)))?),
        None => None,
    };
    pins.as_ref().map_or(Ok(()), |pins| pins.check(&scene, &goals, &mut memory))?;
    let limits = Limits {
        jobs,
        threads,
        memory: memory_limit(run.memory)?,
        keep_going: run.keep_going,
        why: run.why,
        pins,
        devices: run.devices,
        parts: run.parts.map(usize::from),
    };
    let worked = Work::new(&scene, &limits, &mut memory, &mut progress).run(&goals);
    let saved = memory.save();
    let report = worked?;
    if let Err(error) = saved {
        progress.tell(&format!("note: digests of files are not remembered: {error:#}"));
    }
    let seconds = began.elapsed().as_secs_f64();
    endings(&scene, &report, seconds).iter().for_each(|line| progress.say(line));
    if report.code == 130 {
        complain("rote: interrupted; finished results are kept, the same command goes on from there");
    }
    results(&scene, &report);
    Ok(report.code)
}

/// Whether every node that is asked for could ever start.
fn enough_devices(scene: &Scene, goals: &[usize], devices: u32) -> Result<()> {
    let wanted = scene.wanted(goals);
    for (node, _) in scene.pipeline.nodes.iter().zip(wanted).filter(|(_, wanted)| *wanted) {
        let takes = scene.stage(node).description.devices;
        if takes > devices {
            let (name, stage, s) = (&node.name, &node.stage, if takes == 1 { "" } else { "s" });
            return Err(Wrong::one(format!(
                "{name}: rote-{stage} takes {takes} device{s}; --devices says how many there are"
            )));
        }
    }
    Ok(())
}

/// One line per node, or one for all where there was nothing to do.
fn endings(scene: &Scene, report: &Report, seconds: f64) -> Vec<String> {
    let wanted: Vec<_> = scene
        .pipeline
        .order
        .iter()
        .map(|index| (&scene.pipeline.nodes[*index], &report.endings[*index]))
        .filter(|(_, ending)| ending.state != State::Unknown)
        .collect();
    if wanted.iter().all(|(_, ending)| ending.state == State::Fresh) {
        return vec![format!("nothing to do: {} nodes are fresh ({seconds:.2} s)", wanted.len())];
    }
    let width = wanted.iter().map(|(node, _)| node.name.len()).max().unwrap_or(0);
    let mut lines: Vec<_> = wanted
        .iter()
        .map(|(node, ending)| {
            let seconds = ending.seconds.map_or_else(String::new, |seconds| format!("{seconds:8.1} s"));
            let word = match ending.state {
                State::Fresh => "fresh",
                State::Done => "ran",
                State::Failed => "failed",
                _ => "not run",
            };
            format!("{:width$}  {word:<7}{seconds}", node.name)
        })
        .collect();
    let ran = wanted.iter().filter(|(_, ending)| ending.state == State::Done).count();
    lines.push(format!("{ran} of {} nodes ran, {seconds:.1} s", wanted.len()));
    lines
}

/// What a result has to show: its `table.txt` is printed, its `page.html` is named.
fn results(scene: &Scene, report: &Report) {
    for &index in &scene.pipeline.order {
        let Some(known) = &report.known[index] else { continue };
        if let Ok(table) = std::fs::read_to_string(known.place.join("table.txt")) {
            print(&table);
        }
        let page =
            scene.shelf.view(&scene.pipeline.name, &scene.pipeline.nodes[index].name).join("page.html");
        if known.place.join("page.html").is_file() {
            print(&format!("report: {}\n", page.display()));
        }
    }
}
