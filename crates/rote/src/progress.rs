//! What the runner says: a live line per running node on a terminal, plain lines elsewhere, all on standard
//! error; results on standard output.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::pipeline::is_odd;

/// Shows progress.
pub struct Progress {
    bars: Option<MultiProgress>,
    running: HashMap<usize, ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// Live lines on a terminal; with `quiet` nothing but errors.
    pub fn new(quiet: bool) -> Progress {
        let live = !quiet && std::io::stderr().is_terminal();
        Progress { bars: live.then(MultiProgress::new), running: HashMap::new(), quiet }
    }

    /// A line of news.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            self.tell(line);
        }
    }

    /// A line that is said even when quiet.
    pub fn tell(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| complain(line)),
            None => complain(line),
        }
    }

    /// A node runs.
    pub fn start(&mut self, node: usize, name: &str) {
        let Some(bars) = &self.bars else { return };
        let bar = bars.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(name.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.running.insert(node, bar);
    }

    /// A running node said something.
    pub fn heard(&self, node: usize, line: &str) {
        if let Some(bar) = self.running.get(&node) {
            bar.set_message(plain(line));
        }
    }

    /// A node runs no more.
    pub fn end(&mut self, node: usize) {
        if let Some(bar) = self.running.remove(&node) {
            bar.finish_and_clear();
        }
    }
}

/// A line on standard error.
pub fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", plain(line));
}

/// Text on standard output; a reader that went away is no failure.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(plain(text).as_bytes()).and_then(|()| stdout.flush());
}

/// Text that does nothing to a terminal but fill it: names of files and keys may be a stranger's.
fn plain(text: &str) -> String {
    text.replace(is_odd, "\u{fffd}")
}
