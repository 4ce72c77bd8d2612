//! What a stage is given that can't change its result: threads, batch size, progress.

use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Part;

/// Handed to [`crate::Stage::run`].
pub struct Context {
    /// Worker threads.
    pub threads: usize,
    /// Requests that go through the model together; `None` lets the engine choose.
    pub batch: Option<usize>,
    /// Bytes of memory it should keep below.
    pub memory: u64,
    /// How progress is shown.
    pub progress: Progress,
    /// What is to be done of the work.
    pub part: Part,
}

impl Context {
    /// Which of `total` requests are worked on; all of them unless the work is cut.
    pub fn range(&self, total: usize) -> Range<usize> {
        match &self.part {
            Part::Shard(shard) => shard.range(total),
            Part::Whole | Part::Join(_) => 0..total,
        }
    }

    /// Whether only a part of the requests is worked on.
    pub fn is_shard(&self) -> bool {
        matches!(self.part, Part::Shard(_))
    }

    /// The artifacts of all parts in order, where the result is to be made of them.
    pub fn shards(&self) -> Option<&[PathBuf]> {
        match &self.part {
            Part::Join(shards) => Some(shards),
            Part::Whole | Part::Shard(_) => None,
        }
    }

    /// For tests: two threads, silent.
    pub fn quiet() -> Self {
        Context { threads: 2, batch: None, memory: u64::MAX, progress: Progress::None, part: Part::Whole }
    }

    /// A line about how the work goes, on standard error.
    #[expect(clippy::print_stderr, reason = "progress belongs on standard error")]
    pub fn say(&self, line: &str) {
        if self.progress != Progress::None {
            eprintln!("{line}");
        }
    }

    /// A meter over `total` steps, on standard error.
    pub fn meter(&self, what: &str, total: u64) -> Meter {
        Meter::new(self.progress, what, total)
    }
}

/// How progress is shown; always on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// A bar on a terminal, plain lines elsewhere.
    Auto,
    /// A line every few seconds.
    Plain,
    /// Nothing.
    None,
}

/// Counts steps of long work.
pub struct Meter {
    what: String,
    total: u64,
    done: AtomicU64,
    bar: Option<ProgressBar>,
    plain: Option<std::sync::Mutex<Instant>>,
}

impl Meter {
    fn new(progress: Progress, what: &str, total: u64) -> Meter {
        let terminal = std::io::stderr().is_terminal();
        let bar = (progress == Progress::Auto && terminal).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
            let style = ProgressStyle::with_template("{msg:>10} [{bar:30}] {pos}/{len} {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            bar.set_style(style);
            bar.set_message(what.to_string());
            bar
        });
        let plain = bar.is_none() && progress != Progress::None;
        let plain = plain.then(|| std::sync::Mutex::new(Instant::now()));
        Meter { what: what.to_string(), total, done: AtomicU64::new(0), bar, plain }
    }

    /// `steps` more are done.
    #[expect(clippy::print_stderr, reason = "progress belongs on standard error")]
    pub fn add(&self, steps: u64) {
        let done = self.done.fetch_add(steps, Ordering::Relaxed) + steps;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        if let Some(last) = &self.plain
            && let Ok(mut last) = last.try_lock()
            && last.elapsed() >= Duration::from_secs(5)
        {
            *last = Instant::now();
            eprintln!("{}: {done} of {}", self.what, self.total);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
