//! How much at once: what a run may take of the machine, and what it is held to.

use anyhow::Result;

use crate::failure::Wrong;
use crate::pin::Pins;

/// What a run was asked to keep to.
pub struct Limits {
    /// Stages side by side.
    pub jobs: usize,
    /// Threads of all running stages together.
    pub threads: usize,
    /// Bytes of memory of all running stages together, as far as earlier runs or the stages tell.
    pub memory: u64,
    /// Go on with what does not depend on a failure.
    pub keep_going: bool,
    /// Tell every reason, not the first one only.
    pub why: bool,
    /// What has to come out.
    pub pins: Option<Pins>,
    /// Accelerators of all running stages together.
    pub devices: u32,
    /// In how many parts a stage that works request by request makes its result, one after the other; `None` leaves it to
    /// the stage, which cuts long work.
    pub parts: Option<usize>,
}

/// The limit that was asked for, in bytes, or the memory of this machine.
pub fn memory_limit(asked: Option<f64>) -> Result<u64> {
    match asked {
        Some(gigabytes) if gigabytes > 0.0 => Ok((gigabytes * 1e9) as u64),
        Some(_) => Err(Wrong::one("--memory is more than 0")),
        None => {
            let known = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let line = known.lines().find_map(|line| line.strip_prefix("MemTotal:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            Ok(kilobytes.map_or(u64::MAX, |kilobytes| kilobytes * 1024))
        }
    }
}
