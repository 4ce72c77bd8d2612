//! Stages of a few lines for the runner's tests: called as `rote-prepare`, it is `prepare`, and so on.
//!
//! `STAND_IN_PAUSE` (milliseconds per line written) makes a stage slow enough to be killed, `STAND_IN_FAIL`
//! names one that fails after its first line, `STAND_IN_TRACE` a file that gets a line per start, `STAND_IN_PARTS` in how
//! many parts `capture` finds its work best made. None of them can change what a stage writes, so none is in a key.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rote_stage::{Context, Stage, Work};
use rote_store::Output;
use serde::Serialize;

fn main() -> ExitCode {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    match called.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "rote-prepare" => rote_stage::main::<Prepare>(version),
        "rote-extract" => rote_stage::main::<Extract>(version),
        "rote-capture" => rote_stage::main::<Capture>(version),
        "rote-score" => rote_stage::main::<Score>(version),
        "rote-report" => rote_stage::main::<Report>(version),
        _ => ExitCode::from(2),
    }
}

struct Prepare;

#[derive(Args)]
struct PrepareInputs {
    /// A text
    #[arg(long, value_name = "FILE")]
    sequences: PathBuf,
}

#[derive(Args, Serialize)]
struct PrepareParams {
    /// Letters kept of each line
    #[arg(long, default_value_t = 4)]
    prefix: usize,
    /// What is done to letters
    #[arg(long, default_value = "keep", value_parser = ["keep", "lower"])]
    case: String,
}

impl Stage for Prepare {
    const NAME: &'static str = "prepare";
    const ABOUT: &'static str = "Cuts lines";
    const EXAMPLE: &'static str = "rote-prepare --sequences text.txt --out OUT";
    type Inputs = PrepareInputs;
    type Params = PrepareParams;

    fn run(inputs: &PrepareInputs, params: &PrepareParams, output: &Output, _: &Context) -> Result<()> {
        let cut = |line: &String| {
            let line: String = line.chars().take(params.prefix).collect();
            if params.case == "lower" { line.to_lowercase() } else { line }
        };
        write(Self::NAME, output, "request", lines(&inputs.sequences)?.iter().map(cut))
    }
}

struct Extract;

#[derive(Args)]
struct RequestInputs {
    /// Lines
    #[arg(long, value_name = "REQUEST")]
    requests: PathBuf,
}

#[derive(Args, Serialize)]
struct ExtractParams {
    /// Shortest line kept
    #[arg(long, default_value_t = 1)]
    min: usize,
}

impl Stage for Extract {
    const NAME: &'static str = "extract";
    const ABOUT: &'static str = "Keeps long lines";
    const EXAMPLE: &'static str = "rote-extract --requests DIR --out OUT";
    type Inputs = RequestInputs;
    type Params = ExtractParams;

    fn run(inputs: &RequestInputs, params: &ExtractParams, output: &Output, _: &Context) -> Result<()> {
        let lines = lines(&inputs.requests.join("request"))?;
        write(Self::NAME, output, "request", lines.into_iter().filter(|line| line.len() >= params.min))
    }
}

/// Works line by line, and says that it takes an accelerator.
struct Capture;

impl Stage for Capture {
    const NAME: &'static str = "capture";
    const ABOUT: &'static str = "Writes lines backwards";
    const EXAMPLE: &'static str = "rote-capture --requests DIR --out OUT";
    const SHARDS: bool = true;
    const DEVICES: u32 = 1;
    type Inputs = RequestInputs;
    type Params = ExtractParams;

    fn work(inputs: &RequestInputs, _: &ExtractParams) -> Result<Option<Work>> {
        let parts = std::env::var("STAND_IN_PARTS").ok().and_then(|parts| parts.parse::<f64>().ok());
        let requests = lines(&inputs.requests.join("request"))?.len();
        Ok(parts.map(|parts| Work { requests, multiply_adds: parts * Work::PART, disk: None }))
    }

    fn run(inputs: &RequestInputs, _: &ExtractParams, output: &Output, context: &Context) -> Result<()> {
        let mut done = Vec::new();
        match context.shards() {
            Some(shards) => {
                for shard in shards {
                    done.extend(lines(&shard.join("activation"))?);
                }
            }
            None => {
                let all = lines(&inputs.requests.join("request"))?;
                done.extend(all[context.range(all.len())].iter().map(|line| line.chars().rev().collect()));
            }
        }
        write(Self::NAME, output, "activation", done.into_iter())
    }
}

struct Score;

#[derive(Args, Serialize)]
struct ScoreParams {
    /// What is counted
    #[arg(long, value_name = "LETTER")]
    letter: Vec<String>,
    /// Tell the sum too
    #[arg(long)]
    sum: bool,
}

impl Stage for Score {
    const NAME: &'static str = "score";
    const ABOUT: &'static str = "Counts letters";
    const EXAMPLE: &'static str = "rote-score --requests DIR --out OUT";
    type Inputs = RequestInputs;
    type Params = ScoreParams;

    fn run(inputs: &RequestInputs, params: &ScoreParams, output: &Output, _: &Context) -> Result<()> {
        let lines = lines(&inputs.requests.join("request"))?;
        let count = |letter: &String| lines.iter().map(|line| line.matches(letter).count()).sum::<usize>();
        let counts: Vec<_> = params.letter.iter().map(count).collect();
        let told = params.letter.iter().zip(&counts).map(|(letter, count)| format!("{letter} {count}"));
        let sum = params.sum.then(|| format!("sum {}", counts.iter().sum::<usize>()));
        write(Self::NAME, output, "score", told.chain(sum))
    }
}

struct Report;

#[derive(Args)]
struct ReportInputs {
    /// Counts, by name
    #[arg(long, value_name = "NAME=SCORE")]
    scores: Vec<String>,
}

#[derive(Args, Serialize)]
struct NoParams {}

impl Stage for Report {
    const NAME: &'static str = "report";
    const ABOUT: &'static str = "Puts counts on a page";
    const EXAMPLE: &'static str = "rote-report --scores a=DIR --out OUT";
    type Inputs = ReportInputs;
    type Params = NoParams;

    fn run(inputs: &ReportInputs, _: &NoParams, output: &Output, _: &Context) -> Result<()> {
        let mut table = String::new();
        for scores in &inputs.scores {
            let (name, place) = scores.split_once('=').context("not NAME=FILE")?;
            for line in lines(&Path::new(place).join("score"))? {
                table += &format!("{name} {line}\n");
            }
        }
        fs::write(output.file("table.txt")?, &table)?;
        fs::write(output.file("page.html")?, format!("<pre>{table}</pre>\n"))?;
        Ok(())
    }
}

/// Lines of a file, or of every file of a folder.
fn lines(place: &Path) -> Result<Vec<String>> {
    let mut files = vec![place.to_path_buf()];
    if place.is_dir() {
        files = fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
    }
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        lines.extend(text.lines().map(str::to_string));
    }
    Ok(lines)
}

/// A file per line.
fn write(stage: &str, output: &Output, table: &str, lines: impl Iterator<Item = String>) -> Result<()> {
    if let Some(trace) = std::env::var_os("STAND_IN_TRACE") {
        writeln!(fs::File::options().create(true).append(true).open(trace)?, "{stage}")?;
    }
    let pause = std::env::var("STAND_IN_PAUSE").ok().and_then(|pause| pause.parse().ok()).unwrap_or(0);
    for (part, line) in lines.enumerate() {
        fs::write(output.file(&format!("{table}/part-{part:05}.txt"))?, line + "\n")?;
        if std::env::var("STAND_IN_FAIL").is_ok_and(|fails| fails == stage) {
            bail!("told to fail");
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    Ok(())
}
