//! The door of `rote`: a result becomes an exit code, nothing else.
//!
//! The runner knows files, commands and digests. It imports no stage, no table and no model: a stage is a
//! binary `rote-STAGE` beside it that answers `--describe` and writes an artifact to `--out`.

mod adopt;
mod check;
mod cli;
mod collect;
mod command;
mod diff;
mod estimate;
mod evidence;
mod export;
mod failure;
mod graph;
mod interrupt;
mod limits;
mod names;
mod part;
mod pin;
mod pipeline;
mod plan;
mod process;
mod progress;
mod remote;
mod run;
mod shelf;
mod stages;
mod state;
mod trust;
mod verify;
mod work;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
