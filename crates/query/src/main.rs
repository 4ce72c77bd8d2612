//! `rote-query`: SQL over the tables of artifacts, for people and shells. Nothing of it is in any key.

mod frame;
mod print;
mod source;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rote_artifact::Misfit;

/// Asks the tables of artifacts in SQL; without SQL, says which tables there are
#[derive(Parser)]
#[command(
    name = "rote-query",
    version,
    after_help = "A table is called as in the artifact (`score`); of an artifact that is given a name, `NAME_table`.\n\n\
                  Example:\n  rote query demo/neox-recall-score \"select change, value from summary where metric = 'exact_match'\""
)]
struct Asked {
    /// Folders of artifacts, `NAME=FOLDER` where there are several; the SQL comes last
    #[arg(required = true, value_name = "[NAME=]ARTIFACT|SQL")]
    words: Vec<String>,
    /// How to print rows
    #[arg(long, default_value = "table")]
    format: Format,
    /// File to write instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How rows are printed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values with a head
    Csv,
    /// A Parquet file; needs --out
    Parquet,
}

/// The call is wrong; exit code 2.
#[derive(Debug)]
pub struct Wrong(String);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

impl Wrong {
    /// An error of the call.
    pub fn error(what: impl Into<String>) -> anyhow::Error {
        Wrong(what.into()).into()
    }
}

fn main() -> ExitCode {
    let asked = match Asked::try_parse() {
        Ok(asked) => asked,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match answer(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "query: {error:#}");
            let is = |code: u8, found: bool| found.then_some(ExitCode::from(code));
            is(2, error.chain().any(|cause| cause.is::<Wrong>()))
                .or(is(3, error.chain().any(|cause| cause.is::<Misfit>())))
                .unwrap_or(ExitCode::FAILURE)
        }
    }
}

fn answer(asked: &Asked) -> Result<()> {
    if asked.format == Format::Parquet && asked.out.is_none() {
        return Err(Wrong::error("parquet is not for standard output; give --out FILE"));
    }
    let (sources, sql) = source::split(&asked.words)?;
    let Some(sql) = sql else {
        return emit(asked, source::listing(&sources)?.as_bytes());
    };
    let frame = frame::ask(&sources, sql)?;
    match asked.format {
        Format::Table => emit(asked, print::table(&frame)?.as_bytes()),
        Format::Csv => emit(asked, print::csv(&frame)?.as_bytes()),
        Format::Parquet => {
            let out = asked.out.as_deref().context("--out was asked for before")?;
            rote_artifact::write_cells(out, &frame::cells(&frame)?)
        }
    }
}

fn emit(asked: &Asked, bytes: &[u8]) -> Result<()> {
    match &asked.out {
        Some(out) => std::fs::write(out, bytes).with_context(|| format!("writing {}", out.display())),
        None => {
            // A reader that went away is no failure.
            let _ = std::io::stdout().lock().write_all(bytes);
            Ok(())
        }
    }
}
