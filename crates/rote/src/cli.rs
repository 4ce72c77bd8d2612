//! The command line: what can be asked, in which order it is answered.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use rote_store::Memory;

use crate::check::{Pipeline, check};
use crate::failure::{Wrong, exit_code, hint};
use crate::pipeline::Draft;
use crate::plan::{self, Scene, Verdict};
use crate::progress::{Progress, complain, print};
use crate::shelf::Shelf;
use crate::work::{Limits, Report, State, Work, heed_interrupts};
use crate::{graph, stages, verify};

/// Runs what is not already known of a pipeline of stages
#[derive(Parser)]
#[command(
    name = "rote",
    version,
    after_help = "`rote STAGE …` starts `rote-STAGE …`.\n\nExample:\n  rote run pipelines/demo.toml"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Brings every node of a pipeline up to date
    Run(Run),
    /// Says what would run, why, and by which command; changes nothing
    Plan {
        #[command(flatten)]
        on: On,
    },
    /// Says why a node would run
    Why {
        #[command(flatten)]
        on: On,
        /// Node of the pipeline
        node: String,
    },
    /// Reads every byte of the store again and walks every result back to its sources
    Verify {
        #[command(flatten)]
        store: Store,
    },
    /// Prints the pipeline as text or as a picture
    Graph {
        #[command(flatten)]
        on: On,
        /// As a Mermaid flowchart
        #[arg(long, conflicts_with = "dot")]
        mermaid: bool,
        /// As a Graphviz digraph
        #[arg(long)]
        dot: bool,
    },
    /// Starts a stage
    #[command(external_subcommand)]
    Stage(Vec<OsString>),
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    on: On,
    /// Nodes to bring up to date, with all they need; all nodes by default
    nodes: Vec<String>,
    /// Go on with what does not depend on a failure
    #[arg(short, long)]
    keep_going: bool,
    /// Stages side by side; as many as there are threads by default
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Threads of all running stages together; all cores by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Tell every reason for running a node, not only the first
    #[arg(long)]
    why: bool,
    /// Say nothing but errors and results
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Args)]
struct On {
    /// Pipeline file; paths in it are relative to the folder `rote` is called in
    pipeline: PathBuf,
    #[command(flatten)]
    store: Store,
    /// A folder outside of this one that the pipeline may read
    #[arg(long, value_name = "DIR")]
    allow: Vec<PathBuf>,
}

#[derive(Args)]
struct Store {
    /// Folder of results
    #[arg(long, value_name = "DIR", default_value = "data/store")]
    store: PathBuf,
}

impl Store {
    fn shelf(&self) -> Shelf {
        Shelf { root: self.store.clone() }
    }

    fn memory(&self) -> Memory {
        Memory::open(&self.store.join("digests.json"))
    }
}

/// Runs `rote` as a process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match answer(cli.verb) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            format!("{error:#}").lines().for_each(|line| complain(&format!("rote: {line}")));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn answer(verb: Verb) -> Result<u8> {
    match verb {
        Verb::Run(run) => run_pipeline(&run),
        Verb::Plan { on } => {
            look(&on, |scene, memory| Ok(plan::text(scene, &plan::walk(scene, memory)?))).map(|()| 0)
        }
        Verb::Why { on, node } => look(&on, |scene, memory| why(scene, memory, &node)).map(|()| 0),
        Verb::Graph { on, mermaid, dot } => look(&on, |scene, _| {
            let picture = [(mermaid, graph::mermaid as fn(&Pipeline) -> String), (dot, graph::dot)];
            let draw = picture.into_iter().find_map(|(asked, draw)| asked.then_some(draw));
            Ok(draw.unwrap_or(graph::text)(scene.pipeline))
        })
        .map(|()| 0),
        Verb::Verify { store } => {
            let verdict = verify::verify(&store.shelf())?;
            verdict.notes.iter().for_each(|note| complain(&format!("note: {note}")));
            verdict.faults.iter().for_each(|fault| complain(&format!("damaged: {fault}")));
            print(&format!("{}\n", verdict.summary));
            Ok(if verdict.faults.is_empty() { 0 } else { 3 })
        }
        Verb::Stage(words) => start_stage(&words),
    }
}

/// Replaces this process by `rote-STAGE`.
fn start_stage(words: &[OsString]) -> Result<u8> {
    let (stage, arguments) = words.split_first().context("no stage is named")?;
    let stage = stage.to_string_lossy();
    let verbs = ["run", "plan", "why", "verify", "graph"];
    let program = match stages::program(&stage) {
        Err(_) if crate::failure::nearest(&stage, verbs).is_some_and(|near| near.len() > 3) => {
            return Err(Wrong::one(format!("no command or stage `{stage}`{}", hint(&stage, verbs))));
        }
        program => program?,
    };
    Err(Command::new(&program).args(arguments).exec())
        .with_context(|| format!("starting {}", program.display()))
}

/// Checks the pipeline and answers a question about it; changes nothing but what is remembered of files.
fn look(on: &On, answer: impl FnOnce(&Scene, &mut Memory) -> Result<String>) -> Result<()> {
    let (shelf, mut memory) = (on.store.shelf(), on.store.memory());
    let (pipeline, stages) = prepare(on, &mut memory)?;
    let scene = Scene { pipeline: &pipeline, stages: &stages, shelf: &shelf };
    print(&answer(&scene, &mut memory)?);
    Ok(())
}

type Stages = std::collections::HashMap<String, stages::Stage>;

/// Reads and checks a pipeline: everything that can be wrong with it is told here, before any work.
fn prepare(on: &On, memory: &mut Memory) -> Result<(Pipeline, Stages)> {
    let draft = Draft::read(&on.pipeline)?;
    let names = draft.nodes.iter().map(|node| node.stage.as_str());
    let stages =
        stages::find(names, memory, &on.store.store.join("describe")).with_context(|| draft.file.clone())?;
    let pipeline = check(&draft, &stages, &on.allow)?;
    Ok((pipeline, stages))
}

fn why(scene: &Scene, memory: &mut Memory, name: &str) -> Result<String> {
    let index = node_called(scene.pipeline, name)?;
    let verdicts = plan::walk(scene, memory)?;
    let found = verdicts.iter().find(|(at, _)| *at == index);
    let lines = match found.map(|(_, verdict)| verdict) {
        Some(Verdict::Fresh(_, known)) => vec![format!("fresh: {}", known.place.display())],
        Some(Verdict::Runs(_, reasons)) => reasons.clone(),
        Some(Verdict::Waits(on, reasons)) => {
            let on = on.iter().map(|node| format!("inputs: made anew by {node}, content known then"));
            reasons.iter().cloned().chain(on).collect()
        }
        None => bail!("{name}: not in the order of the pipeline"),
    };
    Ok(lines.join("\n") + "\n")
}

fn node_called(pipeline: &Pipeline, name: &str) -> Result<usize> {
    let names = pipeline.nodes.iter().map(|node| node.name.as_str());
    pipeline
        .nodes
        .iter()
        .position(|node| node.name == name)
        .ok_or_else(|| Wrong::one(format!("no node `{name}` in the pipeline{}", hint(name, names))))
}

fn run_pipeline(run: &Run) -> Result<u8> {
    let began = Instant::now();
    let store = &run.on.store;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = run.threads.unwrap_or(cores);
    let jobs = run.jobs.unwrap_or(threads);
    if threads == 0 || jobs == 0 {
        return Err(Wrong::one("--threads and --jobs start at 1"));
    }
    let (shelf, mut memory) = (store.shelf(), store.memory());
    let (pipeline, stages) = prepare(&run.on, &mut memory)?;
    let goals = match run.nodes.as_slice() {
        [] => (0..pipeline.nodes.len()).collect(),
        names => names.iter().map(|name| node_called(&pipeline, name)).collect::<Result<Vec<_>>>()?,
    };
    let mut progress = Progress::new(run.quiet);
    heed_interrupts();
    let scene = Scene { pipeline: &pipeline, stages: &stages, shelf: &shelf };
    let limits = Limits { jobs, threads, keep_going: run.keep_going, why: run.why };
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
