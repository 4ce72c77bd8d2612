//! The door of `rote-train`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rote_train::{Inputs, Params, Point};

/// Trains a small language model with records planted in its text.
#[derive(Parser)]
#[command(name = "rote-train")]
struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    params: Params,
    /// Threads; the result does not depend on it
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Folder to write the model to; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    rote_train::prepare_process(arguments.threads);
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("train: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { inputs, params, threads, out } = arguments;
    if out.exists() {
        bail!("{}: is there already; remove it or choose another --out", out.display());
    }
    // Nothing touches the disk before there is a model, and then it appears whole.
    let trained = rote_train::train(&rote_train::read(inputs)?, params, *threads, &mut report)?;
    let partial = out.with_extension("partial");
    std::fs::create_dir_all(&partial).with_context(|| format!("making {}", partial.display()))?;
    rote_train::folder::write(&trained, &partial)?;
    std::fs::rename(&partial, out)
        .with_context(|| format!("renaming {} to {}", partial.display(), out.display()))?;
    let summary = &trained.summary;
    say(&format!(
        "{} parameters, {} tokens; held-out perplexity {:.2}, unigram {:.2}",
        summary.parameters, summary.tokens, summary.held_out_perplexity, summary.unigram_perplexity
    ));
    for recall in &summary.recall {
        let (seen, exact, records, matched) = (recall.seen, recall.exact, recall.records, recall.matched);
        say(&format!("shown {seen:>3}: {exact:>3} of {records} recited, {matched:.1} tokens matched"));
    }
    Ok(())
}

fn report(point: &Point) {
    let exact: Vec<String> = point.recall.iter().map(|recall| format!("{}", recall.exact)).collect();
    say(&format!(
        "step {}/{}, {} tokens, rate {:.2e}: loss {:.3}, held out {:.3}; recited {}",
        point.step,
        point.steps,
        point.tokens,
        point.learning_rate,
        point.loss,
        point.held_out_loss,
        exact.join(" ")
    ));
}

#[expect(clippy::print_stderr, reason = "progress and errors go to standard error")]
fn say(line: &str) {
    eprintln!("{line}");
}
