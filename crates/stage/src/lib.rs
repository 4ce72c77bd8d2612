//! What makes a function a command: flags, description, messages, exit codes.
//!
//! A stage implements [`Stage`]; its `main.rs` is `rote_stage::main::<TheStage>()`. People, the runner and
//! the tests all call the binary; a test of the work itself calls [`Stage::run`].
//!
//! Deliberately absent: anything that computes, and any state that outlives a call.

mod cli;
mod context;
mod describe;
mod failure;
mod shard;
mod work;

pub use cli::{Compute, main};
pub use context::{Context, Progress};
pub use describe::{Description, Parameter, Port};
pub use failure::exit_code;
pub use shard::{Part, Shard};
pub use work::Work;

pub use rote_store::Output;

/// A function from input artifacts and parameters to an output artifact.
///
/// `run` may not look at clock, environment, working directory or global randomness: what can change a byte
/// of the result is in `Inputs` (hashed by content) or in `Params` (hashed as JSON).
pub trait Stage {
    /// One lower-case word; the binary is `rote-<NAME>`.
    const NAME: &'static str;
    /// One sentence for `--help`.
    const ABOUT: &'static str;
    /// A command line that runs, for the end of `--help`.
    const EXAMPLE: &'static str;
    /// Files and folders that are read. The value name of each flag says what it takes: `MODEL`, `FILE`,
    /// `NAME=FILE`, or a table's name in capitals, several joined by `|`.
    type Inputs: clap::Args + clap::FromArgMatches;
    /// Everything else that can change a byte of the result.
    type Params: clap::Args + clap::FromArgMatches + serde::Serialize;
    /// Whether the work goes request by request, so that it can be cut: `run` then works on [`Context::range`] of
    /// the requests only, and makes its result of [`Context::shards`] where they are given.
    const SHARDS: bool = false;
    /// Accelerators that a call takes for itself; the runner starts no more calls than there are.
    const DEVICES: u32 = 0;
    /// How much a call has to do, told from what is declared alone; `None` where that is not known. The runner cuts long
    /// work in parts, so that little is lost when it is interrupted.
    fn work(_inputs: &Self::Inputs, _params: &Self::Params) -> anyhow::Result<Option<Work>> {
        Ok(None)
    }
    /// Bytes of the weights that a call holds: the least memory it needs. `None` where there are none.
    fn weights(_inputs: &Self::Inputs, _params: &Self::Params) -> anyhow::Result<Option<u64>> {
        Ok(None)
    }
    /// The work.
    fn run(
        inputs: &Self::Inputs,
        params: &Self::Params,
        output: &Output,
        context: &Context,
    ) -> anyhow::Result<()>;
}
