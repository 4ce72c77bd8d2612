//! `rote-rows`: the rows of a table as lines of JSON, for people, shells and the runner.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "Prints the rows of a table as lines of JSON

Usage: rote-rows FOLDER TABLE
       rote-rows FILE.parquet

Example:
  rote-rows data/store/view/demo/neox-recall-score summary
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let asked = match words[..] {
        ["-h" | "--help"] => {
            let _ = std::io::stdout().write_all(USAGE.as_bytes());
            return ExitCode::SUCCESS;
        }
        [file] if !file.starts_with('-') => print(Path::new(file), ""),
        [folder, table] if !folder.starts_with('-') => print(Path::new(folder), table),
        _ => {
            let _ = std::io::stderr().write_all(USAGE.as_bytes());
            return ExitCode::from(2);
        }
    };
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "rows: {error:#}");
            ExitCode::from(if error.chain().any(|cause| cause.is::<rote_artifact::Misfit>()) { 3 } else { 1 })
        }
    }
}

fn print(place: &Path, table: &str) -> Result<()> {
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    for part in rote_artifact::parts(place, table)? {
        for row in rote_artifact::read_records(&part)? {
            let line = serde_json::Value::Object(row).to_string();
            // A reader that went away is no failure.
            if writeln!(stdout, "{line}").is_err() {
                return Ok(());
            }
        }
    }
    let _ = stdout.flush();
    Ok(())
}
