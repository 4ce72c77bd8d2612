//! The command line: what can be asked, in which order it is answered.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use rote_store::Memory;

use crate::check::{Pipeline, check};
use crate::failure::{Wrong, exit_code, hint};
use crate::names::Name;
use crate::part::Part;
use crate::pipeline::Draft;
use crate::plan::{self, Scene, Verdict};
use crate::progress::{complain, print};
use crate::remote::Remote;
use crate::shelf::Shelf;
use crate::{adopt, collect, diff, evidence, export, graph, pin, remote, run, stages, verify};

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
    /// Compares two results down to parameters, inputs and the numbers of their summaries
    Diff {
        /// A folder, PIPELINE/NODE, TAG/NODE (`tag:TAG/NODE` where a pipeline has the same name), the first digits of a
        /// key or content id; or a PIPELINE or TAG whole
        first: String,
        /// The other
        second: String,
        #[command(flatten)]
        store: Store,
    },
    /// Asks the tables of results in SQL, and prints rows; without SQL, says which tables there are
    Query {
        /// What to ask, as `rote diff` names it (`NAME=…` where there are several); the SQL comes last
        #[arg(required = true, value_name = "[NAME=]RESULT|SQL")]
        words: Vec<String>,
        /// `table`, `csv` or `parquet`
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: String,
        /// File to write instead of standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        store: Store,
    },
    /// Writes what every node of a finished run is made of and what came out, to be committed
    Lock {
        #[command(flatten)]
        on: On,
        /// File to write; beside the pipeline by default. Its stem becomes a tag that keeps the results
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Accepts present results after an edit of a stage that is known to be cosmetic, and records that
    Adopt {
        #[command(flatten)]
        on: On,
        /// Nodes to adopt, with all they need; all nodes by default
        nodes: Vec<String>,
    },
    /// Copies results to a store that others share, hashed on arrival
    Push {
        #[command(flatten)]
        on: On,
        /// The other store: a folder, or s3://BUCKET/PREFIX where `rote` is built with the feature `bucket`
        #[arg(long, value_name = "STORE")]
        remote: String,
        /// Nodes to copy, with all they need; all nodes by default
        nodes: Vec<String>,
    },
    /// Copies results from a store that others share, hashed on arrival
    Pull {
        #[command(flatten)]
        on: On,
        /// The other store: a folder, or s3://BUCKET/PREFIX where `rote` is built with the feature `bucket`
        #[arg(long, value_name = "STORE")]
        remote: String,
        /// Nodes to copy, with all they need; all nodes by default
        nodes: Vec<String>,
    },
    /// Says what no pipeline and no tag needs, and what killed runs left; removes it with --delete
    Collect {
        /// Count only these pipelines, as they are now; every pipeline that was run here by default
        pipelines: Vec<PathBuf>,
        #[command(flatten)]
        store: Store,
        /// Drop this tag first (repeatable)
        #[arg(long, value_name = "TAG")]
        drop: Vec<String>,
        /// Remove it
        #[arg(long)]
        delete: bool,
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
    /// Writes the pipeline for another engine, or a finished run as evidence
    #[command(subcommand)]
    Export(Export),
    /// Starts a stage
    #[command(external_subcommand)]
    Stage(Vec<OsString>),
}

/// `rote export`.
#[derive(Subcommand)]
enum Export {
    /// A Makefile on standard output; each rule runs one node
    Make {
        #[command(flatten)]
        on: On,
        /// Make what works request by request in N parts
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        shards: u16,
    },
    /// A Snakefile on standard output; each rule runs one node, on this machine or with any executor of Snakemake
    Snakemake {
        #[command(flatten)]
        on: On,
        /// Make what works request by request in N parts
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        shards: u16,
    },
    /// A Graphviz digraph on standard output
    Dot {
        #[command(flatten)]
        on: On,
    },
    /// A Mermaid flowchart on standard output
    Mermaid {
        #[command(flatten)]
        on: On,
    },
    /// A Workflow Run RO-Crate of the last run, in a new folder
    RoCrate {
        #[command(flatten)]
        on: On,
        /// Folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Under which licence the crate is published: a URL or a word
        #[arg(long, value_name = "LICENCE")]
        license: Option<String>,
    },
}

/// `rote run`.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    pub on: On,
    /// Nodes to bring up to date, with all they need; all nodes by default
    pub nodes: Vec<String>,
    /// Go on with what does not depend on a failure
    #[arg(short, long)]
    pub keep_going: bool,
    /// Stages side by side; one for every two threads by default, as a stage makes good use of several
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Threads of all running stages together; all cores by default
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Gigabytes of memory of all running stages together, as far as earlier runs or the stages tell; what the machine
    /// has by default
    #[arg(long, value_name = "GB")]
    pub memory: Option<f64>,
    /// Tell every reason for running a node, not only the first
    #[arg(long)]
    pub why: bool,
    /// Fail where parameters, inputs or contents differ from the lock file (FILE, or the one beside the pipeline)
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub locked: Option<Option<PathBuf>>,
    /// Accelerators of all running stages together, for stages that say they take one
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub devices: u32,
    /// Make what works request by request in N parts, one after the other: interrupted, it goes on from the last whole
    /// one; by default long work is cut and short work is not
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub parts: Option<u16>,
    /// Make part I of N of one node only, for an engine that starts parts elsewhere; a run that finds all parts joins them
    #[arg(long, value_name = "I/N", conflicts_with = "locked")]
    pub shard: Option<Part>,
    /// Say nothing but errors and results
    #[arg(short, long)]
    pub quiet: bool,
}

/// What most verbs are about.
#[derive(Args)]
pub struct On {
    /// Pipeline file; paths in it are relative to the folder `rote` is called in
    pub pipeline: PathBuf,
    #[command(flatten)]
    pub store: Store,
    /// A folder outside of this one that the pipeline may read
    #[arg(long, value_name = "DIR")]
    pub allow: Vec<PathBuf>,
}

/// Which store.
#[derive(Args)]
pub struct Store {
    /// Folder of results
    #[arg(long, value_name = "DIR", default_value = "data/store")]
    pub store: PathBuf,
}

impl Store {
    /// It.
    pub fn shelf(&self) -> Shelf {
        Shelf { root: self.store.clone() }
    }

    /// What is remembered of files.
    pub fn memory(&self) -> Memory {
        Memory::open(&self.shelf().digests())
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
        Verb::Run(asked) => run::run_pipeline(&asked),
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
        Verb::Diff { first, second, store } => {
            print(&diff::diff(&store.shelf(), &first, &second)?);
            Ok(0)
        }
        Verb::Query { words, format, out, store } => query(&store.shelf(), &words, &format, out),
        Verb::Lock { on, out } => write_lock(&on, out).map(|()| 0),
        Verb::Adopt { on, nodes } => take_over(&on, &nodes),
        Verb::Push { on, remote, nodes } => moved(&on, &remote, &nodes, remote::push).map(|()| 0),
        Verb::Pull { on, remote, nodes } => moved(&on, &remote, &nodes, remote::pull).map(|()| 0),
        Verb::Collect { pipelines, store, drop, delete } => collected(&pipelines, &store, &drop, delete),
        Verb::Export(export) => exported(&export).map(|()| 0),
        Verb::Stage(words) => start_stage(&words),
    }
}

fn exported(export: &Export) -> Result<()> {
    match export {
        Export::Make { on, shards } => {
            look(on, |scene, _| export::make(scene, &on.pipeline, usize::from(*shards)))
        }
        Export::Snakemake { on, shards } => {
            look(on, |scene, _| export::snakemake(scene, &on.pipeline, usize::from(*shards)))
        }
        Export::Dot { on } => look(on, |scene, _| Ok(graph::dot(scene.pipeline))),
        Export::Mermaid { on } => look(on, |scene, _| Ok(graph::mermaid(scene.pipeline))),
        Export::RoCrate { on, out, license } => look(on, |scene, memory| {
            evidence::write(scene, &on.pipeline, out, license.as_deref(), memory)?;
            Ok(format!("crate: {}\n", out.display()))
        }),
    }
}

fn write_lock(on: &On, out: Option<PathBuf>) -> Result<()> {
    let (shelf, mut memory) = (on.store.shelf(), on.store.memory());
    let (pipeline, stages) = prepare(on, &mut memory)?;
    let scene = Scene { pipeline: &pipeline, stages: &stages, shelf: &shelf };
    let (pins, results) = pin::Pins::of_run(&scene, &mut memory)?;
    let place = out.unwrap_or_else(|| pin::place(&on.pipeline));
    let tag = place.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if !crate::pipeline::is_word(&tag) {
        let place = place.display();
        return Err(Wrong::one(format!("{place}: its name becomes a tag: letters, digits, `-` and `_`")));
    }
    let name = Name::of_lock(&shelf, &tag, &place)?;
    pins.write(&place, &on.pipeline)?;
    name.take()?;
    let names = pipeline.nodes.iter().map(|node| node.name.as_str());
    let results: Vec<_> = names.zip(results.iter().map(|known| known.key)).collect();
    shelf.tag(&tag, &results)?;
    print(&format!("{}: {} nodes; tag `{tag}` keeps their results\n", place.display(), results.len()));
    Ok(())
}

type Move = fn(&Scene, &[usize], &dyn Remote, &mut Memory) -> Result<remote::Moved>;

fn moved(on: &On, remote: &str, nodes: &[String], travel: Move) -> Result<()> {
    let remote = remote::open(remote)?;
    look(on, |scene, memory| {
        let moved = travel(scene, &goals(scene.pipeline, nodes)?, &*remote, memory)?;
        Ok(moved.lines.join("\n") + if moved.lines.is_empty() { "" } else { "\n" } + &moved.summary + "\n")
    })
}

fn take_over(on: &On, nodes: &[String]) -> Result<u8> {
    let (shelf, mut memory) = (on.store.shelf(), on.store.memory());
    let (pipeline, stages) = prepare(on, &mut memory)?;
    let scene = Scene { pipeline: &pipeline, stages: &stages, shelf: &shelf };
    let (lines, all) = adopt::adopt(&scene, &goals(&pipeline, nodes)?, &mut memory)?;
    if lines.is_empty() {
        print("nothing to adopt: every node is fresh\n");
    }
    lines.iter().for_each(|line| print(&format!("{line}\n")));
    Ok(if all { 0 } else { 3 })
}

fn collected(pipelines: &[PathBuf], store: &Store, drop: &[String], delete: bool) -> Result<u8> {
    let shelf = store.shelf();
    let mut nodes = std::collections::HashMap::new();
    for path in pipelines {
        let draft = Draft::read(path)?;
        nodes.insert(draft.name, draft.nodes.into_iter().map(|node| node.name).collect());
    }
    let needs = if pipelines.is_empty() { collect::Needs::Every } else { collect::Needs::Only(nodes) };
    let found = collect::collect(&shelf, &needs, drop, delete)?;
    found.lines.iter().for_each(|line| print(&format!("{line}\n")));
    print(&format!("{}\n", found.summary));
    Ok(0)
}

/// Indices of the nodes that are named, or of all.
pub fn goals(pipeline: &Pipeline, names: &[String]) -> Result<Vec<usize>> {
    match names {
        [] => Ok((0..pipeline.nodes.len()).collect()),
        names => names.iter().map(|name| node_called(pipeline, name)).collect(),
    }
}

/// Replaces this process by `rote-query`, with folders for the names of results: it knows tables, and no store.
fn query(shelf: &Shelf, words: &[String], format: &str, out: Option<PathBuf>) -> Result<u8> {
    let mut arguments: Vec<OsString> = vec!["query".into(), "--format".into(), format.into()];
    out.into_iter().for_each(|out| arguments.extend(["--out".into(), out.into_os_string()]));
    for (index, word) in words.iter().enumerate() {
        let is_sql = index + 1 == words.len() && word.contains(char::is_whitespace);
        let (name, place) = word.split_once('=').map_or(("", word.as_str()), |(name, place)| (name, place));
        arguments.push(match (is_sql, name) {
            (true, _) => word.into(),
            (false, "") => diff::find(shelf, place)?.into_os_string(),
            (false, name) => format!("{name}={}", diff::find(shelf, place)?.display()).into(),
        });
    }
    start_stage(&arguments)
}

/// Replaces this process by `rote-STAGE`.
fn start_stage(words: &[OsString]) -> Result<u8> {
    let (stage, arguments) = words.split_first().context("no stage is named")?;
    let stage = stage.to_string_lossy();
    let verbs = [
        "run", "plan", "why", "verify", "diff", "query", "lock", "adopt", "collect", "graph", "export",
        "push", "pull",
    ];
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
pub fn prepare(on: &On, memory: &mut Memory) -> Result<(Pipeline, Stages)> {
    let draft = Draft::read(&on.pipeline)?;
    let names = draft.nodes.iter().map(|node| node.stage.as_str());
    let stages =
        stages::find(names, memory, &on.store.shelf().descriptions()).with_context(|| draft.file.clone())?;
    let pipeline = check(&draft, &stages, &on.allow)?;
    Name::of_pipeline(&on.store.shelf(), &pipeline)?;
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

/// The index of a node by its name.
pub fn node_called(pipeline: &Pipeline, name: &str) -> Result<usize> {
    let names = pipeline.nodes.iter().map(|node| node.name.as_str());
    pipeline
        .nodes
        .iter()
        .position(|node| node.name == name)
        .ok_or_else(|| Wrong::one(format!("no node `{name}` in the pipeline{}", hint(name, names))))
}
