//! The door of every stage: arguments in, artifact out, exit code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use rote_artifact::Misfit;
use rote_store::{InputEntry, Manifest, Output, StageEntry, digest_file, digest_path, host, model_place};
use serde::Serialize;
use serde_json::json;

use crate::describe::describe;
use crate::failure::{exit_code, is_broken_pipe, message};
use crate::shard::{Cut, Part, check_shards};
use crate::{Context, Progress, Stage, Work};

/// Where and how exactly a model computes; flattened into the parameters of stages that load one.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Compute {
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = ["cpu"])]
    pub device: String,
    /// Number type of the computation; checkpoints of any type are widened to it
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = ["f32", "f64"])]
    pub dtype: String,
}

#[derive(Args)]
#[command(next_help_heading = "Common")]
struct Common {
    /// Folder to write; it appears when it is whole
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Worker threads; all cores by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Requests that go through the model together; chosen by the engine by default, never changes a result
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Memory to keep below, such as 8GiB or 500MiB; by default what the machine has to spare
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory: Option<u64>,
    /// How to show progress on standard error
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: Progress,
    /// Print one line of JSON on standard output when done
    #[arg(long)]
    json: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Say more
    #[arg(short, long)]
    verbose: bool,
    /// Print inputs, parameters and defaults as JSON and stop
    #[arg(long)]
    describe: bool,
}

fn command<S: Stage>(version: &'static str) -> Command {
    let mut command = Command::new(format!("rote-{}", S::NAME))
        .bin_name(format!("rote-{}", S::NAME))
        .version(version)
        .about(S::ABOUT)
        .after_help(format!("Example:\n  {}", S::EXAMPLE))
        .next_help_heading("Inputs");
    command = S::Inputs::augment_args(command);
    command = S::Params::augment_args(command.next_help_heading("Parameters"));
    // The last word: a struct's own documentation would stand in for it.
    if S::SHARDS {
        command = Cut::augment_args(command);
    }
    Common::augment_args(command).about(S::ABOUT).long_about(S::ABOUT)
}

/// Runs stage `S` as a process: parses, works, writes, says what happened.
pub fn main<S: Stage>(version: &'static str) -> ExitCode {
    keep_freed_memory();
    // A description needs no inputs, so it is not parsed with them.
    if std::env::args_os().skip(1).any(|arg| arg == "--describe") {
        let text = serde_json::to_string_pretty(&describe::<S>(version)).map_err(anyhow::Error::from);
        return answer::<S>(text.and_then(|text| print_line(&text)));
    }
    let matches = match command::<S>(version).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    answer::<S>(run::<S>(&matches, version))
}

fn answer<S: Stage>(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", message(S::NAME, &error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run<S: Stage>(matches: &ArgMatches, version: &'static str) -> Result<()> {
    let common = Common::from_arg_matches(matches)?;
    let inputs = S::Inputs::from_arg_matches(matches)?;
    let params = S::Params::from_arg_matches(matches)?;
    let place = common.out;
    let threads = common.threads.unwrap_or_else(available_threads);
    if threads == 0 || common.batch == Some(0) {
        bail!("--threads and --batch start at 1");
    }
    // candle takes its number of threads from the environment alone.
    // SAFETY: this process has one thread so far.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;

    let cut = S::SHARDS.then(|| Cut::from_arg_matches(matches)).transpose()?;
    if cut.as_ref().is_some_and(Cut::asks_for_work) {
        // What requests there are is not known before they are made; how large the model is, is.
        let weights = S::weights(&inputs, &params)?;
        let work = match S::work(&inputs, &params) {
            Err(error) if error.is::<Misfit>() => None,
            work => work?,
        };
        return print_line(&work_line(weights, work).to_string());
    }
    let began = Instant::now();
    let entries = input_entries::<S>(matches)?;
    let parameters = serde_json::to_value(&params)?;
    let part =
        check_shards(cut.map_or(Part::Whole, Cut::part), S::NAME, &parameters, &of_manifest(&entries))?;
    let output = Output::begin(&place)?;
    for path in entries.values().flatten().map(|(path, _)| path) {
        if path.join(Manifest::FILE).is_file() {
            let manifest = Manifest::read(path)?;
            manifest.subjects.iter().for_each(|subject| output.add_subject(subject.clone()));
            manifest.ancestors().into_iter().for_each(|ancestor| output.add_ancestor(ancestor));
        }
    }
    if let Part::Join(shards) = &part {
        // What every part had to say, once: the manifest is that of the whole.
        let mut warnings = Vec::new();
        for manifest in shards.iter().map(|shard| Manifest::read(shard)).collect::<Result<Vec<_>>>()? {
            manifest.subjects.into_iter().for_each(|subject| output.add_subject(subject));
            warnings.extend(manifest.warnings);
        }
        let mut told = std::collections::BTreeSet::new();
        warnings
            .into_iter()
            .filter(|warning| told.insert(warning.clone()))
            .for_each(|warning| output.warn(warning));
    }
    if let Part::Shard(shard) = part {
        output.set_shard(shard.to_string());
    }
    let progress = if common.quiet { Progress::None } else { common.progress };
    let memory = common.memory.unwrap_or_else(spare_memory);
    let context = Context { threads, batch: common.batch, memory, progress, part };
    S::run(&inputs, &params, &output, &context)?;

    let seconds = began.elapsed().as_secs_f64();
    let run = json!({
        "seconds": seconds,
        "finished_unix": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        "threads": threads,
        "batch": common.batch,
        "host": host(),
        "rows_per_second": output.rows().into_iter().map(|(table, rows)| (table, json!(rows as f64 / seconds)))
            .collect::<serde_json::Map<String, serde_json::Value>>(),
        "peak_memory_bytes": peak_memory(),
        "executable": executable().and_then(|exe| digest_file(&exe).ok()),
        "inputs": entries.iter().map(|(flag, entries)| {
            (flag.clone(), entries.iter().map(|(path, _)| json!(path)).collect())
        }).collect::<serde_json::Map<String, serde_json::Value>>(),
    });
    let inputs = of_manifest(&entries);
    let stage = StageEntry { name: S::NAME.to_string(), version: version.to_string() };
    let manifest = output.finish(stage, parameters, inputs, run)?;
    if common.json {
        let rows: BTreeMap<_, _> = manifest.tables.iter().map(|(name, table)| (name, table.rows)).collect();
        let mut line = json!({
            "stage": S::NAME,
            "content_id": manifest.content_id,
            "out": place,
            "rows": rows,
            "files": manifest.files.len(),
            "seconds": seconds,
        });
        // A stage that writes its numbers for programs says them here too.
        if let Ok(summary) = std::fs::read(place.join("summary.json")) {
            line["summary"] = serde_json::from_slice(&summary)?;
        }
        print_line(&line.to_string())?;
    } else if !common.quiet {
        let rows: Vec<_> =
            manifest.tables.iter().map(|(name, table)| format!("{} {name}", table.rows)).collect();
        let rows = if rows.is_empty() { format!("{} files", manifest.files.len()) } else { rows.join(", ") };
        let short = manifest.content_id.short();
        let _ = writeln!(
            std::io::stderr(),
            "{}: {rows} in {seconds:.1} s, content {short}, in {}",
            S::NAME,
            place.display()
        );
        for warning in manifest.warnings {
            let _ = writeln!(std::io::stderr(), "{}: note: {warning}", S::NAME);
        }
    }
    Ok(())
}

/// The answer to `--work`.
fn work_line(weights: Option<u64>, work: Option<Work>) -> serde_json::Value {
    json!({
        "weight_bytes": weights,
        "parts": work.map_or(1, |work| work.parts()),
        "requests": work.map(|work| work.requests),
        "multiply_adds": work.map(|work| work.multiply_adds),
        "core_seconds": work.map(|work| work.seconds()),
        "disk_bytes": work.and_then(|work| work.disk),
    })
}

type Entries = BTreeMap<String, Vec<(PathBuf, InputEntry)>>;

/// The inputs as a manifest holds them.
fn of_manifest(entries: &Entries) -> BTreeMap<String, Vec<InputEntry>> {
    let of_flag = |(flag, entries): (&String, &Vec<(PathBuf, InputEntry)>)| {
        (flag.clone(), entries.iter().map(|(_, entry)| entry.clone()).collect())
    };
    entries.iter().map(of_flag).collect()
}

/// Every input that was given, with its content. A model may be named as on the hub: its files are what counts.
fn input_entries<S: Stage>(matches: &ArgMatches) -> Result<Entries> {
    let mut entries = Entries::new();
    for arg in S::Inputs::augment_args(Command::new("inputs")).get_arguments() {
        let id = arg.get_id().as_str();
        if !arg.get_action().takes_values() {
            continue;
        }
        let Some(values) = matches.get_raw(id) else { continue };
        let flag = arg.get_long().unwrap_or(id).to_string();
        let takes =
            |what: &str| arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == what));
        let named =
            arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.starts_with("NAME=")));
        for value in values {
            let (name, path) = split_name(value.to_os_string(), named)?;
            let reading = || format!("--{flag} {}", value.to_string_lossy());
            let path = if takes("MODEL") { model_place(&path) } else { path };
            let manifest = Manifest::read(&path).ok();
            // What stands in a store is the runner's to look after; `rote verify` reads it.
            let content_id = match &manifest {
                Some(manifest) if is_stored(&path) => manifest.content_id,
                _ => digest_path(&path).with_context(reading)?,
            };
            if let Some(shard) = manifest.as_ref().and_then(|manifest| manifest.shard.as_ref()) {
                let what = format!("it is part {shard} of a result; `--join` makes the whole of its parts");
                return Err(Misfit(what)).with_context(reading);
            }
            let stage = manifest.map(|manifest| manifest.stage.name);
            let entry = InputEntry { name, content_id, stage };
            entries.entry(flag.clone()).or_default().push((path, entry));
        }
    }
    Ok(entries)
}

/// Whether it is a result in a store, by whatever name: the key it was made for stands beside it.
fn is_stored(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|place| place.with_added_extension("key").is_file())
}

fn split_name(value: OsString, named: bool) -> Result<(Option<String>, PathBuf)> {
    if !named {
        return Ok((None, PathBuf::from(value)));
    }
    let text = value.to_string_lossy().into_owned();
    match text.split_once('=') {
        Some((name, path)) => Ok((Some(name.to_string()), PathBuf::from(path))),
        None => bail!("`{text}` is not of the form NAME=FILE"),
    }
}

fn print_line(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

/// `8GiB`, `500MiB`, `2000000`.
fn bytes(text: &str) -> Result<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => bail!("`{other}` is none of B, KiB, MiB, GiB"),
    };
    let number: f64 = number.parse().with_context(|| format!("`{number}` is no number"))?;
    Ok((number * f64::from(unit)) as u64)
}

/// Bytes that could be taken without anything being pushed out; no limit where the system does not tell.
fn spare_memory() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibi = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibi.map_or(u64::MAX, |kibi| kibi * 1024)
}

/// The file that runs, also where another has taken its name since.
fn executable() -> Option<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Some(running) } else { std::env::current_exe().ok() }
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Tensor code allocates and frees large buffers all the time; glibc would give each back to the kernel and
/// fault it in again, page by page.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called before any other thread exists; both calls only set options of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
